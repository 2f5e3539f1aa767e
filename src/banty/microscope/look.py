"""One rollout under the microscope: its turns and tokens, and what each turn's advantage is under some estimators."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banty.credit import Credit, CreditSpec, GroupRewards, estimator_of
from banty.errors import InputError
from banty.microscope.terms import Term, reason_of, terms_of
from banty.records import Group, Rollout, Segment, Turn
from banty.rollout import group_rollouts
from banty.rubrics import TurnLabel
from banty.train.recipe import TrainBlock
from banty.train.rl import shaped_rewards, teaches

Decode = Callable[[int], str]
_STEP = re.compile(r"step-\d+")


@dataclass(frozen=True)
class Member:
    """A scored rollout of the group. `outcome` is what estimators are given."""

    rollout_id: str
    trial: int
    success: bool
    outcome: float
    num_turns: int


@dataclass(frozen=True)
class TurnCredit:
    """A turn's advantage under one estimator, and what it was made of."""

    advantage: float
    weight: float
    parts: Mapping[str, float]
    terms: tuple[Term, ...]
    reason: str


@dataclass(frozen=True)
class Estimate:
    """One estimator's word on a rollout, by trainable turn, and on its whole group, by member."""

    spec: CreditSpec
    turns: tuple[TurnCredit, ...]
    group: tuple[tuple[float, ...], ...]

    @property
    def name(self) -> str:
        """The estimator, with the options that differ from its defaults."""
        plain = CreditSpec(estimator=self.spec.estimator)
        given = {**self.spec.options(), "scale": self.spec.scale, "rms": self.spec.rms}
        usual = {**plain.options(), "scale": plain.scale, "rms": plain.rms}
        changed = [f"{name}={value}" for name, value in given.items() if value != usual[name]]
        return ", ".join([self.spec.estimator, *changed])


@dataclass(frozen=True)
class Token:
    """A token as it was seen, or sampled and trained. Logprobs are None where there are none; `trainer` is the
    learner's."""

    id: int
    text: str | None
    trained: bool
    sampler: float | None = None
    trainer: float | None = None

    @property
    def said(self) -> str:
        """The text, with breaks and lone blanks to be seen; empty where nobody knows it."""
        text = (self.text or "").replace("\n", "⏎").replace("\t", "⇥")
        return text if text.strip(" ") else "·" * len(text)

    @property
    def drift(self) -> float | None:
        """The trainer's logprob less the sampler's."""
        return None if self.trainer is None or self.sampler is None else self.trainer - self.sampler


@dataclass(frozen=True)
class TurnLook:
    """A turn. `returned` is what is earned from it to the end, undiscounted, outcome included; `reached` how many of
    the group have a turn at its place. `credits` has one entry an estimator, none for a turn that is not trained."""

    turn: Turn
    place: int | None = None
    label: TurnLabel | None = None
    reward: float | None = None
    returned: float | None = None
    reached: int = 0
    credits: tuple[TurnCredit, ...] = ()
    seen: tuple[Token, ...] = ()
    sampled: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Look:
    """A rollout, its group and its turns. `no_credit` says why there is no advantage to show, where there is none."""

    rollout: Rollout
    members: tuple[Member, ...]
    left_out: int
    estimates: tuple[Estimate, ...]
    turns: tuple[TurnLook, ...]
    no_credit: str = ""
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> int | None:
        """Where the rollout stands among the members."""
        ids = [member.rollout_id for member in self.members]
        return ids.index(self.rollout.rollout_id) if self.rollout.rollout_id in ids else None


