"""A small real tokenizer with Qwen's special tokens, and the chat templates that ship with the trl package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from banty.chat import ChatTokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")


def byte_tokenizer(template: str | None, eos: str | None = "<|im_end|>") -> ChatTokenizer:
    """One id a byte, and one for each special token and tag, as Qwen's tokenizers have them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    begin = SPECIAL[-1]  # for whoever asks for special tokens around a text, as a chat template's text needs none
    core.post_processor = processors.TemplateProcessing(f"{begin} $A", None, [(begin, core.token_to_id(begin))])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    build: Any = PreTrainedTokenizerFast  # untyped in some of the ways mypy comes upon it
    tokenizer: ChatTokenizer = build(tokenizer_object=core, eos_token=eos)
    tokenizer.chat_template = template
    return tokenizer


def published_template(name: str) -> str:
    """A chat template as its model's makers published it. Skips the test where trl is not installed."""
    spec = find_spec("trl")  # importing trl would import torch
    if spec is None or spec.origin is None:
        pytest.skip("the published chat templates ship with trl, which is not installed")
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text()


CHATML = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ '\n' if message.content or not loop.first }}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A plain append-only template; tests cut it to the shape they need."""
