"""The table of an experiment, drawn from the results that exist; it names those that do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from banty.errors import InputError
from banty.stats import Comparison, Interval, compare_over_seeds, seed_interval
from banty.stats.paired import FEWEST_SEEDS
from banty.stats.trials import UNIT
from banty.sweeps.desks import successes_of
from banty.sweeps.file import Sweep, ranges
from banty.sweeps.results import PlannedArm, Resolve, Results

_WORDS = {"better": "higher", "worse": "lower"}
COLUMNS = ("arm", "seeds", "after", "gain", "minus {baseline}", "MDE", "verdict")


@dataclass(frozen=True)
class Row:
    """One arm in one evaluation. Intervals are over training seeds; the comparison is with the baseline, which has
    none itself."""

    arm: str
    num_seeds: int
    num_wanted: int
    after: Interval
    gain: Interval
    comparison: Comparison | None
    verdict: str

    @property
    def cells(self) -> tuple[str, ...]:
        versus = self.comparison
        difference = "-" if versus is None else str(versus.difference)
        if versus is not None and versus.test.startswith("paired") and versus.difference.n < self.num_seeds:
            pairs = versus.difference.n
            difference += f" ({pairs} pair{'' if pairs == 1 else 's'})"
        return (
            self.arm,
            f"{self.num_seeds} of {self.num_wanted}",
            str(self.after),
            str(self.gain),
            difference,
            f"{versus.mde:.3f}" if versus is not None and versus.mde is not None else "-",
            self.verdict,
        )


@dataclass(frozen=True)
class SweepTable:
    """The rows of each evaluation, the main one under "", and what has to be known when they are read."""

    name: str
    question: str
    baseline: str
    rows: Mapping[str, Sequence[Row]]
    notes: Sequence[str]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column.format(baseline=self.baseline) for column in COLUMNS)

    @property
    def caption(self) -> str:
        return (
            "Success after training, and its gain over before: 95 % t intervals over training seeds, paired where "
            "seeds are shared. MDE: the smallest true difference found with 80 % power; fewer than "
            f"{FEWEST_SEEDS} seeds give no verdict. Each arm is compared by itself, without correction for how many "
            "there are."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "question": self.question,
            "baseline": self.baseline,
            "evaluations": {name: [asdict(row) for row in rows] for name, rows in self.rows.items()},
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        parts = [f"# {self.name}", *([_escaped(self.question)] if self.question else [])]
        for name, rows in self.rows.items():
            parts += [f"## {name}"] if name else []
            lines = [self.columns, ("---",) * len(COLUMNS), *(row.cells for row in rows)]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts.append(self.caption)
        parts += ["\n".join(f"* {_escaped(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts) + "\n"


def draw(sweep: Sweep, arms: Sequence[PlannedArm], results: Mapping[str, Results], resolve: Resolve) -> SweepTable:
    """The table of the results that belong to the experiment as its file is now.

    Raises InputError when two results of one arm were measured on different tasks.
    """
    states = {arm.name: results[arm.name].states(arm, resolve) for arm in arms}
    found = {
        arm.name: {
            seed: results[arm.name].lines[seed] for seed, state in states[arm.name].items() if state == "finished"
        }
        for arm in arms
    }
    evaluations = ["", *dict.fromkeys(name for arm in arms for name in arm.recipe["eval"]["also"])]
    rows = {name: _rows(sweep, arms, found, name) for name in evaluations}
    notes = [note for arm in arms for note in _notes(arm, states[arm.name], results[arm.name].lines, found[arm.name])]
    return SweepTable(sweep.name, sweep.question, sweep.baseline, rows, notes)


def _rows(
    sweep: Sweep, arms: Sequence[PlannedArm], found: Mapping[str, Mapping[int, Mapping[str, Any]]], name: str
) -> list[Row]:
    """A row for each arm that has this evaluation."""
    measured = {
        arm.name: {seed: line["also"][name] if name else line for seed, line in found[arm.name].items()}
        for arm in arms
        if not name or name in arm.recipe["eval"]["also"]
    }
    base = measured.get(sweep.baseline, {})
    base_seeds = sweep.seeds_of(sweep.baseline)
    rows = []
    for arm in arms:
        if arm.name not in measured:
            continue
        cells = measured[arm.name]
        after = _successes(cells)
        gains = [value - cells[seed]["before"]["success"] for (seed, _), value in after.items()]
        num_wanted = len(arm.seeds) * _runs_of(arm)
        comparable = not base or not cells or _tasks(base, sweep.baseline) == _tasks(cells, arm.name)
        comparison = None
        if arm.name != sweep.baseline and base and cells and comparable:
            paired = not set(arm.seeds).isdisjoint(base_seeds)
            comparison = _compare(after, _successes(base), paired)
        complete = len(cells) == len(arm.seeds) and len(base) == len(base_seeds)
        verdict = _verdict(sweep, arm, comparison, complete) if comparable else "not comparable: other tasks"
        means = seed_interval(list(after.values()), bounds=UNIT), seed_interval(gains, bounds=(-1.0, 1.0))
        rows.append(Row(arm.name, len(after), num_wanted, *means, comparison, verdict))
    return rows


def _successes(cells: Mapping[int, Mapping[str, Any]]) -> dict[tuple[int, int], float]:
    """Success after training by seed, and by run where a cell is many: those of a desk share a seed and differ in their
    place."""
    return {(seed, place): value for seed, cell in cells.items() for place, value in enumerate(successes_of(cell))}


def _runs_of(arm: PlannedArm) -> int:
    desk = arm.recipe.get("desk") or {}
    return int(desk["runs"]) if desk.get("keep") == "runs" else 1


def _compare(
    ours: Mapping[tuple[int, int], float], theirs: Mapping[tuple[int, int], float], paired: bool
) -> Comparison:
    if not paired:
        return compare_over_seeds(list(ours.values()), list(theirs.values()), paired=False)
    seeds = sorted(ours.keys() & theirs.keys())
    return compare_over_seeds([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds], paired=True)


def _verdict(sweep: Sweep, arm: PlannedArm, comparison: Comparison | None, complete: bool) -> str:
    if arm.name == sweep.baseline:
        return "baseline"
    if arm.exploratory:
        return "exploratory"
    if comparison is None:
        return "no verdict"
    verdict = _WORDS.get(comparison.verdict, comparison.verdict)
    if complete or verdict == "no verdict":
        return verdict
    return f"{verdict}, so far"  # whoever stops at the first look that pleases finds more than there is


def _tasks(cells: Mapping[int, Mapping[str, Any]], arm: str) -> str | None:
    """What the cells of an arm were measured on; None where there are none."""
    found = {cell[when]["tasks"] for cell in cells.values() for when in ("before", "after")}
    if len(found) > 1:
        raise InputError(
            f"the results of {arm} were measured on different tasks, though their recipe is one: the environment or "
            "its data have changed. Remove the older ones, and run their cells again"
        )
    return next(iter(found), None)


def _notes(
    arm: PlannedArm,
    states: Mapping[int, str],
    lines: Mapping[int, Mapping[str, Any]],
    found: Mapping[int, Mapping[str, Any]],
) -> list[str]:
    """What is wrong with an arm's cells, each named."""

    def of(state: str) -> list[int]:
        return [seed for seed, each in states.items() if each == state]

    notes = []
    if missing := of("missing"):
        notes.append(f"missing: {_cells(arm, missing)}")
    if stale := of("stale"):
        notes.append(f"missing: {_cells(arm, stale)}; what is there is stale, from another recipe or other weights")
    reasons: dict[str, list[int]] = {}
    for seed in of("failed"):
        reasons.setdefault(str(lines[seed]["failed"]), []).append(seed)
    notes += [f"failed: {_cells(arm, seeds)}: {reason}" for reason, seeds in reasons.items()]
    if loose := [seed for seed, line in found.items() if line["frozen"] is None]:
        notes.append(f"not frozen by a commit when begun: {_cells(arm, loose)}")
    if unscored := [seed for seed, line in found.items() if _unscored(line)]:
        notes.append(f"with episodes that could not be scored: {_cells(arm, unscored)}")
    if others := lines.keys() - states.keys():
        notes.append(f"not counted, for the file does not name them: {_cells(arm, others)}")
    return notes


def _cells(arm: PlannedArm, seeds: Collection[int]) -> str:
    return f"{arm.name}, seed{'' if len(seeds) == 1 else 's'} {ranges(seeds)}"


def _unscored(line: Mapping[str, Any]) -> bool:
    pairs = [line, *line.get("also", {}).values()]
    return any(pair[when]["num_unscored"] for pair in pairs for when in ("before", "after"))


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
