"""`banty inspect --rollout`: the microscope over runs of habits and of a tiny model, against the store and by hand."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_cli_models import assert_refused, banty, did, here, workshop
from tests.cli.test_cli_tokens import told

from banty.cli.choices import credit_of
from banty.cli.microscope import specs_of
from banty.cli.scoring import scores_of
from banty.credit import CreditSpec, GroupRewards, estimator_of
from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.models.habits import HabitWeights
from banty.records import Outcome, Rollout
from banty.rollout import Store, stored_rollouts
from banty.rubrics import Labeller, read_reward_file
from banty.runs import RunFolder
from banty.train.rewards import FIRST

__all__ = ["here"]  # a fixture
HABITS = """
[train]
steps = 3
tasks_per_step = 3
rollouts_per_task = 4

[rewards]
file = "naive-dense"
weight = 0.5

[credit]
estimator = "mt_grpo"

[eval]
num_tasks = 2
num_trials = 2
"""


@functools.cache
def habits() -> Path:
    """A run of the habit policy with dense rewards; not to be written into."""
    folder = Path(tempfile.mkdtemp(prefix="banty-microscope-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "habits.toml").write_text(HABITS)
    did("train", str(folder / "habits.toml"), "--out", str(folder / "run"))
    return folder / "run"


def mixed(folder: Path, step: str = "step-") -> Rollout:
    """A failed rollout of a group that also has successes."""
    rollouts = [one for one in stored_rollouts(folder) if one.rollout_id.startswith(step)]
    for one in rollouts:
        outcomes = {other.outcome.success for other in rollouts if other.group_id == one.group_id}
        if outcomes == {True, False} and not one.outcome.success:
            return one
    raise AssertionError("no group has both")


def seen(folder: Path, rollout: str, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(did("inspect", str(folder), "--rollout", rollout, "--json", *words))
    return found


def by_hand(members: list[Rollout], spec: CreditSpec, rewards: list[list[float]] | None = None) -> Any:
    """The estimator on a group written out from the store."""
    given = rewards or [[turn.reward or 0.0 for turn in one.turns if turn.trainable] for one in members]
    outcomes = np.array([float(bool(one.outcome.success)) for one in members])
    return estimator_of(spec)([GroupRewards(outcomes, [np.array(one) for one in given])])[0]


def group_of(folder: Path, rollout: Rollout) -> list[Rollout]:
    members = [one for one in stored_rollouts(folder) if one.group_id == rollout.group_id and one.scored]
    return sorted(members, key=lambda one: one.trial)


# Credit.


def test_the_runs_own_estimator_and_rloo_on_rewards_as_stored() -> None:
    one = mixed(habits())
    data = seen(habits(), one.rollout_id)
    members = group_of(habits(), one)
    place = [each.rollout_id for each in members].index(one.rollout_id)
    assert [each["name"] for each in data["estimators"]] == ["mt_grpo", "rloo"]
    assert any(turn["reward"] for turn in data["turns"])
    for number, name in enumerate(("mt_grpo", "rloo")):
        wanted = by_hand(members, CreditSpec(estimator=name)).advantages
        assert [turn["credit"][number]["advantage"] for turn in data["turns"]] == pytest.approx(wanted[place].tolist())
        rows = list(data["estimators"][number]["advantages"].values())
        assert rows == [pytest.approx(row.tolist()) for row in wanted]
    assert data["group"]["num_scored"] == 4
    assert [each["success"] for each in data["group"]["members"]] == [each.outcome.success for each in members]
    assert data["outcome"]["success"] is False
    assert data["transcript"], "what inspect --rollout --json has always said stays"


def test_any_two_estimators_with_options_under_any_reward_file() -> None:
    one = mixed(habits())
    words = ("--credit", "hybrid,gamma=0.8,outcome_weight=0.5", "--credit", "unbiased", "--rewards", "irc")
    data = seen(habits(), one.rollout_id, *words)
    members = group_of(habits(), one)
    labeller = Labeller(make_taskset("airline/mini"), read_reward_file("irc"))
    rewards = [[label.reward for label in labeller(member)] for member in members]
    place = [each.rollout_id for each in members].index(one.rollout_id)
    for number, spec in enumerate(
        (CreditSpec(estimator="hybrid", gamma=0.8, outcome_weight=0.5), CreditSpec(estimator="unbiased"))
    ):
        credit = by_hand(members, spec, rewards)
        found = [turn["credit"][number] for turn in data["turns"]]
        assert [each["advantage"] for each in found] == pytest.approx(credit.advantages[place].tolist())
        assert [each["parts"]["return"] for each in found] == pytest.approx(credit.parts["return"][place].tolist())
    assert [turn["reward"] for turn in data["turns"]] == pytest.approx(rewards[place])
    assert [turn["tier"] for turn in data["turns"]] == [label.tier for label in labeller(one)]
    assert data["notes"] == ["Turn rewards are those of irc, version 1, unscaled."]


def test_without_a_reward_file_asked_for_tiers_are_those_of_the_runs_own_copy() -> None:
    one = mixed(habits())
    labeller = Labeller(make_taskset("airline/mini"), read_reward_file(habits() / FIRST))
    data = seen(habits(), one.rollout_id)
    assert [turn["tier"] for turn in data["turns"]] == [label.tier for label in labeller(one)]
    stored = [turn.reward for turn in one.turns if turn.trainable]
    assert [turn["reward"] for turn in data["turns"]] == stored
    assert stored == pytest.approx([0.5 * label.reward for label in labeller(one)])


def test_a_terminal_shows_reasons_beneath_turns_and_a_table() -> None:
    one = mixed(habits())
    printed = did("inspect", str(habits()), "--rollout", one.rollout_id)
    data = seen(habits(), one.rollout_id)
    for turn in data["turns"]:
        for credit in turn["credit"]:
            assert f"= {credit['reason']}" in printed
    assert f"group {one.group_id}: 4 scored, outcomes" in printed
    assert "advantages by turn" in printed
    assert "sampler" not in printed, "tokens on demand"


def test_an_evaluations_rollouts_are_compared_by_rloo_and_the_hybrid() -> None:
    (one, *_) = stored_rollouts(habits() / "eval-after")
    data = seen(habits() / "eval-after", one.rollout_id)
    assert [each["name"] for each in data["estimators"]] == ["rloo", "hybrid"]
    assert data["group"]["num_scored"] == 2


# Tokens.


def test_decisions_of_a_habit_run_with_both_logprobs() -> None:
    one = mixed(habits(), "step-0000")
    data = seen(habits(), one.rollout_id, "--tokens", "--trainer")
    expert = make_taskset("airline/mini").expert()
    assert expert is not None
    words = [word for pair in expert.points.values() for word in pair]
    sampled = [token for turn in data["turns"] for token in turn["tokens"] if token["trained"]]
    ids = [token for turn in one.turns if turn.segment for token in turn.segment.sampled_ids]
    assert [token["id"] for token in sampled] == ids
    assert [token["text"] for token in sampled] == [words[token - 1] for token in ids]
    assert [token["drift"] for token in sampled] == pytest.approx([0.0] * len(ids), abs=1e-6)
    assert "Trainer logprobs are on version 0, which sampled this rollout (where the run started)." in data["notes"]


def test_weights_that_are_not_kept_are_said_to_be_others() -> None:
    late, middle = mixed(habits(), "step-0002"), mixed(habits(), "step-0001")
    scores = scores_of(habits(), late)
    assert "on version 2, which sampled this rollout (checkpoints/step-000001)" in scores.note
    weights = HabitWeights.load(habits() / "checkpoints" / "step-000001").logprobs()
    for turn in late.turns:
        assert turn.segment is not None
        wanted = [weights[(one - 1) // 2, (one - 1) % 2] for one in turn.segment.sampled_ids]
        assert scores.logprobs[turn.index] == pytest.approx(wanted, abs=1e-6)
    assert "Version 1, which sampled this rollout, is not kept" in scores_of(habits(), middle).note


def test_tokens_of_a_tiny_model_with_the_learners_logprobs(here: Path) -> None:
    rollouts = stored_rollouts(workshop() / "rl")
    for step, said in (
        ("step-0000", "version 0, which sampled this rollout (where the run started)"),
        ("step-0002", "version 2, which sampled this rollout (checkpoints/step-000001)"),
    ):
        one = next(each for each in rollouts if each.rollout_id.startswith(step))
        data = seen(workshop() / "rl", one.rollout_id, "--tokens", "--trainer")
        assert any(said in note for note in data["notes"]), data["notes"]
        for shown, turn in zip(data["turns"], one.agent_turns, strict=True):
            assert turn.segment is not None
            ids = [*turn.segment.prompt_ids, *turn.segment.sampled_ids]
            assert [token["id"] for token in shown["tokens"]] == ids
            assert [token["text"] for token in shown["tokens"]] == [told([each]) for each in ids]
            sampled = shown["tokens"][len(turn.segment.prompt_ids) :]
            assert [token["trained"] for token in shown["tokens"]] == [False] * len(turn.segment.prompt_ids) + [
                True
            ] * len(sampled)
            assert [token["sampler_logprob"] for token in sampled] == pytest.approx(list(turn.segment.sampler_logprobs))
            assert max(abs(token["drift"]) for token in sampled) < 1e-4, "the same weights"
    printed = did("inspect", str(workshop() / "rl"), "--rollout", one.rollout_id, "--tokens", "--trainer")
    assert all(name in printed for name in ("mask", "sampler", "trainer", "drift"))


def test_an_evaluation_is_scored_on_the_weights_it_names(here: Path) -> None:
    for name in ("rl/eval-before", "rl/eval-after"):
        (one, *_) = stored_rollouts(workshop() / name)
        scores = scores_of(workshop() / name, one)
        for turn in one.agent_turns:
            assert turn.segment is not None
            assert scores.logprobs[turn.index] == pytest.approx(list(turn.segment.sampler_logprobs), abs=1e-4)
    shutil.copytree(workshop() / "sft" / "eval-after", here / "moved")
    (one, *_) = stored_rollouts(here / "moved")
    assert "whose answers these are" in scores_of(here / "moved", one).note
    recipe = json.loads((here / "moved" / "recipe.json").read_text())
    recipe["policy_details"]["weights_sha256"] = "0" * 64
    (here / "moved" / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="measured; bring them back"):
        scores_of(here / "moved", one)


def test_what_cannot_be_had_here_is_a_note_and_the_rest_is_shown(here: Path) -> None:
    shutil.copytree(workshop() / "rl", here / "sent", ignore=shutil.ignore_patterns("weights"))
    recipe = json.loads((here / "sent" / "recipe.json").read_text())
    recipe["policy"]["start"] = str(here / "gone")
    (here / "sent" / "recipe.json").write_text(json.dumps(recipe))
    (one, *_) = stored_rollouts(here / "sent")
    data = seen(here / "sent", one.rollout_id, "--tokens", "--trainer")
    assert [note.split(":")[0] for note in data["notes"]] == [
        "No tiers",
        "No trainer logprobs",
        "Tokens are shown by their ids",
    ]
    assert "add --allow-code" in data["notes"][0]
    assert "there is no model folder" in data["notes"][1]
    assert {token["text"] for turn in data["turns"] for token in turn["tokens"]} == {None}
    assert len(data["estimators"]) == 2
    allowed = seen(here / "sent", one.rollout_id, "--allow-code")
    assert {turn["tier"] for turn in allowed["turns"]} <= {"message", "error", "read"}


def test_a_bare_store_has_credit_and_nothing_else() -> None:
    one = mixed(habits())
    data = seen(habits() / "rollouts", one.rollout_id, "--tokens")
    assert [each["name"] for each in data["estimators"]] == ["rloo", "hybrid"]
    assert {turn["tier"] for turn in data["turns"]} == {None}
    assert data["notes"][-1].startswith("Decisions are shown by their ids")


# What is typed.


def test_an_estimator_is_typed_as_a_recipe_has_it() -> None:
    assert credit_of("hybrid") == CreditSpec(estimator="hybrid")
    assert credit_of("hybrid, gamma=0.8,compare=pooled") == CreditSpec(estimator="hybrid", gamma=0.8, compare="pooled")
    assert specs_of((), CreditSpec()) == (CreditSpec(), CreditSpec(estimator="hybrid"))
    assert specs_of((), CreditSpec(estimator="grpo")) == (CreditSpec(estimator="grpo"), CreditSpec())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--credit", "magic"), "credit.estimator is 'magic'; known are rloo"),
        (("--credit", "rloo,gamma=0.5"), "rloo does not heed it"),
        (("--credit", "hybrid,gama=0.5"), "did you mean 'gamma'?"),
        (("--credit", "hybrid,gamma"), "'gamma' is not OPTION=VALUE, such as hybrid,gamma=0.8"),
        (("--credit", "hybrid,gamma=often"), "gamma takes a number, got 'often'"),
        (("--credit", "rloo", "--credit", "grpo", "--credit", "gtpo"), "2 estimators are shown side by side"),
        (("--rewards", "magic"), "no reward file 'magic'"),
        (("--html", "."), "is a folder; name a file"),
    ],
)
def test_what_cannot_work_is_refused(words: tuple[str, ...], says: str) -> None:
    one = mixed(habits())
    assert_refused(banty("inspect", str(habits()), "--rollout", one.rollout_id, *words), says)


def test_close_looks_need_one_rollout() -> None:
    for words in (("--credit", "rloo"), ("--html", "x.html"), ("--trainer",), ("--rewards", "irc")):
        assert_refused(banty("inspect", str(habits()), *words), f"{words[0]} looks at one rollout; name it")
        said = banty("inspect", str(habits()), "--rollout", "step-0000", *words)
        assert_refused(said, "--rollout 'step-0000' names 12")
    said = banty("inspect", str(habits()), "--rollout", "nowhere")
    assert_refused(said, "names none of 36 rollouts; give an id that is there, such as 'step-0000|airline/mini:train:")


def test_a_rollout_without_credit_is_refused_where_credit_was_asked_for(here: Path) -> None:
    one = mixed(habits())
    errored = dataclasses.replace(one, status="errored", cause="simulator", outcome=Outcome())
    broken = [errored if each.rollout_id == one.rollout_id else each for each in group_of(habits(), one)]
    RunFolder.create(here / "run", {})
    Store(here / "run" / "rollouts").write("step-000000", broken)
    words = ("inspect", str(here / "run"), "--rollout", one.rollout_id)
    assert_refused(banty(*words, "--credit", "rloo"), "has no advantage: it is not scored: errored (simulator)")
    assert "No advantage: it is not scored: errored (simulator)" in did(*words)
    other = next(each for each in broken if each.scored)
    assert "3 scored, 1 unscored left out" in did("inspect", str(here / "run"), "--rollout", other.rollout_id)


def test_a_page_is_written_and_said(here: Path) -> None:
    one = mixed(habits())
    words = ("inspect", str(habits()), "--rollout", one.rollout_id, "--html", "turn.html", "--trainer")
    assert did(*words) == "page: turn.html\n"
    page = (here / "turn.html").read_text()
    assert one.rollout_id in page
    assert page.count('class="turn"') == len(one.agent_turns)
    (here / "notes.txt").write_text("mine")
    assert_refused(banty(*words[:-2], "notes.txt"), "is there and is no report")
    assert (here / "notes.txt").read_text() == "mine"
