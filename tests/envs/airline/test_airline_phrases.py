"""What customers say is understood by the expert, and what agents say by the customer, template by template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from tests.envs.airline.players import FULL_TOOLS

from banty.envs.airline.belief import CLOSING, GO_AHEAD, SORRY, classify, insists, read
from banty.envs.airline.customers import Heard, hear, is_yes
from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.airline.phrases import PHRASES, SPLITS, templates
from banty.records import Message, SampleRequest

SLOTS_OF: Mapping[str, Sequence[str]] = {
    "cancel": ("user_id", "reservation_id", "reason"),
    "change_date": ("user_id", "reservation_id", "date", "payment"),
    "add_bags": ("user_id", "reservation_id", "bags", "payment"),
    "remove_bags": ("user_id", "reservation_id"),
    "total_paid": ("user_id", "reservation_id"),
    "change_cabin": ("user_id", "reservation_id", "cabin", "payment"),
    "rename_passenger": ("user_id", "reservation_id", "passenger"),
    "add_passenger": ("user_id", "reservation_id"),
    "add_insurance": ("user_id", "reservation_id"),
    "book": ("user_id", "route", "date", "cabin", "payment"),
    "compensation": ("user_id", "reservation_id"),
    "out_of_scope": ("user_id",),
}
VALUES: Mapping[str, Mapping[str, object]] = {
    "user_id": {"mia_garcia_1234": "mia_garcia_1234"},
    "reservation_id": {"ZFA04Y": "ZFA04Y", "0HAT12": "0HAT12", "3BAGS3": "3BAGS3"},
    "date": {"2024-05-16": "2024-05-16", "2024-05-30": "2024-05-30"},
    "bags": {"3": "3", "10": "10"},
    "payment": dict.fromkeys(("card_42",), "card_42")
    | dict.fromkeys(("credit_card_7815826",), "credit_card_7815826")
    | dict.fromkeys(("gift_card_1234567",), "gift_card_1234567"),
    "cabin": {"economy": "economy", "basic economy": "basic_economy", "business": "business"},
    "passenger": {"Mie Garcia": "Mie Garcia", "Bo Li": "Bo Li"},
    "route": {"JFK to SFO": ("JFK", "SFO")},
    "reason": {reason: reason for reason in ("change_of_plan", "health", "weather")},
}


def acts_of(intent: str) -> list[str]:
    return [act for act in PHRASES if act == intent or act.startswith(f"{intent}:")]


def told(slot: str, value: str, split: str) -> list[str]:
    act = f"reason:{value}" if slot == "reason" else f"tell:{slot}"
    return [template.replace("{value}", value) for template in templates(act, split)]


def requests(split: str) -> Iterator[tuple[str, str]]:
    for intent in SLOTS_OF:
        for act in acts_of(intent):
            for text in templates(act, split):
                yield intent, text


@pytest.mark.parametrize("split", SPLITS)
def test_a_request_is_classified_alone_after_another_and_with_whatever_is_told_along(split: str) -> None:
    for intent, text in requests(split):
        assert classify(text) == intent, text
        for before in templates("next", split):
            assert classify(f"{before} {text}") == intent, f"{before} {text}"
        for slot in SLOTS_OF[intent]:
            for value in VALUES[slot]:
                for more in told(slot, value, split):
                    assert classify(f"{text} {more}") == intent, f"{text} {more}"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("late", [False, True])
def test_a_slot_is_read_from_every_template(split: str, late: bool) -> None:
    for intent, text in requests(split):
        for slot in SLOTS_OF[intent]:
            for value, meant in VALUES[slot].items():
                for more in told(slot, value, split):
                    said = [Message("user", text), Message("assistant", "Tell me."), Message("user", more)]
                    belief = read(said if late else [Message("user", f"{text} {more}")], full_desk=True)
                    assert getattr(belief, slot) == meant, f"{text} | {more}"
                    assert belief.intent == intent


@pytest.mark.parametrize("split", SPLITS)
def test_a_request_alone_tells_no_slot(split: str) -> None:
    for intent, text in requests(split):
        belief = read([Message("user", text)], full_desk=True)
        found = {slot: getattr(belief, slot) for slot in VALUES}
        assert not any(found.values()), f"{intent}: {text}: {found}"


@pytest.mark.parametrize("split", SPLITS)
def test_a_hint_is_read_and_is_no_code(split: str) -> None:
    for template in templates("hint", split):
        hint = template.replace("{value}", "SEA")
        said = [Message("user", "Please cancel my trip for me."), Message("assistant", "Code?"), Message("user", hint)]
        belief = read(said, full_desk=False)
        assert (belief.hint, belief.reservation_id) == ("SEA", "")


def filled() -> Iterator[tuple[str, str]]:
    for act, every in PHRASES.items():
        slot = act.removeprefix("tell:")
        values = VALUES[slot] if act.startswith("tell:") else {"SEA": "SEA"}
        for template in every:
            for value in values:
                yield act, template.replace("{value}", value)


def test_yes_templates_and_no_others_are_a_yes() -> None:
    for act, text in filled():
        if act != "bye":  # after which nothing is written
            assert is_yes(text) == (act == "yes"), f"{act}: {text}"


def test_insisting_templates_and_no_others_insist() -> None:
    for act, text in filled():
        assert insists(text) == (act == "insist"), f"{act}: {text}"


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        ("Yes", True),
        ("yes please!", True),
        ("Yeah, go ahead.", True),
        ("Ok, do it.", True),
        ("Sure, no problem.", True),
        ("That's correct. Please proceed.", True),
        ("Yes, please cancel it. I don't need anything else.", True),
        ("Yes, I confirm. Can you tell me when the refund arrives?", True),
        ('"Yes"', True),
        ("Yes, but keep the old date.", False),
        ("Yes. Wait, no, not that one.", False),
        ("Yes. Actually, leave it.", False),
        ("No.", False),
        ("No, yes, I mean no.", False),
        ("I don't think that is right.", False),
        ("Okay, what does it cost?", False),
        ("Right, which flight is it?", False),
        ("Not yet.", False),
        ("I would say yes if it were cheaper.", False),
        ("Yesterday I called already.", False),
        ("Correction: it is ZFA04Y.", False),
        ("Surely not.", False),
        ("", False),
    ],
)
def test_what_counts_as_a_yes(text: str, agrees: bool) -> None:
    assert is_yes(text) is agrees


# What the customer hears of the expert.


def ask_of(heard: Heard) -> tuple[tuple[str, ...], bool]:
    return tuple(heard.asks), heard.proposes


def expert_says(*said: Message) -> str:
    request = SampleRequest((Message("system", "policy"), *said), FULL_TOOLS)
    return AIRLINE_EXPERT.respond(request, lambda point: True).content


@pytest.mark.parametrize(
    ("customer", "slot"),
    [
        ("Please cancel my trip for me.", "user_id"),
        ("Please cancel my trip for me. I am mia_garcia_1234.", "reservation_id"),
        ("I want to book a flight. I am mia_garcia_1234.", "route"),
        ("I want to book a flight. I am mia_garcia_1234. From JFK to SFO.", "date"),
        ("I want to book a flight. I am mia_garcia_1234. From JFK to SFO. On 2024-05-20, please.", "cabin"),
        (
            "I want to book a flight. I am mia_garcia_1234. From JFK to SFO. On 2024-05-20, please. In economy.",
            "payment",
        ),
    ],
)
def test_the_experts_questions_are_heard(customer: str, slot: str) -> None:
    question = expert_says(Message("user", customer))
    assert ask_of(hear(question)) == ((slot,), False), question


@pytest.mark.parametrize(
    ("question", "slot"),
    [
        ("How many bags do you want in total?", "bags"),
        ("What is the reason for cancelling?", "reason"),
        ("What is the full name of the passenger?", "passenger"),
    ],
)
def test_the_experts_other_questions_are_heard(question: str, slot: str) -> None:
    assert ask_of(hear(question)) == ((slot,), False)


@pytest.mark.parametrize(
    "proposal",
    [
        "I will cancel ZFA04Y.",
        "I will book HAT001 on 2024-05-20 in basic economy for $100, without bags or insurance.",
        "I will move ZFA04Y to HAT001 on 2024-05-20.",
        "I will change ZFA04Y to business.",
        "I will set ZFA04Y to 3 bags, 1 paid.",
        "I will send a certificate of $100.",
        "I will change the passengers of ZFA04Y.",
    ],
)
def test_the_experts_proposals_are_heard(proposal: str) -> None:
    heard = hear(f"{proposal} {GO_AHEAD}")
    assert heard.proposes
    assert not heard.asks


@pytest.mark.parametrize("text", ["ZFA04Y is cancelled.", "You paid $100 in total.", "The certificate is sent."])
def test_the_experts_closing_wants_nothing(text: str) -> None:
    assert hear(f"{text} {CLOSING}") == Heard((), False, False, False, False, False)


@pytest.mark.parametrize(
    "reason",
    [
        "basic economy flights cannot be changed",
        "checked bags cannot be removed",
        "the number of passengers cannot change",
        "it is economy, not insured and not booked in the last 24 hours",
    ],
)
def test_the_experts_refusals_are_heard(reason: str) -> None:
    assert hear(f"{SORRY} that is not possible: {reason}.") == Heard((), False, True, False, False, False)


# What the customer hears of other agents.

USER, CODE = ("user_id",), ("user_id", "reservation_id")


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Could you please provide your user ID and the reservation ID?", CODE),
        ("To help you with that, I'll need your user ID and your reservation number.", CODE),
        ("To proceed with the cancellation, please provide your user id.", USER),
        ("Before I can proceed, could you tell me your user ID?", USER),
        ("Can you please confirm your user ID?", USER),
        ("May I have your user ID, please?", USER),
        ("First, your user id?", USER),
        ("Thank you for your patience, could you now give me your user ID?", USER),
        ("Thanks for the code. Please provide your user ID.", USER),
        ("I understand. Your user id is needed: please tell me.", USER),
        ("Please go ahead and share your user ID.", USER),
        ("Could you provide the following:\n1. Your user ID\n2. The reservation code", CODE),
        ("Could you provide:\n\n- your user ID\n- your reservation ID", CODE),
        ("Sure! Please provide: 1. user ID 2. reservation code", CODE),
        ("Please share your booking code.", ("reservation_id",)),
        ("Which reservation is it?", ("reservation_id",)),
        ("Let me know which date you would like to fly on.", ("date",)),
        ("I would need the new travel date.", ("date",)),
        ("Which payment method would you like to use?", ("payment",)),
        ("How many checked bags do you want in total?", ("bags",)),
        ("May I ask why you want to cancel?", ("reason",)),
        ("What class would you like to travel in?", ("cabin",)),
        ("What is the correct name of the passenger?", ("passenger",)),
        ("Where would you like to fly from?", ("route",)),
    ],
)
def test_what_is_asked_for(text: str, asks: tuple[str, ...]) -> None:
    assert ask_of(hear(text)) == (asks, False)


@pytest.mark.parametrize(
    "text",
    [
        "I will cancel reservation ZFA04Y and refund $200 to card_12. Do you confirm (yes/no)?",
        "I will cancel ZFA04Y. Please reply yes to confirm.",
        'If this looks right, reply "yes" and I will proceed.',
        "Here are the details:\n- Reservation ZFA04Y\n- Payment: card_12\n\nShould I proceed?",
        "Would you like me to cancel it?",
        "Would you like to proceed with cancelling reservation ID ZFA04Y?",
        "Do you want to proceed with this payment?",
        "I'll set it to 3 bags, charged to card_12. Is that correct?",
        "New flight: HAT001 on 2024-05-20. Are these correct?",
        "Cancel ZFA04Y, okay?",
        "Please confirm the cancellation of ZFA04Y.",
    ],
)
def test_what_is_proposed(text: str) -> None:
    assert ask_of(hear(text)) == ((), True)


@pytest.mark.parametrize(
    "text",
    [
        "Your reservation ZFA04Y is cancelled. Is there anything else I can help you with?",
        "I can confirm that ZFA04Y has been cancelled. The refund goes to your credit card. Anything else?",
        "Your refund will be made to the original payment method. Let me know if you need anything else!",
        "Please note that the refund goes to your credit card. Is there anything else I can do for you?",
        "You paid $1,628 in total. Do you have any other questions?",
        "Thank you for providing your user ID. The booking is done.",
        "Done. Have a great day!",
    ],
)
def test_what_settles_a_request(text: str) -> None:
    assert hear(text) == Heard((), False, False, False, False, False)


@pytest.mark.parametrize(
    "text",
    [
        "Unfortunately, I cannot cancel this reservation because it is basic economy and not insured.",
        "I'm sorry, that isn't something we can do.",
        "That isn't allowed.",
        "This is not possible under our rules.",
        "I'm unable to remove bags.",
        "It is against our cancellation policy.",
    ],
)
def test_what_refuses(text: str) -> None:
    heard = hear(text)
    assert heard.refuses
    assert ask_of(heard) == ((), False)


@pytest.mark.parametrize("text", ["I'm sorry to hear that. Done.", "Sorry for the wait! ZFA04Y is cancelled."])
def test_politeness_refuses_nothing(text: str) -> None:
    assert not hear(text).refuses


@pytest.mark.parametrize("text", ["One moment please.", "Let me check that for you.", "Hold on, I will look it up."])
def test_what_asks_to_wait(text: str) -> None:
    assert hear(text).waits
    assert ask_of(hear(text)) == ((), False)


@pytest.mark.parametrize("text", ["Hello! How can I help you today?", "What can I do for you?"])
def test_what_asks_what_is_wanted(text: str) -> None:
    assert hear(text).greets


@pytest.mark.parametrize("text", ["Do you want travel insurance?", "Would you like to add bags?", "Window or aisle?"])
def test_what_a_customer_has_no_answer_to(text: str) -> None:
    assert hear(text) == Heard((), False, False, False, False, True)
