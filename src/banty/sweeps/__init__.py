"""Experiments: arms times training seeds, their results, and the table that is drawn from those that exist."""

from banty.sweeps.desks import runs_line, steps_to, successes_of
from banty.sweeps.file import MOST_SEEDS, Arm, Sweep, ranges, read_sweep
from banty.sweeps.frozen import frozen_commit
from banty.sweeps.lines import failure_line, result_line
from banty.sweeps.results import PlannedArm, Results, State, recipe_digest
from banty.sweeps.runs import CellRun, held
from banty.sweeps.table import SweepTable, draw
from banty.sweeps.workers import Event, Tell, work_through

__all__ = [
    "MOST_SEEDS",
    "Arm",
    "CellRun",
    "Event",
    "PlannedArm",
    "Results",
    "State",
    "Sweep",
    "SweepTable",
    "Tell",
    "draw",
    "failure_line",
    "frozen_commit",
    "held",
    "ranges",
    "read_sweep",
    "recipe_digest",
    "result_line",
    "runs_line",
    "steps_to",
    "successes_of",
    "work_through",
]
