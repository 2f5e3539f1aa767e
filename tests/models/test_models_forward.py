"""Hugging Face's own forward pass is the reference: for packed sequences, and for slots that are gone on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import FAMILIES, Family, tiny_model
from torch import Tensor

from banty.models.forward import hidden_states
from banty.models.loading import LanguageModel, LoraSpec
from banty.models.native.compiled import SWITCH
from banty.models.packed import Packed
from banty.models.slots import Grid, Slots
from banty.models.tree import TokenTree, token_tree

TOLERANCE = 1e-4


@pytest.fixture(autouse=True, params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with the compiled kernels, where there is a compiler, and without."""
    if request.param == "torch":
        monkeypatch.setenv(SWITCH, "0")


def sequences(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 300, size=length).tolist() for length in lengths]


@torch.no_grad()
def reference(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """Logits [T, vocabulary] of one sequence alone."""
    logits: Tensor = model.module(torch.tensor([ids])).logits[0].float()
    return logits


def logits(model: LanguageModel, hidden: Tensor) -> Tensor:
    return (hidden @ model.head.T).float()


CPU = torch.device("cpu")
NEVER = 1 << 30


def tree_of(batch: Sequence[Sequence[int]], least_saved: int = NEVER) -> TokenTree:
    return token_tree([np.array(ids) for ids in batch], least_saved)


def through_tree(model: LanguageModel, tree: TokenTree, num_padding: int = 0, **options: Any) -> list[Tensor]:
    """The logits of each sequence of a tree."""
    stream = torch.tensor([*tree.ids, *[0] * num_padding])
    hidden, _ = hidden_states(model, stream, Packed(tree, CPU, num_padding), **options)
    return [logits(model, hidden)[places] for places in tree.places]


@torch.no_grad()
def packed(model: LanguageModel, batch: Sequence[Sequence[int]], **options: Any) -> list[Tensor]:
    return through_tree(model, tree_of(batch), **options)


@torch.no_grad()
def through_slots(
    model: LanguageModel, slots: Slots, pieces: dict[int, Sequence[int]], width: int
) -> dict[int, Tensor]:
    """Run each slot's next tokens; the logits of each slot's real tokens."""
    rows, counts = list(pieces), [len(ids) for ids in pieces.values()]
    slots.reserve(max(rows) + 1, 0)
    padded = [[*ids, *[0] * (width - len(ids))] for ids in pieces.values()]
    grid = Grid(slots, rows, counts, width)
    hidden, _ = hidden_states(model, torch.tensor(padded).reshape(-1), grid)
    grid.advance()
    each = logits(model, hidden).view(len(rows), width, -1)
    return {row: each[place, : counts[place]] for place, row in enumerate(rows)}


@pytest.mark.parametrize("family", [*FAMILIES, "qwen3_moe", "qwen3_5_moe"])
def test_packed_sequences_give_what_each_gives_alone(family: Family) -> None:
    model = tiny_model(family)
    batch = sequences(70, 1, 5, 130, 64)
    for ids, found in zip(batch, packed(model, batch), strict=True):
        assert torch.allclose(found, reference(model, ids), atol=TOLERANCE)


def random_tree(seed: int) -> list[list[int]]:
    """Sequences that branch at random places: some end where others go on, some are the same."""
    rng = np.random.default_rng(seed)
    grown = [rng.integers(0, 300, size=rng.integers(1, 60)).tolist()]
    for _ in range(int(rng.integers(3, 9))):
        parent = grown[rng.integers(len(grown))]
        kept = parent[: rng.integers(0, len(parent) + 1)]
        grown.append([*kept, *rng.integers(0, 300, size=rng.integers(1, 70)).tolist()])
    return [*grown, grown[-1]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("num_padding", "block"), [(0, 256), (13, 16)])
def test_a_shared_beginning_is_computed_once_and_changes_nothing(
    family: Family, num_padding: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branches of several lengths, single tokens, and beginnings that are no multiple of a recurrent layer's chunk."""
    monkeypatch.setattr("banty.models.treeattention.QUERY_BLOCK", block)
    model = tiny_model(family)
    shared, middle, *tails = sequences(75, 30, 70, 1, 5, 130, 64, 1)
    batch = [[*shared, *tail] for tail in tails[:3]] + [[*shared, *middle, *tail] for tail in tails[3:]]
    tree = tree_of(batch, 16)
    assert len(tree.ids) == 75 + 30 + sum(map(len, tails))
    with torch.no_grad():
        for ids, found in zip(batch, through_tree(model, tree, num_padding), strict=True):
            # A recurrent rule goes by chunks, which begin elsewhere behind a shared beginning.
            assert torch.allclose(found, reference(model, ids), atol=3 * TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scores", [1 << 22, 1 << 10])
def test_gradients_over_a_random_tree_are_those_of_whole_sequences(
    family: Family, seed: int, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("banty.models.treeattention.MOST_SCORES", scores)
    monkeypatch.setattr("banty.models.treeattention.QUERY_BLOCK", 32)
    batch = random_tree(seed)
    found, wanted = tiny_model(family), tiny_model(family)
    tree = tree_of(batch, int(np.random.default_rng(seed).choice([1, 8, 30])))
    assert len(tree.ids) < tree.num_flat

    def objective(pieces: Sequence[Tensor]) -> Tensor:
        return torch.stack([(place + 1) * piece.logsumexp(-1).sum() for place, piece in enumerate(pieces)]).sum()

    objective(through_tree(found, tree, num_padding=7)).backward()
    objective([wanted.module(torch.tensor([ids])).logits[0] for ids in batch]).backward()
    size = max(float(value.grad.abs().max()) for value in wanted.trainable().values() if value.grad is not None)
    for name, value in wanted.trainable().items():
        other = found.trainable()[name].grad
        assert value.grad is not None
        assert other is not None
        # A recurrent rule goes by chunks, which begin elsewhere behind a branch.
        assert float((other - value.grad).abs().max()) <= (1e-5 if family == "qwen3" else 1e-4) * size, name


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
@pytest.mark.parametrize("seed", range(3))
def test_flex_attention_sees_what_the_parts_see(seed: int) -> None:
    """What a GPU uses, here as plain operations."""
    from torch.nn.attention.flex_attention import flex_attention

    tree = tree_of(random_tree(seed), 8)
    mixer = Packed(tree, CPU, 9)
    size = len(tree.ids) + 9
    draws = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(size, heads, 16, generator=draws) for heads in (4, 2, 2))
    with torch.no_grad():  # torch has no gradient of it on a CPU
        found, wanted = mixer.flex(flex_attention, query, key, value, 0.25), mixer.attend(0, query, key, value, 0.25)
    assert torch.allclose(found[:-9], wanted[:-9], atol=1e-5)
    assert found.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_leak_between_packed_sequences_would_be_seen(family: Family) -> None:
    """The same two sequences run as one: what the test above would say if attention or state were not reset."""
    model = tiny_model(family)
    first, second = sequences(40, 30)
    leaking = packed(model, [first + second])[0][40:]
    assert (leaking - reference(model, second)).abs().max() > 100 * TOLERANCE


def test_a_recurrent_state_that_is_not_reset_would_be_seen() -> None:
    """Attention reset, positions restarted, but the recurrent layers run over the joined stream."""

    class Leaky(Packed):
        def recur(self, layer: int, module: object, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
            return Packed(tree_of([batch[0] + batch[1]]), CPU).recur(layer, module, mixed, write, decay)

    model = tiny_model("qwen3_5")
    batch = sequences(40, 30)
    stream = torch.tensor(batch[0] + batch[1])
    with torch.no_grad():
        hidden, _ = hidden_states(model, stream, Leaky(tree_of(batch), CPU))
    assert (logits(model, hidden)[40:] - reference(model, batch[1])).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_slots_go_on_from_what_they_hold(family: Family) -> None:
    """Prefill in ragged pieces, single tokens, rows that rest, and a slot that begins again."""
    model = tiny_model(family)
    slots = Slots(model)
    one, two, three = sequences(100, 90, 80)
    expected = {0: reference(model, one), 1: reference(model, two), 2: reference(model, three)}
    done = {0: 0, 1: 0, 2: 0}

    def step(counts: dict[int, int], width: int) -> None:
        ids = {0: one, 1: two, 2: three}
        found = through_slots(
            model, slots, {row: ids[row][done[row] : done[row] + count] for row, count in counts.items()}, width
        )
        for row, count in counts.items():
            wanted = expected[row][done[row] : done[row] + count]
            # a recurrent state that went token by token differs in the last digits from one that went by chunks
            assert torch.allclose(found[row], wanted, atol=3 * TOLERANCE), (family, row, done[row], count)
            done[row] += count

    step({0: 20, 1: 7}, 32)
    step({2: 33, 1: 1}, 48)
    for _ in range(5):
        step({0: 1, 1: 1, 2: 1}, 1)
    step({0: 1, 1: 0, 2: 1}, 1)  # a row that rests
    step({0: 60, 1: 70, 2: 40}, 80)
    slots.clear(1)
    done[1] = 0
    step({1: 90}, 96)
    assert slots.lengths[:3] == [done[0], done[1], done[2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copied_slot_and_swapped_slots_go_on_alike(family: Family) -> None:
    model = tiny_model(family)
    prefix, tail, other = sequences(45, 10, 20)
    shared, live = Slots(model), Slots(model)
    through_slots(model, shared, {0: prefix}, 48)
    through_slots(model, live, {0: other}, 32)
    live.copy(shared, 0, 1)
    live.swap(0, 1)
    found = through_slots(model, live, {0: tail, 1: tail}, 16)
    assert torch.allclose(found[0], reference(model, prefix + tail)[45:], atol=TOLERANCE)
    assert torch.allclose(found[1], reference(model, other + tail)[20:], atol=TOLERANCE)


def test_a_slot_of_an_attention_model_can_be_cut_and_a_recurrent_one_says_it_cannot() -> None:
    first, other = sequences(30, 12)
    model = tiny_model("qwen3")
    slots = Slots(model)
    through_slots(model, slots, {0: first}, 32)
    assert slots.cut(0, 20)
    found = through_slots(model, slots, {0: other}, 16)
    assert torch.allclose(found[0], reference(model, first[:20] + other)[20:], atol=TOLERANCE)
    recurrent = Slots(tiny_model("qwen3_5"))
    through_slots(tiny_model("qwen3_5"), recurrent, {0: first}, 32)
    assert not recurrent.cut(0, 20)
    assert recurrent.lengths[0] == 30


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_hugging_face_gives(family: Family) -> None:
    model = tiny_model(family)
    (ids,) = sequences(25)
    with torch.no_grad():
        wanted = model.module(torch.tensor([ids]), output_hidden_states=True).hidden_states
        _, found = hidden_states(model, torch.tensor(ids), Packed(tree_of([ids]), CPU), layers=(0, 2, 4))
    for layer, state in zip((0, 2, 4), found, strict=True):
        assert torch.allclose(state, wanted[layer][0], atol=TOLERANCE), layer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_hugging_face(family: Family, recompute: bool) -> None:
    model = tiny_model(family)
    batch = sequences(33, 12)
    for ids in batch:
        model.module(torch.tensor([ids])).logits.logsumexp(-1).sum().backward()
    wanted = {name: value.grad.clone() for name, value in model.trainable().items() if value.grad is not None}
    model.module.zero_grad()
    torch.cat(through_tree(model, tree_of(batch), recompute=recompute)).logsumexp(-1).sum().backward()
    assert wanted
    for name, value in model.trainable().items():
        assert value.grad is not None
        assert torch.allclose(value.grad, wanted[name], rtol=1e-3, atol=1e-4 * float(wanted[name].abs().max())), name


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_takes_part_and_can_be_switched_off(family: Family) -> None:
    model = tiny_model(family, lora=LoraSpec(rank=4))
    (ids,) = sequences(20)
    before = packed(model, [ids])[0]
    assert model.trainable()
    for name, value in model.trainable().items():
        assert "lora_" in name
        with torch.no_grad():
            value.normal_(std=0.2)
    after = packed(model, [ids])[0]
    assert (after - before).abs().max() > 0.01
    assert torch.allclose(after, reference(model, ids), atol=TOLERANCE)
    with model.peft.disable_adapter():
        assert torch.allclose(packed(model, [ids])[0], before, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_stays_near_float32(family: Family) -> None:
    (ids,) = sequences(50)
    exact = tiny_model(family)
    coarse = tiny_model(family, dtype="bfloat16")
    found = packed(coarse, [ids])[0].log_softmax(-1)
    wanted = reference(coarse, ids).log_softmax(-1)
    assert (found - wanted).abs().mean() < 0.05
    assert (found - reference(exact, ids).log_softmax(-1)).abs().mean() < 0.2
