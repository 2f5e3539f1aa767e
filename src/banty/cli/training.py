"""`banty train`: evaluate, train, evaluate again, audit what both are made on, and say what changed."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from banty.cli.auditing import RunAuditor
from banty.cli.choices import Chosen, expert_of, habits_of, with_whole_paths
from banty.cli.evaluate import run_eval
from banty.cli.local import (
    ENGINE_FILE,
    check_same_start,
    chosen_model,
    machine_of,
    note_pace,
    open_model,
    settle_threads,
    token_policy,
)
from banty.cli.progress import Meter
from banty.cli.rewards import rewards_of, with_kept_file, with_whole_file
from banty.cli.running import Interrupted, run_async
from banty.envs.registry import make_taskset, source_of
from banty.errors import InputError, StoreError
from banty.evals import Card, CardComparison, EvalPlan, compare_cards, read_card
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.models.packaged import PACKAGED, place_of
from banty.perf import lever, shares_of
from banty.policies.habits import HabitPolicy
from banty.records import Expert, Learner, Limits, SamplingParams, Taskset, TrainingSample
from banty.rollout import Cast
from banty.rubrics import RewardFile
from banty.runs import RunFolder, from_mapping, read_metrics, read_recipe, to_mapping, with_overrides, with_values
from banty.train.recipe import EvalBlock, PolicyBlock, RLRecipe, SFTRecipe
from banty.train.rewards import check_rewards, notes_on
from banty.train.rl import StepReport, TrainablePolicy, check_tasks, train_rl
from banty.train.sft import supervised_samples, train_sft

if TYPE_CHECKING:  # torch takes seconds to import: a command that needs no model does not wait for it
    from banty.policies.token import TokenPolicy

Recipe: TypeAlias = RLRecipe | SFTRecipe
KINDS: Mapping[str, type[RLRecipe] | type[SFTRecipe]] = {"rl": RLRecipe, "sft": SFTRecipe}


def load_any_recipe(path: str, overrides: Sequence[str]) -> Recipe:
    """The recipe in a file; its `kind`, rl where it says nothing, tells which. Raises InputError for one of a desk."""
    recipe = recipe_of(read_recipe(path, overrides), path)
    if isinstance(recipe, RLRecipe) and recipe.desk is not None:
        raise InputError(
            f"{path} has a [desk], which is trained by the thousand; name it in an experiment and use banty sweep "
            "(docs/experiments.md), or leave the block out"
        )
    return recipe


def recipe_of(tables: Mapping[str, Any], where: str) -> Recipe:
    """The recipe that these tables of a file are. Raises InputError, which begins with `where` they come from."""
    data = with_values(tables, {})
    kind = data.pop("kind", "rl")
    if kind == "sft" and isinstance(data.get("policy"), dict):
        data["policy"].setdefault("type", "model")  # nothing else can be fine-tuned
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}: kind is {kind!r}; known are {', '.join(KINDS)}")
    return from_mapping(KINDS[kind], data, where)


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as a run folder keeps it."""
    return {"kind": next(name for name, kind in KINDS.items() if isinstance(recipe, kind)), **to_mapping(recipe)}


def open_run(recipe: Recipe, folder: Path) -> RunFolder:
    """A new run of `recipe`; the resolved recipe is on disk before anything else happens."""
    return RunFolder.create(folder, recipe_json(recipe))


def reopen_run(folder: Path, overrides: Sequence[str] = ()) -> tuple[RunFolder, Recipe]:
    """The run in `folder` and the recipe it was started with. `overrides` may change `[learner]` alone, whose settings
    cost memory and time and change no result."""
    run = RunFolder.open(folder)
    for override in overrides:
        if not override.startswith("learner."):
            raise InputError(f"{override}: a run that is resumed keeps its recipe; only learner.* can be changed")
    data = with_overrides(run.read_json("recipe.json"), overrides)
    kind = data.pop("kind", None)
    if kind not in KINDS:
        raise InputError(f"{folder} is not a training run; resume an evaluation with banty eval ... --resume")
    recipe = from_mapping(KINDS[kind], data, str(folder / "recipe.json"))
    return run, with_kept_file(recipe, folder) if isinstance(recipe, RLRecipe) else recipe


@dataclass(frozen=True)
class Trainee:
    """What is trained, whatever it is. `chosen` is its policy for an evaluation `before` or `after`."""

    policy: TrainablePolicy
    learner: Learner
    chosen: Callable[[str], Chosen]
    save: Callable[[Path], None]


