"""The compiled kernels against Hugging Face's modules and torch's attention, and doing without them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

from banty.models.native import compiled, layers
from banty.models.native.attention import Keys, Places, decode_attention

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    compiled.compiled("layers", torch.float32, CPU) is None, reason="there is no C compiler here"
)
DTYPES = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, by the largest number."""
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


class Step:
    """A step of decoding over random slots: rows in no order, some with a prefix elsewhere, some at rest."""

    def __init__(self, dtype: torch.dtype, dim: int, group: int, lengths: list[int], prefixes: list[int]) -> None:
        rows, key_heads, capacity = len(lengths), 2, max(lengths) + 40
        self.query = random(rows, key_heads * group, dim, dtype=dtype, seed=1)
        self.key, self.value = (random(rows, key_heads, dim, dtype=dtype, seed=seed) for seed in (2, 3))
        self.kept: Keys = tuple(random(rows + 2, key_heads, capacity, dim, dtype=dtype, seed=seed) for seed in (4, 5))  # type: ignore[assignment]
        self.prefixes: Keys = tuple(random(3, key_heads, capacity, dim, dtype=dtype, seed=seed) for seed in (6, 7))  # type: ignore[assignment]
        self.slots = [rows - row for row in range(rows)]
        self.lengths, self.prefix_lengths = lengths, prefixes
        self.prefix_slots = [row % 3 for row in range(rows)]
        self.scale = dim**-0.5

    def run(self, group: int) -> Tensor:
        attend = decode_attention(self.query.dtype, CPU, self.query.shape[2], group)
        assert attend is not None
        lists = (self.slots, self.lengths, self.prefix_slots, self.prefix_lengths)
        places: Places = tuple(torch.tensor(one) for one in lists)  # type: ignore[assignment]
        return attend(self.query, self.key, self.value, self.kept, self.prefixes, places, self.scale)

    def expected(self, row: int) -> Tensor:
        slot, length, shared = self.slots[row], self.lengths[row], self.prefix_lengths[row]
        seen = [
            torch.cat(
                (other[self.prefix_slots[row], :, :shared], own[slot, :, shared:length], new[row][:, None]), dim=1
            )
            for other, own, new in zip(self.prefixes, self.kept, (self.key, self.value), strict=True)
        ]
        keys, values = (one.repeat_interleave(self.query.shape[1] // 2, dim=0).float() for one in seen)
        return F.scaled_dot_product_attention(self.query[row, :, None].float(), keys, values, scale=self.scale)[:, 0]


@needs_compiler
@each_dtype
@pytest.mark.parametrize(("dim", "group"), [(16, 1), (32, 4), (64, 2), (128, 8), (256, 3)])
def test_a_step_of_decoding_is_torchs_attention(dtype: torch.dtype, dim: int, group: int) -> None:
    step = Step(dtype, dim, group, lengths=[5, 0, 77, -1, 200, 33], prefixes=[0, 0, 50, 0, 200, 33])
    output = step.run(group)
    for row, length in enumerate(step.lengths):
        if length < 0:
            assert not output[row].any()
            continue
        assert apart(output[row], step.expected(row)) < DTYPES[dtype], row
        assert torch.equal(step.kept[0][step.slots[row], :, length], step.key[row])
        assert torch.equal(step.kept[1][step.slots[row], :, length], step.value[row])


@needs_compiler
def test_a_row_does_not_depend_on_the_others_or_on_threads() -> None:
    whole = Step(torch.bfloat16, 64, 2, [90, 31, 64, 12], [0, 16, 0, 0])
    output = whole.run(2)
    alone = Step(torch.bfloat16, 64, 2, [90, 31, 64, 12], [0, 16, 0, 0])
    alone.lengths = [-1, 31, -1, -1]
    assert torch.equal(alone.run(2)[1], output[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(Step(torch.bfloat16, 64, 2, [90, 31, 64, 12], [0, 16, 0, 0]).run(2), output)
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize(("dim", "group"), [(40, 2), (512, 2), (64, 32)])
def test_heads_the_kernel_does_not_know_are_left_to_torch(dim: int, group: int) -> None:
    assert decode_attention(torch.float32, CPU, dim, group) is None


def gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    towards = random(*result.shape, dtype=result.dtype, seed=9)
    return [result.detach(), *torch.autograd.grad(result, inputs, towards)]


@needs_compiler
@each_dtype
@pytest.mark.parametrize("tokens", [3, 700])
def test_the_norm_and_its_gradients_are_hugging_faces(dtype: torch.dtype, tokens: int) -> None:
    module = Qwen3RMSNorm(96, eps=1e-5).to(dtype)
    module.weight.data = random(96, dtype=dtype, seed=1) + 1
    x = (3 * random(tokens, 96, dtype=dtype)).requires_grad_()
    ours = gradients(layers.norm(x, module.weight, module.variance_epsilon), [x, module.weight])
    theirs = gradients(module(x), [x, module.weight])
    for one, other in zip(ours, theirs, strict=True):
        assert apart(one, other) < 2 * DTYPES[dtype]
    with torch.no_grad():
        assert torch.equal(layers.norm(x, module.weight, module.variance_epsilon), ours[0])


@needs_compiler
@each_dtype
@pytest.mark.parametrize("turned", [64, 16])
def test_the_norm_of_heads_with_their_positions_is_hugging_faces(dtype: torch.dtype, turned: int) -> None:
    module = Qwen3RMSNorm(64).to(dtype)
    module.weight.data = random(64, dtype=dtype, seed=1) + 1
    angles = torch.arange(50)[:, None] * torch.logspace(0, -3, turned // 2).repeat(2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    x = random(50, 4, 64, dtype=dtype).requires_grad_()
    ours = gradients(layers.norm(x, module.weight, module.variance_epsilon, (cos, sin)), [x, module.weight])
    normed = module(x)
    head, rest = normed[..., :turned].transpose(0, 1)[None], normed[..., turned:]
    head, _ = apply_rotary_pos_emb(head, head, cos[None], sin[None])
    theirs = gradients(torch.cat((head[0].transpose(0, 1), rest), dim=-1), [x, module.weight])
    for one, other in zip(ours, theirs, strict=True):
        assert apart(one, other) < 2 * DTYPES[dtype]


@needs_compiler
@each_dtype
def test_the_gated_unit_and_its_gradients_are_torchs(dtype: torch.dtype) -> None:
    gate = (8 * random(300, 130, dtype=dtype)).requires_grad_()
    up = random(300, 130, dtype=dtype, seed=1).requires_grad_()
    ours, theirs = gradients(layers.gated(gate, up), [gate, up]), gradients(F.silu(gate) * up, [gate, up])
    for one, other in zip(ours, theirs, strict=True):
        assert apart(one, other) < DTYPES[dtype]


@needs_compiler
def test_what_is_not_a_number_stays_so() -> None:
    x = random(2, 32, dtype=torch.bfloat16)
    x[1, 3] = float("nan")
    with torch.no_grad():
        y = layers.norm(x, torch.ones(32, dtype=torch.bfloat16), 1e-6)
    assert y[0].isfinite().all()
    assert y[1].isnan().any()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine on which nothing was compiled yet; the cache's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled._opened.cache_clear()
    compiled._folder.cache_clear()
    yield tmp_path / "banty"
    compiled._opened.cache_clear()
    compiled._folder.cache_clear()


@pytest.mark.parametrize("lack", ["switch", "compiler", "working compiler"])
def test_without_a_compiler_torch_does_the_work(
    lack: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if lack == "switch":
        monkeypatch.setenv(compiled.SWITCH, "0")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    if lack == "working compiler":
        broken = tmp_path / "cc"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    assert decode_attention(torch.float32, CPU, 64, 2) is None
    assert layers.library(torch.zeros(1)) is None


@needs_compiler
def test_a_kernel_is_compiled_once_and_kept_in_the_users_cache(fresh: Path) -> None:
    assert decode_attention(torch.float32, CPU, 32, 2) is not None
    (kept,) = fresh.glob("*.so")
    made = kept.stat().st_mtime_ns
    compiled._opened.cache_clear()
    assert decode_attention(torch.float32, CPU, 32, 2) is not None
    assert [one.stat().st_mtime_ns for one in fresh.iterdir()] == [made]
