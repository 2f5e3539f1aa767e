"""What a folder holds: a training run, finished or not, or an evaluation. Nothing in it is run, and gaps are noted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banty.errors import InputError, StoreError
from banty.evals import Card, CardComparison, compare_cards, latest_roots, read_card
from banty.evals.audit import Standing, standing_of
from banty.records import Rollout
from banty.report.wording import finite, table
from banty.rollout import Store
from banty.runs import RunFolder, read_rows


@dataclass(frozen=True)
class Evaluation:
    """The same tasks before and after training. `name` is empty for the main one; `refused` says why the two cards
    cannot be compared. `standing` says whether its tasks may be called held-out."""

    name: str
    before: Card | None = None
    after: Card | None = None
    comparison: CardComparison | None = None
    refused: str = ""
    standing: Standing | None = None


@dataclass(frozen=True)
class Source:
    """A folder's contents. `rows` are the metrics of training steps, `sittings` those of an
    evaluation; `single` is the card of a plain evaluation; `notes` say what could not be read."""

    path: Path
    kind: str
    recipe: Mapping[str, Any]
    manifest: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()
    sittings: tuple[Mapping[str, Any], ...] = ()
    single: Card | None = None
    main: Evaluation = Evaluation("")
    further: tuple[Evaluation, ...] = ()
    engine: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_eval(self) -> bool:
        return self.kind == "eval"

    @property
    def is_import(self) -> bool:
        """True for somebody else's log: nothing here trained or measured it."""
        return self.kind == "import"

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The main one and the further ones, as far as they have a card."""
        return tuple(one for one in (self.main, *self.further) if one.before or one.after)

    @property
    def card(self) -> Card | None:
        """The newest card about what the folder is about."""
        return self.single or self.main.after or self.main.before

    @property
    def name(self) -> str:
        """What was trained or measured, in a word."""
        if self.card is not None:
            policy = str(self.card.data["identity"].get("policy", ""))
            return policy if self.is_eval else policy.removesuffix(" before").removesuffix(" after")
        if self.is_eval:
            return str(self.recipe.get("policy", ""))
        if self.is_import:
            return " and ".join(name for name in table(self.recipe.get("policies")) if name) or "an unnamed policy"
        policy_block = table(self.recipe.get("policy"))
        return Path(str(policy_block.get("start") or policy_block.get("type") or "a policy")).name

    @property
    def env(self) -> str:
        """The environment's name; empty for a fine-tuning run without one."""
        if self.card is not None:
            return str(self.card.data["identity"]["env"])
        env = self.recipe.get("env")
        return env if isinstance(env, str) else str(table(env).get("name", ""))

    @property
    def steps_done(self) -> int:
        return self.rows[-1]["step"] + 1 if self.rows else 0

    @property
    def steps_planned(self) -> int | None:
        """None where the folder does not say: a fine-tuning over epochs whose data was not read yet."""
        train = table(self.recipe.get("train"))
        steps = int(finite(train.get("steps")) or 0)
        if self.kind != "sft":
            return steps or None
        samples, size = finite(self.data.get("num_samples")), finite(train.get("batch_size"))
        if not samples or not size:
            return steps or None
        whole = int(finite(train.get("epochs")) or 1) * math.ceil(samples / size)
        return min(whole, steps) if steps else whole

    def total(self, metric: str) -> float | None:
        """The sum of a metric over the steps that logged it; None if none did."""
        found = [value for row in self.rows if (value := finite(row.get(metric))) is not None]
        return math.fsum(found) if found else None


