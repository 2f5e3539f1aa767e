"""What docs/users.md shows is what the program takes and does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from typer.testing import CliRunner

from banty.cli import users
from banty.cli.app import app
from banty.envs import usercheck
from banty.envs.usercheck import Kind

PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text()
FLAT = " ".join(PAGE.split())


def test_every_kind_of_fault_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\|.*\|$", PAGE.split("## What a simulated user does wrong")[1], re.M)
    assert rows == list(get_args(Kind))


def test_the_thresholds_on_the_page_are_the_codes() -> None:
    assert f"more than {usercheck.MOST_CHARACTERS} characters" in FLAT
    assert f"{usercheck.MOST_FAREWELLS} goodbyes in a row" in FLAT
    assert f"without a stop word, or {usercheck.MOST_THANKS} thanks" in FLAT
    assert f"{usercheck.MOST_REPEATS} answers in a row" in FLAT
    assert usercheck.LEAST_STATEMENT == 4
    assert f"up to three words, up to {2 * usercheck.MOST_REPEATS - 1} times again" in FLAT
    assert f"one sentence {usercheck.MOST_LOOPS} times in a message" in FLAT
    assert f"of {usercheck.ECHO_WORDS} words or more, with you or your" in FLAT
    assert f"{usercheck.INSTRUCTION_WORDS} words of the guidelines; {usercheck.SCENARIO_WORDS} of the scenario" in FLAT
    assert f"{usercheck.LONG_SCENARIO_WORDS} other words of the scenario" in FLAT
    assert f"a timeout ({users.TIMEOUT_S:g} s) once more" in FLAT
    assert users.USER_KEY_ENV in PAGE


def test_every_option_it_names_is_one() -> None:
    options = set(re.findall(r"(--[a-z][a-z-]+)", PAGE))
    commands = ("eval", "compare")
    shown = " ".join(
        CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output for name in commands
    )
    assert len(options) > 6
    assert not [option for option in options if option not in shown]
