"""What docs/tau2.md says, run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.envs.airline.conftest import tau2_folder, tau2_world
from tests.interop import logs

from banty.cli.app import app
from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.published import PublishedTasks
from banty.envs.state import State

__all__ = ["tau2_folder", "tau2_world"]
PAGE = (Path(__file__).parents[2] / "docs" / "tau2.md").read_text()


def test_the_python_of_the_page_runs(tau2_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(code.replace("~/tau2-bench", str(tau2_folder)), {"messages": [logs.GREETING]})
    called, graded = capsys.readouterr().out.strip().splitlines()
    assert called.startswith("True {")
    assert graded.startswith("0.0 {'DB': 0.0, 'COMMUNICATE': 0.0} False")


def test_the_hash_of_the_page_is_the_databases(tau2_world: AirlineWorld) -> None:
    assert tau2_hash(State(tau2_world)) in PAGE


def test_every_command_and_option_of_the_page_exists() -> None:
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    named = set(re.findall(r"^\$ banty (\w+)(?: (data|calls|grade))?", PAGE, re.M))
    assert ("tau2", "calls") in named
    for command, below in named:
        assert command in commands
        if below:
            assert below in commands[command].commands


def test_the_options_of_the_page_are_the_environments() -> None:
    told = set(re.findall(r"^\| `(\w+)=", PAGE, re.M))
    assert told == set(inspect.signature(PublishedTasks).parameters) - {"data"}
