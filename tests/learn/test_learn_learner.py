"""The learner of language models: what must not change its mathematics, and what it keeps on disk."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.learn.batches_by_hand import batch, sample
from tests.tiny import FAMILIES, Family, tiny_folder, tiny_model
from torch import Tensor

from banty.errors import InputError, TrainingStopped
from banty.learn.aggregate import coefficients
from banty.learn.batches import micro_batches, pack
from banty.learn.head import token_logprobs
from banty.learn.learner import TorchLearner
from banty.models.loading import LanguageModel, LoraSpec, load_model
from banty.models.tree import token_tree
from banty.policies.engine import LocalEngine, TokenRequest
from banty.records import AGGREGATIONS, OptimizerSpec, PolicyLoss, SamplingParams, SupervisedLoss, TrainingSample

PLAIN = PolicyLoss()


def learner_of(model: LanguageModel, *, rate: float = 1e-3, **options: Any) -> TorchLearner:
    return TorchLearner(model, OptimizerSpec(learning_rate=rate), **options)


def gradients(
    model: LanguageModel, samples: list[TrainingSample], loss: Any = PLAIN, **options: Any
) -> dict[str, Tensor]:
    learner = learner_of(model, **options)
    learner.forward_backward(samples, loss)
    return dict(learner.gradients)


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float = 2e-5) -> None:
    assert set(found) == set(wanted)
    size = max(float(value.abs().max()) for value in wanted.values())
    assert size > 0
    for name, value in wanted.items():
        assert float((found[name] - value).abs().max()) <= tolerance * size, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch_tokens": 90},
        {"micro_batch_tokens": 130},
        {"recompute": True},
        {"chunk_logits": 320 * 7},
        {"micro_batch_tokens": 100, "recompute": True, "chunk_logits": 320},
    ],
    ids=str,
)
def test_micro_batches_recomputation_and_a_chunked_head_change_nothing(family: Family, options: dict[str, Any]) -> None:
    for loss in (PLAIN, PolicyLoss(aggregation="turn", ratio_level="sequence"), SupervisedLoss(aggregation="sequence")):
        whole = gradients(tiny_model(family), batch(), loss)
        assert_same(gradients(tiny_model(family), batch(), loss, **options), whole)


def same_start() -> list[TrainingSample]:
    """The samples of `batch` behind one prompt of 40 tokens; the first one's answer begins right behind it."""
    prompt = np.arange(40, dtype=np.int32)
    behind = []
    for one in [sample("z", [(0, 7), (3, 4)]), *batch()]:
        grown: dict[str, Any] = {
            name: np.concatenate([np.full(40, fill, dtype=getattr(one, name).dtype), getattr(one, name)])
            for name, fill in (
                ("mask", 0),
                ("turn_ids", -1),
                ("sampler_logprobs", 0),
                ("advantages", 0),
                ("weights", 0),
            )
        }
        behind.append(dataclasses.replace(one, token_ids=np.concatenate([prompt, one.token_ids]), **grown))
    return behind


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_samples_share_is_computed_once_and_changes_nothing(family: Family) -> None:
    samples = same_start()
    loss = SupervisedLoss(aggregation="constant", constant_tokens=9)
    alone = learner_of(tiny_model(family))
    losses = [alone.forward_backward([one], loss)["loss"] for one in samples]
    together = learner_of(tiny_model(family))
    metrics = together.forward_backward(samples, loss)
    wanted = {name: value / len(samples) for name, value in alone.gradients.items()}
    assert_same(together.gradients, wanted, 1e-4 if family == "qwen3_5" else 2e-5)  # its rule goes by chunks
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["passed_tokens"] == sum(len(one.token_ids) for one in samples) - 40 * (len(samples) - 1)
    single = [learner_of(tiny_model(family)).logprobs([one])[0] for one in samples]
    for one, other in zip(learner_of(tiny_model(family)).logprobs(samples), single, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_beginning_is_shared_only_where_that_saves_enough() -> None:
    """A branch makes smaller products: sixteen tokens of two samples are not worth one."""

    def passed(num_shared: int, count: int) -> int:
        prompt = np.arange(num_shared, dtype=np.int32)
        rng = np.random.default_rng(0)
        ids = [np.concatenate([prompt, [place], rng.integers(0, 300, 99)]).astype(np.int32) for place in range(count)]
        made = [sample(str(place), [(num_shared, 1), (99, 0)]) for place in range(count)]
        same = [dataclasses.replace(one, token_ids=of) for one, of in zip(made, ids, strict=True)]
        return pack(same, torch.device("cpu")).num_tokens

    assert passed(16, 2) == 2 * 116
    assert passed(64, 2) == 64 + 2 * 100
    assert passed(16, 8) == 16 + 8 * 100


def test_what_is_trained_and_shared_counts_for_each() -> None:
    """Two samples alike in all but their end, and two that are the same."""
    first = sample("a", [(70, 20)])
    other = dataclasses.replace(first, token_ids=np.where(np.arange(90) < 85, first.token_ids, 7).astype(np.int32))
    for samples, unique in (([first, other], 85 + 2 * 5), ([first, first], 90)):
        learner = learner_of(tiny_model("qwen3"))
        metrics = learner.forward_backward(samples, SupervisedLoss())
        assert metrics["tokens"] == 40
        assert (metrics["passed_tokens"], metrics["flat_tokens"]) == (unique, 180)
        parts = [gradients(tiny_model("qwen3"), [one], SupervisedLoss()) for one in samples]
        assert_same(learner.gradients, {name: (value + parts[1][name]) / 2 for name, value in parts[0].items()})


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("frozen", ["", "hidden", "weight"])
def test_the_head_s_own_gradient_is_autograd_s(chunk: int, frozen: str) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 8, dtype=torch.float64), torch.randn(30, 8, dtype=torch.float64)
    targets, temperatures = torch.randint(30, (20,)), torch.rand(20, dtype=torch.float64) + 0.5
    factors = torch.randn(20, dtype=torch.float64)
    found = [tensor.clone().requires_grad_(name != frozen) for name, tensor in (("hidden", hidden), ("weight", weight))]
    logprobs, entropy = token_logprobs(found[0], found[1], targets, temperatures, chunk_logits=30 * chunk)
    (logprobs * factors).sum().backward()
    wanted = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    whole = ((wanted[0] @ wanted[1].T) / temperatures[:, None]).log_softmax(-1)
    (whole.gather(1, targets[:, None])[:, 0] * factors).sum().backward()
    assert torch.allclose(entropy, -(whole.exp() * whole).sum(-1))
    assert not entropy.requires_grad
    for name, one, other in zip(("hidden", "weight"), found, wanted, strict=True):
        if name == frozen:
            assert one.grad is None
        else:
            assert one.grad is not None
            assert other.grad is not None
            assert torch.allclose(one.grad, other.grad)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_gradient_is_that_of_hugging_face_and_autograd_without_packing(family: Family, aggregation: Any) -> None:
    """Each sample alone, padded on the right, full logits, the loss written out again."""
    model = tiny_model(family)
    samples = batch()
    loss = PolicyLoss(aggregation=aggregation, constant_tokens=50.0)
    total = torch.zeros(())
    for one, factors in zip(samples, coefficients(samples, aggregation, 50.0), strict=True):
        padded = torch.tensor([[*one.token_ids.tolist(), 0, 0, 0]])
        logits = model.module(padded).logits[0, : len(one.token_ids)].float() / one.temperature
        places = torch.tensor(np.flatnonzero(one.mask))
        ids = torch.tensor(one.token_ids.astype(np.int64))
        logprobs = logits.log_softmax(-1)[places - 1].gather(1, ids[places, None])[:, 0]
        ratio = (logprobs - torch.tensor(one.sampler_logprobs)[places]).exp()
        advantages = torch.tensor(one.advantages)[places]
        each = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.28))
        total = total + (torch.tensor(factors)[places].float() * each).sum()
    total.backward()
    wanted = {name: value.grad.clone() for name, value in model.trainable().items() if value.grad is not None}
    model.module.zero_grad()
    learner = learner_of(model)
    metrics = learner.forward_backward(samples, loss)
    assert metrics["loss"] == pytest.approx(float(total.detach()), rel=1e-4)
    assert_same(learner.gradients, wanted, 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_without_advantage_are_passed_over_and_still_count(family: Family) -> None:
    dead = sample("dead", [(10, 30)], advantages=[0.0])
    one = gradients(tiny_model(family), [*batch(), dead])
    learner = learner_of(tiny_model(family))
    metrics = learner.forward_backward([*batch(), dead], PLAIN)
    assert metrics["passed_tokens"] == sum(len(item.token_ids) for item in batch())
    assert_same(learner.gradients, one)
    num = sum(int(item.mask.sum()) for item in batch())
    rescaled = {name: value * num / (num + 30) for name, value in gradients(tiny_model(family), batch()).items()}
    assert_same(learner.gradients, rescaled)


def test_gradients_of_several_calls_add_up() -> None:
    learner = learner_of(tiny_model("qwen3"))
    loss = PolicyLoss(aggregation="constant", constant_tokens=10.0)
    learner.forward_backward(batch()[:2], loss)
    learner.forward_backward(batch()[2:], loss)
    whole = gradients(tiny_model("qwen3"), batch()[:2], loss), gradients(tiny_model("qwen3"), batch()[2:], loss)
    assert_same(learner.gradients, {name: whole[0][name] + whole[1][name] for name in whole[0]})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_the_engines_logprobs_are_the_learners(family: Family, dtype: str, tolerance: float) -> None:
    """Over several turns: kept states, shared prefixes, decode against packed training."""
    model = load_model(tiny_folder(family), dtype=dtype)
    if dtype == "bfloat16":  # a real model's logits are some units wide; the tiny one's random ones must not be wider
        with torch.no_grad():
            for value in model.module.parameters():
                value.mul_(0.5)
    engine = LocalEngine(model)
    rng = np.random.default_rng(3)
    shared = rng.integers(0, 300, 40).tolist()

    async def episode(name: str) -> TrainingSample:
        ids, mask, logprobs, turns = list(shared), [False] * 40, [0.0] * 40, [-1] * 40
        for turn in range(3):
            asked = SamplingParams(temperature=0.8, seed=ord(name) + turn)
            got = await engine.generate(TokenRequest(name, tuple(ids), frozenset({7}), asked, 12))
            new = rng.integers(0, 300, 9).tolist()
            ids += [*got.ids, *new]
            mask += [True] * len(got.ids) + [False] * 9
            turns += [turn] * len(got.ids) + [-1] * 9
            logprobs += [*got.logprobs, *[0.0] * 9]
        await engine.release(name)
        return dataclasses.replace(
            sample(name, [(1, len(ids) - 1)]),
            token_ids=np.array(ids, dtype=np.int32),
            mask=np.array(mask),
            turn_ids=np.array(turns, dtype=np.int32),
            sampler_logprobs=np.array(logprobs, dtype=np.float32),
            temperature=0.8,
        )

    async def episodes() -> list[TrainingSample]:
        return list(await asyncio.gather(*(episode(name) for name in "abcd")))

    samples = asyncio.run(episodes())
    for one, found in zip(samples, learner_of(model).logprobs(samples), strict=True):
        assert (found[~one.mask] == 0).all()
        difference = np.abs(found - one.sampler_logprobs)[one.mask]
        assert difference.mean() < tolerance / 2
        assert (difference.max() if dtype == "float32" else difference.mean()) < tolerance


def test_an_update_is_adamw_on_the_clipped_gradient() -> None:
    learner = TorchLearner(
        tiny_model("qwen3"), OptimizerSpec(learning_rate=1e-2, max_grad_norm=0.5, weight_decay=0.1, warmup_steps=1)
    )
    twin = tiny_model("qwen3")
    reference = torch.optim.AdamW(twin.trainable().values(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(3):
        learner.forward_backward(batch(), PLAIN)
        for name, value in twin.trainable().items():
            value.grad = learner.gradients[name].clone()
        norm = torch.nn.utils.clip_grad_norm_(twin.trainable().values(), 0.5)
        reference.param_groups[0]["lr"] = 5e-3 if step == 0 else 1e-2
        reference.step()
        metrics = learner.optim_step()
        assert metrics["grad_norm"] == pytest.approx(float(norm))
        assert metrics["learning_rate"] == pytest.approx(reference.param_groups[0]["lr"])
        assert not learner.gradients
    for name, value in twin.trainable().items():
        assert torch.allclose(value, learner.model.trainable()[name], atol=1e-6), name
    assert learner.version == 3


def test_matrices_inside_the_layers_step_by_muon_and_the_rest_by_adamw() -> None:
    spec = OptimizerSpec(learning_rate=1e-2, muon_rate=2e-2, max_grad_norm=0.0, warmup_steps=1)
    learner, twin = TorchLearner(tiny_model("qwen3"), spec), tiny_model("qwen3")
    inner = {name for name, value in twin.trainable().items() if value.ndim == 2 and ".layers." in name}
    assert len(inner) == 4 * 7
    muon = torch.optim.Muon([value for name, value in twin.trainable().items() if name in inner], weight_decay=0.0)
    rest = [value for name, value in twin.trainable().items() if name not in inner]
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(3):
        learner.forward_backward(batch(), PLAIN)
        for name, value in twin.trainable().items():
            value.grad = learner.gradients[name].clone()
        for part, rate in ((muon, 2e-2), (adamw, 1e-2)):
            part.param_groups[0]["lr"] = rate / 2 if step == 0 else rate
            part.step()
        assert learner.optim_step()["learning_rate"] == pytest.approx(5e-3 if step == 0 else 1e-2)
    for name, value in twin.trainable().items():
        assert torch.allclose(value, learner.model.trainable()[name], atol=1e-6), name


def test_a_muon_run_goes_on_bit_for_bit_and_is_not_taken_for_adamw_s(tmp_path: Path) -> None:
    spec = OptimizerSpec(learning_rate=1e-3, muon_rate=1e-2)
    learner, resumed = TorchLearner(tiny_model("qwen3"), spec), TorchLearner(tiny_model("qwen3"), spec)
    learner.forward_backward(batch(), PLAIN)
    learner.optim_step()
    learner.save(tmp_path)
    resumed.load(tmp_path)
    for one in (learner, resumed):
        one.forward_backward(batch(), PLAIN)
        one.optim_step()
    for name, value in learner.model.trainable().items():
        assert torch.equal(value, resumed.model.trainable()[name]), name
    with pytest.raises(InputError, match="optimizer state"):
        learner_of(tiny_model("qwen3")).load(tmp_path)


def test_small_updates_of_a_bfloat16_model_are_not_lost() -> None:
    """Each is far below what bfloat16 can add to a weight; the masters keep them."""
    model = tiny_model("qwen3", dtype="bfloat16")
    before = {name: value.detach().clone() for name, value in model.trainable().items()}
    learner = learner_of(model, rate=2e-5)
    for _ in range(60):
        learner.forward_backward(batch(), PLAIN)
        learner.optim_step()
    moved = [float((value != before[name]).float().mean()) for name, value in model.trainable().items()]
    assert np.mean(moved) > 0.02


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4), LoraSpec(rank=64)], ids=["full", "lora", "large lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("state", ["float32", "int8"])
def test_a_loaded_learner_goes_on_bit_for_bit(tmp_path: Path, lora: LoraSpec | None, dtype: str, state: Any) -> None:
    spec = OptimizerSpec(learning_rate=1e-3, state=state)
    learner = TorchLearner(tiny_model("qwen3", dtype=dtype, lora=lora), spec)
    for _ in range(2):
        learner.forward_backward(batch(), PLAIN)
        learner.optim_step()
    learner.save(tmp_path)
    resumed = TorchLearner(tiny_model("qwen3", dtype=dtype, lora=lora), spec)
    resumed.load(tmp_path)
    for one in (learner, resumed):
        one.forward_backward(batch(), PLAIN)
        one.optim_step()
    assert resumed.version == learner.version == 3
    types = {value.dtype for value in load_file(tmp_path / "moments.safetensors").values()}
    assert (torch.int8 in types) == (state == "int8" and lora != LoraSpec(rank=4)), (
        "a small adapter has no tensor for it"
    )
    for name, value in learner.model.trainable().items():
        assert torch.equal(value, resumed.model.trainable()[name]), name
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4)], ids=["full", "lora"])
def test_the_reference_stays_where_training_began(lora: LoraSpec | None) -> None:
    start = learner_of(tiny_model("qwen3")).logprobs(batch())
    learner = learner_of(tiny_model("qwen3", lora=lora), rate=1e-2, keep_reference=True)
    for _ in range(2):
        learner.forward_backward(batch(), PLAIN)
        learner.optim_step()
    moved = learner.logprobs(batch())
    for before, now, after in zip(start, learner.logprobs(batch(), reference=True), moved, strict=True):
        assert np.allclose(now, before, atol=1e-5)
        assert not np.allclose(after, before, atol=1e-3)
    for one, other in zip(moved, learner.logprobs(batch()), strict=True):
        assert np.array_equal(one, other)


