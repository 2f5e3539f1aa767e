"""Which episodes are shown, and what is marked in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests import rollouts_by_hand as by_hand
from tests.report import folders

from banty.records import CallFault, CallResult, Message, Outcome, Rollout, ToolCall, Turn
from banty.report.episodes import EpisodeView, chosen_episodes
from banty.report.source import read_source
from banty.rollout import Store


def shown(run: Path) -> list[tuple[str, list[str]]]:
    readings, notes = chosen_episodes(read_source(run))
    assert notes == []
    return [(one.title, [f"{view.side} {view.rollout_id}".strip() for view in one.episodes]) for one in readings]


def add(run: Path, when: str, successes: list[list[int | None]]) -> None:
    told = folders.rollouts(successes)
    folders.add_eval(run / f"eval-{when}", list(reversed(told)), folders.card_of(told, f"nano {when}"))


def test_the_first_mended_and_the_first_that_still_fails(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run")
    add(run, "before", [[1, 1], [0, None], [0, 0], [0, 0]])
    add(run, "after", [[1, 0], [0, 1], [0, 1], [0, 0]])
    mended = "hand/made:test:2:0#1"
    assert shown(run) == [
        ("Failed before, solved after", [f"before {mended}", f"after {mended}"]),
        ("Still fails", ["after hand/made:test:0:0#1"]),
    ]


def test_another_task_is_taken_for_what_still_fails_where_there_is_one(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "run")
    add(run, "before", [[0, 0], [0, 0]])
    add(run, "after", [[1, 0], [0, 0]])
    assert shown(run)[1] == ("Still fails", ["after hand/made:test:1:0#0"])


def test_without_failures_without_an_end_and_without_evaluations(tmp_path: Path) -> None:
    run = folders.new_run(tmp_path / "perfect")
    add(run, "before", [[1], [1]])
    add(run, "after", [[1], [1]])
    assert shown(run) == [("Solved", ["hand/made:test:0:0#0"])]
    run = folders.new_run(tmp_path / "half")
    add(run, "before", [[1, 0], [0, 1]])
    assert shown(run) == [("Failed", ["hand/made:test:0:0#1"]), ("Solved", ["hand/made:test:0:0#0"])]
    run = folders.new_run(tmp_path / "unevaluated")
    for step, successes in enumerate(([[0]], [[1]])):
        Store(run / "rollouts").write(f"step-{step:06d}", folders.rollouts(successes))
    assert shown(run) == [("Solved", ["hand/made:test:0:0#0"])], "of the last step"


def view_of(tmp_path: Path, *turns: Turn, opening: tuple[Message, ...] = ()) -> EpisodeView:
    rollout = dataclasses.replace(by_hand.rollout(turns, False), opening=opening)
    return view(tmp_path, rollout)


def view(tmp_path: Path, rollout: Rollout) -> EpisodeView:
    folder = folders.add_eval(tmp_path / "eval", [rollout], folders.card_of([rollout], "nano", num_trials=1))
    return chosen_episodes(read_source(folder))[0][0].episodes[0]


def calling(index: int, result: CallResult, *answers: Message, fault: CallFault | None = None) -> Turn:
    calls = () if fault else (ToolCall(result.name, result.arguments),)
    message = Message("assistant", "", calls, (fault,) if fault else ())
    return dataclasses.replace(by_hand.turn(index), message=message, calls=(result,), observation=answers)


def test_errors_repeats_and_broken_calls_are_marked(tmp_path: Path) -> None:
    look = CallResult("look", {"id": "A"}, "nothing", "read")
    found = view_of(
        tmp_path,
        calling(0, look, Message("tool", "nothing")),
        calling(1, look, Message("tool", "nothing"), Message("user", "and now?")),
        calling(2, CallResult("look", {"id": "B"}, "Error: no B", "read", "tool"), Message("tool", "Error: no B")),
        calling(
            3,
            CallResult("look", {}, "Error: no JSON", "none", "malformed"),
            Message("tool", "Error: no JSON"),
            fault=CallFault("malformed", "no JSON", raw="<tool_call>{", name="look"),
        ),
        dataclasses.replace(by_hand.turn(4), message=Message("assistant", "Hello  there"), finish="length"),
        dataclasses.replace(by_hand.turn(5), message=Message("assistant", "Hello there")),
    )
    assert [entry.role for entry in found.entries] == ["assistant", "assistant", "user", *["assistant"] * 4]
    turns = [entry for entry in found.entries if entry.turn]
    assert [call.tags for entry in turns[:4] for call in entry.calls] == [
        (),
        ("same call as in turn 0",),
        ("the tool refused",),
        ("broken call: malformed",),
    ]
    assert turns[3].calls[0].arguments == "<tool_call>{"
    assert turns[3].calls[0].output == "Error: no JSON"
    assert turns[3].faults == ()
    assert turns[4].tags == ("cut at the token limit",)
    assert turns[5].tags == ("same words as turn 4",)
    assert [entry.marked for entry in turns] == [False, True, True, True, True, True]


def test_an_environment_that_reports_no_calls_shows_what_was_said(tmp_path: Path) -> None:
    message = Message("assistant", "", (ToolCall("look", {"id": "A"}),), (CallFault("truncated", "cut", raw="<tool"),))
    answer = dataclasses.replace(by_hand.turn(0), message=message, observation=(Message("tool", "found"),))
    asked = dataclasses.replace(by_hand.turn(1, actor="user", trainable=False), message=Message("assistant", "psst"))
    found = view_of(tmp_path, answer, asked, opening=(Message("system", "Rules"), Message("user", "Hi")))
    assert [(entry.role, entry.text) for entry in found.entries] == [
        ("system", "Rules"),
        ("user", "Hi"),
        ("assistant", ""),
        ("tool", "found"),
        ("user was asked", "psst"),
    ]
    assert [(call.name, call.arguments) for call in found.entries[2].calls] == [("look", 'id="A"')]
    assert found.entries[2].faults == (("truncated: cut", "<tool"),)


def test_the_verdict_and_its_failed_components_come_last(tmp_path: Path) -> None:
    outcome = Outcome(False, 0.0, {"told": 1.0, "database": 0.0, "ended": None}, "the database differs")
    rollout = dataclasses.replace(by_hand.rollout([by_hand.turn(0, by_hand.segment([1], [2, 3]))]), outcome=outcome)
    found = view(tmp_path, rollout)
    assert (found.verdict, found.solved, found.reason) == ("failure", False, "the database differs")
    assert found.components == (("database", "0.0", True), ("ended", "–", False), ("told", "1.0", False))
    assert found.summary == "completed, 1 turn, 2 sampled tokens"
    assert found.entries[0].tokens == "2 tokens"
