"""What computing a shared prompt once is worth in training: nano, a batch of conversations, with and without.

    PYTHONPATH=. python benchmarks/shared_prompt.py
    PYTHONPATH=. python benchmarks/shared_prompt.py --repetitions 7 --threads 2

32 conversations of a careless agent at `airline/mini`, one gradient of the supervised loss a repetition, the two ways
in strict alternation. Prints medians and ranges, and how far the two gradients lie apart in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from recipes.nano.traces import play, player

from banty.chat import Renderer
from banty.learn import batches
from banty.learn.learner import TorchLearner
from banty.models.loading import load_model
from banty.records import OptimizerSpec, SupervisedLoss, TrainingSample
from banty.train.sft import taught_samples
from banty.train.traces import trace_of

NEVER = 1 << 30


def conversations(renderer: Renderer, count: int) -> list[TrainingSample]:
    rollouts = play(player(0.25), "train", range(count), 5)
    return [sample for rollout in rollouts for sample in taught_samples(trace_of(rollout), renderer)]


def timed(learner: TorchLearner, samples: list[TrainingSample], least_shared: int) -> tuple[float, float, torch.Tensor]:
    """Seconds of one gradient, the tokens that were computed for it, and the gradient of the embedding."""
    batches.LEAST_SHARED = least_shared
    began = time.perf_counter()
    metrics = learner.forward_backward(samples, SupervisedLoss())
    seconds = time.perf_counter() - began
    gradient = next(value for name, value in learner.gradients.items() if "embed_tokens" in name).clone()
    learner.optim_step()
    return seconds, metrics["passed_tokens"], gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--conversations", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = {"each with its prompt": NEVER, "prompt computed once": batches.LEAST_SHARED}
    exact = learner_of("float32")
    samples = conversations(Renderer(exact.model.tokenizer), args.conversations)
    first, second = (timed(exact, samples[:4], least_shared)[2] for least_shared in ways.values())
    learner = learner_of("bfloat16")
    spent: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, float] = {}
    for repetition in range(args.repetitions + 1):
        for name, least_shared in ways.items():
            seconds, tokens[name], _ = timed(learner, samples, least_shared)
            if repetition:  # the first builds kernels
                spent[name].append(seconds)
    print(f"{len(samples)} conversations, {args.threads} threads, bfloat16, n = {args.repetitions}")
    print(f"{'':22} {'tokens':>8} {'median s':>9} {'range':>14}")
    for name, seconds_of in spent.items():
        spread = f"{min(seconds_of):.2f} - {max(seconds_of):.2f}"
        print(f"{name:22} {tokens[name]:8.0f} {statistics.median(seconds_of):9.2f} {spread:>14}")
    apart = float((first - second).abs().max() / second.abs().max())
    print(f"largest difference of the embedding's gradient in float32, relative: {apart:.1e}")


def learner_of(dtype: str) -> TorchLearner:
    return TorchLearner(load_model("nano", dtype=dtype), OptimizerSpec(learning_rate=1e-12), micro_batch_tokens=1 << 15)


if __name__ == "__main__":
    main()
