"""What customers say. Every act has paraphrase templates, and every template belongs to one split.

The split of a template is its place in the list: the last two are `test`, the one before them `dev`, the rest `train`;
so adding a template at the front never moves another across splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Act = str

PHRASES: Mapping[Act, Sequence[str]] = {
    # What they want.
    "cancel": (
        "I want to cancel my reservation.",
        "Please cancel my trip for me.",
        "I need to cancel a booking.",
        "Could you cancel a flight I booked?",
        "I have to call off my trip.",
        "I'd like you to cancel the booking I made.",
        "Something came up, so the reservation has to be cancelled.",
    ),
    "change_date": (
        "I want to move my flight to another day.",
        "Please reschedule my flight.",
        "I need to fly on a different date.",
        "Can you change the date of my flight?",
        "I have to shift my flight to another date.",
        "Could my flight be rescheduled to another day?",
        "I would rather travel on a different day than the one I booked.",
    ),
    "add_bags": (
        "I want to add checked bags to my reservation.",
        "Please add a bag to my booking.",
        "I need to bring more luggage.",
        "Can I add luggage to my trip?",
        "I have more suitcases to check than I booked.",
        "I'd like to add extra suitcases to my booking.",
        "There is more luggage to take along than I first thought.",
    ),
    "remove_bags": (
        "I want to remove a checked bag from my reservation.",
        "Please take a bag off my booking.",
        "I need to remove some luggage from my trip.",
        "Can you take one suitcase off my reservation?",
        "I'd like to travel with fewer bags than I booked.",
        "Could you remove one of the bags I booked?",
        "I am bringing fewer suitcases, please take them off.",
    ),
    "total_paid": (
        "How much did I pay for my reservation?",
        "What was the total price of my trip?",
        "Please tell me what I paid for my booking.",
        "I want to know the total cost of my reservation.",
        "Can you tell me how much my booking cost?",
        "What did I pay in total for my trip?",
        "I need the total amount of my reservation for my expenses.",
    ),
    "change_cabin": (
        "I want to change the cabin of my reservation.",
        "Please upgrade my reservation to another cabin.",
        "I need a different cabin class for my trip.",
        "Can you upgrade my booking?",
        "I'd like to switch to another cabin.",
        "Could my trip be upgraded to a better cabin?",
        "I would like another cabin class on my booking.",
    ),
    "rename_passenger": (
        "I want to correct a passenger's name on my reservation.",
        "Please fix the name of a passenger in my booking.",
        "I need to change the passenger on my trip.",
        "A name on my reservation is misspelled.",
        "I'd like to replace a passenger on my booking.",
        "Could you correct the name of a passenger?",
        "The passenger name on my booking is wrong and has to be fixed.",
    ),
    "add_passenger": (
        "I want to add a passenger to my reservation.",
        "Please put one more person on my booking.",
        "I need to add my son to my trip.",
        "Can another passenger join my reservation?",
        "I'd like to bring one more person on my booking.",
        "Could you add one more passenger?",
        "One more person should travel on my reservation.",
    ),
    "add_insurance": (
        "I want to add travel insurance to my reservation.",
        "Please insure my trip, I forgot it when booking.",
        "I need travel insurance on my booking.",
        "Can I still buy insurance for my reservation?",
        "I'd like to add insurance to a trip I booked.",
        "Could you put insurance on my booking?",
        "My reservation has no insurance yet, please add it.",
    ),
    "book": (
        "I want to book a flight.",
        "Please book me a new flight.",
        "I need a new flight.",
        "Can you book a one way flight for me?",
        "I'd like to make a new booking.",
        "Could you book a seat on a flight for me?",
        "I am looking to book a new one way trip.",
    ),
    "compensation": (
        "My flight was cancelled by the airline and I want compensation.",
        "I want to be compensated for a flight that the airline cancelled.",
        "You cancelled my flight. I'd like compensation for that.",
        "I am asking for compensation because my flight was cancelled.",
        "The airline cancelled my flight, what compensation do I get?",
        "As my flight was cancelled I expect compensation.",
        "I demand compensation for my cancelled flight.",
    ),
    # Out of scope: one act a topic, told apart by `detail`.
    "out_of_scope:pet": (
        "I want to know whether my dog may travel in the cabin.",
        "Please arrange for my cat to fly with me.",
        "I need to bring a pet on board.",
        "How do I bring a pet on board?",
        "Can my dog fly with me?",
    ),
    "out_of_scope:lost": (
        "My suitcase never arrived and I want it found.",
        "I lost my jacket on the plane.",
        "Please find the phone I lost on board.",
        "My luggage got lost, where is it?",
        "Something I lost on the plane has to be found.",
    ),
    "out_of_scope:miles": (
        "I want to move my miles to my sister.",
        "My miles are missing.",
        "Please add the missing miles of my last flight.",
        "How can I use my miles?",
        "I'd like my miles to be corrected.",
    ),
    "out_of_scope:meal": (
        "I want to order a vegetarian meal.",
        "Please arrange a special meal for me.",
        "I need a gluten free meal on board.",
        "Could I get a vegan meal?",
        "I'd like to choose my meal on board.",
    ),
    # What they tell.
    "tell:user_id": (
        "My user id is {value}.",
        "It's {value}.",
        "User id {value}.",
        "I am {value}.",
        "{value} is my user id.",
        "You can find me under {value}.",
        "My account is {value}.",
    ),
    "tell:reservation_id": (
        "The reservation is {value}.",
        "It is {value}.",
        "Reservation {value}.",
        "The booking code is {value}.",
        "{value} is the reservation.",
        "It's booked under {value}.",
        "I have {value} as the code.",
    ),
    "tell:date": (
        "I want to fly on {value}.",
        "On {value}, please.",
        "The new date is {value}.",
        "{value} would be right.",
        "Make it {value}.",
        "{value} suits me.",
        "It has to be {value}.",
    ),
    "tell:bags": (
        "{value} bags in total.",
        "I want {value} checked bags in total.",
        "Make it {value} bags altogether.",
        "I need {value} bags in all.",
        "It should be {value} bags in total.",
        "With {value} bags altogether.",
        "{value} bags, counting all of them.",
    ),
    "tell:payment": (
        "Please use {value}.",
        "Use my {value}.",
        "I pay with {value}.",
        "{value}, please.",
        "Put it on {value}.",
        "Take {value} for that.",
        "It can go on {value}.",
    ),
    "tell:cabin": (
        "I want {value}.",
        "To {value}, please.",
        "In {value}, please.",
        "It should be {value}.",
        "{value} would suit me.",
        "{value} is what I want.",
        "I'd take {value}.",
    ),
    "tell:passenger": (
        "The right passenger is {value}.",
        "It should read {value}.",
        "Please put {value}.",
        "The name is {value}.",
        "Please write {value}.",
        "The ticket must say {value}.",
        "It has to say {value}.",
    ),
    "tell:route": (
        "From {value}.",
        "I go from {value}.",
        "I want to fly from {value}.",
        "It is from {value}.",
        "The route is {value}.",
        "I travel from {value}.",
        "I need to get from {value}.",
    ),
    "reason:change_of_plan": (
        "I changed my plans.",
        "My plans have changed.",
        "A change of plan.",
        "I just don't want to go any more.",
        "I decided not to go.",
        "Plans changed on my side.",
        "I'd rather stay home, that is all.",
    ),
    "reason:health": (
        "I am ill.",
        "I am sick and cannot travel.",
        "For health reasons.",
        "My doctor says I must not fly.",
        "I fell ill.",
        "I got sick.",
        "Health reasons, my doctor forbids it.",
    ),
    "reason:weather": (
        "The weather is too bad.",
        "There is a storm coming.",
        "Because of the weather.",
        "Bad weather is forecast.",
        "A storm is forecast there.",
        "The weather forecast is awful.",
        "With that storm I won't go.",
    ),
    "hint": (
        "I don't have the code at hand. It is my trip to {value}.",
        "I don't remember it. It's the one to {value}.",
        "I can't find the code; I fly to {value}.",
        "No idea, but it goes to {value}.",
        "I lost the code. It's my flight to {value}.",
        "I don't know the number. The trip goes to {value}.",
        "The mail with the code is gone; the flight is to {value}.",
    ),
    # How they react.
    "yes": (
        "Yes, please.",
        "Yes.",
        "Yes, go ahead.",
        "Sure, go ahead.",
        "Yes, that is right.",
        "Sure, please do.",
        "Yes, do it.",
    ),
    "object": (
        "No, that is not what I asked for.",
        "No, that's the wrong one.",
        "No, not that.",
        "No, that's a mistake.",
        "No, I meant something else.",
        "No, that isn't it.",
        "No, you mixed something up.",
    ),
    "insist": (
        "Come on, make an exception for me.",
        "I insist, just do it.",
        "That is ridiculous, do it anyway.",
        "Please make an exception, it's important.",
        "Surely you can make an exception.",
        "I won't accept that, do it anyway.",
        "Unacceptable. I insist on it.",
    ),
    "next": (
        "One more thing.",
        "There is something else.",
        "I also have another question.",
        "Another thing.",
        "One more request.",
        "And another thing.",
        "While I have you, something else.",
    ),
    "nudge": (
        "Can you help me with that?",
        "So what about my request?",
        "Please help me with my request.",
        "Are you still there?",
        "I'm waiting for an answer.",
        "Could you answer my request?",
        "I am still waiting for help.",
    ),
    "dont_know": (
        "I don't know that.",
        "I can't tell you that.",
        "I have no idea.",
        "That I don't know.",
        "I couldn't say.",
        "No idea.",
        "I really don't know that.",
    ),
    # None of these is a yes, so that nothing said while waiting can be taken for one.
    "wait": ("All right.", "Fine.", "I'll wait.", "Take your time.", "Good.", "Alright."),
    "only_that": (
        "Just what I asked for.",
        "Only what I asked for.",
        "What I asked for, nothing else.",
        "Exactly what I asked for.",
        "Nothing beyond what I asked for.",
        "What I asked for is enough.",
        "I only want what I asked for.",
    ),
    "bye": (
        "Thanks, that is all. ###STOP###",
        "Thank you. ###STOP###",
        "That was all, thanks. ###STOP###",
        "Great, bye. ###STOP###",
        "Okay, thanks, bye. ###STOP###",
        "Thanks for your help. ###STOP###",
        "Good, that's everything. ###STOP###",
    ),
    "leave": (
        "This leads nowhere. ###STOP###",
        "I give up. ###STOP###",
        "Never mind. ###STOP###",
        "Forget it. ###STOP###",
        "I'll try elsewhere. ###STOP###",
        "This is pointless. ###STOP###",
    ),
}

SPLITS = ("train", "dev", "test")


def templates(act: Act, split: str) -> Sequence[str]:
    """The templates of an act that customers of this split use."""
    every = PHRASES[act]
    return {"train": every[:-3], "dev": every[-3:-2], "test": every[-2:]}[split]


def say(act: Act, split: str, rng: np.random.Generator, value: str = "") -> str:
    """One of the split's templates for an act, filled in."""
    choices = templates(act, split)
    return choices[int(rng.integers(len(choices)))].replace("{value}", value)
