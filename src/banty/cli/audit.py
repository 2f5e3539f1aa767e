"""`banty audit`: what test tasks share with training tasks, and whether a result may be called held-out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from banty.cli.auditing import run_of_weights, tasks_of_run
from banty.cli.choices import options_of
from banty.cli.plain import plain, print_json, visible
from banty.cli.progress import Meter
from banty.errors import InputError, StoreError
from banty.evals.audit import AUDIT_FILE, Audit, Opening, TaskSet, open_tasks, read_audit
from banty.evals.audit import audit as audit_tasks
from banty.runs.folder import write_json

_SIDES = ("train", "test")
_STYLES = {"none": "green", "related": "yellow", "overlapping": "red", "not measured": "dim"}
_MOST_IDS = 12


def audit(
    train: Annotated[str, typer.Argument(help="ENV[:SPLIT], a task file, a folder of tau2-bench data, or a run.")],
    test: Annotated[str, typer.Argument(help="The same, or an evaluation or its card.")],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="KEY=VALUE for the environments; train.KEY=VALUE for one side."),
    ] = None,
    train_tasks: Annotated[int | None, typer.Option(help="The first N training tasks; all if not given.")] = None,
    test_tasks: Annotated[int | None, typer.Option(help="The first N test tasks; all if not given.")] = None,
    without: Annotated[str, typer.Option(help="An earlier audit: leave out the test tasks that overlapped.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of an environment's tasks.")] = 0,
    out: Annotated[str, typer.Option(help=f"Folder to write {AUDIT_FILE} into; nothing is written without it.")] = "",
    rules: Annotated[
        bool, typer.Option("--rules", help="Say what each measure calls related and overlapping.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python file an environment names.")] = False,
) -> None:
    """Find what two sets of tasks share: tasks, customers, golden writes, instructions, templates, databases.

    Says in one sentence whether a result on TEST may be called held-out after training on TRAIN. No file is run.

    Examples:

        banty audit airline/mini:train airline/mini:test

        banty audit tau_bench/envs/airline/tasks_test.py tau2-bench/data/tau2/domains/airline/tasks.json

        banty audit runs/train-demo-001 runs/eval-airline-mini-001 --out runs/eval-airline-mini-001
    """
    if out:
        check_unaudited(Path(out))
    given = _options(option or [])
    left_out = overlapping_in(without) if without else ()
    sides = [
        Opening(
            default_split=side,
            options=given[side],
            seed=seed,
            num_tasks=num_tasks,
            without=left_out if side == "test" else (),
            allow_code=allow_code,
        )
        for side, num_tasks in (("train", train_tasks), ("test", test_tasks))
    ]
    left, right = (_opened(spec, how, as_json) for spec, how in zip((train, test), sides, strict=True))
    found = audit_tasks(left, right)
    data = found.to_json()
    if out:
        write_audit(Path(out), data)
    if as_json:
        print_json(data)
        return
    show_audit(Console(), found, rules)
    print(
        visible(f"audit: {Path(out) / AUDIT_FILE}") if out else f"nothing was written; --out FOLDER keeps {AUDIT_FILE}"
    )


def overlapping_in(place: str) -> tuple[str, ...]:
    """The test tasks that an audit, or the one in a folder, says overlap. Raises InputError where it names none."""
    file = Path(place)
    found = read_audit(file / AUDIT_FILE if file.is_dir() else file)
    if not found.overlapping_tasks:
        raise InputError(f"{place} names no overlapping tasks, so there is nothing to leave out ({found.sentence})")
    return tuple(found.overlapping_tasks)


def check_unaudited(folder: Path) -> None:
    """Raises InputError for a folder that holds an audit already, or is no folder."""
    if (folder / AUDIT_FILE).exists():
        raise InputError(f"{folder / AUDIT_FILE} is there already; name another folder with --out, or move it away")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; name a folder, such as that of the evaluation")


def write_audit(folder: Path, data: Mapping[str, Any]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"could not make {folder}: {error.strerror or error}") from error
    return write_json(folder / AUDIT_FILE, data)


def show_audit(console: Console, found: Audit, rules: bool = False) -> None:
    """The table of measures, with `rules` what they mean, an example of each that overlaps (where none does, of each
    that is related), and the sentence."""
    table = Table(title=plain(f"TEST {found.test.name} against TRAIN {found.train.name}"), title_justify="left")
    for column in ("measure", "level", "test tasks", "shared"):
        table.add_column(column, overflow="fold")
    rows = [one.to_json() for one in found.findings]
    for row in rows:
        how_many = f"{row['count']} of {row['of']}" if row["of"] else "-"
        level = plain(row["level"], style=_STYLES[row["level"]])
        table.add_row(plain(row["measure"]), level, plain(how_many), plain(_shared(row)))
    console.print(table)
    for row in rows if rules else ():
        console.print(plain(f"{row['measure']}: {row['rule']}", style="dim"))
    telling = [row for row in rows if row["level"] == "overlapping"]
    telling = telling or [row for row in rows if row["level"] == "related"]
    _show_examples(console, [row["examples"][0] for row in telling if row["examples"]])
    _show_text(console, rows)
    if found.construction:
        console.print(plain(f"By construction: {found.construction}."))
    if ids := found.to_leave_out:
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        left = len(found.test.tasks) - len(ids)
        named = f"{', '.join(ids[:_MOST_IDS])}{more}"
        console.print(plain(f"Overlapping test tasks: {named}; without them {left} are left."))
    console.print(plain(found.sentence, style="bold"))


def _shared(row: Mapping[str, Any]) -> str:
    """What a measure found, in words; empty where there is nothing."""
    expected = row["figures"].get("expected_by_chance")
    if row["level"] == "none":
        return f"no more than chance gives ({expected:.1f})" if row["count"] and expected is not None else ""
    return str(row["shares"])


def _show_examples(console: Console, examples: Sequence[Mapping[str, Any]]) -> None:
    """Each pair of tasks once, side by side, with all that they share."""
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for example in examples:
        pairs.setdefault((example["train"]["id"], example["test"]["id"]), []).append(example)
    for same in pairs.values():
        pair = Table(title=plain("; ".join(one["shared"] for one in same)), title_justify="left", show_lines=True)
        for name in _SIDES:
            pair.add_column(plain(f"{name} {same[0][name]['id']}"), overflow="fold", ratio=1)
        pair.add_row(*(plain(same[0][name]["text"]) for name in _SIDES))
        pair.add_row(*(plain(_calls(same[0][name]["writes"])) for name in _SIDES))
        console.print(pair)


def _show_text(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """How near test comes to training in words, beside how near unrelated training tasks come to each other."""
    figures = next(row["figures"] for row in rows if row["measure"] == "text")
    if "jaccard" not in figures or figures["jaccard_of_unrelated"]["median"] is None:
        return
    said = {
        who: f"{who} {spread['median']:.2f} and {spread['highest']:.2f} (n = {spread['n']})"
        for who, spread in (
            ("test tasks", figures["jaccard"]),
            ("unrelated training tasks", figures["jaccard_of_unrelated"]),
        )
    }
    console.print(plain(f"Word Jaccard of the best match, median and highest: {'; '.join(said.values())}."))


def _calls(writes: Sequence[Mapping[str, Any]] | None) -> str:
    if writes is None:
        return "golden writes not known"
    told = (
        f"{one['name']}({', '.join(f'{name}={value!r}' for name, value in one['arguments'].items())})" for one in writes
    )
    return "\n".join(told) or "nothing is written"


def _options(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The options of each side: those without a side's name are for both."""
    given: dict[str, list[str]] = {side: [] for side in _SIDES}
    for pair in pairs:
        side, dot, rest = pair.partition(".")
        for name in (side,) if dot and side in _SIDES else _SIDES:
            given[name].append(rest if dot and side in _SIDES else pair)
    return {side: options_of(options) for side, options in given.items()}


def _opened(spec: str, how: Opening, quiet: bool) -> TaskSet:
    side = how.default_split
    if how.num_tasks is not None and how.num_tasks < 1:
        raise InputError(f"--{side}-tasks is {how.num_tasks}; it takes at least 1")
    with Meter(f"make {side} tasks", how.num_tasks or 0, "tasks", quiet) as meter:

        def watch(place: int, of: int) -> None:
            meter.total = of
            meter.advance("", place)

        if side == "train" and Path(spec).is_dir() and (run := run_of_weights(Path(spec))) is not None:
            return tasks_of_run(run, how.allow_code)
        return open_tasks(spec, dataclasses.replace(how, watch=watch))
