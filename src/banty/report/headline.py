"""The one sentence that sums a run up: what was measured, on how much, how surely, and what it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from banty.errors import StoreError
from banty.evals import Card
from banty.report.source import Source, read_source, roots_of
from banty.report.wording import dollars, finite, interval, number, seconds, table, visible
from banty.stats import clustered_interval


def headline(folder: Path) -> str:
    """The run or evaluation in `folder` as one sentence; truthful about what is unfinished or was never measured.

    Raises InputError for a folder that is neither.
    """
    return sentence(read_source(Path(folder)))


def sentence(source: Source) -> str:
    if source.is_eval:
        words = _measured(source, source.single) if source.single is not None else _half_measured(source)
    elif source.is_import:
        words = _imported(source)
    elif source.main.before is not None and source.main.after is not None:
        words = _changed(source, source.main.before, source.main.after)
    elif source.main.after is not None:
        words = (
            f"{source.name} reaches {_result(source.main.after)} on {tasks_of(source, source.main.after)}, measured "
            f"after {_training(source)}; it has no evaluation from before, so no gain is shown{_refused(source)}"
        )
    else:
        words = _not_yet_measured(source)
    return visible(" ".join(words.split())) + "."


def how_sampled(card: Card) -> str:
    """How the policy answered: greedy, sampled, or sampled at a temperature other than 1."""
    temperature = finite(table(card.data["identity"].get("params")).get("temperature"))
    if temperature is None:
        return "measured"
    if temperature == 0.0:
        return "greedy"
    return "sampled" if temperature == 1.0 else f"sampled (temperature {temperature:g})"


def tasks_of(source: Source, card: Card) -> str:
    """How many tasks of what, times trials; held-out only where the audit beside the card allows it."""
    identity = card.data["identity"]
    standing = source.main.standing
    held_out = standing is not None and standing.held_out
    trials = int(finite(identity.get("num_trials")) or 1)
    times = f" x {trials} trials" if trials > 1 else ""
    num_tasks = len(card.data["tasks"])
    what = f"{'held-out ' if held_out else ''}{identity['split']} task{'s' if num_tasks != 1 else ''}"
    left_out = identity.get("without")
    without = (
        f" (without {len(left_out)} that overlap with training)" if isinstance(left_out, list) and left_out else ""
    )
    return f"{num_tasks} {what}{times} of {identity['env']}{without}"


def _refused(source: Source) -> str:
    """Why a result is not called held-out, where somebody might think that it is; for an evaluation by itself, after
    which training it is, since only whoever audited it knows."""
    standing = source.main.standing
    if source.is_eval and standing is not None and standing.held_out:
        return f"; held-out if trained on {standing.trained_on}" if standing.trained_on else ""
    if standing is None or standing.held_out or not (standing.audited or source.kind == "rl"):
        return ""
    return f"; not called held-out: {standing.refusal}"


def _result(card: Card) -> str:
    return f"{interval(card.data['success'], 2)} {how_sampled(card)} success"


def _changed(source: Source, before: Card, after: Card) -> str:
    comparison = source.main.comparison
    training = _training(source)
    if comparison is None:
        return (
            f"{source.name} was measured at {_result(before)} before and at {_result(after)} after {training}, but the "
            f"two cannot be compared ({source.main.refused.rstrip('.')})"
        )
    if how_sampled(before) != how_sampled(after):
        went = f"from {_result(before)} to {_result(after)}"
    else:
        went = f"from {interval(before.data['success'], 2)} to {_result(after)}"
    difference = interval(comparison.to_json()["difference"], 2)
    return (
        f"{source.name} went {went} on {tasks_of(source, after)} (difference {difference}, paired by task: "
        f"{comparison.result.verdict}) after {training}{_excluded(before, after)}{_refused(source)}; one training seed"
    )


def _excluded(*cards: Card) -> str:
    episodes = sum(int(finite(card.data.get("num_episodes")) or 0) for card in cards)
    lost = episodes - sum(int(finite(card.data.get("num_scored")) or 0) for card in cards)
    return f"; {lost} of {episodes} episodes could not be scored and are left out" if lost else ""


def _training(source: Source) -> str:
    """`37 steps of RL in 4 min 52 s on 2 CPU cores`."""
    method = {"rl": "RL", "sft": "fine-tuning"}.get(source.kind, "training")
    if not source.steps_done:
        return f"{method} of which no metrics are left"
    unit = "update" if source.kind == "sft" else "step"
    steps = f"{source.steps_done} {unit}{'s' if source.steps_done != 1 else ''} of {method}"
    took = source.total("time/step_s")
    return f"{steps}{f' in {seconds(took)}' if took is not None else ''}{place_of(source.engine, source.manifest)}"


def place_of(engine: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Where it ran: ` on 2 of 4 CPU cores`; empty where nobody noted it."""
    device, threads, cores = (
        str(engine.get("device", "")),
        finite(engine.get("threads")),
        finite(manifest.get("num_cpus")),
    )
    if device and not device.startswith("cpu"):
        return f" on {device}"
    if cores is None:
        return ""
    all_cores = f"{cores:.0f} CPU core{'s' if cores != 1 else ''}"
    if threads is None:
        return f" on a machine with {all_cores}"
    return f" on {f'{threads:.0f} of ' if threads < cores else ''}{all_cores}"


