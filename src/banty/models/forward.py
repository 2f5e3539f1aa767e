"""One pass over a flat stream of tokens, for the engine and the learner alike.

The projections, norms and MLPs are the Hugging Face module's own (adapters included). What differs between sampling and
training, how tokens see each other, is a `Mixer`'s: over cached slots, or over packed sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from banty.models.loading import LanguageModel, Layer
from banty.models.native import layers as native

# Modules whose arithmetic the native kernels know. Only the activation "silu" is, which is all these families use.
_PLAIN_NORMS = ("Qwen3RMSNorm", "Qwen3MoeRMSNorm")
_GATED_MLPS = ("Qwen3MLP", "Qwen3MoeMLP", "Qwen3_5MLP", "Qwen3_5MoeMLP")


class Mixer(Protocol):
    """How the N tokens of a stream see each other and what came before. `positions` [N] are theirs in their own
    sequences."""

    positions: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """[N, heads, dim] from queries [N, heads, dim] and keys and values [N, key-value heads, dim]."""

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        """[N, value heads, value dim] of a gated delta rule; `mixed` [N, channels] goes through its convolution first.

        `write` and `decay` [N, value heads] are the rule's beta, and its log decay g.
        """


def hidden_states(
    model: LanguageModel, ids: Tensor, mixer: Mixer, *, layers: Sequence[int] = (), recompute: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """The final hidden state of each token [N, hidden], after the last norm, and those asked for by layer.

    Layer 0 is the embedding, layer i what layer i gives, as Hugging Face counts them; the last is after the norm. With
    `recompute`, activations inside a layer are not kept but computed again for the gradient.
    """
    rope = model.rope(mixer.positions)
    hidden: Tensor = model.embedding(ids)
    seen = {0: hidden}
    for index, layer in enumerate(model.layers):
        if recompute and torch.is_grad_enabled():
            hidden = checkpoint(_run_layer, layer, index, hidden, rope, mixer, use_reentrant=False)
        else:
            hidden = _run_layer(layer, index, hidden, rope, mixer)
        seen[index + 1] = hidden
    hidden = _normed(model.backbone.norm, hidden)
    seen[len(model.layers)] = hidden
    return hidden, [seen[layer] for layer in layers]


def _run_layer(layer: Layer, index: int, hidden: Tensor, rope: tuple[Tensor, Tensor], mixer: Mixer) -> Tensor:
    module: Any = layer.module
    normed = _normed(module.input_layernorm, hidden)
    if layer.kind == "attention":
        mixed = _attention(module.self_attn, index, normed, rope, mixer)
    else:
        mixed = _gated_delta_net(module.linear_attn, index, normed, mixer)
    hidden = hidden + mixed
    output: Tensor = hidden + _mlp(module.mlp, _normed(module.post_attention_layernorm, hidden))
    return output


def _mlp(module: Any, hidden: Tensor) -> Tensor:
    if type(module).__name__ in _GATED_MLPS and native.library(hidden) is not None:
        narrowed: Tensor = module.down_proj(native.gated(module.gate_proj(hidden), module.up_proj(hidden)))
        return narrowed
    wide = module(hidden[None])  # experts take rows of sequences
    output: Tensor = (wide[0] if isinstance(wide, tuple) else wide)[0]
    return output


def _normed(module: Any, hidden: Tensor, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The module's norm over the last dimension, then turned by `rope` if given."""
    if type(module).__name__ in _PLAIN_NORMS and native.library(hidden) is not None:
        return native.norm(hidden, module.weight, module.variance_epsilon, rope)
    normed: Tensor = module(hidden)
    return normed if rope is None else _rotated(normed, rope)


