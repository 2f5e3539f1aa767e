"""`banty plan`: what a recipe will take in memory, time, tokens and money, before it is run."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from banty.cli.local import settle_threads
from banty.cli.training import Prepared, check_recipe
from banty.errors import InputError
from banty.perf import DEVICES, EpisodeShape, Machine, Plan, Shape, UnitCosts, Usage, Workload, usage_since
from banty.perf.plan import assumed_costs, memory_bytes, sampling
from banty.records import EpisodeSpec, Limits, Rollout, SamplingParams, Taskset, TrainingSample, derive
from banty.rollout import Cast, Store, collect, group_rollouts, plan_groups, stored_rollouts
from banty.runs import RunFolder
from banty.train.recipe import RLRecipe
from banty.train.rl import minibatches
from banty.train.samples import pack_rollout

if TYPE_CHECKING:
    from banty.learn.learner import TorchLearner
    from banty.learn.memory import Held
    from banty.policies.token import TokenPolicy

HERE = "here"
PILOT_EPISODES = 64
_ROWS = (1, 8, 32, 64, 128)
_TOKENS = 8


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A plan, what it was made from, and what it rests on in words."""

    plan: Plan
    workload: Workload
    machine: Machine
    costs: UnitCosts
    grounds: str

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "machine": self.machine.to_json(),
            "grounds": self.grounds,
            "step_s": plan.step_s,
            "prefill_s": plan.sampling.prefill_s,
            "decode_s": plan.sampling.decode_s,
            "turns_s": plan.sampling.turns_s,
            "score_s": plan.score_s,
            "train_s": plan.train_s,
            "kept_s": plan.kept_s,
            "sampled_tokens": plan.sampling.sampled_tokens,
            "prefill_tokens": plan.sampling.prefill_tokens,
            "trained_tokens": plan.trained_tokens,
            "num_steps": plan.num_steps,
            "eval_s": plan.eval_s,
            "run_s": plan.run_s,
            "memory_bytes": plan.memory_bytes,
            "host_bytes": plan.host_bytes,
            "cost_usd": plan.cost_usd,
        }


def predict(
    recipe: RLRecipe,
    tasksets: dict[str, Taskset],
    device: str,
    lengths_of: str,
    price_usd_h: float | None,
    allow_code: bool = False,
) -> Prediction:
    """What `recipe` takes on this machine, measured with a few episodes of its own and a few passes; or on one of
    `DEVICES`, from its limits. `lengths_of` is a folder of rollouts that says how long episodes are."""
    if recipe.policy.type != "model":
        raise InputError("the habit policy computes next to nothing, and is not planned; plan a recipe with a model")
    if device not in (HERE, *DEVICES):
        raise InputError(f"device is {device!r}; it takes {HERE}, {', '.join(DEVICES)}")
    if device != HERE:
        if recipe.policy.dtype != "bfloat16":
            raise InputError(f"the limits of {device} are of bfloat16; plan with policy.dtype=bfloat16")
        # The model is opened for its sizes and its tokenizer, and what it needs there need not fit here.
        recipe = dataclasses.replace(recipe, policy=dataclasses.replace(recipe.policy, device="cpu"))
    prepared = check_recipe(recipe, tasksets, fits=device == HERE, allow_code=allow_code)
    assert prepared.policy is not None, "a recipe with a model has a policy"
    if device == HERE:
        return _here(recipe, tasksets, prepared.policy, lengths_of, price_usd_h)
    return _elsewhere(recipe, tasksets, prepared, DEVICES[device], lengths_of, price_usd_h)


