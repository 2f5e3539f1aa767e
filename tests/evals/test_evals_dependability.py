"""The card's figures, counted by hand, equal to the result card's where both say the same, and honest about gaps."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evals import evaluations as made
from tests.evals.evaluations import BAD, BROKEN, GOOD, WRITE, episode
from tests.evals.toy_desk import GuessingTasks
from tests.published_data import PLACE

from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.evals.audit import read_audit
from banty.evals.dependability import (
    Price,
    Result,
    TaskFacts,
    audits_of,
    dependability_card,
    facts_of,
    read_results,
)
from banty.records import Habit, Rollout
from banty.report.dependability import dependability_page
from banty.runs.folder import write_json
from banty.stats import ratio_interval, seed_interval

NOBODY = TaskFacts(why_not="nobody knows")


def card_of(folder: Path, rollouts: Sequence[Rollout], facts: TaskFacts = NOBODY, **more: Any) -> dict[str, Any]:
    """The only user's part of the card of one evaluation."""
    results = read_results([made.write(folder, rollouts)])
    (user,) = dependability_card(results, facts, **more)["users"]
    found: dict[str, Any] = user
    return found


def test_success_and_pass_k_are_the_result_card_s(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1], [0, None], [1, 1]]))
    told = json.loads((folder / "card.json").read_text())
    (user,) = dependability_card(read_results([folder]), NOBODY)["users"]
    assert user["success"]["by_task"] == told["success"]
    assert {k: one["by_task"] for k, one in user["pass_hat"].items()} == told["pass_hat"]
    assert {one["by_task"]["method"] for one in user["pass_hat"].values()} == {"Wilson, clustered by task"}
    assert {k: one["by_task"] for k, one in user["pass_at"].items()} == told["pass_at"]
    assert user["noise"]["resolves"]["fixed"] == pytest.approx(told["minimum_detectable_effect"])
    assert user["success"]["over_replicates"] is None
    assert user["episodes"] == {
        "num_episodes": 8,
        "num_scored": 7,
        "num_excluded": 1,
        "statuses": {"completed": 7, "errored": 1},
        "causes": {"simulator": 1},
        "user_faults": {"no_answer": 1},
    }


def test_a_card_alone_gives_the_same_success(tmp_path: Path) -> None:
    rollouts = made.episodes([[1, 0], [1, 1], [0, None], [1, 1]])
    cards = [
        dependability_card(read_results([made.write(tmp_path / str(stored), rollouts, stored=stored)]), NOBODY)
        for stored in (True, False)
    ]
    users = [one["users"][0] for one in cards]
    for name in ("success", "pass_hat", "pass_at", "noise", "episodes"):
        assert users[0][name] == users[1][name], name
    assert [user["source"] for user in users] == ["rollouts", "card"]
    assert "its figures are from card.json" in " ".join(cards[1]["notes"])
    assert users[1]["errors"] == {"source": "card", "error_share": 0.0}
    assert users[1]["tools"] == []


def test_replicates_have_an_interval_of_their_own(tmp_path: Path) -> None:
    told = [[[1, 1], [1, 0], [0, 0]], [[1, 1], [1, 1], [0, 1]], [[1, 0], [1, 0], [0, 0]]]
    whos = [made.identity(f"nano@{at}", policy_details={"weights_sha256": f"w{at}"}) for at in range(3)]
    folders = [
        made.write(tmp_path / str(at), made.episodes(one), who)
        for at, (one, who) in enumerate(zip(told, whos, strict=True))
    ]
    card = dependability_card(read_results(folders), NOBODY)
    (user,) = card["users"]
    means = [0.5, 5 / 6, 1 / 3]
    wanted = seed_interval(means, bounds=(0.0, 1.0))
    found = user["success"]["over_replicates"]
    assert (found["estimate"], found["low"], found["high"], found["n"]) == pytest.approx(
        (wanted.estimate, wanted.low, wanted.high, 3)
    )
    assert user["success"]["by_task"]["estimate"] == pytest.approx(sum(means) / 3)
    assert user["success"]["by_task"]["n"] == 3
    assert user["pass_hat"]["2"]["by_task"]["estimate"] == pytest.approx((1 / 3 + 1.0 * 2 / 3 + 0) / 3)
    assert user["noise"]["replicates"]["num_replicates"] == 3
    assert card["subject"]["policy"] == "3 checkpoints"
    assert "are taken for checkpoints of one method" in " ".join(card["notes"])


