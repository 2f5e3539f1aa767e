"""Generated tasks: same bytes everywhere, disjoint splits, every kind of request, right endings by the policy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.envs.airline.players import digest, drawn, expert, play, requests_of

from banty.envs.airline import rules
from banty.envs.airline.data import AirlineWorld, cell_key
from banty.envs.airline.phrases import PHRASES, SPLITS, templates
from banty.envs.airline.scenario import Request, Scenario
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.airline.tools import run_calls
from banty.envs.airline.trips import Leg, Profile, Trip
from banty.envs.airline.worlds import make_world
from banty.errors import InputError
from banty.records import ToolCall, canonical_json, take

ROOT = Path(__file__).parents[3]

MINI = {
    ("cancel", "do"),
    ("cancel", "refuse"),
    ("change_date", "do"),
    ("change_date", "refuse"),
    ("add_bags", "do"),
    ("remove_bags", "refuse"),
    ("total_paid", "do"),
    ("out_of_scope", "transfer"),
}
FULL = MINI | {
    ("cancel", "transfer"),
    ("change_cabin", "do"),
    ("change_cabin", "refuse"),
    ("rename_passenger", "do"),
    ("add_passenger", "refuse"),
    ("add_insurance", "refuse"),
    ("book", "do"),
    ("compensation", "do"),
    ("compensation", "refuse"),
}

# The same bytes.


def test_the_same_place_and_seed_give_the_same_conversation(taskset: GeneratedTasks) -> None:
    for split in SPLITS:
        assert digest(taskset, split) == digest(taskset, split)


def test_another_seed_index_or_split_gives_another_scenario(taskset: GeneratedTasks) -> None:
    places = [(split, index, seed) for split in SPLITS for index in range(5) for seed in range(3)]
    told = {canonical_json(taskset.task(*place).data.scenario.to_json()) for place in places}
    assert len(told) == len(places)


def test_a_task_does_not_depend_on_the_tasks_made_before_it(tau2_folder: Path) -> None:
    for options in ({"size": "mini"}, {"size": "full"}, {"size": "full", "data": tau2_folder}):
        used, fresh = GeneratedTasks(**options), GeneratedTasks(**options)
        take(used, "test", 20)
        assert used.task("test", 7).data.scenario == fresh.task("test", 7).data.scenario


def test_another_process_with_another_hash_seed_says_the_same(tau2_folder: Path) -> None:
    script = """
import sys
from banty.envs.airline.tasks import GeneratedTasks
from tests.envs.airline.players import digest
for options in ({"size": "mini"}, {"size": "full"}, {"size": "full", "data": sys.argv[1]}):
    print(*(digest(GeneratedTasks(**options), split) for split in ("train", "dev", "test")))
