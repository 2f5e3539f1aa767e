"""Results on disk: sorted, whole, told apart by recipe and starting weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.sweeps.by_hand import as_it_is, line, planned, stored

from banty.errors import InputError
from banty.sweeps import PlannedArm, Results, failure_line, recipe_digest


def test_lines_are_sorted_by_seed_and_read_again(tmp_path: Path) -> None:
    arm = planned("a", range(3))
    stored(tmp_path / "new", arm, {2: 0.5, 0: 0.25})
    file = tmp_path / "new" / "a.jsonl"
    assert [json.loads(text)["seed"] for text in file.read_text().splitlines()] == [0, 2]
    assert Results(tmp_path / "new", "a").lines == {0: line(arm, 0, 0.25), 2: line(arm, 2, 0.5)}
    assert Results(tmp_path / "new", "a").states(arm, as_it_is) == {0: "finished", 1: "missing", 2: "finished"}
    assert [path.name for path in sorted(file.parent.iterdir())] == ["a.jsonl", "a.recipes.json"]


def test_the_seed_is_no_part_of_a_recipes_digest_and_all_else_is() -> None:
    arms = [planned("a", [0]), planned("a", [0], seed=7), planned("a", [0], steps=4)]
    assert arms[0].digest == arms[1].digest != arms[2].digest


def test_another_recipe_makes_results_stale_until_their_cells_are_run_again(tmp_path: Path) -> None:
    old, new = planned("a", range(2)), planned("a", range(2), steps=9)
    stored(tmp_path, old, {0: 0.5, 1: 0.5})
    results = Results(tmp_path, "a")
    assert results.states(new, as_it_is) == {0: "stale", 1: "stale"}
    results.put(line(new, 1, 0.75), new.recipe)
    again = Results(tmp_path, "a")
    assert again.states(new, as_it_is) == {0: "stale", 1: "finished"}
    assert again.states(old, as_it_is) == {0: "finished", 1: "stale"}
    assert set(again.recipes) == {old.digest, new.digest}
    again.put(line(new, 0, 0.75), new.recipe)
    assert set(Results(tmp_path, "a").recipes) == {new.digest}, "recipes that no line names are dropped"


def test_other_starting_weights_make_results_stale(tmp_path: Path) -> None:
    arm = planned("a", range(2))
    results = Results(tmp_path, "a")
    results.put(line(arm, 0, 0.5, start="aaaa"), arm.recipe)

    def states(start: str) -> Mapping[int, str]:
        return results.states(PlannedArm(arm.name, arm.seeds, arm.recipe, start), as_it_is)

    assert states("aaaa") == {0: "finished", 1: "missing"}
    assert states("bbbb") == {0: "stale", 1: "missing"}
    assert states("") == {0: "finished", 1: "missing"}, "weights that are not here cannot be compared"


def test_a_key_that_recipes_have_gained_since_makes_nothing_stale_at_its_default(tmp_path: Path) -> None:
    stored(tmp_path, planned("a", [0]), {0: 0.5})

    def resolve(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**recipe, "train": {"momentum": 0.0, **recipe["train"]}}

    def refuse(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        raise InputError("unknown key 'estimator'")

    results = Results(tmp_path, "a")
    assert results.states(planned("a", [0], momentum=0.0), resolve) == {0: "finished"}
    assert results.states(planned("a", [0], momentum=0.9), resolve) == {0: "stale"}
    assert results.states(planned("a", [0], momentum=0.0), refuse) == {0: "stale"}


def test_a_failure_stands_until_its_cell_is_run_again(tmp_path: Path) -> None:
    arm = planned("a", [0])
    results = Results(tmp_path, "a")
    note = {"arm": "a", "seed": 0, "digest": arm.digest, "start": "", "frozen": None}
    results.put(failure_line(note, "out of luck"), arm.recipe)
    again = Results(tmp_path, "a")
    assert again.states(arm, as_it_is) == {0: "failed"}
    again.put(line(arm, 0, 0.5), arm.recipe)
    assert Results(tmp_path, "a").states(arm, as_it_is) == {0: "finished"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"arm": "b", "seed": 0}',
        '{"arm": "a", "seed": true, "recipe": "", "start": "", "frozen": null, "failed": "x"}',
        '{"arm": "a", "seed": 0, "recipe": "", "start": "", "frozen": null}',
        '{"arm": "a", "seed": 0, "recipe": "", "start": "", "failed": "x"}',
        '{"arm": "a", "seed": 0, "recipe": "", "start": "", "frozen": null, "before": {}, "after": {"success": 1}}',
        "<<<<<<< HEAD",
    ],
)
def test_a_damaged_line_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    stored(tmp_path, planned("a", [0]), {0: 0.5})
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(text + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 2, is no result of a; mend or remove it"):
        Results(tmp_path, "a")


def test_a_seed_twice_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, planned("a", [0]), {0: 0.5})
    file = tmp_path / "a.jsonl"
    file.write_text(file.read_text() * 2)
    with pytest.raises(InputError, match="has seed 0 twice"):
        Results(tmp_path, "a")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_damaged_recipes_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.recipes.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.recipes\.json is damaged"):
        Results(tmp_path, "a")


def test_a_stored_recipe_has_the_digest_it_is_stored_under(tmp_path: Path) -> None:
    arm = planned("a", [3], seed=3)
    recipes = stored(tmp_path, arm, {3: 0.5}).recipes
    assert [recipe_digest(recipe) for recipe in recipes.values()] == list(recipes) == [arm.digest]
    assert "seed" not in recipes[arm.digest]["train"]
    assert arm.recipe["train"]["seed"] == 3
