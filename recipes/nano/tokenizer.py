"""The tokenizer all nano models share: 2,048 ids, trained on the committed sample in `corpus/`.

    python -m recipes.nano.tokenizer FOLDER

A byte-level BPE behind rules that keep what has to be copied exactly in small pieces: each digit and each lone capital
by itself, a blank apart from the id that follows it, so that an id has the same tokens in prose and in quotes. The chat
template shows a tool as one line, which takes two thirds off the prompt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
VOCABULARY = 2048
NUM_RESERVED = 64
MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

# In this order: a digit; a capital that starts no word; the blank before either, before a capitalised word and before
# an id such as amy_lee_4 or card_7; field names, unless a number follows (that is an id); words, lower case with the
# blank before them; punctuation with the blanks inside it; the rest.
_PIECES = (
    r"\d",
    r"[A-Z](?![a-z])",
    r" (?=[A-Z]|\d|[a-z]+(?:_[a-z]+)*_\d)",
    r" ?[a-z]+(?:_[a-z]+)+(?![a-z]|_?\d)",
    r"[A-Z][a-z]+",
    r" ?[a-z]+",
    r" ?[^\sA-Za-z0-9]+(?: +[^\sA-Za-z0-9]+)*",
    r"\n+",
    r"\s+",
)


def build_tokenizer(texts: Iterable[str] | None = None, vocabulary: int = VOCABULARY) -> Any:
    """The Hugging Face tokenizer with its chat template; `texts` replaces the committed sample."""
    import transformers

    fast: Any = transformers.PreTrainedTokenizerFast
    specials = [*MARKERS, *TAGS]
    specials += [f"<|reserved_{place}|>" for place in range(len(specials), NUM_RESERVED)]
    marked = [AddedToken(name, special=name not in TAGS, normalized=False) for name in specials]
    core = train_bpe(_PIECES, marked, sample_texts() if texts is None else texts, vocabulary)
    tokenizer = fast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096)
    tokenizer.chat_template = (HERE / "template.jinja").read_text(encoding="utf-8").rstrip("\n")
    return tokenizer


def train_bpe(
    pieces: Sequence[str], specials: Sequence[str | AddedToken], texts: Iterable[str], vocabulary: int
) -> Tokenizer:
    """A byte-level BPE of at most `vocabulary` ids, `specials` first, that never joins what `pieces` set apart."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(pieces)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def sample_texts() -> list[str]:
    """The committed sample, a file each."""
    return [file.read_text(encoding="utf-8") for file in sorted(CORPUS.glob("*.txt"))]


if __name__ == "__main__":
    build_tokenizer().save_pretrained(sys.argv[1])