def test_a_learner_without_reference_says_so() -> None:
    with pytest.raises(InputError, match="keep_reference"):
        learner_of(tiny_model("qwen3")).logprobs(batch(), reference=True)


def test_features_are_hidden_states_at_places() -> None:
    model = tiny_model("qwen3_5")
    one = batch()[0]
    (found,) = learner_of(model).features([one], layers=[2, 4], positions=[[0, 5]])
    with torch.no_grad():
        states = model.module(torch.tensor([one.token_ids.tolist()]), output_hidden_states=True).hidden_states
    assert found.shape == (2, 2, 32)
    assert np.allclose(found[1], states[4][0, [0, 5]].numpy(), atol=1e-4)


def test_micro_batches_keep_the_budget_and_lose_nobody() -> None:
    lengths = [5, 9, 3, 3, 8, 1, 1, 10]
    rng = np.random.default_rng(0)
    unlike = [rng.integers(0, 300, length) for length in lengths]
    groups = micro_batches(unlike, 10)
    assert sorted(place for group in groups for place in group) == list(range(8))
    assert all(sum(lengths[place] for place in group) <= 10 for group in groups)
    with pytest.raises(InputError, match="micro_batch_tokens"):
        micro_batches([unlike[0], rng.integers(0, 300, 11)], 10)


