"""`banty sweep`: an experiment's cells, run side by side, and its table."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from banty.cli import show
from banty.cli.experiment import Experiment, run_cell
from banty.cli.plain import visible
from banty.cli.progress import Meter
from banty.cli.running import Interrupted
from banty.cli.training import recipe_json
from banty.errors import InputError
from banty.runs import write_text
from banty.sweeps import MOST_SEEDS, failure_line, held, ranges, work_through


def sweep(
    file: Annotated[str, typer.Argument(help="The experiment, TOML.")],
    arms: Annotated[str, typer.Option(help="Run cells of these arms only, such as rloo,grpo.")] = "",
    seeds: Annotated[str, typer.Option(help="Run cells of these seeds only, such as 0,1,5-9.")] = "",
    jobs: Annotated[int, typer.Option(min=1, max=512, help="Cells that run at once, one thread each.")] = 2,
    table: Annotated[
        bool, typer.Option("--table", help="Draw the table of the results there are, run nothing.")
    ] = False,
    runs: Annotated[str, typer.Option(help="Folder for the cells' runs.")] = "runs",
    data: Annotated[str, typer.Option(help="Folder for the results.")] = "docs/results/data",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the cells and how they stand, run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that recipes name.")] = False,
) -> None:
    """Run an experiment: every arm on every training seed, and the table of what they come to.

    Each cell is a training run of its own. Those that are finished are skipped, those that were interrupted go on.

    Examples:

        banty sweep recipes/sweeps/estimators.toml --jobs 4

        banty sweep recipes/sweeps/estimators.toml --table
    """
    experiment = Experiment.read(Path(file), Path(runs), Path(data))
    if table and (arms or seeds or dry_run):
        raise InputError("--table draws the whole table; leave out --arms, --seeds and --dry-run")
    chosen = _chosen(experiment, arms, seeds)
    if not table:
        experiment.check(allow_code)
    if dry_run:
        _show_cells(experiment, chosen, as_json)
        return
    failed = 0 if table else _run(experiment, chosen, jobs, allow_code, quiet=as_json)
    drawn = experiment.read_again().table()
    page = experiment.data / "table.md"
    if experiment.data.is_dir():
        write_text(page, drawn.to_markdown())
    if as_json:
        print(json.dumps(drawn.to_json(), indent=2))
    else:
        show.show_sweep(Console(), drawn)
        print(visible(f"table: {page}" if page.is_file() else "no cell has a result yet"))
    if failed:
        raise typer.Exit(1)


def _run(
    experiment: Experiment, chosen: Mapping[str, Sequence[int]], jobs: int, allow_code: bool, *, quiet: bool
) -> int:
    """Run the chosen cells that are not finished; how many failed."""
    if experiment.frozen is None and not quiet:
        files = f"{experiment.file} and {experiment.sweep.recipe}"
        print(visible(f"{files} are not in a commit as they are now; the table will say so"), file=sys.stderr)
    with held([experiment.runs / name for name in chosen]):
        experiment = experiment.read_again()
        standings = experiment.standings(chosen)
        work = [experiment.work_on(cell, allow_code) for cell, state, _ in standings if state != "finished"]
        done, failed, total = len(standings) - len(work), 0, len(standings)
        try:
            with (
                Meter(f"sweep {experiment.sweep.name}", total, "cells", quiet) as meter,
                contextlib.closing(work_through(run_cell, work, jobs)) as events,
            ):
                for place, kind, value in events:
                    cell, recipe = work[place].cell, work[place].recipe
                    name = f"{cell.arm} seed {cell.seed}"
                    if kind == "note":
                        step, num_steps = value
                        meter.tell(f"{name}: step {step} of {num_steps}")
                        continue
                    line = value if kind == "done" else failure_line(cell.note, value)
                    experiment.results[cell.arm].put(line, recipe_json(recipe))
                    if kind == "done" and not experiment.sweep.keep_runs:
                        shutil.rmtree(cell.folder, ignore_errors=True)
                    done, failed = done + (kind == "done"), failed + (kind == "failed")
                    meter.advance(f"{name}: {kind}", done + failed)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {done} of {total} cells are finished and kept. The same command runs the others, each "
                "from the last step it finished"
            ) from None
    return failed


def _chosen(experiment: Experiment, arms: str, seeds: str) -> dict[str, list[int]]:
    """The cells a person asked for, by arm."""
    known = [arm.name for arm in experiment.arms]
    wanted = [name.strip() for name in arms.split(",")] if arms else known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"--arms names {', '.join(map(repr, unknown))}; the arms are {', '.join(known)}")
    asked = _typed_seeds(seeds) if seeds else None
    found = {
        arm.name: [seed for seed in arm.seeds if asked is None or seed in asked]
        for arm in experiment.arms
        if arm.name in wanted
    }
    if asked is not None and (extra := asked.difference(*found.values())):
        raise InputError(f"--seeds names {ranges(extra)}, which the file does not; add them there")
    return {name: chosen for name, chosen in found.items() if chosen}


def _typed_seeds(text: str) -> set[int]:
    asked: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise InputError(f"--seeds {text!r} is not seeds such as 0,1,5-9")
        first, last = int(low), int(high or low)
        if not first <= last < first + MOST_SEEDS:
            raise InputError(f"--seeds {text!r}: {part.strip()} has no seeds, or more than {MOST_SEEDS}")
        asked.update(range(first, last + 1))
    return asked


def _show_cells(experiment: Experiment, chosen: Mapping[str, Sequence[int]], as_json: bool) -> None:
    standings = experiment.standings(chosen)
    frozen = experiment.frozen
    if as_json:
        cells = [
            {"arm": cell.arm, "seed": cell.seed, "state": state, "begun": begun} for cell, state, begun in standings
        ]
        arms = {arm.name: {"digest": arm.digest, "start": arm.start, "recipe": arm.recipe} for arm in experiment.arms}
        print(json.dumps({"frozen": frozen, "cells": cells, "arms": arms}, indent=2))
        return
    groups: dict[tuple[str, str], list[int]] = {}
    for name in chosen:
        for cell, state, begun in standings:
            if cell.arm == name:
                groups.setdefault((name, f"{state}, begun" if begun else state), []).append(cell.seed)
    for (name, standing), seeds in groups.items():
        print(visible(f"{name}: {standing}: seeds {ranges(seeds)}"))
    left = sum(state != "finished" for _, state, _ in standings)
    print(f"{len(standings)} cells, {left} to run; {f'frozen at {frozen}' if frozen else 'not frozen by a commit'}")
