"""The airline's baselines: do nothing, always transfer, and replay the right ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from banty.envs.airline.belief import GO_AHEAD
from banty.envs.airline.scenario import Scenario
from banty.envs.airline.tau2tasks import Tau2Task
from banty.envs.baselines import LinePolicy, always, do_nothing
from banty.records import Policy, Task, ToolCall

_HAND_OVER = ToolCall("transfer_to_human_agents", {"summary": "The customer asks for help."})
_HOLD_ON = "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."


def airline_baselines(golden: Callable[[Task], Policy]) -> Mapping[str, Callable[[Task], Policy]]:
    return {
        "do-nothing": do_nothing(),
        "always-transfer": always("always-transfer", _HAND_OVER, _HOLD_ON),
        "golden-replay": golden,
    }


def golden_of_scenario(scenario: Scenario) -> Policy:
    """Reads what must be read, asks for a yes, makes the right calls, says what must be said, and then transfers."""
    lines: list[str | ToolCall] = [*_look_ups(scenario)]
    if scenario.writes:
        lines += [GO_AHEAD, *scenario.writes]
    settled = f"It is all settled. {' '.join(scenario.tells)}".strip()
    if scenario.transfers:
        lines += [*([settled] if scenario.tells else []), _HAND_OVER]
    return LinePolicy("golden-replay", [*lines, settled])


def golden_calls(scenario: Scenario) -> tuple[ToolCall, ...]:
    """The calls of the right ending: what must be read, what must be written, and the transfer where one is due."""
    return (*_look_ups(scenario), *scenario.writes, *([_HAND_OVER] if scenario.transfers else []))


def _look_ups(scenario: Scenario) -> list[ToolCall]:
    return [ToolCall("get_reservation_details", {"reservation_id": key}) for key in sorted(scenario.looks_up)]


def golden_of_task(task: Tau2Task) -> Policy:
    """The published golden actions, then what must be said."""
    return LinePolicy("golden-replay", [*task.actions, f"It is all settled. {' '.join(task.communicate)}".strip()])
