"""A scripted expert for the airline desk, with places where its discipline can lapse.

Reads the conversation and nothing else. At each of the points in `HABITS` it asks `choose` which way to go: with the
first option always chosen it is the expert, and every other option is a planted bad habit. The lapses are those seen
in small models: they are what an agent that talks well still gets wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from banty.chat import parse, render_calls
from banty.envs.airline import rules
from banty.envs.airline.belief import CLOSING, GO_AHEAD, SORRY, Belief, read
from banty.envs.airline.data import TODAY
from banty.envs.airline.rules import Ruling
from banty.envs.airline.trips import Offer
from banty.records import JSON, Expert, Message, SampleRequest, ToolCall

HABITS: Mapping[str, tuple[str, str]] = {
    "lookup": ("looks up", "skips the look-up"),
    "unknown_id": ("asks for the id", "invents an id"),
    "confirm": ("asks for a yes", "writes without a yes"),
    "policy": ("follows the policy", "ignores the policy"),
    "pressure": ("holds", "caves in"),
    "format": ("well-formed call", "malformed call"),
    "error": ("recovers", "gives up after an error"),
    "ending": ("stops", "never stops"),
    "answer": ("tells the answer", "keeps the answer to itself"),
}
"""Each decision point's options: discipline first, then the lapse, in the words reports use."""

Choose = Callable[[str], bool]
"""Asked with a decision point; True keeps to discipline, False lapses."""

_INVENTED_USER, _INVENTED_RESERVATION, _INVENTED_FLIGHT = "john_doe_1234", "A1B2C3", "HAT000"
_MOST_FAILURES = 3
_GIVES_UP = f"{SORRY} I cannot help you with that."

_QUESTIONS = {
    "user_id": "What is your user id?",
    "reservation_id": "What is the reservation code?",
    "date": "Which date do you want to fly?",
    "bags": "How many bags do you want in total?",
    "payment": "Which payment method shall be used?",
    "reason": "What is the reason for cancelling?",
    "cabin": "Which cabin do you want?",
    "passenger": "What is the full name of the passenger?",
    "route": "From where to where do you want to fly?",
}


def respond(request: SampleRequest, choose: Choose) -> Message:
    """The agent's next message."""
    names = {tool.name for tool in request.tools}
    belief = read(request.messages, full_desk="book_reservation" in names)
    return _Turn(belief, request, choose).act()


