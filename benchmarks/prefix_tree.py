"""Training over a tree of tokens against training each sample by itself: the benefit of shared beginnings.

    PYTHONPATH=. python benchmarks/prefix_tree.py
    PYTHONPATH=. python benchmarks/prefix_tree.py --repetitions 5 --threads 2

nano's weights, bfloat16. Groups of G samples of 800 tokens, some 25,600 tokens in all; a share of each sample is its
group's prompt, and half of the rest is trained. One gradient of the policy loss a repetition, tree and flat in strict
alternation. `ideal` is the ratio of the operations each has to do: linear maps of distinct tokens, attention of the
pairs that may see each other, and the output projection of trained tokens. `of ideal` is how much of it the measured
ratio of times reaches. Below the table, how far the gradients lie apart in float32 on one small batch of each kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from benchmarks.fixed_work import alternate, nano

from banty.learn.learner import TorchLearner
from banty.models.loading import LanguageModel
from banty.models.tree import LEAST_SAVED, token_tree
from banty.records import OptimizerSpec, PolicyLoss, TrainingSample

NEVER = 1 << 30
LENGTH, TOTAL = 800, 25_600


def samples_of(size: int, share: float, total: int = TOTAL, seed: int = 0) -> list[TrainingSample]:
    """Groups of `size` samples, of which `share` is the group's prompt."""
    rng = np.random.default_rng(seed)
    prompt_length = round(share * LENGTH)
    made = []
    for group in range(max(total // (size * LENGTH), 1)):
        prompt = rng.integers(100, 2000, prompt_length)
        for member in range(size):
            ids = np.concatenate([prompt, rng.integers(100, 2000, LENGTH - prompt_length)]).astype(np.int32)
            mask = (np.arange(LENGTH) >= prompt_length) & (np.arange(LENGTH) % 80 < 40)
            made.append(
                TrainingSample(
                    rollout_id=f"{group}#{member}",
                    token_ids=ids,
                    mask=mask,
                    turn_ids=np.where(mask, 0, -1).astype(np.int32),
                    sampler_logprobs=np.where(mask, -7.6, 0.0).astype(np.float32),
                    advantages=np.where(mask, rng.normal(), 0.0).astype(np.float32),
                    weights=mask.astype(np.float32),
                )
            )
    return made


def operations(model: LanguageModel, samples: Sequence[TrainingSample], least_saved: int) -> float:
    """Multiplications and additions of a gradient: two a weight and token forward, four backward; of attention, two
    products forward and five backward a pair; of the head, one forward, once more and two backward."""
    tree = token_tree([sample.token_ids for sample in samples], least_saved)
    inner = sum(value.numel() for layer in model.layers for value in layer.module.parameters())
    pairs = float((tree.untils - np.arange(len(tree.ids))).sum())
    heads = model.config.num_attention_heads * model.config.head_dim
    trained = sum(int(sample.mask.sum()) for sample in samples)
    return float(
        6.0 * inner * len(tree.ids)
        + 7 * 2.0 * heads * len(model.layers) * pairs
        + 4 * 2.0 * model.head.numel() * trained
    )


def gradient(learner: TorchLearner, samples: list[TrainingSample], repetition: int = 0) -> dict[str, torch.Tensor]:
    learner.forward_backward(samples, PolicyLoss())
    found = dict(learner.gradients)
    learner._drop_gradients()
    return found


def learners(dtype: str) -> dict[str, TorchLearner]:
    """One that takes each sample by itself, and one that merges them."""
    model = nano(dtype)
    return {
        name: TorchLearner(model, OptimizerSpec(), least_saved=least)
        for name, least in (("flat", NEVER), ("tree", LEAST_SAVED))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--total", type=int, default=TOTAL)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    timed_with, exact = learners("bfloat16"), learners("float32")
    model = timed_with["flat"].model
    print(f"nano, bfloat16, {args.threads} threads, n = {args.repetitions}; median seconds (range)")
    print(f"{'G':>3} {'share':>5} {'flat s':>20} {'tree s':>20} {'faster':>7} {'ideal':>6} {'of ideal':>8}  apart")
    for size in (4, 8, 16):
        for share in (0.3, 0.6, 0.9):
            samples = samples_of(size, share, args.total)
            flat_ops, tree_ops = (operations(model, samples, least) for least in (NEVER, LEAST_SAVED))
            timed = alternate(
                {name: partial(gradient, learner, samples) for name, learner in timed_with.items()}, args.repetitions
            )
            one, other = (gradient(learner, samples_of(size, share, 1)) for learner in exact.values())
            biggest = max(float(value.abs().max()) for value in one.values())
            apart = max(float((one[name] - other[name]).abs().max()) for name in one) / biggest
            ratio, ideal = timed["flat"].median / timed["tree"].median, flat_ops / tree_ops
            flat, tree = (f"{way.median:.2f} ({way.spread})" for way in timed.values())
            reached = f"{ratio:7.2f} {ideal:6.2f} {ratio / ideal:8.0%}"
            print(f"{size:3} {share:5.1f} {flat:>20} {tree:>20} {reached}  {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
