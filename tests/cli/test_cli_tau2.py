"""`banty tau2`, `banty export`, and both graders in what `banty eval` prints and writes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.naive import NaiveDesk
from tests.interop import logs
from tests.policies.test_policies_endpoint import call as called
from tests.policies.test_policies_endpoint import choice, serving
from typer.testing import CliRunner, Result

from banty.cli.app import app
from banty.errors import BantyError

CANCEL = {"name": "cancel_reservation", "arguments": {"reservation_id": "RES001"}}


def banty(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})


def refused(*words: str | Path) -> str:
    done = banty(*words)
    assert isinstance(done.exception, BantyError), done.output
    return str(done.exception)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    home = tmp_path / "data"
    logs.write_json(home / "db.json", DB)
    action = logs.action("cancel_reservation", reservation_id="RES001")
    told = logs.tau2_task("7", [action])
    told["evaluation_criteria"]["communicate_info"] = ["16"]
    logs.write_json(home / "tasks.json", [told, logs.tau2_task("9", [])])
    return home


def test_calls_of_a_file_print_their_hashes_and_texts(data: Path, tmp_path: Path) -> None:
    file = logs.write_json(tmp_path / "calls.json", {"one": [CANCEL, CANCEL], "other": [CANCEL]})
    done = banty("tau2", "calls", file, "--data", data, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    naive = NaiveDesk(DB)
    assert told["database"] == naive.hash()
    for call in told["sequences"]["one"]:
        assert (call["ok"], call["text"]) == naive.call(CANCEL["name"], CANCEL["arguments"])[:2]  # type: ignore[arg-type]
        assert call["database"] == naive.hash()
    assert told["sequences"]["other"] == told["sequences"]["one"][:1], "each sequence begins fresh"
    shown = banty("tau2", "calls", "--task", "7", "--data", data)
    assert f"ok    {told['sequences']['other'][0]['database'][:12]} cancel_reservation: {{" in shown.output
    assert banty("tau2", "calls", "--data", data).exit_code == 2, "a file or a task"
    assert "no task '8'" in refused("tau2", "calls", "--task", "8", "--data", data)


def test_data_is_checked_and_named_by_hash(data: Path) -> None:
    told = json.loads(banty("tau2", "data", "--data", data, "--json").output)
    assert told["database"] == NaiveDesk(DB).hash()
    assert (told["num_tasks"], told["num_write_tasks"], told["failing_gold"]) == (2, 1, {})
    assert set(told["files"]) == {str(data / "db.json"), str(data / "tasks.json")}
    logs.write_json(data / "tasks.json", [logs.tau2_task("7", [logs.action("cancel_reservation", reservation_id="X")])])
    shown = banty("tau2", "data", "--data", data)
    assert "golden actions of task 7 fail: cancel_reservation: Reservation X not found" in shown.output
    refusal = refused("eval", "do-nothing", "--env", "airline/tau2", "-o", f"data={data}", "-o", "customer=silent")
    assert "golden actions of 1 of 1 tasks" in refusal


def evaluated(data: Path, tmp_path: Path, policy: str = "golden-replay") -> Path:
    out = tmp_path / f"run-{policy}"
    options = ["-o", f"data={data}", "-o", "customer=silent", "--split", "base", "--tasks", "2", "--trials", "2"]
    done = banty("eval", policy, "--env", "airline/tau2", *options, "--no-baselines", "--out", out)
    assert done.exit_code == 0, done.output
    return out


def test_an_evaluation_is_exported_graded_and_imported(data: Path, tmp_path: Path) -> None:
    run, file = evaluated(data, tmp_path), tmp_path / "theirs.json"
    done = banty("export", run, "--format", "tau2", "--out", file)
    assert done.exit_code == 0, done.output
    assert f"4 simulations of 2 tasks: {file}" in done.output
    assert "overwrites nothing" in refused("export", run, "--out", file)
    assert f"banty export {run} --format tau2" in refused("tau2", "grade", run, "--data", data)
    assert "'x' is not one of tau2" in refused("export", run, "--format", "x", "--out", tmp_path / "y.json")
    graded = banty("tau2", "grade", file, "--data", data, "--out", tmp_path / "grades.json")
    assert graded.exit_code == 0, graded.output
    assert "4 of 4 simulations graded" in graded.output
    assert re.search(r"reward 1\.000 \[0\.\d+, 1\.000\] .*\(tau2\), .* over 2 tasks, 95 % by task", graded.output)
    assert "the file says otherwise of 0" in graded.output
    assert json.loads((tmp_path / "grades.json").read_text())["num_graded"] == 4
    assert banty("import", file, "--out", tmp_path / "back").exit_code == 0
    again = banty("export", tmp_path / "back", "--out", tmp_path / "again.json")
    assert again.exit_code == 0, again.output
    one, other = (json.loads(path.read_text()) for path in (file, tmp_path / "again.json"))
    assert one["tasks"] == other["tasks"]
    assert one["info"] == other["info"]


def test_doctored_rewards_are_found_and_end_with_status_1(data: Path, tmp_path: Path) -> None:
    run, file = evaluated(data, tmp_path, "do-nothing"), tmp_path / "theirs.json"
    assert banty("export", run, "--out", file).exit_code == 0
    told: dict[str, Any] = json.loads(file.read_text())
    told["simulations"][0]["reward_info"]["reward"] = 1.0
    file.write_text(json.dumps(told))
    done = banty("tau2", "grade", file, "--data", data)
    assert done.exit_code == 1
    assert "task 7, trial 0: reward: the file says 1, re-derived 0" in done.output
    found = json.loads(banty("tau2", "grade", file, "--data", data, "--json").output)
    assert (found["num_simulations"], found["num_differ"]) == (4, 1)


def test_what_was_played_on_another_database_is_not_graded_on_this_one(data: Path, tmp_path: Path) -> None:
    """Golden writes that fail on it would leave it alone, and so would the agent's: equal, and worth nothing."""
    run, file = tmp_path / "run", tmp_path / "theirs.json"
    options = ["--env", "airline/full", "--tasks", "2", "--trials", "1", "--no-baselines"]
    assert banty("eval", "expert", *options, "--out", run).exit_code == 0
    assert banty("export", run, "--out", file).exit_code == 0
    done = banty("tau2", "grade", file, "--data", data)
    assert done.exit_code == 1, "none of the file's verdicts is confirmed"
    assert "0 of 2 simulations graded" in done.output
    assert "it was played on the database generated-" in done.output
    found = json.loads(banty("tau2", "grade", file, "--data", data, "--json").output)
    assert (found["num_graded"], found["mean_reward"]) == (0, None)


