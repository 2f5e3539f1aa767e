"""The run folder of a cell: an ordinary training run, with a note of which cell it is."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError, StoreError
from banty.runs import RunFolder

NOTE = "sweep.json"
_BARE = {"recipe.json", "manifest.json"}


@dataclass(frozen=True)
class CellRun:
    """Where the cell of one arm and one seed is run, and what it is a run of.

    `digest` is the recipe's and `start` that of the weights training starts from ("" where there are none to hash).
    `frozen` is the commit that holds the experiment's files, if one does.
    """

    arm: str
    seed: int
    folder: Path
    digest: str
    start: str
    frozen: str | None

    @property
    def note(self) -> dict[str, Any]:
        """What the run folder says of it."""
        keys = ("arm", "seed", "digest", "start", "frozen")
        return {key: getattr(self, key) for key in keys}

    @property
    def begun(self) -> bool:
        return (self.folder / "manifest.json").is_file()

    def open(self, recipe: Mapping[str, Any]) -> RunFolder:
        """The cell's run, as far as it got, or a new one.

        A run of an earlier version of the experiment is kept beside it under another name. Raises InputError for a
        folder that holds anything else.
        """
        if self.begun and not (self.folder / NOTE).exists() and {each.name for each in self.folder.iterdir()} <= _BARE:
            shutil.rmtree(self.folder)  # stopped between making the folder and noting what for
        if self.begun:
            run = RunFolder.open(self.folder)
            if not (self.folder / NOTE).exists():
                raise InputError(f"{self.folder} holds a run that is no sweep's; move it elsewhere")
            found = run.read_json(NOTE)
            if all(found.get(key) == self.note[key] for key in ("digest", "start")):
                return run
            _set_aside(self.folder, str(found.get("digest")))
        run = RunFolder.create(self.folder, recipe)
        run.write_json(NOTE, self.note)
        return run


def _set_aside(folder: Path, digest: str) -> None:
    for number in itertools.count(1):
        place = folder.with_name(f"{folder.name}.{digest[:8]}-{number}")
        if not place.exists():
            folder.rename(place)
            return


@contextlib.contextmanager
def held(folders: Sequence[Path]) -> Iterator[None]:
    """While inside, these folders are this process's alone. Raises InputError when another sweep has one of them.

    The kernel lets go of them when the process ends, however it does.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((folder / ".lock").open("w"))
            except OSError as error:
                raise StoreError(f"could not write into {folder}: {error.strerror or error}") from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"another banty sweep is running cells in {folder}; wait for it, or choose other --arms"
                ) from None
        yield
