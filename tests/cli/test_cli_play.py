"""A person as the agent, with scripted keystrokes and a recorded screen."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from banty.chat import schema_of
from banty.cli.play import play, read_call
from banty.envs.airline.tasks import GeneratedTasks
from banty.errors import InputError
from banty.records import Rollout, Taskset

TASKS = GeneratedTasks("mini")


def keys(lines: Sequence[str]) -> Callable[[], str]:
    left = iter(lines)

    def read_line() -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return read_line


def played(lines: Sequence[str], index: int = 0, taskset: Taskset = TASKS) -> tuple[Rollout, str]:
    screen = io.StringIO()
    console = Console(file=screen, width=200, force_terminal=False)
    return play(taskset, "train", index, 0, console, keys(lines)), screen.getvalue()


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
    assert "completed: success" in screen
    assert rollout.policy == "person"
    assert "customer:" in screen
    assert "result:" in screen


def test_what_does_not_fit_is_explained_and_not_sent() -> None:
    rollout, screen = played(
        [
            "get_reservation_details",
            "get_reservation_details code=ABC123",
            "update_reservation_baggages reservation_id=A total_baggages=many nonfree_baggages=0 payment_id=c",
            "cancel_reservation {broken",
            "get_reserv",
            ":tool cancel_reservation",
            ":nonsense",
            ":quit",
        ]
    )
    assert rollout.turns == ()
    assert rollout.outcome.success is None
    for words in (
        "reservation_id",
        "total_baggages",
        "not JSON",
        "did you mean get_reservation_details",
        "nothing was scored",
    ):
        assert words in screen
    assert "Traceback" not in screen


def test_the_end_of_input_leaves_cleanly() -> None:
    rollout, screen = played(["What is your user id?"])
    assert "you left" in screen
    assert rollout.outcome.success is None


def test_what_others_say_is_never_markup() -> None:
    _, screen = played(["![bold]hello[/bold] [link=http://x]y[/link]", ":quit"])
    assert "Traceback" not in screen
    _, screen = played(["get_user_details user_id='[red]x[/red]'", ":quit"])
    assert "[red]x[/red]" in screen


def pay(amount: int, note: str, tags: list[str]) -> str:
    """Pay."""
    return note * amount + "".join(tags)


def test_typed_arguments_take_the_schemas_types() -> None:
    tool = schema_of(pay)
    call = read_call("""pay amount=3 note='two words' tags='["a", "b"]'""", tool)
    assert call.arguments == {"amount": 3, "note": "two words", "tags": ["a", "b"]}
    for line, says in (
        ("pay amount=x note=n tags=[]", "amount"),
        ("pay amount=3 note='open", "quot"),
        ("pay amount=3", "note"),
        ("pay [1]", "key=value"),
    ):
        with pytest.raises(InputError, match=says):
            read_call(line, tool)
