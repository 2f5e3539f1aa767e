"""Models from folders: what Hugging Face reads from the same folder is the reference, and what is wrong is said."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import FAMILIES, Family, tiny_folder, tiny_model, tiny_module, tiny_tokenizer, write_tiny
from torch import Tensor

import banty
from banty.errors import InputError
from banty.models.loading import LanguageModel, LoraSpec, base_of, load_model
from banty.models.packaged import PACKAGED, place_of

IDS = torch.tensor([[5, 200, 258, 3, 3, 77, 140, 9, 60, 1, 250, 31]])
WORDS = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Über there."}]


@torch.no_grad()
def logprobs(module: Any) -> Tensor:
    found: Tensor = module(IDS).logits.log_softmax(-1)
    return found


@torch.no_grad()
def taught(model: LanguageModel, seed: int = 1) -> LanguageModel:
    """Moved, as training would move it, in every trained parameter."""
    torch.manual_seed(seed)
    for value in model.trainable().values():
        value.add_(0.05 * torch.randn_like(value))
    return model


def snapshot(model: LanguageModel) -> dict[str, Tensor]:
    """The base model's own weights, by the names they have without an adapter."""
    return {
        name.replace(".base_layer", ""): value.detach().clone()
        for name, value in model.module.named_parameters()
        if "lora_" not in name
    }


