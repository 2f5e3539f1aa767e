"""`banty sweep` as a person uses it: run, stopped, killed, gone on with, changed, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from banty.cli.app import app
from banty.errors import InputError
from banty.sweeps import held

ROOT = Path(__file__).parents[2]
BANTY = str(Path(sys.executable).parent / "banty")
TINY = f"""
recipe = "{ROOT}/recipes/habits.toml"
question = "Does either help?"
seeds = 2

[set]
train.steps = 3
train.tasks_per_step = 4
eval.num_tasks = 8
eval.num_trials = 2

[arms.rloo]
set.credit.estimator = "rloo"

[arms.grpo]
set = {{"credit.estimator" = "grpo"}}
"""


def banty(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "140", "TERM": "dumb"}
    return subprocess.run(
        [BANTY, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def write(folder: Path, text: str = TINY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(text)
    return folder


def lines(folder: Path, name: str = "tiny") -> dict[tuple[str, int], dict[str, Any]]:
    """What is kept of every cell, without what differs from one time to the next."""
    found = [
        json.loads(text)
        for file in sorted((folder / "docs/results/data" / name).glob("*.jsonl"))
        for text in file.read_text().splitlines()
    ]
    return {
        (line["arm"], line["seed"]): {key: line[key] for key in line.keys() - {"seconds", "commit"}} for line in found
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The experiment, run through without a disturbance."""
    folder = write(tmp_path_factory.mktemp("sweep") / "whole")
    return folder, banty("sweep", "tiny.toml", cwd=folder)


