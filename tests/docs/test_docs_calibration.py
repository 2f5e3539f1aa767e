"""What docs/calibration.md shows is what the program takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from banty.calibrate import CalibrateBlock, Rules
from banty.cli.app import app
from banty.runs import from_mapping
from banty.train.recipe import RLRecipe

PAGE = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text()


def test_the_block_is_one_and_shows_the_defaults() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)```$", PAGE, re.M | re.S)
    recipe = from_mapping(RLRecipe, tomllib.loads(block), "docs/calibration.md")
    recipe.check()
    assert recipe.calibrate == CalibrateBlock(every=10)


def test_the_rules_stand_as_they_are() -> None:
    rules = Rules()
    said = f"{rules.passes} passes, {rules.fails} failures, {rules.present} rollouts with it and {rules.absent} without"
    assert said in PAGE
    assert f"exceeds {rules.eta}" in PAGE.replace("\n", " ")


def test_every_option_it_names_is_one() -> None:
    shown = CliRunner().invoke(app, ["calibrate", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert len(options) > 5
    assert not [option for option in options if option not in shown]
