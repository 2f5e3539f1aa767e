"""The evaluations a card is made of: read, checked to belong together, and put together by the user they were played
with."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError, StoreError
from banty.evals.card import Card, read_card
from banty.evals.dependability.imported import IMPORT, imported_card
from banty.evals.dependability.training import Training, training_of
from banty.evals.suite import latest_roots
from banty.evals.users import table, user_of_card, user_words
from banty.records import Rollout
from banty.rollout import Store

USERS_FILE, USERS_FORMAT = "users.json", "banty-users-1"
CARD_FORMAT = "banty-dependability-1"
Trials = Sequence[float | None]


@dataclass(frozen=True)
class Result:
    """One evaluation: its card, and its root rollouts where they are stored; `why_card` says why they are not used.

    `recipe` is the folder's own, empty where there is none. `user` is what a `users.json` says of its user. `training`
    is the run that its policy came out of, where the folder leads to one.
    """

    place: Path
    card: Card
    sha256: str
    rollouts: tuple[Rollout, ...] | None = None
    why_card: str = ""
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    user: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    training: Training | None = None

    @property
    def folder(self) -> Path:
        return self.place if self.place.is_dir() else self.place.parent

    @property
    def imported(self) -> bool:
        return self.recipe.get("kind") == IMPORT

    @property
    def identity(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.card.data["identity"]
        return found

    @property
    def source(self) -> str:
        """What its figures are made of: `rollouts` or `card`."""
        return "card" if self.rollouts is None else "rollouts"

    @property
    def weights(self) -> str:
        return str(table(self.identity.get("policy_details")).get("weights_sha256") or "")

    @property
    def scored(self) -> tuple[Rollout, ...]:
        """The rollouts that count; none where only a card is there."""
        return tuple(rollout for rollout in self.rollouts or () if rollout.scored)

    @property
    def successes(self) -> dict[str, Trials]:
        """The verdicts of each task's trials, by its place in the split."""
        if self.rollouts is None:
            return {task_place(task["id"]): task["successes"] for task in self.card.data["tasks"]}
        found: dict[str, list[float | None]] = {task_place(task["id"]): [] for task in self.card.data["tasks"]}
        for rollout in self.rollouts:
            verdict = float(bool(rollout.outcome.success)) if rollout.scored else None
            found[task_place(rollout.task.id)].append(verdict)
        return dict(found)


@dataclass(frozen=True)
class User:
    """Results with the same user. More than one are replicates: `repetitions` of the same weights, or `checkpoints`."""

    name: str
    version: str
    temperature: float | None
    results: tuple[Result, ...]

    @property
    def replicates(self) -> str:
        if len(self.results) == 1:
            return "none"
        return "repetitions" if len({result.weights for result in self.results}) == 1 else "checkpoints"

    @property
    def scored(self) -> tuple[Rollout, ...]:
        return tuple(rollout for result in self.results for rollout in result.scored)

    @property
    def source(self) -> str:
        """`rollouts`, `card`, or `rollouts of N of M results` where some are not stored."""
        with_rollouts = sum(result.rollouts is not None for result in self.results)
        if with_rollouts in (0, len(self.results)):
            return self.results[0].source
        return f"rollouts of {with_rollouts} of {len(self.results)} results"

    @property
    def card_source(self) -> str:
        """What figures are from that no rollouts give: one card, the first of several."""
        return "card" if len(self.results) == 1 else f"card of {self.results[0].place}"


def task_place(task_id: str) -> str:
    """A task's id without its seed, which may differ between repetitions of the same tasks."""
    return task_id.rpartition(":")[0]


def read_results(paths: Sequence[Path]) -> tuple[Result, ...]:
    """The evaluations in these folders, those that a `users.json` in one names included.

    Raises InputError for what is no evaluation, for a damaged card, for one without a scored episode, and where the
    results do not belong on one card: other tasks, grader, policy or sampling, or the same result twice.
    """
    if not paths:
        raise InputError("name at least one evaluation, such as runs/eval-airline-mini-001")
    found: list[Result] = []
    for path in paths:
        members = _users(path) if (path / USERS_FILE).is_file() else [(path, {})]
        found += [_read(place, user) for place, user in members]
    _check_together(found)
    return tuple(found)


