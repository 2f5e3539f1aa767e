"""The commands as a person uses them: in a folder outside the repository, through the installed entry point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from banty.cli.app import app

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "habits.toml"
BANTY = str(Path(sys.executable).parent / "banty")
QUICK = ["train.steps=3", "train.tasks_per_step=4", "eval.num_tasks=8", "eval.num_trials=2"]


def banty(*words: str, cwd: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(
        [BANTY, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_every_command_has_help_with_two_examples() -> None:
    names = ["train", "eval", "play", "inspect", "compare", "tasks", "envs", "new env", "plan", "report", "sweep"]
    names += ["calibrate", "import", "audit", "card", "export", "tau2 data", "tau2 calls", "tau2 grade"]
    for name in names:
        words = [*name.split(), "--help"]
        shown = CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"})
        assert shown.exit_code == 0, shown.output
        assert shown.output.count(f"banty {name}") >= 2, f"{name} shows fewer than two examples:\n{shown.output}"


def test_train_writes_a_run_that_explains_itself_and_is_not_overwritten(tmp_path: Path) -> None:
    done = banty("train", str(RECIPE), *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run: run"
    run = tmp_path / "run"
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["train"]["steps"] == 3
    assert recipe["train"]["temperature"] == 1.0
    assert json.loads((run / "manifest.json").read_text())["packages"]["numpy"]
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    for name in ("result.json", "weights/habits.json", "eval-before/card.json", "eval-after/card.json"):
        assert (run / name).is_file(), name
    again = banty("train", str(RECIPE), *QUICK, "--out", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert "already holds a run" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_run_is_evaluated_beside_its_main_tasks_and_reported(tmp_path: Path) -> None:
    also = 'eval.also.phrasings={phrasing="own"}'
    options = 'env.options={phrasing="train"}'
    done = banty("train", str(RECIPE), *QUICK, also, options, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    result = json.loads((run / "result.json").read_text())
    for when in ("before", "after"):
        main, beside = (
            json.loads((run / f"eval-{when}{name}" / "card.json").read_text()) for name in ("", "-phrasings")
        )
        assert (main["identity"]["provenance"]["phrasing"], beside["identity"]["provenance"]["phrasing"]) == (
            "train",
            "own",
        )
        assert result[when] == main["success"]
        assert result["also"]["phrasings"][when] == beside["success"]
    *_, sentence, report, last = done.stdout.splitlines()
    assert (report, last) == ("report: run/report.html", "run: run")
    assert sentence.startswith("habits went from ")
    page = (run / "report.html").read_text()
    assert sentence.split(" (")[0] in page.replace("\n", " ")
    assert "phrasings" in page
    resumed = banty("train", "--resume", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "result.json").read_text()) == result
    wrong = banty("train", str(RECIPE), *QUICK, 'eval.also.other={phrasing="loud"}', "--out", "wrong", cwd=tmp_path)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    assert "phrasing=loud" in wrong.stderr
    assert not (tmp_path / "wrong").exists()


def test_a_user_nobody_plays_is_refused_before_anything_is_evaluated(tmp_path: Path) -> None:
    for change, place in (
        ('eval.also.hard={customer="model"}', "eval.also.hard"),
        ('env.options={customer="model"}', "env.options"),
    ):
        done = banty("train", str(RECIPE), *QUICK, change, "--dry-run", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{place} makes airline/mini ask for a policy in the role user" in done.stderr


def test_further_evaluations_find_their_data_from_any_folder(tmp_path: Path) -> None:
    also = 'eval.also.x={data="data"}'
    done = banty("train", str(RECIPE), also, "env.name=airline/full", "--dry-run", cwd=tmp_path)
    assert str(tmp_path / "data") in done.stderr, "the path is made whole before it is looked for"


def test_a_person_talks_to_an_agent_and_a_script_does_too(tmp_path: Path) -> None:
    def play(*words: str, typed: str) -> str:
        done = subprocess.run(
            [BANTY, "play", *words], cwd=tmp_path, input=typed, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    spoken = play("airline/mini", "--agent", "expert", typed="Please cancel my trip.\n###STOP###\n")
    assert "your part: You are a customer" in spoken
    assert "agent: What is the reservation code?" in spoken
    assert "completed: failure" in spoken
    watched = play("airline/mini", "--agent", "expert", "-o", "customer=scripted", typed="")
    assert "completed: success" in watched
    assert "You look on" in watched
    for baseline in ("do-nothing", "golden-replay"):
        ended = play("airline/mini", "--agent", baseline, "-o", "customer=scripted", typed="")
        assert "completed: " in ended, ended
    nobody = banty("play", "airline/mini", "--agent", "nobody", cwd=tmp_path)
    assert nobody.returncode == 2
    assert "'nobody' is no policy: give nano, expert" in nobody.stderr


def test_train_json_is_only_json(tmp_path: Path) -> None:
    done = banty("train", str(RECIPE), *QUICK, "--json", "--seed", "5", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["num_tasks"] == 8
    assert json.loads((tmp_path / result["folder"] / "recipe.json").read_text())["train"]["seed"] == 5


def test_dry_runs_write_nothing(tmp_path: Path) -> None:
    trained = banty("train", str(RECIPE), "train.steps=7", "--dry-run", cwd=tmp_path)
    assert json.loads(trained.stdout)["train"]["steps"] == 7
    measured = banty("eval", "expert", "--tasks", "5", "--trials", "2", "--dry-run", cwd=tmp_path)
    assert json.loads(measured.stdout)["num_episodes"] == 10
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_the_folders_the_real_run_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in ("file", "mine"):
        for words in (("eval", "expert", "--tasks", "2"), ("train", str(RECIPE))):
            for extra in ((), ("--dry-run",)):
                refused = banty(*words, "--out", out, *extra, cwd=tmp_path)
                assert (refused.returncode, refused.stdout) == (2, "")
                assert "a folder of its own" in refused.stderr
                assert "Traceback" not in refused.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_eval_compare_and_inspect_go_together(tmp_path: Path) -> None:
    for policy in ("habits:0.4", "expert"):
        folder = policy.split(":")[0]
        done = banty("eval", policy, "--tasks", "12", "--trials", "2", "--out", folder, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"card: {folder}/card.json"
    card = json.loads((tmp_path / "expert" / "card.json").read_text())
    assert card["success"]["estimate"] == 1.0
    assert card["identity"]["provenance"]["grader"] == "semantic"
    assert card["baselines"]["golden-replay"]["estimate"] == 1.0
    assert card["baselines"]["do-nothing"]["estimate"] == 0.0

    compared = banty("compare", "habits", "expert", "--json", cwd=tmp_path)
    assert json.loads(compared.stdout)["difference"]["estimate"] > 0

    listed = banty("inspect", "habits", "--failed", "--json", cwd=tmp_path)
    failed = json.loads(listed.stdout)
    assert failed
    assert all(not rollout["outcome"]["success"] for rollout in failed)
    shown = banty("inspect", "habits", "--rollout", failed[0]["rollout_id"], cwd=tmp_path)
    assert "user:" in shown.stdout
    assert "failure" in shown.stdout


def test_eval_refuses_another_evaluations_folder_and_resumes_its_own(tmp_path: Path) -> None:
    words = ("eval", "habits", "--tasks", "6", "--trials", "2", "--out", "e")
    first = banty(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = json.loads((tmp_path / "e" / "card.json").read_text())
    refused = banty(*words, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = banty("eval", "habits", "--tasks", "7", "--trials", "2", "--out", "e", "--resume", cwd=tmp_path)
    assert other.returncode == 2
    assert "num_tasks" in other.stderr
    resumed = banty(*words, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "e" / "card.json").read_text())["tasks"] == before["tasks"]


def test_a_trained_policy_is_evaluated_from_its_run_folder(tmp_path: Path) -> None:
    banty("train", str(RECIPE), *QUICK, "--out", "run", cwd=tmp_path)
    done = banty("eval", "run", "--tasks", "4", "--trials", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["identity"]["policy"] == "habits@run"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "nope.toml"), "no recipe nope.toml"),
        (("train", str(RECIPE), "train.stepz=3"), "did you mean 'steps'"),
        (("train", str(RECIPE), "train.steps=many"), "a whole number"),
        (("train", str(RECIPE), "train.rollouts_per_task=1"), "take 2 or more"),
        (("train", str(RECIPE), "env.name=airline/tau2"), "data=FOLDER"),
        (("train", str(RECIPE), "env.split=exam"), "train, dev, test"),
        (("train", str(RECIPE), "eval.num_tasks=99999"), "2000 tasks"),
        (("train", str(RECIPE), "policy.lapses.manners=0.5"), "manners"),
        (("train", str(RECIPE), "policy.start=nowhere"), "nowhere"),
        (("eval", "nobody"), "is no policy"),
        (("eval", "expert", "--env", "airlines"), "airline/mini"),
        (("eval", "expert", "--split", "exam"), "train, dev, test"),
        (("eval", "expert", "--tasks", "99999"), "2000 tasks"),
        (("eval", "expert", "-o", "grade=kind"), "tau2, semantic"),
        (("eval", "expert", "-o", "colour=red"), "colour"),
        (("eval", "expert", "--env", "desk.py:Desk"), "--allow-code"),
        (("eval", "expert", "--env", "airline/full", "-o", "data=/nowhere"), "db.json"),
        (("eval", "expert", "--env", "airline/mini", "-o", "customer=model"), "role user"),
        (("compare", "a", "b"), "no result card"),
        (("inspect", "nowhere"), "holds no rollouts"),
        (("tasks", "airline/mini", "--split", "exam"), "train, dev, test"),
        (("new", "env", "Not A Name"), "Not A Name"),
    ],
)
def test_wrong_input_gets_one_clear_sentence(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = banty(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "wrong input leaves nothing behind"


def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_weights(tmp_path: Path) -> None:
    steps = ["train.steps=12", *QUICK[1:]]
    whole = banty("train", str(RECIPE), *steps, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    words = [BANTY, "train", str(RECIPE), *steps, "--out", "cut"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "cut" / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    if running.returncode != 0:  # on a fast machine the run may end before the signal arrives
        assert running.returncode == 130, said
        assert "banty train --resume cut" in said
        assert "Traceback" not in said
    resumed = banty("train", "--resume", "cut", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    weights = "weights/habits.json"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_tasks_shows_no_right_ending_unless_asked(tmp_path: Path) -> None:
    shown = json.loads(banty("tasks", "airline/mini", "--count", "2", "--json", cwd=tmp_path).stdout)
    assert [set(task) for task in shown] == [{"env", "split", "index", "seed", "public", "opening"}] * 2
    revealed = json.loads(banty("tasks", "airline/mini", "--count", "1", "--json", "--reveal", cwd=tmp_path).stdout)
    assert "private" in revealed[0]
