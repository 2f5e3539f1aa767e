"""The folder of a cell: gone on with, made new, or put aside, and held by one sweep alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from banty.errors import InputError
from banty.sweeps import CellRun, held

RECIPE = {"kind": "rl"}


def cell(folder: Path, digest: str = "d1" * 8, start: str = "", frozen: str | None = "c0ffee") -> CellRun:
    return CellRun("a", 3, folder / "seed-3", digest, start, frozen)


def test_a_cell_is_opened_again_as_it_was_begun(tmp_path: Path) -> None:
    run = cell(tmp_path).open(RECIPE)
    run.write_json("progress.json", 1)
    again = cell(tmp_path, frozen=None).open(RECIPE)
    assert again.read_json("progress.json") == 1
    assert again.read_json("sweep.json")["frozen"] == "c0ffee", "what counts is how it stood when it was begun"
    assert cell(tmp_path).begun


@pytest.mark.parametrize("change", [{"digest": "d2" * 8}, {"start": "weights"}])
def test_a_run_of_another_version_is_put_aside(tmp_path: Path, change: dict[str, str]) -> None:
    for _ in range(2):
        cell(tmp_path).open(RECIPE).write_json("progress.json", 1)
        run = cell(tmp_path, **change).open(RECIPE)
        assert not (run.path / "progress.json").exists()
        assert run.read_json("sweep.json")["digest"] == change.get("digest", "d1" * 8)
    kept = [path for path in tmp_path.glob("seed-3.d1d1d1d1-*") if (path / "progress.json").exists()]
    assert len(kept) == 2, "each under a name of its own"


def test_a_folder_that_was_made_and_no_more_is_made_again(tmp_path: Path) -> None:
    run = cell(tmp_path).open(RECIPE)
    (run.path / "sweep.json").unlink()
    assert cell(tmp_path).open(RECIPE).read_json("sweep.json")["seed"] == 3


def test_a_run_that_is_no_sweeps_is_left_alone(tmp_path: Path) -> None:
    run = cell(tmp_path).open(RECIPE)
    (run.path / "sweep.json").unlink()
    run.write_json("result.json", {"mine": True})
    with pytest.raises(InputError, match="holds a run that is no sweep's; move it elsewhere"):
        cell(tmp_path).open(RECIPE)
    assert json.loads((run.path / "result.json").read_text()) == {"mine": True}


def test_what_one_sweep_holds_another_is_refused_until_it_ends(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    script = (
        "import sys; from pathlib import Path; from banty.sweeps import held\n"
        f"with held([Path({str(folders[1])!r})]): print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"another banty sweep is running cells in .*b;"), held(folders):
            pass
        with held(folders[:1]):
            pass
        other.kill()
    with held(folders):
        pass
