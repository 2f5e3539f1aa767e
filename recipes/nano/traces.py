"""Conversations of the airline's scripted agent for nano to imitate, as training samples.

The expert first, then the same agent lapsing at `lapse` of its decisions: competence before indiscipline. Tasks are
those of `airline/mini` train under seeds of their own, so that a training run's tasks (seed 0) are new to the model.

    python -m recipes.nano.traces

writes some of them into `corpus/airline.txt`, for the tokenizer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from recipes.nano.tokenizer import CORPUS, build_tokenizer

from banty.chat import Renderer
from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.airline.tasks import GeneratedTasks
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.policies.scripted import expert_policy
from banty.records import Policy, Rollout, TrainingSample
from banty.rollout import Cast, collect, plan_groups
from banty.train.sft import taught_samples
from banty.train.traces import trace_of

FIRST_SEED = 1000
SAMPLE_SEED, SAMPLE_TASKS, SAMPLE_SIZE = 1009, 250, 200_000
_CHUNK = 250


def player(lapse: float) -> Policy:
    """The scripted agent that lapses at each decision with this probability; at 0 the expert."""
    if not lapse:
        return expert_policy(AIRLINE_EXPERT)
    return HabitPolicy(AIRLINE_EXPERT, HabitWeights.with_lapses(AIRLINE_EXPERT.points, lapse), "careless")


def play(policy: Policy, split: str, indices: Sequence[int], seed: int) -> list[Rollout]:
    """One episode of each of these tasks of `airline/mini`."""
    taskset = GeneratedTasks("mini")
    specs = plan_groups([taskset.task(split, index, seed) for index in indices], num_trials=1, seed=seed)
    return [tree[0] for tree in asyncio.run(collect(specs, taskset, Cast(policy)))]


def supervised(num_traces: int, lapse: float, tokenizer: Path, num_processes: int) -> list[TrainingSample]:
    """So many conversations written with the tokenizer in a folder, in an order that does not depend on processes."""
    size = GeneratedTasks("mini").splits["train"]
    jobs = []
    for start in range(0, num_traces, _CHUNK):
        places = range(start, min(start + _CHUNK, num_traces))
        # Another seed for the lapses, so that nobody's conversation is another's with mistakes in it.
        seed = FIRST_SEED * (2 if lapse else 1) + start // size
        jobs.append(([place % size for place in places], seed, lapse, str(tokenizer)))
    if num_processes == 1:
        return [sample for job in jobs for sample in _supervised_chunk(job)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        return [sample for chunk in pool.imap(_supervised_chunk, jobs) for sample in chunk]


def _supervised_chunk(job: tuple[list[int], int, float, str]) -> list[TrainingSample]:
    from transformers import AutoTokenizer

    indices, seed, lapse, tokenizer = job
    renderer = Renderer(AutoTokenizer.from_pretrained(tokenizer))
    rollouts = play(player(lapse), "train", indices, seed)
    return [sample for rollout in rollouts for sample in taught_samples(trace_of(rollout), renderer)]


def sample_text() -> str:
    """Conversations of the expert and of an agent that lapses at three decisions in ten; one in ten with its prompt."""
    renderer = Renderer(build_tokenizer([""], vocabulary=0))
    texts: list[str] = []
    for lapse in (0.0, 0.3):
        for rollout in play(player(lapse), "train", range(SAMPLE_TASKS), SAMPLE_SEED):
            text = renderer.text(rollout.transcript, rollout.tools, add_generation_prompt=False)
            texts.append(text if len(texts) % 10 == 0 else text[text.index("<|im_start|>user") :])
    cut = "\n".join(texts)[:SAMPLE_SIZE]
    return cut[: cut.rindex("<|im_end|>") + len("<|im_end|>")] + "\n"


if __name__ == "__main__":
    (CORPUS / "airline.txt").write_text(sample_text(), encoding="utf-8")
