"""What docs/rewards.md shows is what the program takes and has."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from tests.rubrics.by_hand import call, labels

from banty.cli.rewards import load_predicate
from banty.rubrics import PREDICATES, Matching, Tier, ToolMatching, read_reward_file, with_functions
from banty.runs import from_mapping
from banty.train.recipe import RewardsBlock, RLRecipe

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)```$", PAGE, re.M | re.S))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    for name in ("mine.toml", "tiers.py"):
        (tmp_path / name).write_text(BLOCKS[name])
    return tmp_path / "mine.toml"


def test_the_recipe_is_one() -> None:
    data = tomllib.loads(BLOCKS["recipe.toml"])
    recipe = from_mapping(RLRecipe, data, "docs/rewards.md")
    recipe.check()
    assert recipe.rewards == RewardsBlock(file="irc")
    assert set(data["rewards"]) == {field.name for field in dataclasses.fields(RewardsBlock)}


def test_the_file_is_one_and_its_python_tier_works(mine: Path) -> None:
    file = with_functions(read_reward_file(mine), lambda place: load_predicate(place, allow_code=True))
    found = labels("x" * 601, "Hello.", call("look", id="A"), wanted=None, file=file)
    assert [(label.tier, label.reward) for label in found] == [("long", -0.2), ("message", 0.0), ("read", 0.05)]


def test_the_file_shows_every_key(mine: Path) -> None:
    shown = set(re.findall(r"^(\w+) = ", BLOCKS["mine.toml"], re.M))
    for kind in (Tier, Matching, ToolMatching):
        named = {field.name for field in dataclasses.fields(kind)} - {"tools"}
        assert named <= shown, kind


def test_the_table_has_the_tiers_and_values_of_the_packaged_files() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| .*? \| (-?[\d.]+) \| (-?[\d.]+) \|$", PAGE, re.M)
    assert {predicate for _, predicate, _, _ in rows} == set(PREDICATES)
    for name, place in (("naive-dense", 2), ("irc", 3)):
        file = read_reward_file(name)
        assert {row[0]: (row[1], float(row[place])) for row in rows} == {
            tier: (found.predicate, found.value) for tier, found in file.tiers.items()
        }
        assert [row[0] for row in rows] == list(file.tiers)
