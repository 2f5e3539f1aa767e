"""The local engine: continuous batching of live sessions over one model in this process.

A session keeps what it has computed from turn to turn; prompts that begin alike compute their common beginning once;
every tick gives each answering session one token. Shapes come from fixed buckets, and who shares a batch decides about
speed only: draws are each session's own. On a CPU, an engine that loses its pace to another process goes down to one
thread and says so (`lost_pace`). Under a `Gate` ticks happen when all live episodes wait, which makes the batches, and
so every float, repeatable.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from banty.errors import BudgetExhausted, InputError
from banty.models.loading import LanguageModel
from banty.models.slots import Grid, Slots, Stream
from banty.models.threads import Pace
from banty.perf import Shape, Usage, shape_of
from banty.policies.passes import WIDTH_BUCKET, Job, alike, filled, row_bucket, width_bucket
from banty.policies.prefixes import Ids, StoredPrefixes, common_length
from banty.policies.sampling import check_params, draw
from banty.records import Gate, SamplingParams, generator

MOST_TOLD = 1024
"""New prompts of so many tokens in all share a pass with those who sample; more get batches of their own."""
_ENGINES = itertools.count()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The whole stream a session is to continue, and when to stop. `params.seed` keys the draws; None is 0."""

    session: str
    ids: Ids
    stop_ids: frozenset[int]
    params: SamplingParams
    max_tokens: int
    feature_layers: tuple[int, ...] = ()
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """What was sampled. `complete` says that it ended with a stop id, which is the last of `ids`.

    `computed` is how many prompt tokens went through the model; the rest was kept from before, or shared.
    """

    ids: Ids
    logprobs: tuple[float, ...]
    complete: bool
    version: int
    computed: int
    features: npt.NDArray[np.float32] | None = None


@dataclass(eq=False)
class _Session:
    """A slot, and the ids whose state it holds."""

    slot: int
    held: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Told:
    """Tokens that an answer's slot has yet to compute."""

    answer: _Answer
    slot: int
    ids: Sequence[int]


@dataclass(eq=False)
class _Answer:
    request: TokenRequest
    future: asyncio.Future[Generated]
    rng: np.random.Generator
    session: _Session | None = None
    computed: int = 0
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        """Whether another token is to be sampled."""
        return not self.future.done() and not self.complete and len(self.sampled) < self.request.max_tokens

    @property
    def complete(self) -> bool:
        return bool(self.sampled) and self.sampled[-1] in self.request.stop_ids


