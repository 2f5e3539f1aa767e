"""Language models in this process, for the commands: opened, given their threads, made into policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from banty.cli.choices import Chosen
from banty.errors import InputError
from banty.perf import Machine
from banty.records import JSON
from banty.runs import RunFolder, from_mapping
from banty.runs.folder import write_json
from banty.train.recipe import PolicyBlock

if TYPE_CHECKING:  # torch takes seconds to import: a command that needs no model does not wait for it
    from banty.models.loading import LanguageModel
    from banty.policies.token import TokenPolicy

ENGINE_FILE = "engine.json"
_NONE, _EARLIER = "torch", ("attention", "layers")
"""What `kernels` says of a run without any, and what it means at most where it says "native"."""


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

    A resumed run has to compute with the threads and kernels it began with: sums of floats depend on how work is
    divided. Where a kernel it began with is gone, `kernels_now` says which are left.
    """
    import torch

    from banty.models.native.compiled import KERNELS, use_kernels
    from banty.models.probe import probe
    from banty.models.threads import measured_threads

    noted = folder / ENGINE_FILE if folder is not None else None
    if noted is not None and noted.is_file():
        try:
            note = dict(json.loads(noted.read_text()))
            torch.set_num_threads(max(int(note["threads_now"] if "threads_now" in note else note["threads"]), 1))
        except (OSError, ValueError, OverflowError, KeyError, TypeError) as error:
            raise InputError(f"{noted} does not say how many threads the run uses: {error}") from error
        begun = str(note.get("kernels", _NONE))  # a run of before there were any says nothing
        use_kernels(_EARLIER if begun == "native" else begun.split(", "))
        note.pop("kernels_now", None)
        now = _kernels(model)
        same = "layers" in now if begun == "native" else begun == now
        return note if same else {**note, "kernels_now": now}
    use_kernels(KERNELS)
    threads = asked or measured_threads(model)
    torch.set_num_threads(threads)
    made = {"threads": threads, "measured": not asked, "kernels": _kernels(model), "torch": torch.__version__}
    return {**made, **engine_of(model), "machine": probe(model.device, model.dtype).to_json()}


def _kernels(model: LanguageModel) -> str:
    """Whose operations the model is computed with; they agree, but not bit for bit."""
    from banty.models.slots import Kernels

    return ", ".join(Kernels(model).names) or _NONE


def note_pace(folder: Path, policy: object, when: str) -> None:
    """Once the policy's engine has gone down to one thread: so does everything else, and `folder` says since when, so
    that what is resumed there goes on with one."""
    engine = getattr(policy, "engine", None)
    if engine is None or not engine.lost_pace:
        return
    import torch

    torch.set_num_threads(1)
    note = json.loads((folder / ENGINE_FILE).read_text())
    if "threads_now" not in note:
        write_json(folder / ENGINE_FILE, {**note, "threads_now": 1, "lost_pace": when})


def machine_of(folder: Path) -> Machine | None:
    """The limits of the machine that a run was begun on; None where it noted none that can be read, which costs a
    sentence and no run."""
    try:
        return Machine.from_json(json.loads((folder / ENGINE_FILE).read_text())["machine"])
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def begun_in(out: Path) -> Path:
    """The evaluation folder whose engine an evaluation into `out` goes on with: `out`, or a user's in it."""
    return next((file.parent for file in sorted(out.glob(f"user-*/{ENGINE_FILE}"))), out)


def engine_of(model: LanguageModel) -> Mapping[str, str]:
    return {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}


class Loaded(NamedTuple):
    """A model in memory: a policy around its engine, and what `settle_threads` noted."""

    policy: TokenPolicy
    note: Mapping[str, JSON]


def model_opener(
    dtype: str,
    device: str,
    threads: int,
    max_tokens: int | None,
    resumed: Path | None,
    loaded: dict[Path, Loaded] | None = None,
) -> Callable[[Path], Chosen]:
    """What opens a model's folder as a policy to evaluate; `resumed` is the evaluation that is gone on with, if any.

    The weights of a training run answer as they did in it: with its template options, and its cap where none is given.
    A folder in `loaded`, which openers of one dtype and device may share, is not loaded again: agent and users in it
    answer from one engine.
    """
    known = {} if loaded is None else loaded

    def opened(folder: Path) -> Chosen:
        given = {"type": "model", "start": str(folder.resolve()), "dtype": dtype, "device": device, "threads": threads}
        trained = _trained_as(folder)
        given |= {"max_tokens": max_tokens or trained.max_tokens, "template": dict(trained.template)}
        block = from_mapping(PolicyBlock, given, "options")
        block.check()
        if folder.resolve() not in known:
            model = open_model(block)
            settled = settle_threads(model, threads, resumed)
            known[folder.resolve()] = Loaded(token_policy(model, block), settled)
        policy, note = known[folder.resolve()]
        chosen = chosen_model(policy.capped(block.max_tokens), folder)
        return chosen._replace(engine={**note, **chosen.engine})

    return opened


def _trained_as(folder: Path) -> PolicyBlock:
    """The policy block of the run whose weights lie in `folder`; an evaluation's own defaults if they are of none."""
    if folder.name == "weights" and (folder.parent / "manifest.json").is_file():
        policy = RunFolder.open(folder.parent).read_json("recipe.json").get("policy")
        if isinstance(policy, dict) and policy.get("type") == "model":
            return from_mapping(PolicyBlock, policy, str(folder.parent / "recipe.json"))
    return PolicyBlock(type="model", max_tokens=512)


def chosen_model(policy: TokenPolicy, weights: Path) -> Chosen:
    """A policy for an evaluation, told apart by what is in its weights' folder, wherever that lies."""
    model = policy.engine.model
    place = weights.resolve() if weights.exists() else weights  # a hub name is no path
    digest = weights_sha256(weights)
    details: dict[str, JSON] = {"weights_sha256": digest} if digest else {"model": str(weights)}
    details |= {**engine_of(model), "template_class": policy.renderer.template_class, "max_tokens": policy.max_tokens}
    return Chosen(policy, details=details, engine={"model": str(place)})


def check_same_start(run: Path, place: Path) -> None:
    """Note the weights a run starts from; raises InputError when it is resumed with others in their place."""
    digest = start_sha256(place)
    note = json.loads((run / ENGINE_FILE).read_text())
    if note.setdefault("start_sha256", digest) != digest:
        raise InputError(f"the weights in {place} are not those {run} began with; bring those back, or start a new run")
    write_json(run / ENGINE_FILE, note)


def start_sha256(place: Path) -> str:
    """The digest of the weights a run starts from, with an adapter's base behind its own; empty for a hub name."""
    digest = weights_sha256(place) if place.exists() else ""
    if (place / "adapter_config.json").is_file():
        from banty.models.loading import base_of

        base = Path(base_of(place)[0])
        digest += weights_sha256(base) if base.exists() else ""
    return digest


def weights_sha256(folder: Path) -> str:
    """One digest of all weight files of a folder, in the order of their names; empty for a hub name."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest() if files else ""
