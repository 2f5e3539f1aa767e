"""The airline's tools in another's words: what the agent sees is the file's, what runs is ours."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.test_airline_tau2tasks import TASK, save

from banty.chat.parser import parse
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.toolfile import read_tools
from banty.envs.airline.tools import AirlineTools
from banty.errors import InputError
from banty.evals import EvalPlan, run_baselines

OURS = [entry.schema.to_openai() for entry in AirlineTools.tools.values()]


def reworded() -> list[dict[str, Any]]:
    """Our tools as pydantic would write them: titles, and items by reference or free."""
    theirs = copy.deepcopy(OURS)
    for each in theirs:
        function = each["function"]
        function["description"] = f"Theirs: {function['name']}."
        function["parameters"] |= {"title": "parameters"}
    update = next(each["function"] for each in theirs if each["function"]["name"] == "update_reservation_flights")
    update["parameters"]["$defs"] = {
        "FlightInfo": {
            "type": "object",
            "properties": {"flight_number": {"type": "string"}, "date": {"type": "string"}},
            "required": ["flight_number", "date"],
        }
    }
    items = {"anyOf": [{"$ref": "#/$defs/FlightInfo"}, {"type": "object", "additionalProperties": True}]}
    update["parameters"]["properties"]["flights"] = {"type": "array", "items": items, "description": "Theirs."}
    return theirs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path, DB, "db.json")
    save(tmp_path, [TASK])
    return tmp_path


def test_the_agent_sees_the_file_s_tools_and_ours_run(folder: Path) -> None:
    file = save(folder, reworded()[::-1], "tools.json")
    taskset = PublishedTasks(data=folder, tools=file, customer="silent")
    plan = EvalPlan(split="base", num_tasks=1)
    plain = PublishedTasks(data=folder, customer="silent")
    assert taskset.provenance["tools_sha256"] != plain.provenance["tools_sha256"]
    assert {**taskset.provenance, "tools_sha256": ""} == {**plain.provenance, "tools_sha256": ""}
    env: Any = taskset.episode(taskset.task("base", 0))
    assert [tool.to_openai() for tool in env.offered()] == reworded()[::-1]
    assert all(env.accepts(name) for name in AirlineTools.tools)
    assert {tool.name: tool.effect for tool in env.offered()} == {
        name: entry.schema.effect for name, entry in AirlineTools.tools.items()
    }
    played = asyncio.run(run_baselines(plan, taskset, only=("golden-replay",)))
    assert played["golden-replay"][0].outcome.success


def test_calls_in_text_are_read_by_the_file_s_types(folder: Path) -> None:
    tools = read_tools(save(folder, reworded(), "tools.json"))
    flights = [{"flight_number": "HAT001", "date": "2024-05-20"}]
    given = {"reservation_id": "007", "cabin": "economy", "flights": json.dumps(flights), "payment_id": "gift_card_1"}
    written = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in given.items())
    said = f"<tool_call>\n<function=update_reservation_flights>\n{written}</function>\n</tool_call>"
    (call,) = parse(said, tools, "qwen_xml", check="names").calls
    assert call.arguments == {**given, "flights": flights}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tools: {"tools": tools}, "is no list of tools"),
        (lambda tools: tools[:-1], "missing "),
        (lambda tools: [*tools, tools[0]], f"twice {OURS[0]['function']['name']}"),
        (lambda tools: [*tools, {"name": "think"}], "is none of the airline's tools"),
        (lambda tools: [5], "tool 1 is none of the airline's tools"),
        (lambda tools: [{"function": {**tools[0]["function"], "parameters": {}}}], "has no parameters with properties"),
        (
            lambda tools: [{"function": {**tools[0]["function"], "parameters": {"properties": {"x": {}}}}}],
            "and x there",
        ),
    ],
)
def test_a_file_of_other_tools_is_refused(folder: Path, spoil: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_tools(save(folder, spoil(reworded()), "tools.json"))
    assert said in str(refused.value)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_tools(folder / "none.json")