def read_source(folder: Path) -> Source:
    """Everything the page says, but the rollouts.

    Raises InputError for a folder that is neither a run nor an evaluation. What is missing or damaged inside one is
    left out, and noted where a reader would miss it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name a run or an evaluation, such as runs/train-habits-001")
    single = None
    notes: list[str] = []
    if (folder / "card.json").is_file():
        single = _card(folder, notes)
    if single is not None and not (folder / "manifest.json").exists():  # a card that was sent without its folder
        main = Evaluation("", standing=_beside(folder, single))
        return Source(
            folder, "eval", single.data["identity"], table(single.data.get("manifest")), single=single, main=main
        )
    run = RunFolder.open(folder)
    recipe, manifest = run.read_json("recipe.json"), run.read_json("manifest.json")
    kind = str(recipe.get("kind") or ("eval" if single else "rl"))
    log = folder / "metrics.jsonl"
    rows, damaged = read_rows(log) if log.is_file() else ([], 0)
    if damaged:
        lines = "1 line of metrics.jsonl is" if damaged == 1 else f"{damaged} lines of metrics.jsonl are"
        notes.append(f"{lines} damaged and left out.")
    trained_on = table(recipe.get("env")).get("split") if kind == "rl" else None
    return Source(
        path=folder,
        kind=kind,
        recipe=recipe,
        manifest=manifest,
        rows=() if kind == "eval" else tuple(rows),
        sittings=tuple(rows) if kind == "eval" else (),
        single=single,
        main=Evaluation("", standing=_beside(folder, single))
        if kind == "eval"
        else _evaluation(folder, "", notes, trained_on),
        further=tuple(_evaluation(folder, name, notes, trained_on) for name in _further_names(folder)),
        engine=_optional(run, "engine.json", notes),
        data=_optional(run, "data.json", notes),
        finished=(folder / "result.json").is_file(),
        notes=tuple(notes),
    )


def roots_of(folder: Path) -> list[Rollout]:
    """The root rollouts stored below a folder, tasks in their order; of several tries at one the last.

    Raises StoreError for a store that cannot be read.
    """
    found = _guarded(lambda: latest_roots(Store(folder / "rollouts")), folder)
    return sorted(found.values(), key=lambda one: (one.task.index, one.task.id, one.trial, one.rollout_id))


def last_roots_of(folder: Path) -> list[Rollout]:
    """The same of the store's last part alone: of training, its last step."""
    store = Store(folder / "rollouts")
    parts = store.parts()[-1:]
    found = _guarded(lambda: [one for one in store.read(parts) if one.depth == 0], folder)
    return sorted(found, key=lambda one: (one.task.index, one.task.id, one.trial, one.rollout_id))


def _guarded(read: Callable[[], Any], folder: Path) -> Any:
    try:
        return read()
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the rollouts in {folder} are damaged: {type(error).__name__} {error}") from error


def _further_names(folder: Path) -> list[str]:
    found = {place.name.split("-", 2)[2] for when in ("before", "after") for place in folder.glob(f"eval-{when}-?*")}
    return sorted(found)


def _evaluation(folder: Path, name: str, notes: list[str], trained_on: Any) -> Evaluation:
    """The evaluation `name` of a run, which trained on the split `trained_on`, where that is known."""
    suffix = f"-{name}" if name else ""
    places = (folder / f"eval-before{suffix}", folder / f"eval-after{suffix}")
    before, after = (_card(place, notes) if (place / "card.json").is_file() else None for place in places)
    newest = after or before
    if newest is None:
        return Evaluation(name)
    split = (str(newest.data["identity"]["env"]), str(trained_on)) if trained_on is not None else None
    standing = standing_of(places[1] if after else places[0], newest, split)
    if before is None or after is None:
        return Evaluation(name, before, after, standing=standing)
    try:
        return Evaluation(name, before, after, compare_cards(before, after), standing=standing)
    except (ValueError, TypeError, KeyError) as error:
        return Evaluation(name, before, after, refused=str(error), standing=standing)


def _beside(folder: Path, card: Card | None) -> Standing | None:
    return standing_of(folder, card) if card is not None else None


def _card(folder: Path, notes: list[str]) -> Card | None:
    try:
        return read_card(folder)
    except InputError as error:
        notes.append(f"{error}.")
        return None


def _optional(run: RunFolder, name: str, notes: list[str]) -> Mapping[str, Any]:
    try:
        return table(run.read_json(name)) if (run.path / name).is_file() else {}
    except InputError as error:
        notes.append(f"{error}.")
        return {}