def test_users_stand_side_by_side_with_their_difference(tmp_path: Path) -> None:
    folders = [
        made.write(tmp_path / name, made.episodes(told), made.identity(roles={"user": name}))
        for name, told in (("kind", [[1, 1], [1, 1], [1, 0]]), ("cross", [[0, 0], [1, 0], [0, 0]]))
    ]
    card = dependability_card(read_results(folders), NOBODY)
    assert [user["name"] for user in card["users"]] == ["kind", "cross"]
    (row,) = card["differences"]
    assert (row["a"], row["b"]) == ("kind", "cross")
    assert row["difference"]["estimate"] == pytest.approx((-1 - 0.5 - 0.5) / 3)
    assert row["verdict"] == "not resolved"


def test_errors_and_recovery(tmp_path: Path) -> None:
    user = card_of(
        tmp_path / "a",
        [
            episode(0, 0, True, BAD, GOOD, WRITE),
            episode(0, 1, False, BAD, BROKEN),
            episode(1, 0, True, GOOD, WRITE),
            episode(1, 1, None, BAD, BAD),
        ],
    )
    errors = user["errors"]
    assert (errors["num_calls"], errors["num_errors"]) == (7, 3)
    assert errors["by_kind"] == {"tool": 2, "unknown_tool": 1}
    assert (errors["episodes_with_error"]["count"], errors["episodes_with_error"]["of"]) == (2, 3)
    assert (errors["success_with_error"]["count"], errors["success_with_error"]["of"]) == (1, 2)
    assert (errors["success_without_error"]["count"], errors["success_without_error"]["of"]) == (1, 1)
    assert errors["mended"] == {"count": 1, "of": 3, "estimate": pytest.approx(1 / 3)}
    rows = {row["name"]: row for row in user["tools"]}
    assert (rows["find"]["num_calls"], rows["find"]["num_errors"], rows["find"]["effect"]) == (4, 2, "read")
    assert rows["find"]["mended_share"] == 0.5
    assert (rows["find"]["calls_per_pass"], rows["find"]["calls_per_failure"]) == (1.5, 1.0)
    assert (rows["book"]["in_passes"], rows["book"]["in_failures"]) == (1.0, 0.0)
    assert "fnd" not in rows
    assert user["tools"][-1]["num_errors"] == 1


def test_intents_are_the_tasks_own(tmp_path: Path) -> None:
    user = card_of(tmp_path / "a", made.episodes([[1, 1], [0, 0], [1, 0], [0, 1]]))
    assert user["intents"]["source"] == "the tasks' public part"
    rows = {row["name"]: row for row in user["intents"]["rows"]}
    assert set(rows) == {"odd", "even"}
    assert rows["even"]["success"]["by_task"]["estimate"] == 0.75
    assert (rows["even"]["num_tasks"], rows["even"]["num_episodes"]) == (2, 4)
    assert (rows["odd"]["k"], rows["odd"]["pass_hat_k"]["by_task"]["estimate"]) == (2, 0.0)


def test_intents_are_derived_where_nobody_says_and_it_is_said(tmp_path: Path) -> None:
    rollouts = [
        dataclasses.replace(one, task=dataclasses.replace(one.task, public={}))
        for one in (
            episode(0, 0, True, GOOD, WRITE),
            episode(0, 1, False, GOOD),
            episode(1, 0, True, GOOD),
            episode(1, 1, True, GOOD),
        )
    ]
    found = card_of(tmp_path / "a", rollouts)["intents"]
    assert found["source"].startswith("the agent's calls: ")
    assert [(row["name"], row["num_tasks"]) for row in found["rows"]] == [("book", 1), ("nothing is changed", 1)]


