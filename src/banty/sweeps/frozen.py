"""Whether files stand in a commit as they are now: an experiment is frozen before it runs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def frozen_commit(files: Sequence[Path]) -> str | None:
    """The commit that the first file's checkout is at, when every file is committed there and unchanged since.

    None when one is not, or lies in no git repository.
    """
    for file in (each.resolve() for each in files):
        committed = _git(file.parent, "rev-parse", "--verify", "--quiet", f"HEAD:./{file.name}")
        if committed is None or committed != _git(file.parent, "hash-object", "--", file.name):
            return None
    return _git(files[0].resolve().parent, "rev-parse", "--short=12", "HEAD")


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
