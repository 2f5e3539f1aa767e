from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field
from typing_extensions import TypedDict

from banty.chat import argument_checker, lint_schema, parse, render_calls, schema_of
from banty.errors import InputError, ToolError
from banty.records.messages import JSON, ToolCall

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


@dataclass
class Flight:
    """One leg of a trip."""

    number: str
    date: date
    seats: int = 1


class Passenger(TypedDict, total=False):
    name: str
    born: date


class Seat(BaseModel):
    row: int


@dataclass
class Plan:
    seats: list[Seat] = field(default_factory=list)


class Cabin(Enum):
    ECONOMY = "economy"
    BUSINESS = "business"


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Desk:
    def book(
        self,
        title: str,
        flights: list[Flight],
        host: Any,
        passengers: list[Passenger] | None = None,
        cabin: Literal["economy", "business"] = "economy",
        extras: dict[str, int] = {},  # noqa: B006
        *,
        schema: bool = False,
    ) -> OnlyForCheckers:
        """Book a trip
        for somebody.

        More that a policy need not read.

        Args:
            title (str): What the trip is called,
                on the ticket: exactly.
            flights: In order.
            host: filled in by the environment
        Returns:
            cabin: not a description
        """
        raise NotImplementedError


def test_a_schema_from_a_signature_and_docstring() -> None:
    tool = schema_of(Desk.book, name="book_trip", effect="write")
    assert (tool.name, tool.description, tool.effect) == ("book_trip", "Book a trip for somebody.", "write")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "What the trip is called, on the ticket: exactly."},
            "flights": {"type": "array", "items": {"$ref": "#/$defs/Flight"}, "description": "In order."},
            "passengers": {
                "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Passenger"}}, {"type": "null"}],
                "default": None,
            },
            "cabin": {"type": "string", "enum": ["economy", "business"], "default": "economy"},
            "extras": {"type": "object", "additionalProperties": {"type": "integer"}, "default": {}},
            "schema": {"type": "boolean", "default": False},
        },
        "required": ["title", "flights"],
        "additionalProperties": False,
        "$defs": {
            "Flight": {
                "type": "object",
                "description": "One leg of a trip.",
                "properties": {
                    "number": {"type": "string"},
                    "date": {"type": "string", "format": "date"},
                    "seats": {"type": "integer", "default": 1},
                },
                "required": ["number", "date"],
                "additionalProperties": False,
            },
            "Passenger": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "born": {"type": "string", "format": "date"}},
                "additionalProperties": False,
            },
        },
    }
    assert lint_schema(tool.parameters) == []
    assert schema_of(Desk().book) == schema_of(Desk.book)


def test_no_parameters_and_no_docstring() -> None:
    def done() -> None: ...

    tool = schema_of(done)
    assert (tool.name, tool.description, tool.effect) == ("done", "", "read")
    assert tool.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_descriptions_in_the_other_layouts() -> None:
    def plain(a: int, b: int, c: Annotated[int, Field(description="Third.", ge=1)] = 1) -> None:
        """Add.
        Args:
        a: first
        b: second
        """

    def inline(a: int, b: int) -> None:
        """Add.

        Args: a: first
              b: second
                 and last

        Not about b.
        """

    def texts(function: Callable[..., Any]) -> dict[str, str]:
        properties = schema_of(function).parameters["properties"]
        return {name: each["description"] for name, each in properties.items()}

    assert schema_of(plain).description == "Add."
    assert texts(plain) == {"a": "first", "b": "second", "c": "Third."}
    assert schema_of(plain).parameters["properties"]["c"]["minimum"] == 1
    assert texts(inline) == {"a": "first", "b": "second and last"}


def test_names_that_pydantic_keeps_for_itself() -> None:
    def odd(_private: int, model_config: int, copy: int, json: int = 1) -> None: ...

    assert list(schema_of(odd).parameters["properties"]) == ["_private", "model_config", "copy", "json"]
    assert argument_checker(odd)({"_private": 1, "model_config": 2, "copy": 3}) == {
        "_private": 1,
        "model_config": 2,
        "copy": 3,
    }