def test_habits_and_criteria_with_intervals(tmp_path: Path) -> None:
    rollouts = [
        episode(0, 0, True, told=1.0, share=0.5, tau2=1.0),
        episode(0, 1, False, told=0.0, share=0.2, tau2=0.0),
        episode(1, 0, True, told=1.0, share=1.0, tau2=1.0),
        episode(1, 1, True, BAD, told=1.0, share=1.0, tau2=1.0),
    ]
    habit = Habit("fails a call", lambda one: any(call.error for turn in one.turns for call in turn.calls) or None)
    user = card_of(tmp_path / "a", rollouts, TaskFacts(habits={"fails": habit}))
    assert [row["name"] for row in user["criteria"]["rows"]] == ["told"], "no shares, and no grader's verdict"
    (told,) = user["criteria"]["rows"]
    assert (told["count"], told["of"], told["estimate"]) == (1, 4, 0.25)
    assert told["low"] is not None
    (fails,) = user["habits"]["rows"]
    assert (fails["lapse"], fails["count"], fails["of"]) == ("fails a call", 1, 1)
    assert user["habits"]["source"] == "rollouts"


def test_graders_and_why_they_differ(tmp_path: Path) -> None:
    def judged(index: int, trial: int, tau2: int, semantic: int, **parts: float) -> Rollout:
        return episode(index, trial, bool(tau2), tau2=float(tau2), semantic=float(semantic), **parts)

    right = {"tau2_db": 1.0, "tau2_action": 0.0, "database": 1.0, "confirmed": 1.0}
    user = card_of(
        tmp_path / "a",
        [
            judged(0, 0, 1, 1, **right),
            judged(0, 1, 1, 0, **{**right, "confirmed": 0.0}),
            judged(1, 0, 0, 1, **{**right, "tau2_db": 0.0}),
            judged(1, 1, 0, 0, **{**right, "tau2_db": 0.0, "database": 0.0}),
        ],
    )
    found = user["graders"]
    assert found["counts"] == {"both": 1, "tau2": 1, "semantic": 1, "neither": 1}
    assert found["agreement"]["estimate"] == 0.5
    assert [row["reasons"] for row in found["rows"]] == [
        {"semantic misses confirmed": 1},
        {"tau2 misses tau2_db": 1},
    ], "tau2_action was missed in a success of tau2's: it is for information"
    assert found["verdicts"]["tau2"]["estimate"] == 0.5
    assert [(row["tau2"], row["semantic"], row["num_trials"]) for row in found["rows"]] == [(2, 1, 2), (0, 1, 2)]


def test_the_outcome_s_own_words_on_why_graders_differ_go_first(tmp_path: Path) -> None:
    words = "semantic passes and tau2 fails: the order of passengers; and more"
    told = episode(0, 0, False, tau2=0.0, semantic=1.0)
    told = dataclasses.replace(told, outcome=dataclasses.replace(told.outcome, reason=f"tau2: db; {words}"))
    (row,) = card_of(tmp_path / "a", [told, episode(0, 1, True, tau2=1.0, semantic=1.0)])["graders"]["rows"]
    assert row["reasons"] == {words: 1}


def test_cost_per_solved_task_at_a_price(tmp_path: Path) -> None:
    rollouts = [
        episode(0, 0, True, GOOD, WRITE),
        episode(0, 1, False, GOOD),
        episode(1, 0, True, GOOD),
        episode(1, 1, True, GOOD),
        episode(2, 0, None, GOOD),
    ]
    found = card_of(tmp_path / "a", rollouts, prices=[Price("there", 100.0, 1000.0)])["cost"]
    once = (10 * 100 + 2 * 1000) / 1e6
    (row,) = found["per_solved"]
    wanted = ratio_interval([1.5 * once, once], [0.5, 1.0])
    assert row["estimate"] == pytest.approx(wanted.estimate)
    assert row["estimate"] == pytest.approx(2.5 * once / 1.5)
    assert row["per_episode"] == pytest.approx(5 * once / 4)
    assert found["per_episode"]["prompt_tokens"]["estimate"] == 12.5
    assert found["per_episode"]["episode_s"]["estimate"] == 3.0


def test_cost_from_a_card_has_no_interval(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), stored=False)
    (user,) = dependability_card(read_results([folder]), NOBODY, prices=[Price("there", 1.0, 0.0)])["users"]
    (row,) = user["cost"]["per_solved"]
    assert row["estimate"] == pytest.approx(40 / 1e6 / 3)
    assert row["low"] is None
    assert "no interval" in row["method"]


