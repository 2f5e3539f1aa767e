"""`banty diagnose` on an evaluation, on two, and on somebody else's log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.test_cli_models import banty, did
from tests.interop import logs

SMALL = ("--env", "airline/mini", "--tasks", "12", "--trials", "2", "--no-baselines")


def test_an_evaluation_and_what_another_does_otherwise(tmp_path: Path) -> None:
    did("eval", "habits", *SMALL, "--out", str(tmp_path / "habits"))
    did("eval", "expert", *SMALL, "--out", str(tmp_path / "expert"))
    found = json.loads(did("diagnose", str(tmp_path / "habits"), "--json"))
    assert found["num_failures"] == sum(row["share"]["count"] for row in found["causes"]) > 0
    assert found["num_without_reference"] == 0
    shown = did("diagnose", str(tmp_path / "habits"))
    example = found["causes"][0]["examples"][0]["rollout_id"]
    assert example in shown
    assert "Why: the first departure" in shown
    did("inspect", str(tmp_path / "habits"), "--rollout", example)
    compared = did("diagnose", str(tmp_path / "habits"), str(tmp_path / "expert"))
    assert "0 of 24 scored episodes fail" in compared
    assert "What changed" in compared


def test_a_transfer_of_the_airline_is_a_handing_over_though_it_changes_nothing(tmp_path: Path) -> None:
    did("eval", "always-transfer", *SMALL, "--out", str(tmp_path / "a"))
    found = json.loads(did("diagnose", str(tmp_path / "a"), "--json"))
    assert {row["cause"] for row in found["causes"]} == {"handed_off"}
    compared = did("diagnose", str(tmp_path / "a"), str(tmp_path / "a"))
    assert f"A is {tmp_path / 'a'}" in "".join(compared.splitlines())


def test_a_log_without_reference_calls_says_so(tmp_path: Path) -> None:
    file = logs.write_jsonl(tmp_path / "traces.jsonl", [logs.trace("k0", score=0.0)])
    did("import", str(file), "--out", str(tmp_path / "theirs"))
    assert "of 1 episodes nobody knows which changes the task needs" in did("diagnose", str(tmp_path / "theirs"))


def test_a_log_of_tau2_bench_is_diagnosed_with_its_own_golden_calls(tmp_path: Path) -> None:
    file = logs.write_json(tmp_path / "theirs.json", logs.tau2_results([logs.simulation("7"), logs.simulation("7", 1)]))
    did("import", str(file), "--out", str(tmp_path / "theirs"))
    found = json.loads(did("diagnose", str(tmp_path / "theirs"), "--json"))
    assert found["num_scored"] == 2
    assert found["env"] == ["tau2/airline"]


def test_an_environment_of_ones_own_is_found_again_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = f"{Path('examples/library_desk.py').resolve()}:CoachedLibraryTasks"
    folder = str(tmp_path / "own")
    did("eval", "habits", "--env", env, "--allow-code", *SMALL[2:], "--out", folder)
    monkeypatch.chdir(tmp_path)
    assert json.loads(did("diagnose", folder, "--allow-code", "--json"))["num_without_reference"] == 0
    assert "replayed" in did("inspect", folder, "--replay", "--allow-code")
    said = banty("diagnose", folder)
    assert said.status == 2
    assert "add --allow-code to run it" in said.err


def test_what_holds_no_rollouts_is_refused(tmp_path: Path) -> None:
    result = banty("diagnose", str(tmp_path))
    assert result.status == 2
    assert "holds no rollouts" in result.err
