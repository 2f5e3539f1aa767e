"""A person in an episode, with scripted keystrokes and a recorded screen."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rich.console import Console

from banty.chat import schema_of
from banty.cli.play import Screen, play
from banty.cli.typed import read_answer
from banty.envs.airline.tasks import GeneratedTasks
from banty.errors import InputError
from banty.records import CallFault, Message, Rollout, Taskset, ToolCall
from banty.testing import FunctionPolicy, ScriptedPolicy

TASKS = GeneratedTasks("mini")


def keys(lines: Sequence[str]) -> Callable[[], str]:
    left = iter(lines)

    def read_line() -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return read_line


def recorder() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=200, force_terminal=False), screen


def played(lines: Sequence[str], index: int = 0, taskset: Taskset = TASKS, **options: Any) -> tuple[Rollout, str]:
    console, screen = recorder()
    rollout = play(taskset, "train", index, 0, console, keys(lines), **options)
    assert "Traceback" not in screen.getvalue()
    return rollout, screen.getvalue()


def cancellation() -> tuple[int, str]:
    """A task that is one allowed cancellation of a reservation whose code the customer knows."""
    for index in range(200):
        requests = TASKS.task("train", index).data.scenario.requests
        only = requests[0]
        if len(requests) == 1 and only.intent == "cancel" and only.right == "do" and "reservation_id" in only.says:
            return index, only.reservation_id
    raise AssertionError("the generator makes allowed cancellations")


def test_a_person_can_serve_a_customer_to_success() -> None:
    index, code = cancellation()
    rollout, screen = played(
        [
            "What is your reservation code?",
            f"get_reservation_details reservation_id={code}",
            f"I will cancel {code}. Shall I go ahead (yes/no)?",
            f'cancel_reservation {{"reservation_id": "{code}"}}',
            "It is cancelled. Anything else?",
        ],
        index,
    )
    assert rollout.outcome.success, screen
    assert rollout.policy == "person"
    assert [turn.message.calls for turn in rollout.turns if turn.message.calls] == [
        (ToolCall("get_reservation_details", {"reservation_id": code}),),
        (ToolCall("cancel_reservation", {"reservation_id": code}),),
    ]
    assert "policy: You are an airline agent." in screen
    assert f'you: cancel_reservation {{"reservation_id": "{code}"}}' in screen
    assert f"result: {code}" in screen
    assert screen.count("user: ") == 4, "each message of the customer once, the last one included"
    assert "###STOP###" in screen
    assert "completed: success" in screen
    assert "database             1.00" in screen


def test_what_does_not_fit_is_explained_and_not_sent() -> None:
    rollout, screen = played(
        [
            "",
            "get_reservation_details",
            "get_reservation_details code=ABC123",
            "update_reservation_baggages reservation_id=A total_baggages=many nonfree_baggages=0 payment_id=c",
            'cancel_reservation {"reservation_id": 3}',
            "cancel_reservation {broken",
            "get_reservation reservation_id=ABC123",
            "get_reserv",
            "!",
            ":quit",
        ]
    )
    assert rollout.turns == ()
    for words in (
        "missing parameter 'reservation_id'",
        "unknown parameter 'code'",
        'total_baggages: expected integer, got "many"',
        "reservation_id: expected string, got 3",
        "not JSON",
        "Tool 'get_reservation' not found. Available tools: get_user_details,",
        "Did you mean 'get_reservation_details'?",
        "Tool 'get_reserv' not found.",
        "nothing after the exclamation mark",
    ):
        assert words in screen
    assert screen.count("Not sent.") == 8


def test_commands_show_the_tools_and_the_policy() -> None:
    _, screen = played(
        [":tools", ":tool cancel_reservation", ":tool cancel_reservations", ":policy", ":help", ":nonsense", ":quit"]
    )
    assert "cancel_reservation(reservation_id): cancel all of it" in screen
    assert '"required": [\n' in screen
    assert "There is no tool 'cancel_reservations'; did you mean 'cancel_reservation'" in screen
    assert screen.count("You are an airline agent.") == 2
    assert screen.count("two words") == 3
    assert "There is no command :nonsense." in screen


def interrupted() -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("leave", [":quit", None, interrupted], ids=["quit", "eof", "interrupt"])
def test_leaving_is_said_and_not_scored(leave: str | Callable[[], str] | None) -> None:
    if callable(leave):
        console, screen = recorder()
        rollout = play(TASKS, "train", 0, 0, console, leave)
        shown, num_turns = screen.getvalue(), 0
    else:
        rollout, shown = played(["What is your user id?", *([leave] if leave else [])])
        num_turns = 1
    assert "errored (infrastructure): not scored, you left" in shown
    assert (rollout.status, rollout.detail, rollout.outcome.success) == ("errored", "you left", None)
    assert len(rollout.turns) == num_turns


def test_ctrl_c_ends_a_prompt_that_nobody_answers() -> None:
    console, screen = recorder()

    def read_line() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(30)
        return "too late"

    rollout = play(TASKS, "train", 0, 0, console, read_line)
    assert (rollout.status, rollout.detail) == ("errored", "you left")
    assert "not scored, you left" in screen.getvalue()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_a_shell_leaves_without_a_crash() -> None:
    """Also where standard input is a pipe, which the reading thread is left behind in."""
    command = [sys.executable, "-c", "from banty.cli import main; main()", "play", "airline/mini"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as shell:
        assert shell.stdout is not None
        shown = ""
        while "user: " not in shown:
            line = shell.stdout.readline()
            assert line, shown
            shown += line
        time.sleep(0.2)
        shell.send_signal(signal.SIGINT)
        rest = shell.stdout.read()
    assert "not scored, you left" in rest
    assert "Fatal" not in rest
    assert shell.returncode >= 0


def test_what_others_say_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    console, screen = recorder()
    Screen(console).show(
        Message("user", "[bold]hi[/bold] [link=http://x]y[/link] [/nonsense]\x1b[2J\x07\u202eyap\r\n!")
    )
    shown = screen.getvalue()
    assert "user: [bold]hi[/bold] [link=http://x]y[/link] [/nonsense]" in shown
    assert r"\x1b[2J\x07\u202eyap\r" in shown
    assert not set("\x1b\x07\u202e\r") & set(shown)
    _, shown = played(["get_user_details user_id='[red]x[/red]'", ":quit"])
    assert '"[red]x[/red]"' in shown


def test_results_that_are_json_are_laid_out() -> None:
    console, screen = recorder()
    Screen(console).show(Message("tool", '{"seats": [1], "name": "Zoë"}'))
    Screen(console).show(Message("tool", "{not json"))
    assert 'result: {\n  "seats": [\n    1\n  ],\n  "name": "Zoë"\n}\n' in screen.getvalue()
    assert "result: {not json" in screen.getvalue()


def pay(amount: int, note: str, tags: list[str] | None = None, legs: list[dict[str, int]] | None = None) -> str:
    """Pay."""
    return f"{note} {tags} {legs}" * amount


PAY = schema_of(pay)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("""pay amount=3 note='two words' tags=["a b"]""", {"amount": 3, "note": "two words", "tags": ["a b"]}),
        (r'pay amount=3 note="say \"hi\""', {"amount": 3, "note": 'say "hi"'}),
        ("pay  note=007   amount=-1", {"note": "007", "amount": -1}),
        ("pay note= amount=1", {"note": "", "amount": 1}),
        ("pay note=a=b amount=1 tags=null", {"note": "a=b", "amount": 1, "tags": None}),
        ("""pay note=it's amount=1 legs=[{"a": 1}]""", {"note": "it's", "amount": 1, "legs": [{"a": 1}]}),
        ('pay {"amount": 1, "note": "n"}', {"amount": 1, "note": "n"}),
        ('pay{"amount": 1, "note": "n"} ', {"amount": 1, "note": "n"}),
    ],
)  # fmt: skip
def test_typed_arguments_take_the_types_the_tool_asks_for(line: str, arguments: dict[str, Any]) -> None:
    assert read_answer(line, [PAY]) == Message("assistant", calls=(ToolCall("pay", arguments),))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pay amount=x note=n", "amount: expected integer"),
        ("pay amount=3 note='open", "begins with ' and does not end properly with '"),
        ('pay amount=3 note="open', "does not end properly with"),
        ('pay amount=3 note="a"b', "does not end properly with"),
        ("pay amount=3 note=n tags=[1", "does not end properly with ]"),
        ("pay amount=3", "missing parameter 'note'"),
        ("pay amount=3 amount=4 note=n", "amount is given twice"),
        ('pay {"note": "a", "note": "b"}', "note is given twice"),
        ("pay the bill", "'the' is not key=value. Put ! in front to say it instead."),
        ("pay [1]", "'[1]' is not key=value"),
        ("pay(amount=3)", "without brackets"),
        ('pay {"amount": 1} now', "Extra text"),
        ('pay {"amount": 1.5, "note": "n"}', "amount: expected integer, got 1.5"),
        ("repay amount=3", "Tool 'repay' not found. Available tools: pay. Did you mean 'pay'?"),
        ("pay_all", "Tool 'pay_all' not found."),
        ("pay_all(amount=3)", "Tool 'pay_all' not found."),
    ],
)
def test_what_begins_like_a_call_and_is_none_is_explained(line: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_answer(line, [PAY])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["Hello.", "!pay amount=3", "That makes 3 = 1 + 2.", "Shall I (yes/no)?", "payment is due", "pay, please", "Yes"],
)
def test_anything_else_is_said(line: str) -> None:
    assert read_answer(line, [PAY]) == Message("assistant", line.removeprefix("!"))
    assert read_answer("price total=3", []).content == "price total=3", "nobody without tools means a call"


