"""What docs/experiments.md shows is what the program takes: its file, its commands, its keys, its columns."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from typer.testing import CliRunner

from banty.cli.app import app
from banty.cli.experiment import Experiment
from banty.sweeps import Arm, Sweep, read_sweep

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "experiments.md").read_text()


def test_the_file_shown_is_the_one_in_recipes() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    committed = (ROOT / "recipes" / "sweeps" / "estimators.toml").read_text()
    assert shown.split() == re.sub(r"#.*", "", committed).split()


def test_every_experiment_of_the_repository_can_be_run(tmp_path: Path) -> None:
    study = ROOT / "recipes" / "estimators"
    files = [*sorted((ROOT / "recipes" / "sweeps").glob("*.toml")), study / "main.toml", study / "matched.toml"]
    assert files
    for file in files:
        assert read_sweep(file).question, f"{file.name} says what it asks"
        Experiment.read(file, tmp_path, tmp_path).check(allow_code=False)


def test_each_command_and_its_options_exist() -> None:
    lines = re.findall(r"^\$ banty (\w+) (.*)", PAGE, re.M)
    assert len(lines) == 3
    for command, rest in lines:
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        for option in re.findall(r"--[\w-]+", rest):
            assert option in told, (command, option)


def test_the_table_of_keys_names_every_key() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.split("## Results")[0], re.M))
    keys = {field.name for kind in (Sweep, Arm) for field in dataclasses.fields(kind)}
    assert named == keys - {"arms"}
