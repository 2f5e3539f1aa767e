"""Build nano, the embedded model of the airline desk, from nothing.

    python -m recipes.nano.build --out runs/nano

Two runs of supervised fine-tuning on generated conversations, one after the other: first the expert's, then those of an
agent that lapses at some of its decisions, most of them with other words around what the customer says. The matrices
step by Muon, the rest by AdamW; the rates fall linearly, over the second run to 0. Interrupted, it goes on when called
again. What it leaves in OUT/nano is a Hugging Face folder; `python -m recipes.nano.measure` measures it and writes its
card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recipes.nano.tokenizer import build_tokenizer
from recipes.nano.traces import supervised

from banty.learn.learner import TorchLearner
from banty.models.loading import LanguageModel, load_model
from banty.records import OptimizerSpec
from banty.runs import RunFolder, read_metrics
from banty.train.recipe import SFTBlock
from banty.train.rl import StepReport
from banty.train.sft import train_sft

CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class Build:
    """Everything the result depends on, beside the code, the corpus and the machine's arithmetic."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    mlp: int = 768
    positions: int = 4096
    clean_updates: int = 2000
    clean_decay: int = 2800
    mixed_updates: int = 700
    conversations_per_update: int = 32
    lapse: float = 0.28
    varied: float = 0.7
    muon_rate: float = 0.02
    learning_rate: float = 3e-3
    seed: int = 0


class Stage(NamedTuple):
    """One run of fine-tuning: `rate` is what the build's rates begin with in it, and `decay` the update at which they
    would be 0."""

    name: str
    updates: int
    lapse: float
    varied: float
    rate: float
    decay: int
    warmup: int


def write_start(build: Build, folder: Path) -> None:
    """The folder of a random model with the shared tokenizer."""
    import transformers

    architecture: Any = transformers.Qwen3ForCausalLM
    tokenizer = build_tokenizer()
    torch.manual_seed(build.seed)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=build.hidden,
        intermediate_size=build.mlp,
        num_hidden_layers=build.layers,
        num_attention_heads=build.heads,
        num_key_value_heads=build.kv_heads,
        head_dim=build.head_dim,
        max_position_embeddings=build.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    architecture(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(build: Build, out: Path, *, dtype: str, processes: int) -> LanguageModel:
    """The finished model; every stage that is on disk already is not done again."""
    runs = {name: _run(out / name, build, dtype) for name in ("clean", "mixed")}
    start = out / "start"
    if not (start / "tokenizer.json").exists():
        write_start(build, start)
    left = 1.0 - build.clean_updates / build.clean_decay
    stages = (
        Stage("clean", build.clean_updates, 0.0, 0.0, 1.0, build.clean_decay, min(20, build.clean_updates // 10)),
        Stage("mixed", build.mixed_updates, build.lapse, build.varied, left, build.mixed_updates, 0),
    )
    model = load_model(start, dtype=dtype)
    for stage in stages:
        name, updates = stage.name, stage.updates
        spec = OptimizerSpec(
            learning_rate=build.learning_rate * stage.rate,
            muon_rate=build.muon_rate * stage.rate,
            decay_steps=stage.decay,
            warmup_steps=stage.warmup,
        )
        run = runs[name]
        if run.weights.exists():
            model = load_model(run.weights, dtype=dtype)
            continue
        began = time.perf_counter()
        count = updates * build.conversations_per_update
        samples = supervised(count, stage.lapse, start, processes, stage.varied)
        lengths = [len(sample.token_ids) for sample in samples]
        print(f"{name}: {len(samples)} conversations, {sum(lengths)} tokens, {time.perf_counter() - began:.0f} s")
        learner = TorchLearner(model, spec, micro_batch_tokens=2**15)
        block = SFTBlock(
            steps=updates, batch_size=build.conversations_per_update, checkpoint_every=CHECKPOINT_EVERY, seed=build.seed
        )
        train_sft(block, samples, learner, run, _printer(name))
        model.save(run.path / "weights.tmp")
        (run.path / "weights.tmp").rename(run.weights)  # whole, or not there
    return model


def _run(folder: Path, build: Build, dtype: str) -> RunFolder:
    recipe: dict[str, Any] = {"kind": "nano", "dtype": dtype, **dataclasses.asdict(build)}
    if not (folder / "manifest.json").exists():
        return RunFolder.create(folder, recipe)
    run = RunFolder.open(folder)
    if run.read_json("recipe.json") != json.loads(json.dumps(recipe)):
        raise SystemExit(f"{folder} was begun with another build; name another --out")
    return run


def _printer(name: str) -> Any:
    losses: list[float] = []

    def show(report: StepReport) -> None:
        losses.append(float(report.metrics["train/loss"] or 0.0))
        if (report.step + 1) % 20 == 0 or report.step + 1 == report.num_steps:
            mean = sum(losses[-20:]) / len(losses[-20:])
            seconds = report.metrics["time/train_s"]
            print(f"{name} {report.step + 1}/{report.num_steps}  loss {mean:.4f}  {seconds:.2f} s", flush=True)

    return show


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0 is all")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    build = Build()
    model = train(build, args.out, dtype=args.dtype, processes=torch.get_num_threads())
    model.save(args.out / "nano")
    rows = [row for stage in ("clean", "mixed") for row in read_metrics(args.out / stage / "metrics.jsonl")]
    notes = {
        "build": dataclasses.asdict(build),
        "seconds": round(sum(row["time/step_s"] for row in rows)),
        "machine": f"{torch.get_num_threads()} cores ({_cpu()}), torch {torch.__version__}",
    }
    (args.out / "nano" / "nano.json").write_text(json.dumps(notes, indent=2) + "\n")
    print(f"model: {args.out / 'nano'}")


if __name__ == "__main__":
    main()
