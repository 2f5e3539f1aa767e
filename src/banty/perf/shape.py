"""What a language model costs a token, from its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.perf.usage import Usage


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes.

    `linear` are the weights a token is multiplied with inside the layers (of experts, those it is routed to), `stored`
    all of them, `head` those of the output projection, which are the embedding's too where it is `tied`. `mixing` are
    the operations a pair of tokens that see each other costs over all attention layers, forward; `kept_bytes` what an
    attention model keeps a token, `state_bytes` what recurrent layers keep a sequence, for numbers of `width` bytes.
    """

    linear: int
    stored: int
    head: int
    tied: bool
    mixing: int
    kept_bytes: int
    state_bytes: int
    hidden: int
    intermediate: int
    num_layers: int
    width: int

    @property
    def num_weights(self) -> int:
        return self.stored + self.head * (1 if self.tied else 2)

    @property
    def weight_bytes(self) -> int:
        return self.num_weights * self.width

    def forward(self, tokens: int, pairs: int, drawn: int, kept: int, rows: int, passes: int = 1) -> Usage:
        """What passes that compute `tokens`, see `pairs`, give logits for `drawn` tokens and read the state of `kept`
        earlier tokens and `rows` sequences have to do."""
        return Usage(
            tokens=tokens,
            passes=passes,
            linear_flops=2 * (self.linear * tokens + self.head * drawn),
            linear_bytes=passes * (self.stored + self.head) * self.width,
            mixing_flops=self.mixing * pairs,
            mixing_bytes=self.kept_bytes * (kept + tokens) + 2 * self.state_bytes * rows,
        )

    def gradient(
        self, tokens: int, pairs: int, trained: int, *, whole: bool, recompute: bool, passes: int = 1
    ) -> Usage:
        """What a gradient over `tokens`, of which `trained` have a loss, has to do: two products forward and four
        backward (two where only an adapter is trained), the forward pass once more with `recompute`; the head's logits
        are made twice. Attention has two products forward and five backward."""
        products = (6 if whole else 4) + (2 if recompute else 0)
        halves = 7 + (2 if recompute else 0)  # of a forward pass
        return Usage(
            tokens=tokens,
            passes=passes,
            linear_flops=products * self.linear * tokens + 8 * self.head * trained,
            linear_bytes=3 * passes * (self.stored + self.head) * self.width,
            mixing_flops=halves * self.mixing * pairs // 2,
            mixing_bytes=3 * self.kept_bytes * tokens,
        )


def shape_of(config: Mapping[str, Any], width: int = 2) -> Shape:
    """The shape that a Hugging Face config describes. Raises InputError for one that lacks a size."""
    text = config.get("text_config", config)
    try:
        hidden, num_layers = int(text["hidden_size"]), int(text["num_hidden_layers"])
        heads = int(text["num_attention_heads"])
        key_heads = int(text.get("num_key_value_heads") or heads)
        dim = int(text.get("head_dim") or hidden // heads)
        mlp_used, mlp_stored = _mlp(text, hidden)
        kinds = text.get("layer_types") or ["full_attention"] * num_layers
        attending = sum(kind != "linear_attention" for kind in kinds)
        gates = 2 if "linear_key_head_dim" in text else 1  # Qwen3.5: each head's query beside its gate
        attention = hidden * (gates * heads + 2 * key_heads) * dim + heads * dim * hidden
        recurrent, state = (0, 0) if attending == num_layers else _recurrent(text, hidden, width)
        head = hidden * int(text["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the model's config.json does not give its size: {error!r}") from error
    mixers = attending * attention + (num_layers - attending) * recurrent
    return Shape(
        linear=mixers + num_layers * mlp_used,
        stored=mixers + num_layers * mlp_stored,
        head=head,
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        mixing=4 * heads * dim * attending,
        kept_bytes=2 * key_heads * dim * attending * width,
        state_bytes=state * (num_layers - attending),
        hidden=hidden,
        intermediate=mlp_used // (3 * hidden),
        num_layers=num_layers,
        width=width,
    )


def _mlp(text: Mapping[str, Any], hidden: int) -> tuple[int, int]:
    """A layer's weights that a token is multiplied with, and all there are: of experts, those it is routed to, the one
    that all share, and the router."""
    experts = int(text.get("num_experts") or 0)
    if not experts:
        return (3 * hidden * int(text["intermediate_size"]),) * 2
    each = 3 * hidden * int(text["moe_intermediate_size"])
    always = 3 * hidden * int(text.get("shared_expert_intermediate_size") or 0) + hidden * experts
    return int(text["num_experts_per_tok"]) * each + always, experts * each + always


def _recurrent(text: Mapping[str, Any], hidden: int, width: int) -> tuple[int, int]:
    """Weights and bytes of state of a gated delta rule's layer."""
    key_heads, value_heads = int(text["linear_num_key_heads"]), int(text["linear_num_value_heads"])
    key_dim, value_dim = int(text["linear_key_head_dim"]), int(text["linear_value_head_dim"])
    channels = 2 * key_heads * key_dim + value_heads * value_dim
    weights = hidden * (channels + value_heads * value_dim + 2 * value_heads) + value_heads * value_dim * hidden
    window = channels * (int(text.get("linear_conv_kernel_dim", 4)) - 1) * width
    return weights, 4 * value_heads * key_dim * value_dim + window
