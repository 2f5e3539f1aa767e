"""The engine in bfloat16 on the tile unit: alone and in company, behind shared prefixes, on threads, in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from banty.errors import InputError
from banty.models.loading import LanguageModel, load_model
from banty.models.native.decoder import decoder_of
from banty.policies.engine import Generated, LocalEngine, TokenRequest
from banty.records import SamplingParams


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    found = load_model("nano", dtype="bfloat16")
    if decoder_of(found) is None:
        pytest.skip("there is no C compiler here, or no processor with AMX")
    return found


def requests() -> list[TokenRequest]:
    """Two groups on one system prompt of 53 tokens, whose prefixes end within tiles, and strangers; some finish in
    their prompt's pass."""
    rng = np.random.default_rng(5)
    system, one, other = (rng.integers(10, 400, size=size).tolist() for size in (53, 20, 31))
    prompts = [[*system, *one, 9 + k] for k in range(3)] + [[*system, *other, 9 + k] for k in range(3)]
    prompts += [rng.integers(10, 400, size=size).tolist() for size in (1, 17, 70)]
    return [
        TokenRequest(f"s{k}", tuple(ids), frozenset(), SamplingParams(seed=k), 1 if k % 4 == 3 else 12 + k)
        for k, ids in enumerate(prompts)
    ]


def answered(model: LanguageModel, asked: Sequence[TokenRequest], prefill_tokens: int = 4096) -> list[Generated]:
    engine = LocalEngine(model, prefill_tokens=prefill_tokens)

    async def together() -> list[Generated]:
        return list(await asyncio.gather(*(engine.generate(one) for one in asked)))

    return asyncio.run(together())


def drawn(found: Sequence[Generated]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    return [(one.ids, one.logprobs) for one in found]


def test_an_answer_is_the_same_alone_and_in_company_behind_a_shared_prefix(model: LanguageModel) -> None:
    together = drawn(answered(model, requests()))
    assert together == drawn([answered(model, [one])[0] for one in requests()])


def test_an_answer_is_the_same_however_prompts_are_cut_into_passes(model: LanguageModel) -> None:
    assert drawn(answered(model, requests())) == drawn(answered(model, requests(), prefill_tokens=33))


def test_an_answer_is_the_same_on_two_threads(model: LanguageModel) -> None:
    torch.set_num_threads(1)
    one = drawn(answered(model, requests()))
    torch.set_num_threads(2)
    assert one == drawn(answered(model, requests()))


def test_the_weights_are_laid_out_once_for_prompts_and_sampling(model: LanguageModel) -> None:
    engine = LocalEngine(model)
    assert engine._slots.decoder is engine._prefixes.decoder
    before = engine._slots.decoder
    engine.load(1)
    assert engine._slots.decoder is not before
    assert engine._slots.decoder is engine._prefixes.decoder


def test_weights_changed_in_place_are_used_by_each_engine_that_loads_them() -> None:
    """Two engines on one model, as an agent's and a user's: both refuse until told, then both have the new weights."""
    changing = load_model("nano", dtype="bfloat16")
    asked = requests()[0]
    engines = [LocalEngine(changing), LocalEngine(changing)]
    before = [asyncio.run(one.generate(asked)) for one in engines]
    with torch.no_grad():
        for value in changing.layers[0].module.mlp.parameters():  # type: ignore[union-attr]
            value.mul_(1.5)
    changing.num_changes += 1
    for one in engines:
        with pytest.raises(InputError, match="load what the learner publishes"):
            asyncio.run(one.generate(asked))
        one.load(1)
    after = drawn([asyncio.run(one.generate(asked)) for one in engines])
    assert after[0] == after[1] == drawn(answered(changing, [asked]))[0]
    assert after[0] != drawn(before)[0]
