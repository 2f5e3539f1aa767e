"""An imported log as an evaluation: what it says is on the card, and what it does not is left out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evals import evaluations as made
from tests.evals.evaluations import GOOD, WRITE, episode

from banty.errors import InputError
from banty.evals.dependability import dependability_card, facts_of_log, read_results
from banty.records import Rollout, ToolCall
from banty.report.dependability import card_headline, dependability_page
from banty.rollout import Store
from banty.runs import RunFolder

ABOUT: dict[str, Any] = {
    "agent_info": {"llm": "agent", "llm_args": {"temperature": 0.5}},
    "user_info": {"llm": "gpt", "llm_args": {"temperature": 0.0}},
    "seed": 300,
}


def imported(folder: Path, rollouts: Sequence[Rollout], **changes: Any) -> Path:
    recipe = {"kind": "import", "env": "hand/made", "split": "test", "success": "reward 1", "effects": {}, **changes}
    RunFolder.create(folder, recipe)
    Store(folder / "rollouts").write("shard-000000", rollouts)
    return folder


def test_what_a_log_says_is_on_its_card(tmp_path: Path) -> None:
    rollouts = [
        episode(0, 0, True, GOOD, WRITE),
        episode(0, 1, False, GOOD),
        episode(1, 0, True, GOOD),
        episode(1, 1, True, GOOD),
        episode(1, 2, None),
    ]
    results = read_results([imported(tmp_path / "log", rollouts, about=ABOUT)])
    golden = {"hand/made:test:0:0": (ToolCall("book", {}),), "hand/made:test:1:0": (ToolCall("find", {}),)}
    facts = facts_of_log(golden, {"book": "write", "find": "read"})
    card = dependability_card(results, facts)
    (user,) = card["users"]
    assert user["success"]["by_task"]["estimate"] == 0.75
    assert user["pass_hat"]["2"]["by_task"]["estimate"] == 0.5
    assert (user["name"], user["temperature"]) == ("gpt", 0.0)
    assert (card["subject"]["temperature"], card["subject"]["max_turns"]) == (0.5, None)
    assert (user["episodes"]["num_scored"], user["episodes"]["num_excluded"]) == (4, 1)
    rows = {row["name"]: row for row in user["strata"]["rows"]}
    assert (rows["write"]["num_tasks"], rows["write"]["success"]["by_task"]["estimate"]) == (1, 0.5)
    assert rows["all"]["do_nothing"]["estimate"] is None, "nobody can play it here"
    assert user["intents"]["source"] == "the tasks' public part"
    assert "is an imported log" in " ".join(card["notes"])
    assert "Not audited" in card_headline(card)
    assert "doing nothing on" not in dependability_page(json.loads(json.dumps(card)))


def test_a_log_s_user_has_the_version_that_the_log_tells(tmp_path: Path) -> None:
    rollouts = [episode(0, 0, True, GOOD, WRITE), episode(1, 0, True, GOOD)]
    ours = {"name": "gpt", "kind": "endpoint", "served": ["gpt-1"], "guidelines_sha256": "ab" * 32, "checks_version": 2}
    told: list[tuple[Any, str]] = [
        (ours, "served gpt-1, guidelines abababababab, checks 2"),
        ({"guidelines_sha256": "cd" * 32}, "guidelines cdcdcdcdcdcd"),
        ({"served": "gpt", "checks_version": ["?"], "name": None}, ""),
        ("damaged", ""),
    ]
    for place, (version, said) in enumerate(told):
        about = {**ABOUT, "user_info": {**ABOUT["user_info"], "banty": version}}
        results = read_results([imported(tmp_path / str(place), rollouts, about=about)])
        (user,) = dependability_card(results, facts_of_log({}, {}))["users"]
        assert (user["name"], user["version"], user["temperature"]) == ("gpt", said, 0.0)


def test_a_log_without_reference_paths_or_with_unknown_tools(tmp_path: Path) -> None:
    assert facts_of_log({}, {}).why_not == "the log has no reference paths"
    golden = {"a:b:0:0": (ToolCall("book", {}),), "a:b:1:0": (ToolCall("odd", {}),)}
    assert "does not say whether odd on its reference paths changes" in facts_of_log(golden, {"book": "write"}).why_not


def test_logs_of_more_than_one_policy_have_no_card(tmp_path: Path) -> None:
    both = made.episodes([[1, 0], [0, 1]])
    other = [dataclasses.replace(one, policy="another" if one.trial else one.policy) for one in both]
    with pytest.raises(InputError, match=r"is a log of 2 policies, .*another"):
        read_results([imported(tmp_path / "a", other)])
    steps = [dataclasses.replace(one, version=one.trial) for one in both]
    with pytest.raises(InputError, match="several collections, such as the steps of a training run"):
        read_results([imported(tmp_path / "b", steps)])
    unscored = made.episodes([[None], [None]])
    with pytest.raises(InputError, match="holds no scored episode"):
        read_results([imported(tmp_path / "c", unscored)])
