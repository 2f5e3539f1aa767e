"""`banty card` from the command line, on small evaluations of the habit policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evals import evaluations as made
from tests.published_data import PLACE
from typer.testing import CliRunner, Result

from banty.cli.app import app
from banty.errors import InputError, StoreError

AUDIT = {
    "format": "banty-audit-1",
    "may_be_called_held_out": True,
    "sentence": "Nothing in these tasks is in the training tasks.",
    "train": {"name": "TRAIN", "num_tasks": 9},
    "test": {"tasks_sha256": made.identity()["tasks_sha256"]},
    "overlaps": [{"measure": "text", "level": "none"}],
    "overlapping_tasks": [],
}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "eval"
    done = run("eval", "habits:0.2", "--tasks", 8, "--trials", 2, "--out", folder, "--json")
    assert done.exit_code == 0, done.output
    return folder


def test_both_files_say_the_same(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "card"
    done = run("card", measured, "--out", out, "--price", "frontier=3,15")
    assert done.exit_code == 0, done.output
    data = json.loads((out / "card.json").read_text())
    assert sorted(place.name for place in out.iterdir()) == ["card.html", "card.json"]
    assert data["format"] == "banty-dependability-1"
    (user,) = data["users"]
    told = json.loads((measured / "card.json").read_text())
    assert user["success"]["by_task"] == told["success"]
    assert user["source"] == "rollouts"
    assert {row["name"] for row in user["strata"]["rows"]} >= {"all", "write"}
    assert user["intents"]["source"] == "the tasks' public part"
    assert [row["name"] for row in user["cost"]["per_solved"]] == ["frontier"]
    assert data["audit"]["audited"] is False
    assert data["results"][0]["policy_details"]["weights_sha256"]
    assert "Not audited" in done.output
    assert "held-out" not in done.output
    assert f"card: {out / 'card.html'}" in done.output


def test_the_habits_counted_are_the_rollouts_own(measured: Path, tmp_path: Path) -> None:
    done = run("card", measured, "--out", tmp_path / "card", "--json")
    (user,) = json.loads(done.output)["users"]
    assert user["habits"]["source"] == "rollouts"
    assert {row["name"] for row in user["habits"]["rows"]} >= {"lookup", "ending"}
    assert user["graders"]["known"]
    assert sum(user["graders"]["counts"].values()) == 16


def test_a_checkpoint_more_is_a_replicate(measured: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("eval", "habits:0.1", "--tasks", 8, "--trials", 2, "--out", other, "--json").exit_code == 0
    done = run("card", measured, other, "--out", tmp_path / "card", "--json")
    assert done.exit_code == 0, done.output
    (user,) = json.loads(done.output)["users"]
    assert (user["replicates"], user["num_replicates"]) == ("checkpoints", 2)


def test_the_audit_beside_a_result_or_named(measured: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.json"
    sha256 = json.loads((measured / "card.json").read_text())["identity"]["tasks_sha256"]
    named.write_text(json.dumps({**AUDIT, "test": {"tasks_sha256": sha256}}))
    done = run("card", measured, "--out", tmp_path / "a", "--audit", named)
    assert "on 8 held-out test tasks" in done.output.replace("\n", " ")
    one, two = (made.write(tmp_path / name, made.episodes(told)) for name, told in (("1", [[1]]), ("2", [[0]])))
    (one / "audit.json").write_text(json.dumps(AUDIT))
    data = json.loads(run("card", one, two, "--out", tmp_path / "b", "--json").output)
    assert data["audit"]["sentence"] == AUDIT["sentence"]
    (two / "audit.json").write_text(json.dumps({**AUDIT, "sentence": "Another."}))
    data = json.loads(run("card", one, two, "--out", tmp_path / "c", "--json").output)
    assert data["audit"]["sentence"].startswith(f"{AUDIT['sentence']} 1 more")
    (two / "audit.json").write_text("{}")
    done = run("card", one, two, "--out", tmp_path / "d")
    assert isinstance(done.exception, InputError)
    assert "is not an audit" in str(done.exception)


def test_the_reward_file_of_the_run_an_evaluation_lies_in(tmp_path: Path) -> None:
    trained = tmp_path / "run"
    folder = made.write(trained / "eval-after", made.episodes([[1, 0], [0, 0]]), made.identity("nano after"))
    (trained / "recipe.json").write_text('{"kind": "rl"}')
    (trained / "rewards").mkdir()
    for name in ("0000.toml", "0001.toml"):
        (trained / "rewards" / name).write_text(name)
    data = json.loads(run("card", folder, "--out", tmp_path / "card", "--json").output)
    assert data["results"][0]["reward_file"]["file"] == "0001.toml"
    assert "hand/made" in " ".join(data["notes"]), "its tasks cannot be made again, and the card says so"


@pytest.mark.parametrize(
    "price", ["frontier", "frontier=3", "=3,15", "frontier=3,x", "frontier=-1,2", "f=1,nan", "f=1,inf"]
)
def test_prices_that_are_none(tmp_path: Path, price: str) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0]]))
    done = run("card", folder, "--out", tmp_path / "card", "--price", price)
    assert isinstance(done.exception, InputError)
    assert "is not NAME=IN,OUT" in str(done.exception)
    assert not (tmp_path / "card").exists()


def test_nothing_is_written_for_wrong_input(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0]]))
    before = (folder / "card.json").read_bytes()
    wrong: list[tuple[list[Any], str]] = [
        ([folder, "--out", folder], "already holds a run"),
        ([folder, "--out", folder / "card.json"], "takes a folder of its own"),
        ([folder, tmp_path / "nowhere", "--out", tmp_path / "card"], "is not there"),
        ([folder, "--out", tmp_path / "card", "--audit", folder / "card.json"], "is not an audit of this Banty"),
        ([folder, "--out", tmp_path / "card", "--price", "a=1,2", "--price", "a=2,3"], "names a twice"),
    ]
    for words, said in wrong:
        done = run("card", *words)
        assert isinstance(done.exception, InputError), words
        assert said in str(done.exception)
    assert not (tmp_path / "card").exists()
    assert (folder / "card.json").read_bytes() == before


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0]]))
    (tmp_path / "file").write_text("")
    done = run("card", folder, "--out", tmp_path / "file" / "card")
    assert isinstance(done.exception, StoreError)


@pytest.mark.skipif(not (PLACE / "tasks.json").is_file(), reason="needs tau2-bench's airline data in shared/")
def test_an_exported_evaluation_comes_back_with_the_same_figures(tmp_path: Path) -> None:
    played = ("eval", "golden-replay", "--env", "airline/tau2", "-o", f"data={PLACE}", "-o", "customer=silent")
    done = run(*played, "--split", "base", "--tasks", 12, "--trials", 2, "--no-baselines", "--out", tmp_path / "own")
    assert done.exit_code == 0, done.output
    assert run("export", tmp_path / "own", "--format", "tau2", "--out", tmp_path / "log.json").exit_code == 0
    assert run("import", tmp_path / "log.json", "--out", tmp_path / "log").exit_code == 0
    users = []
    for name in ("own", "log"):
        done = run("card", tmp_path / name, "--out", tmp_path / f"card-{name}", "--json")
        assert done.exit_code == 0, done.output
        users.append(json.loads(done.output)["users"][0])
    own, log = users
    for key in ("success", "pass_hat", "criteria"):
        assert own[key] == log[key]
    rows = [{row["name"]: row["success"] for row in user["strata"]["rows"]} for user in users]
    assert rows[0] == rows[1]
    assert rows[1]["write"]["by_task"]["estimate"] == 1.0
