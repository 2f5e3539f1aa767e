"""nano's recipe: the committed text can be made again, the tokenizer keeps its promises, a short build resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.nano import corpus, measure
from recipes.nano.build import Build, train
from recipes.nano.tokenizer import CORPUS, NUM_RESERVED, VOCABULARY, build_tokenizer
from recipes.nano.traces import play, player, reading, sample_text, supervised, vary
from safetensors.torch import load_file

from banty.chat import Renderer
from banty.models.packaged import PACKAGED
from banty.train import sft
from banty.train.traces import Trace, trace_of

SHORT = Build(hidden=32, layers=2, head_dim=16, mlp=64, clean_updates=4, mixed_updates=2, conversations_per_update=4)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.mark.parametrize("name", list(corpus.FILES))
def test_the_committed_text_can_be_made_again(name: str) -> None:
    assert (CORPUS / f"{name}.txt").read_text(encoding="utf-8") == corpus.build(name)


def test_the_airline_s_text_can_be_made_again() -> None:
    assert (CORPUS / "airline.txt").read_text(encoding="utf-8") == sample_text()


def test_the_shipped_tokenizer_is_the_one_this_recipe_makes(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    made, shipped = (json.loads((folder / "tokenizer.json").read_text()) for folder in (tmp_path, PACKAGED["nano"]))
    assert made["model"] == shipped["model"]
    assert made["pre_tokenizer"] == shipped["pre_tokenizer"]
    assert (tmp_path / "chat_template.jinja").read_text() == (PACKAGED["nano"] / "chat_template.jinja").read_text()


def test_there_are_2048_ids_of_which_64_are_reserved(tokenizer: Any) -> None:
    assert len(tokenizer) == VOCABULARY == 2048
    names = tokenizer.convert_ids_to_tokens(range(NUM_RESERVED))
    assert names[1:3] == ["<|im_start|>", "<|im_end|>"]
    assert all(name.startswith("<") and name.endswith(">") for name in names)
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("text", ["naïve café ☃ 漢字\t\r\n  x", "{'a': [1.5, -2]}", "where y = 'FY2021'"])
def test_any_text_comes_back_from_its_ids(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("id_", ["ZFA04Y", "HAT081", "amy_lee_4321", "card_77", "2024-05-20", "1628"])
def test_an_id_has_the_same_tokens_in_prose_and_in_quotes(tokenizer: Any, id_: str) -> None:
    def inside(before: str, after: str) -> list[int]:
        whole = tokenizer.encode(f"{before}{id_}{after}", add_special_tokens=False)
        start = len(tokenizer.encode(before, add_special_tokens=False))
        return list(whole[start : start + len(tokenizer.encode(id_, add_special_tokens=False))])

    wanted = tokenizer.encode(id_, add_special_tokens=False)
    assert inside('{"name": "', '"}') == wanted
    assert tokenizer.decode(inside("It is ", ".")).strip() == id_ or inside("It is ", ".")[1:] == wanted[:-1]
    prose = tokenizer.encode(f"It is {id_}.", add_special_tokens=False)
    assert any(prose[start : start + len(wanted)] == wanted for start in range(len(prose)))


def test_prompt_and_episode_stay_within_their_budgets(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer)
    assert (renderer.template_class, renderer.call_format) == ("append_only", "hermes")
    lengths = []
    for rollout in play(player(0.0), "dev", range(60), 7):
        prompt = renderer.text(rollout.opening[:1], rollout.tools, add_generation_prompt=False)
        whole = renderer.text(rollout.transcript, rollout.tools, add_generation_prompt=False)
        assert len(renderer.encode(prompt)) <= 300
        lengths.append(len(renderer.encode(whole)) - len(renderer.encode(prompt)))
    assert sum(lengths) / len(lengths) <= 450


def test_conversations_are_the_same_however_many_processes_make_them(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    alone, together = (supervised(300, 0.25, tmp_path, processes) for processes in (1, 2))
    assert [one.token_ids.tolist() for one in alone] == [one.token_ids.tolist() for one in together]
    assert len(alone) == 300
    clean = supervised(40, 0.0, tmp_path, 1)
    assert [one.token_ids.tolist() for one in clean] != [one.token_ids.tolist() for one in alone[:40]]


def test_other_words_leave_what_the_expert_reads_and_what_the_agent_says() -> None:
    changed = 0
    for rollout in play(player(0.0), "train", range(40), 3):
        trace = trace_of(rollout)
        other = vary(trace, np.random.default_rng(rollout.task.index))
        assert [message for message, _ in other.turns] == [message for message, _ in trace.turns]
        pairs = zip(customer_of(trace), customer_of(other), strict=True)
        for said, instead in pairs:
            changed += said != instead
            assert reading(said) == reading(instead)
        assert [one for one in other.opening if one.role != "user"] == [
            one for one in trace.opening if one.role != "user"
        ]
        assert vary(trace, np.random.default_rng(rollout.task.index)) == other
    assert changed > 60


def customer_of(trace: Trace) -> list[str]:
    messages = [*trace.opening, *(message for _, came in trace.turns for message in came)]
    return [message.content for message in messages if message.role == "user"]


def test_a_short_build_runs_resumes_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(SHORT, tmp_path / "whole", dtype="float32", processes=1).save(tmp_path / "whole" / "nano")
    steps = 0
    save: Any = vars(sft)["save_checkpoint"]

    def cut(*given: Any) -> None:
        nonlocal steps
        save(*given)
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("recipes.nano.build.CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(sft, "save_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, tmp_path / "cut", dtype="float32", processes=1)
    monkeypatch.setattr(sft, "save_checkpoint", save)
    train(SHORT, tmp_path / "cut", dtype="float32", processes=1).save(tmp_path / "cut" / "nano")
    whole, resumed = (load_file(tmp_path / name / "nano" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    started = load_file(tmp_path / "whole" / "start" / "model.safetensors")
    assert any(not torch.equal(whole[name], started[name].to(whole[name].dtype)) for name in whole)
    with pytest.raises(SystemExit, match="another build"):
        train(dataclasses.replace(SHORT, lapse=0.5), tmp_path / "cut", dtype="float32", processes=1)


def test_the_card_says_what_was_measured(tmp_path: Path) -> None:
    train(SHORT, tmp_path, dtype="float32", processes=1).save(tmp_path / "nano")
    card = measure.measure(tmp_path / "nano", measure.Setting("sampled", "train", 1.0, 2), 2, "dev")
    text = measure.results_text({"sampled": card})
    assert "| sampled |" in text
    assert "| 2 x 2 |" in text
    assert card.data["identity"]["provenance"]["phrasing"] == "train"


def test_the_shipped_weights_are_those_their_card_names() -> None:
    folder = PACKAGED["nano"]
    notes = json.loads((folder / "nano.json").read_text())
    assert measure.sha256(folder / "model.safetensors") == notes["weights_sha256"]
    assert notes["weights_sha256"] in (folder / "README.md").read_text()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12 * 2**20
    assert notes["build"] == dataclasses.asdict(Build())
