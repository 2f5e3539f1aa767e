"""Tiny random language models of the supported families, as Hugging Face folders with a tokenizer and a template."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import torch

from banty.models.loading import LanguageModel, load_model

torch.set_num_threads(1)  # two spinning threads beside another busy process can stall for minutes

Family = Literal["qwen3", "qwen3_5", "qwen3_moe", "qwen3_5_moe"]
FAMILIES: tuple[Family, ...] = ("qwen3", "qwen3_5")
"""What every test of models runs over; the mixtures of experts differ from them in their MLPs alone."""

TEMPLATE = """\
{%- if tools or messages[0].role == 'system' %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
{%- for tool in tools or [] %}{{ '\\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'system' %}
{%- elif message.role == 'tool' %}{{ '<|im_start|>tool\\n' + message.content + '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n{"name": "' + call.function.name }}
{{- '", "arguments": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_tokenizer(template: str = TEMPLATE) -> Any:
    """One id a byte, and the three special tokens: 259 ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS)})
    tokenizer.chat_template = template
    return tokenizer


def tiny_module(
    family: Family, *, vocabulary: int = 320, hidden: int = 32, layers: int = 4, seed: int = 0, spread: float = 0.2
) -> Any:
    import transformers

    torch.manual_seed(seed)
    experts: dict[str, Any] = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "initializer_range": spread,
    }
    if family == "qwen3_moe":
        return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**common, **experts))
    if family == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**common))
    hybrid: dict[str, Any] = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": [("full_attention" if place % 2 else "linear_attention") for place in range(layers)],
    }
    if family == "qwen3_5_moe":
        config = transformers.Qwen3_5MoeTextConfig(**common, **hybrid, **experts, shared_expert_intermediate_size=16)
        return transformers.Qwen3_5MoeForCausalLM(config)
    return transformers.Qwen3_5ForCausalLM(transformers.Qwen3_5TextConfig(**common, **hybrid))


def write_tiny(folder: Path, family: Family = "qwen3", **size: int) -> Path:
    """A model folder as `save_pretrained` writes it."""
    tiny_module(family, **size).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@functools.cache
def _folder(family: Family) -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="banty-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_tiny(folder / family, family)


def tiny_model(family: Family, **options: Any) -> LanguageModel:
    """A freshly loaded tiny model; the folder it comes from is written once a test run."""
    return load_model(_folder(family), **options)


def tiny_folder(family: Family) -> Path:
    """That folder; not to be written into."""
    return _folder(family)
