"""Conversations of the airline's scripted agent for nano to imitate, as training samples.

The expert first, then the same agent lapsing at `lapse` of its decisions: competence before indiscipline. With
`varied`, words come and go in what the customer says, as long as the expert would read it the same: a model that has
seen four templates only does not find a code in a fifth. Tasks are those of `airline/mini` train under seeds of their
own, so that a training run's tasks (seed 0) are new to the model.

    python -m recipes.nano.traces

writes some of them into `corpus/airline.txt`, for the tokenizer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import multiprocessing
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from recipes.nano.tokenizer import CORPUS, build_tokenizer

from banty.chat import Renderer
from banty.envs.airline.belief import insists, read
from banty.envs.airline.customers import is_yes
from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.airline.tasks import GeneratedTasks
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.policies.scripted import expert_policy
from banty.records import Message, Policy, Rollout, TrainingSample, generator
from banty.rollout import Cast, collect, plan_groups
from banty.train.sft import taught_samples
from banty.train.traces import Trace, trace_of

FIRST_SEED = 1000
SAMPLE_SEED, SAMPLE_TASKS, SAMPLE_SIZE = 1009, 250, 200_000
_CHUNK = 250
_TRIES = 6


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


def supervised(
    num_traces: int, lapse: float, tokenizer: Path, num_processes: int, varied: float = 0.0
) -> list[TrainingSample]:
    """So many conversations written with the tokenizer in a folder, a share of them `varied`, in an order that does not
    depend on processes."""
    size = GeneratedTasks("mini").splits["train"]
    jobs = []
    for start in range(0, num_traces, _CHUNK):
        places = range(start, min(start + _CHUNK, num_traces))
        # Another seed for the lapses, so that nobody's conversation is another's with mistakes in it.
        seed = FIRST_SEED * (2 if lapse else 1) + start // size
        jobs.append(([place % size for place in places], seed, lapse, str(tokenizer), varied))
    if num_processes == 1:
        return [sample for job in jobs for sample in _supervised_chunk(job)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        return [sample for chunk in pool.imap(_supervised_chunk, jobs) for sample in chunk]


def _supervised_chunk(job: tuple[list[int], int, float, str, float]) -> list[TrainingSample]:
    from transformers import AutoTokenizer

    indices, seed, lapse, tokenizer, varied = job
    renderer = Renderer(AutoTokenizer.from_pretrained(tokenizer))
    samples = []
    for rollout in play(player(lapse), "train", indices, seed):
        trace = trace_of(rollout)
        rng = generator(rollout.task.env_seed, "words")
        if rng.random() < varied:
            trace = vary(trace, rng)
        samples += taught_samples(trace, renderer)
    return samples


def vary(trace: Trace, rng: np.random.Generator) -> Trace:
    """The conversation with other words around what the customer says."""

    def changed(messages: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(
            dataclasses.replace(one, content=_vary_text(one.content, rng)) if one.role == "user" else one
            for one in messages
        )

    turns = tuple((message, changed(came)) for message, came in trace.turns)
    return dataclasses.replace(trace, opening=changed(trace.opening), turns=turns)


def _vary_text(text: str, rng: np.random.Generator) -> str:
    """`text` with words put in, left out and replaced; as it was where the expert would not read it the same."""
    for _ in range(_TRIES):
        words: list[str] = []
        for word in text.split(" "):
            plain = re.fullmatch(r"[A-Za-z]?[a-z']+[.,?!]?", word)
            draw = rng.random() if plain else 1.0
            if draw < 0.15:
                words.append(str(rng.choice(_words())))
            elif draw >= 0.2:
                words.append(word)
            if rng.random() < 0.1:
                words.append(str(rng.choice(_words())))
        if words and rng.random() < 0.3:
            words = [*(str(word) for word in rng.choice(_words(), int(rng.integers(1, 5)))), *words]
        found = " ".join(words)
        if reading(found) == reading(text):
            return found
    return text


def reading(text: str) -> tuple[object, ...]:
    """What the expert makes of a customer's message."""
    first, later = (read([*before, Message("user", text)], False) for before in ((), (Message("user", "Hello."),)))
    said = (first.intent, first.user_id, first.reservation_id, first.date, first.bags, first.reason, later.hint)
    return (*said, first.route, insists(text), is_yes(text), "###" in text, len(re.findall(r"\d+", text)))


@functools.cache
def _words() -> tuple[str, ...]:
    """Common words of the other desks' text."""
    text = " ".join((CORPUS / f"{name}.txt").read_text(encoding="utf-8") for name in ("documents", "mail"))
    return tuple(sorted(set(re.findall(r"(?<= )[a-z]{2,9}(?= )", text))))


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