def _measured(source: Source, card: Card) -> str:
    took = finite(table(card.data.get("cost")).get("wall_s"))
    usd = finite(table(card.data.get("cost")).get("usd"))
    cost = "".join([f" in {seconds(took)}" if took is not None else "", f" for {dollars(usd)}" if usd else ""])
    beside = [f"{name} {number(table(found).get('estimate'), 2)}" for name, found in _baselines(card).items()]
    against = f"; beside it {', '.join(beside)}" if beside else ""
    return (
        f"{source.name} reaches {_result(card)} on {tasks_of(source, card)}{cost}{_excluded(card)}{against}"
        f"{_refused(source)}"
    )


def _imported(source: Source) -> str:
    """A log of another system: what it holds, and how much of it was solved, by its own verdict."""
    recipe = source.recipe
    try:
        roots = roots_of(source.path)
    except StoreError:
        return f"The log of {source.name} on {source.env} was imported, but its stored episodes cannot be read"
    by_task: dict[str, list[float | None]] = {}
    for one in roots:
        by_task.setdefault(one.task.id, []).append(float(bool(one.outcome.success)) if one.scored else None)
    solved = clustered_interval(list(by_task.values()), method="wilson")
    found = {"estimate": solved.estimate, "low": solved.low, "high": solved.high}
    excluded = sum(not one.scored for one in roots)
    without = f"; {excluded} are not scored" if excluded else ""
    left_out = sum(int(finite(amount) or 0) for amount in table(recipe.get("left_out")).values())
    more = f"; {left_out} things in the log were left out" if left_out else ""
    return (
        f"An imported log ({recipe.get('format')}) of {source.name}: {len(roots)} episodes of {len(by_task)} tasks of "
        f"{source.env}, {interval(found, 2)} solved by the log's own verdict ({recipe.get('success')}){without}{more}"
    )


def _baselines(card: Card) -> Mapping[str, Any]:
    return table(card.data.get("baselines"))


def _half_measured(source: Source) -> str:
    asked = [finite(source.recipe.get(name)) for name in ("num_tasks", "num_trials")]
    planned = f" of {int(asked[0] * asked[1])}" if asked[0] and asked[1] else ""
    try:
        done = f"{len(roots_of(source.path))}{planned} episodes are stored"
    except StoreError:
        done = "its stored episodes cannot be read"
    return f"The evaluation of {source.name} on {source.env} has no result yet: {done}"


def _not_yet_measured(source: Source) -> str:
    where = f" on {source.env}" if source.env else ""
    before = source.main.before
    known = f"before training it reached {_result(before)} on {tasks_of(source, before)}" if before else ""
    if source.finished:
        missing = "what it learned was not measured"
        return f"{source.name} went through {_training(source)}{where}; {known + ', and ' if known else ''}{missing}"
    if not source.steps_done:
        return f"The run of {source.name}{where} has not finished a step yet{f'; {known}' if known else ''}"
    planned = f" of {source.steps_planned}" if source.steps_planned else ""
    unit = "updates of fine-tuning" if source.kind == "sft" else "steps of RL" if source.kind == "rl" else "steps"
    if source.steps_done == source.steps_planned:
        state = f"{source.name} has done all {source.steps_done} {unit}{where}, but the run is not finished"
    else:
        state = f"Unfinished: {source.name} has done {source.steps_done}{planned} {unit}{where}"
    return f"{state}; {known + ', and ' if known else ''}there is no evaluation after training yet"
