"""What a training pass holds in memory, estimated before it is tried."""

from __future__ import annotations

from pathlib import Path

import torch

from banty.errors import InputError
from banty.models.loading import LanguageModel

_GIB = 1024**3


def training_bytes(model: LanguageModel, micro_batch_tokens: int, recompute: bool) -> int:
    """Gradients, masters, moments and the activations of one micro-batch, beyond the weights; an estimate from below.

    Kept for the gradient, a token and layer: the layer's input and norms, the mixer's inputs and outputs, and the MLP's
    three wide vectors. With `recompute` only the layers' inputs, and one layer's worth.
    """
    size = torch.finfo(model.dtype).bits // 8
    trained = sum(value.numel() for value in model.trainable().values())
    state = trained * (4 + 4 + 4 + (4 if size == 2 else 0))
    config = model.config
    experts = getattr(config, "moe_intermediate_size", 0) * getattr(config, "num_experts_per_tok", 0)
    hidden, wide = config.hidden_size, experts or config.intermediate_size
    layer = size * (8 * hidden + 3 * wide)
    num_layers = len(model.layers)
    kept = size * hidden * num_layers + layer if recompute else layer * num_layers
    return int(state + micro_batch_tokens * kept)


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free for use now; None where that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def check_fits(model: LanguageModel, micro_batch_tokens: int, recompute: bool) -> None:
    """Raises InputError when a training pass is sure not to fit into what memory is free."""
    available = available_bytes(model.device)
    needed = training_bytes(model, micro_batch_tokens, recompute)
    if available is not None and needed > available:
        help_ = "learner.micro_batch_tokens" + ("" if recompute else ", or set learner.recompute")
        raise InputError(
            f"training {model.name} on micro-batches of {micro_batch_tokens} tokens takes at least "
            f"{needed / _GIB:.1f} GiB, and {available / _GIB:.1f} GiB are free on {model.device}; lower {help_}, or "
            "train an adapter (policy.lora_rank)"
        )
