"""`banty eval --user A --user B`: the same agent under several users, a card each and how they differ.

```
OUT/users.json        who they are, each one's folder and result, all pairs, the spread
OUT/user-NAME/        an evaluation folder of its own: rollouts/, card.json
```
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from banty.cli.choices import Chosen
from banty.cli.evaluate import NothingScored, claim, identity_of, recipe_of, run_eval, unscored_words
from banty.cli.plain import plain
from banty.cli.show import amiss_rows, disagreement_lines, grader_rows, interval, number
from banty.cli.users import Desk, User, slug
from banty.errors import InputError, StoreError
from banty.evals import Card, EvalPlan, UserComparison, compare_users, read_card, user_of_card
from banty.rollout import Cast
from banty.runs import check_free
from banty.runs.folder import write_json

FORMAT = "banty-users-1"
USERS_FILE = "users.json"
_MANY_EXCLUDED = 0.1


class Seat(NamedTuple):
    """One user's evaluation."""

    desk: Desk
    user: User
    cast: Cast
    plan: EvalPlan

    @property
    def folder(self) -> str:
        return f"user-{slug(self.user.name)}"


class UserResults(NamedTuple):
    """The cards by user's name, and how they differ; None while fewer than two have a card. `unscored` says under whom
    no episode was scored, and why."""

    cards: Mapping[str, Card]
    comparison: UserComparison | None
    data: Mapping[str, Any]
    unscored: Sequence[str] = ()


def run_several(
    seats: Sequence[Seat], chosen: Chosen, out: Path, *, resume: bool, baselines: bool, quiet: bool = False
) -> UserResults:
    """Evaluate `chosen` under each user in turn, into folders of `out`.

    A user under whom nothing could be scored holds up no other. With `resume` finished episodes are kept, and users may
    be added. Raises InputError for a folder that is taken.
    """
    _claim(out, seats, chosen, resume)
    cards = _cards_in(out, seats)
    unscored: list[str] = []
    results = _write(out, seats, cards)
    for seat in seats:
        folder = out / seat.folder
        try:
            cards[seat.user.name] = run_eval(
                seat.plan,
                seat.desk.taskset,
                chosen,
                seat.cast,
                folder,
                resume=resume and folder.exists(),
                baselines=baselines,
                options=seat.desk.options,
                source=seat.desk.source,
                quiet=quiet,
                title=f"{seat.desk.taskset.env}, user {seat.user.name}",
                user=seat.user,
                out=out,
            )
        except NothingScored as nothing:
            unscored.append(f"user {seat.user.name}: {nothing}")
            cards[seat.user.name] = read_card(folder)
        results = _write(out, seats, cards)
    return results._replace(unscored=unscored)


def _claim(out: Path, seats: Sequence[Seat], chosen: Chosen, resume: bool) -> None:
    """Make `out` this evaluation's own, or check that it is, each user's folder included."""
    file = out / USERS_FILE
    if resume and file.is_file():
        left_out = [name for name in _names_in(file) if name not in {seat.user.name for seat in seats}]
        if left_out:
            raise InputError(f"{out} has results under the user {left_out[0]} too; name all its users with --resume")
        for seat in seats:
            if (out / seat.folder).exists():
                identity = identity_of(seat.plan, seat.desk.taskset, chosen, seat.cast, seat.user)
                claim(out / seat.folder, recipe_of(identity, seat.desk.options, seat.desk.source), resume)
        return
    if resume:
        raise InputError(f"{out} holds no evaluation under several users: it has no {USERS_FILE}")
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"could not make {out}: {error.strerror or error}") from error


def _cards_in(out: Path, seats: Sequence[Seat]) -> dict[str, Card]:
    """The cards that are there already; a damaged one is made again."""
    found: dict[str, Card] = {}
    for seat in seats:
        with contextlib.suppress(InputError):
            found[seat.user.name] = read_card(out / seat.folder)
    return found


def _names_in(file: Path) -> list[str]:
    try:
        data = json.loads(file.read_text())
        return [str(user["name"]) for user in data["users"]] if data["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {type(error).__name__} {error}") from error


