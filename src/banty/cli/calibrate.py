"""`banty calibrate`: what each part of the reward does, and what it should be worth."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from banty.calibrate import Calibration, Rules, pinned
from banty.calibrate import calibrate as calibrate_rollouts
from banty.cli.calibrating import Stored, read_stored, with_settings
from banty.cli.plain import plain, visible
from banty.cli.show import bare_table, interval, number
from banty.errors import StoreError
from banty.report.calibration import (
    calibration_headline,
    calibration_page,
    change_sheet,
    estimator_words,
    sign,
    stop_sheet,
)
from banty.report.results import Sheet
from banty.rubrics import diff_of, write_reward_file
from banty.runs import check_free, write_text
from banty.runs.folder import write_json

REWARDS, DIFF, DATA, PAGE = "rewards.toml", "diff.txt", "calibration.json", "calibration.html"


def calibrate(
    run: Annotated[str, typer.Argument(help="A training run, an evaluation, an imported log, or a store.")],
    rewards: Annotated[str, typer.Option(help="Reward file: a packaged name or a path; the run's, or irc.")] = "",
    credit: Annotated[str, typer.Option(help="NAME,OPTION=VALUE: another estimator than the run's.")] = "",
    alpha: Annotated[float | None, typer.Option(help="A value is drawn towards alpha times the correlation.")] = None,
    delta: Annotated[float | None, typer.Option(help="A correlation this near to 0 counts as 0.")] = None,
    beta: Annotated[float | None, typer.Option(help="How far a value goes at once, from 0 to 1.")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="A tier that keeps its value.")] = None,
    constant: Annotated[str | None, typer.Option(help="A tier in every rollout: keep its value, or zero it.")] = None,
    hold_out: Annotated[bool, typer.Option(help="Move values on half of the tasks, and check on the rest.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the halves and of the bootstrap.")] = 0,
    out: Annotated[str, typer.Option(help="Folder for the new file, the diff and the page; none if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python files that are named.")] = False,
) -> None:
    """Measure which parts of a reward go with success, which way training pushes them, and propose new values.

    Nothing is sampled, and nothing is written without --out. A value moves only where the rollouts say enough.

    Examples:

        banty calibrate runs/train-desk-001

        banty calibrate runs/eval-airline-mini-001 --rewards naive-dense --credit mt_grpo --out runs/calibrated
    """
    rules = with_settings(Rules(), alpha=alpha, delta=delta, beta=beta, constant=constant)
    rules.check("--")
    if out:
        check_free(Path(out))
    stored = read_stored(Path(run), rewards, credit, allow_code)
    file = pinned(stored.rewards, pin or [])
    found = calibrate_rollouts(stored.groups, file, stored.scoring, stored.credit, rules, hold_out=hold_out, seed=seed)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    data = found.to_json() | {"run": str(Path(run).resolve()), "made": made, "notes": list(stored.notes)}
    if out:
        write_calibration(Path(out), found, data, stored)
    if as_json:
        typer.echo(json.dumps(data | ({"folder": out} if out else {}), indent=2))
        return
    show_calibration(Console(), found, data, stored.notes)
    if out:
        print(visible(f"written: {', '.join(str(Path(out) / name) for name in (REWARDS, DIFF, DATA, PAGE))}"))
    else:
        print("nothing was written; --out FOLDER writes the reward file, the diff and a page")


def write_calibration(folder: Path, found: Calibration, data: Mapping[str, Any], stored: Stored) -> None:
    """Write the whole folder, or nothing."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    page = calibration_page(data, Path(str(data["run"])).name, stored.history, stored.notes)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        write_reward_file(draft / REWARDS, found.proposed)
        write_text(draft / DIFF, "\n".join(diff_of(found.file, found.proposed) or ["nothing changes"]) + "\n")
        write_json(draft / DATA, data)
        write_text(draft / PAGE, page)
        draft.rename(folder)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise StoreError(f"could not write {folder}: {error.strerror or error}") from error
        raise


def show_calibration(console: Console, found: Calibration, data: Mapping[str, Any], notes: Sequence[str]) -> None:
    counts = data["counts"]
    console.print(
        plain(
            f"{counts['scored']} scored rollouts of {counts['tasks']} tasks, {counts['passes']} passes; "
            f"values move on {counts['used']} of them.\n"
            f"Reward file: {found.file.name}, version {found.file.version}. Credit: {estimator_words(data['credit'])}."
        )
    )
    for note in notes:
        console.print(plain(f"note: {note}", style="yellow"))
    held_out = {row["tier"]: row["within"] for row in data["held_out"]}
    _show_presence(console, "Presence, and phi with success within tasks", data["tiers"], held_out)
    _show_directions(console, data["before"]["directions"])
    if data["criteria"]:
        _show_presence(console, "Criteria: where each was met", data["criteria"], {})
    _show_sheet(console, "Scored again with the proposed values", change_sheet(data))
    table = bare_table(f"Proposal{'' if data['diff'] else ': nothing moves'}", "tier", "value", "to", "", "why")
    for one in found.proposals:
        style = {"moved": "green", "refused": "yellow"}.get(one.decision, "")
        to = f"{one.proposed:g}" if one.move else ""
        cells = (one.tier, f"{one.current:g}", to, one.decision, one.reason)
        table.add_row(*(plain(cell, style=style) for cell in cells))
    console.print(table)
    _show_sheet(console, f"Whether to stop: {'yes' if found.finished else 'not yet'}", stop_sheet(data))
    console.print(plain(calibration_headline(data), style="bold"))


def _show_presence(
    console: Console, title: str, rows: Sequence[Mapping[str, Any]], held_out: Mapping[str, Mapping[str, Any]]
) -> None:
    table = bare_table(title, "", "passes", "fails", "phi", "pooled", *(["held out"] if held_out else []))
    for row in rows:
        cells = [row["tier"], number(row["in_passes"]), number(row["in_fails"]), interval(row["within"], 2)]
        cells.append(number(row["pooled"]["estimate"], 2))
        if held_out:
            cells.append(interval(held_out[row["tier"]], 2))
        table.add_row(*map(plain, cells))
    console.print(table)


def _show_directions(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    title = "Direction: the mean advantage of a tier's turns, meant and actual"
    table = bare_table(title, "", "A^I", "A^O", "A", "meant", "goes", "flips at", "dead", "share")
    for row in rows:
        style = "red" if row["mismatch"] else ""
        goes = sign(row["actual"]) + (" !" if row["mismatch"] else "")
        cells = [row["tier"], number(row["own"], 2), number(row["outcome"], 2), interval(row["mean"], 2)]
        cells += [sign(row["intended"]), goes, *(number(row[name], 2) for name in ("flip", "dead", "share"))]
        table.add_row(*(plain(cell, style=style) for cell in cells))
    console.print(table)


def _show_sheet(console: Console, title: str, sheet: Sheet) -> None:
    table = bare_table(title, *sheet.columns)
    for row in sheet.rows:
        table.add_row(*map(plain, row))
    console.print(table)
