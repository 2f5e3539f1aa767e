"""The local engine against one sequence at a time through Hugging Face's own forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from tests.tiny import FAMILIES, Family, tiny_model

from banty.errors import BudgetExhausted, InputError, PolicyFault
from banty.models.loading import LanguageModel
from banty.models.native.compiled import SWITCH
from banty.policies.engine import Generated, LocalEngine, TokenRequest
from banty.policies.prefixes import shared_prefixes
from banty.policies.sampling import draw
from banty.records import SamplingParams, generator

Result = TypeVar("Result")
STOP = 7


@pytest.fixture(autouse=True, params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with the compiled kernels, where there is a compiler, and without."""
    if request.param == "torch":
        monkeypatch.setenv(SWITCH, "0")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


def request(session: str, ids: Sequence[int], *, max_tokens: int = 7, **params: Any) -> TokenRequest:
    params = {"seed": sum(map(ord, session)), **params}
    return TokenRequest(session, tuple(ids), frozenset({STOP}), SamplingParams(**params), max_tokens)


def prompts(*lengths: int, start: Sequence[int] = ()) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(11)
    return [(*start, *rng.integers(10, 300, size=length).tolist()) for length in lengths]


async def together(engine: LocalEngine, requests: Sequence[TokenRequest]) -> list[Generated]:
    return list(await asyncio.gather(*(engine.generate(one) for one in requests)))