@given(
    st.lists(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=40), min_size=1, max_size=20),
    st.sampled_from([1, 3, 8]),
)
def test_no_micro_batchs_tree_has_more_tokens_than_the_budget(rows: list[list[int]], least_saved: int) -> None:
    sequences = [np.array([7, *row]) for row in rows]
    for group in micro_batches(sequences, 60, least_saved):
        assert len(token_tree([sequences[place] for place in group], least_saved).ids) <= 60


def test_micro_batches_keep_together_what_begins_alike() -> None:
    """Two groups of four, mixed: prompts of 100 tokens, 20 of each sample's own, room for no more than one group."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 300, 100) for _ in range(2)]
    mixed = [np.concatenate([prompts[place % 2], [place], rng.integers(0, 300, 19)]) for place in range(8)]
    assert sorted(micro_batches(mixed, 380)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert len(micro_batches(mixed, 230, least_saved=1000)) == 8


def test_a_checkpoint_of_another_shape_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    other = learner_of(tiny_model("qwen3", lora=LoraSpec(rank=2)))
    other.save(tmp_path)
    learner = learner_of(tiny_model("qwen3", lora=LoraSpec(rank=4)))
    before = {name: value.detach().clone() for name, value in learner.model.trainable().items()}
    with pytest.raises(InputError, match=r"checkpoint of another model: .*lora_A.* is 2x64 there and 4x64 here"):
        learner.load(tmp_path)
    for name, value in learner.model.trainable().items():
        assert torch.equal(value, before[name])
    (tmp_path / "learner.json").write_text('{"schema_version": 99, "version": 1, "num_updates": 1}')
    with pytest.raises(InputError, match="schema 99"):
        learner.load(tmp_path)
    (tmp_path / "masters.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="does not hold the state of a learner"):
        learner.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 0.0}, "temperature 0"),
        ({"token_ids": np.full(4, 999, dtype=np.int32)}, "token id 999"),
        ({"mask": np.array([True, False, False, True])}, "first token"),
    ],
)
def test_samples_that_cannot_be_trained_on_are_refused(change: dict[str, Any], words: str) -> None:
    one = dataclasses.replace(sample("x", [(3, 1)]), **change)
    with pytest.raises(InputError, match=words):
        learner_of(tiny_model("qwen3")).forward_backward([one], SupervisedLoss())


def test_a_call_that_breaks_off_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_of(tiny_model("qwen3"), micro_batch_tokens=90)
    score, num_scored = learner._score, 0

    def broken(micro_batch: Any) -> Any:
        nonlocal num_scored
        num_scored += 1
        if num_scored == 3:
            raise MemoryError
        return score(micro_batch)

    monkeypatch.setattr(learner, "_score", broken)
    with pytest.raises(MemoryError):
        learner.forward_backward(batch(), PLAIN)
    assert not learner.gradients
    learner.forward_backward(batch(), PLAIN)
    assert_same(learner.gradients, gradients(tiny_model("qwen3"), batch()))


def test_old_logprobs_of_some_samples_only_are_refused() -> None:
    first, *others = batch()
    scored = dataclasses.replace(first, old_logprobs=first.sampler_logprobs)
    with pytest.raises(InputError, match="some samples have old_logprobs and some have none"):
        learner_of(tiny_model("qwen3")).forward_backward([scored, *others], PLAIN)


@pytest.mark.parametrize("damage", ["shape", "missing", "empty"])
def test_an_optimizer_state_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    learner = learner_of(tiny_model("qwen3"))
    learner.forward_backward(batch(), PLAIN)
    learner.optim_step()
    learner.save(tmp_path)
    moments = load_file(tmp_path / "moments.safetensors")
    key = next(name for name in moments if name.endswith("exp_avg"))
    if damage == "shape":
        moments[key] = moments[key].flatten()[:2].clone()
    elif damage == "missing":
        del moments[key]
    else:
        moments = {}
    save_file(moments, tmp_path / "moments.safetensors")
    with pytest.raises(InputError, match="optimizer state"):
        learner_of(tiny_model("qwen3")).load(tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_update() -> None:
    learner = learner_of(tiny_model("qwen3"))
    bad = dataclasses.replace(sample("x", [(3, 2)]), advantages=np.array([0, 0, 0, np.inf, 1], dtype=np.float32))
    learner.forward_backward([bad], PLAIN)
    before = {name: value.detach().clone() for name, value in learner.model.trainable().items()}
    with pytest.raises(TrainingStopped, match="nothing was changed"):
        learner.optim_step()
    assert not learner.gradients
    assert all(torch.equal(value, before[name]) for name, value in learner.model.trainable().items())
