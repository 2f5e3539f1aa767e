"""What a customer played by a model is told about playing one: our own text, or the benchmark's file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from banty.errors import InputError

GUIDELINES = """You are a customer talking to a service agent. Write one short message at a time, as a customer would.
Stay with your scenario: want what it says, know only what it says, and do not repeat its wording.
Give information when the agent asks for it, not before, unless the scenario says so.
Say yes to a proposal only if it is what you want.
When everything is settled, or refused for good, write ###STOP###. When you are being transferred to a human, write
###TRANSFER###. When the scenario does not say enough to go on, write ###OUT-OF-SCOPE###."""

_FILES = (
    "simulation_guidelines.md",
    "../../user_simulator/simulation_guidelines.md",
    "data/tau2/user_simulator/simulation_guidelines.md",
    "tau2/user_simulator/simulation_guidelines.md",
)
_NEEDED = "###STOP###"


class Guidelines(NamedTuple):
    """The text, with what results show of it: `banty` or the file's name, and the sha256 of its bytes."""

    name: str
    text: str
    sha256: str


def _guidelines(name: str, content: bytes) -> Guidelines:
    return Guidelines(name, content.decode("utf-8"), hashlib.sha256(content).hexdigest())


OWN = _guidelines("banty", GUIDELINES.encode())


def read_guidelines(place: str | Path) -> Guidelines:
    """The guidelines in a file, or those that a tau2-bench checkout or its airline folder holds.

    Raises InputError for a place without any, and for a text that does not tell its reader how to end a conversation.
    """
    given = Path(place).expanduser()
    file = guidelines_in(given) if given.is_dir() else given
    if file is None:
        raise InputError(f"{given} holds no simulation_guidelines.md; name the file itself")
    try:
        found = _guidelines(file.name, file.read_bytes())
    except (OSError, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"the user guidelines {file} cannot be read: {told}") from None
    if _NEEDED not in found.text:
        raise InputError(f"{file} is no guidelines of a simulated user: it never says to end with {_NEEDED}")
    return found


def guidelines_in(folder: Path) -> Path | None:
    """The benchmark's guidelines, where a folder of its data has them."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)
