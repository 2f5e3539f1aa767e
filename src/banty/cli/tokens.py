"""`banty inspect --tokens`: what a model saw and what it is trained on, token by token."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from banty.chat import ChatTokenizer, Renderer
from banty.cli.local import ENGINE_FILE
from banty.cli.plain import visible
from banty.errors import InputError
from banty.records import JSON, Rollout, TrainingSample
from banty.runs import RunFolder, from_mapping
from banty.train.recipe import SFTRecipe
from banty.train.samples import pack_rollout
from banty.train.sft import supervised_samples

TRAINED, SEEN = "black on green", "dim"
OPEN, CLOSE = "⟦", "⟧"


def model_of_run(folder: Path) -> str:
    """The model whose tokens a run, or an evaluation, is made of. Raises InputError where it is of none."""
    run = RunFolder.open(folder)
    policy = run.read_json("recipe.json").get("policy")
    if isinstance(policy, dict) and policy.get("type") == "model":
        return str(policy["start"])
    if (folder / ENGINE_FILE).is_file() and (model := run.read_json(ENGINE_FILE).get("model")):
        return str(model)
    raise InputError(f"{folder} was not sampled from a model in a folder; name its tokenizer's folder with --model")


def tokenizer_in(model: str) -> Any:
    """The tokenizer of a model's folder, or of an adapter's base."""
    from banty.models.loading import base_of

    return _read_tokenizer(base_of(model)[0], model)


def tokenizer_beside(weights: Path) -> Any:
    """The tokenizer that was saved with weights, an adapter's as well. Raises InputError where there is none."""
    if not (weights / "tokenizer.json").is_file():
        raise InputError(f"{weights} has no tokenizer.json")
    return _read_tokenizer(str(weights), str(weights))


def _read_tokenizer(place: str, model: str) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # whatever it is, it is about this folder
        raise InputError(f"{model} has no tokenizer that can be read: {error}") from error


def samples_of_rollout(rollout: Rollout) -> list[TrainingSample]:
    """A stored rollout as training samples, advantages left at 0."""
    turns = [turn for turn in rollout.turns if turn.trainable]
    return pack_rollout(rollout, turns, [0.0] * len(turns), [1.0] * len(turns))


def is_tuning(folder: Path) -> bool:
    """Whether a folder is that of a fine-tuning run."""
    found = (folder / "recipe.json").is_file() and (folder / "manifest.json").is_file()
    return found and RunFolder.open(folder).read_json("recipe.json").get("kind") == "sft"


def samples_of_tuning(folder: Path, tokenizer: ChatTokenizer) -> list[TrainingSample]:
    """What a fine-tuning run imitates."""
    data = RunFolder.open(folder).read_json("recipe.json")
    data.pop("kind")
    recipe = from_mapping(SFTRecipe, data, str(folder / "recipe.json"))
    return supervised_samples(recipe.data, Renderer(tokenizer, **recipe.policy.template))


def tokens_json(sample: TrainingSample, tokenizer: ChatTokenizer) -> dict[str, JSON]:
    """One sample, a list an array; texts are of single ids and may be parts of a letter."""
    ids = sample.token_ids.tolist()
    return {
        "rollout_id": sample.rollout_id,
        "token_ids": ids,
        "texts": [tokenizer.decode([one], skip_special_tokens=False) for one in ids],
        "trained": sample.mask.tolist(),
        "turn_ids": sample.turn_ids.tolist(),
        "sampler_logprobs": [round(float(value), 6) for value in sample.sampler_logprobs],
    }


def show_tokens(console: Console, samples: Sequence[TrainingSample], tokenizer: ChatTokenizer) -> None:
    """Each sample as text: what is trained stands on green, and in brackets where there are no colours."""
    for sample in samples:
        trained, total = int(sample.mask.sum()), len(sample.mask)
        share = "" if sample.rollout_share == 1.0 else f", {sample.rollout_share:.0%} of its rollout"
        console.print(Text(visible(f"{sample.rollout_id}: {trained} of {total} tokens trained{share}"), style="bold"))
        console.print(_text(sample, tokenizer, colours=console.is_terminal), soft_wrap=not console.is_terminal)
        console.print()
    console.print(Text("trained", style=TRAINED) if console.is_terminal else Text(f"{OPEN}trained{CLOSE}"), end="  ")
    console.print(Text("seen", style=SEEN))


def _text(sample: TrainingSample, tokenizer: ChatTokenizer, *, colours: bool) -> Text:
    text = Text()
    places = range(len(sample.mask))
    for turn, group in itertools.groupby(places, key=lambda place: int(sample.turn_ids[place])):
        ids = [int(sample.token_ids[place]) for place in group]
        said = visible(str(tokenizer.decode(ids, skip_special_tokens=False)))
        if turn < 0:
            text.append(said, style=SEEN)
        elif colours:
            text.append(said, style=TRAINED)
        else:
            text.append(f"{OPEN}{said}{CLOSE}")
    return text
