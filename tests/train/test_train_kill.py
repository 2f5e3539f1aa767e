"""`banty train` on a language model, killed twenty times at random moments, ends with the weights of a whole run."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import toy
from tests.train import toy_run

from banty.cli.app import app
from banty.rollout import Store
from banty.runs import read_metrics

NUM_STEPS = 6
NUM_KILLS = 20
RECIPE = f"""
[env]
name = "{Path(toy.__file__)}:ColourTasks"

[policy]
type = "model"
start = "%s"
threads = 1
max_tokens = 16

[train]
steps = {NUM_STEPS}
tasks_per_step = 2
rollouts_per_task = 4
minibatches = 2
sampling_rounds = 2
old_logprobs = "trainer"
max_turns = 8
seed = 5

[optimizer]
learning_rate = 6e-4
state = "%s"

[eval]
num_tasks = 4
num_trials = 1
"""


def carry_on(folder: Path) -> None:
    """What a person types: the first time with the recipe, then with `--resume`."""
    recipe = folder.parent / "recipe.toml"
    asked = ["--resume", str(folder)] if folder.exists() else [str(recipe), "--out", str(folder)]
    app(["train", *asked, "--allow-code", "--json"], standalone_mode=False)


def in_a_process(work: Callable[[], None], *, kill_after_s: float | None = None) -> bool:
    """Run in a forked process, which has the imports already; whether it came to its end before it was killed."""
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        status = 1
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - the parent sees the status
            traceback.print_exc()
        os._exit(status)
    if kill_after_s is not None:
        deadline = time.monotonic() + kill_after_s
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, "the run failed by itself"
                return True
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status == signal.SIGKILL:
        return False
    assert status == 0, "the run failed by itself"
    return True


def weights(folder: Path) -> bytes:
    return (folder / "weights" / "model.safetensors").read_bytes()


def numbers(folder: Path) -> list[dict[str, object]]:
    rows = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("state", "num_kills"), [("float32", NUM_KILLS), ("int8", NUM_KILLS // 2)])
def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path: Path, state: str, num_kills: int) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE % (toy_run.warm(), state))
    started = time.monotonic()
    assert in_a_process(lambda: carry_on(tmp_path / "whole"))
    whole_s = time.monotonic() - started
    assert len(numbers(tmp_path / "whole")) == NUM_STEPS

    def check(folder: Path) -> None:
        assert weights(folder) == weights(tmp_path / "whole")
        assert numbers(folder) == numbers(tmp_path / "whole")
        ids = [rollout.rollout_id for rollout in Store(folder / "rollouts").read()]
        assert len(ids) == len(set(ids)), "an episode is stored once"

    rng = random.Random(20)
    kills = place = survived = 0
    while kills < num_kills:
        folder = tmp_path / f"killed-{place}"
        # Some at once, some while episodes run, some during an update or a write: anywhere in most of a run.
        if in_a_process(lambda folder=folder: carry_on(folder), kill_after_s=rng.uniform(0.0, 0.9 * whole_s)):  # type: ignore[misc]
            check(folder)
            place, survived = place + 1, survived + 1
        else:
            kills += 1
    last = tmp_path / f"killed-{place}"
    assert in_a_process(lambda: carry_on(last))
    check(last)
    assert survived >= 1, "some runs came through after several kills"
