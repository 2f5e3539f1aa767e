"""One whole RL step: ours against TRL's GRPOTrainer with an environment class, the same turns and tokens.

    pip install 'banty[bench]'
    PYTHONPATH=. python benchmarks/rl_step.py
    PYTHONPATH=. python benchmarks/rl_step.py --threads 1 --trl bfloat16,bfloat16/8,autocast/8 --repetitions 7

A step is 64 completions = 8 prompts x 8, six turns each (see `fixed_work.py`), one update with AdamW, no reference
model. Ours collects through the driver, credits with GRPO, trains in bfloat16 with float32 masters, and publishes, as
`banty.train.rl` does. What is forced on TRL, and how it is stopped between steps, says `trl_steps.py`; its way
`bfloat16` has weights and moments in bfloat16 alone, which is less work than ours and rounds small updates away;
`autocast` is its own default. `bfloat16/8` accumulates the gradient from 8 passes, which is faster than one.

Steps alternate strictly; the first of each is not counted. Without TRL, ours is timed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from benchmarks.fixed_work import ForcedDesk, Work, nano, play, policy_over
from benchmarks.tables import counts, machine, table
from benchmarks.trl_steps import PRECISIONS, TrlSteps, missing

from banty.credit import CreditSpec, estimator_of
from banty.learn.learner import TorchLearner
from banty.records import OptimizerSpec, PolicyLoss
from banty.rollout import group_rollouts
from banty.train.rl import credit_groups

Step = Callable[[], tuple[float, float]]
OURS = "ours bfloat16"


@dataclass
class Split:
    """Seconds of the counted steps of one way."""

    generate: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)

    @property
    def whole(self) -> list[float]:
        return [sum(parts) for parts in zip(self.generate, self.train, strict=True)]


class OurSteps:
    """Ours, step by step: collect, credit, forward_backward, optim_step, publish."""

    def __init__(self, work: Work, *, dtype: str = "bfloat16", estimator: str = "grpo") -> None:
        self.work = work
        self._model = nano(dtype)
        self._policy = policy_over(self._model, work)
        self._desk = ForcedDesk(work, self._policy.renderer)
        self._learner = TorchLearner(self._model, OptimizerSpec(learning_rate=1e-6))
        self._estimator = estimator_of(CreditSpec(estimator=estimator))
        self._done = 0

    def step(self) -> tuple[float, float]:
        """Seconds of collecting, and of all that follows."""
        began = time.perf_counter()
        rollouts = asyncio.run(play(self._desk, self._policy, self._done))
        collected = time.perf_counter()
        samples = credit_groups(group_rollouts(rollouts), self._estimator)
        metrics = self._learner.forward_backward(samples, PolicyLoss())
        self._learner.optim_step()
        self._policy.load(self._learner.publish())
        ended = time.perf_counter()
        self._done += 1
        if metrics["tokens"] != self.work.total_sampled:
            raise AssertionError(f"trained on {metrics['tokens']:.0f} tokens, not {self.work.total_sampled}")
        return collected - began, ended - collected


@contextlib.contextmanager
def steps(work: Work, rivals: Sequence[str], threads: int, num_steps: int) -> Iterator[dict[str, Step]]:
    """Ours and TRL's, `rivals` as --trl names them, made under `threads` threads."""
    torch.set_num_threads(threads)
    with contextlib.ExitStack() as stack:
        made: dict[str, Step] = {OURS: OurSteps(work).step}
        for rival in rivals:
            precision, _, parts = rival.partition("/")
            trainer = TrlSteps(work, precision, threads, num_steps, micro_batches=int(parts or 1))
            stack.callback(trainer.close)
            made[f"TRL {rival}"] = trainer.step
        torch.set_num_threads(threads)  # whatever the trainers' set-up did
        yield made


def alternate(ways: Mapping[str, Step], repetitions: int) -> dict[str, Split]:
    """A step of each way in turn, over and over; the first of each is not counted."""
    splits = {name: Split() for name in ways}
    for repetition in range(repetitions + 1):
        for name, step in ways.items():
            generate_s, train_s = step()
            if repetition:
                splits[name].generate.append(generate_s)
                splits[name].train.append(train_s)
    return splits


def report(threads: int, splits: Mapping[str, Split]) -> str:
    """A line per way, with the ratio of TRL's best to it."""
    rivals = [statistics.median(split.whole) for name, split in splits.items() if name != OURS]
    rows = []
    for name, split in splits.items():
        whole = statistics.median(split.whole)
        ratio = f"{min(rivals) / whole:.2f}" if rivals else "-"
        parts = [cell for seconds in (split.generate, split.train, split.whole) for cell in _median_and_range(seconds)]
        rows.append([name, str(threads), *parts, str(len(split.whole)), ratio])
    timed = [cell for part in ("generate s", "train s", "step s") for cell in (part, "range")]
    return table(["way", "threads", *timed, "n", "times best TRL"], rows)


def _median_and_range(seconds: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f} - {max(seconds):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="counted steps of each")
    parser.add_argument("--threads", type=counts, default=[1, 2], help="such as 1,2")
    parser.add_argument("--trl", default="bfloat16/8,float32/8", help="PRECISION or PRECISION/MICRO_BATCHES, by commas")
    args = parser.parse_args()
    rivals = [name.strip() for name in args.trl.split(",")]
    if unknown := [name for name in rivals if not re.fullmatch(rf"({'|'.join(PRECISIONS)})(/[1-9]\d*)?", name)]:
        parser.error(f"--trl has {unknown[0]!r}; it takes {', '.join(PRECISIONS)}, with /8 for 8 micro-batches")
    if reason := missing():
        print(f"{reason}; timing ours alone")
        rivals = []
    work = Work()
    print(f"{work.num_episodes} episodes, {work.total_sampled} sampled tokens, {work.episode_tokens} tokens an episode")
    for threads in args.threads:
        with steps(work, rivals, threads, args.repetitions + 1) as ways:
            print(machine(), flush=True)
            print(report(threads, alternate(ways, args.repetitions)))
            print(machine(), flush=True)


if __name__ == "__main__":
    main()
