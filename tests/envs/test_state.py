"""State is a dictionary of dictionaries that copies what is written, with a hash that looks at what changed."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from banty.envs import state as state_module
from banty.envs.state import State, World, record_digest

TABLES = ("books", "members")
KEYS = ("a", "b", "c", "d", "e")
BASE: dict[str, dict[str, Any]] = {
    "books": {"a": {"title": "Emma", "tags": ["x"]}, "b": {"title": "Walden", "price": 25}, "c": {}},
    "members": {"a": {"name": "Ödön", "loans": {"books": []}}, "e": 0},
}
RECORD = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 25, 25.0, "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pqr"), inner, max_size=2),
    max_leaves=4,
)


def exact(value: Any) -> str:
    """Equal for equal JSON: 1, 1.0 and true are three values."""
    return json.dumps(value, sort_keys=True)


Model = dict[str, dict[str, Any]]


class StateMachine(RuleBasedStateMachine):
    """Several states over one world, forked from each other, beside deep-copied dictionaries."""

    states = Bundle("states")

    @initialize()
    def build(self) -> None:
        self.world = World(copy.deepcopy(BASE), "library")
        self.before = pickle.dumps(self.world.tables)
        self.pairs: list[tuple[State, Model]] = []
        self.hashes: dict[str, str] = {}

    def both(self, index: int) -> tuple[State, Model]:
        return self.pairs[index]

    @rule(target=states)
    def start(self) -> int:
        self.pairs.append((State(self.world), copy.deepcopy(BASE)))
        return len(self.pairs) - 1

    @rule(target=states, index=states)
    def fork(self, index: int) -> int:
        state, model = self.both(index)
        self.pairs.append((state.fork(), copy.deepcopy(model)))
        return len(self.pairs) - 1

    @rule(index=states, table=st.sampled_from(TABLES), key=st.sampled_from(KEYS), record=RECORD)
    def put(self, index: int, table: str, key: str, record: Any) -> None:
        state, model = self.both(index)
        state.put(table, key, copy.deepcopy(record))
        model[table][key] = copy.deepcopy(record)

    @rule(index=states, table=st.sampled_from(TABLES), key=st.sampled_from(KEYS), value=RECORD)
    def edit(self, index: int, table: str, key: str, value: Any) -> None:
        state, model = self.both(index)
        if key not in model[table]:
            with pytest.raises(KeyError):
                state.edit(table, key)
            return
        for record in (state.edit(table, key), model[table][key]):
            if isinstance(record, dict):
                record["p"] = copy.deepcopy(value)
            elif isinstance(record, list):
                record.append(copy.deepcopy(value))

    @rule(index=states, table=st.sampled_from(TABLES), key=st.sampled_from(KEYS), value=RECORD)
    def replace(self, index: int, table: str, key: str, value: Any) -> None:
        state, model = self.both(index)
        if key not in model[table]:
            with pytest.raises(KeyError):
                state.replace(table, key, p=value)
        elif isinstance(model[table][key], dict):
            model[table][key]["p"] = copy.deepcopy(value)
            assert exact(state.replace(table, key, p=copy.deepcopy(value))) == exact(model[table][key])

    @rule(index=states, key=st.sampled_from(KEYS))
    def edit_deeply(self, index: int, key: str) -> None:
        state, model = self.both(index)
        if isinstance(model["books"].get(key), dict) and "tags" in model["books"][key]:
            state.edit("books", key)["tags"].append("y")
            model["books"][key]["tags"].append("y")

    @rule(index=states, table=st.sampled_from(TABLES), key=st.sampled_from(KEYS))
    def delete(self, index: int, table: str, key: str) -> None:
        state, model = self.both(index)
        if key not in model[table]:
            with pytest.raises(KeyError):
                state.delete(table, key)
            return
        state.delete(table, key)
        del model[table][key]

    @rule(index=states)
    def undo_everything(self, index: int) -> None:
        """Back to the world's records, whatever was done."""
        state, model = self.both(index)
        for table in TABLES:
            for key in KEYS:
                if key in BASE[table]:
                    state.put(table, key, copy.deepcopy(BASE[table][key]))
                elif key in model[table]:
                    state.delete(table, key)
        self.pairs[index] = (state, copy.deepcopy(BASE))
        assert state.hash() == State(self.world).hash()

    @rule(index=states)
    def hash(self, index: int) -> None:
        """Equal hashes if and only if equal records, over everything seen so far."""
        state, model = self.both(index)
        seen = self.hashes.setdefault(exact(model), state.hash())
        assert state.hash() == seen
        assert len(set(self.hashes.values())) == len(self.hashes)

    @invariant()
    def the_same_records(self) -> None:
        for state, model in self.pairs:
            for table in TABLES:
                assert sorted(state.keys(table)) == sorted(model[table])
                for key in KEYS:
                    assert exact(state.get(table, key)) == exact(model[table].get(key))
                    assert ((table, key) in state) == (key in model[table])

    @invariant()
    def the_same_world(self) -> None:
        if hasattr(self, "world"):
            assert pickle.dumps(self.world.tables) == self.before