def test_both_graders_and_their_disagreements_are_printed_and_in_the_card(data: Path, tmp_path: Path) -> None:
    text = (data / "tasks.json").read_text()
    (data / "tasks.json").write_text(text.replace('"16"', '"1e2"'))  # said to the letter, and not as a number
    out = tmp_path / "run"
    options = ["-o", f"data={data}", "-o", "customer=silent", "--split", "base", "--tasks", "2", "--trials", "1"]
    done = banty("eval", "golden-replay", "--env", "airline/tau2", *options, "--no-baselines", "--out", out)
    assert done.exit_code == 0, done.output
    reason = "tau2 passes and semantic fails: '1e2' stands only inside other words or numbers"
    assert f"task 7, trial 0: {reason}" in done.output
    card = json.loads((out / "card.json").read_text())
    assert (card["graders"]["tau2"]["estimate"], card["graders"]["semantic"]["estimate"]) == (1.0, 0.5)
    (listed,) = card["graders"]["disagreements"]
    assert (listed["public"], listed["reason"]) == ({"task_id": "7"}, reason)
    file = data / "tasks.json"
    assert card["identity"]["provenance"]["tasks_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_both_graders_are_printed_under_each_of_several_users(data: Path, tmp_path: Path) -> None:
    text = (data / "tasks.json").read_text()
    (data / "tasks.json").write_text(text.replace('"16"', '"1e2"'))
    out, options = tmp_path / "two runs", ["-o", f"data={data}", "--split", "base", "--tasks", "2", "--trials", "1"]
    with serving(lambda body: (200, {}, choice({"content": _customer(body["messages"])}))) as server:
        users = ["--user", f"{server.url}#a", "--user", f"{server.url}#b"]
        done = banty("eval", "golden-replay", "--env", "airline/tau2", *options, *users, "--no-baselines", "--out", out)
    assert done.exit_code == 0, done.output
    for name in "ab":
        assert f"{name}: under tau2 1.000" in done.output
        assert f"{name}: under semantic 0.500" in done.output
        assert f"{name}: graders disagree over 1 of 2 episodes, in 1 tasks" in done.output
    reason = "task 7, trial 0: tau2 passes and semantic fails: '1e2' stands only inside other words or numbers"
    assert done.output.count(reason) == 2


def _customer(messages: list[dict[str, str]]) -> str:
    return "Please help me." if all(one["role"] != "assistant" for one in messages) else "###STOP###"


def test_an_endpoint_that_says_nothing_or_calls_unknown_tools_is_seen_to(data: Path, tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "silent": {"content": None},
        "lost": {"content": None, "tool_calls": [called("fly", "{}")]},
    }
    options = ["-o", f"data={data}", "-o", "customer=silent", "--split", "base", "--tasks", "2", "--trials", "1"]
    told = {}
    with serving(lambda body: (200, {}, choice(said[body["model"]]))) as server:
        for name in said:
            words = ["eval", f"{server.url}#{name}", "--env", "airline/tau2", *options, "--no-baselines"]
            done = banty(*words, "--out", tmp_path / name)
            assert done.exit_code == 0, done.output
            told[name] = done.output
    assert re.search(r"95 % by task +│ 0\.000", told["silent"]), "also task 9, which takes no write"
    assert re.search(r"neither text nor a call +│ 1\.000: all of them; look at what the server sends", told["silent"])
    assert re.search(r"calls of tools that are not there +│ \d+ fly", told["lost"])
    assert "2 scored, 0 excluded (2 cut by errors in a row)" in told["lost"]


def test_without_data_it_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAU2_DATA_DIR", raising=False)
    file = logs.write_json(tmp_path / "calls.json", [CANCEL])
    assert "set TAU2_DATA_DIR" in refused("tau2", "calls", file)
    nameless = refused("tau2", "calls", logs.write_json(tmp_path / "bad.json", [{"name": "x"}]), "--data", tmp_path)
    assert nameless.endswith("Give a list of {name, arguments}, or an object of such lists")
    assert "no airline db.json" in refused("tau2", "calls", file, "--data", tmp_path)
    assert "there is no" in refused(
        "tau2", "calls", tmp_path / "none.json", "--data", logs.write_json(tmp_path / "d.json", DB)
    )
