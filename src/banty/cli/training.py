"""`banty train`: evaluate on held-out tasks, train, evaluate again, and say what changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from banty.cli.choices import expert_of, habits_of, with_whole_paths
from banty.cli.evaluate import run_eval
from banty.cli.progress import Meter
from banty.cli.running import run_async
from banty.errors import InputError
from banty.evals import Card, CardComparison, EvalPlan, compare_cards, read_card
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Expert, Limits, SamplingParams, Taskset
from banty.rollout import Cast
from banty.runs import RunFolder, from_mapping, to_mapping
from banty.train.recipe import PolicyBlock, RLRecipe
from banty.train.rl import StepReport, check_tasks, train_rl


def open_run(recipe: RLRecipe, folder: Path) -> RunFolder:
    """A new run of `recipe`; the resolved recipe is on disk before anything else happens."""
    return RunFolder.create(folder, {"kind": "train", **to_mapping(recipe)})


def reopen_run(folder: Path) -> tuple[RunFolder, RLRecipe]:
    """The run in `folder` and the recipe it was started with."""
    run = RunFolder.open(folder)
    data = run.read_json("recipe.json")
    if data.pop("kind", None) != "train":
        raise InputError(f"{folder} is not a training run; resume an evaluation with banty eval ... --resume")
    return run, from_mapping(RLRecipe, data, str(folder / "recipe.json"))


def run_training(recipe: RLRecipe, run: RunFolder, taskset: Taskset, quiet: bool = False) -> CardComparison:
    """Carry the run through to its end from wherever it stands; the comparison of after with before."""
    expert = expert_of(taskset)
    start = starting_weights(recipe.policy, expert)
    before = _evaluate(recipe, taskset, expert, start, run, "before", quiet)
    policy = HabitPolicy(expert, start)
    learner = HabitLearner(start, recipe.train.learning_rate)
    with Meter("train", recipe.train.steps, "steps", quiet) as meter:

        def on_step(report: StepReport) -> None:
            success = report.metrics["rollout/success"]
            meter.advance(f"success {success:.2f}" if success is not None else "", report.step + 1)

        run_async(train_rl(recipe.train, taskset, recipe.env.split, policy, learner, run, on_step), _kept(run))
    learner.publish().save(run.weights)
    after = _evaluate(recipe, taskset, expert, learner.publish(), run, "after", quiet)
    comparison = compare_cards(before, after)
    run.write_json(
        "result.json", {**comparison.to_json(), "before": before.data["success"], "after": after.data["success"]}
    )
    return comparison


def with_whole_options(recipe: RLRecipe) -> RLRecipe:
    """The recipe with paths in its environment's options made absolute."""
    return dataclasses.replace(
        recipe, env=dataclasses.replace(recipe.env, options=with_whole_paths(recipe.env.options))
    )


def _kept(run: RunFolder) -> str:
    return f"every finished step is kept; go on with banty train --resume {run.path}"


def check_recipe(recipe: RLRecipe, taskset: Taskset) -> None:
    """Raises InputError for whatever of a recipe its tasks and expert cannot serve, before anything is written."""
    recipe.check()
    expert = expert_of(taskset)
    starting_weights(recipe.policy, expert)
    check_tasks(recipe.train, taskset, recipe.env.split)
    _eval_plan(recipe).check(taskset)


def starting_weights(block: PolicyBlock, expert: Expert) -> HabitWeights:
    """The weights a recipe starts from: those in a folder, or made from its lapse rates."""
    if block.start:
        return dataclasses.replace(HabitWeights.load(Path(block.start)), version=0)
    unknown = sorted(set(block.lapses) - set(expert.points))
    if unknown:
        raise InputError(f"policy.lapses names {', '.join(unknown)}; known are {', '.join(expert.points)}")
    rates = {point: block.lapses.get(point, block.lapse) for point in expert.points}
    return HabitWeights.with_lapses(expert.points, rates)


def _eval_plan(recipe: RLRecipe) -> EvalPlan:
    return EvalPlan(
        split=recipe.eval.split,
        num_tasks=recipe.eval.num_tasks,
        num_trials=recipe.eval.num_trials,
        seed=recipe.eval.seed,
        params=SamplingParams(temperature=recipe.train.temperature),
        limits=Limits(max_turns=recipe.train.max_turns),
        concurrency=recipe.train.concurrency,
    )


def _evaluate(
    recipe: RLRecipe, taskset: Taskset, expert: Expert, weights: HabitWeights, run: RunFolder, when: str, quiet: bool
) -> Card:
    folder = run.path / f"eval-{when}"
    if (folder / "card.json").exists():
        return read_card(folder)
    chosen = habits_of(expert, weights, f"habits {when}")
    plan = _eval_plan(recipe)
    return run_eval(
        plan,
        taskset,
        chosen,
        Cast(chosen.policy),
        folder,
        resume=(folder / "manifest.json").exists(),
        baselines=when == "after",
        options=recipe.env.options,
        kept=_kept(run),
        quiet=quiet,
    )
