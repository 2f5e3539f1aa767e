"""Recipes in general: dataclass trees from TOML, dotted overrides, and types that are not bent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from banty.errors import InputError
from banty.runs import from_mapping, load_recipe, to_mapping, with_overrides, with_values


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int
    rates: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    name: str = "outer"
    rate: float = 0.5
    loud: bool = False
    kind: Literal["small", "large"] = "small"
    cap: int | None = None
    layers: tuple[int, ...] = ()


def outer(*overrides: str, **data: Any) -> Outer:
    return from_mapping(Outer, with_overrides({"inner": {"size": 1}, **data}, overrides), "here")


def test_types_come_out_as_they_are_declared() -> None:
    made = outer(
        rate=2, loud=True, kind="large", cap=3, layers=[1, 2], inner={"size": 4, "rates": {"a": 1}, "free": {"x": [1]}}
    )
    assert (made.rate, type(made.rate)) == (2.0, float)
    assert (made.inner.rates, type(made.inner.rates["a"])) == ({"a": 1.0}, float)
    assert (made.loud, made.kind, made.cap, made.layers) == (True, "large", 3, (1, 2))
    assert made.inner == Inner(size=4, rates={"a": 1.0}, free={"x": [1]})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"rate": True}, "here: rate takes a number, got True"),
        ({"rate": "fast"}, "here: rate takes a number, got 'fast'"),
        ({"loud": 1}, "here: loud takes true or false, got 1"),
        ({"loud": "yes"}, "here: loud takes true or false, got 'yes'"),
        ({"cap": 1.0}, "here: cap takes a whole number, got 1.0"),
        ({"cap": False}, "here: cap takes a whole number, got False"),
        ({"name": 3}, "here: name takes text, got 3"),
        ({"kind": "huge"}, "here: kind is 'huge'; allowed are small, large"),
        ({"layers": 3}, "here: layers takes a list, got 3"),
        ({"layers": "12"}, "here: layers takes a list, got '12'"),
        ({"layers": [1, True]}, "here: layers takes a whole number, got True"),
        ({"inner": []}, "here: inner takes a table, got []"),
        ({"inner": {}}, "here: inner: missing size"),
        ({"inner": {"size": 1, "rates": {"a": True}}}, "here: inner: rates.a takes a number, got True"),
        (
            {"inner": {"size": 1, "sise": 2}},
            "here: inner: unknown key 'sise'; did you mean 'size'? Known are size, rates, free",
        ),
        ({"zzz": 1}, "here: unknown key 'zzz'. Known are inner, name, rate, loud, kind, cap, layers"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        outer(**data)
    assert str(caught.value) == said


@pytest.mark.parametrize("override", ["inner.free.day=2026-01-01", "inner.free.deep={at = [08:30:00]}"])
def test_a_date_where_anything_goes_is_refused_because_it_cannot_be_written_down(override: str) -> None:
    with pytest.raises(InputError, match=r"here: inner: free\.\w+ is the date or time .*; put it in quotes"):
        outer(override)


def test_a_missing_table_is_named() -> None:
    with pytest.raises(InputError, match="here: missing inner"):
        from_mapping(Outer, {}, "here")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cap=10", {"cap": 10}),
        ("cap = 10", {"cap": 10}),
        ("rate=1e-3", {"rate": 0.001}),
        ("loud=true", {"loud": True}),
        ("name=airline/mini", {"name": "airline/mini"}),
        ('name="true"', {"name": "true"}),
        ("name=a=b", {"name": "a=b"}),
        ("name=", {"name": ""}),
        ("layers=[1, 2]", {"layers": [1, 2]}),
        ("inner.size=3", {"inner": {"size": 3}}),
        ("inner.rates.a=0.5", {"inner": {"rates": {"a": 0.5}}}),
        ("inner.free.deep.er=1", {"inner": {"free": {"deep": {"er": 1}}}}),
        ("inner={size = 3}", {"inner": {"size": 3}}),
    ],
)
def test_an_override_is_read_as_toml_and_as_text_where_it_is_none(override: str, expected: dict[str, Any]) -> None:
    assert with_overrides({}, [override]) == expected


def test_the_last_override_wins_and_the_rest_of_a_table_stays() -> None:
    data = {"inner": {"size": 1, "rates": {"a": 0.1, "b": 0.2}}}
    assert with_overrides(data, ["inner.rates.a=0.3", "inner.rates.a=0.4"]) == {
        "inner": {"size": 1, "rates": {"a": 0.4, "b": 0.2}}
    }


def test_overrides_leave_what_they_were_given_alone() -> None:
    data = {"inner": {"size": 1, "rates": {"a": 0.1}}, "name": "x"}
    before = copy.deepcopy(data)
    with_overrides(data, ["inner.rates.a=9", "inner.size=9", "name=y", "new.table=1"])
    assert data == before


@pytest.mark.parametrize("override", ["cap", "=3", "", "cap:3", "--cap"])
def test_an_override_that_is_none_is_refused(override: str) -> None:
    with pytest.raises(InputError, match=r"is not KEY=VALUE, such as train\.steps=10"):
        with_overrides({}, [override])


def test_an_override_through_a_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"'name\.x=1': name is a value, not a table"):
        outer("name.x=1", name="a")


@pytest.mark.parametrize("override", ["inner.sizes=3", "inner..size=3", ".inner=3", "inner.=3", "cpa=3"])
def test_an_override_of_an_unknown_key_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="unknown key"):
        outer(override)


@pytest.mark.parametrize("override", ["cap=true", "rate=fast", "inner=3", "loud=1", "inner.rates=3"])
def test_an_override_of_another_type_is_refused(override: str) -> None:
    with pytest.raises(InputError, match=f"here: {override.split('=')[0].replace('.', ': ')} takes"):
        outer(override)


@pytest.mark.parametrize(
    "values",
    [{"inner.rates.a": 9, "cap": 3}, {"inner": {"rates.a": 9}, "cap": 3}, {"inner": {"rates": {"a": 9}}, "cap": 3}],
)
def test_values_go_where_their_keys_say_and_tables_are_merged(values: dict[str, Any]) -> None:
    data = {"inner": {"size": 1, "rates": {"a": 1, "b": 2}}, "cap": 1}
    before = copy.deepcopy(data)
    assert with_values(data, values) == {"inner": {"size": 1, "rates": {"a": 9, "b": 2}}, "cap": 3}
    assert data == before
    assert with_values({}, {"new.table": {"x": 1}}) == {"new": {"table": {"x": 1}}}


@pytest.mark.parametrize("values", [{"name.x": 1}, {"name": {"x": 1}}])
def test_a_value_within_a_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="name is"):
        with_values({"name": "a"}, values)


def test_a_file_and_its_overrides(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("rate = 1\n[inner]\nsize = 2\n[inner.rates]\nx = 3\n")
    assert load_recipe(Outer, file, ["inner.rates.y=4", "kind=large"]) == Outer(
        inner=Inner(size=2, rates={"x": 3.0, "y": 4.0}), rate=1.0, kind="large"
    )
    with pytest.raises(InputError, match=rf"{file.name}: inner: unknown key 'siz'"):
        load_recipe(Outer, str(file), ["inner.siz=4"])


def test_a_recipe_survives_being_written_down() -> None:
    made = outer("cap=3", "layers=[1,2]", "inner.rates.a=1", "inner.free.b=[1]")
    assert from_mapping(Outer, to_mapping(made), "again") == made
    assert to_mapping(outer())["cap"] is None
    assert from_mapping(Outer, to_mapping(outer()), "again") == outer()
