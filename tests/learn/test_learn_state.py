"""Optimizer states as options: moments in 8 bits, masters and moments away from the weights, an adapter alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.learn.batches_by_hand import batch
from tests.tiny import tiny_model
from torch import Tensor
from torch.overrides import TorchFunctionMode

from banty.errors import InputError, TrainingStopped
from banty.learn import learner as learner_module
from banty.learn.learner import TorchLearner
from banty.learn.masters import HOST, add_gradient, master_of, offloads, write_back
from banty.learn.optimizer import Optimizer
from banty.models.loading import LanguageModel, LoraSpec
from banty.policies.token import TokenPolicy
from banty.records import OptimizerSpec, PolicyLoss

LOSS = PolicyLoss()


def trained(model: LanguageModel, num_updates: int = 3, **spec: Any) -> TorchLearner:
    learner = TorchLearner(model, OptimizerSpec(**{"learning_rate": 1e-3, **spec}))
    for _ in range(num_updates):
        learner.forward_backward(batch(), LOSS)
        learner.optim_step()
    return learner


def weights(learner: TorchLearner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.model.trainable().items()}


def assert_equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


# Moments in 8 bits.


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=64)], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "more", [{}, {"muon_rate": 1e-3}, {"warmup_steps": 1, "decay_steps": 9, "max_grad_norm": 1e-3}]
)
def test_training_with_8_bits_is_the_same_each_time_and_near_float32(
    lora: LoraSpec | None, dtype: str, more: dict[str, Any]
) -> None:
    start = weights(TorchLearner(tiny_model("qwen3", dtype=dtype, lora=lora), OptimizerSpec()))
    eight, again = (
        weights(trained(tiny_model("qwen3", dtype=dtype, lora=lora), state="int8", **more)) for _ in range(2)
    )
    assert_equal(eight, again)
    whole = weights(trained(tiny_model("qwen3", dtype=dtype, lora=lora), **more))
    apart = sum(float((eight[name].float() - whole[name].float()).norm() ** 2) for name in whole) ** 0.5
    moved = sum(float((whole[name].float() - start[name].float()).norm() ** 2) for name in whole) ** 0.5
    assert apart < 0.2 * moved


def test_large_tensors_are_kept_in_8_bits_and_small_ones_and_muon_s_in_float32() -> None:
    learner = trained(tiny_model("qwen3"), state="int8", muon_rate=1e-3)
    moments = learner._optimizer.moments()
    large = {name for name, value in learner.model.trainable().items() if value.numel() >= 4096}
    assert large == {"model.embed_tokens.weight"}
    for key, value in moments.items():
        name, moment = key.rsplit("/", 1)
        narrow = {"exp_avg": torch.int8, "exp_avg_sq": torch.uint8} if name in large else {}
        assert value.dtype == narrow.get(moment, torch.float32), key
    assert any(key.endswith("momentum_buffer") for key in moments)
    assert any(key.endswith("norm.weight/exp_avg") for key in moments)


@pytest.mark.parametrize(("written", "read"), [("float32", "int8"), ("int8", "float32")])
def test_moments_kept_otherwise_are_refused_with_what_to_do(tmp_path: Path, written: str, read: str) -> None:
    trained(tiny_model("qwen3"), state=written).save(tmp_path)
    learner = TorchLearner(tiny_model("qwen3"), OptimizerSpec(state=read))  # type: ignore[arg-type]
    before = weights(learner)
    said = (
        rf"{tmp_path} holds moments in {written}, and this learner keeps them in {read}; go on with .*'{written}', or"
    )
    with pytest.raises(InputError, match=said):
        learner.load(tmp_path)
    assert_equal(weights(learner), before)
    assert not learner._optimizer.moments()


def test_a_gradient_that_is_not_finite_never_reaches_the_moments() -> None:
    learner = trained(tiny_model("qwen3"), state="int8")
    before, kept = weights(learner), {name: value.clone() for name, value in learner._optimizer.moments().items()}
    learner.forward_backward(batch(), LOSS)
    next(iter(learner.gradients.values())).view(-1)[3] = float("nan")
    with pytest.raises(TrainingStopped, match="nothing was changed"):
        learner.optim_step()
    assert_equal(weights(learner), before)
    assert_equal(learner._optimizer.moments(), kept)


# Masters and moments away from the weights.


@pytest.mark.parametrize("spec", [{}, {"state": "int8"}, {"muon_rate": 1e-3}], ids=str)
@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4)], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where_masters_are_changes_no_bit(
    spec: dict[str, Any], lora: LoraSpec | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, where offloading changes nothing at all, and with host memory taken for another place than a CPU's,
    over several micro-batches and a checkpoint."""

    def made(**options: Any) -> TorchLearner:
        model = tiny_model("qwen3", dtype=dtype, lora=lora)
        return TorchLearner(model, OptimizerSpec(learning_rate=1e-3, **spec, **options), micro_batch_tokens=100)

    def updated(learner: TorchLearner, num_updates: int = 2) -> TorchLearner:
        for _ in range(num_updates):
            learner.forward_backward(batch(), LOSS)
            learner.optim_step()
        return learner

    wanted = updated(made(), 3)
    here = updated(made(offload=True), 3)
    assert all((here._masters[name] is value) == (dtype == "float32") for name, value in here._parameters.items())
    monkeypatch.setattr(learner_module, "offloads", lambda spec, device: spec.offload)
    updated(made(offload=True)).save(tmp_path)
    away = made(offload=True)
    away.load(tmp_path)
    for learner in (here, updated(away, 1)):
        assert_equal(weights(learner), weights(wanted))
        assert_equal(learner._optimizer.moments(), wanted._optimizer.moments())