def users_of(results: Sequence[Result]) -> tuple[User, ...]:
    """The results by user, in the order in which they were given."""
    by_user: dict[tuple[str, str, float | None], list[Result]] = {}
    for result in results:
        by_user.setdefault(_user_of(result), []).append(result)
    names = Counter(name for name, _, _ in by_user)
    return tuple(
        User(name if names[name] == 1 else _told_apart(name, version, at), version, at, tuple(members))
        for (name, version, at), members in by_user.items()
    )


def _told_apart(name: str, version: str, temperature: float | None) -> str:
    return user_words({"name": name, "version": version, "temperature": temperature})


def _user_of(result: Result) -> tuple[str, str, float | None]:
    told = {**user_of_card(result.card.data), **result.user}
    temperature = told.get("temperature")
    if not isinstance(temperature, (int, float)) or isinstance(temperature, bool):
        temperature = None
    return str(told.get("name")), str(told.get("version") or ""), None if temperature is None else float(temperature)


def _users(folder: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """The folders of an evaluation with several users, each with what is said of its user."""
    file = folder / USERS_FILE
    data = _json(file, "a list of users")
    rows = data.get("users") if isinstance(data, dict) and data.get("format") == USERS_FORMAT else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file} is no list of users: it takes the format {USERS_FORMAT!r} and at least one user")
    members: list[tuple[Path, Mapping[str, Any]]] = []
    for row in rows:
        name, place = table(row).get("name"), table(row).get("folder")
        if not isinstance(name, str) or not isinstance(place, str) or not name or not place:
            raise InputError(f"{file} is damaged: each user takes a name and a folder, and one has {row!r}")
        inside = folder / place
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{file} names {place!r}, which lies outside of it; name that folder yourself instead")
        members.append((inside, row))
    return members


