"""What `airline/mini` costs in tokens, on a smaller corpus than benchmarks/mini_tokens.py reports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from banty.chat import parse
from banty.records import Message, ToolCall

pytest.importorskip("tokenizers", reason="counting tokens needs the package tokenizers (pip install tokenizers)")


@pytest.fixture(scope="module")
def mini_tokens() -> ModuleType:
    file = Path(__file__).parents[3] / "benchmarks" / "mini_tokens.py"
    spec = importlib.util.spec_from_file_location("mini_tokens", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mini_tokens"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tokenizer(mini_tokens: ModuleType) -> Any:
    return mini_tokens.train_on_play(num_tasks=100, vocabulary=2048)


def test_the_budget_holds(mini_tokens: ModuleType, tokenizer: Any) -> None:
    row = mini_tokens.measure(tokenizer, mini_tokens.expert(), num_tasks=150)
    assert row.success == 1.0
    assert 150 <= row.prompt_tokens <= mini_tokens.PROMPT_BUDGET == 300
    assert 250 <= row.mean_tokens <= mini_tokens.EPISODE_BUDGET == 450
    assert row.p95_tokens <= 800
    assert tokenizer.get_vocab_size() <= 2048


def test_tokens_hold_the_whole_text(mini_tokens: ModuleType, tokenizer: Any) -> None:
    for rollout in mini_tokens.play(mini_tokens.careless(), "dev", 20):
        talk = mini_tokens.Conversation.of(rollout)
        for text in (talk.prompt, talk.episode, "Grüße 木 \U0001f6eb\n\n  x\t_y__z_1"):
            assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def pieces(tokenizer: Any, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ZFA04Y", list("ZFA04Y")),
        ("is ZFA04Y.", ["is", " ", *"ZFA04Y", "."]),
        ('"ZFA04Y"', ['"', *"ZFA04Y", '"']),
        ("$1628 on 2024-05-16", ["$", *"1628", " on", " ", *"2024", "-", *"05", "-", *"16"]),
        ('{"name": "get_user_details", "x": {}}', ['{"', "name", '": "', "get_user_details", '", "', "x", '": {}}']),
        ("reservation_id, payment_id", ["reservation_id", ",", " payment_id"]),
        ("mia_li_1234", ["mia", "_", "li", "_", *"1234"]),
        ("I am Ann from JFK", ["I", " am", " Ann", " from", " ", *"JFK"]),
    ],
)
def test_pieces(tokenizer: Any, text: str, wanted: list[str]) -> None:
    assert pieces(tokenizer, text) == wanted


def test_a_code_has_the_same_tokens_in_prose_and_in_quotes(tokenizer: Any) -> None:
    def tokens(text: str) -> list[str]:
        found: list[str] = tokenizer.encode(text).tokens
        return found

    assert tokens("ZFA04Y") == list("ZFA04Y")
    for text in ("It is ZFA04Y.", '{"reservation_id": "ZFA04Y"}', "under ZFA04Y; bags"):
        assert "".join(tokens("ZFA04Y")) in "".join(tokens(text))
        assert [token for token in tokens(text) if token in "ZFA04Y"][-6:] == list("ZFA04Y")


def test_what_is_counted_is_what_would_be_read_back(mini_tokens: ModuleType) -> None:
    for rollout in mini_tokens.play(mini_tokens.expert(), "dev", 20):
        assert mini_tokens.Conversation.of(rollout).prompt.count("\n") == 13
        for turn in rollout.agent_turns:
            text = mini_tokens.render_turn(turn.message)
            body = text.removeprefix("<|im_start|>assistant\n").removesuffix("<|im_end|>\n")
            assert parse(body, rollout.tools, "hermes") == turn.message


def test_a_call_that_could_not_be_read_counts_as_written(mini_tokens: ModuleType) -> None:
    rollouts = mini_tokens.play(mini_tokens.careless(), "dev", 40)
    broken = [turn.message for rollout in rollouts for turn in rollout.agent_turns if turn.message.faults]
    assert broken
    assert all("cancel" in text or "_" in text for text in map(mini_tokens.render_turn, broken))
    assert all("<tool_call>" in text for text in map(mini_tokens.render_turn, broken))


def test_text_and_calls_are_both_counted(mini_tokens: ModuleType) -> None:
    both = Message("assistant", "One moment.", calls=(ToolCall("get_user_details", {"user_id": "a_b_1234"}),))
    text = mini_tokens.render_turn(both)
    assert text.startswith("<|im_start|>assistant\nOne moment.\n<tool_call>\n")
