"""What is kept of a cell: one small line of JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from banty.errors import InputError
from banty.evals import Card, read_card
from banty.records import sha256_json
from banty.runs import RunFolder, read_metrics
from banty.sweeps.runs import NOTE

_MOST_POINTS = 100
_MEASURED_ON = ("env", "split", "seed", "tasks_sha256")
DIGEST_LENGTH = 16


def result_line(run: RunFolder, metrics: Sequence[str]) -> dict[str, Any]:
    """What a cell's finished run comes to. The same cell gives the same line, but for `seconds` and `commit`.

    Raises InputError for a metric that the run has none of.
    """
    note, recipe, manifest = run.read_json(NOTE), run.read_json("recipe.json"), run.read_json("manifest.json")
    rows = read_metrics(run.path / "metrics.jsonl")
    _check_known(metrics, rows)
    cards = {name: _cards(run, name) for name in ("", *recipe["eval"]["also"])}
    measured = {name: {when: _measured(card) for when, card in pair.items()} for name, pair in cards.items()}
    training_s = sum(row.get("time/step_s") or 0.0 for row in rows)
    evaluation_s = sum(card.data["cost"]["wall_s"] for pair in cards.values() for card in pair.values())
    every = math.ceil(len(rows) / _MOST_POINTS)
    main = measured.pop("")
    return {
        "arm": note["arm"],
        "seed": note["seed"],
        "recipe": note["digest"],
        "start": note["start"],
        "frozen": note["frozen"],
        "commit": manifest["commit"],
        "banty": manifest["banty"],
        "torch": manifest["packages"]["torch"],
        "threads": recipe["policy"]["threads"],
        **main,
        **({"also": measured} if measured else {}),
        "curve_every": every,
        "curve": {name: [_rounded(row.get(name)) for row in rows[:: every or 1]] for name in metrics},
        "sampled_tokens": sum(row.get("tokens/sampled") or 0 for row in rows),
        "seconds": round(training_s + evaluation_s, 2),
    }


def failure_line(note: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The line of a cell that failed; it is kept until the cell is run again."""
    return {
        "arm": note["arm"],
        "seed": note["seed"],
        "recipe": note["digest"],
        "start": note["start"],
        "frozen": note["frozen"],
        "failed": reason[:500],
    }


def _check_known(metrics: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    known = {name for row in rows for name in row if "/" in name}
    # Statuses are written in steps that have any.
    unknown = [name for name in metrics if name not in known and not name.startswith("status/")]
    if unknown:
        raise InputError(f"metrics names {unknown[0]!r}, which the run did not log; it has {', '.join(sorted(known))}")


def _cards(run: RunFolder, name: str) -> dict[str, Card]:
    return {when: read_card(run.path / f"eval-{when}{f'-{name}' if name else ''}") for when in ("before", "after")}


def _measured(card: Card) -> dict[str, Any]:
    """The numbers of a card, as they are: rounded, equal differences would seem to vary.

    `tasks` is what two cells must share to be compared: which tasks, under which grader.
    """
    data, identity = card.data, card.data["identity"]
    same = {**{key: identity[key] for key in _MEASURED_ON}, "grader": identity["provenance"].get("grader")}
    return {
        "success": data["success"]["estimate"],
        **{
            kind: {k: value["estimate"] for k, value in data[kind].items() if k != "1"}
            for kind in ("pass_hat", "pass_at")
        },
        "num_tasks": len(data["tasks"]),
        "num_trials": identity["num_trials"],
        "num_unscored": data["num_episodes"] - data["num_scored"],
        "tasks": sha256_json(same)[:DIGEST_LENGTH],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
