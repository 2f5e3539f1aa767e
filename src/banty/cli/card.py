"""`banty card`: everything that evaluations of one policy say of how far it can be depended on, in two files."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from banty.cli.choices import fresh_folder
from banty.cli.inspection import taskset_of_run
from banty.cli.plain import plain, print_json, visible
from banty.cli.running import run_async
from banty.errors import InputError, StoreError
from banty.evals.audit import AUDIT_FILE, AuditFile, read_audit
from banty.evals.dependability import (
    Price,
    Result,
    TaskFacts,
    audits_of,
    dependability_card,
    facts_of,
    facts_of_log,
    read_results,
)
from banty.interop import GOLDEN, read_golden
from banty.report.dependability import card_headline, dependability_page, pass_sheet
from banty.runs import check_free, write_text
from banty.runs.folder import write_json

DATA, PAGE = "card.json", "card.html"


def card(
    results: Annotated[
        list[str],
        typer.Argument(
            help="Evaluations of one policy, or imported logs of it: folders, or the card.json of one.",
            metavar="RESULT...",
        ),
    ],
    price: Annotated[
        list[str] | None,
        typer.Option(help="NAME=IN,OUT: dollars per million prompt and sampled tokens somewhere else; repeat it."),
    ] = None,
    audit: Annotated[
        str, typer.Option(help="Audit of the tasks; the audit.json in each result's folder if not given.")
    ] = "",
    out: Annotated[str, typer.Option(help="Folder for the card; the next free one under runs/ if not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run the Python file that an evaluation names.")
    ] = False,
) -> None:
    """Put evaluations of one policy on a dependability card: pass^k, noise, users, errors, intents, graders, cost.

    Evaluations with other users stand side by side; further ones with the same user (another checkpoint, or another
    --seed where that draws no other tasks) count as replicates. An imported log is an evaluation as well.

    Examples:

        banty card runs/eval-airline-mini-001 --out runs/card --price frontier=3,15

        banty card runs/seed-0/eval-after runs/seed-1/eval-after runs/seed-2/eval-after --audit audit.json
    """
    prices = [_price(text) for text in price or []]
    if twice := {one.name for one in prices if [other.name for other in prices].count(one.name) > 1}:
        raise InputError(f"--price names {', '.join(sorted(twice))} twice")
    if out:
        check_free(Path(out))
    found = read_results([Path(one) for one in results])
    audits = audits_of(found, _audit(audit) if audit else None)
    data = dependability_card(found, _facts(found, allow_code), prices=prices, audits=audits)
    folder = fresh_folder(out, "card")
    _write(folder, data)
    if as_json:
        print_json(data)
        return
    _show(Console(), data)
    print(visible(f"card: {folder / PAGE}"))


def _price(text: str) -> Price:
    name, equals, terms = text.partition("=")
    try:
        prompt, sampled = map(float, terms.split(","))
    except ValueError:
        prompt = sampled = math.nan
    if not name or not equals or not (0 <= prompt < math.inf and 0 <= sampled < math.inf):
        raise InputError(
            f"--price {text!r} is not NAME=IN,OUT: dollars per million prompt and sampled tokens, such as frontier=3,15"
        )
    return Price(name, prompt, sampled)


def _audit(given: str) -> AuditFile:
    return read_audit(Path(given) / AUDIT_FILE if Path(given).is_dir() else Path(given))


def _facts(results: Sequence[Result], allow_code: bool) -> TaskFacts:
    """Facts of the tasks from the first result whose tasks can be made again."""
    why = []
    for result in results:
        if not result.recipe:
            why.append(result.why_card or "its folder has no recipe")
            continue
        if result.imported:
            return _facts_of_log(result)
        try:
            taskset = taskset_of_run(result.folder, allow_code)
        except InputError as error:
            why.append(f"the tasks cannot be made again here: {error}")
            continue
        found = run_async(facts_of(taskset, result), "nothing was written")
        if not found.why_not:
            return found
        why.append(found.why_not)
    return TaskFacts(why_not=why[0])


def _facts_of_log(result: Result) -> TaskFacts:
    golden = read_golden(result.folder / GOLDEN, "") if (result.folder / GOLDEN).is_file() else {}
    effects = {tool.name: tool.effect for rollout in result.rollouts or () for tool in rollout.tools}
    return facts_of_log(golden, effects)


def _write(folder: Path, data: Mapping[str, Any]) -> None:
    """Both files, or none."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    page = dependability_page(data)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        write_json(draft / DATA, data)
        write_text(draft / PAGE, page)
        draft.rename(folder)  # an empty folder of that name is replaced
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise StoreError(f"could not write {folder}: {error.strerror or error}") from error
        raise


def _show(console: Console, data: Mapping[str, Any]) -> None:
    sheet = pass_sheet(data)
    table = Table(title=plain("Dependability"), title_justify="left")
    for column in sheet.columns:
        table.add_column(plain(column))
    for row in sheet.rows:
        table.add_row(*map(plain, row))
    console.print(table)
    for note in data["notes"]:
        console.print(plain(f"note: {note}", style="yellow"))
    console.print(plain(card_headline(data), style="bold"))
