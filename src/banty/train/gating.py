"""A run that calibrates its own reward file: what it has decided, on disk, and how it goes on from there.

```
RUN/rewards/
  0000.toml       the reward file it began with
  0001.toml ...   each version after it, in order
  history.jsonl   a line a decision: the step, every tier's value, correlation, and why
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from banty.calibrate import CalibrateBlock, Evidence, Gate, evidence_of
from banty.errors import InputError
from banty.records import Rollout
from banty.rollout import Store
from banty.rubrics import read_reward_file, write_reward_file
from banty.runs import RunFolder, write_text
from banty.train.rewards import FOLDER, TurnRewards

HISTORY = f"{FOLDER}/history.jsonl"
Metrics = dict[str, float | int | None]


class RunGate:
    """Watches a run's steps, and changes what its turns earn.

    `first` is the step to be done next: decisions at and after it are undone, since those steps are done again. What
    the gate knows of earlier rollouts it reads from the store. Raises InputError for a history that is damaged.
    """

    def __init__(
        self, run: RunFolder, block: CalibrateBlock, turns: TurnRewards, store: Store, seed: int, first: int
    ) -> None:
        assert turns.file is not None, "a run without a reward file has nothing to calibrate"
        self._run, self._turns = run, turns
        self._gate = Gate(block, turns.file, seed)
        self._lines = [line for line in self._read() if line["step"] < first]
        self._forget()
        if self._lines:
            kept = sum(bool(line["moved"]) for line in self._lines)
            place = run.path / FOLDER / f"{kept:04d}.toml"
            file = turns.file if not kept else turns.with_its_functions(read_reward_file(place))
            self._gate.restore(self._lines[-1], file)
            turns.use(file)
        parts = set(store.parts())
        for step in range(max(0, first - block.horizon), first):
            if f"step-{step:06d}" in parts:
                rollouts = list(store.read([f"step-{step:06d}"]))
                turns.label(rollouts)
                self._gate.observe(step, self._evidence(rollouts))

    def after(self, step: int, rollouts: Sequence[Rollout]) -> Metrics:
        """Take in a step's labelled rollouts, and decide if a decision is due: `rewards/version`, the values in force
        from the next step on, and how many moved."""
        self._gate.observe(step, self._evidence(rollouts))
        decided = self._gate.decide(step)
        if decided is not None:
            self._lines.append(decided.to_json())
            if decided.moved:
                kept = sum(bool(line["moved"]) for line in self._lines)
                write_reward_file(self._run.path / FOLDER / f"{kept:04d}.toml", decided.file)
                self._turns.use(decided.file)
            self._write()
        file = self._gate.file
        return {
            "rewards/version": file.version,
            "rewards/moved": len(decided.moved) if decided is not None else 0,
            **{f"rewards/value_{name}": tier.value for name, tier in file.tiers.items()},
        }

    def _evidence(self, rollouts: Sequence[Rollout]) -> Evidence:
        roots = [rollout for rollout in rollouts if rollout.depth == 0 and rollout.scored]
        labels = [self._turns.labels_of(rollout) for rollout in roots]
        return evidence_of(
            tuple(self._gate.file.tiers),
            [[label.tier for label in given] for given in labels],
            [[float(turn.sampled_tokens) for turn in rollout.turns if turn.trainable] for rollout in roots],
            [bool(rollout.outcome.success) for rollout in roots],
            [rollout.task.id for rollout in roots],
        )

    def _read(self) -> list[dict[str, Any]]:
        path = self._run.path / HISTORY
        if not path.is_file():
            return []
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for line in lines:
                int(line["step"]), bool(line["moved"]), {name: row["asked"] for name, row in line["tiers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is damaged: {type(error).__name__} {error}; the run cannot go on from it"
            ) from error
        return lines

    def _forget(self) -> None:
        """Undo what was decided at steps that are done again."""
        kept = sum(bool(line["moved"]) for line in self._lines)
        for path in (self._run.path / FOLDER).glob("*.toml"):
            if path.stem.isdigit() and int(path.stem) > kept:
                path.unlink()
        if (self._run.path / HISTORY).is_file():
            self._write()

    def _write(self) -> None:
        write_text(self._run.path / HISTORY, "".join(json.dumps(line) + "\n" for line in self._lines))
