"""One rollout under the credit microscope as a page: the group's advantages, then a card a turn with its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from banty.credit import DEAD
from banty.microscope import Estimate, Look, Token, TurnLook
from banty.report.episodes import Entry, entries_by_turn
from banty.report.page import BEGINNING, Tile, check_target, template_of
from banty.report.wording import MISSING, count, number
from banty.runs import write_text

LEVELS = 4
LIKELY = (0.9, 0.5, 0.1)
"""A sampled token's line grows with each of these its probability is below."""


@dataclass(frozen=True)
class Cell:
    """An advantage as a figure and a tone: p1 to p4 above 0, n1 to n4 below, z where it is dead."""

    figure: str
    tone: str
    place: str = ""


@dataclass(frozen=True)
class Row:
    """A member of the group, and its advantages by turn."""

    name: str
    outcome: str
    success: bool
    mine: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """A group's advantages under one estimator. `most` is the largest, which has the full colour."""

    name: str
    most: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Piece:
    """A token in a strip."""

    text: str
    hint: str
    line: int = 0
    breaks: bool = False


@dataclass(frozen=True)
class Reason:
    """An estimator's advantage of a turn, and why."""

    name: str
    cell: Cell
    words: str


@dataclass(frozen=True)
class Card:
    """A turn. `facts` are what it earned; `table` has a row a sampled token."""

    name: str
    place: str
    trained: bool
    tier: str
    why: str
    facts: tuple[tuple[str, str], ...]
    reasons: tuple[Reason, ...]
    seen: tuple[Piece, ...]
    sampled: tuple[Piece, ...]
    table: tuple[tuple[str, ...], ...]
    entries: Sequence[Entry]

    @property
    def tones(self) -> str:
        return " ".join(f"{letter}-{reason.cell.tone}" for letter, reason in zip("xy", self.reasons, strict=False))


def write_look(found: Look, out: Path) -> Path:
    """Write `found` as one self-contained page to `out`; where it is.

    Raises InputError for an `out` that is a folder or holds anything but an earlier page; StoreError when the page
    cannot be written.
    """
    check_target(out)
    return write_text(out, _rendered(found))


def _rendered(found: Look) -> str:
    rollout = found.rollout
    scales = [_most(estimate) for estimate in found.estimates]
    opening, turns = entries_by_turn(rollout)
    outcome = rollout.outcome
    return template_of("microscope.html.jinja").render(
        beginning=BEGINNING,
        title=rollout.rollout_id,
        place=" ".join(filter(None, [rollout.policy, f"version {rollout.version}"])),
        verdict={True: "success", False: "failure", None: "not scored"}[outcome.success],
        solved=bool(outcome.success),
        reason=outcome.reason or rollout.detail,
        group=_group_words(found),
        no_credit=found.no_credit,
        notes=found.notes,
        tiles=_tiles(found),
        matrices=[_matrix(one, found, most) for one, most in zip(found.estimates, scales, strict=True)],
        opening=opening,
        cards=[_card(one, entries, found, scales) for one, entries in zip(found.turns, turns, strict=True)],
        tones=["z", *(f"{sign}{level}" for sign in "pn" for level in range(1, LEVELS + 1))],
        strengths={level: round(12 + 46 * level / LEVELS) for level in range(1, LEVELS + 1)},
    )


def _group_words(found: Look) -> str:
    members = found.members
    solved = sum(member.success for member in members)
    left_out = f"; {found.left_out} unscored left out" if found.left_out else ""
    return f"Its group has {len(members)} scored rollouts, {solved} of them successes{left_out}."


def _tiles(found: Look) -> list[Tile]:
    trained = [token for one in found.turns for token in one.sampled if token.trained]
    drifts = [abs(token.drift) for token in trained if token.drift is not None]
    place = found.place
    tiles = [Tile("outcome", number(found.members[place].outcome, 2))] if place is not None else []
    tiles.append(Tile("trained turns", count(sum(one.place is not None for one in found.turns))))
    if trained:
        tiles.append(Tile("trained tokens", count(len(trained))))
    if drifts:
        tiles.append(Tile("mean |drift|", _small(math.fsum(drifts) / len(drifts)), f"largest {_small(max(drifts))}"))
    return tiles


