"""TRL's GRPOTrainer on the work of `fixed_work.py`, one whole step at a time. Needs the extra `bench`.

What is forced, and nothing else of the trainer's is touched:

* Turns. No weights call a tool on demand, so TRL's `parse_response` is replaced: as long as an episode has turns left,
  every answer is a call of the environment's one tool, whatever was sampled. The last answer is none, which ends it.
* Lengths. `generation_kwargs` ask for exactly 40 new tokens a turn. The tool's answer is digits, as many as make 40
  tokens with what the template puts around it (as the trainer itself renders it), the prompt likewise: 300 tokens,
  tools included.
* What a step was is read from the trainer's own masks: prompt, completion, and which of it was sampled (`check`).

`train()` runs whole, in a thread of its own; a callback stops it at each `on_step_begin` until the next step is asked
for. A step's seconds are those from one such stop to the next: data, generation, rewards and advantages, loss,
gradient, clipping, optimizer and scheduler. Generation is what `_generate_and_score_completions` takes, training is
the rest. Logging, saving, evaluation, gradient checkpointing (on by default) and the reference model are off.

Its best on a CPU: one gradient pass over all 64 episodes fits (5 GiB in bfloat16, 9 in float32) and trains in 19 s of
one core in bfloat16; eight accumulated passes of 8 episodes each take 12 s, four or sixteen the same. What helps or
hinders `generate` is in `sampling.py`; transformers' continuous batching, which the trainer can use instead, took 66 s,
set-up included, for ten tokens after each of eight prompts.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from benchmarks.fixed_work import Work, digits, reward_of

from banty.models.packaged import place_of
from banty.records import generator

WANTED = "1.16.0"
PRECISIONS: Mapping[str, tuple[torch.dtype, bool]] = {
    "float32": (torch.float32, False),
    "bfloat16": (torch.bfloat16, False),
    "autocast": (torch.float32, True),
}
"""What the weights are, and whether they are cast for each product; the last is TRL's own default."""


class _Stopped(Exception):
    """Leaves `train()` between two steps."""


def missing() -> str:
    """Why TRL cannot be measured here and how to get it; empty where it can."""
    how = f"pip install 'banty[bench]' (trl=={WANTED})"
    try:
        found = importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return f"TRL is not installed; {how}"
    return "" if found == WANTED else f"TRL {found} is installed, and this is written for {WANTED}; {how}"


