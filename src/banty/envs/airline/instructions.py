"""What the agent of the published tasks is told before the policy: the benchmark's own words, read from it, or ours."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import NamedTuple

from banty.errors import InputError

INSTRUCTIONS = """You serve the customers of a company. The policy below says what you may do for them: keep to it.
At each turn either write to the customer or call a tool, never both.
Be helpful within the policy. The arguments of a call are always valid JSON."""

_IN_CHECKOUT = "../../../../src/tau2/agent/llm_agent.py"
_VARIABLE = "AGENT_INSTRUCTION"


class Instructions(NamedTuple):
    """The text, and what results show of it: `banty` or the file's name, and the sha256 of the text."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


OWN = Instructions("banty", INSTRUCTIONS)


def read_instructions(place: str | Path) -> Instructions:
    """The instructions in a text file, or in the benchmark's `llm_agent.py`, which is parsed and never run.

    Raises InputError for a file that cannot be read or holds none.
    """
    file = Path(place).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"the agent's instructions {file} cannot be read: {told}") from None
    found = _written_in(text) if file.suffix == ".py" else text.strip()
    if not found:
        what = f"no text {_VARIABLE}" if file.suffix == ".py" else "no text"
        raise InputError(f"{file} holds {what}; give the benchmark's src/tau2/agent/llm_agent.py, or a file of text")
    return Instructions(file.name, found)


def instructions_beside(airline_folder: Path) -> Instructions:
    """Those of the checkout of the benchmark in which its airline folder lies, else ours."""
    file = airline_folder / _IN_CHECKOUT
    try:
        return read_instructions(file) if file.is_file() else OWN
    except InputError:  # another version of the benchmark, which keeps them elsewhere
        return OWN


def _written_in(source: str) -> str:
    """The text that is assigned to the variable, stripped as there; empty where there is none."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    for node in module.body:
        if not isinstance(node, ast.Assign) or _VARIABLE not in [ast.unparse(target) for target in node.targets]:
            continue
        texts = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
        if len(texts) == 1 and isinstance(texts[0], str):
            return texts[0].strip()
    return ""
