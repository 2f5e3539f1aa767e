"""Language models from Hugging Face folders: weights, tokenizer and adapters, checked before anything is computed."""

from __future__ import annotations

import json
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from banty.errors import InputError
from banty.models.packaged import PACKAGED, place_of, stored_name

FAMILIES = ("qwen3", "qwen3_moe", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_STATIC_ROPE = ("default", "linear", "yarn", "llama3", "proportional")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
"""ORGANISATION/NAME, as the hub writes it."""
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
LORA_TARGETS = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("in_proj_qkv", "in_proj_z", "out_proj"),
)
"""The projections an adapter is put on; those a family does not have are left out."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A low-rank adapter (Hu et al. 2021) on the projections of `LORA_TARGETS`: `rank` directions drawn from `seed`,
    their sum scaled by alpha / rank. Experts that are routed to have none."""

    rank: int
    alpha: float = 32.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"lora.rank is {self.rank}; it takes at least 1")
        if not 0.0 < self.alpha < math.inf:
            raise InputError(f"lora.alpha is {self.alpha}; it takes a finite number above 0")


@dataclass(frozen=True, slots=True)
class Layer:
    """What a decoder layer keeps between tokens: keys and values, or a convolution window and a recurrent matrix."""

    kind: Literal["attention", "recurrent"]
    module: nn.Module