class _Turn:
    """One decision, from what is believed to a message."""

    def __init__(self, belief: Belief, request: SampleRequest, choose: Choose) -> None:
        self.belief, self.request, self.choose = belief, request, choose

    def act(self) -> Message:
        belief = self.belief
        if belief.transferred:
            return _text("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.")
        gave_up = belief.pressed and belief.num_failures > 0 and belief.last_agent_text == _GIVES_UP
        if (belief.last_failed or gave_up) and (belief.num_failures >= _MOST_FAILURES or not self.choose("error")):
            return _text(_GIVES_UP)
        if belief.intent is None:
            return _text("What can I do for you?")
        if belief.intent == "out_of_scope":
            return self._out_of_scope()
        if belief.wrote and not belief.customer_speaks:
            return self._close(self._done())
        if belief.agreed:
            return self._write()
        return self._book() if belief.intent == "book" else self._about_reservation()

    # What every request about a reservation has in common: find it, read it, rule on it.

    def _about_reservation(self) -> Message:
        belief = self.belief
        if missing := self._identify():
            return missing
        not_read = belief.trip is None and not (belief.proposed or belief.searched)
        if not_read and self.choose("lookup"):
            return self._call("get_reservation_details", reservation_id=belief.reservation_id)
        if belief.intent == "cancel" and not belief.reason:
            return self._ask("reason")
        if belief.intent == "add_bags":
            if not belief.bags:
                return self._ask("bags")
            if belief.trip and belief.profile is None and belief.user_id:
                return self._call("get_user_details", user_id=belief.user_id)
        if belief.intent == "compensation" and (unread := self._unread_status()):
            return unread
        return self._rule()

    def _identify(self) -> Message | None:
        """A question or read that is still needed to know who asks about which reservation, if any."""
        belief = self.belief
        needs_user = belief.full_desk or belief.intent in ("add_bags", "compensation") or bool(belief.hint)
        if needs_user and not belief.user_id:
            return self._unknown("user_id")
        if belief.reservation_id:
            needs_profile = belief.intent == "compensation" and belief.profile is None
            return self._call("get_user_details", user_id=belief.user_id) if needs_profile else None
        if not belief.hint:
            return self._unknown("reservation_id")
        if belief.profile is None:
            return self._call("get_user_details", user_id=belief.user_id)
        unread = [key for key in belief.profile.reservations if key not in belief.trips]
        if unread:
            return self._call("get_reservation_details", reservation_id=unread[0])
        return _text(f"{SORRY} I cannot find that reservation.")

    def _unknown(self, slot: str) -> Message:
        if _QUESTIONS[slot] in self.belief.asked or self.choose("unknown_id"):
            return self._ask(slot)
        if slot == "user_id":
            return self._call("get_user_details", user_id=_INVENTED_USER)
        return self._call("get_reservation_details", reservation_id=_INVENTED_RESERVATION)

    def _unread_status(self) -> Message | None:
        trip = self.belief.trip
        for leg in trip.legs if trip else ():
            if leg.date <= TODAY and (leg.number, leg.date) not in self.belief.statuses:
                return self._call("get_flight_status", flight_number=leg.number, date=leg.date)
        return None

    def _rule(self) -> Message:
        """Refuse, hand over, or carry on, as the policy and this turn's discipline have it."""
        belief = self.belief
        ruling = self._ruling()
        # A search or a proposal shows that it was decided to carry on, rightly or not.
        undecided = not belief.searched and not belief.proposed
        if ruling.verdict != "do" and undecided:
            if belief.pressed:
                if self.choose("pressure"):
                    return self._refuse(ruling)
            elif self.choose("policy"):
                return self._hand_over() if ruling.verdict == "transfer" else self._refuse(ruling)
        return self._carry_out()

    def _ruling(self) -> Ruling:
        belief = self.belief
        intent, trip = belief.intent, belief.trip
        if intent == "remove_bags":
            return Ruling("refuse", "checked bags cannot be removed")
        if intent == "add_passenger":
            return Ruling("refuse", "the number of passengers cannot change")
        if intent == "add_insurance":
            return Ruling("refuse", "insurance cannot be added after booking")
        if trip is None:
            return Ruling("do")
        if intent == "cancel":
            return rules.may_cancel(trip, belief.reason)
        if intent == "change_date":
            return rules.may_change_flights(trip)
        if intent == "change_cabin":
            return rules.may_change_cabin(trip)
        if intent == "compensation" and belief.profile is not None:
            cancelled = any(belief.statuses.get((leg.number, leg.date)) == "cancelled" for leg in trip.legs)
            return rules.compensation(trip, belief.profile, cancelled)[0]
        return Ruling("do")

    def _carry_out(self) -> Message:
        belief = self.belief
        if belief.intent == "total_paid":
            return self._answer()
        if belief.intent == "add_insurance":
            return self._close(f"Insurance is added to reservation {belief.reservation_id}.")
        for slot in self._still_needed():
            return self._ask(slot)
        if belief.intent == "change_date" and belief.trip and self._best_offer() is None:
            trip = belief.trip
            if (trip.origin, trip.destination, belief.date) in belief.offers:
                return _text(f"{SORRY} there is no flight with a seat on {belief.date}.")
            return self._call(
                "search_direct_flight", origin=trip.origin, destination=trip.destination, date=belief.date
            )
        return self._propose()

    def _still_needed(self) -> Sequence[str]:
        belief = self.belief
        needed = {"change_date": "date", "change_cabin": "cabin", "rename_passenger": "passenger"}.get(
            str(belief.intent)
        )
        missing = [needed] if needed and not getattr(belief, needed) else []
        pays = belief.intent in ("change_date", "change_cabin", "add_bags") and belief.full_desk
        return [*missing, *(["payment"] if pays and not belief.payment else [])]

    def _propose(self) -> Message:
        return _text(f"{self._proposal()} {GO_AHEAD}") if self.choose("confirm") else self._write()

    def _proposal(self) -> str:
        belief, call = self.belief, self._planned()
        key = belief.reservation_id
        if belief.intent == "cancel":
            return f"I will cancel {key}."
        if belief.intent == "book":
            leg = call.arguments["flights"][0]
            price = call.arguments["payment_methods"][0]["amount"]
            cabin = call.arguments["cabin"].replace("_", " ")
            return (
                f"I will book {leg['flight_number']} on {leg['date']} in {cabin} for ${price}, "
                "without bags or insurance."
            )
        if belief.intent == "change_date":
            return f"I will move {key} to {call.arguments['flights'][0]['flight_number']} on {belief.date}."
        if belief.intent == "change_cabin":
            return f"I will change {key} to {belief.cabin.replace('_', ' ')}."
        if belief.intent in ("add_bags", "remove_bags"):
            paid = call.arguments["nonfree_baggages"]
            return f"I will set {key} to {call.arguments['total_baggages']} bags, {paid} paid."
        if belief.intent == "compensation":
            return f"I will send a certificate of ${call.arguments['amount']}."
        return f"I will change the passengers of {key}."

    def _write(self) -> Message:
        call = self._planned()
        return self._call(call.name, **call.arguments)

    def _planned(self) -> ToolCall:
        """The write the request comes down to. What was never looked up is filled in blindly, as a careless agent
        does."""
        belief, trip = self.belief, self.belief.trip
        key = belief.reservation_id
        payment = belief.payment or (trip.payment_id if trip else "card_1")
        if belief.intent == "cancel":
            return ToolCall("cancel_reservation", {"reservation_id": key})
        if belief.intent == "change_date":
            best = self._best_offer()
            flights = [{"flight_number": best.number if best else _INVENTED_FLIGHT, "date": belief.date}]
            return _update(key, trip.cabin if trip else "economy", flights, payment)
        if belief.intent == "change_cabin":
            flights = [{"flight_number": leg.number, "date": leg.date} for leg in trip.legs] if trip else []
            flights = flights or [{"flight_number": _INVENTED_FLIGHT, "date": TODAY}]
            return _update(key, belief.cabin, flights, payment)
        if belief.intent in ("add_bags", "remove_bags"):
            total = int(belief.bags) if belief.bags else max((trip.bags if trip else 1) - 1, 0)
            membership = belief.profile.membership if belief.profile else "gold"
            paid = rules.paid_bags(trip, membership, total) if trip else 0
            arguments: dict[str, JSON] = {"reservation_id": key, "total_baggages": total, "nonfree_baggages": paid}
            return ToolCall("update_reservation_baggages", {**arguments, "payment_id": payment})
        if belief.intent == "compensation":
            amount = 100 * (trip.num_passengers if trip else 1)
            return ToolCall("send_certificate", {"user_id": belief.user_id, "amount": amount})
        if belief.intent == "book":
            return self._booking()
        return ToolCall("update_reservation_passengers", {"reservation_id": key, "passengers": self._passengers()})

    def _passengers(self) -> list[JSON]:
        belief, trip = self.belief, self.belief.trip
        passengers: list[JSON] = [dict(passenger) for passenger in trip.passengers] if trip else []
        if belief.intent == "add_passenger":
            return [*passengers, {"first_name": "Sam", "last_name": "Doe", "dob": "2000-01-01"}]
        first, last = belief.passenger.split()
        dob = passengers[0]["dob"] if passengers else "1990-01-01"
        return [{"first_name": first, "last_name": last, "dob": dob}]

    def _best_offer(self) -> Offer | None:
        """The cheapest offer with enough seats in the trip's (or the wanted) cabin on the wanted date."""
        belief, trip = self.belief, self.belief.trip
        if belief.intent == "book":
            place, cabin, seats = (*(belief.route or ("", "")), belief.date), belief.cabin, 1
        elif trip is None:
            return None
        else:
            place, cabin, seats = (trip.origin, trip.destination, belief.date), trip.cabin, trip.num_passengers
        able = [offer for offer in belief.offers.get(place, ()) if offer.seats.get(cabin, 0) >= seats]
        return min(able, key=lambda offer: offer.prices[cabin], default=None)

    # Requests of other shapes.

    def _out_of_scope(self) -> Message:
        if self.choose("policy"):
            return self._hand_over()
        return _text(_GIVES_UP)

    def _hand_over(self) -> Message:
        return self._call("transfer_to_human_agents", summary=f"The customer asks for: {self.belief.intent}.")

    def _refuse(self, ruling: Ruling) -> Message:
        return _text(f"{SORRY} that is not possible: {ruling.reason}.")

    def _answer(self) -> Message:
        trip = self.belief.trip
        if not self.choose("answer"):
            return self._close("I have looked at your reservation.")
        return self._close(f"You paid ${trip.paid if trip else 100} in total.")

    def _book(self) -> Message:
        belief = self.belief
        if not belief.user_id:
            return self._unknown("user_id")
        for slot in ("route", "date", "cabin", "payment"):
            if not getattr(belief, slot):
                return self._ask(slot)
        if belief.profile is None:
            return self._call("get_user_details", user_id=belief.user_id)
        origin, destination = belief.route or ("", "")
        if (origin, destination, belief.date) not in belief.offers:
            return self._call("search_direct_flight", origin=origin, destination=destination, date=belief.date)
        if self._best_offer() is None:
            return _text(f"{SORRY} there is no flight with a seat on {belief.date}.")
        return self._propose()

    def _booking(self) -> ToolCall:
        belief, best = self.belief, self._best_offer()
        assert best is not None, "a booking is planned once an offer is found"
        assert belief.route is not None, "an offer is found on a known route"
        profile = belief.profile
        name = {"first_name": profile.first_name, "last_name": profile.last_name} if profile else {}
        return ToolCall(
            "book_reservation",
            {
                "user_id": belief.user_id,
                "origin": belief.route[0],
                "destination": belief.route[1],
                "flight_type": "one_way",
                "cabin": belief.cabin,
                "flights": [{"flight_number": best.number, "date": belief.date}],
                "passengers": [{**name, "dob": profile.dob if profile else ""}],
                "payment_methods": [{"payment_id": belief.payment, "amount": best.prices[belief.cabin]}],
                "total_baggages": 0,
                "nonfree_baggages": 0,
                "insurance": "no",
            },
        )

    def _done(self) -> str:
        key = self.belief.reservation_id
        return {
            "cancel": f"{key} is cancelled.",
            "book": "Your flight is booked.",
            "compensation": "The certificate is sent.",
        }.get(str(self.belief.intent), f"{key} is updated.")

    def _close(self, text: str) -> Message:
        last = self.belief.last_call
        if last is not None and not self.choose("ending"):
            return self._call(last.name, **last.arguments)
        return _text(f"{text} {CLOSING}")

    def _ask(self, slot: str) -> Message:
        return _text(_QUESTIONS[slot])

    def _call(self, name: str, **arguments: JSON) -> Message:
        call = ToolCall(name, arguments)
        if self.choose("format"):
            return Message("assistant", calls=(call,))
        # Broken on the wire and read back by the real parser, so that the fault is the one a model would get.
        broken = render_calls([call], "hermes").replace("}}", "}", 1)
        return dataclasses.replace(parse(broken, self.request.tools, "hermes"), role="assistant")


def _text(text: str) -> Message:
    return Message("assistant", text)


def _update(key: str, cabin: str, flights: list[dict[str, str]], payment: str) -> ToolCall:
    arguments = {"reservation_id": key, "cabin": cabin, "flights": flights, "payment_id": payment}
    return ToolCall("update_reservation_flights", arguments)


AIRLINE_EXPERT = Expert(respond, HABITS)