def assert_equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def edited(folder: Path, file: str = "config.json", **changes: Any) -> Path:
    """The folder, with keys of a JSON file changed; None takes a key away."""
    content = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "opened")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter of rank 2; not to be written into."""
    folder = tmp_path_factory.mktemp("adapter") / "made"
    taught(tiny_model("qwen3", lora=LoraSpec(2, 3.0))).save(folder)
    return folder


# What is read.


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_read_as_hugging_face_reads_it(family: Family) -> None:
    import transformers

    model = load_model(str(tiny_folder(family)))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder(family))
    assert torch.equal(logprobs(model.module), logprobs(theirs))
    assert model.name == tiny_folder(family).name
    assert (model.dtype, model.device.type, model.max_tokens, model.peft) == (torch.float32, "cpu", 4096, None)
    assert not model.module.training
    assert [layer.kind for layer in model.layers] == (
        ["attention"] * 4 if family == "qwen3" else ["recurrent", "attention"] * 2
    )
    assert model.is_recurrent == (family == "qwen3_5")
    assert model.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert model.tokenizer.chat_template == tiny_tokenizer().chat_template


def test_what_is_computed_in_is_what_was_asked_for() -> None:
    model = tiny_model("qwen3", dtype="bfloat16", lora=LoraSpec(2))
    assert model.dtype == torch.bfloat16
    assert {value.dtype for value in model.module.parameters()} == {torch.bfloat16}, "the adapter is not promoted"


def test_loading_is_quiet_and_leaves_the_verbosity_of_transformers_alone(tmp_path: Path) -> None:
    import transformers

    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener, before = Listener(), transformers.utils.logging.get_verbosity()
    wrong = edited(copied(tiny_folder("qwen3"), tmp_path / "wrong"), intermediate_size=63)
    transformers.utils.logging.add_handler(listener)
    transformers.utils.logging.set_verbosity_warning()
    try:
        tiny_model("qwen3")
        with pytest.raises(InputError):
            load_model(wrong)
        assert transformers.utils.logging.get_verbosity() == logging.WARNING
        assert not [text for text in said if "mlp" in text], "what does not fit is said once, by the InputError"
    finally:
        transformers.utils.logging.set_verbosity(before)
        transformers.utils.logging.remove_handler(listener)


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_embeddings_are_one_parameter_and_untied_ones_two(family: Family, tmp_path: Path) -> None:
    tied = tiny_model(family)
    assert tied.head is tied.embedding.weight
    names = list(tied.trainable())
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names

    config = tiny_module(family).config
    config.tie_word_embeddings = False
    module = type(tiny_module(family))(config)
    module.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    untied = load_model(tmp_path)
    assert torch.equal(untied.head, module.lm_head.weight)
    assert not torch.equal(untied.head, untied.embedding.weight)
    assert list(untied.trainable()) == [*names, "lm_head.weight"]
    assert torch.equal(logprobs(untied.module), logprobs(module.eval()))
    taught(untied).save(tmp_path / "again")
    assert torch.equal(logprobs(load_model(tmp_path / "again").module), logprobs(untied.module))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_a_model_is_trained_each_parameter_once_in_one_order(family: Family) -> None:
    model, again = tiny_model(family), tiny_model(family)
    trainable = model.trainable()
    assert len({id(value) for value in trainable.values()}) == len(trainable)
    assert {id(value) for value in trainable.values()} == {id(value) for value in model.module.parameters()}
    assert list(trainable) == list(again.trainable())


def test_a_multimodal_folder_gives_its_language_model(tmp_path: Path) -> None:
    """Qwen3.5 is published with an image encoder: its text weights are used, and what is saved is a text model."""
    import transformers

    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    patches = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16}
    torch.manual_seed(2)
    config = transformers.Qwen3_5Config(
        text_config=tiny_module("qwen3_5").config.to_dict(), vision_config=vision | patches, tie_word_embeddings=True
    )
    whole = transformers.Qwen3_5ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    stored = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert (stored["model_type"], "text_config" in stored) == ("qwen3_5", True)

    model = load_model(tmp_path / "whole")
    assert torch.equal(logprobs(model.module), logprobs(whole))
    assert not any("visual" in name for name in model.trainable())
    assert model.max_tokens == 4096
    taught(model).save(tmp_path / "text")
    assert torch.equal(logprobs(load_model(tmp_path / "text").module), logprobs(model.module))
    text = {**stored["text_config"], "layer_types": ["sliding_attention", "full_attention"] * 2}
    edited(tmp_path / "whole", text_config=text)
    with pytest.raises(InputError, match="sliding-window"):
        load_model(tmp_path / "whole")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_a_folder_that_hugging_face_reads(family: Family, tmp_path: Path) -> None:
    import transformers

    model = taught(tiny_model(family))
    assert not torch.equal(logprobs(model.module), logprobs(tiny_model(family).module))
    model.save(tmp_path / "deep" / "saved")
    names = {path.name for path in (tmp_path / "deep" / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".py"))]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "deep" / "saved")
    assert torch.equal(logprobs(theirs), logprobs(model.module))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "deep" / "saved")
    assert tokenizer.chat_template == model.tokenizer.chat_template
    for asks in (False, True):
        text = str(tokenizer.apply_chat_template(WORDS, tokenize=False, add_generation_prompt=asks))
        assert text == model.tokenizer.apply_chat_template(WORDS, tokenize=False, add_generation_prompt=asks)
        assert tokenizer(text).input_ids == model.tokenizer(text).input_ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert_equal(snapshot(load_model(tmp_path / "deep" / "saved")), snapshot(model))


def test_weights_in_several_files_are_read_and_a_missing_one_is_noticed(tmp_path: Path) -> None:
    module = tiny_module("qwen3")
    module.save_pretrained(tmp_path, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(logprobs(load_model(tmp_path).module), logprobs(module.eval()))
    shards[-1].unlink()
    with pytest.raises(InputError, match=r"cannot be loaded as a model: .*model-0000"):
        load_model(tmp_path)


# Adapters.


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_put_on_saved_and_read_again_and_its_base_is_untouched(family: Family, tmp_path: Path) -> None:
    base = tiny_model(family)
    plain, before = logprobs(base.module), snapshot(base)
    files = {path.name: path.read_bytes() for path in tiny_folder(family).iterdir()}
    model = tiny_model(family, lora=LoraSpec(3, 6.0))
    assert torch.allclose(logprobs(model.module), plain, atol=1e-5), "a new adapter changes nothing"
    assert_equal(snapshot(model), before)

    trainable = model.trainable()
    put_on = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trainable}
    attention = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert put_on == (attention if family == "qwen3" else attention | {"in_proj_qkv", "in_proj_z", "out_proj"})
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)
    assert all(3 in value.shape for value in trainable.values())

    taught(model)
    moved = logprobs(model.module)
    assert (moved - plain).abs().max() > 1e-2
    with model.peft.disable_adapter():
        assert torch.allclose(logprobs(model.module), plain, atol=1e-5)
    assert torch.equal(logprobs(model.module), moved)
    model.save(tmp_path / "adapter")
    assert sum(path.suffix == ".safetensors" for path in (tmp_path / "adapter").iterdir()) == 1
    assert not (tmp_path / "adapter" / "config.json").exists(), "the adapter alone"
    assert base_of(tmp_path / "adapter") == (str(tiny_folder(family)), tmp_path / "adapter")

    again = load_model(tmp_path / "adapter")
    assert torch.equal(logprobs(again.module), moved)
    assert again.name == "adapter"
    assert {name: value.shape for name, value in again.trainable().items()} == {
        name: value.shape for name, value in trainable.items()
    }
    assert_equal(snapshot(again), before)
    assert {path.name: path.read_bytes() for path in tiny_folder(family).iterdir()} == files


def test_a_loaded_adapter_can_be_trained_on(adapter: Path, tmp_path: Path) -> None:
    model = load_model(adapter)
    before = logprobs(model.module)
    assert {tuple(value.shape) for name, value in model.trainable().items() if "lora_A" in name} == {(2, 32), (2, 64)}
    taught(model, seed=5).save(tmp_path / "further")
    assert (logprobs(model.module) - before).abs().max() > 1e-3
    assert torch.equal(logprobs(load_model(tmp_path / "further").module), logprobs(model.module))


def test_the_scale_of_an_adapter_is_alpha_over_rank(tmp_path: Path) -> None:
    by_hand = tiny_model("qwen3")
    model = taught(tiny_model("qwen3", lora=LoraSpec(2, 5.0)))
    trained = model.trainable()
    with torch.no_grad():
        for name, value in by_hand.module.named_parameters():
            stem = f"{name.removesuffix('.weight')}.lora_"
            if f"{stem}A.default.weight" in trained:
                value.add_(2.5 * trained[f"{stem}B.default.weight"] @ trained[f"{stem}A.default.weight"])
    assert torch.allclose(logprobs(model.module), logprobs(by_hand.module), atol=1e-4)


# Positions.


@pytest.mark.parametrize("rope", ["default", "linear", "yarn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_angles_are_hugging_faces_also_beyond_the_first_table(family: Family, rope: str, tmp_path: Path) -> None:
    folder = copied(tiny_folder(family), tmp_path / "model")
    if rope != "default":
        given = json.loads((folder / "config.json").read_text())["rope_parameters"]
        more = {"rope_type": rope, "factor": 3.0, "original_max_position_embeddings": 2048}
        edited(folder, rope_parameters=given | more)
    model = load_model(folder)
    for positions in ([0, 3, 1], [1023, 7], [1024], [4095, 0, 1025, 1024], [2]):
        cos, sin = model.rope(torch.tensor(positions))
        places = torch.tensor([positions])
        # Qwen3.5 has three positions a token, for images; those of text are the same.
        theirs = model.backbone.rotary_emb(model.head[:1], places if family == "qwen3" else torch.stack([places] * 3))
        assert cos.shape == sin.shape == (len(positions), 16 if family == "qwen3" else 4)
        assert torch.allclose(cos, theirs[0][0], atol=1e-6)
        assert torch.allclose(sin, theirs[1][0], atol=1e-6)
    empty, _ = model.rope(torch.tensor([], dtype=torch.int64))
    assert len(empty) == 0


# Hub names.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of hub models and no network, as HF_HUB_CACHE and HF_HUB_OFFLINE say before the first import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def cached(cache: Path, name: str) -> Path:
    """A tiny model laid down as the hub's client lays it down; its snapshot."""
    home, commit = cache / f"models--{name.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return copied(tiny_folder("qwen3"), home / "snapshots" / commit)


