"""Sweep files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from banty.errors import InputError
from banty.sweeps import ranges, read_sweep

GOOD = 'recipe = "../r.toml"\nseeds = 3\n[arms.a]\n[arms.b]\nset.credit.estimator = "grpo"\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "trial.toml"
    file.write_text(text)
    return file


def test_a_short_file_says_it_all(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, GOOD))
    assert (sweep.name, sweep.baseline, sweep.keep_runs) == ("trial", "a", True)
    assert Path(sweep.recipe) == tmp_path.parent / "r.toml", "the recipe is found beside the file"
    assert sweep.seeds_of("a") == sweep.seeds_of("b") == (0, 1, 2)
    assert sweep.arms["b"].set == {"credit": {"estimator": "grpo"}}


def test_an_arm_may_have_seeds_of_its_own_and_they_are_sorted(tmp_path: Path) -> None:
    text = 'name = "other"\nbaseline = "b"\n' + GOOD + "seeds = [7, 3]\n[arms.c]\nseeds = 1\nexploratory = true\n"
    sweep = read_sweep(written(tmp_path, text))
    assert (sweep.name, sweep.baseline) == ("other", "b")
    assert [sweep.seeds_of(arm) for arm in "abc"] == [(0, 1, 2), (3, 7), (0,)]
    assert [sweep.arms[arm].exploratory for arm in "abc"] == [False, False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seeds", "seedz"), "trial.toml: unknown key 'seedz'; did you mean 'seeds'"),
        (("[arms.a]", "[arms.a]\nexplorative = true"), "unknown key 'explorative'; did you mean 'exploratory'"),
        (("seeds = 3", ""), "missing seeds"),
        (("recipe", "# recipe"), "missing recipe"),
        (("seeds = 3", "seeds = 0"), "seeds is 0; it takes how many"),
        (("seeds = 3", "seeds = true"), "seeds is True"),
        (("seeds = 3", "seeds = []"), r"seeds is \[\]"),
        (("seeds = 3", 'seeds = ["a"]'), "seeds takes a whole number, got 'a'"),
        (("seeds = 3", "seeds = [1, true]"), "seeds takes a whole number, got True"),
        (("seeds = 3", "seeds = [-1]"), "seeds has -1; a seed is a whole number from 0"),
        (("seeds = 3", "seeds = [4, 4]"), "seeds names a seed twice"),
        (("[arms.a]", "[arms.a]\nseeds = [5, 5]"), r"arms\.a\.seeds names a seed twice"),
        (("[arms.a]", "[arms.a]\nseeds = 0.5"), r"arms\.a\.seeds is 0\.5"),
        (("seeds = 3", 'seeds = 3\nbaseline = "z"'), "baseline is 'z'; the arms are a, b"),
        (("[arms.a]", "[arms.a]\nexploratory = true"), "the baseline 'a' is exploratory"),
        (("[arms.a]", '[arms."../a"]'), "'../a' names a folder"),
        (("seeds = 3", 'seeds = 3\nname = "a b"'), "'a b' names a folder"),
        (('[arms.a]\n[arms.b]\nset.credit.estimator = "grpo"', "[arms]"), "it has no arms"),
        (('[arms.a]\n[arms.b]\nset.credit.estimator = "grpo"', "arms = 3"), "arms takes a table"),
        (("[arms.a]\n", "[arms]\na = 1\n"), r"arms\.a takes a table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(InputError, match=said):
        read_sweep(written(tmp_path, GOOD.replace(*change, 1)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe .*nowhere\.toml"):
        read_sweep(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([], ""), ([4], "4"), ([2, 0, 1], "0-2"), ([0, 1, 3, 5, 6], "0-1, 3, 5-6")],
)
def test_seeds_are_written_as_ranges(seeds: list[int], text: str) -> None:
    assert ranges(seeds) == text
