"""The README's claims, run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from banty.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"^\$ banty (\w+(?: env)?)", README, re.M))
    assert commands
    for command in commands:
        words = command.split() if command == "new env" else command.split()[:1]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, command


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^\$ make (\w+)", README, re.M))
    assert targets == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_the_tree_lists_every_room_and_folder() -> None:
    tree = README.split("## The tree")[1].split("## ")[0]
    rooms = {path.name for path in (ROOT / "src" / "banty").iterdir() if path.is_dir() and path.name != "__pycache__"}
    for name in rooms | {"recipes", "benchmarks", "examples", "docs", "tests"}:
        assert f"{name}/" in tree, f"{name}/ is missing from the README's tree"
        assert name in rooms or (ROOT / name).is_dir(), f"the README names {name}/, which does not exist"


def test_linked_files_exist() -> None:
    for path in re.findall(r"\b(?:docs|recipes)/[\w.]+\.(?:md|toml)", README):
        assert (ROOT / path).is_file(), path


def test_the_demos_result_is_there_with_intervals_and_n() -> None:
    first_screen = README.split("## Commands")[0]
    sentence = " ".join(line.removeprefix("> ") for line in first_screen.splitlines() if line.startswith("> "))
    found = re.findall(r"(0\.\d\d) \[(0\.\d\d), (0\.\d\d)\]", sentence)
    before, after, difference = (tuple(map(float, one)) for one in found)
    assert before[2] < after[1], "the intervals lie apart"
    assert difference[0] >= 0.3
    recipe = tomllib.loads((ROOT / "recipes" / "demo.toml").read_text())
    size = f"{recipe['eval']['num_tasks']} held-out test tasks x {recipe['eval']['num_trials']} trials"
    assert size in sentence
    assert f"after {recipe['train']['steps']} steps of RL" in sentence
    assert "one training seed" in sentence
    assert len(re.findall(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", first_screen)) >= 2, "held-out phrasings beside it"
