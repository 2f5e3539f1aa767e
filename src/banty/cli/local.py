"""Language models in this process, for the commands: opened, given their threads, made into policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from banty.cli.choices import Chosen
from banty.errors import InputError
from banty.records import JSON
from banty.runs import from_mapping
from banty.train.recipe import PolicyBlock

if TYPE_CHECKING:  # torch takes seconds to import: a command that needs no model does not wait for it
    from banty.models.loading import LanguageModel
    from banty.policies.token import TokenPolicy

ENGINE_FILE = "engine.json"


def open_model(block: PolicyBlock) -> LanguageModel:
    """The model a recipe trains, with its adapter."""
    from banty.models.loading import LoraSpec, load_model

    lora = LoraSpec(block.lora_rank, block.lora_alpha) if block.lora_rank else None
    return load_model(block.start, dtype=block.dtype, device=block.device, lora=lora)


def token_policy(model: LanguageModel, block: PolicyBlock) -> TokenPolicy:
    """The model as a policy. Raises InputError for a tokenizer or template that cannot serve."""
    from banty.chat import Renderer
    from banty.policies.engine import LocalEngine
    from banty.policies.token import TokenPolicy

    renderer = Renderer(model.tokenizer, **block.template)
    return TokenPolicy(LocalEngine(model), renderer, name=model.name, max_tokens=block.max_tokens)


def settle_threads(model: LanguageModel, asked: int, folder: Path | None) -> dict[str, JSON]:
    """Use `asked` threads, or those `folder` was begun with, or as many as are found faster now; what to note there.

    A resumed run has to compute with the threads it began with: sums of floats depend on how work is divided.
    """
    import torch

    from banty.models.threads import measured_threads

    noted = folder / ENGINE_FILE if folder is not None else None
    if noted is not None and noted.is_file():
        try:
            note = dict(json.loads(noted.read_text()))
            torch.set_num_threads(int(note["threads"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{noted} does not say how many threads the run uses: {error}") from error
        return note
    threads = asked or measured_threads(model)
    torch.set_num_threads(threads)
    return {"threads": threads, "measured": not asked, "torch": torch.__version__, **engine_of(model)}


def engine_of(model: LanguageModel) -> Mapping[str, str]:
    return {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}


def model_opener(
    dtype: str, device: str, threads: int, max_tokens: int | None, resumed: Path | None
) -> Callable[[Path], Chosen]:
    """What opens a model's folder as a policy to evaluate; `resumed` is the evaluation that is gone on with, if any."""

    def opened(folder: Path) -> Chosen:
        given = {"type": "model", "start": str(folder), "dtype": dtype, "device": device, "threads": threads}
        block = from_mapping(PolicyBlock, {**given, "max_tokens": max_tokens or 512}, "options")
        block.check()
        model = open_model(block)
        note = settle_threads(model, threads, resumed)
        name = folder.name if folder.name != "weights" else f"{folder.parent.name}/weights"
        return chosen_model(token_policy(model, block), folder, name)._replace(engine=note)

    return opened


def chosen_model(policy: TokenPolicy, weights: Path, name: str = "") -> Chosen:
    """A policy for an evaluation, told apart by what is in its weights' folder."""
    if name:
        policy.name = name
    model = policy.engine.model
    place = weights.resolve() if weights.exists() else weights  # a hub name is no path
    details = {"model": str(place), "weights_sha256": weights_sha256(weights), **engine_of(model)}
    return Chosen(policy, details={**details, "template_class": policy.renderer.template_class})


def weights_sha256(folder: Path) -> str:
    """One digest of all weight files of a folder, in the order of their names; empty for a hub name."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest() if files else ""
