"""The dependability card's page: its figures are the JSON's, nothing planted acts, nothing unproven is claimed."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.evals import evaluations as made
from tests.evals.evaluations import BAD, GOOD, WRITE, episode
from tests.report.test_report_page import PLANTED, SCRIPT, check_harmless

from banty.evals.dependability import Price, TaskFacts, dependability_card, read_results
from banty.records import Habit
from banty.report.dependability import card_headline, dependability_page, pass_sheet
from banty.report.dependability_sheets import money
from banty.report.wording import interval

FACTS = TaskFacts(
    writes={"hand/made:test:0": True, "hand/made:test:1": False},
    do_nothing={"hand/made:test:0": 0.0, "hand/made:test:1": 1.0},
    habits={"calls": Habit("calls at all", lambda one: bool(one.turns))},
)


def whole(folder: Path, users: int = 1) -> dict[str, Any]:
    """A card with something in every section."""
    folders = []
    for at in range(users):
        rollouts = [
            episode(
                index,
                trial,
                (index + trial + at) % 2 == 0,
                BAD,
                GOOD,
                WRITE,
                tau2=1.0,
                semantic=float(trial),
                told=float(trial),
            )
            for index in range(2)
            for trial in range(2)
        ]
        who = made.identity(roles={"user": f"user-{at}"}, policy_details={"weights_sha256": "w0"})
        folders.append(made.write(folder / str(at), rollouts, who))
    found: dict[str, Any] = dependability_card(read_results(folders), FACTS, prices=[Price("there", 3.0, 15.0)])
    return found


@pytest.mark.parametrize("users", [1, 2, 9])
def test_every_section_shows_its_figures(tmp_path: Path, users: int) -> None:
    card = whole(tmp_path, users)
    text = check_harmless(dependability_page(card)).text.replace("\xa0", " ")
    for user in card["users"]:
        assert interval(user["success"]["by_task"]) in text
        assert interval(user["pass_hat"]["2"]["by_task"]) in text
        assert interval(user["errors"]["success_with_error"]) in text
        for row in user["strata"]["rows"]:
            assert interval(row["do_nothing"]) in text
        assert user["name"] in text
    assert money(card["users"][0]["cost"]["per_solved"][0]["estimate"]) in text
    for words in ("calls at all", "told", "find", "book", "odd", "even", "semantic misses told", "Not audited"):
        assert words in text
    assert card["results"][0]["card_sha256"] in text
    assert card["results"][0]["tasks_sha256"] in text
    assert ("smallest detectable" in text) == (users > 1)


def test_what_is_planted_is_shown_and_does_nothing(tmp_path: Path) -> None:
    def planted(value: Any) -> Any:
        """Every text of the JSON, and every key but those the page looks up, with a script in it."""
        if isinstance(value, dict):
            named = value.keys() & {"find", "book", "told", "tool", "completed"}
            return {f"{key}{PLANTED}" if key in named else key: planted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [planted(item) for item in value]
        return f"{value}{PLANTED}" if isinstance(value, str) else value

    page = dependability_page(planted(whole(tmp_path, 2)))
    found = check_harmless(page)
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 50
    assert SCRIPT in found.text


def test_held_out_is_said_only_where_an_audit_lets_it(tmp_path: Path) -> None:
    card = whole(tmp_path)
    assert "held-out" not in dependability_page(card).lower()
    assert "not audited" in card_headline(card).lower()
    card["audit"] = {"audited": True, "may_be_called_held_out": False, "sentence": "It is the training set."}
    assert "held-out" not in dependability_page(card).lower()
    card["audit"] = {"audited": True, "may_be_called_held_out": True, "sentence": "Nothing overlaps."}
    assert "on 2 held-out test tasks" in card_headline(card)


def test_a_card_without_its_folder_is_a_page_too(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), stored=False)
    card = dependability_card(read_results([folder]), TaskFacts(why_not="nobody can say"))
    text = check_harmless(dependability_page(card)).text
    assert "figures are from card.json" in text
    assert "Not known: nobody can say." in text
    assert "None" not in text


def test_replicates_have_rows_of_their_own(tmp_path: Path) -> None:
    folders = [
        made.write(tmp_path / str(at), made.episodes(told), made.identity(policy_details={"weights_sha256": str(at)}))
        for at, told in enumerate([[[1, 0], [1, 1]], [[1, 1], [1, 1]], [[0, 0], [1, 1]]])
    ]
    card = dependability_card(read_results(folders), TaskFacts(why_not="unknown"))
    rows = {row[0]: row[1] for row in pass_sheet(card).rows}
    assert rows["pass^1, over replicates"] == interval(card["users"][0]["success"]["over_replicates"])
    assert rows["replicates"] == "3 checkpoints"
    assert card_headline(card).startswith("nano, 3 checkpoints: success")
    assert "speak of the method" in check_harmless(dependability_page(card)).text


def test_trials_that_never_differ_are_no_proof_that_they_could_not(tmp_path: Path) -> None:
    card = dependability_card(read_results([made.write(tmp_path / "a", made.episodes([[1, 1], [0, 0]]))]), FACTS)
    text = check_harmless(dependability_page(card)).text
    assert "none seen: no task's trials differ" in text
    assert "noise of a rerun" not in text


def test_tables_can_be_read_without_seeing_them(tmp_path: Path) -> None:
    page = dependability_page(whole(tmp_path, 2))
    num_tables = page.count("<table")
    assert num_tables == page.count("<caption") == page.count('tabindex="0"')
    assert '<th scope="col"></th>' not in page
    assert page.count("<th") == page.count('<th scope="') + page.count("<thead")
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_what_nothing_could_resolve_is_said(tmp_path: Path) -> None:
    card = dependability_card(read_results([made.write(tmp_path / "a", made.episodes([[1], [0]]))]), FACTS)
    assert card["users"][0]["noise"]["resolves"]["unpaired"] > 1.0
    assert "none: more tasks" in check_harmless(dependability_page(card)).text


def test_a_card_survives_its_file(tmp_path: Path) -> None:
    card = whole(tmp_path)
    again = json.loads(json.dumps(card))
    assert dependability_page(again) == dependability_page(card)


@pytest.mark.parametrize(
    ("value", "said"), [(1.234, "$1.23"), (0.0123, "$0.012"), (0.0, "$0.00"), (5.94e-6, "$0.0000059"), (None, "–")]
)
def test_money(value: float | None, said: str) -> None:
    assert money(value) == said