class LanguageModel:
    """A causal language model with its tokenizer, as one thing that an engine and a learner share.

    `module` is the Hugging Face model; with an adapter, `peft` wraps the same module. Only parameters that
    `require grad` are trained: all of them, or the adapter's. `num_changes` counts how often they have been changed,
    so that an engine notices weights it was not told of.
    """

    def __init__(self, module: Any, tokenizer: Any, name: str, peft: Any = None) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.name = name
        self.peft = peft
        self.config = module.config
        self.backbone: Any = module.model
        self.layers = [_layer(layer) for layer in self.backbone.layers]
        self.is_recurrent = any(layer.kind == "recurrent" for layer in self.layers)
        self.num_changes = 0
        self._rope: tuple[Tensor, Tensor] | None = None
        _check_adapters(module, name)
        module.eval()  # dropout is never used: what was sampled is what is trained

    @property
    def device(self) -> torch.device:
        device: torch.device = self.embedding.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.embedding.weight.dtype
        return dtype

    @property
    def embedding(self) -> Any:
        return self.backbone.embed_tokens

    @property
    def head(self) -> Tensor:
        """The output projection, [vocabulary, hidden]; the embedding itself where they are tied."""
        weight: Tensor = self.module.lm_head.weight
        return weight

    @property
    def max_tokens(self) -> int:
        """The longest sequence its positions allow."""
        return int(self.config.max_position_embeddings)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name, tied ones once, in a fixed order."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary embedding at `positions` [N], each [N, rotary dimensions]."""
        cos, sin = self.angles(int(positions.max()) + 1 if len(positions) else 1)
        return cos[positions], sin[positions]

    def angles(self, needed: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the first positions, at least `needed` of them."""
        if self._rope is None or len(self._rope[0]) < needed:
            places = torch.arange(max(1024, 2 * needed), device=self.device)
            shape = (3, 1, -1) if hasattr(self.backbone.rotary_emb, "mrope_section") else (1, -1)
            cos, sin = self.backbone.rotary_emb(self.head[:1], places.expand(*shape))
            self._rope = (cos[0], sin[0])
        return self._rope

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder: the model, or the adapter alone, and the tokenizer with its template."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.peft is not None:
            self.peft.save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub whether they changed
        else:
            self.module.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a model's weights, by reference: an engine over the same model has them already."""

    version: int
    model: LanguageModel


def load_model(
    path: str | Path, *, dtype: str = "float32", device: str = "cpu", lora: LoraSpec | None = None
) -> LanguageModel:
    """The model in a Hugging Face folder, in the folder of an adapter, of a hub name, or one that comes with Banty.

    Safetensors only, and no code of the folder's is run. With `lora` a new adapter is put on and everything else is
    frozen; the folder of an adapter brings its own. Raises InputError saying what is wrong with the folder.
    """
    import transformers

    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; it takes one of {', '.join(DTYPES)}")
    _check_device(device)
    base, adapter = base_of(path)
    if adapter is not None and lora is not None:
        raise InputError(f"{path} is an adapter already; leave lora_rank out to go on with it, or start from its base")
    config = _config(base)
    _check_family(base, config)
    transformers.utils.logging.disable_progress_bar()
    loader: Any = transformers.AutoModelForCausalLM
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # what does not fit is said below, in one sentence
    try:
        module, found = loader.from_pretrained(
            base,
            dtype=DTYPES[dtype],
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,  # they are refused below, with their names
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    except Exception as error:  # whatever it is, it is about this folder
        raise InputError(f"{base} cannot be loaded as a model: {_one_line(error)}") from error
    finally:
        transformers.utils.logging.set_verbosity(before)
    _check_weights(base, found)
    _check_tokenizer(base, tokenizer, module)
    module = module.to(device)
    peft = None
    if adapter is not None:
        peft = _with_stored_adapter(module, adapter)
    elif lora is not None:
        peft = _with_new_adapter(module, lora, stored_name(base))
    return LanguageModel(module, tokenizer, name_of(place_of(path)), peft)


def name_of(folder: Path) -> str:
    """What a model is called: by its folder, or by the run whose weights it is."""
    return folder.parent.name if folder.name == "weights" and folder.exists() and folder.parent.name else folder.name


def base_of(path: str | Path) -> tuple[str, Path | None]:
    """The model's own folder or hub name, and the adapter's folder if `path` is one."""
    folder = place_of(path)
    if not folder.exists():
        if _HUB_NAME.fullmatch(str(path)):
            return str(path), None
        raise InputError(
            f"there is no model folder {path}; give a Hugging Face folder, a hub name such as ORG/NAME, or "
            f"{', '.join(PACKAGED)}, which comes with Banty"
        )
    described = folder / "adapter_config.json"
    if described.is_file():
        return _base_of_adapter(described), folder
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no model folder: it has no config.json (and no adapter_config.json)")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder} holds no *.safetensors; other weight formats can run code and are not opened")
    return str(folder), None


def _base_of_adapter(described: Path) -> str:
    """The folder or hub name of an adapter's base; a relative one is looked for beside the adapter as well, but a
    packaged model's name is always that model."""
    try:
        name = json.loads(described.read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{described} does not name the adapter's base model: {error}") from error
    if not isinstance(name, str) or not name:
        raise InputError(f"{described} names {name!r} as the adapter's base model; write its folder or hub name there")
    places = [place_of(name), described.parent / name]
    for place in places:
        if (place / "config.json").is_file():
            return str(place)
    if not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"the base model {name} of the adapter in {described.parent} is not there; bring it back, or write "
            f"its new place into {described}"
        )
    return name


def _check_device(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise InputError(f"device is {device!r}; it takes cpu, cuda, or cuda:N")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is {device!r} and this machine has no CUDA device that torch can use; use 'cpu'")


def _config(base: str) -> Any:
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(base, trust_remote_code=False)
    except Exception as error:  # whatever it is, it is about this folder
        raise InputError(f"{base} has no configuration that can be read: {_one_line(error)}") from error


def _check_family(base: str, config: Any) -> None:
    if config.model_type not in FAMILIES:
        raise InputError(
            f"{base} is a {config.model_type!r} model; the local engine and learner know {', '.join(FAMILIES)}. "
            "Serve it with an OpenAI-compatible server and evaluate its URL instead"
        )
    if getattr(config, "quantization_config", None):
        raise InputError(f"{base} holds quantized weights, which cannot be trained here; take the original model")
    text = getattr(config, "text_config", config)
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        raise InputError(f"{base} uses sliding-window attention, which is not supported; set use_sliding_window=false")
    if getattr(text, "hidden_act", "silu") != "silu":
        raise InputError(f"{base} uses the activation {text.hidden_act!r}, and these families are computed with 'silu'")
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in _STATIC_ROPE:
        raise InputError(
            f"{base} has rope_type {rope!r}, whose angles change with length; known are {', '.join(_STATIC_ROPE)}"
        )


def _check_weights(base: str, found: Any) -> None:
    """Weights that are missing would be random, and those that are left over belong to another model."""
    wrong = {
        "lacks": sorted(found["missing_keys"]),
        "has, beyond its config.json,": sorted(found["unexpected_keys"]),
        "has in another shape": sorted(str(key[0]) for key in found["mismatched_keys"]),
    }
    for what, names in wrong.items():
        if names:
            raise InputError(
                f"{base} {what} {len(names)} weights, such as {names[0]}; copy the folder again, or take the weights "
                "its config.json describes"
            )


def _check_tokenizer(base: str, tokenizer: Any, module: Any) -> None:
    rows = module.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest < 1:
        raise InputError(f"{base} has no tokenizer; copy tokenizer.json and tokenizer_config.json into it")
    if highest >= rows:
        raise InputError(
            f"the tokenizer in {base} has ids up to {highest}, and the model's embedding has {rows} rows; the two do "
            "not belong together: take the tokenizer the weights were trained with, or resize the embedding"
        )


def _with_new_adapter(module: Any, lora: LoraSpec, base: str) -> Any:
    peft = _peft()
    present = {name.rsplit(".", 1)[-1] for name, _ in module.named_modules()}
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=[name for name in LORA_TARGETS if name in present],
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lora.seed)
        adapted = peft.get_peft_model(module, config, autocast_adapter_dtype=False)
    config.base_model_name_or_path = base  # peft has put the folder it was loaded from there
    return adapted


def _with_stored_adapter(module: Any, folder: Path) -> Any:
    from safetensors import safe_open

    peft = _peft()
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{folder} holds no {_ADAPTER_WEIGHTS}; other weight formats can run code and are not opened")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is said below, in one sentence
            adapted = peft.PeftModel.from_pretrained(
                module, str(folder), is_trainable=True, autocast_adapter_dtype=False
            )
        with safe_open(folder / _ADAPTER_WEIGHTS, "pt") as opened:
            stored = set(opened.keys())
    except Exception as error:  # whatever it is, it is about this folder
        raise InputError(f"the adapter in {folder} does not fit its base model: {_one_line(error)}") from error
    wanted = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if different := sorted(stored ^ wanted):
        raise InputError(
            f"the adapter in {folder} does not fit its base model: {len(different)} weights are in one and not in the "
            f"other, such as {different[0]}"
        )
    return adapted


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise InputError("adapters need peft, which is not installed; pip install 'banty[lora]'") from None
    return peft


def _check_adapters(module: Any, name: str) -> None:
    """Raises InputError for an adapter where the module's weight is read directly, and the adapter would do nothing."""
    for place, part in module.named_modules():
        if place.rsplit(".", 1)[-1] in ("lm_head", "conv1d") and hasattr(part, "lora_A"):
            raise InputError(
                f"{name} has an adapter on {place}, which is not supported; leave it out of target_modules"
            )


def _layer(layer: Any) -> Layer:
    return Layer("recurrent" if hasattr(layer, "linear_attn") else "attention", layer)


def _one_line(error: BaseException) -> str:
    lines = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return lines[:300] or type(error).__name__