def tasksets_of(recipe: Recipe, allow_code: bool) -> dict[str, Taskset]:
    """The tasks a recipe names: under "" those of its environment, under their names those of `eval.also`."""
    if recipe.env is None:
        if recipe.eval.also:
            raise InputError("eval.also names further evaluations, and the recipe has no [env] to evaluate in")
        return {}
    wanted = {"": {}, **recipe.eval.also}
    return {
        name: make_taskset(recipe.env.name, {**recipe.env.options, **changes}, allow_code)
        for name, changes in wanted.items()
    }


def run_training(
    recipe: Recipe,
    run: RunFolder,
    tasksets: Mapping[str, Taskset],
    prepared: Prepared,
    quiet: bool = False,
    *,
    baselines: bool = True,
    watch: Callable[[StepReport], None] | None = None,
    allow_code: bool = False,
) -> Mapping[str, CardComparison]:
    """Carry the run through to its end from wherever it stands; the comparison of after with before on each taskset.

    The tasks' baselines are played beside the last evaluation unless told otherwise. `watch` is told of each step.
    Beside each card lies an audit of what is trained on against what it was measured on.
    """
    taskset = tasksets.get("")
    auditor = RunAuditor(recipe, tasksets, allow_code)
    trainee = trainee_of(recipe, taskset, run, prepared)
    before = _evaluate(recipe, tasksets, trainee, run, auditor, "before", quiet, baselines=False)
    with Meter("train", _num_steps(recipe), "steps", quiet) as meter:

        def on_step(report: StepReport) -> None:
            meter.total = report.num_steps
            meter.advance(_progress(report), report.step + 1)
            note_pace(run.path, trainee.policy, f"step {report.step}")
            if watch is not None:
                watch(report)

        if isinstance(recipe, RLRecipe):
            assert taskset is not None, "an RL recipe names an environment"
            work = train_rl(
                recipe.train,
                taskset,
                recipe.env.split,
                trainee.policy,
                trainee.learner,
                run,
                on_step,
                credit=recipe.credit,
                loss=recipe.loss,
                rewards=recipe.rewards,
                reward_file=prepared.rewards,
                calibrate=recipe.calibrate,
                machine=machine_of(run.path),
            )
            run_async(work, _kept(run))
        else:
            _imitate(recipe, trainee, prepared.samples, run, on_step)
    try:
        trainee.save(run.weights)
    except OSError as error:
        raise StoreError(f"could not write {run.weights}: {error.strerror or error}; {_kept(run)}") from error
    after = _evaluate(recipe, tasksets, trainee, run, auditor, "after", quiet, baselines=baselines)
    comparisons = {name: compare_cards(card, after[name]) for name, card in before.items()}
    results = {
        name: {**each.to_json(), "before": each.first.data["success"], "after": each.second.data["success"]}
        for name, each in comparisons.items()
    }
    main = results.pop("", {"weights": str(run.weights)})
    run.write_json("result.json", {**main, "also": results} if results else main)
    return comparisons


def speed_sentence(folder: Path) -> str:
    """Where the time of a run's steps, or of an evaluation, went, and what to change; empty where nothing was
    measured."""
    machine = machine_of(folder)
    log = folder / "metrics.jsonl"
    rows = read_metrics(log) if machine is not None and log.exists() else []
    shares = shares_of(rows, machine) if machine is not None else []
    return lever(shares) if shares else ""


def _imitate(
    recipe: SFTRecipe,
    trainee: Trainee,
    samples: Sequence[TrainingSample],
    run: RunFolder,
    on_step: Callable[[StepReport], None],
) -> None:
    try:
        machine = machine_of(run.path)
        train_sft(recipe.train, samples, trainee.learner, run, on_step, loss=recipe.loss, machine=machine)
    except KeyboardInterrupt:
        kept = f"a checkpoint of every {recipe.train.checkpoint_every} updates is kept"
        raise Interrupted(
            f"interrupted; {kept}; go on with banty train --resume {shlex.quote(str(run.path))}"
        ) from None
    trainee.policy.load(trainee.learner.publish())


def _num_steps(recipe: Recipe) -> int:
    return recipe.train.steps or 1  # of a fine-tuning over epochs, not known before its data is read


