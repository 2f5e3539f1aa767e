"""The learner of language models: the verbs of `banty.records.Learner` on one device, in torch."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from banty.errors import InputError, TrainingStopped
from banty.learn import checkpoint
from banty.learn.aggregate import coefficients
from banty.learn.batches import MicroBatch, micro_batches, pack, trained_tokens
from banty.learn.head import token_logprobs
from banty.learn.losses import loss_of
from banty.learn.masters import add_gradient, master_of, offloads, write_back
from banty.learn.optimizer import Optimizer
from banty.models.forward import hidden_states
from banty.models.loading import LanguageModel, Published
from banty.models.tree import LEAST_SAVED
from banty.perf import Usage, shape_of
from banty.records import Loss, OptimizerSpec, PolicyLoss, TrainingSample

Floats = npt.NDArray[np.float32]


class TorchLearner:
    """Trains a model's trainable parameters, all of them or an adapter's.

    Masters and gradients are float32 whatever the model computes in, and moments unless the optimizer keeps them in 8
    bits; a bfloat16 model gets its masters rounded after each update. With an optimizer that offloads, all three are in
    host memory, and so is the update. `micro_batch_tokens` bounds what one pass holds, and changes nothing else. What
    samples begin with in common is computed once where that saves `least_saved` tokens, only trained tokens reach the
    output projection, and `recompute` trades time for the memory of activations. With `keep_reference` the weights it
    starts from stay at hand for a KL term.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: OptimizerSpec,
        *,
        micro_batch_tokens: int = 16_384,
        recompute: bool = False,
        keep_reference: bool = False,
        chunk_logits: int | None = None,
        least_saved: int = LEAST_SAVED,
        version: int = 0,
    ) -> None:
        optimizer.check()
        if micro_batch_tokens < 1:
            raise InputError(f"learner.micro_batch_tokens is {micro_batch_tokens}; it takes at least 1")
        self.model = model
        self.spec = optimizer
        self.version = version
        self._budget, self._recompute, self._chunk_logits = micro_batch_tokens, recompute, chunk_logits
        self._least_saved = least_saved
        self._parameters = model.trainable()
        if not self._parameters:
            raise InputError(f"{model.name} has no parameter to train")
        self._away = offloads(optimizer, model.device)
        self._masters = {name: master_of(value, self._away) for name, value in self._parameters.items()}
        self._gradients: dict[str, Tensor] = {}
        self._shape = shape_of(model.config.to_dict(), model.head.element_size())
        self._used = {"train": Usage(), "score": Usage()}
        self._optimizer = Optimizer(optimizer, self._masters)
        self._num_updates = 0
        self._reference: dict[str, Tensor] | None = None
        if keep_reference:
            self._reference = {name: value.detach().clone() for name, value in self._parameters.items()}

    def forward_backward(self, samples: Sequence[TrainingSample], loss: Loss) -> Mapping[str, float]:
        """Add the gradient of `loss` over `samples`. Metrics are means over the tokens that a pass was needed for:
        samples whose every advantage is 0 have no gradient, and none is computed unless a KL term needs it. A call that
        raises leaves no gradient behind."""
        loss.check()
        self._check(samples)
        try:
            with self._timed("train"):
                return self._forward_backward(samples, loss)
        except BaseException:
            self._drop_gradients()
            raise

    def usage(self) -> Mapping[str, Usage]:
        """What gradients and updates (`train`) and logprobs (`score`) have used since the learner was made."""
        return dict(self._used)

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._used[phase] += Usage(seconds=time.perf_counter() - began)

    def _forward_backward(self, samples: Sequence[TrainingSample], loss: Loss) -> Mapping[str, float]:
        factors = coefficients(samples, loss.aggregation, loss.constant_tokens)
        if isinstance(loss, PolicyLoss) and not loss.kl:
            moved = [place for place, sample in enumerate(samples) if np.any(sample.advantages * factors[place])]
        else:
            moved = [place for place, sample in enumerate(samples) if np.any(factors[place])]
        whole = ("loss", "tokens", "passed_tokens", "flat_tokens")
        totals: defaultdict[str, float] = defaultdict(float, dict.fromkeys(whole, 0.0))
        for group in micro_batches([samples[place].token_ids for place in moved], self._budget, self._least_saved):
            chosen = [moved[place] for place in group]
            members = [samples[place] for place in chosen]
            batch = pack(members, self.model.device, self._least_saved)
            logprobs, entropy = self._score(batch)
            tokens = trained_tokens(members, [factors[place] for place in chosen], logprobs)
            objective, sums = loss_of(tokens, loss)
            objective.backward()
            self._keep_gradients()
            self._used["train"] += self._shape.gradient(
                batch.num_tokens,
                batch.num_pairs,
                batch.num_trained,
                whole=self.model.peft is None,
                recompute=self._recompute,
            )
            sums |= {"entropy": float(entropy.sum()), "passed_tokens": batch.num_tokens, "flat_tokens": batch.num_flat}
            for name, value in sums.items():
                totals[name] += value
        num_tokens = max(totals["tokens"], 1.0)
        return {name: value if name in whole else value / num_tokens for name, value in sorted(totals.items())}

    def optim_step(self) -> Mapping[str, float]:
        """One update of the masters from the accumulated gradient."""
        with self._timed("train"):
            return self._optim_step()

    def _optim_step(self) -> Mapping[str, float]:
        norm = torch.nn.utils.get_total_norm(list(self._gradients.values()))
        if not torch.isfinite(norm):
            self._drop_gradients()
            raise TrainingStopped(
                f"the gradient of update {self._num_updates} is {float(norm)}; nothing was changed. Lower the learning "
                "rate, or compute in float32"
            )
        limit = self.spec.max_grad_norm
        scale = limit / float(norm) if limit and float(norm) > limit else 1.0
        rate = self._optimizer.step(self._gradients, scale, self._num_updates)
        self._gradients = {}
        self._write_back()
        self._num_updates += 1
        self.version += 1
        return {"grad_norm": float(norm), "learning_rate": rate}

    def _drop_gradients(self) -> None:
        self._gradients = {}
        for parameter in self._parameters.values():
            parameter.grad = None

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """What has been accumulated since the last update, float32, by parameter name."""
        return self._gradients

    @torch.no_grad()
    def logprobs(self, samples: Sequence[TrainingSample], *, reference: bool = False) -> Sequence[Floats]:
        self._check(samples)
        found = [np.zeros(len(sample.token_ids), dtype=np.float32) for sample in samples]
        with self._timed("score"), self._reference_weights() if reference else contextlib.nullcontext():
            for group in micro_batches([sample.token_ids for sample in samples], self._budget, self._least_saved):
                members = [samples[place] for place in group]
                batch = pack(members, self.model.device, self._least_saved)
                logprobs, _ = self._score(batch)
                self._used["score"] += self._shape.forward(batch.num_tokens, batch.num_pairs, batch.num_trained, 0, 0)
                pieces = torch.split(logprobs.cpu(), [int(sample.mask.sum()) for sample in members])
                for place, piece in zip(group, pieces, strict=True):
                    found[place][samples[place].mask] = piece.numpy()
        return found

    @torch.no_grad()
    def features(
        self, samples: Sequence[TrainingSample], layers: Sequence[int], positions: Sequence[Sequence[int]]
    ) -> Sequence[Floats]:
        """[layers, positions, hidden] per sample; layer 0 is the embedding, the last is after the final norm."""
        if not set(layers) <= set(range(len(self.model.layers) + 1)):
            raise InputError(f"layers is {list(layers)}; the model has 0 to {len(self.model.layers)}")
        found = []
        for sample, places in zip(samples, positions, strict=True):
            batch = pack([sample], self.model.device)
            _, states = hidden_states(self.model, batch.ids, batch.mixer, layers=layers)
            found.append(torch.stack([state[list(places)] for state in states]).float().cpu().numpy())
        return found

    def publish(self) -> Published:
        return Published(self.version, self.model)

    def save(self, folder: Path) -> None:
        """Masters, moments and counters, in safetensors and JSON."""
        masters = {name: master.detach() for name, master in self._masters.items()}
        counters = {"version": self.version, "num_updates": self._num_updates}
        checkpoint.save(folder, masters, self._optimizer.moments(), counters)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote. Raises InputError, and changes nothing, when it is of another model."""
        masters, moments, counters = checkpoint.load(folder, self._masters, self._optimizer.layout)
        with torch.no_grad():
            for name, master in self._masters.items():
                master.copy_(masters[name])
        self._optimizer.restore(moments)
        self._gradients = {}
        self.version, self._num_updates = counters["version"], counters["num_updates"]
        self._write_back()

    def _score(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Logprobs and entropies of the batch's trained tokens."""
        hidden, _ = hidden_states(self.model, batch.ids, batch.mixer, recompute=self._recompute)
        logprobs, entropy = token_logprobs(
            hidden[batch.predicting],
            self.model.head,
            batch.targets,
            batch.temperatures,
            chunk_logits=self._chunk_logits,
        )
        return logprobs[: batch.num_trained], entropy[: batch.num_trained]

    def _check(self, samples: Sequence[TrainingSample]) -> None:
        rows = len(self.model.head)
        for name in ("old_logprobs", "ref_logprobs"):
            if len({getattr(sample, name) is None for sample in samples}) > 1:
                raise InputError(f"some samples have {name} and some have none; give all of them theirs, or none")
        for sample in samples:
            if not sample.temperature > 0.0:
                raise InputError(
                    f"rollout {sample.rollout_id} was sampled at temperature {sample.temperature:g}, under which "
                    "logprobs have no gradient; train on samples drawn at one above 0"
                )
            if not len(sample.token_ids):
                raise InputError(f"a sample of {sample.rollout_id} has no tokens; leave it out")
            if int(sample.token_ids.max()) >= rows:
                raise InputError(
                    f"rollout {sample.rollout_id} has token id {int(sample.token_ids.max())}, and {self.model.name} "
                    f"knows {rows}; these rollouts are of a model with another tokenizer"
                )
            if len(sample.token_ids) > self.model.max_tokens:
                raise InputError(
                    f"rollout {sample.rollout_id} has {len(sample.token_ids)} tokens, and {self.model.name} has "
                    f"positions for {self.model.max_tokens}; shorten episodes"
                )

    def _keep_gradients(self) -> None:
        """Move the parameters' gradients to their masters, where those of several micro-batches can be added."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._gradients[name] = add_gradient(self._gradients.get(name), parameter.grad, self._away)
                parameter.grad = None

    def _write_back(self) -> None:
        write_back(self._parameters, self._masters)
        self.model.num_changes += 1

    @contextlib.contextmanager
    def _reference_weights(self) -> Iterator[None]:
        if self._reference is None:
            raise InputError("this learner keeps no reference weights: it was made without keep_reference")
        current = {name: value.detach().clone() for name, value in self._parameters.items()}
        try:
            for name, value in self._parameters.items():
                value.copy_(self._reference[name])
            yield
        finally:
            for name, value in self._parameters.items():
                value.copy_(current[name])