"""
    ours = [
        " ".join(digest(GeneratedTasks(**options), split) for split in SPLITS)
        for options in ({"size": "mini"}, {"size": "full"}, {"size": "full", "data": tau2_folder})
    ]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        told = subprocess.run(
            [sys.executable, "-c", script, str(tau2_folder)],
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.splitlines() == ours


def test_the_generated_world_is_the_same_and_another_seed_is_another() -> None:
    assert canonical_json(make_world(7)) == canonical_json(make_world(7))
    assert canonical_json(make_world(7)) != canonical_json(make_world(8))


# Splits.


def test_customers_and_reservations_belong_to_one_split(taskset: GeneratedTasks) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        for task in drawn(taskset, split):
            world, scenario = task.data.world, task.data.scenario
            own = [scenario.user_id, *world.tables["users"][scenario.user_id]["reservations"]]
            shown = [scenario.user_id, *own, *(request.reservation_id for request in scenario.requests)]
            for name in filter(None, shown):
                assert seen.setdefault(name, split) == split, f"{name} is in {seen[name]} and {split}"
    assert Counter(seen.values()).keys() == set(SPLITS)


def test_no_template_is_in_two_splits_not_even_of_two_acts() -> None:
    splits_of: dict[str, set[str]] = {}
    for act in PHRASES:
        for split in SPLITS:
            assert templates(act, split), f"{act} has nothing to say in {split}"
            for template in templates(act, split):
                splits_of.setdefault(template.casefold(), set()).add(split)
        assert sum(len(templates(act, split)) for split in SPLITS) == len(set(PHRASES[act]))
    assert [text for text, splits in splits_of.items() if len(splits) > 1] == []


@pytest.mark.parametrize("split", SPLITS)
def test_customers_speak_in_the_templates_of_their_split_and_no_others(taskset: GeneratedTasks, split: str) -> None:
    value = r"[\w-]+(?: (?:to )?\w+)?"
    own = "|".join(
        re.escape(template).replace(re.escape("{value}"), value)
        for act in PHRASES
        for template in templates(act, split)
    )
    for rollout in play(taskset, drawn(taskset, split)[:60], expert({"pressure", "confirm"})):
        for message in rollout.transcript:
            if message.role == "user" and message.content != "###TRANSFER###":
                assert re.fullmatch(f"(?:{own})(?: (?:{own}))*", message.content), message.content


def test_held_out_customers_can_be_made_to_speak_as_in_training() -> None:
    own, trained = GeneratedTasks("mini"), GeneratedTasks("mini", phrasing="train")
    assert own.task("test", 3).data.scenario.phrasing == "test"
    assert trained.task("test", 3).data.scenario.phrasing == "train"
    assert own.task("test", 3).data.scenario.requests == trained.task("test", 3).data.scenario.requests


# Kinds.


@pytest.mark.parametrize("split", SPLITS)
def test_every_plan_and_every_kind_of_conversation_occurs(taskset: GeneratedTasks, split: str) -> None:
    tasks = drawn(taskset, split)
    found = requests_of(tasks)
    wanted = MINI if taskset.env == "airline/mini" else FULL
    plans = {(request.intent, request.right) for _, _, request in found}
    # tau2-bench's database has no such customer in the dev split.
    real_dev = split == "dev" and found[0][0].tag.startswith("airline-")
    assert plans == (wanted - {("compensation", "refuse")} if real_dev else wanted)
    kinds: Mapping[str, Callable[[Request], object]] = {
        "information late or only when asked": lambda request: set(request.says) - request.volunteered,
        "everything at once": lambda request: set(request.says) == request.volunteered,
        "no reservation code": lambda request: request.hint,
        "a code the desk does not know": lambda request: request.slip,
        "insists on what is refused": lambda request: request.right == "refuse" and request.insists,
        "would insist on what is allowed": lambda request: request.right == "do" and request.insists,
        "accepts at once": lambda request: request.right == "refuse" and not request.insists,
    }
    for kind, holds in kinds.items():
        assert any(holds(request) for _, _, request in found), f"nobody: {kind}"
    assert {len(task.data.scenario.requests) for task in tasks} == {1, 2}


def test_every_topic_out_of_scope_occurs(mini_tasks: GeneratedTasks) -> None:
    details = {request.detail for _, _, request in requests_of(drawn(mini_tasks, "test"))}
    assert details == {"", "pet", "lost", "miles", "meal"}


def test_how_often_a_customer_insists_says_nothing_of_what_is_right(mini_tasks: GeneratedTasks) -> None:
    by_right: dict[str, list[bool]] = {}
    for _, _, request in requests_of([task for split in SPLITS for task in drawn(mini_tasks, split)]):
        by_right.setdefault(request.right, []).append(request.insists > 0)
    shares = {right: sum(values) / len(values) for right, values in by_right.items()}
    assert max(shares.values()) - min(shares.values()) < 0.15, shares


def test_a_transfer_comes_last_and_two_requests_are_about_two_reservations(taskset: GeneratedTasks) -> None:
    for task in drawn(taskset, "train"):
        requests = task.data.scenario.requests
        assert all(request.right != "transfer" for request in requests[:-1])
        about = [request.reservation_id for request in requests if request.reservation_id]
        assert len(set(about)) == len(about)


# Right endings, by an oracle of its own: the records, and the policy of specs/tau.md section 4.

NOW = datetime(2024, 5, 15, 15)
CABINS = ("basic_economy", "economy", "business")
FREE = {"regular": (0, 1, 2), "silver": (1, 2, 3), "gold": (2, 3, 4)}


class Case(NamedTuple):
    world: AirlineWorld
    scenario: Scenario
    request: Request

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.tables["reservations"][self.request.reservation_id]
        return found

    @property
    def user(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.tables["users"][self.scenario.user_id]
        return found

    @property
    def statuses(self) -> list[str]:
        cells = self.world.tables["cells"]
        return [cells[cell_key(leg["flight_number"], leg["date"])]["status"] for leg in self.record["flights"]]

    @property
    def flown(self) -> bool:
        return any(status in ("landed", "flying") for status in self.statuses)

    @property
    def arguments(self) -> Mapping[str, Any]:
        (call,) = self.request.writes
        return call.arguments

    def cheapest(self, origin: str, destination: str, date: str, cabin: str, seats: int) -> tuple[str, int]:
        offers = []
        for number, flight in self.world.tables["flights"].items():
            cell = self.world.tables["cells"].get(cell_key(number, date), {})
            if (flight["origin"], flight["destination"]) != (origin, destination):
                continue
            if cell.get("status") == "available" and cell["available_seats"][cabin] >= seats:
                offers.append((cell["prices"][cabin], number))
        offers.sort()
        assert len(offers) == 1 or offers[0][0] < offers[1][0], "which flight is cheapest must be plain"
        return offers[0][1], offers[0][0]


def _cancel(case: Case) -> str:
    record, reason = case.record, case.request.says["reason"]
    if case.flown:
        return "transfer"
    recent = NOW - datetime.fromisoformat(record["created_at"]) <= timedelta(hours=24)
    covered = record["insurance"] == "yes" and reason in ("health", "weather")
    allowed = recent or "cancelled" in case.statuses or record["cabin"] == "business" or covered
    if allowed and case.request.right == "do":
        assert [call.name for call in case.request.writes] == ["cancel_reservation"]
        assert case.arguments == {"reservation_id": record["reservation_id"]}
    return "do" if allowed else "refuse"


def _change_date(case: Case) -> str:
    record, date = case.record, case.request.says["date"]
    assert not case.flown
    assert date > "2024-05-15"
    if record["cabin"] == "basic_economy":
        return "refuse"
    place = (record["origin"], record["destination"], date, record["cabin"])
    number, _ = case.cheapest(*place, len(record["passengers"]))
    assert case.arguments["flights"] == [{"flight_number": number, "date": date}]
    assert case.arguments["cabin"] == record["cabin"]
    assert record["flight_type"] == "one_way"
    return "do"


def _change_cabin(case: Case) -> str:
    if case.flown:
        return "refuse"
    assert case.arguments["cabin"] == case.request.says["cabin"].replace(" ", "_") != case.record["cabin"]
    kept = [{"flight_number": leg["flight_number"], "date": leg["date"]} for leg in case.record["flights"]]
    assert case.arguments["flights"] == kept
    return "do"


def _add_bags(case: Case) -> str:
    record, total = case.record, int(case.request.says["bags"])
    assert total > record["total_baggages"]
    free = FREE[case.user["membership"]][CABINS.index(record["cabin"])] * len(record["passengers"])
    assert case.arguments["total_baggages"] == total
    assert case.arguments["nonfree_baggages"] == max(0, total - free)
    return "do"


def _remove_bags(case: Case) -> str:
    assert case.record["total_baggages"] > 0
    return "refuse"


def _total_paid(case: Case) -> str:
    assert case.request.tells == (str(sum(entry["amount"] for entry in case.record["payment_history"])),)
    return "do"


def _rename_passenger(case: Case) -> str:
    (old,) = case.record["passengers"]
    (new,) = case.arguments["passengers"]
    assert f"{new['first_name']} {new['last_name']}" == case.request.says["passenger"]
    assert (new["last_name"], new["dob"]) == (old["last_name"], old["dob"])
    assert new["first_name"] != old["first_name"]
    return "do"


def _add_insurance(case: Case) -> str:
    assert case.record["insurance"] == "no"
    return "refuse"


def _book(case: Case) -> str:
    origin, destination = case.request.says["route"].split(" to ")
    cabin, date = case.request.says["cabin"].replace(" ", "_"), case.request.says["date"]
    number, price = case.cheapest(origin, destination, date, cabin, 1)
    user = case.user
    assert case.arguments == {
        "user_id": user["user_id"],
        "origin": origin,
        "destination": destination,
        "flight_type": "one_way",
        "cabin": cabin,
        "flights": [{"flight_number": number, "date": date}],
        "passengers": [{**user["name"], "dob": user["dob"]}],
        "payment_methods": [{"payment_id": case.request.says["payment"], "amount": price}],
        "total_baggages": 0,
        "nonfree_baggages": 0,
        "insurance": "no",
    }
    return "do"


def _compensation(case: Case) -> str:
    record = case.record
    assert "cancelled" in case.statuses
    if case.user["membership"] == "regular" and record["insurance"] == "no" and record["cabin"] != "business":
        return "refuse"
    assert case.arguments == {"user_id": case.user["user_id"], "amount": 100 * len(record["passengers"])}
    return "do"


ORACLE: Mapping[str, Callable[[Case], str]] = {
    "cancel": _cancel,
    "change_date": _change_date,
    "change_cabin": _change_cabin,
    "add_bags": _add_bags,
    "remove_bags": _remove_bags,
    "total_paid": _total_paid,
    "rename_passenger": _rename_passenger,
    "add_passenger": lambda case: "refuse",
    "add_insurance": _add_insurance,
    "book": _book,
    "compensation": _compensation,
    "out_of_scope": lambda case: "transfer",
}


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_right_is_what_the_policy_says(taskset: GeneratedTasks, split: str) -> None:
    for case in map(Case._make, requests_of(drawn(taskset, split))):
        request = case.request
        if request.reservation_id:
            assert "2024-05-15" not in [leg["date"] for leg in case.record["flights"]], (
                "today's flights hinge on status"
            )
            assert case.record.get("status") != "cancelled"
            assert case.record["user_id"] == case.scenario.user_id
            assert request.looks_up == (request.reservation_id,)
        assert ORACLE[request.intent](case) == request.right, request
        assert bool(request.writes or request.tells) == (request.right == "do")


def test_right_writes_succeed_on_a_fresh_database(taskset: GeneratedTasks) -> None:
    for split in SPLITS:
        for task in drawn(taskset, split):
            records = run_calls(task.data.world, task.data.scenario.writes)
            assert [record.error for record in records] == [""] * len(records), records


def test_payments_are_of_the_customer_and_no_certificate(taskset: GeneratedTasks) -> None:
    for case in map(Case._make, requests_of(drawn(taskset, "train"))):
        for call in case.request.writes:
            paid = [call.arguments.get("payment_id"), *_ids(call.arguments.get("payment_methods", []))]
            for payment in filter(None, paid):
                assert case.user["payment_methods"][payment]["source"] != "certificate"
                said = case.request.says.get("payment", payment)
                assert said == payment, "what the customer says is what pays"


def _ids(payments: Iterable[Mapping[str, str]]) -> list[str]:
    return [payment["payment_id"] for payment in payments]


def test_a_hint_names_one_trip_and_a_slip_none(taskset: GeneratedTasks) -> None:
    hints = slips = 0
    for case in map(Case._make, requests_of(drawn(taskset, "train"))):
        if case.request.hint:
            hints += 1
            places = [case.world.tables["reservations"][key]["destination"] for key in case.user["reservations"]]
            assert places.count(case.request.hint) == 1
            assert "reservation_id" not in case.request.says
        if case.request.slip:
            slips += 1
            assert case.request.slip not in case.world.tables["reservations"]
            assert case.request.says["reservation_id"] == case.request.reservation_id
    assert hints > 20
    assert slips > 20


# The policy as code.


def trip(cabin: str = "economy", date: str = "2024-05-20", **more: Any) -> Trip:
    fields: dict[str, Any] = {
        "id": "ABC123",
        "legs": (Leg("HAT001", date, 100, "JFK", "SFO"),),
        "origin": "JFK",
        "destination": "SFO",
        "num_passengers": 2,
        "bags": 0,
        "insured": False,
        "booked_on": "2024-05-01T10:00:00",
        "paid": 200,
        "payment_id": "card_1",
    }
    return Trip(cabin=cabin, **{**fields, **more})


@pytest.mark.parametrize(
    ("given", "reason", "verdict"),
    [
        (trip("economy"), "health", "refuse"),
        (trip("basic_economy"), "change_of_plan", "refuse"),
        (trip("economy", insured=True), "health", "do"),
        (trip("basic_economy", insured=True), "weather", "do"),
        (trip("economy", insured=True), "change_of_plan", "refuse"),
        (trip("business"), "change_of_plan", "do"),
        (trip("basic_economy", booked_on="2024-05-15T09:00:00"), "change_of_plan", "do"),
        (trip("basic_economy", booked_on="2024-05-14T15:00:00"), "change_of_plan", "do"),
        (trip("basic_economy", booked_on="2024-05-14T14:59:59"), "change_of_plan", "refuse"),
        (trip("economy", booked_on="2024-05-15"), "change_of_plan", "do"),
        (trip("economy", booked_on="2024-05-14"), "change_of_plan", "refuse"),
        (trip("business", date="2024-05-14"), "change_of_plan", "transfer"),
        (trip("economy", date="2024-05-01", insured=True), "health", "transfer"),
        (trip("business", date="2024-05-10", booked_on="2024-05-15T09:00:00"), "weather", "transfer"),
    ],
)
def test_cancelling(given: Trip, reason: str, verdict: str) -> None:
    assert rules.may_cancel(given, reason).verdict == verdict


@pytest.mark.parametrize("membership", list(FREE))
@pytest.mark.parametrize("cabin", CABINS)
@pytest.mark.parametrize("num_passengers", [1, 2, 3])
def test_free_bags(membership: str, cabin: str, num_passengers: int) -> None:
    free = FREE[membership][CABINS.index(cabin)] * num_passengers
    given = trip(cabin, num_passengers=num_passengers)
    assert [rules.paid_bags(given, membership, total) for total in (0, free, free + 1, free + 5)] == [0, 0, 1, 5]


@pytest.mark.parametrize("membership", list(FREE))
@pytest.mark.parametrize("cabin", CABINS)
@pytest.mark.parametrize("insured", [False, True])
def test_compensation(membership: str, cabin: str, insured: bool) -> None:
    profile = Profile("ann_lee_1", membership, ("ABC123",), ("card_1",))
    given = trip(cabin, insured=insured, num_passengers=3)
    due = membership != "regular" or insured or cabin == "business"
    ruling, amount = rules.compensation(given, profile, cancelled_leg=True)
    assert (ruling.verdict, amount) == (("do", 300) if due else ("refuse", 0))
    assert rules.compensation(given, profile, cancelled_leg=False) == (
        rules.Ruling("refuse", "no flight of it was cancelled by the airline"),
        0,
    )


@pytest.mark.parametrize("cabin", CABINS)
@pytest.mark.parametrize("date", ["2024-05-10", "2024-05-20"])
def test_changes(cabin: str, date: str) -> None:
    given = trip(cabin, date)
    assert (rules.may_change_flights(given).verdict == "do") == (cabin != "basic_economy")
    assert (rules.may_change_cabin(given).verdict == "do") == (date == "2024-05-20")


def test_a_refusal_gives_its_reason() -> None:
    for ruling in (
        rules.may_cancel(trip("economy"), "health"),
        rules.may_cancel(trip("economy", insured=True), "change_of_plan"),
        rules.may_cancel(trip("economy", "2024-05-01"), "health"),
        rules.may_change_flights(trip("basic_economy")),
        rules.may_change_cabin(trip("economy", "2024-05-01")),
    ):
        assert ruling.verdict != "do"
        assert ruling.reason


# Wrong options.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": "mini", "grade": "strict"}, "grade=strict is not one of tau2, semantic"),
        ({"size": "mini", "customer": "human"}, "customer=human is not one of scripted, model, silent"),
        ({"size": "full", "phrasing": "test"}, "phrasing=test is not one of own, train"),
        ({"size": "mini", "data": "."}, "airline/mini makes a small world for each task and takes no data"),
        ({"size": "full", "data": "/nowhere"}, "no airline db.json in /nowhere"),
    ],
)
def test_wrong_options_are_answered(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        GeneratedTasks(**options)


def test_a_task_that_does_not_exist_is_refused(mini_tasks: GeneratedTasks) -> None:
    with pytest.raises(InputError, match="no split 'valid'; it has train, dev, test"):
        mini_tasks.task("valid", 0)
    with pytest.raises(InputError, match="has tasks 0 to 999; 1000 was asked for"):
        mini_tasks.task("dev", 1000)


def test_a_cancelled_reservation_stops_taking_cancellations(small_world: AirlineWorld) -> None:
    """Every cancellation doubles the payments: an agent that never stops must not take all memory."""
    cancel = ToolCall("cancel_reservation", {"reservation_id": "RES001"})
    records = run_calls(small_world, [cancel] * 40)
    assert [record.error for record in records] == [""] * 10 + ["tool"] * 30
    assert len(records[-1].output) < 1000
    assert records[-1].state_after == records[-1].state_before
