"""Moments in 8 bits against moments in float32: bytes, seconds an update, and how far apart training ends.

    PYTHONPATH=. python benchmarks/optimizer_state.py
    PYTHONPATH=. python benchmarks/optimizer_state.py --repetitions 9 --threads 4 --device cuda

Bytes are those of moments, scales and step counts, after an update. Seconds are of one update with gradients that are
there already, of nano's weights and of 100 million random numbers in eight matrices, float32 and int8 in strict
alternation. Then 200 updates of a regression on noisy batches, a network of two hidden layers: how far the weights of
int8 end from those of float32 under the same noise, and, to judge that by, how far two float32 runs end from each other
that differ in nothing but the seed of the noise. Both as a share of how far float32 moved from the common start; the
losses are over all data.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from benchmarks.fixed_work import alternate, nano
from torch import Tensor

from banty.learn.optimizer import Optimizer
from banty.records import OptimizerSpec

State = Literal["float32", "int8"]
STATES: tuple[State, ...] = ("float32", "int8")
HIDDEN, INPUTS, OUTPUTS, ROWS, BATCH = 256, 64, 16, 2048, 64


def random_weights(device: str) -> dict[str, Tensor]:
    """100 million numbers."""
    torch.manual_seed(0)
    return {f"layers.{place}": 0.02 * torch.randn(2500, 5000, device=device) for place in range(8)}


def show_cost(name: str, weights: Mapping[str, Tensor], repetitions: int) -> None:
    torch.manual_seed(1)
    gradients = {key: 1e-3 * torch.randn_like(value) for key, value in weights.items()}
    optimizers = {
        state: Optimizer(OptimizerSpec(state=state), {key: value.detach().clone() for key, value in weights.items()})
        for state in STATES
    }
    timed = alternate({state: partial(one.step, gradients, 1.0) for state, one in optimizers.items()}, repetitions)
    numbers = sum(value.numel() for value in weights.values())
    for state, optimizer in optimizers.items():
        held = sum(value.nbytes for value in optimizer.moments().values())
        seconds = timed[state].seconds
        print(
            f"{name:>12} {numbers / 1e6:6.1f}M {state:>8} {held / 1e6:9.1f} MB {held / numbers:6.2f} a number  "
            f"{statistics.median(seconds):.4f} s ({min(seconds):.4f} - {max(seconds):.4f})",
            flush=True,
        )


def regression(state: State, noise_seed: int, num_updates: int) -> tuple[Tensor, Tensor, float]:
    """Weights before and after, and the loss over all data. Inputs are of very different sizes."""
    torch.manual_seed(0)
    sizes = [(HIDDEN, INPUTS), (HIDDEN, HIDDEN), (OUTPUTS, HIDDEN)]
    weights = {f"{place}": (torch.randn(size) / size[1] ** 0.5).requires_grad_() for place, size in enumerate(sizes)}
    inputs = torch.randn(ROWS, INPUTS) * torch.logspace(0, -3, INPUTS)
    wanted = torch.tanh(inputs @ torch.randn(INPUTS, HIDDEN)) @ torch.randn(HIDDEN, OUTPUTS) / HIDDEN**0.5

    def loss(rows: Tensor) -> Tensor:
        hidden = torch.tanh(inputs[rows] @ weights["0"].T)
        hidden = torch.tanh(hidden @ weights["1"].T)
        missed: Tensor = hidden @ weights["2"].T - wanted[rows]
        return torch.mean(missed.square())

    def flat() -> Tensor:
        return torch.cat([value.detach().flatten() for value in weights.values()])

    start, draws = flat(), torch.Generator().manual_seed(noise_seed)
    optimizer = Optimizer(OptimizerSpec(learning_rate=3e-3, state=state), weights)
    for update in range(num_updates):
        rows = torch.randint(ROWS, (BATCH,), generator=draws)
        gradients = torch.autograd.grad(loss(rows), list(weights.values()))
        optimizer.step(dict(zip(weights, gradients, strict=True)), 1.0, update)
    with torch.no_grad():
        return start, flat(), float(loss(torch.arange(ROWS)))


def show_distance(seeds: int, num_updates: int) -> None:
    rows: list[tuple[float, float, float, float]] = []
    for seed in range(seeds):
        start, whole, loss = regression("float32", seed, num_updates)
        _, eight, eight_loss = regression("int8", seed, num_updates)
        _, other, _ = regression("float32", seed + seeds, num_updates)
        moved = float((whole - start).norm())
        rows.append((float((eight - whole).norm()) / moved, float((other - whole).norm()) / moved, loss, eight_loss))
    columns = list(zip(*rows, strict=True))
    names = ("int8 from float32", "float32 from float32 of another seed", "loss float32", "loss int8")
    print(f"{num_updates} updates, n = {seeds} seeds: mean (range)")
    for name, values in zip(names, columns, strict=True):
        print(f"{name:>40} {statistics.mean(values):.4f} ({min(values):.4f} - {max(values):.4f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.device}, {args.threads} threads, n = {args.repetitions}; median seconds (range)")
    show_cost("nano", nano("float32", args.device).trainable(), args.repetitions)
    show_cost("random", random_weights(args.device), args.repetitions)
    show_distance(args.seeds, args.updates)


if __name__ == "__main__":
    main()
