"""`banty plan`: what a recipe will take in memory, time, tokens and money, before it is run."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from banty.cli.plain import plain
from banty.cli.prediction import HERE, Prediction, predict
from banty.cli.training import load_any_recipe, tasksets_of, with_whole_options
from banty.errors import InputError
from banty.train.recipe import RLRecipe


def plan(
    recipe: Annotated[str, typer.Argument(help="A TOML file of an RL recipe with a model.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE, such as train.steps=10.")] = None,
    device: Annotated[str, typer.Option(help="here, which is measured; h200, h100 or a100, from its limits.")] = HERE,
    lengths: Annotated[str, typer.Option(help="A run whose rollouts say how long episodes are.")] = "",
    price: Annotated[float | None, typer.Option(help="US dollars an hour of the machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python file the recipe names.")] = False,
) -> None:
    """Predict memory, time, tokens and cost of a recipe, before it is run.

    On this machine, some seconds of the recipe's own episodes, passes and gradients are measured. Of another only the
    limits are known, and what share of them is reached is assumed.

    Examples:

        banty plan recipes/demo.toml

        banty plan recipes/demo.toml train.tasks_per_step=16 --device h200 --lengths runs/train-demo-001
    """
    resolved = with_whole_options(load_any_recipe(recipe, overrides or []))
    if not isinstance(resolved, RLRecipe):
        raise InputError(f"{recipe} is a recipe of fine-tuning, and only RL recipes are planned")
    if price is not None and not 0 <= price < math.inf:
        raise InputError(f"--price is {price}; it takes dollars an hour, 0 or more")
    found = predict(resolved, tasksets_of(resolved, allow_code), device, lengths, price, allow_code)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(Console(), found)


def _show(console: Console, found: Prediction) -> None:
    plan_, sampled = found.plan, found.plan.sampling
    table = Table(show_header=False, title=f"on {plain(found.machine.name)}", title_justify="left")
    rows = {
        "memory": f"{plan_.memory_bytes / 1024**3:.1f} GiB"
        + (f" of {found.machine.memory_bytes / 1024**3:.0f}" if found.machine.memory_bytes else ""),
        **({"  in host memory": f"{plan_.host_bytes / 1024**3:.1f} GiB"} if plan_.host_bytes else {}),
        "a step": _time(plan_.step_s),
        "  prompts and observations": f"{_time(sampled.prefill_s)}, {sampled.prefill_tokens:,} tokens",
        "  sampling": f"{_time(sampled.decode_s)}, {sampled.sampled_tokens:,} tokens, {sampled.decode_passes:,} passes",
        "  environment and driver": _time(sampled.turns_s),
        "  training": f"{_time(plan_.train_s)}, {plan_.trained_tokens:,} distinct tokens",
        "  logprobs before it": _time(plan_.score_s),
        "  rollouts and checkpoint to disk": _time(plan_.kept_s),
        f"{plan_.num_steps} steps": _time(plan_.num_steps * plan_.step_s),
        "evaluations before and after": _time(plan_.eval_s),
        "all": _time(plan_.run_s) + (f", {plan_.cost_usd:.2f} $" if plan_.price_usd_h else ""),
    }
    for what, value in rows.items():
        table.add_row(what, value)
    console.print(table)
    console.print(plain(found.grounds))


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
