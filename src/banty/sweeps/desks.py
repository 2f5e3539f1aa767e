"""The line of a cell that trained many times on a desk: what its runs come to, small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

UNIT = 10_000
"""Kept runs are whole numbers of 1/UNIT: a third of the text, and far below any difference a thousand runs resolve."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def runs_line(
    note: Mapping[str, Any],
    success: npt.NDArray[np.float64],
    averages: Mapping[str, npt.NDArray[np.float64]],
    *,
    tasks: str,
    num_tasks: int,
    target: float,
    keep: bool,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What is kept of runs with these curves of `success` [runs, steps + 1] and `averages` [runs, steps].

    `final` is success after the last step, `auc` its mean over all steps, `steps` the first step at which it reached
    `target`, one more than there are where it never did: each with mean, deviation and quantiles over the runs. With
    `keep` every run's `final` is there too, so that runs of two arms can be paired.
    """
    measured = {"num_tasks": num_tasks, "num_unscored": 0, "tasks": tasks}
    numbers = {"final": success[:, -1], "auc": success[:, 1:].mean(axis=1), "steps": steps_to(success, target)}
    line: dict[str, Any] = {
        **{key: note[key] for key in ("arm", "seed", "frozen", "start")},
        "recipe": note["digest"],
        **more,
        "before": {"success": float(success[:, 0].mean()), **measured},
        "after": {"success": float(success[:, -1].mean()), **measured},
        "num_runs": len(success),
        "target": target,
        "reached": float((success >= target).any(axis=1).mean()),
        "of_runs": {name: _spread(values) for name, values in numbers.items()},
        "curve": {"success": _rounded(success.mean(axis=0)), "sd": _rounded(success.std(axis=0, ddof=1))},
    }
    line["curve"] |= {name: _rounded(values.mean(axis=0)) for name, values in averages.items()}
    if keep:
        line["runs"] = {"final": np.round(success[:, -1] * UNIT).astype(int).tolist()}
    return line


def steps_to(success: npt.NDArray[np.float64], target: float) -> npt.NDArray[np.float64]:
    """The first step after which each run's success is at least `target`; one more than there are where none is."""
    reached = success >= target
    return np.asarray(np.where(reached.any(axis=1), reached.argmax(axis=1), success.shape[1]), dtype=np.float64)


def successes_of(cell: Mapping[str, Any]) -> Sequence[float]:
    """Success after training of each of a cell's runs; most cells are one."""
    if "runs" not in cell:
        return [cell["after"]["success"]]
    return [value / UNIT for value in cell["runs"]["final"]]


def _spread(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "quantiles": _rounded(np.quantile(values, _QUANTILES)),
    }


def _rounded(values: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]
