"""How many tokens `airline/mini` costs under a small vocabulary: the prompt, and an episode after it.

    PYTHONPATH=. python benchmarks/mini_tokens.py
    PYTHONPATH=. python benchmarks/mini_tokens.py --num-train 200 --num-eval 100 --vocabulary 1024

A byte-level BPE is trained on conversations of the train split (half by the expert, half by a careless agent that
lapses at three decisions in ten), then conversations of the dev split are counted: system turn with policy and one
signature line per tool, then Qwen-style turns with Hermes calls. The budget is a prompt of at most 300 tokens and a
mean expert episode of at most 450.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from recipes.nano import traces
from recipes.nano.tokenizer import train_bpe
from tokenizers import Tokenizer

from banty.chat import render_calls, signature_line
from banty.records import Message, Policy, Rollout, ToolSchema

PROMPT_BUDGET, EPISODE_BUDGET = 300, 450
CARELESS = 0.3
MARKERS = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# In this order: a digit, a capital that starts no word, the blank before either, field names (not where a number
# follows: that is an id), words with the blank before them, punctuation with the blanks inside it, the rest.
_PIECES = (
    r"\d",
    r"[A-Z](?![a-z])",
    r" (?=[A-Z](?![a-z])|\d)",
    r" ?[a-z]+(?:_[a-z]+)+(?![a-z]|_?\d)",
    r" ?[A-Za-z][a-z]*",
    r" ?[^\sA-Za-z0-9]+(?: +[^\sA-Za-z0-9]+)*",
    r"\n+",
    r"\s+",
)


def train_tokenizer(texts: Iterable[str], vocabulary: int = 2048) -> Tokenizer:
    """A byte-level BPE with the piece rules of nano and the chat markers as tokens of their own."""
    return train_bpe(_PIECES, MARKERS, texts, vocabulary)


def render_prompt(system: str, tools: Sequence[ToolSchema]) -> str:
    """The system turn: the policy, then one line a tool."""
    lines = "\n".join(signature_line(tool) for tool in tools)
    return f"<|im_start|>system\n{system}\n{lines}<|im_end|>\n"


def render_turn(message: Message) -> str:
    """One turn after the system's; what could not be read as a call is rendered as it was written."""
    content = message.content
    if message.role == "tool":
        return f"<|im_start|>user\n<tool_response>\n{content}\n</tool_response><|im_end|>\n"
    if message.calls or message.faults:
        calls = [fault.raw for fault in message.faults] or [render_calls(message.calls, "hermes")]
        content = "\n".join([*([content] if content else []), *calls])
    return f"<|im_start|>{message.role}\n{content}<|im_end|>\n"


@dataclass(frozen=True)
class Conversation:
    """One episode as text: what every episode starts with, and what follows."""

    prompt: str
    episode: str

    @classmethod
    def of(cls, rollout: Rollout) -> Conversation:
        system, *rest = rollout.transcript
        return cls(render_prompt(system.content, rollout.tools), "".join(map(render_turn, rest)))


@dataclass(frozen=True)
class Lengths:
    """Tokens of one agent's episodes, the prompt excluded."""

    agent: str
    num_episodes: int
    prompt_tokens: int
    mean_tokens: float
    p95_tokens: float
    success: float


def play(policy: Policy, split: str, num_tasks: int) -> list[Rollout]:
    """One episode of each of the split's first tasks of `airline/mini`."""
    return traces.play(policy, split, range(num_tasks), seed=0)


def expert() -> Policy:
    """The airline's expert, which never lapses."""
    return traces.player(0.0)


def careless(lapse: float = CARELESS) -> Policy:
    """The expert that lapses at every decision with this probability."""
    return traces.player(lapse)


def train_on_play(num_tasks: int, vocabulary: int) -> Tokenizer:
    """A tokenizer trained on what expert and careless agent make of the train split's first tasks."""
    rollouts = [*play(expert(), "train", num_tasks), *play(careless(), "train", num_tasks)]
    conversations = map(Conversation.of, rollouts)
    return train_tokenizer((f"{each.prompt}{each.episode}" for each in conversations), vocabulary)


def measure(tokenizer: Tokenizer, policy: Policy, num_tasks: int) -> Lengths:
    rollouts = play(policy, "dev", num_tasks)
    conversations = [Conversation.of(rollout) for rollout in rollouts]
    prompts = {len(tokenizer.encode(each.prompt).ids) for each in conversations}
    assert len(prompts) == 1, "every episode of airline/mini has the same prompt"
    lengths = [len(tokenizer.encode(each.episode).ids) for each in conversations]
    return Lengths(
        policy.name,
        len(rollouts),
        prompts.pop(),
        float(np.mean(lengths)),
        float(np.percentile(lengths, 95)),
        float(np.mean([bool(rollout.outcome.success) for rollout in rollouts])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-train", type=int, default=300, help="train tasks, each played by both agents")
    parser.add_argument("--num-eval", type=int, default=300, help="dev tasks, each played by both agents")
    parser.add_argument("--vocabulary", type=int, default=2048, help="ids of the tokenizer, at most")
    parser.add_argument("--show", action="store_true", help="print one conversation, its tokens set apart")
    args = parser.parse_args()
    tokenizer = train_on_play(args.num_train, args.vocabulary)
    if args.show:
        first = Conversation.of(play(expert(), "dev", 1)[0])
        tokens = tokenizer.encode(f"{first.prompt}{first.episode}").ids
        print("·".join(tokenizer.decode([token], skip_special_tokens=False) for token in tokens))
    print(f"vocabulary {tokenizer.get_vocab_size()} ids, trained on {2 * args.num_train} conversations of train")
    print(f"{'agent':10} {'n':>5} {'prompt':>7} {'mean':>7} {'p95':>7} {'success':>8}")
    for policy in (expert(), careless()):
        row = measure(tokenizer, policy, args.num_eval)
        print(
            f"{row.agent:10} {row.num_episodes:5} {row.prompt_tokens:7} {row.mean_tokens:7.1f} {row.p95_tokens:7.1f} "
            f"{row.success:8.3f}"
        )
    print(f"budget: prompt {PROMPT_BUDGET}, mean expert episode {EPISODE_BUDGET}")


if __name__ == "__main__":
    main()
