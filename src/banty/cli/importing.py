"""`banty import`: logs of other systems as a store of ours, for `banty inspect`, `report` and `calibrate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from banty.cli.choices import fresh_folder
from banty.cli.plain import visible
from banty.errors import InputError
from banty.interop import ImportedLog, ImportOptions, read_log, write_import
from banty.runs import check_free


def import_log(
    log: Annotated[str, typer.Argument(help="A file or a folder that tau2-bench, verifiers or TRL wrote.")],
    format: Annotated[str, typer.Option(help="tau2, verifiers or trl; recognized if not given.")] = "",
    golden: Annotated[
        str, typer.Option(help="Reference calls: JSON of TASK: [{name, arguments}], or a task file of tau2-bench.")
    ] = "",
    effects: Annotated[str, typer.Option(help="JSON of TOOL: read, write or terminal, for tools nobody knows.")] = "",
    env: Annotated[str, typer.Option(help="What to call the environment; the log's own name if not given.")] = "",
    success_at: Annotated[float, typer.Option(help="Reward from which verifiers and TRL count as solved.")] = 1.0,
    reward: Annotated[
        list[str] | None, typer.Option(help="TRL: COLUMN or COLUMN=WEIGHT that is part of the reward; repeat it.")
    ] = None,
    error_prefix: Annotated[
        str, typer.Option(help="verifiers, TRL: a tool's answer that begins so has failed, such as 'Error'.")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder for the import; the next free one under runs/ if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
) -> None:
    """Turn somebody else's log into a store that `inspect`, `report` and `calibrate` read. Nothing in it is run.

    Examples:

        banty import data/simulations/my-run.json --out runs/imported

        banty import outputs/evals/my-env--my-model --effects effects.json --success-at 0.5
    """
    if out:
        check_free(Path(out))
    options = ImportOptions(
        format=format,
        env=env,
        golden=Path(golden) if golden else None,
        effects=Path(effects) if effects else None,
        success_at=success_at,
        rewards=_rewards(reward or []),
        error_prefix=error_prefix,
    )
    imported = read_log(Path(log), options)
    folder = fresh_folder(out, f"import-{imported.recipe['format']}")
    write_import(imported, folder)
    if as_json:
        print(json.dumps({**imported.recipe, "folder": str(folder)}, indent=2))
        return
    for line in summary(imported):
        print(visible(line))
    print(visible(f"import: {folder}"))


def _rewards(pairs: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for pair in pairs:
        name, found, text = pair.partition("=")
        try:
            weights[name] = float(text) if found else 1.0
        except ValueError:
            raise InputError(f"--reward {pair!r} is not COLUMN or COLUMN=WEIGHT, such as accuracy=0.5") from None
    return weights


def summary(imported: ImportedLog) -> list[str]:
    """What was imported, in lines: how much, how it ended, what was left out, what is not known."""
    recipe: dict[str, Any] = dict(imported.recipe)
    solved = sum(bool(rollout.outcome.success) for rollout in imported.rollouts)
    scored = sum(rollout.scored for rollout in imported.rollouts)
    lines = [
        f"{recipe['num_rollouts']} rollouts of {recipe['num_tasks']} tasks of {recipe['env']}, read as "
        f"{recipe['format_read']}: {solved} of {scored} scored ones solved ({recipe['success']})",
        f"ended: {_counts(recipe['endings'])}",
    ]
    if recipe["left_out"]:
        lines.append(f"left out: {_counts(recipe['left_out'])}")
    lines += [f"note: {note}" for note in recipe["notes"]]
    lines.append(f"reference calls known for {recipe['num_golden']} of {recipe['num_tasks']} tasks")
    if unknown := recipe["effects_unknown"]:
        named = ", ".join(unknown[:6]) + (", ..." if len(unknown) > 6 else "")
        first = json.dumps({unknown[0]: "read"})
        lines.append(f"effects not known of {named}; say what they do with --effects FILE, JSON such as {first}")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return "; ".join(f"{count} {what}" for what, count in counts.items())
