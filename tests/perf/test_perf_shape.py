"""Operations and bytes against counting them, and limits by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.tiny import Family, tiny_model

from banty.errors import InputError
from banty.perf import DEVICES, Machine, Usage, lever, phase_shares, shape_of, shares_of, usage_since

QWEN3_4B: dict[str, Any] = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN3_5_4B: dict[str, Any] = {
    "tie_word_embeddings": True,
    "text_config": {
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "intermediate_size": 9216,
        "vocab_size": 248320,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    },
}


@pytest.mark.parametrize("family", ["qwen3", "qwen3_5", "qwen3_moe", "qwen3_5_moe"])
def test_weights_are_those_of_the_model_but_norms_and_other_vectors(family: Family) -> None:
    module = tiny_model(family).module
    matrices = sum(value.numel() for name, value in module.named_parameters() if "norm" not in name and value.dim() > 1)
    shape = shape_of(module.config.to_dict(), 4)
    assert shape.num_weights == pytest.approx(matrices, rel=0.02)  # a convolution's and a router's weights beside
    assert shape.linear <= shape.stored


def test_a_4b_keeps_what_the_design_says_a_token() -> None:
    attention, hybrid = shape_of(QWEN3_4B), shape_of(QWEN3_5_4B)
    assert attention.kept_bytes == 147_456
    assert attention.num_weights == pytest.approx(4.02e9, rel=0.01)
    assert hybrid.kept_bytes == 32_768
    assert 40e6 < hybrid.state_bytes < 55e6


def test_decoding_is_bound_by_what_is_kept_as_the_survey_found() -> None:
    """At most some 4,500 tokens a second of a 4B on an H200 at 128 rows of 6,000 tokens, and 500 at one row."""
    shape, machine = shape_of(QWEN3_4B), DEVICES["h200"]
    many = shape.forward(128, 128 * 6000, 128, 128 * 6000, 128)
    one = shape.forward(1, 100, 1, 100, 1)
    assert 128 / machine.limit_s(many) == pytest.approx(4500, rel=0.1)
    assert 1 / machine.limit_s(one) == pytest.approx(500, rel=0.1)


def test_a_gradient_by_hand() -> None:
    shape = shape_of(QWEN3_4B)
    full = shape.gradient(1000, 500_000, 300, whole=True, recompute=False)
    adapter = shape.gradient(1000, 500_000, 300, whole=False, recompute=True)
    assert full.linear_flops == 6 * shape.linear * 1000 + 8 * 151936 * 2560 * 300
    assert full.mixing_flops == 3.5 * 4 * 32 * 128 * 36 * 500_000
    assert adapter.linear_flops - 8 * shape.head * 300 == 6 * shape.linear * 1000
    assert (full.tokens, full.passes) == (1000, 1)


@pytest.mark.parametrize("lacks", ["hidden_size", "vocab_size"])
def test_a_config_without_a_size_is_refused(lacks: str) -> None:
    with pytest.raises(InputError, match=lacks):
        shape_of({name: value for name, value in QWEN3_4B.items() if name != lacks})


def test_a_limit_is_arithmetic_or_memory_whichever_is_slower() -> None:
    machine = Machine("toy", flops_s=100.0, bytes_s=10.0)
    used = Usage(linear_flops=200, linear_bytes=1, mixing_flops=1, mixing_bytes=30)
    assert machine.limit_s(used) == 2.0 + 3.0


@pytest.mark.parametrize(
    "noted", [{}, {"name": "x", "flops_s": "fast", "bytes_s": 1}, {"name": "x", "flops_s": 0, "bytes_s": 1}]
)
def test_a_damaged_note_of_a_machine_is_refused(noted: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Machine.from_json(noted)


def test_usage_adds_up_and_is_taken_apart() -> None:
    before, more = Usage(1.0, 2, 3, 4, 5, 6, 7), Usage(0.5, 1, 1, 1, 1, 1, 1)
    assert usage_since({"train": before + more, "score": more}, {"train": before}) == {"train": more, "score": more}
    assert (more.flops, more.bytes) == (2, 2)


def shares(step_s: float = 10.0, rows: int = 8) -> Any:
    machine = Machine("toy", flops_s=10.0, bytes_s=1e9)
    used = {
        "decode": Usage(seconds=5.0, tokens=10 * rows, passes=10, linear_flops=10),
        "train": Usage(seconds=3.0, tokens=100, passes=1, linear_flops=27),
        "environment": Usage(seconds=1.0),
    }
    return phase_shares(used, machine, step_s)


def test_the_lever_is_where_most_time_is_lost_to_anything_but_the_limit() -> None:
    found = {share.phase: share for share in shares()}
    assert list(found) == ["decode", "train", "environment", "rest"]
    assert found["decode"].of_limit == pytest.approx(0.2)
    assert found["train"].lost_s == pytest.approx(0.3)
    assert (found["environment"].of_limit, found["rest"].seconds) == (None, 1.0)
    assert lever(shares()).startswith(
        "decode takes 50% of the time at 20% of this machine's limit: its passes have 8 rows"
    )
    assert "passes are full" in lever(shares(rows=64))


def test_waiting_that_overlaps_counts_for_no_more_than_the_clock() -> None:
    row = {
        **{"time/step_s": 10.0, "time/sample_s": 8.0, "time/decode_s": 6.0, "time/environment_s": 12.0},
        **{"perf/decode_tokens": 10, "time/last_checkpoint_s": 5.0, "time/user_s": "broken"},
    }
    found = {share.phase: share.seconds for share in shares_of([row], Machine("toy", 1.0, 1.0))}
    assert found == {"decode": 6.0, "checkpoint": 5.0, "environment": 2.0, "rest": 2.0}


def test_phases_are_read_from_the_rows_of_a_run() -> None:
    machine = Machine("toy", flops_s=1.0, bytes_s=1.0)
    row = {
        "time/step_s": 4.0,
        "time/sample_s": 2.0,
        "time/train_s": 2.0,
        "perf/train_tokens": 9,
        "perf/train_linear_flops": 1.0,
    }
    found = shares_of([row, {**row, "time/environment_s": 1.0}], machine)
    assert [(share.phase, share.seconds) for share in found] == [("train", 4.0), ("rest", 3.0), ("environment", 1.0)]
    assert found[0].of_limit == pytest.approx(0.5)
    assert shares_of([{"time/step_s": 4.0}], machine) == []
    assert not math.isnan(found[0].share)