def test_a_hub_name_is_found_in_the_local_cache_without_a_network(cache: Path) -> None:
    cached(cache, "maker/small-model")
    model = load_model("maker/small-model", lora=LoraSpec(2))
    assert model.name == "small-model"
    assert model.tokenizer.chat_template == tiny_tokenizer().chat_template
    with model.peft.disable_adapter():
        assert torch.equal(logprobs(model.module), logprobs(tiny_model("qwen3").module))
    with pytest.raises(InputError, match="maker/absent has no configuration that can be read"):
        load_model("maker/absent")


def test_an_adapter_finds_a_base_that_is_a_hub_name(cache: Path, adapter: Path, tmp_path: Path) -> None:
    cached(cache, "maker/small-model")
    folder = copied(adapter, tmp_path / "adapter")
    edited(folder, "adapter_config.json", base_model_name_or_path="maker/small-model")
    assert base_of(folder) == ("maker/small-model", folder)
    assert torch.equal(logprobs(load_model(folder).module), logprobs(load_model(adapter).module))


def test_pickled_weights_of_a_hub_model_are_never_opened(cache: Path, tmp_path: Path) -> None:
    snapshot_folder = cached(cache, "maker/pickled")
    (snapshot_folder / "model.safetensors").unlink()
    with (snapshot_folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(InputError, match=r"maker/pickled cannot be loaded as a model: .*model\.safetensors"):
        load_model("maker/pickled")
    assert not (tmp_path / "exploded").exists()


def test_the_adapter_of_a_hub_model_is_saved_without_asking_the_hub(cache: Path, tmp_path: Path) -> None:
    cached(cache, "maker/small-model")
    model = taught(load_model("maker/small-model", lora=LoraSpec(2)))
    model.save(tmp_path / "adapter")
    assert torch.equal(logprobs(load_model(tmp_path / "adapter").module), logprobs(model.module))


# What is refused.


def _without(*names: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def _cut(size: int) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:size])

    return change


