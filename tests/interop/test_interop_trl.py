"""TRL's logged completions: groups by prompt and step, rewards by function, calls out of Parquet's structs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.interop import logs

from banty.errors import InputError
from banty.interop import ImportedLog, ImportOptions, read_log

NAN = float("nan")


def read(tmp_path: Path, *files: list[dict[str, Any]], **options: Any) -> ImportedLog:
    for number, rows in enumerate(files):
        logs.write_trl(tmp_path / "completions" / f"completions_{10 * number + 10:05d}.parquet", rows)
    return read_log(tmp_path, ImportOptions(**options))


def test_rows_of_a_prompt_and_a_step_are_a_group(tmp_path: Path) -> None:
    other = [{"role": "user", "content": "Other?"}]
    first = [logs.trl_row(accuracy=1.0), logs.trl_row(accuracy=0.0), logs.trl_row(other, accuracy=0.0)]
    log = read(tmp_path, first, [logs.trl_row(step=20, accuracy=1.0)])
    one, two, three, late = log.rollouts
    assert (one.group_id, one.trial, two.trial) == (two.group_id, 0, 1)
    assert three.task != one.task
    assert late.task == one.task
    assert late.group_id != one.group_id
    assert (late.version, late.rollout_id) == (20, f"step-00020|{one.task.id}#0")
    looked, said = one.turns
    assert looked.message.calls[0].arguments == {"city": "Rome"}
    assert (looked.calls[0].error, looked.calls[0].effect) == ("tool", "unknown")  # the trainer's own words of an error
    assert said.message.content == "I do not know."
    assert [one.outcome.success, two.outcome.success] == [True, False]


def test_arguments_of_other_calls_are_not_mixed_in(tmp_path: Path) -> None:
    """Parquet gives every struct the fields of all, null where a row has none."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    log = read(
        tmp_path,
        [
            logs.trl_row(accuracy=1.0),
            logs.trl_row(None, [{"role": "assistant", "content": None, "tool_calls": [call]}], accuracy=1.0),
        ],
    )
    assert log.rollouts[0].turns[0].message.calls[0].arguments == {"city": "Rome"}
    assert log.rollouts[1].turns[0].message.calls[0].arguments == {"a": 1, "b": 2}


def test_rewards_are_summed_as_the_trainer_does_or_as_told(tmp_path: Path) -> None:
    rows = [
        logs.trl_row(accuracy=1.0, style=0.5),
        logs.trl_row(accuracy=NAN, style=1.0),
        logs.trl_row(accuracy=NAN, style=NAN),
    ]
    log = read(tmp_path, rows)
    assert [one.outcome.reward for one in log.rollouts] == [1.5, 1.0, None]
    assert log.rollouts[1].outcome.components == {"accuracy": None, "style": 1.0}
    assert not log.rollouts[2].scored
    assert log.recipe["success"] == "accuracy + style at least 1"
    log = read(tmp_path, rows, rewards={"style": 2.0}, success_at=2.0)
    assert [one.outcome.success for one in log.rollouts] == [False, True, None]
    assert log.recipe["success"] == "2 style at least 2"
    with pytest.raises(InputError, match="no column of numbers 'taste' for --reward; it has accuracy, style"):
        read(tmp_path, rows, rewards={"taste": 1.0})


def test_a_generation_that_was_logged_again_counts_once(tmp_path: Path) -> None:
    first = [logs.trl_row(accuracy=1.0, style=NAN), logs.trl_row(accuracy=0.0, style=NAN)]
    again = [{**row, "step": 20} for row in first]
    log = read(tmp_path, first, again, [logs.trl_row(step=30, accuracy=1.0, style=0.0)])
    assert [one.version for one in log.rollouts] == [10, 10, 30]
    assert log.recipe["left_out"] == {"row of a generation that an earlier step had logged": 2}


def test_plain_texts_and_the_early_column_are_read(tmp_path: Path) -> None:
    rows = [logs.trl_row("Say it.", "It.", reward=1.0, accuracy=0.0)]
    (rollout,) = read(tmp_path, rows).rollouts
    assert [message.content for message in rollout.opening] == ["Say it."]
    assert [turn.message.content for turn in rollout.turns] == ["It."]
    assert rollout.outcome.reward == 1.0  # `reward` is the whole already


def test_damage_is_named(tmp_path: Path) -> None:
    file = logs.write_trl(
        tmp_path / "completions_00010.parquet", [logs.trl_row(None, [{"role": "judge", "content": ""}], accuracy=1.0)]
    )
    with pytest.raises(InputError, match=r"completions_00010.parquet, record 1, completion, message 1, role: expected"):
        read_log(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="no whole Parquet file"):
        read_log(file)
    logs.write_trl(file, [{"step": 1, "text": "hello"}])
    with pytest.raises(InputError, match="expected TRL's completions, with columns prompt and completion"):
        read_log(tmp_path)
    logs.write_trl(file, [logs.trl_row()])
    with pytest.raises(InputError, match="expected a column of rewards"):
        read_log(file)
