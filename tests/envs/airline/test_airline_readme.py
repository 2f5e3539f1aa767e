"""The desk's page says what the code does: tools, intents, options, the sample episode."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest
from tests.envs.airline.players import expert, play

from banty.envs.airline.env import MINI_TOOLS, preset
from banty.envs.airline.expert import HABITS
from banty.envs.airline.tasks import _PLANS, GeneratedTasks
from banty.envs.airline.tools import AirlineTools
from banty.records import Rollout

README = resources.files("banty.envs.airline").joinpath("README.md").read_text()
SPEAKERS = {"system": "policy", "user": "customer", "assistant": "agent", "tool": "desk"}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert found, f"the page has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, header and ruler left out."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line] for line in lines if not set("".join(line)) <= set("-: ")]


def as_text(rollout: Rollout) -> str:
    """The conversation after the system's message, a line an entry."""
    lines = []
    for message in rollout.transcript[1:]:
        said = [message.content] if message.content else []
        said += [f"{call.name} {json.dumps(call.arguments)}" for call in message.calls]
        lines += [f"{SPEAKERS[message.role]:8}  {each}" for each in said]
    return "\n".join(lines)


def test_the_tools_of_each_preset() -> None:
    tables = [row for row in rows(section("Tools")) if len(row) == 4]
    listed = {name: (mini == "yes", effect) for name, effect, mini, _ in tables if mini in ("yes", "no")}
    assert listed == {name: (name in MINI_TOOLS, entry.schema.effect) for name, entry in AirlineTools.tools.items()}


def test_the_requests_of_each_preset() -> None:
    for size, column in (("mini", 2), ("full", 3)):
        listed = {(row[0], row[1]): float(row[column]) for row in rows(section("Requests"))[1:] if row[column] != "-"}
        assert listed == {plan: pytest.approx(100 * share) for share, plan in _PLANS[size]}


def test_the_habits() -> None:
    listed = {row[0]: (row[1], row[2]) for row in rows(section("Expert and baselines")) if row[0] in HABITS}
    assert listed == dict(HABITS)


def test_the_sizes_of_the_splits() -> None:
    listed = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in rows(section("Splits"))[1:]}
    assert listed == {f"airline/{size}": list(GeneratedTasks(size).splits.values()) for size in ("mini", "full")}


def test_the_prompt_of_mini() -> None:
    assert preset("mini").policy in README


def test_the_sample_episode() -> None:
    blocks = re.findall(r"```\n(.*?)```", section("One episode"), re.S)
    taskset = GeneratedTasks("mini")
    (rollout,) = play(taskset, [taskset.task("test", 9)], expert())
    assert blocks[0] == f"{as_text(rollout)}\n"
    verdict = {name: value for name, value in rollout.outcome.components.items() if not name.startswith("tau2_")}
    assert json.loads(blocks[1]) == verdict
