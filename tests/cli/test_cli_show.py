"""Results on the terminal: what is missing is said, and what came from outside cannot act."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

from rich.console import Console
from tests.evals.toy_desk import GuessingTasks
from tests.rollouts_by_hand import rollout, task

from banty.cli.evaluate import unscored_words
from banty.cli.plain import visible
from banty.cli.show import detectable, show_card, show_rollout
from banty.evals import EvalPlan, make_card
from banty.records import Message

IDENTITY = EvalPlan(num_trials=2).identity(GuessingTasks(), "someone")


def screen_of(show: object, shown: object) -> str:
    screen = io.StringIO()
    show(Console(file=screen, width=120), shown)  # type: ignore[operator]
    return screen.getvalue()


def test_the_table_says_which_k_errors_took_away() -> None:
    scored = [rollout([], True, of=task(0), trial=0), rollout([], False, of=task(0), trial=1)]
    errored = rollout([], of=task(1), trial=1, cause="simulator")
    card = make_card(IDENTITY, [*scored, rollout([], True, of=task(1), trial=0), errored], {}, 1.0)
    shown = screen_of(show_card, card)
    assert "1 tasks lack scored trials" in shown
    assert "3 scored, 1 excluded (1 simulator)" in shown
    assert "with --out 'two runs' --resume plays them again" in unscored_words(card, Path("two runs"))
    complete = make_card(IDENTITY, scored, {}, 1.0)
    assert "lack scored trials" not in screen_of(show_card, complete)


def test_escape_codes_and_markup_are_shown_and_do_nothing() -> None:
    planted = "\x1b[2J\x1b]52;c;aGk=\x07 [bold red]hello[/] \x9b31m"
    told = dataclasses.replace(rollout([], True), opening=(Message("user", planted),))
    shown = screen_of(show_rollout, told)
    assert "[bold red]hello[/]" in shown
    assert not any(control in shown for control in "\x1b\x07\x9b")
    assert visible("tab\tand\nline stay") == "tab\tand\nline stay"


def test_an_effect_beyond_any_rate_is_said_to_be_none() -> None:
    assert detectable(0.25) == "0.250"
    assert detectable(None) == "-"
    assert detectable(8.167).startswith("none")
