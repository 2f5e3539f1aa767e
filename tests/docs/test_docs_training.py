"""What docs/training.md shows is what the program takes: its recipes, its commands, its tables."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from banty.cli.app import app
from banty.cli.training import KINDS, load_any_recipe
from banty.records import PolicyLoss
from banty.runs import from_mapping

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("text", BLOCKS)
def test_each_recipe_is_one(text: str) -> None:
    data = tomllib.loads(text)
    from_mapping(KINDS[data.pop("kind", "rl")], data, "docs/training.md").check()


@pytest.mark.parametrize("name", ["sft", "rl", "habits"])
def test_each_recipe_of_the_repository_is_one(name: str) -> None:
    load_any_recipe(str(ROOT / "recipes" / f"{name}.toml"), []).check()


def test_each_command_and_its_options_exist() -> None:
    lines = re.findall(r"^\$ banty (\w+) (.*)", PAGE, re.M)
    assert len(lines) >= 6
    for command, rest in lines:
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        for option in re.findall(r"--[\w-]+", rest):
            assert option in told, (command, option)


def test_the_table_of_losses_names_fields_that_exist() -> None:
    rows = re.findall(r"^\| (`.*?`) \| (?!what)", PAGE, re.M)
    fields = {field.name for field in dataclasses.fields(PolicyLoss)}
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named
    assert named <= fields
