"""`banty inspect`: what a folder stores, listed, read as conversations or under the microscope, or replayed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from banty.cli import show, tokens
from banty.cli.inspection import expert_of_run, replay_sentence, replay_stored, rollout_of
from banty.cli.microscope import Asked, look_at, show_look
from banty.cli.plain import print_json, visible
from banty.errors import InputError
from banty.microscope import look_json
from banty.records import Rollout
from banty.report import write_look
from banty.rollout import stored_rollouts

Listed = list[str] | None


def inspect(
    folder: Annotated[str, typer.Argument(help="A run, an evaluation, or a store of rollouts.")],
    rollout: Annotated[str, typer.Option(help="Show this one, turn by turn; part of an id will do.")] = "",
    credit: Annotated[
        Listed, typer.Option(help="An estimator to credit it with, such as hybrid,gamma=0.8; twice to compare.")
    ] = None,
    rewards: Annotated[str, typer.Option(help="Reward turns as this reward file does: a name, or a path.")] = "",
    with_tokens: Annotated[bool, typer.Option("--tokens", help="Show tokens: mask, text, logprobs.")] = False,
    trainer: Annotated[
        bool, typer.Option("--trainer", help="Add the learner's logprobs, on the run's weights.")
    ] = False,
    html: Annotated[str, typer.Option(help="Write it as a page to this file.")] = "",
    model: Annotated[str, typer.Option(help="Folder whose tokenizer --tokens uses; the run's own if not given.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="List only those that failed or errored.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many.")] = 20,
    replay: Annotated[bool, typer.Option("--replay", help="Run them again offline and compare everything.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the Python file that the run names.")] = False,
) -> None:
    """List stored rollouts, read one with what each of its turns earned, or replay them without any model.

    Examples:

        banty inspect runs/eval-airline-mini-001 --failed

        banty inspect runs/train-desk-001 --rollout step-0003 --tokens

        banty inspect runs/train-desk-001 --rollout ID --credit hybrid --credit mt_grpo --html turn.html
    """
    console, place = Console(), Path(folder)
    close = {"--credit": credit, "--rewards": rewards, "--trainer": trainer, "--html": html}
    closely = [name for name, given in close.items() if given]
    if closely and (not rollout or replay):
        raise InputError(f"{closely[0]} looks at one rollout; name it with --rollout ID, and leave --replay out")
    tuning = tokens.is_tuning(place)
    rollouts = stored_rollouts(place) if closely or not with_tokens or (rollout and not tuning) else []
    if with_tokens and not closely and not _names_one(rollouts, rollout):
        _inspect_samples(console, place, rollout, model, limit, as_json)
        return
    if replay:
        wanted = [rollout_of(rollouts, rollout)] if rollout else rollouts
        report = replay_stored(place, rollouts, wanted, allow_code)
        print_json(report) if as_json else print(visible(replay_sentence(report)))
        raise typer.Exit(1 if report["differ"] else 0)
    if not rollout:
        _list(console, rollouts, failed, limit, as_json)
        return
    found = look_at(
        place,
        rollout_of(rollouts, rollout),
        rollouts,
        Asked(
            credit=credit or (),
            rewards=rewards,
            trainer=trainer,
            tokens=with_tokens or bool(html),
            model=model,
            allow_code=allow_code,
        ),
    )
    written = write_look(found, Path(html)) if html else None
    if as_json:
        print_json({**_rollout_json(found.rollout), **look_json(found, tokens=with_tokens)})
        return
    if written is None:
        show_look(console, found, expert_of_run(place, allow_code), tokens=with_tokens)
    else:
        print(visible(f"page: {written}"))


def _names_one(rollouts: Sequence[Rollout], rollout: str) -> bool:
    """Whether `rollout` is, or is part of, the id of one of them."""
    ids = [one.rollout_id for one in rollouts]
    return rollout in ids or sum(rollout in one for one in ids) == 1


def _list(console: Console, rollouts: Sequence[Rollout], failed: bool, limit: int, as_json: bool) -> None:
    wanted = [found for found in rollouts if not failed or not found.outcome.success]
    if as_json:
        print_json([_rollout_json(found) for found in wanted[:limit]])
        return
    show.show_rollouts(console, wanted[:limit])
    print(f"{len(wanted)} of {len(rollouts)} rollouts; read one with --rollout ID")


def _inspect_samples(console: Console, folder: Path, rollout: str, model: str, limit: int, as_json: bool) -> None:
    """The text of several rollouts, or of what is imitated, with what is trained marked in it."""
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
        print_json([tokens.tokens_json(sample, tokenizer) for sample in samples])
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
