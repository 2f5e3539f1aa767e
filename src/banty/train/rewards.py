"""What single turns earn while training: labels, rewards, and what they were worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from banty.credit import CreditSpec
from banty.credit.metrics import correlation
from banty.errors import InputError
from banty.records import Group, Rollout, Taskset, take
from banty.rubrics import Labeller, RewardFile, TurnLabel, diff_of, read_reward_file, rewarded, write_reward_file
from banty.runs import RunFolder
from banty.train.recipe import RewardsBlock

FOLDER = "rewards"
FIRST = f"{FOLDER}/0000.toml"
"""Where a run keeps the reward file it began with."""

_LOOKED_AT = 8


class TurnRewards:
    """Labels the turns of a step's rollouts and gives them their rewards.

    Without a reward file nothing is given; turns are still told apart where the tasks have golden calls.
    """

    def __init__(self, taskset: Taskset, split: str, file: RewardFile | None, block: RewardsBlock) -> None:
        self.file = file
        self._taskset = taskset
        self._block = block
        self._labeller: Labeller | None = None
        if file is not None or knows_golden(taskset, split):
            self._labeller = Labeller(taskset, file or read_reward_file("outcome"))
        self._labels: dict[str, tuple[TurnLabel, ...]] = {}
        self._scale = 0.0

    def begin(self, step: int) -> None:
        """Forget the last step's labels; rewards are those of `step` from here on."""
        self._labels.clear()
        self._scale = self._block.scale_at(step)

    def give(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with what their turns earned. An errored one earns nothing: it is nobody's action."""
        if self._labeller is None:
            return list(rollouts)
        self.label(rollouts)
        if self.file is None:
            return list(rollouts)
        return [
            rewarded(rollout, self._labels[rollout.rollout_id], self._scale) if rollout.scored else rollout
            for rollout in rollouts
        ]

    def use(self, file: RewardFile) -> None:
        """Pay by another version of the file from here on. It has the same tiers: labels stay as they are."""
        self.file = file
        self._labeller = Labeller(self._taskset, file)

    def with_its_functions(self, file: RewardFile) -> RewardFile:
        """A version of the file that was read from disk, with the Python tiers of the one in use."""
        return replace(file, functions=self.file.functions) if self.file is not None else file

    def label(self, rollouts: Sequence[Rollout]) -> None:
        """Tell what the turns of scored rollouts were, stored ones too."""
        if self._labeller is not None:
            self._labels |= {rollout.rollout_id: self._labeller(rollout) for rollout in rollouts if rollout.scored}

    def labels_of(self, rollout: Rollout) -> tuple[TurnLabel, ...]:
        """The labels of a rollout that was labelled since the step began."""
        return self._labels[rollout.rollout_id]

    def tiers(self, groups: Sequence[Group]) -> list[list[list[str]]]:
        """The tier of each turn of each scored rollout; empty where turns are not told apart."""
        if self._labeller is None:
            return []
        return [
            [[label.tier for label in self._labels[rollout.rollout_id]] for rollout in group.scored] for group in groups
        ]

    def metrics(self, groups: Sequence[Group]) -> dict[str, float | int | None]:
        """`rewards/TIER_turns` of scored rollouts; `rewards/mean` of their turns, as given; `rewards/corr`: Pearson's
        of a rollout's mean turn reward, before weight and annealing, with its success; `rewards/scale`."""
        if self._labeller is None:
            return {}
        rollouts = [rollout for group in groups for rollout in group.scored]
        labels = [self._labels[rollout.rollout_id] for rollout in rollouts]
        counts = Counter(label.tier for each in labels for label in each)
        found: dict[str, float | int | None] = {
            f"rewards/{tier}_turns": counts[tier] for tier in self._labeller.file.tiers
        }
        if self.file is None:
            return found
        earned = [label.reward for each in labels for label in each]
        means = np.array([np.mean([label.reward for label in each]) if each else 0.0 for each in labels])
        successes = np.array([float(bool(rollout.outcome.success)) for rollout in rollouts])
        return found | {
            "rewards/mean": self._scale * float(np.mean(earned)) if earned else None,
            "rewards/corr": correlation(means, successes) if rollouts else None,
            "rewards/scale": self._scale,
        }


def knows_golden(taskset: Taskset, split: str) -> bool:
    """Whether any of a split's first tasks has golden calls."""
    if split not in taskset.splits:
        return False  # whose error it is says so
    tasks = take(taskset, split, min(_LOOKED_AT, taskset.splits[split]))
    return any(taskset.golden(task) is not None for task in tasks)


def check_rewards(file: RewardFile, taskset: Taskset, split: str) -> None:
    """Raises InputError for a reward file of which nothing could ever pay on these tasks."""
    if file.needs_golden and not knows_golden(taskset, split):
        valued = ", ".join(name for name, tier in file.tiers.items() if tier.value)
        raise InputError(
            f"the reward file {file.name!r} pays for {valued} alone, which need golden calls, and {taskset.env} names "
            "none; give its taskset a golden(self, task), or value other tiers"
        )


def notes_on(file: RewardFile, taskset: Taskset, split: str, credit: CreditSpec) -> list[str]:
    """What a person should know before training with these rewards: what of them will have no effect."""
    found = []
    if not knows_golden(taskset, split):
        idle = ", ".join(name for name, tier in file.tiers.items() if tier.needs_golden)
        if idle:
            found.append(f"{taskset.env} names no golden calls: of {file.name!r}, {idle} never come up")
    if any(tier.value for tier in file.tiers.values()) and not credit.heeds_turns:
        found.append(
            f"credit.estimator={credit.estimator!r} heeds the outcome alone: turn rewards are stored and counted, and "
            "change no advantage"
        )
    return found


def keep(run: RunFolder, file: RewardFile) -> None:
    """Write the reward file into the run's folder. Raises InputError where the run began with another one."""
    place = run.path / FIRST
    if not place.exists():
        run.make(FOLDER)
        write_reward_file(place, file)
    elif changes := diff_of(read_reward_file(place), file):
        raise InputError(
            f"{run.path} began with the reward file {place}, and goes on with it alone; what it is given now differs: "
            f"{'; '.join(changes[:3])}"
        )