def test_a_property_called_title_survives_the_stripping_of_titles() -> None:
    class Book(TypedDict):
        title: str

    def add(title: dict[str, str], book: Annotated[Any, Field(examples=[{"title": "x"}])]) -> None: ...

    properties = schema_of(add).parameters["properties"]
    assert properties["title"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert properties["book"] == {"examples": [{"title": "x"}]}


def test_functions_in_disguise() -> None:
    def find(title: str, limit: int = 5) -> None:
        """Find."""

    @functools.wraps(find)
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    assert schema_of(wrapped) == schema_of(find)
    assert list(schema_of(functools.partial(find, limit=3)).parameters["properties"]) == ["title", "limit"]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda title: None, "Parameter 'title' of tool '<lambda>' has no type; annotate it"),
        (lambda *rest: None, r"takes \*rest; a tool's parameters need names of their own"),
        (lambda **rest: None, r"takes \*\*rest; a tool's parameters need names of their own"),
    ],
)
def test_signatures_that_are_refused(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        schema_of(function)


def test_types_and_docstrings_that_are_refused() -> None:
    def callback(then: Callable[[], int]) -> None: ...

    def opaque(desk: Desk) -> None: ...

    def missing(cost: OnlyForCheckers) -> None: ...

    def misnamed(title: str) -> None:
        """Find.

        Args:
            titel: The title.
        """

    for function, told in (
        (callback, "'callback' has a type without a schema"),
        (opaque, "'opaque' has a type without a schema"),
        (missing, "'missing' has a type that cannot be found: name 'OnlyForCheckers' is not defined"),
        (misnamed, "docstring of tool 'misnamed' describes 'titel', which is not a parameter; parameters: title"),
    ):
        with pytest.raises(InputError, match=told):
            schema_of(function)


def test_a_default_that_json_cannot_say_is_left_out() -> None:
    marker = object()

    def find(title: Any = marker) -> None: ...

    assert schema_of(find).parameters["properties"] == {"title": {}}


def test_checked_arguments_have_the_annotated_types() -> None:
    check = argument_checker(Desk().book)
    given: JSON = {
        "title": "Holiday",
        "flights": [{"number": "HAT1", "date": "2024-05-01"}],
        "passengers": [{"born": "1990-01-02"}],
    }
    assert check(given) == {
        "title": "Holiday",
        "flights": [Flight("HAT1", date(2024, 5, 1))],
        "passengers": [{"born": date(1990, 1, 2)}],
    }
    assert check({"title": "x", "flights": [], "passengers": None, "schema": True})["passengers"] is None


def test_every_problem_is_told_in_one_line() -> None:
    check = argument_checker(Desk().book)
    with pytest.raises(ToolError) as refusal:
        check(
            {
                "title": 7,
                "flights": [{"number": "HAT1", "date": "1.5.2024", "seats": "3"}, {"number": "x", "dat": ""}],
                "cabin": "first",
                "extras": {"bags": 2.0},
                "schema": "true",
                "hots": 1,
            }
        )
    assert str(refusal.value) == (
        "Wrong arguments: title: expected string, got 7; "
        'flights[0].date: expected a date like 2025-01-31, got "1.5.2024"; '
        'flights[0].seats: expected integer, got "3"; '
        "flights[1].dat: unknown key (did you mean 'date'?); "
        "flights[1].date: missing; "
        'cabin: expected one of "economy", "business"; got "first"; '
        "extras.bags: expected integer, got 2.0 (write 2); "
        'schema: expected boolean, got "true"; '
        "hots: unknown key (allowed: title, flights, passengers, cabin, extras, schema)"
    )


@pytest.mark.parametrize("value", ["3", 3.0, True, None, [3], 2**70 + 0.5])
def test_nothing_becomes_an_integer_silently(value: JSON) -> None:
    def wait(days: int) -> None: ...

    with pytest.raises(ToolError, match="days: expected integer"):
        argument_checker(wait)({"days": value})
    assert argument_checker(wait)({"days": 2**70}) == {"days": 2**70}


def test_what_pydantic_would_convert_or_lose_is_refused() -> None:
    def note(day: date | None = None, at: datetime | None = None, ids: set[int] = set(), rate: float = 1.0) -> None: ...  # noqa: B006

    check = argument_checker(note)
    for arguments, told in (
        ({"day": "0"}, "day: expected a date like 2025-01-31, got"),
        ({"day": 0}, "day: expected string or null, got 0"),
        ({"at": "1700000000"}, "at: expected a date and time like 2025-01-31T09:30:00, got"),
        ({"ids": [1, 1]}, "ids: expected items that all differ"),
        ({"rate": 10**400}, "rate: input should be a finite number, got 1000"),
    ):
        with pytest.raises(ToolError, match=f"^Wrong arguments: {told}"):
            check(arguments)
    assert check({"day": None, "at": "2024-05-01T10:00:00", "ids": [2, 1], "rate": 3}) == {
        "day": None,
        "at": datetime(2024, 5, 1, 10),
        "ids": {1, 2},
        "rate": 3.0,
    }


def test_rules_that_only_pydantic_knows() -> None:
    def deal(cards: Annotated[int, AfterValidator(_even)], cabin: Cabin = Cabin.ECONOMY) -> None: ...

    assert argument_checker(deal)({"cards": 2, "cabin": "business"}) == {"cards": 2, "cabin": Cabin.BUSINESS}
    with pytest.raises(
        ToolError, match=r'^Wrong arguments: cabin: expected one of "economy", "business"; got "b"; cards: '
    ):
        argument_checker(deal)({"cards": 3, "cabin": "b"})
    with pytest.raises(ToolError, match=r"^Wrong arguments: cards: value error, must be even, got 3$"):
        argument_checker(deal)({"cards": 3})


def test_models_dataclasses_and_non_json() -> None:
    def sit(plan: Plan, seat: Any = None) -> None: ...

    check = argument_checker(sit)
    assert check({"plan": {}}) == {"plan": Plan()}
    assert check({"plan": {"seats": [{"row": 1}]}}) == {"plan": Plan([Seat(row=1)])}
    with pytest.raises(ToolError, match=r"plan\.seats\[0\]\.row: expected integer, got 1\.0"):
        check({"plan": {"seats": [{"row": 1.0}]}})
    with pytest.raises(ToolError, match="they are not JSON"):
        check({"plan": {}, "seat": float("nan")})
    with pytest.raises(ToolError, match="they are not JSON"):
        check({"plan": {}, "seat": object()})


@pytest.mark.parametrize("format", ["hermes", "qwen_xml"])
def test_from_function_to_wire_to_typed_values(format: Any) -> None:
    tool = schema_of(Desk().book)
    arguments = {
        "title": "007",
        "flights": [{"number": "HAT1", "date": "2024-05-01", "seats": 2}],
        "passengers": None,
        "schema": True,
    }
    wire = render_calls([ToolCall("book", arguments)], format, [tool])
    (call,) = parse(wire, [tool], format).calls
    assert argument_checker(Desk().book)(call.arguments) == {
        "title": "007",
        "flights": [Flight("HAT1", date(2024, 5, 1), 2)],
        "passengers": None,
        "schema": True,
    }
