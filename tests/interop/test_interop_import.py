"""An import as a whole: its folder, what reads it, what is refused, and that nothing is written half."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.interop import logs
from typer.testing import CliRunner

from banty.cli.app import app
from banty.errors import InputError, StoreError
from banty.interop import ImportOptions, find_source, read_golden, read_log, write_import
from banty.interop.tau2tasks import bare_task
from banty.records import GoldenCall, ToolCall
from banty.report import headline, write_report
from banty.rollout import Store, group_rollouts, stored_rollouts
from banty.rubrics import label_rollout, read_reward_file
from banty.runs import RunFolder


def tau2_log(tmp_path: Path) -> Path:
    told = [logs.simulation("7"), logs.simulation("7", 1, 0.0), logs.simulation("9", reason="infrastructure_error")]
    return logs.write_json(tmp_path / "run.json", logs.tau2_results(told))


def test_the_store_gives_back_what_was_read(tmp_path: Path) -> None:
    imported = read_log(tau2_log(tmp_path))
    out = write_import(imported, tmp_path / "out")
    assert sorted(Store(out / "rollouts").read(), key=lambda one: one.rollout_id) == sorted(
        imported.rollouts, key=lambda one: one.rollout_id
    )
    assert [len(group.scored) for group in group_rollouts(stored_rollouts(out))] == [2, 0]
    assert read_golden(out / "golden.json") == imported.golden
    assert imported.golden["tau2/airline:imported:0:0"] == (
        ToolCall("cancel_reservation", {"reservation_id": "ZFA04Y"}),
    )
    assert "secret" not in "".join(file.read_text() for file in out.glob("*.json"))


def test_an_import_is_marked_as_one_and_says_what_it_was_made_of(tmp_path: Path) -> None:
    log = tau2_log(tmp_path)
    run = RunFolder.open(write_import(read_log(log), tmp_path / "out"))
    recipe = run.read_json("recipe.json")
    sha256 = hashlib.sha256(log.read_bytes()).hexdigest()
    assert (recipe["kind"], recipe["format"]) == ("import", "tau2")
    assert recipe["files"] == [{"file": str(log), "sha256": sha256}]
    assert recipe["statuses"] == {"completed": 2, "errored infrastructure": 1}
    assert recipe["success"] == "reward within 1e-6 of 1, as tau2-bench counts"
    assert recipe["left_out"] == {}
    assert run.read_json("manifest.json")["import"]["files"][0]["sha256"] == sha256
    assert run.read_json("records.json")[2] == {
        "rollout_id": "tau2/airline:imported:1:0#0",
        "file": str(log),
        "record": 3,
        "log_id": "sim-9-0",
        "task_key": "9",
    }


def test_shards_and_steps_are_parts(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path / "vf", [logs.vf_row(number) for number in range(65)])
    out = write_import(read_log(tmp_path / "vf"), tmp_path / "one")
    assert Store(out / "rollouts").parts() == ["shard-000000", "shard-000001"]
    logs.write_trl(tmp_path / "trl" / "completions_00010.parquet", [logs.trl_row(accuracy=1.0)])
    out = write_import(read_log(tmp_path / "trl"), tmp_path / "two")
    assert Store(out / "rollouts").parts() == ["step-00010"]


def test_inspect_and_report_read_it(tmp_path: Path) -> None:
    out = write_import(read_log(tau2_log(tmp_path)), tmp_path / "out")
    shown = CliRunner().invoke(app, ["inspect", str(out), "--rollout", "0:0#1"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert 'cancel_reservation({"reservation_id": "ZFA04Y"})' in shown.output
    assert "Reservation ZFA04Y not found" in shown.output
    replayed = CliRunner().invoke(app, ["inspect", str(out), "--replay"])
    assert "is an imported log: it can be read, but nothing in it can be played again" in str(replayed.exception)
    said = headline(out)
    assert said.startswith("An imported log (tau2) of some-model: 3 episodes of 2 tasks of tau2/airline, 0.50")
    assert "1 are not scored" in said
    page = write_report(out).read_text()
    assert "Imported log" in page
    assert "Cancel ZFA04Y, please." in page
    assert "training seed" not in page


def test_the_microscope_goes_by_the_golden_calls_of_the_log(tmp_path: Path) -> None:
    out = write_import(read_log(tau2_log(tmp_path)), tmp_path / "out")

    def turns_of(*words: str) -> tuple[list[tuple[str, float | None]], list[str]]:
        words = ("inspect", str(out), "--rollout", "0:0#1", "--json", *words)
        shown = CliRunner().invoke(app, list(words), catch_exceptions=False)
        data = json.loads(shown.output)
        return [(turn["tier"], turn["reward"]) for turn in data["turns"] if turn["tier"]], data["notes"]

    tiers, notes = turns_of()
    assert [tier for tier, _ in tiers] == ["read", "error", "message"]
    assert notes == []
    assert turns_of("--rewards", "naive-dense")[0] == [("read", 0.3), ("error", -0.1), ("message", 0.0)]
    (out / "golden.json").unlink()
    assert "Nobody knows the golden calls" in turns_of()[1][0]
    (out / "golden.json").write_text("{")
    refused = CliRunner().invoke(app, ["inspect", str(out), "--rollout", "0:0#1", "--rewards", "irc"])
    assert str(refused.exception).startswith(f"{out / 'golden.json'} cannot be read as JSON")


def test_nothing_is_written_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = read_log(tau2_log(tmp_path))

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_import(imported, tmp_path / "out", full)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    write_import(imported, tmp_path / "out")
    with pytest.raises(InputError, match="already holds a run"):
        write_import(imported, tmp_path / "out")
    with pytest.raises(InputError):
        read_log(tmp_path / "out" / "recipe.json")


def test_the_format_is_recognized_and_ambiguity_refused(tmp_path: Path) -> None:
    file = tau2_log(tmp_path)
    assert find_source(file).format == "tau2"
    logs.write_verifiers(tmp_path, [logs.vf_row()])
    with pytest.raises(InputError, match="holds logs of tau2 and verifiers; name one with --format"):
        find_source(tmp_path)
    assert find_source(tmp_path, "verifiers").files == (tmp_path / "results.jsonl",)
    with pytest.raises(InputError, match="'tau3' is not one of tau2, verifiers, trl"):
        find_source(tmp_path, "tau3")
    with pytest.raises(InputError, match="holds no log that can be imported"):
        find_source(file, "trl")
    with pytest.raises(InputError, match="there is no"):
        find_source(tmp_path / "nowhere")
    logs.write_jsonl(tmp_path / "sub" / "traces.jsonl", [logs.episode(logs.trace())])
    logs.write_jsonl(tmp_path / "sub" / "results.jsonl", [logs.vf_row()])
    with pytest.raises(InputError, match=r"before and since 0\.4\.0"):
        find_source(tmp_path / "sub")


def test_golden_of_a_person_goes_by_key_by_id_or_by_what_was_asked(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path, [logs.vf_row(0), logs.vf_row(1), logs.vf_row(2), logs.vf_row(3)])
    calls = [{"name": "weather", "arguments": {"city": "Rome"}}]
    given = {"0": calls, "verifiers/my-env:imported:1:0": [], "Question 2?": calls}
    golden = read_log(tmp_path, ImportOptions(golden=logs.write_json(tmp_path / "golden.json", given))).golden
    right = (ToolCall("weather", {"city": "Rome"}),)
    assert list(golden.values()) == [right, (), right]  # of the fourth nobody knows
    with pytest.raises(InputError, match="names none of the 4 tasks of the log, such as '0'; its keys are such as 'x'"):
        read_log(tmp_path, ImportOptions(golden=logs.write_json(tmp_path / "golden.json", {"x": []})))
    with pytest.raises(InputError, match="task '0', call 1: expected an object with 'arguments'"):
        read_log(tmp_path, ImportOptions(golden=logs.write_json(tmp_path / "golden.json", {"0": [{"name": "f"}]})))


def test_the_arguments_that_count_come_along_with_a_golden_call(tmp_path: Path) -> None:
    """As a task of tau2-bench names them; calibrate's labels go by them, and an export names them again."""
    bags = logs.action("update_reservation_baggages", reservation_id="ZFA04Y", total_baggages=3)
    told = logs.tau2_results([logs.simulation("7")])
    told["tasks"] = [logs.tau2_task("7", [bags | {"compare_args": ["reservation_id"]}])]
    imported = read_log(logs.write_json(tmp_path / "run.json", told))
    (golden,) = imported.golden.values()
    assert golden == (GoldenCall(bags["name"], bags["arguments"], compared=("reservation_id",)),)
    out = write_import(imported, tmp_path / "out")
    assert read_golden(out / "golden.json") == imported.golden
    stored = json.loads((out / "golden.json").read_text())[imported.rollouts[0].task.id]
    exported: Any = bare_task("7", stored)["evaluation_criteria"]
    (action,) = exported["actions"]
    assert (action["arguments"], action["compare_args"]) == (bags["arguments"], ["reservation_id"])
    damaged = {"7": [{"name": "f", "arguments": {}, "compare_args": "all"}]}
    with pytest.raises(InputError, match="compare_args: expected a list"):
        read_golden(logs.write_json(tmp_path / "golden.json", damaged))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    file = tau2_log(tmp_path)
    effects = logs.write_json(tmp_path / "effects.json", {"f": "writes"})
    with pytest.raises(InputError, match="gives 'f' the effect 'writes'; it is one of read, write, terminal"):
        read_log(file, ImportOptions(effects=effects))
    with pytest.raises(InputError, match=r"--effects names .* which is not there"):
        read_log(file, ImportOptions(effects=tmp_path / "none.json"))
    with pytest.raises(InputError, match="--reward names columns of TRL's logs"):
        read_log(file, ImportOptions(rewards={"a": 1.0}))
    with pytest.raises(InputError, match="finite number"):
        read_log(file, ImportOptions(success_at=float("nan")))
    with pytest.raises(InputError, match="leave out colons and bars"):
        read_log(file, ImportOptions(env="a|b"))
    with pytest.raises(InputError, match="no rollout to import: left out were 1 no messages"):
        read_log(logs.write_json(tmp_path / "run.json", logs.tau2_results([logs.simulation("7", messages=None)])))