def _write(out: Path, seats: Sequence[Seat], cards: Mapping[str, Card]) -> UserResults:
    """Write `users.json` as far as things are; whoever has no card yet has no version there."""
    users = [_user_json(seat, cards.get(seat.user.name)) for seat in seats]
    comparison = compare_users(cards) if len(cards) > 1 else None
    data = {"format": FORMAT, "users": users, **(comparison.to_json() if comparison else {"pairs": [], "spread": {}})}
    write_json(out / USERS_FILE, data)
    return UserResults(dict(cards), comparison, data)


def _user_json(seat: Seat, card: Card | None) -> dict[str, Any]:
    known = {"name": seat.user.name, "folder": seat.folder}
    temperature = None if seat.user.policy is None else seat.user.params.temperature
    if card is None:
        return {**known, "version": "", "temperature": temperature}
    user = user_of_card(card.data)
    simulator = card.data["simulator"]
    return {
        **known,
        "version": user["version"],
        "temperature": temperature,
        "kind": user["kind"],
        "success": card.data["success"],
        "num_episodes": card.data["num_episodes"],
        "num_scored": card.data["num_scored"],
        "faults": simulator["faults"],
        "suspicions": simulator["suspicions"],
    }


def show_users(console: Console, results: UserResults, out: Path) -> None:
    """A row a user, then a row a pair, and the spread beneath; `out` is where the result lies."""
    table = Table(title=plain("the same agent under several users"), title_justify="left")
    for column in ("user", "temperature", "pass^1, 95 % by task", "scored", "excluded", "suspicious"):
        table.add_column(column)
    for user in results.data["users"]:
        card = results.cards.get(user["name"])
        if card is None:
            continue
        excluded, simulator = user["num_episodes"] - user["num_scored"], card.data["simulator"]
        cells = (
            user["name"],
            number(user["temperature"], 2),
            interval(user["success"]),
            str(user["num_scored"]),
            f"{excluded}{_listed(simulator['faults'])}",
            f"{simulator['num_suspicious']}{_listed(simulator['suspicions'])}",
        )
        table.add_row(*map(plain, cells))
    console.print(table)
    for user in results.data["users"]:
        if user["version"]:
            console.print(plain(f"{user['name']}: {user['version']}", style="dim"))
    for name, card in results.cards.items():
        for what, value in (*grader_rows(card.data), *amiss_rows(card.data)):
            console.print(plain(f"{name}: {what} {value}"))
        for line in disagreement_lines(card.data):
            console.print(plain(f"  {line}"))
        if unscored := unscored_words(card, out):
            console.print(plain(f"note: under {name} {unscored}"))
    if results.comparison is None:
        return
    pairs = Table(title=plain("paired by task: B minus A"), title_justify="left")
    for column in ("A", "B", "difference, 95 %", "p (Holm)", "detectable", "under B it is"):
        pairs.add_column(column)
    for pair in results.comparison.pairs:
        told = (str(pair.result.difference), number(pair.p_holm, 4), number(pair.result.mde))
        pairs.add_row(*map(plain, (pair.first, pair.second, *told, pair.verdict)))
    console.print(pairs)
    spread = results.comparison.spread
    found = (
        f"over {spread.num_tasks} tasks scored under all: range {number(spread.range)} of pass^1, standard deviation "
        f"{number(spread.sd_between_users)} once sampling noise is taken off"
    )
    unknown = "is not known: no task is scored under all"
    console.print(plain(f"spread between users {found if spread.num_tasks else unknown}"))
    for user in results.data["users"]:
        excluded = sum(user.get("faults", {}).values())
        if user.get("num_scored") and excluded > _MANY_EXCLUDED * user["num_episodes"]:
            share = f"{excluded} of {user['num_episodes']} episodes are excluded as faults of user {user['name']}"
            console.print(plain(f"note: {share}; its rate is about the rest, which nobody drew at random"))


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {kind}' for kind, count in counts.items())})" if counts else ""