@pytest.mark.parametrize("value", [None, "x", 3, [], {}, [1], {"a": [None]}, 1e400])
def test_a_damaged_card_is_refused_or_read_as_far_as_it_goes(tmp_path: Path, value: object) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), stored=False)
    whole = json.loads((folder / "card.json").read_text())
    places: list[tuple[Any, ...]] = [(name,) for name in whole] + [("identity", name) for name in whole["identity"]]
    places += [("tasks", 0, name) for name in whole["tasks"][0]] + [("cost", name) for name in whole["cost"]]
    num_refused = 0
    for place in places:
        data = json.loads(json.dumps(whole))
        inside = data
        for step in place[:-1]:
            inside = inside[step]
        inside[place[-1]] = value
        (folder / "card.json").write_text(json.dumps(data))
        try:
            card = dependability_card(read_results([folder]), NOBODY, prices=[Price("there", 1.0, 2.0)])
        except InputError:
            num_refused += 1
        else:
            assert dependability_page(json.loads(json.dumps(card))), place
    assert 0 < num_refused < len(places)


AUDIT = {
    "format": "banty-audit-1",
    "may_be_called_held_out": True,
    "sentence": "These tasks may be called held-out.",
    "train": {"name": "TRAIN", "num_tasks": 9},
    "test": {"tasks_sha256": made.identity()["tasks_sha256"]},
    "overlaps": [{"measure": "text", "level": "none"}],
    "overlapping_tasks": [],
}


def audited(folder: Path, **changes: Any) -> dict[str, Any]:
    results = read_results([made.write(folder, made.episodes([[1, 0], [1, 1]]))])
    file = write_json(folder.with_suffix(".json"), {**AUDIT, **changes})
    found: dict[str, Any] = dependability_card(results, NOBODY, audits=audits_of(results, read_audit(file)))["audit"]
    return found


def test_the_audit_s_sentence_and_nothing_without_one(tmp_path: Path) -> None:
    found = audited(tmp_path / "a")
    assert (found["audited"], found["may_be_called_held_out"]) == (True, True)
    assert found["sentence"] == AUDIT["sentence"]
    refused = audited(tmp_path / "c", may_be_called_held_out=False, sentence="The test set is the training set.")
    assert (refused["audited"], refused["may_be_called_held_out"]) == (True, False)
    for at, test in enumerate(({"tasks_sha256": "f" * 64}, {}, {"sha256": ["f"]})):
        other = audited(tmp_path / f"d{at}", test=test)
        assert not other["audited"]
        assert "does not name them" in other["sentence"]
    card = dependability_card(read_results([tmp_path / "a"]), NOBODY)
    assert card["audit"]["sentence"].startswith("Not audited")
    assert "held-out" not in json.dumps(card).lower()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no audit at"),
        ("{", r"cannot be read \(JSONDecodeError\), so it is no audit"),
        ("[]", "its format is 'list'"),
        ('{"format": "banty-audit-2"}', "its format is 'banty-audit-2'"),
        ('{"format": "banty-audit-1", "sentence": "x"}', "is damaged"),
        (json.dumps({**AUDIT, "test": None}), "damaged: it has no test"),
        (json.dumps({**AUDIT, "overlapping_tasks": ["3"]}), "contradicts itself"),
        (json.dumps({**AUDIT, "overlaps": []}), "contradicts itself"),
        (json.dumps({**AUDIT, "overlaps": [{"measure": "customers", "level": "none"}]}), "contradicts itself"),
        (json.dumps({**AUDIT, "train": {}}), "contradicts itself"),
        (json.dumps({**AUDIT, "sentence": "It must not be called held-out: they share all."}), "contradicts itself"),
    ],
)
def test_what_is_no_audit(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "audit.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_audit(tmp_path / "audit.json")


def test_an_audit_of_a_task_file_is_one_of_its_split_and_its_size(tmp_path: Path) -> None:
    """A file's sha256 says nothing of which of its tasks were compared."""
    who = made.identity(split="test", provenance={"tasks_sha256": "f" * 64})
    results = read_results([made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), who)])

    def about(**test: Any) -> bool:
        file = write_json(tmp_path / "audit.json", {**AUDIT, "test": {"sha256": "f" * 64, **test}})
        return bool(dependability_card(results, NOBODY, audits=[read_audit(file)])["audit"]["audited"])

    assert about(split="test", num_tasks=2)
    assert not about(split="train", num_tasks=2)
    assert not about(split="test", num_tasks=1)
    assert not about(num_tasks=2), "an audit of the whole file, which is its split base"


