"""`banty plan`: what the optimizer's state takes, on a device and in host memory."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests import toy

from banty.cli.app import app
from banty.learn.memory import state_bytes
from banty.models.loading import load_model
from banty.records import OptimizerSpec

RECIPE = f"""
[env]
name = "{Path(toy.__file__)}:ColourTasks"

[policy]
type = "model"
start = "%s"
dtype = "bfloat16"
threads = 1
max_tokens = 8

[train]
steps = 1
tasks_per_step = 2
rollouts_per_task = 2
max_turns = 2

[eval]
num_tasks = 2
num_trials = 1
"""


def planned(folder: Path, *words: str) -> Any:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        app(
            ["plan", str(folder / "rl.toml"), *words, "--device", "h200", "--allow-code"],
            standalone_mode=False,
        )
    return json.loads(said.getvalue()) if "--json" in words else said.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plan")
    toy.write_toy(made / "toy")
    (made / "rl.toml").write_text(RECIPE % (made / "toy"))
    return made


def test_8_bits_and_offloading_take_what_they_save_from_the_device(folder: Path) -> None:
    model = load_model(folder / "toy", dtype="bfloat16")
    whole = planned(folder, "--json")
    assert whole["host_bytes"] == 0
    plain = state_bytes(model, OptimizerSpec()).device
    eight = planned(folder, "--json", "optimizer.state=int8")
    saved = plain - state_bytes(model, OptimizerSpec(state="int8")).device
    assert saved > 0
    assert (whole["memory_bytes"] - eight["memory_bytes"], eight["host_bytes"]) == (saved, 0)
    away = planned(folder, "--json", "optimizer.offload=true")
    trained = sum(value.numel() for value in model.trainable().values())
    assert whole["memory_bytes"] - away["memory_bytes"] == plain - 2 * trained
    assert away["host_bytes"] == plain


def test_host_memory_is_named_where_it_is_used(folder: Path) -> None:
    assert "host memory" not in planned(folder)
    assert "in host memory" in planned(folder, "optimizer.offload=true")
