"""The habit policy: a scripted expert whose lapses are drawn from a small softmax.

A few numbers decide how disciplined it is, its logprobs and gradients are exact, and an episode costs milliseconds. It
is the careless baseline, the source of traces of mixed discipline, and the policy on which estimators are compared.
"""

from __future__ import annotations

import numpy as np

from banty.errors import InputError
from banty.models.habits import START_ID, HabitWeights, option_id
from banty.records import Capability, Completion, Expert, SampleRequest, Segment, Transform, generator


class HabitPolicy:
    """A policy that asks an expert what to do and draws, at each decision point, whether to do it.

    A turn's segment holds the ids of the options drawn in it, which may be none. Draws are keyed by the request's seed
    and by how many draws the turn has made, so a group's members differ and a seed repeats.
    """

    capabilities: frozenset[Capability] = frozenset({"ids", "logprobs", "publish"})

    def __init__(self, expert: Expert, weights: HabitWeights, name: str = "habits") -> None:
        self.name = name
        if list(weights.points) != list(expert.points):
            raise InputError(f"the weights are for {list(weights.points)}; the expert decides {list(expert.points)}")
        self._expert = expert
        self.weights = weights
        self._started: set[str] = set()

    def load(self, weights: HabitWeights) -> None:
        """Sample from these weights from the next turn on."""
        self.weights = weights

    async def sample(self, request: SampleRequest) -> Completion:
        params = request.params
        if params.top_p != 1.0 or params.top_k != 0 or params.min_p != 0.0:
            raise InputError("the habit policy samples by temperature only; leave top_p, top_k and min_p alone")
        logprobs = self.weights.logprobs(params.temperature)
        places = {point: place for place, point in enumerate(self.weights.points)}
        rng = generator(params.seed or 0, "habits")
        sampled: list[int] = []
        taken: list[float] = []

        def choose(point: str) -> bool:
            place = places[point]
            option = int(rng.random() >= np.exp(logprobs[place, 0]))
            sampled.append(option_id(place, option))
            taken.append(float(logprobs[place, option]))
            return option == 0

        message = self._expert.respond(request, choose)
        continues = request.session in self._started
        self._started.add(request.session)
        segment = Segment([START_ID], sampled, taken, continues, Transform(temperature=params.temperature))
        return Completion(
            message,
            segment,
            version=self.weights.version,
            prompt_tokens=1,
            sampled_tokens=len(sampled),
        )

    async def release(self, session: str) -> None:
        self._started.discard(session)