def test_the_command_says_what_it_did_and_what_is_not_known(tmp_path: Path) -> None:
    logs.write_verifiers(tmp_path / "vf", [logs.vf_row(0), logs.vf_row(0, 0.0)])
    words = ["import", str(tmp_path / "vf"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].endswith("1 of 2 scored ones solved (reward at least 1)")
    assert (
        'effects not known of weather; say what they do with --effects FILE, JSON such as {"weather": "read"}' in lines
    )
    assert lines[-1] == f"import: {tmp_path / 'out'}"
    done = CliRunner().invoke(app, [*words, "--json"])
    assert "already holds a run" in str(done.exception)
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "two"), "--json", "--env", "mine"])
    assert json.loads(done.output)["env"] == "mine"
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "three"), "--reward", "a=much"])
    assert "--reward 'a=much' is not COLUMN or COLUMN=WEIGHT" in str(done.exception)
    assert not (tmp_path / "three").exists()


def test_rewards_are_labelled_as_far_as_the_log_says_what_calls_do(tmp_path: Path) -> None:
    file = tau2_log(tmp_path)
    log = read_log(file)
    labels = label_rollout(log.rollouts[0], log.golden[log.rollouts[0].task.id], read_reward_file("irc"))
    assert [label.tier for label in labels] == ["read", "error", "message"]
    logs.write_verifiers(tmp_path / "vf", [logs.vf_row()])
    (unknown,) = read_log(tmp_path / "vf").rollouts
    first, last = label_rollout(unknown, (), read_reward_file("irc"))
    assert (first.tier, first.reward, first.why) == ("", 0.0, "nobody knows whether it changed anything")
    assert last.tier == "message"  # not "noop": what was called may have changed something
    effects = logs.write_json(tmp_path / "effects.json", {"weather": "read"})
    (known,) = read_log(tmp_path / "vf", ImportOptions(effects=effects)).rollouts
    assert [label.tier for label in label_rollout(known, (), read_reward_file("irc"))] == ["read", "noop"]
