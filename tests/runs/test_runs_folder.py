"""Run folders: never overwritten, written whole, and silent about the environment they ran in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from banty.errors import InputError, StoreError
from banty.runs import RunFolder
from banty.runs.folder import manifest, write_json


def test_a_new_run_holds_its_recipe_and_manifest_and_can_be_opened(tmp_path: Path) -> None:
    recipe = {"train": {"steps": 3, "note": "é"}, "cap": None}
    run = RunFolder.create(tmp_path / "deep" / "run", recipe)
    assert run.read_json("recipe.json") == recipe
    assert {"banty", "commit", "command", "python", "packages", "started"} <= set(run.read_json("manifest.json"))
    assert RunFolder.open(str(run.path)).read_json("recipe.json") == recipe
    run.metrics.write(0, {"train/loss": 1.0})
    assert (run.path / "metrics.jsonl").is_file()


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"first": True})
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match=r"already holds a run; name another folder with --out, or --resume it"):
        RunFolder.create(tmp_path / "run", {"first": False})
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name in ("file", "empty", "nowhere"):
        with pytest.raises(InputError, match=r"is not a run folder: it has no manifest\.json"):
            RunFolder.open(tmp_path / name)


def test_a_run_is_not_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        RunFolder.create(tmp_path / "file", {})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_takes_no_folder_with_somebodys_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "rollouts" / "step-000000").mkdir(parents=True)
    (folder / "rollouts" / "step-000000" / "x").write_text("mine")
    with pytest.raises(InputError, match="folder of its own"):
        RunFolder.create(folder, {})
    assert [path.name for path in folder.iterdir()] == ["rollouts"]
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", {"a": 1}).read_json("recipe.json") == {"a": 1}


def test_the_manifest_is_last_so_that_a_half_made_run_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("banty.runs.folder.manifest", fail)
        with pytest.raises(KeyboardInterrupt):
            RunFolder.create(tmp_path / "run", {"first": True})
    assert RunFolder.create(tmp_path / "run", {"second": True}).read_json("recipe.json") == {"second": True}


def test_the_manifest_names_versions_and_no_value_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecretvalue")
    monkeypatch.setenv("SOME_TOKEN", "tok-anothersecret")
    shown = json.dumps(manifest())
    assert "secret" not in shown
    values = [value for value in os.environ.values() if len(value) > 20 and " " not in value and "/" not in value]
    assert not [value for value in values if value in shown]
    assert set(manifest()["packages"]) >= {"numpy", "scipy", "pyarrow"}
    assert all(manifest()["packages"].values())


def test_a_json_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    write_json(target, {"value": 1})

    def full(self: Path, *arguments: Any, **named: Any) -> int:
        with self.open("w") as file:
            file.write('{"val')
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StoreError, match=r"could not write .*result\.json: No space left"):
            write_json(target, {"value": 2})
    assert json.loads(target.read_text()) == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"], "nothing half-written is left behind"
    with pytest.raises(TypeError):
        write_json(target, {"value": object()})
    assert json.loads(target.read_text()) == {"value": 1}
    with target.open() as reader:
        write_json(target, {"value": 3})
        assert json.load(reader) == {"value": 1}, "who has begun to read the old file reads it to its end"
    assert json.loads(target.read_text()) == {"value": 3}


def test_a_device_or_a_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="pipe: it is no regular file; name another"):
        write_json(tmp_path / "pipe", {})
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_a_run_lacks_or_that_is_damaged_is_said(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(InputError, match=r"has no result\.json; the run did not get that far"):
        run.read_json("result.json")
    (run.path / "result.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        run.read_json("result.json")
