"""What docs/credit.md shows is what the program does: its table of biases, its options, its metrics."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
from benchmarks.credit_bias import table

from banty.credit import ESTIMATORS, Credit, GroupRewards, credit_metrics, turns_of
from banty.credit.gtpo import Comparison
from banty.credit.mtgrpo import Variant
from banty.credit.scale import Scale
from banty.credit.unbiased import Ended
from banty.runs import from_mapping
from banty.train.recipe import RLRecipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "credit.md").read_text()
ESTIMATORS_TABLE = PAGE.split("## The estimators")[1].split("\n## ")[0]
CELLS = [line.strip("| ").split(" | ") for line in ESTIMATORS_TABLE.splitlines() if line.startswith("| `")][1:]
ROWS = {cells[0].split("`")[1]: cells for cells in CELLS}


def test_the_table_of_biases_is_what_the_benchmark_prints() -> None:
    assert table() in PAGE


def test_every_estimator_is_on_the_page_with_the_options_it_heeds() -> None:
    assert set(ESTIMATORS) == set(ROWS)
    for name, entry in ESTIMATORS.items():
        assert set(re.findall(r"`(\w+)`", ROWS[name][2])) == set(entry.options), name


def test_the_defaults_on_the_page_are_the_code_s() -> None:
    for name, entry in ESTIMATORS.items():
        for option, told in re.findall(r"`(\w+)` \(([\w.]+)", ROWS[name][2]):
            default = entry.options[option]
            wanted = str(default).lower() if isinstance(default, bool) else str(default)
            assert told == (wanted.removesuffix(".0")), (name, option)


def test_every_choice_of_an_option_is_named() -> None:
    for choices in (Variant, Comparison, Ended, Scale):
        for choice in get_args(choices):
            assert choice in PAGE, choice


def test_the_recipe_of_the_page_is_one() -> None:
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.S):
        from_mapping(RLRecipe, tomllib.loads(text), "docs/credit.md").check()


def test_every_metric_a_run_logs_is_on_the_page() -> None:
    group = GroupRewards(np.array([1.0, 0.0]), [np.array([1.0, 0.0]), np.array([0.0, 0.0])])
    credit = Credit([np.ones(2), -np.ones(2)], [np.ones(2), np.ones(2)])
    turns = turns_of([group], [credit], [[["gold", "message"], ["read", "message"]]])
    section = PAGE.split("## What every run logs")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    for name in credit_metrics(turns, [group]):
        general = re.sub(r"^share_.*", "share_TIER", name.removeprefix("credit/")).replace("turn_1", "turn_K")
        assert general in named, name