TestState = StateMachine.TestCase
TestState.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The places whose records are digested from here on."""
    places: list[tuple[str, str]] = []

    def counting(table: str, key: str, record: Any) -> int:
        places.append((table, key))
        return record_digest(table, key, record)

    monkeypatch.setattr(state_module, "record_digest", counting)
    return places


def big_world() -> World:
    return World({"rows": {str(place): {"value": place} for place in range(5000)}}, "big")


def test_a_fresh_states_hash_looks_at_nothing(counted: list[tuple[str, str]]) -> None:
    State(big_world()).hash()
    assert counted == []


def test_hashing_looks_at_what_was_named_and_only_once(counted: list[tuple[str, str]]) -> None:
    world = big_world()
    state = State(world)
    state.edit("rows", "7")["value"] = -1
    state.edit("rows", "7")["value"] = -2
    state.put("rows", "new", {})
    state.delete("rows", "8")
    state.hash()
    # The edited record and its original, the new one, and the original of the deleted one.
    assert sorted(counted) == [("rows", "7"), ("rows", "7"), ("rows", "8"), ("rows", "new")]
    counted.clear()
    state.hash()
    state.fork().hash()
    assert counted == []
    state.edit("rows", "7")["value"] = -3
    state.hash()
    assert counted == [("rows", "7")], "the original's digest is known"
    counted.clear()
    other = State(world)
    other.edit("rows", "7")
    assert other.hash() == State(world).hash()
    assert counted == [("rows", "7")], "and known to every episode over the same world"


def test_reading_is_free(counted: list[tuple[str, str]]) -> None:
    state = State(big_world())
    before = state.hash()
    for key in state.keys("rows"):
        assert state.get("rows", key) is not None
    assert state.hash() == before
    assert counted == []
    assert state.touched() == []


def test_the_hash_does_not_depend_on_the_order_of_changes() -> None:
    world = big_world()
    one, other = State(world), State(world)
    for state, keys in ((one, ("1", "2", "3")), (other, ("3", "1", "2"))):
        for key in keys:
            state.edit("rows", key)["value"] += 1
            state.put("rows", f"new {key}", [key])
            if state is one:
                state.hash()
    assert one.hash() == other.hash()


def test_where_a_record_stands_is_part_of_the_hash() -> None:
    world = World({"a": {}, "b": {}}, "two")
    hashes = set()
    for table, key in (("a", "x"), ("b", "x"), ("a", "y")):
        state = State(world)
        state.put(table, key, {"v": 1})
        hashes.add(state.hash())
    swapped = State(world)
    swapped.put("a", "x", {"v": 1})
    swapped.put("b", "x", {"v": 1})
    assert len({*hashes, State(world).hash(), swapped.hash()}) == 5


def test_worlds_are_told_apart_by_their_tag() -> None:
    assert State(World({}, "one")).hash() != State(World({}, "two")).hash()


@pytest.mark.parametrize(("one", "other"), [(25, 25.0), (1, True), ("1", 1), ([], {}), (None, "null")])
def test_values_that_json_tells_apart(one: Any, other: Any) -> None:
    world = World({"a": {}}, "w")
    states = State(world), State(world)
    for state, value in zip(states, (one, other), strict=True):
        state.put("a", "x", {"v": value})
    assert states[0].hash() != states[1].hash()


def test_the_order_of_a_records_keys_does_not_matter() -> None:
    assert record_digest("a", "x", {"p": 1, "q": 2}) == record_digest("a", "x", {"q": 2, "p": 1})


def test_a_hash_stays_what_it_is() -> None:
    """Stored rollouts are compared by it; a change of the digest makes every one of them unreplayable."""
    state = State(World({"books": {"b1": {"title": "Ödön"}}}, "library"))
    assert state.hash() == "library:" + 32 * "0"
    state.edit("books", "b1")["lent"] = True
    assert state.hash() == "library:b68c5561529f043bb93d2a5f872c60e4"


def test_a_table_may_be_changed_while_it_is_walked() -> None:
    state = State(World({"rows": {"a": 1, "b": 2}, "log": {}}, "w"))
    state.put("rows", "c", 3)
    state.put("rows", "d", 4)
    for key in state.keys("rows"):
        state.put("log", key, "seen")
        state.edit("rows", key)
        state.delete("rows", key)
    assert list(state.keys("rows")) == []
    assert list(state.keys("log")) == ["a", "b", "c", "d"]


def test_keys_come_in_the_worlds_order_and_new_ones_last() -> None:
    state = State(World({"rows": {"b": 1, "a": 2, "c": 3}}, "w"))
    state.put("rows", "0", 4)
    state.edit("rows", "c")
    state.delete("rows", "b")
    assert list(state.keys("rows")) == ["a", "c", "0"]
    state.put("rows", "b", 5)
    assert list(state.keys("rows")) == ["b", "a", "c", "0"]


def test_a_fork_is_independent_both_ways() -> None:
    world = World({"rows": {"a": {"list": [1]}}}, "w")
    state = State(world)
    state.edit("rows", "a")["list"].append(2)
    fork = state.fork()
    assert fork.hash() == state.hash()
    state.edit("rows", "a")["list"].append(3)
    fork.edit("rows", "a")["list"].append(4)
    assert state.get("rows", "a") == {"list": [1, 2, 3]}
    assert fork.get("rows", "a") == {"list": [1, 2, 4]}
    assert world.tables["rows"]["a"] == {"list": [1]}
    assert len({state.hash(), fork.hash(), State(world).hash()}) == 3


def test_what_is_not_there() -> None:
    state = State(World({"rows": {"a": 1}}, "w"))
    assert state.get("rows", "b") is None
    with pytest.raises(KeyError):
        state.edit("rows", "b")
    state.delete("rows", "a")
    with pytest.raises(KeyError):
        state.edit("rows", "a")
    with pytest.raises(KeyError):
        state.delete("rows", "a")
    with pytest.raises(KeyError):
        state.get("no table", "a")
    assert state.touched() == [("rows", "a")]


def test_a_replaced_record_shares_its_other_fields_until_it_is_edited() -> None:
    world = World({"rows": {"a": {"list": [1], "key": 0}}}, "shared")
    state = State(world)
    replaced = state.replace("rows", "a", key=1)
    assert replaced == {"list": [1], "key": 1}
    assert replaced["list"] is world.tables["rows"]["a"]["list"]
    state.edit("rows", "a")["list"].append(2)
    assert state.get("rows", "a") == {"list": [1, 2], "key": 1}
    assert world.tables["rows"]["a"] == {"list": [1], "key": 0}
    with pytest.raises(KeyError):
        state.replace("rows", "b", key=1)