def _config(**changes: Any) -> Callable[[Path], Any]:
    return lambda folder: edited(folder, **changes)


DEEPER = {"num_hidden_layers": 5, "layer_types": ["full_attention"] * 5}
SHALLOWER = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
SLIDING = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2, "layer_types": None}
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("config.json"), r"no model folder: it has no config\.json \(and no adapter_config\.json\)"),
        (_without("model.safetensors"), r"holds no \*\.safetensors; other weight formats can run code"),
        (lambda folder: (folder / "config.json").write_text("{"), "has no configuration that can be read: .*JSON"),
        (_config(model_type="unheard-of"), "has no configuration that can be read: .*`unheard-of`"),
        (_config(model_type="llama"), "is a 'llama' model; .*know qwen3, .*OpenAI-compatible server"),
        (_config(hidden_act="gelu"), "activation 'gelu', and these families are computed with 'silu'"),
        (_config(**SLIDING), "sliding-window attention, which is not supported; set use_sliding_window=false"),
        (_config(**DYNAMIC), "rope_type 'dynamic', whose angles change with length; known are default, .*yarn"),
        (_config(**DEEPER), r"lacks 11 weights, such as model\.layers\.4\.\S+; copy the folder again"),
        (_config(**SHALLOWER), r"has, beyond its config\.json, 11 weights, such as model\.layers\.3\."),
        (_config(intermediate_size=63), r"has in another shape 12 weights, such as model\.layers\.0\.mlp\.down_proj"),
        (_config(quantization_config={"quant_method": "fp8"}), "holds quantized weights, which cannot be trained here"),
        (_config(vocab_size=330), "has in another shape 1 weights, such as model.embed_tokens.weight"),
        (_cut(60_000), "cannot be loaded as a model: .*header"),
        (_cut(40), "cannot be loaded as a model: .*header"),
        (_cut(0), "cannot be loaded as a model: .*header"),
        (_without("tokenizer.json"), "cannot be loaded as a model: "),
        (_without("tokenizer.json", "tokenizer_config.json"), "has no tokenizer; copy tokenizer.json and"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(change: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    folder = copied(tiny_folder("qwen3"), tmp_path / "broken")
    change(folder)
    with pytest.raises(InputError, match=words) as refused:
        load_model(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_with_more_ids_than_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ids up to 258, and the model's embedding has 258 rows; .*resize"):
        load_model(write_tiny(tmp_path / "short", vocabulary=258))
    load_model(write_tiny(tmp_path / "just-right", vocabulary=259))


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = copied(tiny_folder("qwen3"), tmp_path / "model")
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    assert torch.equal(logprobs(load_model(folder).module), logprobs(tiny_model("qwen3").module))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can run code and are not opened"):
        load_model(folder)
    base = copied(folder, tmp_path / "base")
    tiny_model("qwen3", lora=LoraSpec(2)).save(tmp_path / "adapter")
    with pytest.raises(InputError, match="base cannot be loaded as a model"):
        load_model(edited(tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=str(base)))
    assert not (tmp_path / "exploded").exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert (tmp_path / "exploded").exists(), "opening it would have been seen"


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = copied(tiny_folder("qwen3"), tmp_path / "model")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit\n")
    edited(folder, auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"})
    edited(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Slow", "code.Fast"]})
    assert torch.equal(logprobs(load_model(folder).module), logprobs(tiny_model("qwen3").module))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["nowhere", "../nowhere", "../no/where", "a/b/c", "/absent/folder", "/absent"])
def test_a_path_that_is_no_folder_and_no_hub_name_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=rf"there is no model folder {path}; give .* hub name such as ORG/NAME"):
        load_model(path)


def test_a_path_from_here_is_no_hub_name() -> None:
    with pytest.raises(InputError, match=r"there is no model folder \./no/where"):
        base_of("./no/where")


def test_two_words_are_a_hub_name_unless_they_are_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert base_of("org/name") == ("org/name", None)
    (tmp_path / "org" / "name").mkdir(parents=True)
    with pytest.raises(InputError, match=r"org/name is no model folder: it has no config\.json"):
        base_of("org/name")


def test_a_dtype_or_a_device_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="dtype is 'float16'; it takes one of float32, bfloat16"):
        tiny_model("qwen3", dtype="float16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match=rf"device is '{device}' and this machine has no CUDA .*use 'cpu'"):
            tiny_model("qwen3", device=device)


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:", "cuda:one", "CPU", ""])
def test_a_device_that_nobody_knows_is_refused(device: str) -> None:
    with pytest.raises(InputError, match=rf"device is '{device}'; it takes cpu, cuda, or cuda:N"):
        tiny_model("qwen3", device=device)


def test_an_adapter_of_no_rank_or_no_scale_is_refused() -> None:
    for rank in (0, -3):
        with pytest.raises(InputError, match=rf"lora\.rank is {rank}; it takes at least 1"):
            LoraSpec(rank)
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match=rf"lora\.alpha is {alpha}; it takes a finite number above 0"):
            LoraSpec(2, alpha)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"words"'])
def test_an_adapter_that_does_not_name_its_base_is_refused(text: str, adapter: Path, tmp_path: Path) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=r"adapter_config\.json does not name the adapter's base model"):
        load_model(folder)


@pytest.mark.parametrize("base", ["null", '""', "3"])
def test_an_adapter_whose_base_is_no_name_is_refused(base: str, adapter: Path, tmp_path: Path) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(f'{{"base_model_name_or_path": {base}}}')
    with pytest.raises(
        InputError, match=r"adapter_config\.json names \S+ as the adapter's base model; write its folder"
    ):
        base_of(folder)


def test_a_base_beside_the_adapter_is_found_from_anywhere(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(adapter, tmp_path / "both" / "adapter")
    copied(tiny_folder("qwen3"), tmp_path / "both" / "base")
    edited(folder, "adapter_config.json", base_model_name_or_path="../base")
    monkeypatch.chdir("/")
    assert torch.equal(logprobs(load_model(folder).module), logprobs(load_model(adapter).module))


def test_a_base_that_is_no_more_beside_the_adapter_is_named(adapter: Path, tmp_path: Path) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    edited(folder, "adapter_config.json", base_model_name_or_path="../base")
    with pytest.raises(InputError, match=rf"the base model \.\./base of the adapter in {folder} is not there"):
        base_of(folder)


def test_an_adapter_on_an_adapter_is_refused(adapter: Path) -> None:
    with pytest.raises(InputError, match="is an adapter already; leave lora_rank out to go on with it"):
        load_model(adapter, lora=LoraSpec(4))


def test_an_adapter_where_the_weight_itself_is_read_is_refused(tmp_path: Path) -> None:
    import peft

    module = tiny_module("qwen3")
    module.config.tie_word_embeddings = False
    untied = type(module)(module.config)
    untied.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    put_on = peft.get_peft_model(untied, peft.LoraConfig(r=2, target_modules=["lm_head", "q_proj"]))
    put_on.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    put_on.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    with pytest.raises(InputError, match="adapter has an adapter on lm_head, which is not supported; leave it out"):
        load_model(tmp_path / "adapter")


def test_the_first_directions_of_an_adapter_are_drawn_from_its_seed_and_nothing_else() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (tiny_model("qwen3", lora=LoraSpec(2, seed=seed)).trainable() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's draws are moved"
    assert_equal(first, again)
    assert not torch.equal(next(iter(first.values())), next(iter(other.values())))


def test_without_peft_there_are_no_adapters(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    for load in (lambda: load_model(adapter), lambda: tiny_model("qwen3", lora=LoraSpec(2))):
        with pytest.raises(InputError, match=r"adapters need peft, .* pip install 'banty\[lora\]'"):
            load()
    tiny_model("qwen3")


def _wider(folder: Path) -> None:
    wide = write_tiny(folder.parent / "wide", hidden=64)
    edited(folder, "adapter_config.json", base_model_name_or_path=str(wide))


@pytest.mark.parametrize(
    "change",
    [
        _wider,
        lambda folder: edited(folder, "adapter_config.json", r=4),
        lambda folder: edited(folder, "adapter_config.json", target_modules=["nothing_like_it"]),
        lambda folder: edited(folder, "adapter_config.json", peft_type="UNHEARD_OF"),
        _cut(3000),
    ],
    ids=["wider base", "another rank", "no such module", "unknown type", "truncated"],
)
def test_an_adapter_that_does_not_fit_its_base_is_refused(
    change: Callable[[Path], Any], adapter: Path, tmp_path: Path
) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    change(folder)
    with pytest.raises(InputError, match=rf"{folder} (does not fit its base model|holds no adapter_model)"):
        load_model(folder)


def test_an_adapter_without_its_weights_is_refused(adapter: Path, tmp_path: Path) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(
        InputError, match=rf"{folder} holds no adapter_model\.safetensors; other weight formats can run"
    ):
        load_model(folder)


def test_an_adapter_whose_base_is_gone_is_refused(adapter: Path, tmp_path: Path) -> None:
    folder = edited(
        copied(adapter, tmp_path / "adapter"), "adapter_config.json", base_model_name_or_path="/absent/base"
    )
    with pytest.raises(InputError, match=rf"the base model /absent/base of the adapter in {folder} is not there"):
        load_model(folder)


def _other_depth(layers: int) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        base = write_tiny(folder.parent / "base", layers=layers)
        edited(folder, "adapter_config.json", base_model_name_or_path=str(base))

    return change


def _pickled(folder: Path) -> None:
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()


@pytest.mark.parametrize(
    "change", [_other_depth(6), _other_depth(2), _pickled], ids=["lacks weights", "has too many weights", "pickled"]
)
@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # as it is outside of tests
def test_an_adapter_that_is_not_all_there_is_refused(
    change: Callable[[Path], Any], adapter: Path, tmp_path: Path
) -> None:
    folder = copied(adapter, tmp_path / "adapter")
    change(folder)
    with pytest.raises(InputError, match="adapter"):
        load_model(folder)


def test_a_packaged_model_is_opened_by_its_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    model = load_model("nano")
    assert model.name == "nano"
    assert model.device.type == "cpu"
    assert place_of("nano") == PACKAGED["nano"]
    assert place_of(tmp_path / "nano") == tmp_path / "nano"
    assert place_of(Path("./nano")) == place_of("./nano") == Path("nano"), (
        "a folder of one's own is not the packaged one"
    )
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_model("./nano")
    with pytest.raises(InputError, match="or nano, which comes with Banty"):
        load_model("nana")


def test_an_adapter_on_a_packaged_model_names_it_and_is_opened_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Banty has it elsewhere. A folder of that name beside either is not meant."""
    model = taught(load_model("nano", lora=LoraSpec(2)))
    for place in ("first", "second"):
        model.save(tmp_path / place)
        stored = json.loads((tmp_path / place / "adapter_config.json").read_text())
        assert stored["base_model_name_or_path"] == "nano"
        assert str(PACKAGED["nano"]) not in (tmp_path / place / "adapter_config.json").read_text()
        write_tiny(tmp_path / place / "nano")
        monkeypatch.chdir(tmp_path / place)
        assert base_of(tmp_path / place) == (str(PACKAGED["nano"]), tmp_path / place)
        again = load_model(tmp_path / place)
        assert_equal(again.trainable(), model.trainable())
        assert torch.equal(again.head, model.head)
        model = again


def test_a_folder_that_is_called_like_a_packaged_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "nano")
    model = taught(load_model("./nano", lora=LoraSpec(2)))
    model.save(Path("adapter"))
    again = load_model("adapter")
    assert torch.equal(logprobs(again.module), logprobs(model.module))
    assert base_of("adapter")[0] == "nano"


def test_every_file_of_a_packaged_model_is_part_of_the_package() -> None:
    package = Path(banty.__file__).parent
    project = tomllib.loads((package.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["banty"]
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    for folder in PACKAGED.values():
        assert set(folder.iterdir()) <= shipped
        assert (folder / "model.safetensors").is_file()
