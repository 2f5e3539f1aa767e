"""A whole pass in one call against the same pass by single operations: ragged slots, prompts, prefixes, threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from tests.tiny import Family, tiny_module
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from banty.models.forward import hidden_states
from banty.models.loading import LanguageModel, LoraSpec, load_model
from banty.models.native.compiled import KERNELS, use_kernels
from banty.models.native.decoder import decoder_of
from banty.models.slots import Slots, Stream

SHAPES = {  # hidden, inner, heads, key heads, heads' dimension
    "nano's": (64, 96, 4, 2, 64),
    "a key head each": (32, 64, 3, 3, 32),
    "one key head": (96, 32, 4, 1, 128),
    "groups of three": (64, 64, 6, 2, 96),
}
each_shape = pytest.mark.parametrize("shape", SHAPES)


def made(shape: str, dtype: torch.dtype = torch.bfloat16, layers: int = 2) -> LanguageModel:
    torch.manual_seed(3)
    hidden, inner, heads, key_heads, dim = SHAPES[shape]
    config = Qwen3Config(
        vocab_size=97,
        num_hidden_layers=layers,
        max_position_embeddings=512,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=dim,
    )
    module: Any = Qwen3ForCausalLM(config)
    module.to(dtype)
    for name, value in module.named_parameters():
        if "norm" in name:
            nn.init.uniform_(value, 0.5, 1.5)
        else:
            nn.init.normal_(value, std=0.2)
    return LanguageModel(module, None, shape)


needs_tiles = pytest.mark.skipif(
    decoder_of(made("nano's")) is None, reason="there is no C compiler here, or no processor with AMX"
)


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    use_kernels(KERNELS)


def computed(model: LanguageModel, slots: Slots, jobs: Sequence[tuple[int, int]], size: int, whole: bool) -> Tensor:
    """What a pass over so many tokens a slot gives, in one call or by single operations."""
    mixer = Stream(slots, jobs, size)
    ids = torch.randint(97, (size,), generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        hidden = (mixer.hidden_states(ids, ()) if whole else hidden_states(model, ids, mixer))[0]
    mixer.advance()
    return hidden[: mixer.num_tokens]


def conversation(model: LanguageModel, whole: bool) -> list[Tensor]:
    """Prompts of many lengths, two of which share a prefix, then tokens one by one and prompts among them."""
    prefixes, slots = Slots(model), Slots(model, 5)
    prefixes.clear(0)
    found = [computed(model, prefixes, [(0, 37)], 40, whole)]
    for slot in range(5):
        slots.clear(slot)
    for slot in (1, 3):
        slots.copy(prefixes, 0, slot)
    passes = [
        ([(0, 70), (1, 5), (2, 1), (3, 21)], 128),
        ([(0, 1), (1, 1), (2, 1), (3, 1)], 4),
        ([(0, 1), (1, 19), (4, 33), (3, 1)], 56),
        ([(0, 1), (1, 1), (3, 1), (4, 1)], 8),
        ([(2, 1)], 1),
    ]
    found += [computed(model, slots, jobs, size, whole) for jobs, size in passes]
    for keys, values in slots.kept_by_layer():
        found += [
            part[slot, :, :length].clone() for part in (keys, values) for slot, length in enumerate(slots.lengths)
        ]
    return found


@needs_tiles
@each_shape
def test_a_pass_in_one_call_is_the_pass_by_single_operations(shape: str) -> None:
    model = made(shape)
    for place, (one, other) in enumerate(zip(conversation(model, True), conversation(model, False), strict=True)):
        assert one.shape == other.shape
        if one.numel():
            scale = float(other.float().abs().max())
            assert float((one.float() - other.float()).abs().max()) < 0.04 * scale, place
            assert float((one.float() - other.float()).abs().mean()) < 0.004 * scale, place


@needs_tiles
@each_shape
def test_results_do_not_depend_on_threads(shape: str) -> None:
    model = made(shape)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(conversation(model, True))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@needs_tiles
def test_it_uses_as_many_threads_as_there_is_space_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch brings an OpenMP of its own, the kernel's knows nothing of torch's setting."""
    model = made("nano's")
    expected = conversation(model, True)
    torch.set_num_threads(4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert all(torch.equal(one, two) for one, two in zip(expected, conversation(model, True), strict=True))


@needs_tiles
@each_shape
def test_a_row_does_not_depend_on_who_shares_the_pass(shape: str) -> None:
    """Alone, among others, in a longer pass, and told token by token instead of as a prompt: the same bits."""
    model = made(shape)

    def last(jobs: list[tuple[int, int]], size: int) -> Tensor:
        slots = Slots(model, 6)
        for slot in range(6):
            slots.clear(slot)
        mixer = Stream(slots, jobs, size)
        ids = torch.zeros(size, dtype=torch.int64)
        ids[: jobs[0][1]] = torch.arange(jobs[0][1])
        with torch.no_grad():
            return mixer.hidden_states(ids, ())[0][jobs[0][1] - 1]

    alone = last([(0, 20)], 20)
    assert torch.equal(alone, last([(0, 20), (3, 9), (5, 40)], 96))
    slots = Slots(model, 1)
    slots.clear(0)
    for token in range(20):
        mixer = Stream(slots, [(0, 1)], 1)
        with torch.no_grad():
            hidden = mixer.hidden_states(torch.tensor([token]), ())[0]
        mixer.advance()
    assert torch.equal(alone, hidden[0])


@needs_tiles
def test_the_library_of_products_is_left_as_it_was() -> None:
    """oneDNN remembers how it configured the tile unit; products before and after a pass are the same."""
    model = made("nano's")
    x, w = torch.randn(64, 64).bfloat16(), torch.randn(64, 64).bfloat16()
    before = x @ w
    for _ in range(3):
        conversation(model, True)
        assert torch.equal(x @ w, before)


@needs_tiles
def test_hidden_states_that_are_asked_for_by_layer_are_given() -> None:
    model = made("nano's")
    slots = Slots(model)
    slots.clear(0)
    mixer = Stream(slots, [(0, 4)], 4)
    with torch.no_grad():
        hidden, seen = mixer.hidden_states(torch.arange(4), (0, 1, 2))
    assert len(seen) == 3
    assert torch.equal(seen[2], hidden)


@needs_tiles
def test_new_slots_have_the_weights_as_they_are() -> None:
    model = made("nano's")
    before = conversation(model, True)[0]
    with torch.no_grad():
        model.layers[0].module.mlp.up_proj.weight.mul_(1.5)  # type: ignore[union-attr,operator]
    assert not torch.equal(before, conversation(model, True)[0])


@pytest.mark.parametrize("family", ["qwen3_moe", "qwen3_5", "qwen3_5_moe"])
def test_other_families_are_left_to_single_operations(family: Family) -> None:
    module = tiny_module(family, hidden=64).to(torch.bfloat16)
    assert decoder_of(LanguageModel(module, None, family)) is None


def test_what_it_does_not_compute_is_left_to_single_operations() -> None:
    biased = made("nano's")
    biased.layers[1].module.self_attn.q_proj.bias = nn.Parameter(torch.zeros(256).bfloat16())  # type: ignore[union-attr]
    assert decoder_of(biased) is None
    assert decoder_of(made("nano's", torch.float32)) is None
    assert decoder_of(load_model("nano", dtype="bfloat16", lora=LoraSpec(4))) is None
    use_kernels(())
    assert decoder_of(made("nano's")) is None