def _attention(module: Any, index: int, hidden: Tensor, rope: tuple[Tensor, Tensor], mixer: Mixer) -> Tensor:
    num_tokens, dim = len(hidden), module.head_dim
    query = module.q_proj(hidden)
    gate = None
    if module.q_proj.out_features == 2 * module.o_proj.in_features:  # Qwen3.5: each head's query beside its gate
        query, gate = query.view(num_tokens, -1, 2 * dim).chunk(2, dim=-1)
    query = _normed(module.q_norm, query.reshape(num_tokens, -1, dim), rope)
    key = _normed(module.k_norm, module.k_proj(hidden).view(num_tokens, -1, dim), rope)
    value = module.v_proj(hidden).view(num_tokens, -1, dim)
    output = mixer.attend(index, query, key, value, module.scaling)
    output = output.reshape(num_tokens, -1)
    if gate is not None:
        output = output * torch.sigmoid(gate.reshape(num_tokens, -1))
    projected: Tensor = module.o_proj(output)
    return projected


def _rotated(heads: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """[N, heads, dim] turned by its position's angles, which cover the first dimensions or all of them."""
    cos, sin = rope[0][:, None], rope[1][:, None]
    turned, rest = heads[..., : cos.shape[-1]], heads[..., cos.shape[-1] :]
    half = turned.shape[-1] // 2
    swapped = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
    turned = turned * cos + swapped * sin
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def _gated_delta_net(module: Any, index: int, hidden: Tensor, mixer: Mixer) -> Tensor:
    """Gated DeltaNet (Yang et al. 2024), as Qwen3.5 wires it."""
    num_tokens = len(hidden)
    write = module.in_proj_b(hidden).sigmoid()
    decay = -module.A_log.float().exp() * F.softplus(module.in_proj_a(hidden).float() + module.dt_bias)
    output = mixer.recur(index, module, module.in_proj_qkv(hidden), write, decay)
    gate = module.in_proj_z(hidden).reshape(-1, module.head_v_dim)
    normed = module.norm(output.reshape(-1, module.head_v_dim), gate)
    projected: Tensor = module.out_proj(normed.reshape(num_tokens, -1))
    return projected


def delta_rule(
    module: Any,
    mixed: Tensor,
    write: Tensor,
    decay: Tensor,
    counts: Tensor,
    window: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A gated delta rule over rows of tokens, each row a sequence (or its continuation) of its own.

    `mixed` [R, W, channels], `write` and `decay` [R, W, value heads]; row r has `counts[r]` tokens and padding after
    them, which writes nothing and decays nothing, so that the state a row ends with is that after its last token.
    `window` [R, channels, kernel - 1] and `state` [R, value heads, key dim, value dim] are what came before; None is
    nothing. Returns the output [R, W, value heads, value dim], and the new window and state.
    """
    from transformers.models.qwen3_5 import modeling_qwen3_5 as reference

    num_rows, width, channels = mixed.shape
    kernel = module.conv_kernel_size
    inputs = mixed.transpose(1, 2)
    if window is None:
        window = inputs.new_zeros(num_rows, channels, kernel - 1)
    inputs = torch.cat((window.to(inputs.dtype), inputs), dim=-1)
    ends = counts[:, None] + torch.arange(kernel - 1, device=counts.device)
    new_window = inputs.gather(2, ends[:, None].expand(-1, channels, -1))
    convolved = F.silu(F.conv1d(inputs, module.conv1d.weight, groups=channels)).transpose(1, 2)
    query, key, value = torch.split(convolved, [module.key_dim, module.key_dim, module.value_dim], dim=-1)
    query = query.reshape(num_rows, width, -1, module.head_k_dim)
    key = key.reshape(num_rows, width, -1, module.head_k_dim)
    value = value.reshape(num_rows, width, -1, module.head_v_dim)
    repeats = module.num_v_heads // module.num_k_heads
    if repeats > 1:
        query, key = query.repeat_interleave(repeats, dim=2), key.repeat_interleave(repeats, dim=2)
    real = (torch.arange(width, device=counts.device) < counts[:, None])[..., None]
    rule = reference.torch_recurrent_gated_delta_rule if width == 1 else reference.torch_chunk_gated_delta_rule
    output, new_state = rule(
        query,
        key,
        value,
        g=torch.where(real, decay, 0.0),
        beta=torch.where(real, write, 0.0),
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return output, new_window, new_state
