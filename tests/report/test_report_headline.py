"""The one sentence: for every state a folder can be in, it claims what was measured and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report import folders

from banty.errors import InputError
from banty.evals import read_card
from banty.evals.audit import AUDIT_FILE
from banty.report import headline
from banty.report.headline import place_of
from banty.report.wording import interval, seconds
from banty.runs.folder import write_json


def test_a_finished_run_says_what_how_sure_and_how_long(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    before, after = (interval(read_card(run / f"eval-{when}").data["success"], 2) for when in ("before", "after"))
    said = headline(run)
    assert said.startswith(
        f"nano went from {before} to {after} sampled success on 4 held-out test tasks x 2 trials of "
    )
    assert "of hand/made (difference 0.50 [" in said
    assert (
        "paired by task: not resolved) after 4 steps of RL in 2 min 0 s on 2 of 4 CPU cores; one training seed." in said
    )
    assert "\n" not in said


def test_greedy_is_called_greedy_and_errors_are_counted(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run")
    for when in ("before", "after"):
        told = folders.rollouts([[1, None], [0, 1]])
        folders.add_eval(run / f"eval-{when}", told, folders.card_of(told, f"nano {when}", temperature=0.0))
    assert " greedy success on 2 test tasks" in headline(run)
    assert "; 2 of 8 episodes could not be scored and are left out; not called held-out" in headline(run)


Spoil = Callable[[Path, dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file, _: file.unlink(), "no audit of the training tasks lies beside the result"),
        (lambda file, _: file.write_text("{"), "its audit.json cannot be read (JSONDecodeError)"),
        (lambda file, data: write_json(file, {**data, "format": "other"}), "is not an audit of this Banty"),
        (lambda file, data: write_json(file, {**data, "sentence": None}), "is damaged: it has no sentence"),
        (lambda file, data: write_json(file, {**data, "test": {}}), "its audit.json is of other test tasks"),
        (
            lambda file, data: write_json(file, {**data, "train": {"env": "hand/made", "split": "dev"}}),
            "its audit.json is of other training tasks",
        ),
    ],
)
def test_without_an_audit_of_these_tasks_nothing_is_held_out(tmp_path: Path, spoil: Spoil, reason: str) -> None:
    run = folders.whole_run(tmp_path / "run")
    assert "4 held-out test tasks" in headline(run)
    file = run / "eval-after" / AUDIT_FILE
    spoil(file, json.loads(file.read_text()))
    said = headline(run)
    assert "on 4 test tasks x 2 trials" in said
    refused = said.partition("; not called held-out: ")[2]
    assert reason in refused


def test_an_audit_that_found_overlap_takes_the_words_away_and_says_why(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    card = read_card(run / "eval-after")
    write_json(run / "eval-after" / AUDIT_FILE, folders.audit_json(card, allowed=False))
    said = headline(run)
    assert "on 4 test tasks x 2 trials" in said
    assert "; not called held-out: they share tasks (3 of 4); one training seed." in said


def test_fine_tuning_without_an_audit_claims_nothing_and_explains_nothing(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run", folders.SFT)
    folders.add_both(run)
    assert "4 held-out test tasks" in headline(run)
    for when in ("before", "after"):
        (run / f"eval-{when}" / AUDIT_FILE).unlink()
    assert "held-out" not in headline(run)


def test_an_unfinished_run_says_so_and_claims_no_gain(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run")
    assert headline(run) == "The run of nano on hand/made has not finished a step yet."
    told = folders.rollouts(folders.BEFORE)
    folders.add_eval(run / "eval-before", told, folders.card_of(told, "nano before"))
    folders.add_steps(run, 3)
    said = headline(run)
    assert said.startswith(
        "Unfinished: nano has done 3 of 4 steps of RL on hand/made; before training it reached 0.38 ["
    )
    assert said.endswith("there is no evaluation after training yet.")
    folders.add_steps(run, 4)
    assert "has done all 4 steps of RL" in headline(run)
    assert "not finished" in headline(run)


def test_training_without_evaluations(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run", folders.SFT)
    folders.add_steps(run, 1, "sft")
    write_json(run / "data.json", {"num_samples": 20})
    assert headline(run).startswith("Unfinished: nano has done 1 of 6 updates of fine-tuning; there is no evaluation")
    write_json(run / "result.json", {"weights": "somewhere"})
    said = headline(run)
    assert said.startswith("nano went through 1 update of fine-tuning in 30 s")
    assert said.endswith("what it learned was not measured.")


def test_only_after_is_no_gain(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    (run / "eval-before" / "card.json").unlink()
    assert "no evaluation from before, so no gain is shown" in headline(run)


def test_cards_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    card = json.loads((run / "eval-after" / "card.json").read_text())
    card["identity"]["tasks_sha256"] = "other"
    write_json(run / "eval-after" / "card.json", card)
    assert "cannot be compared (the cards were not measured on the same tasks" in headline(run)


def test_an_evaluation(tmp_path: Path) -> None:
    told = folders.rollouts(folders.AFTER)
    folder = folders.add_eval(tmp_path / "eval", told, folders.card_of(told, "nano"))
    said = headline(folder)
    assert said.startswith("nano reaches 0.88 [")
    assert "sampled success on 4 test tasks x 2 trials of hand/made in 2.5 s; beside it do-nothing 0.00." in said
    (folder / "card.json").unlink()
    said = "The evaluation of nano on hand/made has no result yet: 8 of 8 episodes are stored."
    assert headline(folder) == said


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_what_is_no_run_is_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "place")  # type: ignore[operator]
    with pytest.raises(InputError, match="is not a"):
        headline(tmp_path / "place")


def test_places_and_durations() -> None:
    assert place_of({"device": "cuda:0", "threads": 2}, {"num_cpus": 8}) == " on cuda:0"
    assert place_of({"device": "cpu", "threads": 8}, {"num_cpus": 8}) == " on 8 CPU cores"
    assert place_of({}, {"num_cpus": 1}) == " on a machine with 1 CPU core"
    assert place_of({}, {}) == ""
    spoken = {
        0.0002: "below 1 ms",
        0.4: "0.4 s",
        9.96: "10.0 s",
        59.6: "1 min 0 s",
        292: "4 min 52 s",
        7500: "2 h 5 min",
    }
    assert {value: seconds(value) for value in spoken} == spoken
    assert seconds(None) == seconds(float("nan")) == "–"
