"""The results of an arm on disk: a line a cell, sorted by seed, and the recipes they were made with."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from banty.errors import InputError, StoreError
from banty.records import sha256_json
from banty.runs import write_text
from banty.sweeps.lines import DIGEST_LENGTH

State: TypeAlias = Literal["finished", "failed", "stale", "missing"]
"""Of a cell. A stale one has a result, of an experiment that the file no longer describes."""

Resolve: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes a stored recipe what this version of Banty makes of it, new keys at their defaults. Raises InputError."""


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """What tells the resolved recipes of arms apart; the cells of an arm share it, for the seed is left out."""
    train = {key: value for key, value in recipe["train"].items() if key != "seed"}
    return sha256_json({**recipe, "train": train})[:DIGEST_LENGTH]


@dataclass(frozen=True)
class PlannedArm:
    """An arm as the file has it now. `start` is the digest of the weights it starts from, "" where there is none to
    be had: then only the recipe tells whether a result is its."""

    name: str
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any]
    start: str = ""
    exploratory: bool = False

    @property
    def digest(self) -> str:
        return recipe_digest(self.recipe)


class Results:
    """The lines of one arm in `FOLDER/ARM.jsonl`; `FOLDER/ARM.recipes.json` has the recipes they name.

    Raises InputError for files that cannot be read.
    """

    def __init__(self, folder: Path, arm: str) -> None:
        self.file, self._recipe_file = folder / f"{arm}.jsonl", folder / f"{arm}.recipes.json"
        self.lines = _read_lines(self.file, arm)
        self._texts = {seed: _written(line) for seed, line in self.lines.items()}
        self.recipes = _read_recipes(self._recipe_file)

    def put(self, line: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
        """Write a cell's line, in the place of the one it has. A reader sees the old files or the new ones."""
        self.lines[line["seed"]] = dict(line)
        self._texts[line["seed"]] = _written(line)
        used = {each["recipe"] for each in self.lines.values()}
        recipes = {digest: found for digest, found in self.recipes.items() if digest in used}
        if line["recipe"] not in recipes:
            unseeded = copy.deepcopy(dict(recipe))
            unseeded["train"].pop("seed", None)
            recipes[line["recipe"]] = unseeded
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"could not make {self.file.parent}: {error.strerror or error}") from error
        if recipes != self.recipes:
            self.recipes = recipes
            write_text(self._recipe_file, json.dumps(recipes, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        write_text(self.file, "".join(self._texts[seed] for seed in sorted(self._texts)))

    def states(self, arm: PlannedArm, resolve: Resolve) -> dict[int, State]:
        """How each of the arm's cells stands."""
        current = {digest for digest, recipe in self.recipes.items() if _resolved(recipe, resolve) == arm.digest}
        current.add(arm.digest)

        def state(line: Mapping[str, Any] | None) -> State:
            if line is None:
                return "missing"
            if line["recipe"] not in current or (arm.start and line["start"] and line["start"] != arm.start):
                return "stale"
            return "failed" if "failed" in line else "finished"

        return {seed: state(self.lines.get(seed)) for seed in arm.seeds}


def _written(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _resolved(recipe: Mapping[str, Any], resolve: Resolve) -> str:
    try:
        return recipe_digest(resolve(recipe))
    except InputError:  # this version has no such key or value: it cannot be the recipe of now
        return ""


def _read_lines(file: Path, arm: str) -> dict[int, dict[str, Any]]:
    lines: dict[int, dict[str, Any]] = {}
    for number, text in enumerate(_text(file).splitlines(), 1):
        try:
            line = json.loads(text)
            right = line["arm"] == arm and type(line["seed"]) is int and _whole(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            right = False
        if not right:
            raise InputError(f"{file}, line {number}, is no result of {arm}; mend or remove it")
        if line["seed"] in lines:
            raise InputError(f"{file} has seed {line['seed']} twice; keep one of the lines")
        lines[line["seed"]] = line
    return lines


def _whole(line: Mapping[str, Any]) -> bool:
    """Whether a line has what a table needs."""
    pairs = [line, *line.get("also", {}).values()]
    cells = [pair[when] for pair in pairs for when in ("before", "after")] if "failed" not in line else []
    measured = all(
        isinstance(cell["success"], (int, float)) and {"tasks", "num_unscored"} <= set(cell) for cell in cells
    )
    return measured and {"recipe", "start", "frozen"} <= set(line)


def _read_recipes(file: Path) -> dict[str, dict[str, Any]]:
    try:
        recipes = json.loads(_text(file) or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {error}; restore it") from error
    if not isinstance(recipes, dict) or not all(isinstance(each, dict) for each in recipes.values()):
        raise InputError(f"{file} is damaged: it is no table of recipes; restore it")
    return recipes


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
