"""`banty inspect --rollout`: one stored rollout under the microscope, and how a terminal shows it."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from banty.cli.choices import credit_of
from banty.cli.inspection import expert_of_run, lapses_of
from banty.cli.labelling import Label, labelling_of
from banty.cli.plain import plain, visible
from banty.cli.rewards import load_predicate
from banty.cli.scoring import recipe_of_run, scores_of, training_run_of
from banty.cli.show import number, show_rollout
from banty.cli.tokens import model_of_run, tokenizer_beside, tokenizer_in
from banty.credit import DEAD, CreditSpec
from banty.errors import InputError
from banty.interop import GOLDEN
from banty.microscope import Decode, Lens, Look, TurnCredit, TurnLook, look, near
from banty.models.habits import START_ID, HabitWeights
from banty.records import Expert, Rollout
from banty.rubrics import RewardFile, TurnLabel, read_reward_file, rewarded, with_functions
from banty.train.recipe import TrainBlock
from banty.train.rewards import FIRST

MOST = 2
PLAIN = "outcome"
"""The packaged reward file that names the usual tiers and pays for none."""
BESIDE = (CreditSpec(), CreditSpec(estimator="hybrid"))
"""What the run's own estimator is shown beside: the first of these that it is not."""


def specs_of(texts: Sequence[str], own: CreditSpec | None) -> tuple[CreditSpec, ...]:
    """The estimators typed, or the run's own and one beside it."""
    if len(texts) > MOST:
        raise InputError(f"--credit is given {len(texts)} times; {MOST} estimators are shown side by side")
    if texts:
        return tuple(map(credit_of, texts))
    return BESIDE if own is None else (own, next(each for each in BESIDE if each != own))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was typed: estimators, a reward file, whether trainer logprobs and tokens are wanted, a tokenizer's folder,
    and whether code may be run."""

    credit: Sequence[str] = ()
    rewards: str = ""
    trainer: bool = False
    tokens: bool = False
    model: str = ""
    allow_code: bool = False


def look_at(folder: Path, rollout: Rollout, rollouts: Sequence[Rollout], asked: Asked) -> Look:
    """`rollout` under the microscope, as far as its folder allows; what it does not is said in the notes.

    With a reward file, turn rewards are what it gives; else they are as stored, and tiers those of the run's own file.
    Raises InputError for estimators and reward files that cannot work, and, where estimators were asked for, for a
    rollout without credit.
    """
    notes: list[str] = []
    own, block = _trained_with(folder, notes)
    specs = specs_of(asked.credit, own)
    kept = near(rollout, rollouts)
    labels: Sequence[TurnLabel] = ()
    if asked.rewards:
        file = _reward_file(asked.rewards, asked.allow_code)
        label = _labels(folder, file, asked.allow_code, notes)
        labels = label(rollout)
        kept = [rewarded(one, label(one)) if one.scored else one for one in kept]
        rollout = next(one for one in kept if one.rollout_id == rollout.rollout_id)
        notes.append(f"Turn rewards are those of {file.name}, version {file.version}, unscaled.")
    elif any((folder / name).is_file() for name in ("recipe.json", GOLDEN)):  # else nobody says whose tasks these are
        try:
            file = _reward_file(_own_rewards(folder), asked.allow_code)
            labels = _labels(folder, file, asked.allow_code, notes)(rollout)
        except InputError as why:
            notes.append(f"No tiers: {why}.")
    found = look(rollout, kept, Lens(specs, block))
    if asked.credit and found.no_credit:
        raise InputError(f"--credit: {rollout.rollout_id} has no advantage: {found.no_credit}")
    scores: Mapping[int, Sequence[float]] = {}
    if asked.trainer:
        try:
            scores, note = scores_of(folder, rollout, allow_code=asked.allow_code)
        except InputError as why:
            note = f"No trainer logprobs: {why}."
        notes.append(note)
    decode = _decoder(folder, rollout, asked, notes) if asked.tokens else None
    return look(rollout, kept, Lens(specs, block, labels, decode, scores, notes))


def _reward_file(rewards: str, allow_code: bool) -> RewardFile:
    return with_functions(read_reward_file(rewards), functools.partial(load_predicate, allow_code=allow_code))


def _labels(folder: Path, file: RewardFile, allow_code: bool, notes: list[str]) -> Label:
    """What names tiers by a reward file; notes where golden calls are not known. Raises InputError where the run's
    tasks cannot be had here."""
    labelling = labelling_of(folder, allow_code)
    if labelling.note:
        notes.append(f"{labelling.note[0].upper()}{labelling.note[1:]}.")
    return labelling.labels(file)


def _own_rewards(folder: Path) -> str:
    """The reward file a run began with, or the plain tiers."""
    return str(folder / FIRST) if (folder / FIRST).is_file() else PLAIN


def _trained_with(folder: Path, notes: list[str]) -> tuple[CreditSpec | None, TrainBlock]:
    """The estimator a training run was credited with, and its training block; none for an evaluation or a store."""
    try:
        if training_run_of(folder) != folder:
            return None, TrainBlock()
        recipe = recipe_of_run(folder)
        recipe.credit.check()
    except InputError as why:
        notes.append(f"The run's own estimator cannot be read: {why}.")
        return None, TrainBlock()
    return recipe.credit, recipe.train


def _decoder(folder: Path, rollout: Rollout, asked: Asked, notes: list[str]) -> Decode | None:
    """What a token id says: of a model its tokenizer's text, of a habit policy the decision; None where neither can be
    had, which is noted."""
    if not any(turn.segment for turn in rollout.turns):
        notes.append("It has no token ids: the policy shows none.")
        return None
    if not asked.model and rollout.policy.startswith("habits"):
        return _decisions(folder, expert_of_run(folder, asked.allow_code), notes)
    try:
        tokenizer = _tokenizer(folder, asked.model)
    except InputError as why:
        if asked.model:
            raise
        notes.append(f"Tokens are shown by their ids: {why}.")
        return None

    def decode(token: int) -> str:
        try:
            return str(tokenizer.decode([token], skip_special_tokens=False))
        except (OverflowError, ValueError, TypeError):  # an id that this tokenizer does not have
            return ""

    return decode


def _tokenizer(folder: Path, model: str) -> Any:
    """The tokenizer asked for; or that of what the run trained, and else of what it started from."""
    run = None if model else training_run_of(folder)
    if run is not None:
        with contextlib.suppress(InputError):
            return tokenizer_beside(run / "weights")
    return tokenizer_in(model or model_of_run(folder))


def _decisions(folder: Path, expert: Expert | None, notes: list[str]) -> Decode | None:
    try:
        run = training_run_of(folder)
        points = expert.points if expert is not None else HabitWeights.load((run or folder) / "weights").points
    except InputError:
        notes.append("Decisions are shown by their ids: the environment that names them cannot be made here.")
        return None
    words = {START_ID: "(turn begins)"}
    words |= dict(enumerate(itertools.chain.from_iterable(points.values()), start=1))
    return lambda token: words.get(token, "")


# On a terminal.


def show_look(console: Console, found: Look, expert: Expert | None, *, tokens: bool) -> None:
    """The conversation, under each turn its credit and the reasons, and a table of all turns."""
    looks = {one.turn.index: one for one in found.turns}
    beneath = {index: _beneath(one, found, tokens=tokens) for index, one in looks.items()}
    show_rollout(console, found.rollout, lapses_of(found.rollout, expert), beneath)
    console.print()
    console.print(plain(_group_line(found), style="bold"))
    if found.no_credit:
        console.print(plain(f"No advantage: {found.no_credit}.", style="yellow"))
    for note in found.notes:
        console.print(plain(note, style="dim"))
    if any(one.place is not None for one in found.turns):
        console.print(_table(found))


def _group_line(found: Look) -> str:
    members = found.members
    outcomes = " ".join(f"{member.outcome:g}" for member in members)
    left_out = f", {found.left_out} unscored left out" if found.left_out else ""
    place = "" if found.place is None else f"; this is number {found.place + 1}"
    name = found.rollout.group_id or "no group"
    return f"group {name}: {len(members)} scored{left_out}, outcomes {outcomes or '-'}{place}"


def _beneath(one: TurnLook, found: Look, *, tokens: bool) -> list[Text | Table]:
    lines: list[Text | Table] = []
    if one.place is not None:
        facts = [
            f"tier {one.label.tier or '-'} ({one.label.why})" if one.label else "",
            f"reward {one.reward:+.3f}" if one.reward is not None else "no turn reward",
            f"return {one.returned:+.3f}" if one.returned is not None else "",
            f"{one.reached} of {len(found.members)} got this far" if one.credits else "",
            _counted(len(one.sampled)) if one.sampled else "no tokens: nothing is trained",
        ]
        lines.append(plain(f"      {', '.join(filter(None, facts))}", style="dim"))
    wide = max((len(estimate.name) for estimate in found.estimates), default=0)
    for estimate, credit in zip(found.estimates, one.credits, strict=False):
        line = plain(f"      {estimate.name:<{wide}} ")
        line.append_text(_signed(credit)).append_text(plain(f" = {credit.reason}"))
        lines.append(line)
    if tokens and one.sampled:
        lines.append(_tokens(one))
    return lines


def _signed(credit: TurnCredit) -> Text:
    if abs(credit.advantage) < DEAD:
        return Text(f"{0.0:>7.3f} dead", style="dim")
    return Text(f"{credit.advantage:>+7.3f}", style="bold blue" if credit.advantage > 0 else "bold red")


def _counted(tokens: int) -> str:
    return f"{tokens} token{'' if tokens == 1 else 's'}"


def _tokens(one: TurnLook) -> Table:
    table = Table(
        title=f"turn {one.turn.index}: {_counted(len(one.seen))} seen before it (mask 0)", title_justify="left"
    )
    table.add_column("id", justify="right")
    table.add_column("text", overflow="fold")
    for name in ("mask", "sampler", "trainer", "drift"):
        table.add_column(name, justify="right")
    for token in one.sampled:
        table.add_row(
            str(token.id),
            plain(token.said),
            str(int(token.trained)),
            number(token.sampler, 4),
            number(token.trainer, 4),
            "-" if token.drift is None else f"{token.drift:+.1e}",
        )
    return table


def _table(found: Look) -> Table:
    table = Table(title="advantages by turn", title_justify="left")
    table.add_column("turn", justify="right")
    table.add_column("what", overflow="fold")
    for name in ("tier", "tokens", "reward", "return", *(visible(one.name) for one in found.estimates)):
        table.add_column(name, justify="right")
    for one in found.turns:
        if one.place is None:
            continue
        calls = ", ".join(call.name for call in one.turn.message.calls)
        table.add_row(
            str(one.turn.index),
            plain(calls or ("broken call" if one.turn.message.faults else "message")),
            plain(one.label.tier if one.label else "-"),
            str(len(one.sampled)),
            number(one.reward),
            number(one.returned),
            *(_signed(credit) for credit in one.credits),
        )
    return table