def _progress(report: StepReport) -> str:
    success, loss = report.metrics.get("rollout/success"), report.metrics.get("train/loss")
    if success is not None:
        return f"success {success:.2f}"
    return f"loss {loss:.3f}" if loss is not None and "rollout/episodes" not in report.metrics else ""


def trainee_of(recipe: Recipe, taskset: Taskset | None, run: RunFolder, prepared: Prepared) -> Trainee:
    """The policy and learner a recipe names, as they are before training."""
    policy = prepared.policy
    if policy is None:
        assert taskset is not None, "habits are trained in an environment"
        return _habits(recipe, expert_of(taskset))
    from banty.learn.learner import TorchLearner

    model = policy.engine.model
    run.write_json(ENGINE_FILE, settle_threads(model, recipe.policy.threads, run.path))
    start = place_of(recipe.policy.start)
    check_same_start(run.path, start)
    learner = TorchLearner(
        model,
        recipe.optimizer,
        micro_batch_tokens=recipe.learner.micro_batch_tokens,
        recompute=recipe.learner.recompute,
        keep_reference=isinstance(recipe, RLRecipe) and recipe.loss.kl > 0.0,
    )
    places = {"before": start, "after": run.weights}
    return Trainee(
        policy,
        learner,
        lambda when: chosen_model(policy.called(f"{model.name} {when}"), places[when]),
        model.save,
    )


def _habits(recipe: Recipe, expert: Expert) -> Trainee:
    start = starting_weights(recipe.policy, expert)
    learner = HabitLearner(start, recipe.optimizer.learning_rate)
    return Trainee(
        HabitPolicy(expert, start),
        learner,
        lambda when: habits_of(expert, start if when == "before" else learner.publish(), f"habits {when}"),
        lambda folder: learner.publish().save(folder),
    )


def with_whole_options(recipe: Recipe) -> Recipe:
    """The recipe with its paths made absolute: a stored run finds them from any folder."""
    policy = recipe.policy
    if policy.start and policy.start not in PACKAGED and Path(policy.start).expanduser().exists():
        policy = dataclasses.replace(policy, start=_whole(policy.start))
    if recipe.env is not None:
        env = dataclasses.replace(recipe.env, options=with_whole_paths(recipe.env.options))
        also = {name: with_whole_paths(changes) for name, changes in recipe.eval.also.items()}
        recipe = dataclasses.replace(recipe, env=env, eval=dataclasses.replace(recipe.eval, also=also))
    if isinstance(recipe, SFTRecipe):
        data = dataclasses.replace(
            recipe.data,
            rollouts=tuple(map(_whole, recipe.data.rollouts)),
            traces=tuple(map(_whole, recipe.data.traces)),
        )
        recipe = dataclasses.replace(recipe, data=data)
    else:
        recipe = with_whole_file(recipe)
    return dataclasses.replace(recipe, policy=policy)


