"""The training run that a measured policy came out of, where an evaluation's folder leads to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NO_TRAINING = ("", "eval", "import")
_HOW_IT_RAN = frozenset({"policy.threads", "policy.device", "train.concurrency", "train.checkpoint_every"})
_MISSING = object()


@dataclass(frozen=True)
class Training:
    """A training run's folder and recipe."""

    place: Path
    recipe: Mapping[str, Any]

    @property
    def trained_on(self) -> tuple[str, str] | None:
        """The environment and split that it took its tasks from, where the recipe names them."""
        env = self.recipe.get("env")
        found = (env.get("name"), env.get("split")) if isinstance(env, Mapping) else ()
        return (str(found[0]), str(found[1])) if all(found) and found else None

    @property
    def reward_file(self) -> dict[str, str] | None:
        """Name and sha256 of its newest reward file."""
        files = sorted((self.place / "rewards").glob("*.toml"))
        if not files:
            return None
        return {"file": files[-1].name, "sha256": hashlib.sha256(files[-1].read_bytes()).hexdigest()}

    def differs_from(self, other: Training) -> str:
        """A setting that makes the two different methods, with both values; empty for one method.

        Seeds, evaluations, and where and how fast it ran are no part of a method.
        """
        mine, its = (dict(_settings(one.recipe)) for one in (self, other))
        for name in dict.fromkeys([*mine, *its]):
            if name in _HOW_IT_RAN or name.startswith("eval.") or name.rpartition(".")[2] == "seed":
                continue
            if mine.get(name, _MISSING) != its.get(name, _MISSING):
                return f"{name} is {mine.get(name)!r} and {its.get(name)!r}"
        return ""


def training_of(folder: Path, policy: str) -> Training | None:
    """The run whose weights an evaluation measured: the one around it that names them `after`, or that they lie in.

    What a run measured before training, and what somebody put into its folder, came out of another one, if any.
    """
    try:
        model = json.loads((folder / "engine.json").read_text()).get("model")
    except (OSError, ValueError, AttributeError):
        model = None
    weights = [Path(model), Path(model).parent] if isinstance(model, str) and model else []
    around = [folder.resolve().parent] if policy.endswith(" after") else []
    for place in (*around, *weights):
        try:
            recipe = json.loads((place / "recipe.json").read_text())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(recipe, dict) and recipe.get("kind", "") not in _NO_TRAINING:
            return Training(place, recipe)
    return None


def _settings(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