@torch.no_grad()
def expected(model: LanguageModel, one: TokenRequest) -> tuple[list[int], list[float]]:
    """Sampling without any cache: the whole sequence through Hugging Face for every token."""
    rng = generator(one.params.seed or 0, "tokens")
    ids, logprobs = list(one.ids), []
    for _ in range(one.max_tokens):
        logits = model.module(torch.tensor([ids])).logits[0, -1].double() / one.params.temperature
        chances = logits.softmax(-1)
        token = int(torch.searchsorted(chances.cumsum(0), torch.tensor(rng.random(), dtype=torch.float64), right=True))
        ids.append(token)
        logprobs.append(float(chances[token].log()))
        if token in one.stop_ids:
            break
    return ids[len(one.ids) :], logprobs


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_what_a_cacheless_loop_samples(family: Family) -> None:
    model = tiny_model(family)
    requests = [request(f"s{place}", ids) for place, ids in enumerate(prompts(30, 5, 70, 1, 130))]
    for one, got in zip(requests, run(together(LocalEngine(model), requests)), strict=True):
        ids, logprobs = expected(model, one)
        assert list(got.ids) == ids
        assert np.allclose(got.logprobs, logprobs, atol=1e-4)
        assert got.complete == (ids[-1] == STOP)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_does_not_depend_on_who_shares_the_batch(family: Family) -> None:
    model = tiny_model(family)
    requests = [request(f"s{place}", ids, temperature=0.7) for place, ids in enumerate(prompts(20, 33, 8, 50, 41))]
    alone = [run(together(LocalEngine(model), [one]))[0] for one in requests]
    for one, other in zip(alone, run(together(LocalEngine(model), requests)), strict=True):
        assert one.ids == other.ids
        assert np.allclose(one.logprobs, other.logprobs, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_turn_computes_only_what_is_new(family: Family) -> None:
    model = tiny_model(family)
    engine = LocalEngine(model)
    (ids,) = prompts(60)

    async def turns() -> None:
        first = await engine.generate(request("s", ids))
        longer = (*ids, *first.ids, 20, 21, 22)
        second_request = request("s", longer, seed=5)
        second = await engine.generate(second_request)
        assert second.computed == 4  # the last sampled token, which nothing has moved over yet, and three new ones
        assert list(second.ids) == expected(model, second_request)[0]
        await engine.release("s")

    run(turns())


def test_a_rewritten_history_is_computed_again_from_where_it_differs() -> None:
    for family, least in (("qwen3", 40), ("qwen3_5", 0)):
        model = tiny_model(family)  # type: ignore[arg-type]
        engine = LocalEngine(model)
        (ids,) = prompts(60)

        async def turns(engine: LocalEngine = engine, ids: tuple[int, ...] = ids, least: int = least) -> None:
            await engine.generate(request("s", ids))
            rewritten = request("s", (*ids[:40], 9, 9, 9), seed=3)
            second = await engine.generate(rewritten)
            assert second.computed == 43 - least
            assert list(second.ids) == expected(engine.model, rewritten)[0]

        run(turns())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_groups_prefix_is_computed_once(family: Family) -> None:
    """Two groups of four on one system prompt: the system prompt once, each group's own part once."""
    model = tiny_model(family)
    engine = LocalEngine(model)
    (system,) = prompts(80)
    groups = prompts(40, 30, start=system)
    requests = [request(f"{group}{member}", groups[group]) for group in range(2) for member in range(4)]
    got = run(together(engine, requests))
    sampled = sum(len(one.ids) - 1 for one in got)
    # The last token of each prompt is left to every member: from it the first token is drawn.
    assert engine.num_computed - sampled == 80 + (40 - 1) + (30 - 1) + 8
    for one, answer in zip(requests, got, strict=True):
        assert list(answer.ids) == expected(model, one)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_prefixes_than_there_is_room_for_take_nobodys_slot(family: Family) -> None:
    """Seventy groups of two, each with a prefix of its own, on one system prompt that is used again and again."""
    model = tiny_model(family)
    (system,) = prompts(20)
    groups = prompts(*[18] * 70, start=system)
    requests = [request(f"{g:03}-{k}", (*groups[g], 9 + k), max_tokens=1) for g in range(70) for k in range(2)]
    for one, got in zip(requests, run(together(LocalEngine(model), requests)), strict=True):
        with torch.no_grad():
            logprobs = model.module(torch.tensor([one.ids])).logits[0, -1].log_softmax(-1)
        assert got.logprobs[0] == pytest.approx(float(logprobs[got.ids[0]]), abs=1e-4)


def test_room_does_not_grow_with_what_has_passed() -> None:
    engine = LocalEngine(tiny_model("qwen3"))

    async def rounds() -> None:
        for turn in range(12):
            requests = [request(f"{turn}-{place}", ids, max_tokens=2) for place, ids in enumerate(prompts(40, 50, 60))]
            await together(engine, requests)
            for one in requests:
                await engine.release(one.session)

    run(rounds())
    assert engine._slots.num_slots <= 4
    assert engine._prefixes.num_slots <= 4


def test_prompts_that_are_rewritten_take_no_more_room() -> None:
    engine = LocalEngine(tiny_model("qwen3"))

    async def rounds() -> None:
        for turn in range(4):
            await together(engine, [request(f"s{place}", (turn + 10, 20, 30 + place)) for place in range(8)])

    run(rounds())
    assert engine._slots.num_slots == 8


def test_an_engine_goes_on_after_a_loop_that_broke_off() -> None:
    model = tiny_model("qwen3")
    engine = LocalEngine(model)

    async def broken() -> None:
        asking = [asyncio.ensure_future(engine.generate(request(name, range(10, 40), max_tokens=500))) for name in "ab"]
        await asyncio.sleep(0.03)
        assert not any(one.done() for one in asking)
        raise KeyError("somewhere else")

    with pytest.raises(KeyError):
        run(broken())
    engine.load(1)
    again = request("a", range(10, 40))
    assert list(run(engine.generate(again)).ids) == expected(model, again)[0]


def test_a_session_can_be_asked_again_right_after_its_answer_was_cancelled() -> None:
    model = tiny_model("qwen3")
    engine = LocalEngine(model)
    again = request("s", range(10, 40))

    async def story() -> Generated:
        asking = asyncio.ensure_future(engine.generate(request("s", range(10, 40), max_tokens=500)))
        await asyncio.sleep(0.02)
        asking.cancel()
        await engine.release("s")
        return await engine.generate(again)

    assert list(run(story()).ids) == expected(model, again)[0]


def test_weights_that_changed_without_a_word_are_noticed() -> None:
    model = tiny_model("qwen3")
    engine = LocalEngine(model)
    run(engine.generate(request("s", range(10, 20))))
    model.num_changes += 1  # what a learner's update does
    with pytest.raises(InputError, match="load what the learner publishes"):
        run(engine.generate(request("t", range(10, 20))))
    engine.load(1)
    run(engine.generate(request("t", range(10, 20))))


def test_a_model_that_gives_no_distribution_fails_the_answer() -> None:
    model = tiny_model("qwen3")
    with torch.no_grad():
        model.backbone.norm.weight.fill_(float("nan"))
    with pytest.raises(PolicyFault, match="no distribution"):
        run(LocalEngine(model).generate(request("s", range(10, 20))))


def test_shared_prefixes() -> None:
    assert shared_prefixes([(1, 2, 3, 4), (1, 2, 3, 5)], 2) == [(1, 2, 3)]
    assert shared_prefixes([(1, 2, 3, 4), (1, 2, 3, 5)], 4) == []
    assert shared_prefixes([(1, 2, 3), (1, 2, 3)], 1) == [(1, 2)]
    assert shared_prefixes([(1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (1, 2, 8, 9), (7,)], 2) == [(1, 2), (1, 2, 3, 4)]
    assert shared_prefixes([(1, 2, 3)], 1) == []
    assert shared_prefixes([(1, 2), (1, 2, 3, 4), (1, 2, 3, 5)], 1) == [(1,), (1, 2, 3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_sessions_that_end_early_leave_room_for_others(family: Family) -> None:
    """Answers of very different lengths, sessions released and new ones begun, as collect does."""
    model = tiny_model(family)
    engine = LocalEngine(model)
    requests = [
        request(f"s{place}", ids, max_tokens=1 + 4 * (place % 3)) for place, ids in enumerate(prompts(*range(5, 29, 2)))
    ]
    waiting = iter(requests)
    answers: dict[str, Generated] = {}

    async def work() -> None:
        for one in waiting:
            answers[one.session] = await engine.generate(one)
            await engine.release(one.session)

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(5)))

    run(all_of_them())
    for one in requests:
        assert list(answers[one.session].ids) == expected(model, one)[0]
    assert not engine._sessions


def test_new_weights_forget_what_old_ones_computed() -> None:
    model = tiny_model("qwen3")
    engine = LocalEngine(model)
    (ids,) = prompts(40)
    one = request("s", ids)

    async def turns() -> tuple[Generated, Generated]:
        first = await engine.generate(one)
        with torch.no_grad():
            for value in model.module.parameters():
                value.mul_(1.01)
        engine.load(4)
        return first, await engine.generate(one)

    before, after = run(turns())
    assert (before.version, after.version) == (0, 4)
    assert after.computed == 40
    assert np.allclose(after.logprobs, expected(model, one)[1], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_states_each_token_was_drawn_from(family: Family) -> None:
    model = tiny_model(family)
    (ids,) = prompts(30)
    asked = TokenRequest("s", ids, frozenset({STOP}), SamplingParams(seed=2), 6, feature_layers=(1, 4))
    plain = request("other", prompts(9)[0])
    got, other = run(together(LocalEngine(model), [asked, plain]))
    assert other.features is None
    assert got.features is not None
    with torch.no_grad():
        states = model.module(torch.tensor([[*ids, *got.ids]]), output_hidden_states=True).hidden_states
    for row, layer in enumerate((1, 4)):
        wanted = states[layer][0, len(ids) - 1 : len(ids) - 1 + len(got.ids)].numpy()
        assert np.allclose(got.features[row], wanted, atol=1e-3)


def test_features_are_the_layers_each_session_asked_for_when_prompts_take_several_passes() -> None:
    model = tiny_model("qwen3")
    asked = [
        TokenRequest(f"s{layer}", ids, frozenset({STOP}), SamplingParams(seed=2), 1, feature_layers=(layer,))
        for layer, ids in zip((1, 4), prompts(96, 40), strict=True)
    ]
    for one, got in zip(asked, run(together(LocalEngine(model, prefill_tokens=32), asked)), strict=True):
        with torch.no_grad():
            states = model.module(torch.tensor([one.ids]), output_hidden_states=True).hidden_states
        assert got.features is not None
        assert np.allclose(got.features[0, 0], states[one.feature_layers[0]][0, -1].numpy(), atol=1e-3)


def test_long_prompts_go_through_in_pieces() -> None:
    model = tiny_model("qwen3_5")
    requests = [request(f"s{place}", ids, max_tokens=3) for place, ids in enumerate(prompts(100, 40, 7))]
    got = run(together(LocalEngine(model, prefill_tokens=32), requests))
    for one, answer in zip(requests, got, strict=True):
        assert list(answer.ids) == expected(model, one)[0]


def test_a_conversation_longer_than_the_positions_is_out_of_budget() -> None:
    model = tiny_model("qwen3")
    model.config.max_position_embeddings = 50
    engine = LocalEngine(model)
    with pytest.raises(BudgetExhausted, match="has 50 tokens; the model takes 50"):
        run(engine.generate(request("s", range(50))))
    got = run(engine.generate(request("t", range(45), max_tokens=100)))
    assert len(got.ids) == 5 or got.complete


def test_wrong_requests_are_refused() -> None:
    engine = LocalEngine(tiny_model("qwen3"))
    for ids in ([], [1, 320], [-1, 2]):
        with pytest.raises(InputError, match="takes ids below 320"):
            run(engine.generate(request("s", ids)))
    with pytest.raises(InputError, match="max_tokens is 0"):
        run(engine.generate(request("s", [1], max_tokens=0)))
    for params, words in (
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": 1e-46}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"top_k": -1}, "top_k"),
    ):
        with pytest.raises(InputError, match=words):
            run(engine.generate(request("s", [1, 2], **params)))
    with pytest.raises(InputError, match="0 to 4"):
        run(engine.generate(TokenRequest("s", (1, 2), frozenset(), SamplingParams(), 3, feature_layers=(5,))))

    async def twice() -> None:
        await asyncio.gather(engine.generate(request("s", [1, 2])), engine.generate(request("s", [1, 2])))

    with pytest.raises(InputError, match="while it is giving one"):
        run(twice())


def test_a_tick_that_fails_fails_its_answers_and_no_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(tiny_model("qwen3"))
    whole = engine._run

    def broken(*everything: object) -> None:
        raise RuntimeError("out of memory")

    async def story() -> None:
        monkeypatch.setattr(engine, "_run", broken)
        results = await asyncio.gather(
            *(engine.generate(request(name, range(10, 30))) for name in "abcde"), return_exceptions=True
        )
        assert [str(result) for result in results] == ["out of memory"] * 5
        monkeypatch.setattr(engine, "_run", whole)
        for again in (request(name, range(10, 30)) for name in "aecdb"):
            assert list((await engine.generate(again)).ids) == expected(engine.model, again)[0]
        engine.load(1)
        for again in (request(name, range(10, 30)) for name in "eabcd"):
            assert list((await engine.generate(again)).ids) == expected(engine.model, again)[0]

    run(story())


def test_a_cancelled_answer_leaves_the_others_alone() -> None:
    model = tiny_model("qwen3")
    engine = LocalEngine(model)
    kept = request("kept", prompts(20)[0], max_tokens=30)

    async def story() -> Generated:
        leaving = asyncio.ensure_future(engine.generate(request("leaving", prompts(25)[0], max_tokens=1000)))
        staying = asyncio.ensure_future(engine.generate(kept))
        await asyncio.sleep(0.02)
        leaving.cancel()
        await engine.release("leaving")
        return await staying

    assert list(run(story()).ids) == expected(model, kept)[0]
    assert set(engine._sessions) == {"kept"}


def test_drawing_follows_the_distribution_and_reports_the_filtered_logprob() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    full = logits[0].softmax(-1)
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    rows = logits.expand(4000, -1)

    def counted(**params: Any) -> tuple[torch.Tensor, dict[int, float]]:
        tokens, logprobs = draw(rows.clone(), [SamplingParams(**params)] * 4000, grid.tolist())
        return torch.bincount(torch.tensor(tokens), minlength=4) / 4000, dict(zip(tokens, logprobs, strict=True))

    shares, logprobs = counted()
    assert torch.allclose(shares, full, atol=1e-3)
    assert logprobs[2] == pytest.approx(float(full[2].log()))
    shares, logprobs = counted(temperature=0.5)
    assert torch.allclose(shares, (logits[0] / 0.5).softmax(-1), atol=1e-3)
    shares, logprobs = counted(top_k=2)
    assert torch.allclose(shares, torch.tensor([full[0], full[1], 0, 0]) / (full[0] + full[1]), atol=1e-3)
    assert logprobs[1] == pytest.approx(float((full[1] / (full[0] + full[1])).log()), rel=1e-5)
    shares, _ = counted(top_p=0.7)  # the first has 0.64: the second crosses the line, and stays
    assert shares[2:].sum() == 0
    assert shares[1] > 0.2
    shares, _ = counted(min_p=0.3)  # e^-1 is above 0.3, e^-2 below
    assert shares[2:].sum() == 0
    shares, logprobs = counted(temperature=0.0)
    assert shares.tolist() == [1, 0, 0, 0]
    assert logprobs == {0: 0.0}
