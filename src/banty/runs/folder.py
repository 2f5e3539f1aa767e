"""The folder of a run, which explains itself.

```
RUN/
  recipe.json     the resolved recipe, defaults included
  manifest.json   command, versions of Banty and its packages, commit, machine, start time
  metrics.jsonl   one line a step
  rollouts/       the store: one part a step or shard
  weights/        what was trained
  result.json     the outcome, in numbers
```
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from banty import __version__
from banty.errors import InputError, StoreError
from banty.runs.metrics import MetricLog

SCHEMA_VERSION = 1
PACKAGES = ("numpy", "scipy", "pyarrow", "pydantic", "httpx", "torch", "transformers", "peft", "tokenizers")


class RunFolder:
    """A run's folder. `create` refuses one that already holds a run; `open` refuses one that holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = MetricLog(path / "metrics.jsonl")

    @classmethod
    def create(cls, path: str | Path, recipe: Mapping[str, Any]) -> RunFolder:
        folder = Path(path)
        check_free(folder)
        draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()
            write_json(draft / "recipe.json", recipe)
            write_json(draft / "manifest.json", manifest())
            draft.rename(folder)  # a run folder has both from its first moment on; an empty one is replaced
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            raise StoreError(f"could not make the run folder {folder}: {error.strerror or error}") from error
        return cls(folder)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        folder = Path(path)
        if not (folder / "manifest.json").is_file():
            raise InputError(f"{folder} is not a run folder: it has no manifest.json")
        run = cls(folder)
        manifest = run.read_json("manifest.json")
        if not isinstance(manifest, dict) or not isinstance(run.read_json("recipe.json"), dict):
            raise InputError(f"{folder} is not a run folder: its manifest.json or recipe.json is no table of values")
        written = manifest.get("schema_version", 1)
        if written != SCHEMA_VERSION:
            raise InputError(
                f"{folder} is a run folder of schema {written}, and Banty {__version__} reads {SCHEMA_VERSION}; open "
                "it with the version that wrote it (its manifest.json names it)"
            )
        return run

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    def make(self, name: str) -> Path:
        """A folder inside, which may be there. Raises StoreError when it cannot be made."""
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"could not make {folder}: {error.strerror or error}") from error
        return folder

    def read_json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path} has no {name}; the run did not get that far") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path / name} is damaged: {error}") from error

    def write_json(self, name: str, value: Any) -> Path:
        """Write atomically: a reader sees the old file or the new one."""
        return write_json(self.path / name, value)


def check_free(folder: Path) -> None:
    """Raises InputError for a folder that a new run may not take: one that is not empty, or no folder at all."""
    if (folder / "manifest.json").exists():
        raise InputError(f"{folder} already holds a run; name another folder with --out, or --resume it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty; a run takes a folder of its own, name another with --out")


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write atomically: a reader sees the old file or the new one. Raises StoreError when it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which would be replaced by a file
            raise StoreError(f"could not write {path}: it is no regular file; name another")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StoreError(f"could not write {path}: {error.strerror or error}") from error
    return path


def manifest() -> dict[str, Any]:
    """What a rerun needs to know of this process; environment variables and their values are left out."""
    return {
        "schema_version": SCHEMA_VERSION,
        "banty": __version__,
        "commit": commit_of(),
        "command": sys.argv[1:],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "num_cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit_of() -> str | None:
    """The commit of the checkout Banty runs from; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
