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
from rich.table import Table

from banty.calibrate import Calibration, Rules, pinned
from banty.calibrate import calibrate as calibrate_rollouts
from banty.cli.calibrating import Stored, read_stored, with_settings
from banty.cli.plain import plain, visible
from banty.cli.show import interval, number
from banty.errors import StoreError
from banty.report.calibration import calibration_headline, calibration_page, change_sheet, estimator_words, sign, stop_sheet
from banty.rubrics import diff_of, write_reward_file
from banty.runs import check_free, write_text
from banty.runs.folder import write_json

REWARDS, DIFF, DATA, PAGE = "rewards.toml", "diff.txt", "calibration.json", "calibration.html"


def calibrate(
    run: Annotated[str, typer.Argument(help="A training run, an evaluation, an imported log, or a store.")],
    rewards: Annotated[str, typer.Option(help="Reward file: a packaged name or a path; the run's, or irc.")] = "",
    estimator: Annotated[str, typer.Option(help="Credit estimator instead of the run's, such as mt_grpo.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="credit.KEY=VALUE, such as credit.gamma=1.")] = None,
    alpha: Annotated[float | None, typer.Option(help="A value is drawn towards alpha times the correlation.")] = None,
    delta: Annotated[float | None, typer.Option(help="A correlation this near to 0 counts as 0.")] = None,
    beta: Annotated[float | None, typer.Option(help="How far a value goes at once, from 0 to 1.")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="A tier that keeps its value.")] = None,
    constant: Annotated[str | None, typer.Option(help="A tier in every rollout: keep its value, or zero it.")] = None,
    hold_out: Annotated[bool, typer.Option(help="Move values on half of the tasks, and check on the rest.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the halves and of the bootstrap.")] = 0,
    out: Annotated[str, typer.Option(help="Folder for the new file, the diff and the page; none if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python files that are named.")] = False,
) -> None:
    """Measure which parts of a reward go with success, which way training pushes them, and propose new values.

    Nothing is sampled, and nothing is written without --out. A value moves only where the rollouts say enough.

    Examples:

        banty calibrate runs/train-desk-001

        banty calibrate runs/eval-airline-mini-001 --rewards naive-dense --estimator mt_grpo --out runs/calibrated
    """
    rules = with_settings(Rules(), alpha=alpha, delta=delta, beta=beta, constant=constant)
    rules.check("--")
    if out:
        check_free(Path(out))
    stored = read_stored(Path(run), rewards, estimator, settings or [], allow_code)
    file = pinned(stored.rewards, pin or [])
    found = calibrate_rollouts(
        stored.groups, file, stored.scoring, stored.credit, rules, hold_out=hold_out, seed=seed
    )
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
        print("nothing was written; --out FOLDER writes the new reward file, the diff and a page")


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
            f"values move on {counts['used']} of them. Reward file {found.file.name}, version {found.file.version}; "
            f"credit {estimator_words(data['credit'])}"
        )
    )
    for note in notes:
        console.print(plain(f"note: {note}", style="yellow"))
    _show_presence(console, data["tiers"], data["proposals"], "presence and correlation with success")
    _show_directions(console, data["before"]["directions"])
    _show_sheet(console, "the same rollouts, scored again with the proposed values", change_sheet(data))
    if data["criteria"]:
        _show_presence(console, data["criteria"], [], "criteria: where each was met")
    for one in found.proposals:
        if one.decision in ("moved", "refused"):
            console.print(plain(f"{one.tier}: {one.decision}. {one.reason}"))
    _show_sheet(console, "whether to stop" + (": yes" if found.finished else ": not yet"), stop_sheet(data))
    console.print(plain(calibration_headline(data), style="bold"))


def _show_presence(
    console: Console, rows: Sequence[Mapping[str, Any]], proposals: Sequence[Mapping[str, Any]], title: str
) -> None:
    table = Table(title=plain(title), title_justify="left")
    columns = ["", "in passes", "in fails", "phi within tasks", "pooled"]
    for column in [*columns, *(["held out", "value", ""] if proposals else [])]:
        table.add_column(column, no_wrap=not column.startswith("phi"))
    by_tier = {one["tier"]: one for one in proposals}
    for row in rows:
        cells = [row["tier"], number(row["in_passes"]), number(row["in_fails"])]
        cells += [interval(row["within"]), number(row["pooled"]["estimate"])]
        if one := by_tier.get(row["tier"]):
            value = f"{one['current']:g}" + (f" -> {one['proposed']:g}" if one["move"] else "")
            cells += [number((one["held_out"] or {}).get("estimate")), value, one["decision"]]
        table.add_row(*map(plain, cells))
    console.print(table)


def _show_directions(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title=plain("direction: the mean advantage of a tier's turns"), title_justify="left")
    for column in ("", "turns", "E[A^I]", "E[A^O]", "E[A]", "meant", "goes", "flips at", "dead", "share"):
        table.add_column(column, no_wrap=column != "E[A]")
    for row in rows:
        goes = sign(row["actual"]) + (" mismatch" if row["mismatch"] else "")
        table.add_row(
            plain(row["tier"]),
            plain(str(row["turns"])),
            *(plain(number(row[name])) for name in ("own", "outcome")),
            plain(interval(row["mean"])),
            plain(sign(row["intended"])),
            plain(goes, style="red" if row["mismatch"] else ""),
            *(plain(number(row[name])) for name in ("flip", "dead", "share")),
        )
    console.print(table)


def _show_sheet(console: Console, title: str, sheet: Any) -> None:
    table = Table(title=plain(title), title_justify="left")
    for column in sheet.columns:
        table.add_column(column)
    for row in sheet.rows:
        table.add_row(*map(plain, row))
    console.print(table)
