"""The tables and the figure of docs/results/estimators.md, from the results of main.toml and matched.toml and from the
bias measured here on the same decision trees. The page's words are written by hand; what stands between its markers is
put there anew.

    python -m recipes.estimators.report
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recipes.estimators.arms import ESTIMATORS, EXPLORATORY, REWARDS
from recipes.estimators.figure import Curve, figure
from recipes.pages import table, with_tables

from banty.cli.desk import kept_desk, reward_files, setting_of
from banty.cli.experiment import Experiment
from banty.cli.training import starting_weights, tasksets_of
from banty.credit import CreditSpec
from banty.desk import Bias, Desk, Exact, Setting, measure_bias
from banty.desk.exact import log_probabilities
from banty.stats import compare_over_seeds, seed_interval
from banty.sweeps.desks import UNIT
from banty.train.recipe import RLRecipe

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "estimators.md"
DATA = ROOT / "docs" / "results" / "data"
BASELINE = "rloo-outcome"
TARGETS = (0.0, 0.5, 0.8)
BATCHES = 4000
SHOWN = ("rloo-outcome", "unbiased-naive", "hybrid-naive", "mt_grpo-naive", "mt_grpo-irc", "mt_additive-naive")
DIAGNOSTIC: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mt_grpo-naive, no std": ("mt_grpo-naive", {"std": False}),
    "mt_grpo-naive, turns x 0.3": ("mt_grpo-naive", {"turn_weight": 0.3}),
}
"""Measured after the others were seen, to tell apart what makes MT-GRPO's direction; never trained."""
Line = Mapping[str, Any]


def lines_of(sweep: str) -> dict[str, Line]:
    return {
        file.stem: json.loads(file.read_text())
        for file in sorted((DATA / sweep).glob("*.jsonl"))
        if len(file.read_text().splitlines()) == 1
    }


def names() -> list[str]:
    return [
        f"{name}-{rewards}"
        for rewards, file in REWARDS.items()
        for name in {**ESTIMATORS, **(EXPLORATORY if file else {})}
    ]


def main_table(lines: Mapping[str, Line], rates: Mapping[str, float]) -> str:
    """Every arm at its own rate: final success and its paired difference from the baseline."""
    base = np.array(lines[BASELINE]["runs"]["final"]) / UNIT
    rows = []
    for name in names():
        line = lines[name]
        final = np.array(line["runs"]["final"]) / UNIT
        versus = compare_over_seeds(final.tolist(), base.tolist(), paired=True) if name != BASELINE else None
        auc = line["of_runs"]["auc"]
        rows.append(
            [
                name,
                f"{rates[name]:g}",
                str(len(final)),
                _of_summary(auc["mean"], auc["sd"], len(final)),
                _interval(final),
                "-" if versus is None else _signed(versus.difference),
                "-" if versus is None or versus.mde is None else f"{versus.mde:.4f}",
                f"{line['reached']:.3f}",
                f"{line['of_runs']['steps']['quantiles'][2]:g}",
            ]
        )
    head = [
        "arm",
        "rate",
        "seeds",
        "mean over steps",
        "final success",
        f"minus {BASELINE}",
        "MDE",
        "reach 0.8",
        "median steps to 0.8",
    ]
    return table(head, rows)


def matched_table(lines: Mapping[str, Line]) -> str:
    """All arms at one small rate, from means, deviations and numbers of runs; no run is paired."""
    rows = []
    for name in names():
        line = lines[name]
        of_runs, size = line["of_runs"], line["num_runs"]
        cells = [_of_summary(of_runs[kind]["mean"], of_runs[kind]["sd"], size) for kind in ("auc", "final")]
        median = of_runs["steps"]["quantiles"][2]
        steps = f"{median:.0f}" if median <= len(line["curve"]["success"]) - 1 else "never"
        rows.append([name, *cells, f"{line['reached']:.3f}", steps, f"{line['curve']['turns'][-1]:.2f}"])
    head = ["arm", "mean over steps", "final success", "reach 0.8", "median steps to 0.8", "turns at the end"]
    return table(head, rows)


def bias_table(found: Mapping[str, Sequence[Bias]]) -> str:
    rows = []
    for name, each in found.items():
        cells = [name]
        for bias in each:
            cells += [f"{bias.cosine:.3f}", f"{bias.bias:.2f}", f"{bias.snr:.2f}", f"{bias.alignment:.2f}"]
        first = each[0]
        rows.append([*cells, f"{first.shaped_cosine:.3f}"])
    head = [
        "arm",
        *(f"{what} @{at}" for at in ("start", "0.5", "0.8") for what in ("cosine", "bias", "SNR", "one batch")),
    ]
    return table([*head, "cosine with shaped @start"], rows)


def habit_table(found: Mapping[str, Sequence[Bias]], points: Sequence[str], at: int) -> str:
    """Directions of length 1, a number a habit: which disciplines a step strengthens, and how much."""

    def row(name: str, direction: np.ndarray) -> list[str]:
        return [name, *(f"{value:+.2f}" for value in direction / np.linalg.norm(direction))]

    rows = [row("exact, success", found[BASELINE][at].exact)]
    rows.append(row("exact, success + naive rewards", found["unbiased-naive"][at].shaped))
    rows.append(row("exact, success + irc rewards", found["unbiased-irc"][at].shaped))
    rows += [row(name, found[name][at].mean) for name in (*SHOWN[1:], *DIAGNOSTIC, "gtpo_pooled-naive", "gdpo-naive")]
    return table(["direction", *points], rows)


def tier_table(found: Mapping[str, Sequence[Bias]], at: int, tiers: Sequence[str]) -> str:
    wanted = (*SHOWN, "grpo-naive", "gtpo_pooled-naive", "gdpo-naive", "gigpo-naive")
    rows = [[name, *(f"{found[name][at].tier_mean[tier]:+.2f}" for tier in tiers)] for name in wanted]
    return table(["arm", *tiers], rows)


