"""The commands. Each says what it does, shows two real examples, and hands over to a module of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from banty import __version__
from banty.cli import show
from banty.cli.choices import (
    fresh_folder,
    options_of,
    policy_of,
    prices_of,
    roles_of,
    taskset_for_customer,
    taskset_of,
)
from banty.cli.evaluate import eval_plan_json, run_eval
from banty.cli.inspection import (
    expert_of_run,
    lapses_of,
    openings,
    replay_sentence,
    replay_stored,
    rollout_of,
    task_json,
)
from banty.cli.local import model_opener
from banty.cli.plain import plain, visible
from banty.cli.plan import plan
from banty.cli.report import report
from banty.cli.sweep import sweep
from banty.cli.training import (
    check_recipe,
    load_any_recipe,
    open_run,
    recipe_json,
    reopen_run,
    run_training,
    speed_sentence,
    tasksets_of,
    with_whole_options,
)
from banty.envs.registry import BUILT_IN, installed
from banty.envs.scaffold import class_prefix, new_env
from banty.errors import InputError
from banty.evals import EvalPlan, compare_cards, read_card
from banty.records import Limits, Rollout, SamplingParams
from banty.report import headline, write_report
from banty.rollout import Cast, check_roles, stored_rollouts
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
app.command("report")(report)
app.command("plan")(plan)
app.command("sweep")(sweep)

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
User = Annotated[str, typer.Option(help="Endpoint URL[#MODEL] that plays the user, with -o customer=model.")]


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found.group()):04x}", text))  # a terminal may obey these


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
    """Evaluate on held-out tasks, train (reinforcement learning, or fine-tuning on conversations), evaluate again.

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
        _print_json(recipe_json(resolved))
        return
    if not resume:
        run = open_run(resolved, fresh_folder(out, f"train-{Path(recipe).stem}"))
    comparisons = run_training(resolved, run, tasksets, prepared, quiet=as_json)
    if as_json:
        _print_json(run.read_json("result.json") | {"folder": str(run.path)})
    else:
        for name, comparison in comparisons.items():
            show.show_training(console, comparison, name)
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
    user: User = "",
    user_temperature: Annotated[float, typer.Option(help="Sampling temperature of --user.")] = 0.0,
    price: Annotated[str, typer.Option(help="IN,OUT: dollars per million prompt and sampled tokens.")] = "",
    tool_calls: Annotated[
        str, typer.Option(help="How an endpoint gives calls: native, or text as hermes or qwen_xml.")
    ] = "native",
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
    """
    if resume and not out:
        raise InputError("--resume needs --out FOLDER, the evaluation to go on with")
    taskset = taskset_of(env, option or [], allow_code)
    opener = model_opener(dtype, device, threads, max_tokens, Path(out) if resume else None)
    chosen = policy_of(policy, taskset, tool_calls, prices_of(price), opener)
    roles = roles_of(taskset, user)
    cast = Cast(
        chosen.policy, roles, role_params={role: SamplingParams(temperature=user_temperature) for role in roles}
    )
    plan = EvalPlan(
        split=split,
        num_tasks=tasks,
        num_trials=trials,
        seed=seed,
        params=SamplingParams(temperature=temperature, max_tokens=max_tokens),
        limits=Limits(max_turns=max_turns),
        concurrency=concurrency,
        exact=chosen.exact and not user,
    )
    plan.check(taskset)
    check_roles(taskset, cast)
    if dry_run:
        if out and not resume:
            check_free(Path(out))
        _print_json(eval_plan_json(plan, taskset, chosen, cast))
        return
    folder = fresh_folder(out, f"eval-{taskset.env.replace('/', '-')}")
    card = run_eval(
        plan,
        taskset,
        chosen,
        cast,
        folder,
        resume=resume,
        baselines=baselines,
        options=options_of(option or []),
        quiet=as_json,
    )
    if as_json:
        _print_json(card.data)
        return
    show.show_card(Console(), card)
    print(f"card: {folder / 'card.json'}")


@app.command("compare")
def compare(
    a: Annotated[str, typer.Argument(help="Result card, or the folder it lies in.")],
    b: Annotated[str, typer.Argument(help="Result card, or the folder it lies in.")],
    as_json: AsJson = False,
) -> None:
    """Compare two results on the same tasks, in pairs: is B better than A?

    Examples:

        banty compare runs/base runs/trained

        banty compare runs/a/card.json runs/b/card.json --json
    """
    comparison = compare_cards(read_card(a), read_card(b))
    if as_json:
        _print_json(comparison.to_json())
    else:
        show.show_comparison(Console(), comparison)


@app.command("inspect")
def inspect(
    folder: Annotated[str, typer.Argument(help="A run, an evaluation, or a store of rollouts.")],
    rollout: Annotated[str, typer.Option(help="Show this one, turn by turn; part of an id will do.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed or errored.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many.")] = 20,
    replay: Annotated[bool, typer.Option("--replay", help="Run them again offline and compare everything.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show tokens: what was seen, and what is trained.")] = False,
    model: Annotated[str, typer.Option(help="Folder whose tokenizer --tokens uses; the run's own if not given.")] = "",
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """List stored rollouts, read one as a conversation or token by token, or replay them without any model.

    Examples:

        banty inspect runs/eval-airline-mini-001 --failed

        banty inspect runs/train-desk-001 --tokens --rollout step-0003
    """
    console = Console()
    if tokens:
        _inspect_tokens(console, Path(folder), rollout, model, limit, as_json)
        return
    rollouts = stored_rollouts(Path(folder))
    if replay:
        wanted = [rollout_of(rollouts, rollout)] if rollout else rollouts
        report = replay_stored(Path(folder), rollouts, wanted, allow_code)
        _print_json(report) if as_json else print(visible(replay_sentence(report)))
        raise typer.Exit(1 if report["differ"] else 0)
    if rollout:
        found = rollout_of(rollouts, rollout)
        if as_json:
            _print_json(_rollout_json(found))
            return
        show.show_rollout(console, found, lapses_of(found, expert_of_run(Path(folder), allow_code)))
        return
    wanted = [found for found in rollouts if not failed or not found.outcome.success]
    if as_json:
        _print_json([_rollout_json(found) for found in wanted[:limit]])
        return
    show.show_rollouts(console, wanted[:limit])
    print(f"{len(wanted)} of {len(rollouts)} rollouts; read one with --rollout ID")


def _inspect_tokens(console: Console, folder: Path, rollout: str, model: str, limit: int, as_json: bool) -> None:
    from banty.cli import tokens

    tokenizer = tokens.tokenizer_in(model or tokens.model_of_run(folder))
    if tokens.is_tuning(folder):
        samples = tokens.samples_of_tuning(folder, tokenizer)
        samples = [sample for sample in samples if rollout in sample.rollout_id][:limit]
    else:
        rollouts = stored_rollouts(folder)
        wanted = [one for one in rollouts if rollout in one.rollout_id and one.agent_turns][: limit if rollout else 1]
        samples = [sample for one in wanted for sample in tokens.samples_of_rollout(one)]
    if not samples:
        raise InputError(f"{folder} has no rollout with tokens whose id contains {rollout!r}")
    if as_json:
        _print_json([tokens.tokens_json(sample, tokenizer) for sample in samples])
    else:
        tokens.show_tokens(console, samples, tokenizer)


def _rollout_json(rollout: Rollout) -> dict[str, Any]:
    return {
        "rollout_id": rollout.rollout_id,
        "task": rollout.task.pin,
        "policy": rollout.policy,
        "status": rollout.status,
        "cause": rollout.cause,
        "detail": rollout.detail,
        "outcome": rollout.outcome.to_json(),
        "transcript": [message.to_json() for message in rollout.transcript],
    }


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

    make = taskset_for_customer if agent and not user else taskset_of
    taskset = make(env, option or [], allow_code)
    chosen = policy_of(agent, taskset, open_folder=model_opener("float32", "cpu", 1, None, None)) if agent else None
    play_in_terminal(
        taskset,
        split,
        index,
        seed,
        Console(),
        None,
        chosen.policy if chosen else None,
        params=SamplingParams(temperature=temperature),
        roles=roles_of(taskset, user),
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
    taskset = taskset_of(env, option or [], allow_code)
    shown = [
        task_json(found, taskset, reveal)
        for found in openings(taskset, split, count, seed, dict(roles_of(taskset, user)))
    ]
    if as_json:
        _print_json(shown)
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
        _print_json(rows)
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
