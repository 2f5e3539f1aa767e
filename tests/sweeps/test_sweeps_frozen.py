"""Frozen means: in a commit, as it is now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from banty.sweeps import frozen_commit


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two committed files of a repository."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "sweeps").mkdir()
    found = [tmp_path / "sweeps" / "s.toml", tmp_path / "r.toml"]
    for file in found:
        file.write_text("seeds = 3\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Freeze")
    return found


def test_committed_files_are_frozen_at_their_checkouts_commit(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "results.jsonl").write_text("{}\n")  # what else lies about is no matter
    assert frozen_commit(files) == git(tmp_path, "rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize("which", [0, 1])
def test_a_change_thaws_until_it_is_committed(tmp_path: Path, files: list[Path], which: int) -> None:
    files[which].write_text("seeds = 4\n")
    assert frozen_commit(files) is None
    git(tmp_path, "add", ".")
    assert frozen_commit(files) is None, "staged is not committed"
    git(tmp_path, "commit", "--quiet", "--message", "Change")
    assert frozen_commit(files) == git(tmp_path, "rev-parse", "--short=12", "HEAD")


def test_a_file_that_was_never_committed_is_not_frozen(tmp_path: Path, files: list[Path]) -> None:
    new = tmp_path / "new.toml"
    new.write_text("seeds = 3\n")
    assert frozen_commit([*files, new]) is None


def test_without_a_repository_nothing_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file = tmp_path / "s.toml"
    file.write_text("seeds = 3\n")
    assert frozen_commit([file]) is None


def test_without_git_nothing_is_frozen(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert frozen_commit(files) is None