def _here(
    recipe: RLRecipe, tasksets: dict[str, Taskset], policy: TokenPolicy, lengths_of: str, price_usd_h: float | None
) -> Prediction:
    from banty.learn.learner import TorchLearner
    from banty.learn.memory import state_bytes

    model = policy.engine.model
    noted: Any = settle_threads(model, recipe.policy.threads, None)["machine"]
    machine = Machine.from_json(noted)
    before = policy.usage()
    began = time.perf_counter()
    rollouts = _episodes(recipe, tasksets[""], policy)
    used = usage_since(policy.usage(), before)
    waited_s = time.perf_counter() - began - sum(one.seconds for one in used.values())
    num_turns = sum(len(one.agent_turns) for one in rollouts)
    workload = _workload(recipe, _stored(lengths_of) if lengths_of else rollouts)
    learner = TorchLearner(
        model,
        recipe.optimizer,
        micro_batch_tokens=recipe.learner.micro_batch_tokens,
        recompute=recipe.learner.recompute,
    )
    passes = _passes(policy, workload)
    train_token_s, update_s = _gradient_s(learner, recipe, rollouts)  # last: it changes the weights
    costs = UnitCosts(
        **passes,
        train_token_s=train_token_s,
        update_s=update_s,
        turn_s=max(waited_s, 0.0) / max(num_turns, 1),
    )
    saved_s, stored_s = _kept_s(learner, rollouts)
    kept_s = saved_s / recipe.train.checkpoint_every + stored_s / len(rollouts) * len(workload.step)
    state = _with_reference(state_bytes(model, recipe.optimizer), recipe, policy)
    plan = _plan(
        recipe, workload, costs, policy.engine.shape, state, kept_s, price_usd_h or 0.0, taught_share(rollouts)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # with a pilot's passes in it
    plan = dataclasses.replace(plan, memory_bytes=max(plan.memory_bytes, peak))
    grounds = (
        f"measured here: {len(rollouts)} episodes of the policy itself, passes of {_ROWS[0]} to {_ROWS[-1]} rows, a "
        f"gradient and an update{f'; lengths from {lengths_of}' if lengths_of else ''}"
    )
    return Prediction(plan, workload, machine, costs, grounds)


def _elsewhere(
    recipe: RLRecipe,
    tasksets: dict[str, Taskset],
    prepared: Prepared,
    machine: Machine,
    lengths_of: str,
    price_usd_h: float | None,
) -> Prediction:
    assert prepared.policy is not None, "a recipe with a model has a policy"
    import torch

    from banty.learn.memory import state_bytes

    model = prepared.policy.engine.model
    rollouts = _stored(lengths_of) if lengths_of else _episodes(recipe, tasksets[""], prepared.policy)
    workload = _workload(recipe, rollouts)
    shape = prepared.policy.engine.shape
    whole = not recipe.policy.lora_rank
    state = state_bytes(model, recipe.optimizer, torch.device("cuda"))  # as all of DEVICES are
    state = _with_reference(state, recipe, prepared.policy)
    costs = assumed_costs(machine, shape, workload, whole=whole, recompute=recipe.learner.recompute)
    price = machine.price_usd_h if price_usd_h is None else price_usd_h
    plan = _plan(recipe, workload, costs, shape, state, 0.0, price)
    grounds = f"assumed, not measured: the limits of one {machine.name}, and shares of them that such engines reach"
    return Prediction(plan, workload, machine, costs, grounds)


def _kept_s(learner: Any, rollouts: Sequence[Rollout]) -> tuple[float, float]:
    """Seconds of writing a checkpoint and of storing rollouts, the second time."""
    saved_s = stored_s = 0.0
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            learner.save(Path(folder))
            saved_s, began = time.perf_counter() - began, time.perf_counter()
            Store(Path(folder) / "rollouts").write("pilot", rollouts)
            stored_s = time.perf_counter() - began
    return saved_s, stored_s


def _plan(
    recipe: RLRecipe,
    workload: Workload,
    costs: UnitCosts,
    shape: Shape,
    state: Held,
    kept_s: float,
    price_usd_h: float,
    taught: float = 1.0,
) -> Plan:
    sampled = sampling(workload.step, workload.concurrency, workload.group_size, costs)
    train, block = recipe.train, recipe.eval
    # Rounds after the first take as many tasks as taught nothing.
    rounds = sum((1.0 - taught) ** place for place in range(train.sampling_rounds))
    kept = min(taught * rounds, 1.0) if train.sampling_rounds > 1 else taught
    distinct = round(workload.trained_tokens * (1.0 if recipe.loss.kl else kept))
    products = (4.0 if recipe.policy.lora_rank else 6.0) + (2.0 if recipe.learner.recompute else 0.0)
    forwards = (train.old_logprobs == "trainer") + (recipe.loss.kl > 0)  # over everything that was sampled
    scored_s = forwards * costs.train_token_s * workload.trained_tokens * 2.0 / products
    sampled = dataclasses.replace(
        sampled,
        prefill_s=rounds * sampled.prefill_s,
        decode_s=rounds * sampled.decode_s,
        turns_s=rounds * sampled.turns_s,
        prefill_tokens=round(rounds * sampled.prefill_tokens),
        sampled_tokens=round(rounds * sampled.sampled_tokens),
    )
    num_evaluated = block.num_tasks * block.num_trials
    episodes = list(itertools.islice(itertools.cycle(workload.episodes), num_evaluated))
    evaluated = sampling(episodes, block.concurrency, block.num_trials, costs)
    return Plan(
        sampling=sampled,
        train_s=train.epochs * (costs.train_token_s * distinct + train.minibatches * costs.update_s),
        score_s=scored_s,
        kept_s=kept_s,
        trained_tokens=distinct,
        num_steps=recipe.train.steps,
        eval_s=2 * (1 + len(block.also)) * evaluated.seconds,
        memory_bytes=memory_bytes(
            shape,
            workload,
            state_bytes=state.device,
            micro_batch_tokens=recipe.learner.micro_batch_tokens,
            recompute=recipe.learner.recompute,
        ),
        price_usd_h=price_usd_h,
        host_bytes=state.host,
    )


def _workload(recipe: RLRecipe, rollouts: Sequence[Rollout]) -> Workload:
    from banty.models.tree import token_tree

    block = recipe.train
    episodes = lengths(rollouts)
    batch = _samples(rollouts)[: block.tasks_per_step * block.rollouts_per_task]
    parts = [[one.token_ids for one in part] for part in minibatches(batch, block.minibatches, block.seed)]
    shared = episodes[0].shared
    own = sum(len(one.token_ids) - shared for one in batch)
    distinct = (sum(len(token_tree(part).ids) for part in parts) - shared) / max(own, 1)
    return Workload(
        tuple(episodes), block.tasks_per_step, block.rollouts_per_task, block.concurrency, min(distinct, 1.0)
    )


def _samples(rollouts: Sequence[Rollout]) -> list[TrainingSample]:
    """Everything that was sampled, to be trained with an advantage of 1."""
    samples: list[TrainingSample] = []
    for group in group_rollouts(rollouts):
        for rollout in group.rollouts:
            turns = [turn for turn in rollout.turns if turn.trainable]
            samples += pack_rollout(rollout, turns, [1.0] * len(turns), [1.0] * len(turns))
    return samples


def _episodes(recipe: RLRecipe, taskset: Taskset, policy: TokenPolicy) -> list[Rollout]:
    """A few groups of the recipe's own episodes, on tasks and draws that training does not use."""
    block = recipe.train
    size = taskset.splits[recipe.env.split]
    num_tasks = min(max(PILOT_EPISODES // block.rollouts_per_task, 1), size)
    tasks = [taskset.task(recipe.env.split, size - 1 - place, block.seed) for place in range(num_tasks)]
    specs: Sequence[EpisodeSpec] = plan_groups(tasks, block.rollouts_per_task, derive(block.seed, "plan"), "plan")
    cast = Cast(policy, params=SamplingParams(temperature=block.temperature))
    limits = Limits(max_turns=block.max_turns, max_tokens=block.max_tokens or None)
    trees = asyncio.run(collect(specs, taskset, cast, limits, concurrency=block.concurrency))
    return [tree[0] for tree in trees]


def _stored(folder: str) -> list[Rollout]:
    """The rollouts of a run of a language model. Raises InputError for one of habits, whose decisions are no tokens."""
    place = Path(folder)
    made: Any = RunFolder.open(place).read_json("recipe.json") if (place / "recipe.json").is_file() else {}
    if made.get("policy", {}).get("type") == "habits":
        raise InputError(f"{folder} is a run of the habit policy, whose decisions are no tokens; name one of a model")
    return stored_rollouts(place)


def _with_reference(state: Held, recipe: RLRecipe, policy: TokenPolicy) -> Held:
    """And the weights that a KL term is measured against."""
    if not recipe.loss.kl:
        return state
    held = sum(value.numel() * value.element_size() for value in policy.engine.model.trainable().values())
    return state._replace(device=state.device + held)


def taught_share(rollouts: Sequence[Rollout]) -> float:
    """The share of groups that teach anything, in which not all episodes earned the same; one more is taken to, since a
    few groups say little."""
    groups = group_rollouts(rollouts)
    mixed = sum(len({rollout.outcome.success for rollout in group.scored}) > 1 for group in groups)
    return (mixed + 1) / (len(groups) + 1)


def lengths(rollouts: Sequence[Rollout]) -> list[EpisodeShape]:
    """Of each rollout that sampled anything, its lengths; in the order of their groups."""
    found = []
    whole = [one for group in group_rollouts(rollouts) for one in group.rollouts if one.agent_turns]
    firsts = [turn.segment.prompt_ids for one in whole if (turn := one.agent_turns[0]).segment is not None]
    shared = _common(firsts)
    for rollout in whole:
        turns = rollout.agent_turns
        ends = [turn.prompt_tokens + turn.sampled_tokens for turn in turns]
        observed = [max(after.prompt_tokens - end, 0) for end, after in zip(ends, turns[1:], strict=False)]
        pairs = zip((turn.sampled_tokens for turn in turns), [*observed, 0], strict=True)
        found.append(EpisodeShape(turns[0].prompt_tokens, shared, tuple(pairs)))
    if not found:
        raise InputError("these rollouts hold no episode with tokens; name a run of a language model")
    return found


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all prompts begin with."""
    if not prompts:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    return next((place for place, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))


def _passes(policy: TokenPolicy, workload: Workload) -> dict[str, Any]:
    """What passes of the recipe's engine cost, at the lengths of its episodes."""
    observed = [told for one in workload.episodes for _, told in one.turns if told] or [16]
    width = round(float(np.mean(observed)))
    most = min(workload.concurrency, len(workload.step))
    decode, prefill = [], []
    for rows in sorted({*(rows for rows in _ROWS if rows < most), most}):
        drawn, told = asyncio.run(_timed(policy, rows, workload, width))
        decode.append((rows, drawn.seconds / max(drawn.passes, 1)))
        prefill.append((told.tokens, told.seconds))
    few, many = prefill[0], prefill[-1]
    token_s = max((many[1] - few[1]) / max(many[0] - few[0], 1), 0.0) if len(prefill) > 1 else few[1] / few[0]
    pass_s = max(few[1] - token_s * few[0], 0.0)
    return {"decode": tuple(decode), "prefill_pass_s": pass_s, "prefill_token_s": token_s}


class _AtOnce:
    """A gate that lets an engine tick in this thread whenever it likes. In a thread of its own it would give the OpenMP
    library a second team, after which both wait asleep, and small operations take twice as long."""

    async def parked(self, engine: str, answer: asyncio.Future[Any]) -> Any:
        return await answer

    async def turn(self, engine: str) -> None:
        await asyncio.sleep(0)


async def _timed(policy: TokenPolicy, rows: int, workload: Workload, width: int) -> tuple[Usage, Usage]:
    """What `rows` sessions half way use for a few tokens each, and then for `width` more of a prompt; the second time
    they do, when kernels are built."""
    from banty.policies.engine import TokenRequest

    engine = policy.engine
    rng = np.random.default_rng(0)
    vocabulary, shared = len(engine.model.head), workload.shared
    beginning = tuple(rng.integers(0, vocabulary, shared).tolist())
    room = engine.model.max_tokens - shared - 2 * (width + _TOKENS + 1)
    length = max(min(workload.usual_length - shared, room), 1)
    ids = [beginning + tuple(rng.integers(0, vocabulary, length).tolist()) for _ in range(rows)]
    drawn = told = Usage()
    for _ in range(2):
        for kind in ("drawn", "told"):
            before = engine.usage()
            tokens = _TOKENS if kind == "drawn" else 1
            asked = [
                engine.generate(
                    TokenRequest(f"plan {row}", one, frozenset(), SamplingParams(seed=row), tokens, gate=_AtOnce())
                )
                for row, one in enumerate(ids)
            ]
            answers = await asyncio.gather(*asked)
            used = usage_since(engine.usage(), before)
            drawn, told = (used["decode"], told) if kind == "drawn" else (drawn, used["prefill"])
            more = [tuple(rng.integers(0, vocabulary, width).tolist()) for _ in range(rows)]
            ids = [one + answer.ids + new for one, answer, new in zip(ids, answers, more, strict=True)]
    for row in range(rows):
        await engine.release(f"plan {row}")
    return drawn, told


def _gradient_s(learner: TorchLearner, recipe: RLRecipe, rollouts: Sequence[Rollout]) -> tuple[float, float]:
    """Seconds a distinct token of a gradient over rollouts, and of an update; the second time, when kernels are
    built."""
    samples = _samples(rollouts)
    loss = dataclasses.replace(recipe.loss, kl=0.0, correction="none")  # what they need beside is planned apart
    seconds = tokens = update_s = 0.0
    for _ in range(2):
        before = learner.usage()["train"]
        metrics = learner.forward_backward(samples, loss)
        seconds, tokens = (learner.usage()["train"] - before).seconds, metrics["passed_tokens"]
        began = time.perf_counter()
        learner.optim_step()
        update_s = time.perf_counter() - began
    return seconds / max(tokens, 1.0), update_s
