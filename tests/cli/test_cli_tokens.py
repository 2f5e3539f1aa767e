"""`banty inspect --tokens` against the stored ids: what is shown as trained is what was sampled, to the letter."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.cli.test_cli_models import EVAL, assert_refused, banty, did, here, workshop
from tests.learn.batches_by_hand import sample
from tests.tiny import tiny_folder, tiny_tokenizer
from tests.toy import toy_tokenizer

from banty.cli.tokens import show_tokens, tokens_json
from banty.records import Rollout, TrainingSample
from banty.rollout import stored_rollouts
from banty.runs import RunFolder

__all__ = ["here"]  # a fixture
WIDE = 10_000
ESCAPES = "a\x1b[31mred\x07\x9b2Jb"
VISIBLE = "a�[31mred��2Jb"


def bracketed(printed: str) -> list[str]:
    """The stretches shown as trained, without the word that explains the brackets."""
    body, legend = printed.rsplit("⟦trained⟧", 1)
    assert legend.split() == ["seen"]
    return re.findall(r"⟦(.*?)⟧", body, re.DOTALL)


def told(ids: Sequence[int]) -> str:
    return str(toy_tokenizer().decode(list(ids), skip_special_tokens=False))


def sampled(rollout: Rollout) -> list[str]:
    return [told(turn.segment.sampled_ids) for turn in rollout.agent_turns if turn.segment is not None]


def stream(rollout: Rollout) -> list[int]:
    segments = [turn.segment for turn in rollout.agent_turns]
    return [token for one in segments if one is not None for token in (*one.prompt_ids, *one.sampled_ids)]


def shown(*words: str) -> str:
    said = banty("inspect", *words, "--tokens", width=WIDE)
    assert said.status == 0, said.err
    return said.out


# Runs, fine-tuning, evaluations.


def test_what_rl_trains_on_is_in_brackets(here: Path) -> None:
    rollouts = stored_rollouts(workshop() / "rl")
    ends = {text.endswith("<|im_end|>") for rollout in rollouts for text in sampled(rollout)}
    assert ends == {True, False}, "finished turns, and cut ones"
    printed = shown(str(workshop() / "rl"), "--rollout", "step-")
    assert bracketed(printed) == [text for rollout in rollouts for text in sampled(rollout)]
    wanted = ""
    for rollout in rollouts:
        trained = sum(turn.sampled_tokens for turn in rollout.agent_turns)
        total = len(stream(rollout))
        wanted += f"{rollout.rollout_id}: {trained} of {total} tokens trained\n{told(stream(rollout))}\n\n"
    assert printed.replace("⟦", "").replace("⟧", "") == f"{wanted}trained  seen\n"
    assert "\x1b" not in printed


def test_one_rollout_is_shown_unless_more_are_asked_for(here: Path) -> None:
    rollouts = stored_rollouts(workshop() / "rl")
    run = str(workshop() / "rl")

    def names(*words: str) -> list[str]:
        return re.findall(r"^(step-\S+): \d+ of \d+ tokens trained", shown(run, *words), re.MULTILINE)

    everybody = [rollout.rollout_id for rollout in rollouts]
    assert names() == everybody[:1]
    assert names("--rollout", "step-0001") == [name for name in everybody if name.startswith("step-0001")]
    assert names("--rollout", "step-", "--limit", "3") == everybody[:3]


def test_what_fine_tuning_imitates_is_in_brackets(here: Path) -> None:
    rollouts = stored_rollouts(workshop() / "expert")
    printed = shown(str(workshop() / "sft"))
    wanted = []
    for rollout in rollouts:
        for first, second in zip(rollout.agent_turns[::2], rollout.agent_turns[1::2], strict=True):
            (call,) = first.message.calls
            arguments = json.dumps(dict(call.arguments))
            wanted.append(f'<tool_call>\n{{"name": "find", "arguments": {arguments}}}\n</tool_call><|im_end|>')
            wanted.append(f"{second.message.content}<|im_end|>")
    assert len(wanted) == 32
    assert bracketed(printed) == wanted
    assert [line.split(": ")[0] for line in printed.splitlines() if "tokens trained" in line] == [
        rollout.rollout_id for rollout in rollouts
    ]
    one = shown(str(workshop() / "sft"), "--rollout", rollouts[3].rollout_id)
    assert bracketed(one) == wanted[12:16]
    assert bracketed(shown(str(workshop() / "sft"), "--limit", "2")) == wanted[:8]


def test_an_evaluation_is_shown_with_its_models_tokenizer(here: Path) -> None:
    did("eval", str(workshop() / "toy"), *EVAL, "--out", "e", "--no-baselines")
    (first, *_) = stored_rollouts(here / "e")
    printed = shown("e", "--model", str(workshop() / "toy"))
    assert bracketed(printed) == sampled(first)
    adapter = shown("e", "--model", str(workshop() / "rl" / "weights"))
    assert adapter == printed, "an adapter's folder stands for its base's tokenizer"


@pytest.mark.parametrize("name", ["e", "rl/eval-before", "sft/eval-after"])
def test_an_evaluation_knows_its_model(name: str, here: Path) -> None:
    if name == "e":
        did("eval", str(workshop() / "toy"), *EVAL, "--out", "e", "--no-baselines")
    folder = here / "e" if name == "e" else workshop() / name
    (first, *_) = stored_rollouts(folder)
    assert bracketed(shown(str(folder))) == sampled(first)


def test_no_line_is_broken_where_nobody_broke_it(here: Path) -> None:
    rollouts = stored_rollouts(workshop() / "rl")
    said = banty("inspect", str(workshop() / "rl"), "--tokens", "--rollout", "step-", width=16)
    assert bracketed(said.out) == [text for rollout in rollouts for text in sampled(rollout)]


# JSON.


@pytest.mark.parametrize("name", ["rl", "sft", "e"])
def test_json_has_an_entry_a_token_in_every_array(name: str, here: Path) -> None:
    words: tuple[str, ...] = ()
    if name == "e":
        did("eval", str(workshop() / "toy"), *EVAL, "--out", "e", "--no-baselines")
        words = ("--model", str(workshop() / "toy"))
    folder = here / "e" if name == "e" else workshop() / name
    samples: list[dict[str, Any]] = json.loads(shown(str(folder), "--rollout", ":", "--json", *words))
    rollouts = stored_rollouts(workshop() / "expert" if name == "sft" else folder)
    assert [one["rollout_id"] for one in samples] == [rollout.rollout_id for rollout in rollouts]
    for one, rollout in zip(samples, rollouts, strict=True):
        assert set(one) == {"rollout_id", "token_ids", "texts", "trained", "turn_ids", "sampler_logprobs"}
        (size,) = {len(each) for key, each in one.items() if key != "rollout_id"}
        assert size > 0
        assert one["texts"] == [told([token]) for token in one["token_ids"]]
        assert [turn >= 0 for turn in one["turn_ids"]] == one["trained"]
        assert sorted(set(one["turn_ids"])) == [-1, *range(len(rollout.agent_turns))]
        drawn = [value != 0.0 for value in one["sampler_logprobs"]]
        if name == "sft":
            assert not any(drawn), "nobody drew what is imitated"
            continue
        assert one["token_ids"] == stream(rollout)
        assert drawn == one["trained"]
        assert max(one["sampler_logprobs"]) <= 0.0
        kept = [value for value, trained in zip(one["sampler_logprobs"], one["trained"], strict=True) if trained]
        given = [value for turn in rollout.agent_turns if turn.segment for value in turn.segment.sampler_logprobs]
        assert kept == pytest.approx(given, abs=1e-6)


# Escape codes, colours, shares.


def test_escape_codes_in_a_conversation_are_made_visible(here: Path) -> None:
    messages = [{"role": "user", "content": ESCAPES}, {"role": "assistant", "content": f"{ESCAPES}\nü"}]
    (here / "traces.jsonl").write_text(json.dumps({"messages": messages}))
    policy = {"type": "model", "start": str(tiny_folder("qwen3"))}
    recipe = {"kind": "sft", "data": {"traces": [str(here / "traces.jsonl")]}, "policy": policy}
    RunFolder.create(here / "run", recipe)
    printed = shown("run")
    assert bracketed(printed) == [f"{VISIBLE}\nü<|im_end|>"]
    assert f"<|im_start|>user\n{VISIBLE}<|im_end|>" in printed
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed)


def by_hand(text: str, answer: str, **changes: Any) -> TrainingSample:
    """A conversation of one question and one answer, in bytes."""
    tokenizer = tiny_tokenizer()
    seen, said = (tokenizer.encode(part, add_special_tokens=False) for part in (text, answer))
    made = sample("r", [(len(seen), len(said))])
    return dataclasses.replace(made, token_ids=np.array([*seen, *said], dtype=np.int32), **changes)


def test_the_name_of_a_rollout_is_made_visible_too() -> None:
    out = io.StringIO()
    show_tokens(Console(file=out, width=WIDE), [by_hand("q", "a", rollout_id=ESCAPES)], tiny_tokenizer())
    assert out.getvalue().startswith(f"{VISIBLE}: 1 of 2 tokens trained\n")


def test_a_terminal_gets_colours_and_no_brackets() -> None:
    out = io.StringIO()
    console = Console(file=out, width=WIDE, force_terminal=True, color_system="standard", legacy_windows=False)
    show_tokens(console, [by_hand("what is [bold]it[/bold]?", f"it is [red]{ESCAPES}")], tiny_tokenizer())
    printed = out.getvalue()
    assert "⟦" not in printed
    green, dim = (re.findall(rf"\x1b\[{code}m(.*?)\x1b\[0m", printed) for code in ("30;42", "2"))
    assert green == [f"it is [red]{VISIBLE}", "trained"]
    assert dim == ["what is [bold]it[/bold]?", "seen"]


def test_a_rollout_in_several_samples_says_each_ones_share() -> None:
    out = io.StringIO()
    samples = [by_hand("q", "abc", rollout_share=0.75), by_hand("q", "a", rollout_share=0.25), by_hand("q", "abcd")]
    show_tokens(Console(file=out, width=WIDE), samples, tiny_tokenizer())
    assert re.findall(r"^r: (.*)", out.getvalue(), re.MULTILINE) == [
        "3 of 4 tokens trained, 75% of its rollout",
        "1 of 2 tokens trained, 25% of its rollout",
        "4 of 5 tokens trained",
    ]
    assert bracketed(out.getvalue()) == ["abc", "a", "abcd"]


def test_turns_that_follow_each_other_are_brackets_of_their_own() -> None:
    one = by_hand("", "abcdef")
    one = dataclasses.replace(one, turn_ids=np.array([0, 0, 1, 1, -1, 2], dtype=np.int32))
    one.mask[4] = False
    out = io.StringIO()
    show_tokens(Console(file=out, width=WIDE), [one], tiny_tokenizer())
    assert out.getvalue().splitlines()[1] == "⟦ab⟧⟦cd⟧e⟦f⟧"
    assert tokens_json(one, tiny_tokenizer())["trained"] == [True, True, True, True, False, True]


# What is refused.


def test_what_has_no_tokens_says_so(here: Path) -> None:
    for words, says in (
        (("expert",), "was not sampled from a model in a folder; name its tokenizer's folder with --model"),
        (("expert", "--model", "toy"), "has no token ids"),
        (("rl", "--rollout", "nobody"), "has no rollout with tokens whose id contains 'nobody'"),
        (("sft", "--rollout", "nobody"), "has no rollout with tokens whose id contains 'nobody'"),
        (("nowhere",), "is not a run folder"),
        (("nowhere", "--model", "toy"), "holds no rollouts"),
        (("rl", "--model", "nowhere"), "there is no model folder"),
        (("rl", "--rollout", "step-0000|desk", "--model", "nowhere"), "there is no model folder"),
    ):
        folder, *rest = words
        rest = [str(workshop() / word) if word == "toy" else word for word in rest]
        assert_refused(banty("inspect", str(workshop() / folder), "--tokens", *rest), says)
    did("eval", "habits", "--tasks", "1", "--trials", "1", "--out", "habits", "--no-baselines")
    assert_refused(banty("inspect", "habits", "--tokens"), "was not sampled from a model in a folder")
