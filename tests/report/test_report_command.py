"""`banty report`, and a page of a real run."""

from __future__ import annotations

from pathlib import Path

from tests.report import folders
from typer.testing import CliRunner

from banty.cli.app import app
from banty.errors import InputError
from banty.report import headline


def test_the_command_prints_the_sentence_and_the_place(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert done.output == f"{headline(run)}\nreport: {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").is_file()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(done.exception, InputError)


def test_a_real_run(tmp_path: Path) -> None:
    small = ["train.steps=2", "train.tasks_per_step=2", "train.rollouts_per_task=2", "eval.num_tasks=3"]
    recipe = Path(__file__).parents[2] / "recipes" / "habits.toml"
    run = tmp_path / "run"
    done = CliRunner().invoke(app, ["train", str(recipe), "--out", str(run), "eval.num_trials=2", *small])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("habits went from ")
    page = (run / "report.html").read_text()
    assert len(folders.pictures(page)) > 15
    for heading in ("Success", "Training", "Habits", "Episodes"):
        assert f"<h2>{heading}</h2>" in page