class LocalEngine:
    """Samples from a `LanguageModel`. One event loop at a time; `release` every session.

    `prefill_tokens` bounds what one pass over prompts holds; short prompts share a pass with those who sample.
    """

    def __init__(self, model: LanguageModel, *, name: str = "local", prefill_tokens: int = 4096) -> None:
        if prefill_tokens < WIDTH_BUCKET:
            raise InputError(f"prefill_tokens is {prefill_tokens}; it takes at least {WIDTH_BUCKET}")
        self.model = model
        self.name = name
        self.version = 0
        self._gate_key = f"{name}#{next(_ENGINES):06d}"  # engines of one name share a run: an agent's and a user's, say
        self._seen_changes = model.num_changes
        self.num_computed = 0
        self.num_sampled = 0
        self._prefill_tokens = prefill_tokens
        self._pace = Pace()
        self.lost_pace = False
        self.shape: Shape = shape_of(model.config.to_dict(), model.head.element_size())
        self._used = {"prefill": Usage(), "decode": Usage()}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}")
        self._sessions: dict[str, _Session] = {}
        self._arrived: list[_Answer] = []
        self._released: list[str] = []
        self._answering: list[_Answer] = []
        self._pumping: asyncio.Task[None] | None = None
        self._tick_on_thread: Future[None] | None = None
        self._forget()

    def load(self, version: int) -> None:
        """The model's weights have changed: everything computed before is forgotten."""
        if any(not answer.future.done() for answer in (*self._answering, *self._arrived)):
            raise InputError(f"the engine {self.name} is answering; load weights between steps")
        self._settle()
        self.version = version
        self._seen_changes = self.model.num_changes
        for session in self._sessions.values():
            session.held = []
        self._forget()

    def _forget(self) -> None:
        # New slots, not emptied ones: what a step computes must not depend on how much room the last one needed.
        self._slots = Slots(self.model)
        self._prefixes = Slots(self.model, kernels=self._slots.kernels)  # the weights are laid out once
        self._stored = StoredPrefixes(self._prefixes)
        for place, session in enumerate(self._sessions.values()):
            session.slot = place

    async def generate(self, request: TokenRequest) -> Generated:
        """Continue `request.ids` until a stop id or `max_tokens`. Raises BudgetExhausted when positions run out."""
        self._check(request)
        room = self.model.max_tokens - len(request.ids)
        if room < 1:
            most = self.model.max_tokens
            raise BudgetExhausted("context", f"the conversation has {len(request.ids)} tokens; the model takes {most}")
        request = replace(request, max_tokens=min(request.max_tokens, room))
        future: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        answer = _Answer(request, future, generator(request.params.seed or 0, "tokens"))
        if self._pumping is None or self._pumping.done():
            self._settle()
            self._pumping = asyncio.get_running_loop().create_task(self._pump())
        self._arrived.append(answer)
        return await (request.gate.parked(self._gate_key, future) if request.gate else future)

    def _check(self, request: TokenRequest) -> None:
        """Raises InputError for a request that would spoil the tick for others."""
        check_params(request.params)
        rows, num_layers = len(self.model.head), len(self.model.layers)
        if not request.ids or not 0 <= min(request.ids) <= max(request.ids) < rows:
            what = "no tokens" if not request.ids else f"ids from {min(request.ids)} to {max(request.ids)}"
            raise InputError(f"the prompt of {request.session!r} has {what}; {self.model.name} takes ids below {rows}")
        if request.max_tokens < 1:
            raise InputError(f"max_tokens is {request.max_tokens}; it takes at least 1")
        if not set(request.feature_layers) <= set(range(num_layers + 1)):
            raise InputError(f"feature_layers is {request.feature_layers}; the model has 0 to {num_layers}")
        if self.model.num_changes != self._seen_changes:
            raise InputError(f"the weights of {self.model.name} were changed; load what the learner publishes first")
        for answer in (*self._arrived, *self._answering):
            if answer.request.session == request.session and not answer.future.done():
                raise InputError(f"session {request.session!r} is asked for an answer while it is giving one")

    async def release(self, session: str) -> None:
        """Give up what is kept for a session, and the answer it is giving."""
        for answer in (*self._arrived, *self._answering):
            if answer.request.session == session:
                answer.future.cancel()
        if self._pumping is None or self._pumping.done():
            self._sessions.pop(session, None)
        else:
            self._released.append(session)  # a tick may be running: it is between ticks that sessions come and go

    def _settle(self) -> None:
        """Between two pumps: see a tick of the last one to its end, and forget those who have gone."""
        if self._tick_on_thread is not None:
            wait([self._tick_on_thread])
            self._tick_on_thread = None
        self._drop_gone()

    def _drop_gone(self) -> None:
        for session in self._released:
            self._sessions.pop(session, None)
        self._released = []
        self._answering = [answer for answer in self._answering if answer.wants]
        self._arrived = [answer for answer in self._arrived if not answer.future.done()]

    async def _pump(self) -> None:
        """Tick while anybody waits for an answer; whatever fails, nobody is left waiting."""
        try:
            await self._tick_on()
        except Exception as error:  # noqa: BLE001 - it fails the answers that waited for it
            self._answering, self._arrived = [*self._answering, *self._arrived], []
            self._fail(error)

    async def _tick_on(self) -> None:
        while self._arrived or self._answering or self._released:
            waiting = [*self._arrived, *self._answering]
            gate = next((answer.request.gate for answer in waiting if answer.request.gate), None)
            if gate is not None:
                await gate.turn(self._gate_key)
            else:
                await asyncio.sleep(0)  # let those that arrive together be answered together
            self._drop_gone()
            arrived, self._arrived = sorted(self._arrived, key=_key), []
            self._answering = [*self._answering, *arrived]
            try:
                if gate is not None:
                    self._tick(arrived)  # here: while all episodes wait, there is nothing else for the loop to do
                else:
                    self._tick_on_thread = self._thread.submit(self._tick, arrived)
                    await asyncio.wrap_future(self._tick_on_thread)
            except Exception as error:  # noqa: BLE001 - whatever fails in a tick fails the answers it was for
                self._fail(error)
            self._deliver()

    def _fail(self, error: Exception) -> None:
        failed, self._answering = self._answering, []
        for session in self._sessions.values():
            session.held = []  # what slots hold after a tick that broke off is anybody's guess
        self._forget()
        for answer in failed:
            if not answer.future.done():
                answer.future.set_exception(error)

    def _deliver(self) -> None:
        finished = [answer for answer in self._answering if not answer.wants]
        self._answering = [answer for answer in self._answering if answer.wants]
        for answer in sorted(finished, key=_key):
            if answer.future.done():
                continue
            features = torch.stack(answer.features, dim=1).float().cpu().numpy() if answer.features else None
            answer.future.set_result(
                Generated(
                    tuple(answer.sampled),
                    tuple(answer.logprobs),
                    answer.complete,
                    self.version,
                    answer.computed,
                    features,
                )
            )

    @torch.no_grad()
    def _tick(self, arrived: Sequence[_Answer]) -> None:
        """Compute the prompts of those who arrived, and give everybody who answers a token."""
        answering = [answer for answer in self._answering if answer.sampled]
        told: list[_Told] = []
        if arrived:
            with self._timed("prefill"):
                told = self._take_in(arrived)
        if answering or told:
            with self._timed("decode"):
                if self._slots.kernel is not None:
                    self._stream(answering, told)
                else:
                    self._decode(answering)

    def usage(self) -> Mapping[str, Usage]:
        """What prompts (`prefill`) and sampling (`decode`) have used since the engine was made."""
        return dict(self._used)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        self._phase, began = phase, time.perf_counter()
        try:
            yield
        finally:
            self._used[phase] += Usage(seconds=time.perf_counter() - began)

    # Prompts.

    def _take_in(self, answers: Sequence[_Answer]) -> list[_Told]:
        """Compute the prompts of new answers; what is little is left to be computed with everybody's next tokens."""
        fresh = [answer for answer in answers if not self._resume(answer)]
        if fresh:
            for jobs in self._stored.store([answer.request.ids for answer in fresh]):
                self._prefill(self._prefixes, jobs)
            longest = max(len(answer.request.ids) for answer in fresh)
            num_new = sum(answer.session is None for answer in fresh)
            self._slots.reserve(row_bucket(len(self._sessions) + num_new), longest)
        for answer in fresh:
            self._begin(answer)
        jobs = [(_session(answer).slot, answer.request.ids[len(_session(answer).held) :]) for answer in answers]
        for answer, (_, ids) in zip(answers, jobs, strict=True):
            answer.computed = len(ids)
            _session(answer).held = list(answer.request.ids)
        whole = self._slots.decoder is not None and not _layers(self._answering)
        most = self._prefill_tokens if whole else min(MOST_TOLD, self._prefill_tokens)
        little = sum(len(ids) for _, ids in jobs) <= most
        if little and self._slots.kernel is not None and not self.model.is_recurrent:
            return [_Told(answer, slot, ids) for answer, (slot, ids) in zip(answers, jobs, strict=True)]
        self._prefill(self._slots, jobs, list(answers))
        return []

    def _resume(self, answer: _Answer) -> bool:
        """Go on from what the session holds of this prompt; False where it holds nothing of use."""
        session = self._sessions.get(answer.request.session)
        if session is None:
            return False
        answer.session = session
        common = min(common_length(session.held, answer.request.ids), len(answer.request.ids) - 1)
        if common and self._slots.cut(session.slot, common):
            session.held = session.held[:common]
            return True
        session.held = []
        return False

    def _begin(self, answer: _Answer) -> None:
        """Give the answer's session a slot, and what a stored prefix has of its prompt."""
        session = answer.session
        if session is None:
            taken = {other.slot for other in self._sessions.values()}
            slot = next(place for place in range(len(taken) + 1) if place not in taken)
            session = self._sessions[answer.request.session] = _Session(slot)
            answer.session = session
        self._slots.reserve(row_bucket(session.slot + 1), 0)
        self._slots.clear(session.slot)
        session.held = list(self._stored.copy(answer.request.ids, self._slots, session.slot))

    def _prefill(
        self, slots: Slots, jobs: Sequence[tuple[int, Sequence[int]]], answers: Sequence[_Answer] | None = None
    ) -> None:
        """Compute each job's ids in its slot; with `answers`, sample their first tokens."""
        left = [Job(slot, ids, place) for place, (slot, ids) in enumerate(jobs)]
        layers = _layers(answers or ())
        while left:
            if slots.decoder is not None and not layers:  # it gives no layer's
                batch, left = filled(left, self._prefill_tokens)
                hidden, features, ends = self._run_stream(slots, batch, layers)
            else:
                batch, left = alike(left, self._prefill_tokens)
                hidden, features, ends = self._run_batch(slots, batch, layers)
            unfinished = {job.place for job in left}
            done = [row for row, job in enumerate(batch) if job.place not in unfinished]
            if answers is not None and done:
                drawing = [answers[batch[row].place] for row in done]
                self._draw(drawing, hidden, features, layers, [ends[row] for row in done])

    def _run_batch(
        self, slots: Slots, batch: Sequence[Job], layers: Sequence[int]
    ) -> tuple[Tensor, list[Tensor], list[int]]:
        """A pass of torch over jobs of like length, a row each; also where each job ends in what it gives."""
        width = max(width_bucket(len(job.ids)) for job in batch)
        filler = row_bucket(len(batch)) - len(batch)
        rows = [*(job.slot for job in batch), *[slots.scratch] * filler]
        pieces = [*(job.ids for job in batch), *([] for _ in range(filler))]
        hidden, features = self._run_grid(slots, rows, pieces, width, layers)
        return hidden, features, [row * width + len(job.ids) - 1 for row, job in enumerate(batch)]

    def _run_stream(
        self, slots: Slots, jobs: Sequence[Job], layers: Sequence[int], sampled: int = 0
    ) -> tuple[Tensor, list[Tensor], list[int]]:
        """A pass of the kernel over jobs one behind another, `sampled` of whose tokens were; also where each job
        ends."""
        ids = [token for job in jobs for token in job.ids]
        size = row_bucket(len(ids))
        mixer = Stream(slots, [(job.slot, len(job.ids)) for job in jobs], size)
        padded = torch.tensor([*ids, *[0] * (size - len(ids))])
        drawn = len(jobs) if slots is self._slots else 0
        hidden, features = self._run(padded, mixer, layers, drawn, len(ids) - sampled)
        return hidden, features, [end - 1 for end in itertools.accumulate(len(job.ids) for job in jobs)]

    # Tokens.

    def _stream(self, answers: Sequence[_Answer], told: Sequence[_Told]) -> None:
        """One pass of the kernel over the last token of each answer and what new ones are told; each draws the next."""
        for answer in answers:
            _session(answer).held.append(answer.sampled[-1])
        own = [_Told(answer, _session(answer).slot, answer.sampled[-1:]) for answer in answers]
        both = sorted((*own, *told), key=lambda job: job.slot)
        jobs = [Job(job.slot, job.ids, place) for place, job in enumerate(both)]
        layers = _layers([job.answer for job in both])
        hidden, features, ends = self._run_stream(self._slots, jobs, layers, sampled=len(own))
        self._draw([job.answer for job in both], hidden, features, layers, ends)

    def _decode(self, answers: Sequence[_Answer]) -> None:
        """The same for one token each, by torch, which reads keys in place only where they lie at the beginning."""
        num_rows = row_bucket(len(answers))
        self._slots.reserve(num_rows, 0)
        self._gather([_session(answer) for answer in answers], num_rows)
        by_slot = {_session(answer).slot: answer for answer in answers}
        pieces: list[list[int]] = [[] for _ in range(num_rows)]
        for slot, answer in by_slot.items():
            pieces[slot] = [answer.sampled[-1]]
            _session(answer).held.append(answer.sampled[-1])
        layers = _layers(answers)
        hidden, features = self._run_grid(self._slots, range(num_rows), pieces, 1, layers)
        rows = sorted(by_slot)
        self._draw([by_slot[row] for row in rows], hidden, features, layers, rows)

    def _gather(self, sessions: Sequence[_Session], num_rows: int) -> None:
        """See that the answering sessions lie in the first `num_rows` slots."""
        answering = {session.slot for session in sessions}
        holders = {session.slot: session for session in self._sessions.values()}
        free = iter([slot for slot in range(num_rows) if slot not in answering])
        for session in sorted(sessions, key=lambda session: session.slot):
            if session.slot >= num_rows:
                slot = next(free)
                self._slots.swap(slot, session.slot)
                if slot in holders:
                    holders[slot].slot = session.slot
                session.slot = slot

    def _run_grid(
        self, slots: Slots, rows: Sequence[int], pieces: Sequence[Sequence[int]], width: int, layers: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        ids = torch.tensor([[*piece, *[0] * (width - len(piece))] for piece in pieces], device=self.model.device)
        grid = Grid(slots, rows, [len(piece) for piece in pieces], width)
        computed = sum(map(bool, pieces))
        prompts = 0 if width == 1 else sum(map(len, pieces))
        return self._run(ids.view(-1), grid, layers, computed if width == 1 else 0, prompts)

    def _run(
        self, ids: Tensor, mixer: Grid | Stream, layers: Sequence[int], drawn: int, prompts: int
    ) -> tuple[Tensor, list[Tensor]]:
        """A pass; `drawn` of its tokens are followed by a sampled one, and `prompts` were told, not sampled."""
        began = time.perf_counter()
        hidden, features = mixer.hidden_states(ids, layers)
        spent = time.perf_counter() - began
        kind = (ids.numel(), mixer.num_pairs.bit_length())  # as many tokens, and about as much to see
        if self.model.device.type == "cpu" and self._pace.is_lost(kind, spent):
            self.lost_pace = True
            torch.set_num_threads(1)  # of the thread that ticks
        num_tokens = mixer.num_tokens
        used = self.shape.forward(num_tokens, mixer.num_pairs, drawn, mixer.num_kept, mixer.num_jobs)
        if self._phase == "decode":  # the time of a shared pass is divided by tokens
            share = prompts / max(num_tokens, 1)
            told = replace(used * share, seconds=spent * share, passes=0)
            self._used["prefill"] += told
            self._used["decode"] += used - told
        else:
            self._used["prefill"] += used
        mixer.advance()
        self.num_computed += num_tokens
        return hidden, features

    def _draw(
        self,
        answers: Sequence[_Answer],
        hidden: Tensor,
        features: Sequence[Tensor],
        layers: Sequence[int],
        rows: Sequence[int],
    ) -> None:
        """Sample a token for each answer, from the hidden state in its row; `features` are of `layers`."""
        padded = [*rows, *[0] * (row_bucket(len(rows)) - len(rows))]  # shapes stay few
        logits = F.linear(hidden[padded], self.model.head)[: len(rows)]
        uniforms = [answer.rng.random() for answer in answers]
        tokens, logprobs = draw(logits, [answer.request.params for answer in answers], uniforms)
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            answer.sampled.append(tokens[place])
            answer.logprobs.append(logprobs[place])
            if answer.request.feature_layers:
                wanted = [features[layers.index(layer)][row] for layer in answer.request.feature_layers]
                answer.features.append(torch.stack(wanted))
        self.num_sampled += len(answers)


def _key(answer: _Answer) -> str:
    return answer.request.session


def _session(answer: _Answer) -> _Session:
    assert answer.session is not None, "answers are given a session when they are taken in"
    return answer.session


def _layers(answers: Sequence[_Answer]) -> list[int]:
    return sorted({layer for answer in answers for layer in answer.request.feature_layers})