def _most(estimate: Estimate) -> float:
    return max((abs(value) for one in estimate.group for value in one), default=0.0)


def _cell(value: float, most: float, place: str = "") -> Cell:
    if abs(value) < DEAD:
        return Cell("0", "z", place)
    level = min(max(math.ceil(LEVELS * abs(value) / most), 1), LEVELS)
    return Cell(_signed(value, 2), f"{'p' if value > 0 else 'n'}{level}", place)


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _small(value: float) -> str:
    """A difference of logprobs: its size counts, not its digits."""
    return f"{value:.1e}".replace("-", "−", 1) if value else "0"


def _matrix(estimate: Estimate, found: Look, most: float) -> Matrix:
    rows = []
    names = [f"turn-{one.turn.index}" for one in found.turns if one.place is not None]
    for place, (member, advantages) in enumerate(zip(found.members, estimate.group, strict=True)):
        mine = place == found.place
        links = names if mine else [""] * len(advantages)
        cells = tuple(_cell(value, most, link) for value, link in zip(advantages, links, strict=True))
        rows.append(Row(f"trial {member.trial}", f"{member.outcome:g}", member.success, mine, cells))
    width = max((len(row.cells) for row in rows), default=0)
    return Matrix(estimate.name, number(most, 2), tuple(map(str, range(width))), tuple(rows))


def _card(one: TurnLook, entries: Sequence[Entry], found: Look, scales: Sequence[float]) -> Card:
    turn = one.turn
    reasons = tuple(
        Reason(estimate.name, _cell(credit.advantage, most), credit.reason)
        for estimate, credit, most in zip(found.estimates, one.credits, scales, strict=False)
    )
    return Card(
        name=f"turn {turn.index}",
        place=f"turn-{turn.index}",
        trained=one.place is not None,
        tier=one.label.tier if one.label else "",
        why=one.label.why if one.label else "",
        facts=_facts(one, found),
        reasons=reasons,
        seen=tuple(map(_piece, one.seen)),
        sampled=tuple(map(_piece, one.sampled)),
        table=tuple(map(_row, one.sampled)),
        entries=entries,
    )


def _facts(one: TurnLook, found: Look) -> tuple[tuple[str, str], ...]:
    if one.place is None:
        return ()
    facts = [
        ("reward", MISSING if one.reward is None else _signed(one.reward)),
        ("return", MISSING if one.returned is None else _signed(one.returned)),
    ]
    if one.credits:
        facts.append(("got this far", f"{one.reached} of {len(found.members)}"))
    drifts = [abs(token.drift) for token in one.sampled if token.drift is not None]
    if drifts:
        facts.append(("mean |drift|", _small(math.fsum(drifts) / len(drifts))))
    return tuple(facts)


def _piece(token: Token) -> Piece:
    said = str(token.id) if token.text is None else token.said
    lines = [f"id {token.id}", "trained" if token.trained else "mask 0"]
    line = 0
    if token.sampler is not None:
        chance = math.exp(min(token.sampler, 0.0))
        line = sum(chance < least for least in LIKELY)
        lines.append(f"sampler {token.sampler:.4f} (p {chance:.3f})")
    if token.trainer is not None:
        lines.append(f"trainer {token.trainer:.4f}")
    if token.drift is not None:
        lines.append(f"drift {_small(token.drift)}")
    return Piece(said or "∅", "\n".join(lines), line, "\n" in (token.text or ""))


def _row(token: Token) -> tuple[str, ...]:
    return (
        str(token.id),
        MISSING if token.text is None else token.said,
        str(int(token.trained)),
        number(token.sampler, 4),
        number(token.trainer, 4),
        MISSING if token.drift is None else _small(token.drift),
    )