def test_a_sweep_runs_its_cells_and_draws_its_table(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = whole
    assert done.returncode == 0, done.stderr
    assert "tiny: Does either help?" in done.stdout
    assert "│ rloo │ 2 of 2 │" in done.stdout
    assert "not frozen by a commit when begun: grpo, seeds 0-1" in done.stdout
    assert done.stdout.splitlines()[-1] == "table: docs/results/data/tiny/table.md"
    assert "not in a commit" in done.stderr
    found = lines(folder)
    assert list(found) == [("grpo", 0), ("grpo", 1), ("rloo", 0), ("rloo", 1)]
    line = found["rloo", 1]
    assert line["threads"] == 1
    assert len(line["curve"]["rollout/success"]) == 3
    assert line["sampled_tokens"] > 0
    for when in ("before", "after"):
        run = folder / "runs/tiny/rloo/seed-1"
        card = json.loads((run / f"eval-{when}" / "card.json").read_text())
        assert line[when]["success"] == card["success"]["estimate"]
        assert line[when]["pass_hat"] == {"2": card["pass_hat"]["2"]["estimate"]}
        assert (line[when]["num_tasks"], line[when]["num_trials"], line[when]["num_unscored"]) == (8, 2, 0)
    assert found["rloo", 0]["curve"] != line["curve"], "seeds differ"
    assert found["rloo", 0]["before"] == line["before"], "and are measured on the same tasks"
    longest = max(len(text) for text in (folder / "docs/results/data/tiny/rloo.jsonl").read_text().splitlines())
    assert longest < 1500


def test_a_cell_is_an_ordinary_run(whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    folder, _ = whole
    run = folder / "runs/tiny/grpo/seed-1"
    sets = ["train.steps=3", "train.tasks_per_step=4", "eval.num_tasks=8", "eval.num_trials=2", "policy.threads=1"]
    recipe = str(ROOT / "recipes/habits.toml")
    alone = banty("train", recipe, *sets, "credit.estimator=grpo", "--seed", "1", "--out", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    weights = "weights/habits.json"
    assert (run / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()
    assert banty("report", str(run), cwd=tmp_path).returncode == 0


def test_a_finished_sweep_runs_nothing_and_its_table_is_drawn_from_results_alone(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, first = whole
    again = banty("sweep", "tiny.toml", cwd=folder)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    dry = banty("sweep", "tiny.toml", "--dry-run", cwd=folder)
    assert dry.stdout.splitlines() == [
        "rloo: finished: seeds 0-1",
        "grpo: finished: seeds 0-1",
        "4 cells, 0 to run; not frozen by a commit",
    ]
    elsewhere = write(tmp_path / "elsewhere", TINY.replace("seeds = 2", "seeds = 3"))
    (elsewhere / "docs/results/data/tiny").mkdir(parents=True)
    for file in (folder / "docs/results/data/tiny").glob("rloo*"):
        (elsewhere / "docs/results/data/tiny" / file.name).write_bytes(file.read_bytes())
    drawn = banty("sweep", "tiny.toml", "--table", "--json", cwd=elsewhere)
    table = json.loads(drawn.stdout)
    assert [row["num_seeds"] for row in table["evaluations"][""]] == [2, 0]
    assert {"missing: rloo, seed 2", "missing: grpo, seeds 0-2"} <= set(table["notes"])
    assert not (elsewhere / "runs").exists()


def _workers_of(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    rows = [row.split(None, 2) for row in listed.stdout.splitlines()]
    return [int(pid) for pid, of, *command in rows if int(of) == parent and "spawn_main" in "".join(command)]


def _start_and_wait(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep of one cell at a time whose first cell has done a step."""
    started = subprocess.Popen(
        [BANTY, "sweep", "tiny.toml", "--jobs", "1", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/tiny/rloo/seed-0/checkpoints/step-*")):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline, "no step was done"
        time.sleep(0.005)
    return started


def test_a_cell_whose_worker_is_killed_has_failed_and_goes_on_to_the_same_result(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "killed")
    with _start_and_wait(folder) as running:
        (worker,) = _workers_of(running.pid)
        os.kill(worker, signal.SIGKILL)
        told, _ = running.communicate(timeout=200)
    assert running.returncode == 1
    assert told.count(": its process was ended by SIGKILL") == 1
    begun = banty("sweep", "tiny.toml", "--dry-run", "--json", cwd=folder)
    cells = json.loads(begun.stdout)["cells"]
    assert sorted(cell["state"] for cell in cells) == ["failed", "finished", "finished", "finished"], (
        "the others went on"
    )
    (failed,) = [f"{cell['arm']}/seed-{cell['seed']}" for cell in cells if cell["state"] == "failed"]
    manifest = folder / "runs/tiny" / failed / "manifest.json"
    before = manifest.read_bytes() if manifest.exists() else None  # where it was killed between two cells
    resumed = banty("sweep", "tiny.toml", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert before in (None, manifest.read_bytes()), "it went on, and not anew"
    assert lines(folder) == lines(whole[0])


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "stopped")
    with _start_and_wait(folder) as running:
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    if running.returncode != 0:  # on a fast machine the cells may end before the signal arrives
        assert running.returncode == 130, told
        assert "of 4 cells are finished and kept. The same command runs the others" in told
        assert "Traceback" not in told
    resumed = banty("sweep", "tiny.toml", "--jobs", "3", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert lines(folder) == lines(whole[0])


def test_two_sweeps_never_run_the_same_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "twice"))
    with held([Path("runs/tiny/grpo")]):
        done = CliRunner().invoke(app, ["sweep", "tiny.toml", "--seeds", "0"])
    assert isinstance(done.exception, InputError)
    assert "another banty sweep is running cells in runs/tiny/grpo" in str(done.exception)


def test_a_changed_arm_is_run_again_and_the_other_is_not(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "changed", TINY.replace("seeds = 2", "seeds = 1"))
    assert banty("sweep", "tiny.toml", cwd=folder).returncode == 0
    before = lines(folder)
    assert before["grpo", 0] == lines(whole[0])["grpo", 0]
    text = TINY.replace("seeds = 2", "seeds = 1").replace('"rloo"', '"rloo"\nset.optimizer.learning_rate = 5.0')
    write(folder, text)
    table = banty("sweep", "tiny.toml", "--table", cwd=folder)
    assert "missing: rloo, seed 0; what is there is stale" in table.stdout
    again = banty("sweep", "tiny.toml", cwd=folder)
    assert again.returncode == 0, again.stderr
    after = lines(folder)
    assert after["grpo", 0] == before["grpo", 0]
    assert after["rloo", 0]["recipe"] != before["rloo", 0]["recipe"]
    assert after["rloo", 0]["after"] != before["rloo", 0]["after"]
    kept = f"seed-0.{before['rloo', 0]['recipe'][:8]}-1"
    assert (folder / "runs/tiny/rloo" / kept / "result.json").is_file(), "the run that was there is kept"


def test_arms_and_seeds_are_chosen_and_runs_are_removed_when_asked(tmp_path: Path) -> None:
    metrics = 'metrics = ["rollout/success", "train/grad_norm"]\nkeep_runs = false\n'
    folder = write(tmp_path / "chosen", metrics + TINY)
    done = banty("sweep", "tiny.toml", "--arms", "grpo", "--seeds", "1", "--data", "d", "--runs", "r", cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, (folder / "d/tiny/grpo.jsonl").read_text().splitlines())
    assert (line["arm"], line["seed"], set(line["curve"])) == ("grpo", 1, {"rollout/success", "train/grad_norm"})
    assert [path.name for path in (folder / "r/tiny/grpo").iterdir()] == [".lock"]
    assert {"missing: rloo, seeds 0-1", "missing: grpo, seed 0"} <= set(done.stdout.splitlines())


def test_a_cell_that_cannot_be_summed_up_fails_and_loses_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "wrong", 'metrics = ["rollout/sucess"]\n' + TINY)
    failed = banty("sweep", "tiny.toml", "--arms", "rloo", "--seeds", "0", cwd=folder)
    assert failed.returncode == 1
    assert "failed: rloo, seed 0: metrics names 'rollout/sucess', which the run did not log" in failed.stdout
    write(folder)
    manifest = (folder / "runs/tiny/rloo/seed-0/result.json").stat().st_mtime_ns
    mended = banty("sweep", "tiny.toml", "--arms", "rloo", "--seeds", "0", cwd=folder)
    assert mended.returncode == 0, mended.stderr
    assert (folder / "runs/tiny/rloo/seed-0/result.json").stat().st_mtime_ns == manifest, "it is not run again"


def test_a_committed_experiment_is_frozen_at_its_commit(tmp_path: Path) -> None:
    folder = write(tmp_path / "frozen", TINY.replace(f"{ROOT}/recipes/", ""))
    (folder / "habits.toml").write_text((ROOT / "recipes/habits.toml").read_text())
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "Freeze")):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout
    done = banty("sweep", "tiny.toml", "--arms", "rloo", "--seeds", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "frozen" not in done.stdout
    assert lines(folder)["rloo", 0]["frozen"] == head[:12]


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        (("seeds = 2", "seedz = 2"), (), "did you mean 'seeds'"),
        (("habits.toml", "habit.toml"), (), "no recipe"),
        (("train.steps = 3", "train.stepz = 3"), (), "arms.rloo: train: unknown key 'stepz'; did you mean 'steps'"),
        (("train.steps = 3", "train.seed = 3"), (), "arms.rloo sets train.seed; an arm's seeds are its `seeds`"),
        (("train.steps = 3", "policy.threads = 3"), (), "--jobs says how many cells run at once"),
        (("[set]", "[set]\npolicy = 3"), (), "arms.rloo: policy takes a table, got 3"),
        (("train.steps = 3", "train.steps.x = 3"), (), "arms.rloo: steps is set to a table"),
        (('= "grpo"', '= "best"'), (), "arms.grpo: credit.estimator is 'best'; known are rloo"),
        (
            ("eval.num_tasks = 8", "eval.num_tasks = 99999"),
            ("--dry-run",),
            "arms.rloo: airline/mini test has 2000 tasks",
        ),
        (("", ""), ("--arms", "rloo,ppo"), "--arms names 'ppo'; the arms are rloo, grpo"),
        (("", ""), ("--seeds", "1-5"), "--seeds names 2-5, which the file does not"),
        (("", ""), ("--seeds", "one"), "--seeds 'one' is not seeds such as 0,1,5-9"),
        (("", ""), ("--seeds", "1-0"), "1-0 has no seeds"),
        (("", ""), ("--table", "--arms", "rloo"), "--table draws the whole table"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], words: tuple[str, ...], says: str
) -> None:
    folder = write(tmp_path / "wrong", TINY.replace(*change))
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["sweep", "tiny.toml", *words])
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
    assert done.output == ""
    assert [path.name for path in folder.iterdir()] == ["tiny.toml"], "wrong input leaves nothing behind"


def test_fine_tuning_without_an_environment_has_no_success_to_compare(tmp_path: Path) -> None:
    folder = write(tmp_path / "sft", 'recipe = "sft.toml"\nseeds = 2\n[arms.a]\nset.train.epochs = 2\n')
    (folder / "sft.toml").write_text('kind = "sft"\n[data]\ntraces = ["t.jsonl"]\n[policy]\nstart = "nano"\n')
    done = banty("sweep", "tiny.toml", cwd=folder)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "sft.toml has no [env] to be measured in, and a sweep compares success" in done.stderr