def test_every_result_of_a_card_needs_an_audit_that_allows_it(tmp_path: Path) -> None:
    told = {"a": [[1, 0], [1, 1]], "b": [[1, 1], [0, 1]]}
    results = read_results([made.write(tmp_path / name, made.episodes(each)) for name, each in told.items()])
    allowing = read_audit(write_json(tmp_path / "yes.json", AUDIT))
    refusal = {"may_be_called_held_out": False, "sentence": "It must not be called held-out: they share all."}
    refusing = read_audit(write_json(tmp_path / "no.json", {**AUDIT, **refusal}))
    other = read_audit(write_json(tmp_path / "else.json", {**AUDIT, "test": {"tasks_sha256": "0" * 64}}))

    def allowed(*audits: Any) -> bool:
        return bool(dependability_card(results, NOBODY, audits=audits)["audit"]["may_be_called_held_out"])

    assert allowed(allowing, allowing)
    for missing in (refusing, other, None):
        assert not allowed(allowing, missing)


# What the tasks themselves know.


def result_on(env: str, folder: Path, num_tasks: int, split: str = "test", **options: Any) -> tuple[Any, Result]:
    taskset = make_taskset(env, options, False)
    who = made.identity(env=env, split=split, num_tasks=num_tasks, provenance=dict(taskset.provenance))
    who["tasks_sha256"] = taskset.fingerprint(split, num_tasks, 0)
    rollouts = [
        dataclasses.replace(one, task=dataclasses.replace(taskset.task(split, index, 0), data=None))
        for index in range(num_tasks)
        for one in made.episodes([[1, 0]])
    ]
    rollouts = [
        dataclasses.replace(one, rollout_id=f"{one.task.id}#{one.trial}", root_id=f"{one.task.id}#{one.trial}")
        for one in rollouts
    ]
    (result,) = read_results([made.write(folder, rollouts, who)])
    return taskset, result


def test_tasks_are_made_again_to_tell_writes_apart(tmp_path: Path) -> None:
    taskset, result = result_on("airline/mini", tmp_path / "a", 20)
    facts = asyncio.run(facts_of(taskset, result))
    tasks = [taskset.task("test", index, 0) for index in range(20)]
    assert list(facts.writes.values()) == [bool(task.data.scenario.writes) for task in tasks]
    assert len(facts.do_nothing) == 20
    assert facts.intents["airline/mini:test:0"] == tuple(tasks[0].public["intents"])
    (user,) = dependability_card([result], facts)["users"]
    rows = {row["name"]: row for row in user["strata"]["rows"]}
    assert rows["write"]["num_tasks"] == sum(facts.writes.values())
    assert rows["write"]["num_tasks"] + rows["no write"]["num_tasks"] == rows["all"]["num_tasks"] == 20
    assert rows["all"]["success"]["by_task"]["estimate"] == 0.5
    assert rows["write"]["do_nothing"]["estimate"] == 0.0


def test_other_tasks_than_those_measured_are_not_taken_for_them(tmp_path: Path) -> None:
    _, result = result_on("airline/mini", tmp_path / "a", 3)
    other = make_taskset("airline/mini", {"grade": "tau2"}, False)
    facts = asyncio.run(facts_of(other, result))
    assert "their sha256 differs" in facts.why_not
    assert not facts.writes
    (user,) = dependability_card([result], facts)["users"]
    assert user["strata"] == {"known": False, "why_not": facts.why_not, "rows": []}
    assert asyncio.run(facts_of(GuessingTasks(), result)).why_not != ""


@pytest.mark.skipif(not (PLACE / "tasks.json").is_file(), reason="needs tau2-bench's airline data in shared/")
def test_doing_nothing_passes_46_percent_of_the_published_tasks_and_none_that_takes_a_write(tmp_path: Path) -> None:
    taskset, result = result_on("airline/tau2", tmp_path / "a", 50, "base", data=str(PLACE), customer="silent")
    facts = asyncio.run(facts_of(taskset, result))
    (user,) = dependability_card([result], facts)["users"]
    rows = {row["name"]: row for row in user["strata"]["rows"]}
    assert rows["all"]["do_nothing"]["estimate"] == 0.46
    assert rows["write"]["do_nothing"]["estimate"] == 0.0
    assert rows["no write"]["do_nothing"]["estimate"] * rows["no write"]["num_tasks"] == pytest.approx(23)