def _whole(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _kept(run: RunFolder) -> str:
    return f"every finished step is kept; go on with banty train --resume {shlex.quote(str(run.path))}"


@dataclass(frozen=True)
class Prepared:
    """What checking a recipe has opened: the model as a policy, if it trains one, what it is to imitate, and what its
    turns earn. `notes` are for a person."""

    policy: TokenPolicy | None = None
    samples: Sequence[TrainingSample] = ()
    rewards: RewardFile | None = None
    notes: Sequence[str] = ()


def check_recipe(
    recipe: Recipe, tasksets: Mapping[str, Taskset], *, fits: bool = True, allow_code: bool = False
) -> Prepared:
    """What the run will need. Raises InputError, before anything is written, for whatever of a recipe its tasks, policy
    and data cannot serve, and if it has to be, for a model that does not fit into memory."""
    recipe.check()
    taskset = tasksets.get("")
    prepared = Prepared()
    if recipe.policy.type == "habits" and isinstance(recipe, RLRecipe):
        assert taskset is not None, "an RL recipe names an environment"
        starting_weights(recipe.policy, expert_of(taskset))
        if recipe.train.epochs * recipe.train.minibatches > 1:
            raise InputError("the habit learner makes one update a batch; set train.epochs and train.minibatches to 1")
    elif recipe.policy.type == "model":
        from banty.learn.batches import micro_batches
        from banty.learn.memory import check_fits

        model = open_model(recipe.policy)
        if fits:
            check_fits(model, recipe.learner.micro_batch_tokens, recipe.learner.recompute, recipe.optimizer)
        policy = token_policy(model, recipe.policy)
        prepared = Prepared(policy)
        if isinstance(recipe, SFTRecipe):
            samples = supervised_samples(recipe.data, policy.renderer)
            sequences = [sample.token_ids for sample in samples]
            micro_batches(sequences, recipe.learner.micro_batch_tokens)
            if (longest := max(map(len, sequences))) > model.max_tokens:
                raise InputError(
                    f"a conversation has {longest} tokens, and {model.name} has positions for {model.max_tokens}; "
                    "leave it out, or cut it"
                )
            prepared = Prepared(policy, samples)
    if isinstance(recipe, RLRecipe):
        assert taskset is not None, "an RL recipe names an environment"
        check_tasks(recipe.train, taskset, recipe.env.split)
        rewards = rewards_of(recipe, allow_code)
        if rewards is not None:
            check_rewards(rewards, taskset, recipe.env.split)
            notes = notes_on(rewards, taskset, recipe.env.split, recipe.credit)
            prepared = dataclasses.replace(prepared, rewards=rewards, notes=notes)
    for name, each in tasksets.items():
        if each.roles:
            where = f"eval.also.{name}" if name else "env.options"
            raise InputError(
                f"{where} makes {each.env} ask for a policy in the role {', '.join(sorted(each.roles))}, and training "
                "has none to give; choose a user that is scripted"
            )
        _eval_plan(recipe).check(each)
    return prepared


def starting_weights(block: PolicyBlock, expert: Expert) -> HabitWeights:
    """The weights a recipe starts from: those in a folder, or made from its lapse rates."""
    if block.start:
        return dataclasses.replace(HabitWeights.load(Path(block.start)), version=0)
    unknown = sorted(set(block.lapses) - set(expert.points))
    if unknown:
        raise InputError(f"policy.lapses names {', '.join(unknown)}; known are {', '.join(expert.points)}")
    rates = {point: block.lapses.get(point, block.lapse) for point in expert.points}
    return HabitWeights.with_lapses(expert.points, rates)


def _eval_plan(recipe: Recipe) -> EvalPlan:
    block: EvalBlock = recipe.eval
    return EvalPlan(
        split=block.split,
        num_tasks=block.num_tasks,
        num_trials=block.num_trials,
        seed=block.seed,
        params=SamplingParams(temperature=block.temperature),
        limits=Limits(max_turns=block.max_turns, max_tokens=block.max_tokens or None),
        concurrency=block.concurrency,
    )


def _evaluate(
    recipe: Recipe,
    tasksets: Mapping[str, Taskset],
    trainee: Trainee,
    run: RunFolder,
    auditor: RunAuditor,
    when: str,
    quiet: bool,
    *,
    baselines: bool,
) -> dict[str, Card]:
    chosen = functools.cache(lambda: trainee.chosen(when))  # it hashes the weights
    cards = {}
    for name, taskset in tasksets.items():
        folder = eval_folder(run.path, when, name)
        cards[name] = _evaluate_on(name, recipe, taskset, chosen, run, folder, when, quiet, baselines=baselines)
        auditor.write(name, cards[name], folder)
    return cards


def eval_folder(run: Path, when: str, name: str) -> Path:
    """Where a run keeps its evaluation `before` or `after`; `name` is empty for the main one."""
    return run / (f"eval-{when}-{name}" if name else f"eval-{when}")


def _evaluate_on(
    name: str,
    recipe: Recipe,
    taskset: Taskset,
    choose: Callable[[], Chosen],
    run: RunFolder,
    folder: Path,
    when: str,
    quiet: bool,
    *,
    baselines: bool,
) -> Card:
    assert recipe.env is not None, "a taskset is made of an environment"
    if (folder / "card.json").exists():
        card = read_card(folder)
        if card.data["num_scored"] == card.data["num_episodes"]:  # else those that errored are tried once more
            return card
    chosen = choose()
    card = run_eval(
        _eval_plan(recipe),
        taskset,
        chosen,
        Cast(chosen.policy),
        folder,
        resume=(folder / "manifest.json").exists(),
        baselines=baselines,
        options={**recipe.env.options, **recipe.eval.also.get(name, {})},
        source=source_of(recipe.env.name),
        kept=_kept(run),
        quiet=quiet,
        title=f"{when}, {name}" if name else when,
    )
    note_pace(run.path, chosen.policy, f"the evaluation {when}")
    return card
