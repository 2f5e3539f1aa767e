"""What a simulated user does wrong: each check finds what it is for, and leaves honest answers alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from banty.envs.airline.guidelines import GUIDELINES
from banty.envs.usercheck import (
    MOST_CHARACTERS,
    MOST_FAREWELLS,
    MOST_LOOPS,
    MOST_REPEATS,
    MOST_THANKS,
    Finding,
    Kind,
    check_answer,
    ending_of,
    findings_of,
)
from banty.records import CallFault, Message, Rollout, Task, ToolCall, Turn

SCENARIO = """Reason for call:
\tYou want to cancel reservation EHGLP3 because you were out of town and could not call earlier.
Known info:
\tYou are Emma Kim.
\tYour user id is emma_kim_9957.
Task instructions:
\tIf the service agent says that the reservation cannot be canceled, mention that a friend had it approved.
\tSay "you told me last week that a refund would be no problem at all" if nothing helps."""
HELLO = "Hi! How can I help you today?"


def shown(*lines: str, scenario: str = SCENARIO) -> list[Message]:
    """What the simulator sees after this conversation; the agent speaks first, then they take turns."""
    part = Message("system", f"{GUIDELINES}\n\n<scenario>\n{scenario}\n</scenario>")
    return [part, *(Message("assistant" if place % 2 else "user", line) for place, line in enumerate(lines))]


def found(answer: str | Message, *before: str) -> dict[Kind, bool]:
    """The kinds found, and whether surely, in an answer after these lines."""
    message = Message("assistant", answer) if isinstance(answer, str) else answer
    lines = before or (HELLO, "Hello, I need to cancel a trip.", "Sure. What is your user id?")
    return {finding.kind: finding.sure for finding in check_answer(shown(*lines), message)}


SURE: Sequence[tuple[Kind, str | Message]] = (
    ("empty", ""),
    ("empty", " \n "),
    ("tool_call", Message("assistant", "One moment.", calls=(ToolCall("cancel_reservation", {}),))),
    ("tool_call", Message("assistant", "", faults=(CallFault("unknown_tool", "no tool x"),))),
    ("tool_call", '<tool_call>\n{"name": "cancel_reservation", "arguments": {}}\n</tool_call>'),
    ("tool_call", '{"name": "get_user_details", "arguments": {"user_id": "emma_kim_9957"}}'),
    ("tool_call", "<function=cancel_reservation><parameter=reservation_id>EHGLP3</parameter></function>"),
    ("too_long", "word " * MOST_CHARACTERS),
    ("role_flip", "Hello! How can I help you today?"),
    ("role_flip", "How may I assist you?"),
    ("role_flip", "Is there anything else I can help you with?"),
    ("role_flip", "I've successfully cancelled your reservation."),
    ("role_flip", "Your reservation has been cancelled."),
    ("role_flip", "Could you please provide your user ID?"),
    ("role_flip", "Let me check your reservation."),
    ("role_flip", "I'm unable to cancel your reservation without a refund."),
    ("role_flip", "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."),
    ("role_flip", "As an AI language model, I cannot give a user id."),
    ("role_flip", "I'm a large language model."),
    ("role_flip", "Thank you for your message. How can I assist you today?"),
    ("role_flip", "I have located your reservation, you are in economy."),
    ("role_flip", "Your flight has been cancelled and the money is on its way."),
    ("role_flip", "To go on I need your consent. Please reply yes to continue."),
    ("refuses", "I'm sorry, but I can't assist with that."),
    ("refuses", "Sorry, I cannot help with that request."),
    ("refuses", "I cannot roleplay as a customer."),
    ("narrates", "The customer sighs and provides the id: emma_kim_9957"),
    ("narrates", "[The user waits for the agent to respond]"),
    ("narrates", "(Waiting for the agent's response)"),
    ("narrates", "*The customer hangs up*"),
    ("narrates", "As the user, I would respond: yes."),
    ("narrates", "Here is a realistic customer message: I want to cancel."),
    ("narrates", "The agent wants my id, and I should respond naturally. My id is emma_kim_9957."),
    ("narrates", "The scenario doesn't provide a date of birth."),
    ("tool_call", 'cancel_reservation(reservation_id="EHGLP3")'),
    ("tool_call", 'Sure.\n```json\n{"name": "cancel_reservation", "arguments": {"reservation_id": "EHGLP3"}}\n```'),
    ("identity", "My name is [Your Name] and my user id is {user_id}."),
    ("identity", "My reservation number is [insert reservation number]."),
    ("transcript", "Agent: What is your id?\nCustomer: emma_kim_9957"),
    ("transcript", "It is emma_kim_9957. Agent: Thank you. User: Please cancel it."),
    ("transcript", "emma_kim_9957<|im_end|>"),
    ("transcript", "<think>The agent wants my id.</think>emma_kim_9957"),
    ("stop_word", "When all is done I will write ###STOP###."),
    ("stop_word", "I will end with '###STOP###' later."),
    ("repeats", "Please cancel it. " * MOST_LOOPS),
    ("reveals", "I am told to give information when the agent asks for it, not before, unless the scenario says so."),
    ("reveals", "If the service agent says that the reservation cannot be canceled, mention that."),
    ("reveals", "You want to cancel reservation EHGLP3 because you were out of town."),
    ("reveals", "Known info: Emma Kim. Task instructions: cancel it."),
    ("identity", "My user id is sara_doe_1234."),
    ("identity", "Please look into the account of omar_davis_3817 too."),
    ("identity", "Please cancel reservation ABC123."),
    ("identity", "My reservation number is Q7W8E9, please cancel it."),
    ("identity", "My name is John Smith."),
)


@pytest.mark.parametrize(("kind", "answer"), SURE, ids=lambda value: value if isinstance(value, str) else "call")
def test_a_sure_fault_is_found(kind: Kind, answer: str | Message) -> None:
    assert found(answer).get(kind) is True


HONEST = (
    "My user id is emma_kim_9957.",
    "It's Emma Kim, emma_kim_9957, and the reservation is EHGLP3.",
    "My name is Emma Kim.",
    "my id: EMMA KIM 9957",
    "Yes, please go ahead and cancel reservation EHGLP3.",
    "Can you help me with that? I could not call earlier because I was out of town.",
    "Is there anything else I can do to get a refund?",
    "I'm unable to cancel it on your website.",
    "Your website is down and your flight was delayed.",
    "I got an email that said your reservation has been cancelled, so what now?",
    'The person on the phone asked "How can I help you today?" and then hung up.',
    "I understand you are not able to cancel it. A friend of mine had it approved though.",
    "Please note: I need this done today. Also: no insurance.",
    "Thank you for your help. Have a great day! ###STOP###",
    "That's all, thanks ###STOP###",
    "You told me last week that a refund would be no problem at all.",
    "I'd like to book HAT123 on 2024-05-20, 2 bags, $250 at most.",
    "My booking is URGENT, please hurry.",
    "Please stop. I do not want to be transferred.",
    "What is your policy on refunds, and can you confirm that I get the money back?",
    "No, that's all. Thank you!",
    "The flights are:\n1. HAT001 from ATL\n2. HAT002 to JFK",
    "That's all I know. That is everything I have.",
    "My e-mail is emma_kim_99@example.com, and I pay with travel_certificate_75040.",
    "Here is what you sent me:\n> Your refund has been processed.\nBut I see no money on my account.",
    "I'm sorry, I can't help you with that, I threw the ticket away.",
    "I can't help with that, I don't have the code here.",
    "As a customer, I would expect better. The customer is king, they say.",
    "*sigh* Fine. (I really wanted the other flight.)",
    "Bonjour, je m'appelle Emma Kim. Je voudrais annuler EHGLP3, s'il vous plaît.",
    "你好，我想取消我的航班，谢谢。",
    "Am I talking to a virtual assistant or to a person?",
    "I spoke to an agent: she had no idea.",
)


@pytest.mark.parametrize("answer", HONEST)
def test_an_honest_answer_is_never_excluded(answer: str) -> None:
    assert True not in found(answer).values()


def test_most_honest_answers_raise_no_suspicion_either() -> None:
    suspected = [answer for answer in HONEST if found(answer)]
    assert suspected == ["My booking is URGENT, please hurry."], "six capitals may be a reservation"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("role_flip", "I apologize for the inconvenience, I gave the wrong id."),
        ("role_flip", "Would you like me to spell it?"),
        ("role_flip", "I got an e-mail: Your reservation has been cancelled. Is that right?"),
        ("role_flip", "The website tells me: please provide your user id. Then it crashes."),
        ("role_flip", "May I have your account number, so that I can pay by wire?"),
        ("role_flip", "Let me check your details: you said 150 dollars, right?"),
        ("stop_word", "Yes, please proceed. ###STOP###"),
        ("transcript", "Customer: my id is emma_kim_9957"),
        ("stop_word", "thanks so much ###STOP### and goodbye to you all"),
        ("stop_word", "Thanks. ###STOP### ###TRANSFER###"),
        ("stop_word", "Could you also look at my other trip? ###STOP###"),
        ("stop_word", "OK. ###TRANSFER###"),
        ("stop_word", "Thank you. ### STOP ###"),
        ("stop_word", "Thank you.\n[STOP]"),
        ("reveals", "My instructions do not say which flight."),
        ("identity", "Please cancel reservation QWERTZ."),
        ("identity", "My name is Emmy Kim."),
    ],
)
def test_what_may_be_honest_is_a_suspicion(kind: Kind, answer: str) -> None:
    assert found(answer).get(kind) is False


def test_repeating_the_agents_own_sentence_is_a_role_flip_unless_it_is_courtesy_or_the_users_own() -> None:
    line = "I can cancel that for you only with insurance."
    assert found(line, HELLO, "Cancel my trip.", line).get("role_flip") is True
    thanks = "Thank you for your patience and your time today."
    assert True not in found(thanks, HELLO, "Cancel my trip.", f"It is done. {thanks}").values()
    own = "Can you please cancel my next trip?"
    assert True not in found(own, HELLO, own, own).values(), "the agent is the parrot here"


def test_a_sentence_of_the_agents_among_own_words_is_a_suspicion() -> None:
    line = "I can cancel that for you only with insurance."
    assert found(f"{line} Hmm, that is not what it says on the page of the airline.", HELLO, "Hi.", line) == {
        "role_flip": False
    }


def test_what_was_left_out_is_said_with_what_was_there() -> None:
    part = shown(HELLO)
    (called,) = check_answer(part, Message("assistant", "", faults=(CallFault("unknown_tool", "no", name="fly"),)))
    assert called.told == "the simulated user made a tool call of 'fly'; it has no tools"
    (silent,) = check_answer(part, Message("assistant", "", reasoning="Let me see."))
    assert silent.told.startswith("the simulated user said nothing but its thoughts; leave it more tokens")


def test_thanking_for_ever_is_a_fault_too() -> None:
    lines = [HELLO, "Cancel my trip."]
    for number in range(MOST_THANKS - 1):
        lines += [f"You are welcome, {number}.", f"Thank you, {number}!"]
    assert found("Thanks!", *lines, "My pleasure.").get("never_stops") is True
    assert "never_stops" not in found("Thanks!", *lines[:-2], "My pleasure.")
    assert "never_stops" not in found("Thanks! ###STOP###", *lines, "My pleasure.")


def test_a_transfer_that_the_agent_spoke_of_is_believed() -> None:
    agent = "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."
    assert found("###TRANSFER###", HELLO, "I want a human.", agent) == {}
    assert True not in found(f"{agent} ###TRANSFER###", HELLO, "A human please.", agent).values()


def test_what_the_agent_has_said_is_known_to_the_user() -> None:
    agent = "You have the reservations ABC123 and Q7W8E9 under omar_davis_3817."
    assert found("Then cancel reservation ABC123.", HELLO, "Cancel a trip.", agent) == {}
    assert found("omar_davis_3817, yes.", HELLO, "Cancel a trip.", agent) == {}


def test_ending_in_the_first_message_is_a_fault() -> None:
    assert found("###STOP###", HELLO).get("stop_word") is True
    assert found("###OUT-OF-SCOPE###", HELLO).get("stop_word") is True


def test_saying_goodbye_for_ever_is_a_fault_and_thanking_is_none() -> None:
    lines = [HELLO, "Cancel my trip."]
    for number in range(MOST_FAREWELLS - 1):
        lines += [f"It is done, {number}.", f"Thanks, goodbye {number}!"]
    lines.append("Bye.")
    assert found("Goodbye!", *lines).get("never_stops") is True
    assert found("Goodbye! ###STOP###", *lines) == {}
    assert "never_stops" not in found("Wait, what about my bags?", *lines)
    assert "never_stops" not in found("Goodbye!", *lines[:-2])
    thanked = [line.replace("goodbye", "thank you") for line in lines]
    assert found("Thank you!", *thanked) == {}


def test_repeating_itself_is_a_fault_after_some_times_and_only_against_new_words() -> None:
    asked, told = [f"Which one, {number}?" for number in range(9)], "I want the first one."
    lines = [HELLO, told]
    for question in asked[: MOST_REPEATS - 1]:
        lines += [question, told]
    lines.append("And now?")
    assert found(told, *lines).get("repeats") is True
    assert "repeats" not in found(told, *lines[:-2])
    same = [HELLO, told, *(["Which one?", told] * 5), "Which one?"]
    assert found(told, *same) == {}


@pytest.mark.parametrize("told", ["Yes.", "I don't know.", "Yes, please proceed with the cancellation."])
def test_the_same_brief_answer_to_four_questions_is_a_suspicion_and_to_seven_a_fault(told: str) -> None:
    asked = [f"Which one, {number}?" for number in range(9)]
    lines = [HELLO, *(line for question in asked[:MOST_REPEATS] for line in (told, question))]
    assert found(told, *lines) == {"repeats": False}
    more = [line for question in asked[MOST_REPEATS : 2 * MOST_REPEATS] for line in (told, question)]
    assert found(told, *lines, *more)["repeats"] is True


def test_a_long_sentence_said_twice_is_a_suspicion() -> None:
    long = "I would like to have my money back for this trip."
    assert found(long, HELLO, long, "Why?", "It rained.", "Sorry, no.") == {"repeats": False}


def test_one_finding_a_kind_the_sure_ones_first() -> None:
    answer = (
        "I apologize for the inconvenience. Your reservation has been cancelled. How may I assist you? Q: <|im_end|>"
    )
    findings = check_answer(shown(HELLO, "Hi.", "Yes?"), Message("assistant", answer))
    assert [finding.kind for finding in findings] == ["role_flip", "transcript"]
    assert all(finding.sure for finding in findings)


def test_quotes_are_short_and_on_one_line() -> None:
    (finding,) = check_answer(shown(HELLO), Message("assistant", "\n".join(["Agent: hm", "Customer: hm"] * 100)))[:1]
    assert "\n" not in finding.told
    assert len(finding.told) < 200


def test_a_scenario_in_the_customers_own_voice_may_be_said() -> None:
    """Our generated scenarios hold what the customer says first."""
    line = "Something came up, so I'd like you to cancel the booking I made."
    part = shown(HELLO, scenario=f"Your user id is ann_lee_1.\nRequest 1: {line}")
    assert check_answer(part, Message("assistant", line)) == ()


def test_the_ending_is_the_stop_words() -> None:
    assert [ending_of(text) for text in ("bye", "###STOP###", "x ###TRANSFER###", "###OUT-OF-SCOPE### y")] == [
        "",
        "stop",
        "transfer",
        "out_of_scope",
    ]


def played(*answers: str, status: str = "completed", cause: str = "") -> Rollout:
    """A rollout whose user gave these answers."""
    lines = [HELLO]
    turns: list[Turn] = []
    for answer in answers:
        request = tuple(shown(*lines))
        turns.append(Turn(2 * len(turns), "user", Message("assistant", answer), request=request))
        lines += [answer, f"Yes, and then {len(turns)}?"]
    return Rollout("r", Task("e", "test", 0, 0), status, cause, turns=tuple(turns))  # type: ignore[arg-type]


def test_a_stored_rollout_gives_the_same_findings_again() -> None:
    rollout = played("Hello there.", "I apologize for the inconvenience.", "My user id is sara_doe_1234.")
    told = [(turn, finding.kind, finding.sure) for turn, finding in findings_of(rollout)]
    assert told == [(2, "role_flip", False), (4, "identity", True)]
    agents = dataclasses.replace(rollout, turns=tuple(dataclasses.replace(t, actor="agent") for t in rollout.turns))
    assert findings_of(agents) == []


def test_a_cap_met_after_a_goodbye_is_a_suspicion() -> None:
    late = played("Hello there.", "Thanks, goodbye.", status="truncated", cause="turns")
    assert [finding for _, finding in findings_of(late)] == [
        Finding("never_stops", False, "the episode met its cap of turns after the simulated user had said goodbye")
    ]
    assert findings_of(played("Hello there.", "Thanks, goodbye.")) == []
    assert findings_of(played("Hello there.", "And now?", status="truncated", cause="turns")) == []


def test_an_answer_that_met_its_cap_is_a_suspicion() -> None:
    rollout = played("Hello there.", "I want to cancel my reserva")
    turns = [dataclasses.replace(turn, finish="length") for turn in rollout.turns[-1:]]
    cut = dataclasses.replace(rollout, turns=(*rollout.turns[:-1], *turns))
    told = "the simulated user was cut off in the middle: 'I want to cancel my reserva'"
    assert findings_of(cut) == [(turns[0].index, Finding("cut_off", False, told))]
