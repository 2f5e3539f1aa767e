"""docs/inspect.md shows options the command has, and words it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.test_cli_microscope import habits, mixed
from tests.cli.test_cli_models import did, here

from banty.cli.choices import credit_of

__all__ = ["here"]  # a fixture
PAGE = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text()
COMMANDS = re.findall(r"^\$ (banty inspect .*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_work_on_a_run(command: str, here: Path) -> None:
    words = shlex.split(command)[1:]
    one = mixed(habits())
    words[1] = str(habits())
    if "--rollout" in words:
        words[words.index("--rollout") + 1] = one.rollout_id
    printed = did(*words)
    if "--html" in words:
        assert (here / "turn.html").read_text().startswith("<!doctype html>")
    else:
        assert one.rollout_id in printed


def test_there_are_commands_and_its_turn_reads_as_one_does() -> None:
    assert len(COMMANDS) == 6
    shown = PAGE.split("```")[3]
    assert "1.103 GN(return 1.900) + 0.3 × 0.866 A^O" in shown, "specs/irc.md F2, rollout 1, turn 2"
    for name in re.findall(r"^      (\w+) +[+−]", shown, re.MULTILINE):
        credit_of(name)
