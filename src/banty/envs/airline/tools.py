"""The desk's fourteen tools, with the names, arguments, effects and texts of tau2-bench's airline domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from banty.envs.airline import reads, writes
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.shapes import Cabin, FlightItem, FlightType, Insurance, PassengerItem, PaymentItem
from banty.envs.state import State
from banty.envs.toolenv import ToolEnv, tool
from banty.errors import ToolError
from banty.records import JSON, CallResult, ToolCall


class AirlineTools(ToolEnv):
    """The airline's tools over one episode's state; `execute` runs them without an event loop.

    Arguments arrive as raw JSON: what the reference coerces is coerced, what it stores as given is stored as given,
    and whatever it answers with an error is a ToolError here (specs/tau.md, section 3). A call that fails may have
    changed something all the same. An environment adds `start`, `reply` and `outcome`.
    """

    validates: ClassVar[Literal["schema", "names"]] = "names"
    state: State

    def __init__(self, world: AirlineWorld, state: State | None = None) -> None:
        self.world = world
        self.state = State(world) if state is None else state

    def unknown_tool(self, name: str) -> str:
        return f"Tool '{name}' not found."

    def execute(self, name: str, arguments: Mapping[str, JSON]) -> tuple[bool, str]:
        """Whether the call succeeded, and the text the agent reads: `call` without event loop and without record."""
        output, error = self._run(name, arguments)
        return not error, output

    def record(self, call: ToolCall) -> CallResult:
        """Run one call and record it as `call` does, without an event loop."""
        before = self.state.hash()
        output, error = self._run(call.name, call.arguments)
        effect = "none" if error == "unknown_tool" else self.tools[call.name].schema.effect
        return CallResult(call.name, call.arguments, output, effect, error, before, self.state.hash())

    def _run(self, name: str, arguments: Mapping[str, JSON]) -> tuple[str, str]:
        if not self.accepts(name):
            return f"Error: {self.unknown_tool(name)}", "unknown_tool"
        entry = self.tools[name]
        try:
            checked = entry.check(arguments)
        except ToolError as refused:
            return f"Error: {refused}", "arguments"
        try:
            return self.view(name, entry.function(self, **checked)), ""
        except ToolError as refused:
            return f"Error: {refused}", "tool"

    @tool("write", inline=True)
    def book_reservation(
        self,
        user_id: str,
        origin: str,
        destination: str,
        flight_type: FlightType,
        cabin: Cabin,
        flights: list[FlightItem],
        passengers: list[PassengerItem],
        payment_methods: list[PaymentItem],
        total_baggages: int,
        nonfree_baggages: int,
        insurance: Insurance,
    ) -> str:
        """Book a trip for a user and charge it. The payments must add up to the price exactly.

        Args:
            user_id: the booking user, such as sara_doe_496
            origin: airport code the trip starts from, such as SFO
            destination: airport code the trip goes to, such as JFK
            flights: every leg of the trip, in order
            passengers: everyone who travels
            payment_methods: how much each payment method pays, in whole dollars
            total_baggages: checked bags in all
            nonfree_baggages: checked bags to be paid for, 50 dollars each
            insurance: travel insurance, 30 dollars a passenger
        """
        return writes.book_reservation(
            self.state,
            user_id,
            origin,
            destination,
            flight_type,
            cabin,
            flights,
            passengers,
            payment_methods,
            total_baggages,
            nonfree_baggages,
            insurance,
        )

    @tool("read", inline=True)
    def calculate(self, expression: str) -> str:
        """Work out an arithmetic expression, rounded to two decimal places.

        Args:
            expression: digits, + - * / . ( ) and spaces, such as 2 * (150 + 30)
        """
        return reads.calculate(expression)

    @tool("write", inline=True)
    def cancel_reservation(self, reservation_id: str) -> str:
        """Cancel a whole reservation and refund its payments.

        Args:
            reservation_id: six characters, such as ZFA04Y
        """
        return writes.cancel_reservation(self.state, reservation_id)

    @tool("read", inline=True)
    def get_reservation_details(self, reservation_id: str) -> str:
        """Look up a reservation: flights, passengers, payments, bags, insurance and status.

        Args:
            reservation_id: six characters, such as ZFA04Y
        """
        return reads.get_reservation_details(self.state, reservation_id)

    @tool("read", inline=True)
    def get_user_details(self, user_id: str) -> str:
        """Look up a user: contact data, payment methods, saved passengers, membership and reservation ids.

        Args:
            user_id: such as sara_doe_496
        """
        return reads.get_user_details(self.state, user_id)

    @tool("read", inline=True)
    def list_all_airports(self) -> str:
        """List the airports flown to, with code and city."""
        return reads.list_all_airports()

    @tool("read", inline=True)
    def search_direct_flight(self, origin: str, destination: str, date: str) -> str:
        """Find flights for sale without a change, with times, and seats and prices in each cabin.

        Args:
            origin: airport code, such as JFK
            destination: airport code, such as LAX
            date: departure, YYYY-MM-DD
        """
        return reads.search_direct_flight(self.state, origin, destination, date)

    @tool("read", inline=True)
    def search_onestop_flight(self, origin: str, destination: str, date: str) -> str:
        """Find pairs of flights for sale with one change, with times, and seats and prices in each cabin.

        Args:
            origin: airport code, such as JFK
            destination: airport code, such as LAX
            date: departure of the first flight, YYYY-MM-DD
        """
        return reads.search_onestop_flight(self.state, origin, destination, date)

    @tool("write", inline=True)
    def send_certificate(self, user_id: str, amount: int) -> str:
        """Give a user a travel certificate as compensation. It cannot be taken back.

        Args:
            user_id: such as sara_doe_496
            amount: worth of the certificate in dollars
        """
        return writes.send_certificate(self.state, user_id, amount)

    @tool("read", inline=True)
    def transfer_to_human_agents(self, summary: str) -> str:
        """Hand the user over to a human agent, only when the request is outside what the tools and the policy allow.

        Args:
            summary: what the user wants and what was done so far
        """
        return "Transfer successful"

    @tool("write", inline=True)
    def update_reservation_baggages(
        self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
    ) -> str:
        """Set the checked bags of a reservation, charging 50 dollars for each paid bag more than before.

        Args:
            reservation_id: six characters, such as ZFA04Y
            total_baggages: checked bags in all, after the change
            nonfree_baggages: paid bags in all, after the change
            payment_id: gift or credit card in the user's profile, such as credit_card_7815826
        """
        return writes.update_reservation_baggages(
            self.state, reservation_id, total_baggages, nonfree_baggages, payment_id
        )

    @tool("write", inline=True)
    def update_reservation_flights(
        self, reservation_id: str, cabin: Cabin, flights: list[FlightItem], payment_id: str
    ) -> str:
        """Replace the flights and the cabin of a reservation, charging or refunding the difference in price.

        Args:
            reservation_id: six characters, such as ZFA04Y
            cabin: cabin of all flights, after the change
            flights: every leg after the change, the unchanged ones too
            payment_id: gift or credit card in the user's profile, such as gift_card_7815826
        """
        return writes.update_reservation_flights(self.state, reservation_id, cabin, flights, payment_id)

    @tool("write", inline=True)
    def update_reservation_passengers(self, reservation_id: str, passengers: list[PassengerItem]) -> str:
        """Replace the passengers of a reservation; their number cannot change.

        Args:
            reservation_id: six characters, such as ZFA04Y
            passengers: everyone who travels, after the change
        """
        return writes.update_reservation_passengers(self.state, reservation_id, passengers)

    @tool("read", inline=True)
    def get_flight_status(self, flight_number: str, date: str) -> str:
        """Tell whether a flight on a date is available, on time, delayed, flying, landed or cancelled.

        Args:
            flight_number: such as HAT001
            date: departure, YYYY-MM-DD
        """
        return reads.get_flight_status(self.state, flight_number, date)


def run_calls(world: AirlineWorld, calls: Sequence[ToolCall], state: State | None = None) -> list[CallResult]:
    """The records of calls run one after the other, on a fresh state unless one is given (which they change)."""
    desk = AirlineTools(world, state)
    return [desk.record(call) for call in calls]
