"""The commands. Each says what it does, shows two real examples, and hands over to a module of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from banty import __version__
from banty.cli import show
from banty.cli.audit import audit, overlapping_in
from banty.cli.calibrate import calibrate
from banty.cli.card import card
from banty.cli.choices import (
    Chosen,
    fresh_folder,
    policy_of,
    prices_of,
    taskset_for_customer,
)
from banty.cli.diagnose import diagnose_command
from banty.cli.evaluate import NothingScored, eval_plan_json, run_eval, unscored_words
from banty.cli.exporting import export
from banty.cli.importing import import_log
from banty.cli.inspect import inspect
from banty.cli.inspection import openings, task_json
from banty.cli.local import Loaded, begun_in, model_opener
from banty.cli.plain import plain, print_json, visible
from banty.cli.plan import plan
from banty.cli.report import report
from banty.cli.several import Seat, run_several, show_users
from banty.cli.sweep import sweep
from banty.cli.tau2 import tau2_app
from banty.cli.training import (
    check_recipe,
    eval_folder,
    load_any_recipe,
    open_run,
    recipe_json,
    reopen_run,
    run_training,
    speed_sentence,
    tasksets_of,
    with_whole_options,
)
from banty.cli.users import apart, desk_for, desks_for, temperatures_of, user_of_spec
from banty.envs.registry import BUILT_IN, installed
from banty.envs.scaffold import class_prefix, new_env
from banty.errors import InputError
from banty.evals import EvalPlan, compare_cards, read_card
from banty.evals.audit import standing_of
from banty.records import Limits, SamplingParams
from banty.report import headline, write_report
from banty.rollout import Cast, check_roles
from banty.runs import check_free

app = typer.Typer(
    name="banty",
    help="Turn a small open language model into a dependable multi-turn tool-using agent.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
new_app = typer.Typer(help="Write the files of something new.", no_args_is_help=True)
app.add_typer(new_app, name="new")
app.command("inspect")(inspect)
app.command("report")(report)
app.command("plan")(plan)
app.command("sweep")(sweep)
app.command("import")(import_log)
app.command("export")(export)
app.add_typer(tau2_app, name="tau2")
app.command("diagnose")(diagnose_command)
app.command("calibrate")(calibrate)
app.command("card")(card)
app.command("audit")(audit)

Env = Annotated[str, typer.Option("--env", help="Environment: a name from `banty envs`, or FILE.py:NAME.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE for the environment, such as grade=tau2.")
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run the Python file that --env names.")]
Split = Annotated[str, typer.Option(help="Which split of the tasks.")]
Seed = Annotated[int, typer.Option(help="Seed of tasks and sampling; same seed, same episodes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the resolved plan, run nothing.")]
Out = Annotated[str, typer.Option(help="Folder for the result; the next free one under runs/ if not given.")]
User = Annotated[str, typer.Option(help="Who plays the user: scripted, nano, a model's folder, or URL[#MODEL].")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"banty {__version__}")
        raise typer.Exit


@app.callback()
def banty(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Turn a small open language model into a dependable multi-turn tool-using agent."""