class TrlSteps:
    """A trainer stopped between two steps. `step` makes one; `close` ends it, and has to be called.

    With `micro_batches` a step's gradient is accumulated from so many parts; all are generated together all the same.
    """

    def __init__(self, work: Work, precision: str, threads: int, num_steps: int, *, micro_batches: int = 1) -> None:
        self.work = work
        self.generate_s = 0.0
        self.checked: Mapping[str, int] = {}
        self._threads = threads
        self._stopping = False
        self._error: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._folder = tempfile.TemporaryDirectory()
        self._trainer = _trainer(work, precision, num_steps, micro_batches, self._folder.name)
        self._time_generation()
        self._trainer.add_callback(_callback(self._begin))
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()
        self._wait()

    def step(self) -> tuple[float, float]:
        """Seconds of generation and of the rest of one step, whose masks have been checked."""
        began = time.perf_counter()
        self._go.release()
        self._wait()
        seconds = time.perf_counter() - began
        return self.generate_s, seconds - self.generate_s

    def close(self) -> None:
        self._stopping = True
        self._go.release()
        self._thread.join()
        self._folder.cleanup()

    def _wait(self) -> None:
        self._stopped.acquire()
        if self._error is not None:
            raise self._error

    def _train(self) -> None:
        torch.set_num_threads(self._threads)  # of this thread, which has a team of its own
        try:
            self._trainer.train()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the step was asked for
            self._error = error
        self._stopped.release()

    def _begin(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self._stopping:
            raise _Stopped

    def _time_generation(self) -> None:
        inner: Callable[[Any], Any] = self._trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            began = time.perf_counter()
            found = inner(inputs)
            self.generate_s = time.perf_counter() - began
            self.checked = check(self.work, found)
            return found

        self._trainer._generate_and_score_completions = timed


def check(work: Work, batch: Mapping[str, torch.Tensor]) -> Mapping[str, int]:
    """What one step holds by the trainer's own masks. Raises AssertionError if it is not the work."""
    sampled = (batch["completion_mask"] * batch["tool_mask"]).sum(dim=1)
    found = {
        "episodes": len(sampled),
        "prompt": _only(batch["prompt_mask"].sum(dim=1)),
        "sampled": _only(sampled),
        "observed": _only(batch["completion_mask"].sum(dim=1) - sampled),
    }
    expected = {
        "episodes": work.num_episodes,
        "prompt": work.prompt_tokens,
        "sampled": work.num_turns * work.sampled_tokens,
        "observed": (work.num_turns - 1) * work.observed_tokens,
    }
    if found != expected:
        raise AssertionError(f"TRL's step has {found}, and the work is {expected}")
    return found


def _only(counts: torch.Tensor) -> int:
    """The count all episodes have, or -1."""
    return int(counts[0]) if bool((counts == counts[0]).all()) else -1


def _trainer(work: Work, precision: str, num_steps: int, micro_batches: int, folder: str) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import transformers
    from trl.chat_template_utils import qwen3_template

    grpo: Any = importlib.import_module("trl.trainer.grpo_trainer")
    transformers.utils.logging.disable_progress_bar()
    dtype, autocast = PRECISIONS[precision]
    loader: Any = transformers.AutoModelForCausalLM
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place_of("nano"))
    tokenizer.response_template = qwen3_template  # else TRL, which does not know nano's template, parses no answer
    grpo.parse_response = _forced_calls(work)
    environment = _environment()
    completion_tokens = work.episode_tokens - work.prompt_tokens
    trainer = grpo.GRPOTrainer(
        model=loader.from_pretrained(place_of("nano"), dtype=dtype, attn_implementation="sdpa"),
        args=grpo.GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=autocast,
            per_device_train_batch_size=work.num_episodes // micro_batches,
            gradient_accumulation_steps=micro_batches,
            steps_per_generation=micro_batches,
            num_generations=work.group_size,
            max_steps=num_steps + 1,
            max_completion_length=completion_tokens,
            generation_kwargs={"max_new_tokens": work.sampled_tokens, "min_new_tokens": work.sampled_tokens},
            temperature=1.0,
            top_k=0,
            beta=0.0,
            learning_rate=1e-6,
            gradient_checkpointing=False,
            shuffle_dataset=False,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=_prompts(work, tokenizer, environment.reply, num_steps + 1),
        processing_class=tokenizer,
        environment_factory=environment,
    )
    around = trainer._get_tool_suffix_ids([{"role": "tool", "name": "reply", "content": "1"}])
    environment.answer_digits = work.observed_tokens - len(around) + 1
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _forced_calls(work: Work) -> Callable[..., dict[str, Any]]:
    """In place of `parse_response`: a call of the tool while an episode has turns left, whatever was sampled."""

    def parse(tokenizer: Any, ids: list[int], prefix: list[int], tools: Any = None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": tokenizer.decode(ids, skip_special_tokens=True)}
        if len(prefix) + len(ids) < work.episode_tokens:
            said = zlib.crc32(message["content"].encode())
            message["tool_calls"] = [{"type": "function", "function": {"name": "reply", "arguments": {"said": said}}}]
        return message

    return parse


def _environment() -> Any:
    """A class of its own for each trainer, which learns from it how many digits an answer has."""

    class Desk:
        answer_digits = 0

        def __init__(self) -> None:
            self._said = 0

        def reset(self, **_: Any) -> None:
            self._said = 0

        def reply(self, said: int) -> str:
            """
            Answers with digits.

            Args:
                said: checksum of what the agent said
            """
            self._said = said
            return digits(self.answer_digits, np.random.default_rng(said))

        def get_reward(self) -> float:
            return reward_of(self._said)

    return Desk


def _prompts(work: Work, tokenizer: Any, tool: Callable[..., str], num_steps: int) -> Any:
    """Prompts of exactly the work's tokens, tools included: one system prompt, a question for each group."""
    from datasets import Dataset

    def messages(system: str, user: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    rng = generator(0, "prompts")
    shown = getattr(tool, "__func__", tool)
    around = tokenizer.apply_chat_template(
        messages("1", "1"), tools=[shown], add_generation_prompt=True, return_dict=False
    )
    free = work.prompt_tokens - len(around) + 2  # of the two digits; with none, what is around them joins up
    question_digits = min(work.prompt_tokens - work.shared_tokens, free - 1)
    system = digits(free - question_digits, rng)
    rows = [messages(system, digits(question_digits, rng)) for _ in range(work.num_groups * num_steps)]
    return Dataset.from_dict({"prompt": rows})


def _callback(on_begin: Callable[[], None]) -> Any:
    import transformers

    def on_step_begin(self: Any, *_: Any, **__: Any) -> None:
        on_begin()

    return type("Stop", (transformers.TrainerCallback,), {"on_step_begin": on_step_begin})()