@dataclass(frozen=True)
class Lens:
    """What to look with. `labels` are the rollout's under some reward file; `decode` gives a token's text, and
    `trainer` the learner's logprobs of a turn's sampled tokens, by the turn's index."""

    specs: Sequence[CreditSpec] = (CreditSpec(), CreditSpec(estimator="hybrid"))
    block: TrainBlock = field(default_factory=TrainBlock)
    labels: Sequence[TurnLabel] = ()
    decode: Decode | None = None
    trainer: Mapping[int, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def look(rollout: Rollout, rollouts: Sequence[Rollout], lens: Lens) -> Look:
    """`rollout` among the stored `rollouts` of its folder, credited in its whole group.

    The group is every scored root episode of its group id. An estimator that works on a batch is given the groups of
    the same training step. Raises InputError for a spec that cannot work.
    """
    for spec in lens.specs:
        spec.check()
    group = _group_of(rollout, rollouts)
    members = [_member(one, rewards) for one, rewards in zip(group.scored, _rewards(group, lens), strict=True)]
    why_not = _why_not(rollout, group, members)
    estimates: list[Estimate] = []
    notes = list(lens.notes)
    if not why_not:
        batch = _batch_of(group, rollouts, lens, notes)
        estimates = [_estimate(spec, rollout, group, batch, lens) for spec in lens.specs]
        if len(members) == 1:
            notes.append("The group has one scored member: there is nothing to compare it with.")
    turns = _turns(rollout, group, estimates, lens)
    left_out = len(group.rollouts) - len(members)
    return Look(rollout, tuple(members), left_out, tuple(estimates), turns, why_not, tuple(notes))


def _group_of(rollout: Rollout, rollouts: Sequence[Rollout]) -> Group:
    """The rollout's group as stored; a child, which training compares with nobody, is alone."""
    if rollout.depth or not rollout.group_id:
        return Group(rollout.task, (rollout,))
    (group,) = group_rollouts(one for one in rollouts if one.group_id == rollout.group_id)
    return group


def _rewards(group: Group, lens: Lens) -> list[float]:
    return [float(value) for value in shaped_rewards(group, lens.block).outcomes] if group.scored else []


def _member(rollout: Rollout, outcome: float) -> Member:
    num_turns = sum(turn.trainable for turn in rollout.turns)
    return Member(rollout.rollout_id, rollout.trial, bool(rollout.outcome.success), outcome, num_turns)


def _why_not(rollout: Rollout, group: Group, members: Sequence[Member]) -> str:
    if rollout.depth:
        return "it is a child episode, and credit compares root episodes"
    if not rollout.scored:
        cause = f" ({rollout.cause})" if rollout.cause else ""
        return f"it is not scored: {rollout.status}{cause}; an episode without an outcome teaches nothing"
    if not any(turn.trainable for turn in rollout.turns):
        return "none of its turns is trained"
    earned = [turn.reward for one in group.scored for turn in one.turns if turn.reward is not None]
    if not all(map(math.isfinite, [*earned, *(member.outcome for member in members)])):
        return "its group has rewards that are no finite numbers"
    return ""


def step_of(rollout: Rollout) -> str:
    """The training step that an episode was sampled in, such as `step-0003`; empty outside training."""
    step = _STEP.match(rollout.group_id)
    return step[0] if step else ""


def near(rollout: Rollout, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts that its credit can depend on: those of its group, and of its training step."""
    step = step_of(rollout)
    return [one for one in rollouts if one.group_id == rollout.group_id or (step and step_of(one) == step)]


def _batch_of(group: Group, rollouts: Sequence[Rollout], lens: Lens, notes: list[str]) -> list[Group]:
    """The group, and behind it the other groups of its training step that were trained on, if an estimator asks."""
    if not any(_works_on_batches(spec) for spec in lens.specs):
        return [group]
    first = group.rollouts[0]
    others = group_rollouts(one for one in near(first, rollouts) if one.group_id != first.group_id)
    found = [other for other in others if other.scored]
    if lens.block.sampling_rounds > 1:
        own = estimator_of(lens.specs[0])
        found = [other for other in found if teaches(other, own, lens.block)]
    step = step_of(first)
    where = f"the {len(found) + 1} groups of {step}" if step else "this group alone: no training step names it"
    notes.append(f"What works on a batch (GDPO, a scale) was given {where}.")
    return [group, *found]


def _works_on_batches(spec: CreditSpec) -> bool:
    return spec.estimator == "gdpo" or spec.scale != "none"


def _estimate(spec: CreditSpec, rollout: Rollout, group: Group, batch: Sequence[Group], lens: Lens) -> Estimate:
    rewards = [shaped_rewards(one, lens.block) for one in batch]
    credit = estimator_of(spec)(rewards)[0]
    member = [one.rollout_id for one in group.scored].index(rollout.rollout_id)
    turns = tuple(
        _turn_credit(spec, rewards[0], credit, member, turn) for turn in range(len(credit.advantages[member]))
    )
    return Estimate(spec, turns, tuple(tuple(map(float, one)) for one in credit.advantages))


def _turn_credit(spec: CreditSpec, rewards: GroupRewards, credit: Credit, member: int, turn: int) -> TurnCredit:
    advantage, weight = float(credit.advantages[member][turn]), float(credit.weights[member][turn])
    terms = terms_of(spec, rewards, credit, member, turn)
    parts = {name: float(values[member][turn]) for name, values in credit.parts.items()}
    return TurnCredit(advantage, weight, parts, terms, reason_of(spec, terms, advantage))


def _turns(rollout: Rollout, group: Group, estimates: Sequence[Estimate], lens: Lens) -> tuple[TurnLook, ...]:
    trained = [turn for turn in rollout.turns if turn.trainable]
    lengths = [sum(turn.trainable for turn in one.turns) for one in group.scored]
    scored = rollout.scored
    after = _rewards(Group(rollout.task, (rollout,)), lens)[0] if scored else 0.0
    returned: dict[int, float] = {}
    for turn in reversed(trained):
        after += turn.reward or 0.0
        returned[turn.index] = after
    places = itertools.count()
    found = []
    for turn in rollout.turns:
        place = next(places) if turn.trainable else None
        found.append(
            TurnLook(
                turn,
                place,
                lens.labels[place] if place is not None and lens.labels else None,
                turn.reward,
                returned[turn.index] if scored and place is not None else None,
                sum(place < length for length in lengths) if place is not None else 0,
                tuple(one.turns[place] for one in estimates) if place is not None else (),
                *_tokens(turn, lens),
            )
        )
    return tuple(found)


def _tokens(turn: Turn, lens: Lens) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    segment = turn.segment
    if segment is None:
        return (), ()

    def text(one: int) -> str | None:
        return None if lens.decode is None else lens.decode(one)

    seen = tuple(Token(one, text(one), False) for one in segment.prompt_ids)
    trainer = _trainer(turn, segment, lens)
    sampled = tuple(
        Token(one, text(one), turn.trainable, _finite(sampler), None if trainer is None else _finite(trainer[place]))
        for place, (one, sampler) in enumerate(zip(segment.sampled_ids, segment.sampler_logprobs, strict=True))
    )
    return seen, sampled


def _trainer(turn: Turn, segment: Segment, lens: Lens) -> Sequence[float] | None:
    found = lens.trainer.get(turn.index)
    if found is not None and len(found) != len(segment.sampled_ids):
        raise InputError(
            f"turn {turn.index} has {len(segment.sampled_ids)} sampled tokens, and {len(found)} trainer logprobs are "
            "given; give one a token"
        )
    return found


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def look_json(found: Look, *, tokens: bool) -> dict[str, Any]:
    """A look as plain data; with `tokens`, every token of every turn."""
    return {
        "group": {
            "group_id": found.rollout.group_id,
            "num_scored": len(found.members),
            "num_left_out": found.left_out,
            "members": [{**vars(member), "outcome": _finite(member.outcome)} for member in found.members],
        },
        "estimators": [
            {
                "name": one.name,
                "estimator": one.spec.estimator,
                "options": {**one.spec.options(), "scale": one.spec.scale, "rms": one.spec.rms},
                "advantages": dict(zip((member.rollout_id for member in found.members), one.group, strict=True)),
            }
            for one in found.estimates
        ],
        "no_credit": found.no_credit,
        "notes": list(found.notes),
        "turns": [_turn_json(one, found.estimates, tokens=tokens) for one in found.turns],
    }


def _turn_json(one: TurnLook, estimates: Sequence[Estimate], *, tokens: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "index": one.turn.index,
        "actor": one.turn.actor,
        "trained": one.place is not None,
        "tier": one.label.tier if one.label else None,
        "why": one.label.why if one.label else None,
        "score": one.label.score if one.label else None,
        "reward": one.reward,
        "return": one.returned,
        "reached_by": one.reached,
        "seen_tokens": len(one.seen),
        "sampled_tokens": len(one.sampled),
        "credit": [
            {
                "name": estimate.name,
                "advantage": credit.advantage,
                "weight": credit.weight,
                "parts": dict(credit.parts),
                "terms": [vars(term) for term in credit.terms],
                "reason": credit.reason,
            }
            for estimate, credit in zip(estimates, one.credits, strict=False)
        ],
    }
    if tokens:
        data["tokens"] = [
            {
                "id": token.id,
                "text": token.text,
                "trained": token.trained,
                "sampler_logprob": token.sampler,
                "trainer_logprob": token.trainer,
                "drift": token.drift,
            }
            for token in (*one.seen, *one.sampled)
        ]
    return data