def lapse_table(lines: Mapping[str, Line]) -> str:
    """How often each habit still lapses after training, mean over runs."""
    wanted = (*SHOWN, "mt_additive-irc", "gtpo_pooled-naive", "gdpo-naive", "gigpo-naive")
    points = list(lines[BASELINE]["lapses"])
    rows = [[name, *(f"{lines[name]['lapses'][point]:.2f}" for point in points)] for name in wanted]
    return table(["arm", *points], rows)


def push_table(desk: Desk, logits: np.ndarray) -> str:
    """m_k and the share that goes on after turn k, exact at these weights."""
    probability = np.exp(desk.counts @ log_probabilities(logits).ravel()) / len(desk.tasks)
    turns = np.arange(desk.tiers.shape[1])
    reach = (desk.lengths[:, None] > turns).T @ probability
    go_on = (desk.lengths[:, None] > turns + 1).T @ probability
    rows = []
    for name in ("naive-dense", "irc"):
        mean = _push(desk, probability, name)
        rows.append([f"m_k, {name}", *(f"{value:+.3f}" for value in mean), f"{(mean * go_on / reach).sum():+.3f}"])
    rows.append(["goes on after k", *(f"{value:.2f}" for value in go_on / reach), ""])
    return table(["", *(f"turn {turn + 1}" for turn in turns), "sum of m_k x goes on"], rows)


def _push(desk: Desk, probability: np.ndarray, name: str) -> np.ndarray:
    """The mean, over episodes that reach turn k, of what another episode of the task is paid at k."""
    turns = np.arange(desk.tiers.shape[1])
    total = np.zeros(len(turns))
    reach = np.zeros(len(turns))
    for task in range(len(desk.tasks)):
        own = desk.leaf_task == task
        share = probability[own]
        reached = (desk.lengths[own][:, None] > turns).T @ share
        paid = desk.rewards[name][own].T @ share / share.sum()
        total += reached * paid
        reach += reached
    return total / reach


def measure(
    recipes: Mapping[str, RLRecipe], desk: Desk, start: np.ndarray
) -> tuple[dict[str, list[Bias]], list[np.ndarray]]:
    """Bias of every arm, unscaled, at the start and where exact ascent first reaches each target."""
    exact, places, logits = Exact(desk), [], start
    for target in TARGETS:
        while exact(logits) < target:
            logits = logits + 2.0 * exact.gradient(logits)
        places.append(logits)
    found = {}
    wanted = {**{name: (name, {}) for name in names()}, **DIAGNOSTIC}
    for name, (arm, changes) in wanted.items():
        recipe = recipes[arm]
        setting = setting_of(recipe, recipe.rewards.file or "outcome")
        setting = Setting(**{**setting.__dict__, "credit": _unscaled(recipe, changes)})
        found[name] = [measure_bias(desk, setting, place, BATCHES) for place in places]
        print(name, [round(one.cosine, 3) for one in found[name]], flush=True)
    return found, places


def _unscaled(recipe: RLRecipe, changes: Mapping[str, Any]) -> CreditSpec:
    return CreditSpec(**{**recipe.credit.__dict__, "scale": "none", "rms": None, **changes})


def _interval(values: np.ndarray) -> str:
    found = seed_interval(values.tolist())
    return (
        f"{found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]"
        if found.low is not None
        else f"{found.estimate:.4f}"
    )


def _of_summary(mean: float, deviation: float, size: int) -> str:
    """The t interval of a mean from its runs' deviation."""
    from scipy.special import stdtrit

    half = float(stdtrit(size - 1, 0.975)) * deviation / size**0.5
    return f"{mean:.4f} [{mean - half:.4f}, {mean + half:.4f}]"


def _signed(difference: Any) -> str:
    if difference.low is None:
        return f"{difference.estimate:+.4f}"
    return f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def write() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the decision trees are kept")
    asked = parser.parse_args()
    experiment = Experiment.read(HERE / "main.toml", asked.runs, DATA)
    recipes = {name: recipe for name, recipe in experiment.recipes.items() if isinstance(recipe, RLRecipe)}
    recipe = recipes[BASELINE]
    taskset = tasksets_of(recipe, False)[""]
    assert recipe.desk is not None, "the study's recipe has a desk"
    desk = kept_desk(recipe, recipe.desk, taskset, reward_files(recipe, False)[0], asked.runs / "desks")
    expert = taskset.expert()
    assert expert is not None, "a desk is made with an expert"
    found, places = measure(recipes, desk, starting_weights(recipe.policy, expert).logits)
    lines, matched = lines_of("estimators"), lines_of("estimators-matched")
    rates = {name: each.optimizer.learning_rate for name, each in recipes.items()}
    tables = {
        "main": main_table(lines, rates),
        "matched": matched_table(matched),
        "bias": bias_table(found),
        "habits-start": habit_table(found, desk.points, 0),
        "habits-late": habit_table(found, desk.points, 2),
        "tiers": tier_table(found, 0, desk.tier_names),
        "lapses": lapse_table(matched),
        "lapses-main": lapse_table(lines),
        "push": push_table(desk, places[0]),
    }
    PAGE.write_text(with_tables(PAGE.read_text(), tables))
    curves = [Curve(name, matched[name]["curve"]["success"], [one.cosine for one in found[name]]) for name in SHOWN]
    (PAGE.parent / "estimators.svg").write_text(figure(curves, TARGETS, recipe.train.steps))
    print(f"{PAGE} and estimators.svg beside it; {desk.num_leaves} episodes of {len(desk.tasks)} tasks")


if __name__ == "__main__":
    write()
