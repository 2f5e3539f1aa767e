"""A policy in the role of the user: named so that its turns say who spoke, and asked again for what it left out."""

from __future__ import annotations

import dataclasses
from collections import Counter

from banty.errors import BudgetExhausted, InputError, PolicyFault
from banty.records import Capability, Completion, Policy, SampleRequest, derive


class SimulatedUser:
    """`policy` as a simulated user, under `name`.

    An answer without a word, or with a tool call, is no answer of a user: it is asked for again with another seed,
    `tries` times in all, and the last is returned whatever it is. `asked_again` counts why; the completion has tokens
    and cost of all tries. Only for policies that keep nothing of an answer between turns is more than one try right.

    A conversation that the user's model has no room for is a PolicyFault: the agent ran into no cap of its own.
    """

    def __init__(self, policy: Policy, name: str, *, tries: int = 1) -> None:
        if tries < 1:
            raise InputError(f"tries is {tries}; it takes at least 1")
        self.name = name
        self.policy = policy
        self.asked_again: Counter[str] = Counter()
        self._tries = tries

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.policy.capabilities

    async def sample(self, request: SampleRequest) -> Completion:
        completion = await self._answer(request)
        for attempt in range(1, self._tries):
            lacking = _lacking(completion)
            if not lacking:
                break
            self.asked_again[lacking] += 1
            seed = derive(request.params.seed or 0, "again", attempt)
            params = dataclasses.replace(request.params, seed=seed)
            completion = _after(completion, await self._answer(dataclasses.replace(request, params=params)))
        return completion

    async def _answer(self, request: SampleRequest) -> Completion:
        try:
            return await self.policy.sample(request)
        except BudgetExhausted as spent:
            raise PolicyFault(f"the simulated user has no room for the conversation: {spent}") from spent

    async def release(self, session: str) -> None:
        await self.policy.release(session)


def _lacking(completion: Completion) -> str:
    """Why an answer is none of a user's; empty for one that is."""
    message = completion.message
    if message.calls or message.faults:
        return "tool call"
    return "" if message.content.strip() else "no text"


def _after(first: Completion, second: Completion) -> Completion:
    """The second try, with what the first cost."""
    return dataclasses.replace(
        second,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        sampled_tokens=first.sampled_tokens + second.sampled_tokens,
        cost_usd=first.cost_usd + second.cost_usd,
    )