@pytest.mark.skipif(not (PLACE / "tasks.json").is_file(), reason="needs tau2-bench's airline data in shared/")
def test_published_tasks_are_about_what_their_reference_path_changes(tmp_path: Path) -> None:
    """And not about what the agent happened to call: one that calls nothing has intents like any other."""
    taskset, result = result_on("airline/tau2", tmp_path / "a", 50, "base", data=str(PLACE), customer="silent")
    (user,) = dependability_card([result], asyncio.run(facts_of(taskset, result)))["users"]
    assert user["intents"]["source"].startswith("the reference path")
    rows = {row["name"]: row["num_tasks"] for row in user["intents"]["rows"]}
    assert rows["nothing is changed"] == 24
    assert sum(rows.values()) == 50


def test_graders_of_a_card_alone(tmp_path: Path) -> None:
    rollouts = [
        episode(0, 0, True, tau2=1.0, semantic=1.0),
        episode(0, 1, False, tau2=0.0, semantic=1.0),
        episode(1, 0, True, tau2=1.0, semantic=0.0),
        episode(1, 1, False, tau2=0.0, semantic=0.0),
    ]
    users = []
    for stored in (True, False):
        folder = made.write(tmp_path / str(stored), rollouts, stored=stored)
        users.append(dependability_card(read_results([folder]), NOBODY)["users"][0]["graders"])
    whole, alone = users
    assert alone["known"]
    for name in ("tau2", "semantic"):
        assert alone["counts"][name] == whole["counts"][name] == 1
        assert {key: whole["verdicts"][name][key] for key in alone["verdicts"][name]} == alone["verdicts"][name]
    assert (alone["agreement"]["count"], alone["agreement"]["of"]) == (2, 4)
    assert [(row["task"], row["num_trials"], row["tau2"], row["semantic"]) for row in alone["rows"]] == [
        ("0", 1, 0, 1),
        ("1", 1, 1, 0),
    ]
    assert "the trials on which they differ" in alone["source"]


def test_why_pass_k_ends_early_is_said(tmp_path: Path) -> None:
    rollouts = made.episodes([[1, 0, 1], [1, None, None], [None, None, None]])
    folder = made.write(tmp_path / "a", rollouts)
    card = dependability_card(read_results([folder]), NOBODY)
    assert list(card["users"][0]["pass_hat"]) == ["1"]
    assert "pass^k ends at k = 1: of task hand/made:test:1, 1 of 3 trials were scored" in card["notes"]
    named = [dataclasses.replace(one, task=dataclasses.replace(one.task, public={"task_id": "B7"})) for one in rollouts]
    card = dependability_card(read_results([made.write(tmp_path / "named", named)]), NOBODY)
    assert "pass^k ends at k = 1: of task B7, 1 of 3 trials were scored" in card["notes"]


def test_a_card_is_json_whatever_it_was_made_of(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), stored=False)
    file = folder / "card.json"
    data = json.loads(file.read_text())
    data["success"]["estimate"] = data["identity"]["params"]["temperature"] = float("nan")
    file.write_text(json.dumps(data))
    card = dependability_card(read_results([folder]), NOBODY)
    assert json.dumps(card, allow_nan=False)
    assert card["results"][0]["success"]["estimate"] is None


def test_users_of_one_name_are_told_apart_and_verdicts_count_all_pairs(tmp_path: Path) -> None:
    told = [[[1, 1]] * 8, [[0, 0]] * 2 + [[1, 1]] * 6, [[0, 0]] * 8]
    folders = [
        made.write(
            tmp_path / str(at),
            made.episodes(one),
            made.identity(roles={"user": "gpt"}, role_params={"user": {"temperature": at / 2}}),
        )
        for at, one in enumerate(told)
    ]
    card = dependability_card(read_results(folders), NOBODY)
    assert [user["name"] for user in card["users"]] == [f"gpt (temperature {at})" for at in ("0", "0.5", "1")]
    assert [(row["a"][-2], row["b"][-2]) for row in card["differences"]] == [("0", "5"), ("0", "1"), ("5", "1")]
    assert all(row["p_holm"] >= row["p_value"] for row in card["differences"])
    last = card["differences"][2]
    assert last["p_value"] < 0.05 < last["p_holm"]
    assert last["verdict"] == "not resolved"
