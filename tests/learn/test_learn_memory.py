"""What a training pass holds: the estimate against what a real one is seen to hold, and the refusal's words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.learn.batches_by_hand import sample
from tests.tiny import FAMILIES, Family, tiny_model

from banty.errors import InputError
from banty.learn import learner as learner_module
from banty.learn import memory
from banty.learn.learner import TorchLearner
from banty.learn.memory import available_bytes, check_fits, state_bytes, training_bytes
from banty.models.forward import hidden_states
from banty.models.loading import LanguageModel, LoraSpec, load_model
from banty.models.packed import Packed
from banty.models.tree import token_tree
from banty.records import OptimizerSpec, SupervisedLoss

GIB = 1024**3
PLAIN = OptimizerSpec()


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on host memory is another place than a CPU's."""
    for module in (learner_module, memory):
        monkeypatch.setattr(module, "offloads", lambda spec, device: spec.offload)


def activations(model: LanguageModel, num_tokens: int, recompute: bool = False) -> int:
    """What is estimated for the activations alone."""
    return (
        training_bytes(model, num_tokens, recompute, PLAIN).device - training_bytes(model, 0, recompute, PLAIN).device
    )


@contextmanager
def kept_for_the_gradient(model: LanguageModel) -> Iterator[dict[int, int]]:
    """The bytes of every storage that autograd keeps inside the block, weights left out, by address."""
    weights = {value.untyped_storage().data_ptr() for value in model.module.parameters()}
    held: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # so that no address is given out twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield held


@pytest.mark.parametrize("lora", [None, LoraSpec(2)], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_pass_keeps_at_least_what_is_estimated(family: Family, lora: LoraSpec | None) -> None:
    model = tiny_model(family, lora=lora)
    for num_tokens in (64, 256):
        ids = torch.arange(num_tokens) % 256
        with kept_for_the_gradient(model) as held:
            hidden, _ = hidden_states(model, ids, Packed(token_tree([ids.numpy()]), ids.device))
        estimated, real = activations(model, num_tokens), sum(held.values())
        assert hidden.requires_grad
        assert estimated <= real, "an estimate from below: else a pass that fits would be refused"
        assert real < 6 * estimated, "and not so far below that it is of no use"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LoraSpec(2)], ids=["full", "lora"])