def _read(path: Path, user: Mapping[str, Any]) -> Result:
    if not path.exists():
        raise InputError(f"{path} is not there; name an evaluation's folder or its card.json")
    file = path / "card.json" if path.is_dir() else path
    if not file.is_file():
        if path.is_dir() and (recipe := _recipe_in(path)).get("kind") == IMPORT:
            return _imported(path, recipe)
        raise InputError(f"{path} is no evaluation: {_what_it_is(path)}")
    if table(_json(file, "a result card")).get("format") == CARD_FORMAT:
        raise InputError(f"{path} is a dependability card already; name the evaluations it was made of")
    card = read_card(file)
    _check_card(card, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    folder = file.parent if file.name == "card.json" else None
    if folder is None or not (folder / "manifest.json").is_file():
        return Result(path, card, sha256, why_card="the card was given without its folder", user=user)
    training = training_of(folder, str(card.data["identity"]["policy"]))
    whole = Result(path, card, sha256, recipe=_recipe_in(folder), user=user, training=training)
    rollouts, why = _stored(folder, card)
    if rollouts is None:
        return dataclasses.replace(whole, why_card=why)
    counted = dataclasses.replace(whole, rollouts=rollouts)
    differ = sum(
        sorted(map(str, trials)) != sorted(map(str, whole.successes[place]))
        for place, trials in counted.successes.items()
    )
    notes = (f"{path}: rollouts and card.json differ in the verdicts of {differ} tasks; the rollouts count",)
    return dataclasses.replace(counted, notes=notes if differ else ())


def _stored(folder: Path, card: Card) -> tuple[tuple[Rollout, ...] | None, str]:
    """The evaluation's root rollouts, tasks in the card's order; or None and why."""
    order = {task["id"]: place for place, task in enumerate(card.data["tasks"])}
    try:
        found = latest_roots(Store(folder / "rollouts"))
    except (StoreError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"its rollouts cannot be read: {error}"
    roots = [one for one in found.values() if one.task.id in order]
    planned = sum(len(task["successes"]) for task in card.data["tasks"])
    if not roots:
        return None, "no rollouts are stored beside the card"
    if len(roots) != planned:
        return None, f"{len(roots)} of {planned} rollouts are stored"
    return tuple(sorted(roots, key=lambda one: (order[one.task.id], one.trial, one.rollout_id))), ""


def _imported(folder: Path, recipe: Mapping[str, Any]) -> Result:
    """An imported log as an evaluation: its card is made here, of what the log says."""
    try:
        rollouts = tuple(latest_roots(Store(folder / "rollouts")).values())
    except (StoreError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is a damaged import: its rollouts cannot be read: {error}") from error
    card = imported_card(folder, recipe, rollouts)
    _check_card(card, folder)
    note = f"{folder} is an imported log: what it does not say, such as limits, prices and code, is not known here"
    sha256 = hashlib.sha256((folder / "recipe.json").read_bytes()).hexdigest()
    return Result(folder, card, sha256, rollouts, recipe=recipe, notes=(note,))


def _recipe_in(folder: Path) -> Mapping[str, Any]:
    file = folder / "recipe.json"
    return table(_json(file, "a recipe")) if file.is_file() else {}


def _what_it_is(folder: Path) -> str:
    if not (folder / "recipe.json").is_file():
        return "it holds no card.json"
    if _recipe_in(folder).get("kind") == "eval":
        return (
            f"the evaluation in it has not ended; go on with banty eval ... --out {shlex.quote(str(folder))} --resume"
        )
    inside = [str(place.parent) for place in sorted(folder.glob("eval-*/card.json"))]
    named = f"; name one of its evaluations: {', '.join(inside)}" if inside else ", and it has no evaluation yet"
    return f"it is a training run{named}"


def _check_card(card: Card, file: Path) -> None:
    """Raises InputError for tasks that are none, and for a card that no episode of was scored."""
    tasks = card.data["tasks"]
    for task in tasks if isinstance(tasks, list) else ():
        trials = task.get("successes") if isinstance(task, dict) else None
        whole = isinstance(task, dict) and isinstance(task.get("id"), str) and isinstance(trials, list)
        if not whole or not all(value is None or value in (0.0, 1.0) for value in trials or ()):
            raise InputError(
                f"{file} is a damaged result card: one of its tasks has no id, or verdicts other than 0, 1"
            )
    if not isinstance(tasks, list) or not tasks:
        raise InputError(f"{file} is a damaged result card: it names no task")
    places = Counter(task_place(task["id"]) for task in tasks)
    if twice := next((place for place, count in places.items() if count > 1), None):
        raise InputError(f"{file} is a damaged result card: it names the task {twice!r} more than once")
    if "" in places:
        raise InputError(f"{file} is a damaged result card: the id {tasks[0]['id']!r} is not env:split:index:seed")
    for name, kind in (*((name, str) for name in ("env", "split", "policy", "tasks_sha256")), ("seed", int)):
        if not isinstance(card.data["identity"].get(name), kind):
            raise InputError(f"{file} is a damaged result card: its {name} is {card.data['identity'].get(name)!r}")
    for name in ("provenance", "params", "limits", "roles", "role_params", "policy_details"):
        if not isinstance(card.data["identity"].get(name, {}), dict):
            raise InputError(f"{file} is a damaged result card: its {name} are no table")
    if not any(value is not None for task in tasks for value in task["successes"]):
        raise InputError(
            f"{file} holds no scored episode, so there is nothing to say; see its causes, mend and --resume"
        )


_PROTOCOL = ("params", "limits")


def _check_together(results: Sequence[Result]) -> None:
    """Raises InputError unless the results are of one policy, or checkpoints of one, on the same tasks."""
    for first, second in itertools.combinations(results, 2):
        if first.place.resolve() == second.place.resolve() or _same_episodes(first, second):
            raise InputError(
                f"{first.place} and {second.place} hold the same episodes; a copy is no replicate: evaluate other "
                "weights or another user, or ask for more --trials"
            )
    first = results[0]
    for other in results[1:]:
        if said := _other_tasks(first, other):
            raise InputError(
                f"{first.place} and {other.place} were not measured on the same tasks: {said}. A card is about one set "
                "of tasks; make one for each"
            )
        for name in _PROTOCOL:
            if first.identity.get(name) != other.identity.get(name):
                raise InputError(
                    f"{first.place} and {other.place} were measured otherwise: {name} are {first.identity.get(name)} "
                    f"and {other.identity.get(name)}. banty compare sets two such results beside each other"
                )
        if said := _other_policy(first, other):
            raise InputError(
                f"{first.place} and {other.place} are of different policies: {said}. A card is about one; banty "
                "compare sets two beside each other"
            )


def _same_episodes(first: Result, second: Result) -> bool:
    """Whether one is a copy of the other, or the exact repetition of a deterministic one."""
    if first.sha256 == second.sha256:
        return True
    mine, other = first.card.data, second.card.data
    costs = [table(data.get("cost")) for data in (mine, other)]
    tokens = [[cost.get(name) for name in ("prompt_tokens", "sampled_tokens")] for cost in costs]
    # Where nobody counted tokens, equal verdicts alone are no proof.
    counted = any(tokens[0]) and tokens[0] == tokens[1]
    return counted and mine["identity"] == other["identity"] and mine["tasks"] == other["tasks"]


def _other_tasks(first: Result, second: Result) -> str:
    """How the tasks of two results differ; empty where they are the same."""
    for name in ("env", "split"):
        if first.identity[name] != second.identity[name]:
            return f"{name} is {first.identity[name]!r} and {second.identity[name]!r}"
    mine, other = (table(result.identity.get("provenance")) for result in (first, second))
    differing = [name for name in sorted({*mine, *other}) if mine.get(name) != other.get(name)]
    of_user = [name for name in differing if name.startswith("user")]
    for name in differing:
        if name not in of_user:
            return f"{name} is {mine.get(name)!r} and {other.get(name)!r}"
    places = [{task_place(task["id"]) for task in result.card.data["tasks"]} for result in (first, second)]
    if places[0] != places[1]:
        return f"they share {len(places[0] & places[1])} of {len(places[0])} and {len(places[1])}"
    # The fingerprint covers who the user is, so two users may have two of them over the same tasks.
    hashes = [str(result.identity["tasks_sha256"]) for result in (first, second)]
    if hashes[0] != hashes[1] and first.identity["seed"] != second.identity["seed"]:
        seeds = f"--seed is {first.identity['seed']} and {second.identity['seed']}"
        return f"{seeds}, and {first.identity['env']} draws other tasks with each. More --trials repeat the same ones"
    if not of_user and hashes[0] != hashes[1]:
        return f"tasks_sha256 is {hashes[0][:12]} and {hashes[1][:12]}"
    return ""


def _other_policy(first: Result, second: Result) -> str:
    """How two policies differ; empty for one policy, and for checkpoints of one method as far as anything tells.

    Checkpoints have weights that are known on both sides, were taken at the same point of training, and come out of
    training alike but for its seed, where the folders lead to it.
    """
    names = [str(result.identity["policy"]) for result in (first, second)]
    if names[0] != names[1]:
        moments = [name.rpartition(" ")[2] in ("before", "after") and name.rpartition(" ")[2] for name in names]
        if not (first.weights and second.weights) or moments[0] != moments[1]:
            return f"{names[0]} and {names[1]}"
    if first.weights == second.weights or None in (first.recipe.get("kind"), second.recipe.get("kind")):
        return ""
    if first.training is None or second.training is None:
        trained = next((one for one in (first, second) if one.training), None)
        return f"{names[0]} and {names[1]}, of which only {trained.place} was trained here" if trained else ""
    differing = first.training.differs_from(second.training)
    return f"in training, {differing}" if differing else ""


def _json(file: Path, what: str) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not {what}: {error}") from error