def test_a_person_can_be_the_customer_of_a_policy() -> None:
    agent = ScriptedPolicy(["What do you want?", "That is not possible. ###STOP###"])
    rollout, screen = played(["I want a cat.", "A cat!"], taskset=GeneratedTasks("mini", customer="model"), agent=agent)
    assert (rollout.status, rollout.policy) == ("completed", "scripted")
    assert [turn.message.content for turn in rollout.turns if turn.actor == "user"] == ["I want a cat.", "A cat!"]
    assert "your part: You are a customer" in screen
    assert "agent: What do you want?" in screen
    assert "agent: That is not possible." in screen
    assert "completed: failure, semantic: " in screen


def test_a_person_can_look_on() -> None:
    fault = CallFault("malformed", "not JSON", 0, 0, "<tool_call>{")
    agent = ScriptedPolicy([Message("assistant", faults=(fault,)), "###STOP###"])
    rollout, screen = played([], agent=agent)
    assert rollout.status == "completed"
    assert "agent: (broken call: not JSON) <tool_call>{" in screen
    assert screen.count("agent: ") == 2
    assert screen.count("policy: ") == 1


def test_a_role_that_nobody_plays_is_refused() -> None:
    with pytest.raises(InputError, match="role user"):
        played([], taskset=GeneratedTasks("mini", customer="model"))
    customer = FunctionPolicy(lambda request: "###STOP###" if len(request.messages) > 2 else "Hi.")
    rollout, _ = played(["Hello."], taskset=GeneratedTasks("mini", customer="model"), roles={"user": customer})
    assert rollout.status == "completed"