@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file, TOML; not needed with --resume.")] = "",
    overrides: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE, such as train.steps=10.")] = None,
    resume: Annotated[str, typer.Option(help="Run folder to go on with.")] = "",
    out: Out = "",
    seed: Annotated[int | None, typer.Option(help="Same as train.seed=N.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Evaluate, train (reinforcement learning, or fine-tuning on conversations), evaluate again on the same tasks.

    Beside each result lies an audit of what the training tasks share with its own; only where that allows it are they
    called held-out.

    Examples:

        banty train recipes/habits.toml

        banty train recipes/habits.toml train.steps=10 policy.lapse=0.2 --out runs/short
    """
    changes = [*([recipe] if resume and recipe else []), *(overrides or [])]
    if resume and (any("=" not in change for change in changes) or out or seed is not None):
        raise InputError(
            "--resume goes on with the run's own recipe in its own folder; leave out all but changes of learner.*"
        )
    if not recipe and not resume:
        raise InputError("name a recipe, such as recipes/habits.toml, or a run folder with --resume")
    console = Console()
    if resume:
        run, resolved = reopen_run(Path(resume), changes)
    else:
        changes += [f"train.seed={seed}"] if seed is not None else []
        resolved = with_whole_options(load_any_recipe(recipe, changes))
    tasksets = tasksets_of(resolved, allow_code)
    prepared = check_recipe(resolved, tasksets, allow_code=allow_code)
    if not as_json and not dry_run:
        for note in prepared.notes:
            print(visible(f"note: {note}"))
    if dry_run:
        if out:
            check_free(Path(out))
        print_json(recipe_json(resolved))
        return
    if not resume:
        run = open_run(resolved, fresh_folder(out, f"train-{Path(recipe).stem}"))
    comparisons = run_training(resolved, run, tasksets, prepared, quiet=as_json, allow_code=allow_code)
    if as_json:
        print_json(run.read_json("result.json") | {"folder": str(run.path)})
    else:
        for name, comparison in comparisons.items():
            standing = standing_of(eval_folder(run.path, "after", name), comparison.second)
            show.show_training(console, comparison, name, standing)
    page = write_report(run.path)  # last: whatever is wrong with it, the result has been said
    if not as_json:
        if told := speed_sentence(run.path):
            print(f"speed: {told}")
        print(visible(headline(run.path)))
        print(visible(f"report: {page}"))
        print(f"run: {run.path}")


@app.command("eval")
def evaluate(
    policy: Annotated[str, typer.Argument(help="nano, expert, habits, a baseline, a folder with weights, or a URL.")],
    env: Env = "airline/mini",
    option: Options = None,
    split: Split = "test",
    tasks: Annotated[int | None, typer.Option(help="The first N tasks of the split; all if not given.")] = 100,
    trials: Annotated[int, typer.Option(help="Episodes per task.")] = 4,
    temperature: Annotated[float, typer.Option(help="Sampling temperature of the policy.")] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens after which one answer is cut.")] = None,
    max_turns: Annotated[int, typer.Option(help="Turns after which an episode is cut and has failed.")] = 30,
    concurrency: Annotated[int, typer.Option(help="Episodes live at once.")] = 64,
    dtype: Annotated[str, typer.Option(help="What a model in a folder computes in: float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="Where a model in a folder runs: cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Cores for a model on the CPU; 0 measures what is faster.")] = 0,
    user: Annotated[
        list[str] | None,
        typer.Option(
            help="Who plays the user: scripted, nano, a model's folder, or URL[#MODEL]. Several are compared."
        ),
    ] = None,
    user_temperature: Annotated[
        list[float] | None,
        typer.Option(help="Sampling temperature of --user, 0 if not given; one for all, or one each."),
    ] = None,
    user_max_tokens: Annotated[int | None, typer.Option(help="Tokens after which a user's answer is cut.")] = None,
    user_guidelines: Annotated[
        str, typer.Option(help="What --user is told: tau2-bench's simulation_guidelines.md, or its data folder.")
    ] = "",
    user_price: Annotated[str, typer.Option(help="The same as --price, for --user.")] = "",
    price: Annotated[str, typer.Option(help="IN,OUT: dollars per million prompt and sampled tokens.")] = "",
    tool_calls: Annotated[
        str, typer.Option(help="How an endpoint gives calls: native, or text as hermes or qwen_xml.")
    ] = "native",
    without: Annotated[
        str, typer.Option(help="An audit of these tasks: leave out those that overlap with training.")
    ] = "",
    seed: Seed = 0,
    out: Out = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the evaluation in --out.")] = False,
    baselines: Annotated[bool, typer.Option(help="Run the baselines as well.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Measure a policy: pass^k and pass@k with intervals, against baselines, into one result card.

    An endpoint's key is read from BANTY_API_KEY, the user's from BANTY_USER_API_KEY.

    Examples:

        banty eval habits --env airline/mini --tasks 200 --trials 4

        banty eval http://localhost:8000#my-model --env airline/full --temperature 0 --out runs/my-model

        banty eval nano --user scripted --user http://localhost:8000#my-user --user-temperature 0.7 --out runs/users
    """
    if resume and not out:
        raise InputError("--resume needs --out FOLDER, the evaluation to go on with")
    specs = user or [""]
    temperatures = temperatures_of(user_temperature or [], len(specs))
    desks = desks_for(env, option or [], allow_code, specs, user_guidelines)
    begun = begun_in(Path(out)) if resume else None
    loaded: dict[Path, Loaded] = {}
    opener = model_opener(dtype, device, threads, max_tokens, begun, loaded)
    chosen = policy_of(policy, desks[0].taskset, tool_calls, prices_of(price), opener)
    settled = int(chosen.engine.get("threads", threads))
    user_opener = model_opener(dtype, device, settled, user_max_tokens, begun, loaded)
    users = apart(
        [
            user_of_spec(spec, user_opener, at, user_max_tokens, prices_of(user_price))
            for spec, at in zip(specs, temperatures, strict=True)
        ]
    )
    plan = EvalPlan(
        split=split,
        num_tasks=tasks,
        num_trials=trials,
        seed=seed,
        params=SamplingParams(temperature=temperature, max_tokens=max_tokens),
        limits=Limits(max_turns=max_turns),
        concurrency=concurrency,
        without=overlapping_in(without) if without else (),
    )
    seats = [
        Seat(
            desk,
            each,
            Cast(chosen.policy, each.roles, role_params=each.role_params),
            dataclasses.replace(plan, exact=chosen.exact and each.exact),
        )
        for desk, each in zip(desks, users, strict=True)
    ]
    for seat in seats:
        seat.plan.check(seat.desk.taskset)
        check_roles(seat.desk.taskset, seat.cast)
    if dry_run:
        if out and not resume:
            check_free(Path(out))
        plans = [eval_plan_json(seat.plan, seat.desk.taskset, chosen, seat.cast, seat.user) for seat in seats]
        print_json(plans[0] if len(plans) == 1 else {"users": plans})
        return
    folder = fresh_folder(out, f"eval-{desks[0].taskset.env.replace('/', '-')}")
    measured = _measure_several if len(seats) > 1 else _measure_one
    measured(seats, chosen, folder, resume=resume, baselines=baselines, as_json=as_json)


def _measure_several(
    seats: list[Seat], chosen: Chosen, folder: Path, *, resume: bool, baselines: bool, as_json: bool
) -> None:
    results = run_several(seats, chosen, folder, resume=resume, baselines=baselines, quiet=as_json)
    if as_json:
        print_json(results.data)
    else:
        show_users(Console(), results, folder)
        print(f"users: {folder / 'users.json'}")
    if results.unscored:
        raise NothingScored("; ".join(results.unscored))


def _measure_one(
    seats: list[Seat], chosen: Chosen, folder: Path, *, resume: bool, baselines: bool, as_json: bool
) -> None:
    (only,) = seats
    card = run_eval(
        only.plan,
        only.desk.taskset,
        chosen,
        only.cast,
        folder,
        resume=resume,
        baselines=baselines,
        options=only.desk.options,
        source=only.desk.source,
        quiet=as_json,
        user=only.user,
    )
    if as_json:
        print_json(card.data)
        return
    show.show_card(Console(), card)
    if told := unscored_words(card, folder):
        print(visible(f"note: {told}"))
    if told := speed_sentence(folder):
        print(f"speed: {told}")
    print(f"card: {folder / 'card.json'}")


@app.command("compare")
def compare(
    a: Annotated[str, typer.Argument(help="Result card, or the folder it lies in.")],
    b: Annotated[str, typer.Argument(help="Result card, or the folder it lies in.")],
    across_users: Annotated[
        bool, typer.Option("--across-users", help="Compare although the two were measured under different users.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two results on the same tasks, in pairs: is B better than A?

    Examples:

        banty compare runs/base runs/trained

        banty compare runs/a/card.json runs/b/card.json --json
    """
    comparison = compare_cards(read_card(a), read_card(b), across_users=across_users)
    if as_json:
        print_json(comparison.to_json())
    else:
        show.show_comparison(Console(), comparison)


@app.command("play")
def play(
    env: Annotated[str, typer.Argument(help="Environment to play in.")] = "airline",
    option: Options = None,
    split: Split = "train",
    index: Annotated[int, typer.Option(help="Which task of the split.")] = 0,
    seed: Seed = 0,
    agent: Annotated[str, typer.Option(help="A policy, as `banty eval` takes it, that is the agent instead.")] = "",
    temperature: Annotated[float, typer.Option(help="Sampling temperature of --agent.")] = 1.0,
    user: User = "",
    allow_code: AllowCode = False,
) -> None:
    """Be the agent yourself, in the terminal; with --agent be its customer, or look on where a script is.

    Examples:

        banty play airline --index 3

        banty play airline/mini --agent nano

        banty play airline/mini --agent nano -o customer=scripted
    """
    from banty.cli.play import play as play_in_terminal

    opener = model_opener("float32", "cpu", 1, None, None)
    if agent and not user:
        taskset = taskset_for_customer(env, option or [], allow_code)
    else:
        taskset = desk_for(env, option or [], allow_code, user).taskset
    chosen = policy_of(agent, taskset, open_folder=opener) if agent else None
    play_in_terminal(
        taskset,
        split,
        index,
        seed,
        Console(),
        None,
        chosen.policy if chosen else None,
        params=SamplingParams(temperature=temperature),
        roles=user_of_spec(user, opener).roles,
    )


@app.command("tasks")
def list_tasks(
    env: Annotated[str, typer.Argument(help="Environment.")] = "airline/mini",
    option: Options = None,
    split: Split = "train",
    count: Annotated[int, typer.Option(min=1, help="How many, from the first on.")] = 5,
    seed: Seed = 0,
    user: User = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="Also show what only the author may know.")] = False,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Show what an agent would be shown first.

    Examples:

        banty tasks airline/mini --split test --count 3

        banty tasks airline/full --reveal --json
    """
    taskset = desk_for(env, option or [], allow_code, user).taskset
    roles = user_of_spec(user, model_opener("float32", "cpu", 1, None, None)).roles
    shown = [task_json(found, taskset, reveal) for found in openings(taskset, split, count, seed, dict(roles))]
    if as_json:
        print_json(shown)
        return
    console = Console()
    for task in shown:
        console.print(plain(f"{task['env']} {task['split']} {task['index']}", style="bold"))
        for message in task["opening"]:
            console.print(plain(f"  {message['role']}: {message['content']}"))
        for name in ("detail", "private"):
            if name in task:
                console.print(plain(f"  {name}: {json.dumps(task[name], ensure_ascii=False)}", style="dim"))
    sizes = ", ".join(f"{name} {size}" for name, size in taskset.splits.items())
    print(f"{taskset.env}: {sizes} tasks")


@app.command("envs")
def list_envs(as_json: AsJson = False) -> None:
    """List the environments.

    Examples:

        banty envs

        banty envs --json
    """
    rows = {name: entry.summary for name, entry in BUILT_IN.items()}
    rows |= {name: f"installed: {point.value}" for name, point in installed().items()}
    if as_json:
        print_json(rows)
        return
    for name, summary in rows.items():
        print(f"{name:<16} {summary}")


@new_app.command("env")
def new_environment(
    name: Annotated[str, typer.Argument(help="A lower-case identifier, such as library_desk.")],
    folder: Annotated[str, typer.Option(help="Where to put the new folder.")] = ".",
) -> None:
    """Write a small working environment to start from.

    Examples:

        banty new env library_desk

        banty new env ticket_desk --folder environments
    """
    written = new_env(name, Path(folder))
    for path in written:
        print(path)
    print(f"try it: banty eval expert --env {Path(folder) / name}/env.py:{class_prefix(name)}Tasks --allow-code")