def test_masters_and_gradients_that_are_away_share_nothing_with_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "offloads", lambda spec, device: spec.offload)
    learner = TorchLearner(tiny_model("qwen3"), OptimizerSpec(offload=True))
    seen: list[Tensor] = []  # held, so that no address is given out twice
    for parameter in learner._parameters.values():
        parameter.register_post_accumulate_grad_hook(lambda value: seen.append(value.grad))
    learner.forward_backward(batch(), LOSS)
    assert len(seen) == len(learner._parameters)
    assert not {value.data_ptr() for value in learner.gradients.values()} & {value.data_ptr() for value in seen}
    places = {value.data_ptr() for value in learner._parameters.values()}
    assert not {value.data_ptr() for value in learner._masters.values()} & places
    assert all(value.grad is None for value in learner._parameters.values())
    learner.optim_step()
    assert_equal(weights(learner), {name: value.detach() for name, value in learner._masters.items()})


@pytest.mark.parametrize("muon", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_update_crosses_between_devices_and_never_mixes_them(dtype: torch.dtype, muon: float) -> None:
    """Tensors that hold no numbers, but say which device they are on and refuse to be computed with another's."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    device, spec = torch.device("cuda:0"), OptimizerSpec(offload=True, muon_rate=muon)
    assert offloads(spec, device)
    assert not offloads(spec, HOST)
    assert not offloads(OptimizerSpec(), device)
    copies: list[tuple[Tensor, Tensor]] = []

    class Copied(TorchFunctionMode):
        """A copy to a device asks for its driver, which is not there: it is written down instead."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is Tensor.copy_:
                copies.append(args)
                return args[0]
            return func(*args, **(kwargs or {}))

    with FakeTensorMode(), torch.inference_mode():
        parts = {name: torch.empty(64, 80, device=device, dtype=dtype) for name in ("up", "embed_tokens")}
        masters = {name: master_of(value, True) for name, value in parts.items()}
        gradients: dict[str, Tensor] = {}
        for _ in range(2):
            for name, value in parts.items():
                gradients[name] = add_gradient(gradients.get(name), torch.empty_like(value), True)
        optimizer = Optimizer(spec, masters)
        optimizer.step(gradients, 0.5, 0)
        with Copied():
            write_back(parts, masters)
        with pytest.raises(RuntimeError, match="device"):
            torch.add(masters["up"], parts["up"])
    assert [into for into, _ in copies] == list(parts.values())
    assert {(source.device, source.dtype) for _, source in copies} == {(HOST, dtype)}, "rounded before they travel"
    assert {value.device for value in parts.values()} == {device}
    for held in (masters, gradients, optimizer.moments()):
        assert {(value.device, value.dtype) for value in held.values()} == {(HOST, torch.float32)}


# An adapter alone.


def test_of_an_adapter_run_only_the_adapter_is_written_and_publishing_moves_no_weight(tmp_path: Path) -> None:
    model = tiny_model("qwen3", lora=LoraSpec(rank=2))
    learner, policy = TorchLearner(model, OptimizerSpec(learning_rate=1e-2)), TokenPolicy.of(model, max_tokens=8)
    places = {name: value.data_ptr() for name, value in model.module.named_parameters()}
    base = {name: value.detach().clone() for name, value in model.module.named_parameters() if not value.requires_grad}
    for _ in range(2):
        learner.forward_backward(batch(), LOSS)
        learner.optim_step()
        published = learner.publish()
        policy.load(published)
        assert published.model is policy.engine.model is model
    assert {name: value.data_ptr() for name, value in model.module.named_parameters()} == places
    assert_equal({name: value for name, value in model.module.named_parameters() if name in base}, base)
    learner.save(tmp_path)
    masters, moments = (load_file(tmp_path / f"{name}.safetensors") for name in ("masters", "moments"))
    assert set(masters) == set(model.trainable())
    assert {key.rsplit("/", 1)[0] for key in moments} == set(masters)
    assert all("lora_" in name for name in masters)
    model.save(tmp_path / "weights")
    (file,) = (tmp_path / "weights").rglob("*.safetensors")
    stored = load_file(file)
    assert all("lora_" in name for name in stored)
    assert sum(value.numel() for value in stored.values()) == sum(value.numel() for value in masters.values())
    assert file.stat().st_size < 1.5 * sum(value.nbytes for value in stored.values()) + 8192