@pytest.mark.parametrize(
    "spec",
    [PLAIN, OptimizerSpec(state="int8"), OptimizerSpec(muon_rate=1e-3), OptimizerSpec(state="int8", muon_rate=1e-3)],
    ids=["adamw", "int8", "muon", "both"],
)
@pytest.mark.parametrize("away", [False, True], ids=["here", "away"])
def test_the_state_of_a_real_update_is_what_is_estimated(
    lora: LoraSpec | None, dtype: str, spec: OptimizerSpec, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, masters beyond the weights, and moments."""
    model = tiny_model("qwen3", dtype=dtype, lora=lora)
    if away:
        spec = dataclasses.replace(spec, offload=True)
        apart(monkeypatch)
    learner = TorchLearner(model, spec)
    learner.forward_backward([sample("a", [(5, 20)])], SupervisedLoss())
    gradients = list(learner.gradients.values())
    learner.optim_step()
    weights = {value.data_ptr() for value in model.trainable().values()}
    masters = [value for value in learner._masters.values() if value.data_ptr() not in weights]
    real = sum(value.nbytes for value in (*gradients, *masters, *learner._optimizer.moments().values()))
    found = training_bytes(model, 0, False, spec)
    assert found == training_bytes(model, 0, True, spec)
    if away:
        assert found == (sum(value.nbytes for value in model.trainable().values()), real)
    else:
        assert found == (real, 0)
        assert state_bytes(model, dataclasses.replace(spec, offload=True)) == (real, 0), "a CPU is the host itself"


def test_8_bits_take_about_a_quarter_of_the_moments_and_offloading_all_but_the_gradient() -> None:
    model = load_model("nano", dtype="bfloat16")
    trained = sum(value.numel() for value in model.trainable().values())
    whole, eight = state_bytes(model, PLAIN), state_bytes(model, OptimizerSpec(state="int8"))
    assert 0.25 < (eight.device - 8 * trained) / (whole.device - 8 * trained) < 0.27
    on_cuda = state_bytes(model, OptimizerSpec(offload=True), torch.device("cuda"))
    assert on_cuda == (2 * trained, whole.device - 4 * trained + 4 * trained)
    assert state_bytes(model, PLAIN, torch.device("cuda")) == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputation_adapters_and_smaller_micro_batches_need_less(family: Family) -> None:
    model, adapted = tiny_model(family), tiny_model(family, lora=LoraSpec(2))
    whole = training_bytes(model, 512, False, PLAIN).device
    assert training_bytes(model, 512, True, PLAIN).device < whole
    assert training_bytes(adapted, 512, False, PLAIN).device < whole
    assert training_bytes(adapted, 0, False, PLAIN).device < training_bytes(model, 0, False, PLAIN).device / 4
    assert activations(model, 512) == 2 * activations(model, 256)
    assert activations(model, 512, recompute=True) < activations(model, 512) / 2
    assert activations(tiny_model(family, dtype="bfloat16"), 512) == activations(model, 512) / 2


def test_what_cannot_fit_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3")
    monkeypatch.setattr(memory, "available_bytes", lambda device: 3 * GIB // 2)
    tokens = 10 * GIB // activations(model, 1)
    needed = training_bytes(model, tokens, False, PLAIN).device / GIB
    words = (
        f"training qwen3 on micro-batches of {tokens} tokens takes at least {needed:.1f} GiB, and 1.5 GiB are free on "
        "cpu; lower learner.micro_batch_tokens, or set learner.recompute, or set optimizer.state=int8, or train an "
        "adapter (policy.lora_rank)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(words)}$"):
        check_fits(model, tokens, False, PLAIN)
    tokens = 10 * GIB // activations(model, 1, recompute=True)
    with pytest.raises(InputError, match=r"takes at least 10\.0 GiB") as refused:
        check_fits(model, tokens, True, PLAIN)
    assert "learner.recompute" not in str(refused.value), "it is set already"
    assert "lower learner.micro_batch_tokens, or set optimizer.state=int8, or train an" in str(refused.value)
    with pytest.raises(InputError, match=r"lower learner\.micro_batch_tokens, or train an adapter"):
        check_fits(model, tokens, True, OptimizerSpec(state="int8", offload=True))


def test_the_last_byte_decides_and_where_nothing_is_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3")
    for recompute in (False, True):
        needed = training_bytes(model, 1000, recompute, PLAIN).device
        monkeypatch.setattr(memory, "available_bytes", lambda device, needed=needed: needed)
        check_fits(model, 1000, recompute, PLAIN)
        monkeypatch.setattr(memory, "available_bytes", lambda device, needed=needed: needed - 1)
        with pytest.raises(InputError, match="takes at least"):
            check_fits(model, 1000, recompute, PLAIN)
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    check_fits(model, 10**15, False, PLAIN)


def test_what_fits_thanks_to_8_bits_or_to_host_memory_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3", dtype="bfloat16")
    specs = {
        "adamw": PLAIN,
        "int8": OptimizerSpec(state="int8"),
        "offload": OptimizerSpec(offload=True),
        "both": OptimizerSpec(state="int8", offload=True),
    }
    apart(monkeypatch)
    needed = {name: training_bytes(model, 64, True, spec) for name, spec in specs.items()}
    assert needed["adamw"].device > needed["int8"].device > needed["offload"].device == needed["both"].device
    assert needed["offload"].host > needed["both"].host > needed["int8"].host == 0
    for fits, refused in (("int8", ("adamw",)), ("both", ("adamw", "int8", "offload"))):
        most = max(needed[fits])
        monkeypatch.setattr(memory, "available_bytes", lambda device, most=most: most)
        check_fits(model, 64, True, specs[fits])
        for name in refused:
            with pytest.raises(InputError, match="optimizer.offload keeps" if name == "offload" else "takes at least"):
                check_fits(model, 64, True, specs[name])


def test_host_memory_that_is_too_small_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3")
    apart(monkeypatch)
    spec = OptimizerSpec(offload=True)
    needed = training_bytes(model, 64, False, spec)
    monkeypatch.setattr(memory, "available_bytes", lambda device: needed.host - 1)
    monkeypatch.setattr(memory, "training_bytes", lambda *given: needed._replace(device=0))
    said = (
        r"optimizer\.offload keeps 0\.0 GiB of qwen3's .* 0\.0 GiB are free there; set optimizer\.state=int8, or train"
    )
    with pytest.raises(InputError, match=said):
        check_fits(model, 64, False, spec)
    with pytest.raises(InputError, match="are free there; train an adapter"):
        check_fits(model, 64, False, dataclasses.replace(spec, state="int8"))


def test_what_is_free_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    texts = {"MemTotal:       8000 kB\nMemFree:  10 kB\nMemAvailable:   4321 kB\nSwapFree: 7 kB\n": 4321 * 1024}
    texts |= {"MemTotal: 8000 kB\n": None, "MemAvailable: lots\n": None}  # type: ignore[dict-item]
    for text, free in texts.items():
        monkeypatch.setattr(Path, "read_text", lambda path, text=text: text)
        assert available_bytes(cpu) == free

    def absent(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert available_bytes(cpu) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert available_bytes(torch.device("cuda")) == 123


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says it in /proc/meminfo")
def test_this_machine_says_what_is_free() -> None:
    free = available_bytes(torch.device("cpu"))
    assert free is not None
    assert 16 * 1024**2 < free < 2**46
