"""Sampling: ours against Hugging Face `generate`; the same weights, turns and tokens (see `fixed_work.py`).

    PYTHONPATH=. python benchmarks/sampling.py
    PYTHONPATH=. python benchmarks/sampling.py --threads 1 --repetitions 7 --ways "ours bfloat16,generate bfloat16"

Ours goes through the driver, the template and `LocalEngine`, which forgets everything before each repetition, as it
does when a training step publishes weights. `generate` gets token ids, left-padded, and all 64 episodes at once; each
turn it prefills the conversation so far and the 40 observed tokens, then samples exactly 40 (max_new_tokens and
min_new_tokens), at temperature 1 with neither top_k nor top_p, no scores kept. Its logprobs are not asked for; ours
are part of what it returns.

Tried for `generate` on this work, one thread, and not faster than its defaults (SDPA attention, dynamic cache), which
took 17.4 s in bfloat16 and 36.9 s in float32: eager attention (44 s in bfloat16), the static cache (19.5 s in
bfloat16, 77 s in float32).

All ways of one thread count run in strict alternation; the first round is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from benchmarks.fixed_work import Endless, ForcedDesk, Timed, Work, alternate, digits, nano, play, policy_over
from benchmarks.tables import counts, machine, table

from banty.models.loading import DTYPES, Published
from banty.models.packaged import place_of
from banty.records import generator

Way = Callable[[int], Any]


def ours(work: Work, dtype: str) -> Way:
    """Episodes through driver, policy and engine; the engine is new, so that its thread takes today's thread count."""
    model = nano(dtype)
    policy = policy_over(model, work)
    desk = ForcedDesk(work, policy.renderer)

    def run(seed: int) -> Any:
        policy.load(Published(seed + 1, model))
        return asyncio.run(play(desk, policy, seed))

    return run


def generate(work: Work, dtype: str) -> Way:
    """All episodes in one left-padded batch, prefilled anew each turn; gives their ids, [episodes, tokens]."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = place_of("nano")
    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=DTYPES[dtype], attn_implementation="sdpa").eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    desk = ForcedDesk(work, Endless(tokenizer))

    @torch.inference_mode()
    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        padded = tokenizer.pad({"input_ids": prompts(desk, tokenizer, seed)}, padding_side="left", return_tensors="pt")
        ids: torch.Tensor = padded["input_ids"]
        mask: torch.Tensor = padded["attention_mask"]
        rng = generator(seed, "observed")
        for turn in range(work.num_turns):
            if turn:
                ids = torch.cat([ids, observed(work, tokenizer, rng)], dim=1)
            ids = model.generate(
                input_ids=ids,
                attention_mask=torch.cat([mask, mask.new_ones(len(ids), ids.shape[1] - mask.shape[1])], dim=1),
                max_new_tokens=work.sampled_tokens,
                min_new_tokens=work.sampled_tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=tokenizer.pad_token_id,
            )
        if ids.shape != (work.num_episodes, work.episode_tokens):
            raise SystemExit(f"generate made {tuple(ids.shape)}, not {(work.num_episodes, work.episode_tokens)}")
        return ids

    return run


def prompts(desk: ForcedDesk, tokenizer: Any, seed: int) -> list[list[int]]:
    """The first prompts of the episodes that ours plays in this repetition, group by group."""
    found = []
    for place in range(desk.work.num_groups):
        task = desk.task("train", seed * desk.work.num_groups + place)
        messages = [{"role": message.role, "content": message.content} for message in desk.opening(task)]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        found += [ids] * desk.work.group_size
    return found


def observed(work: Work, tokenizer: Any, rng: np.random.Generator) -> torch.Tensor:
    """What each episode is told, [episodes, observed tokens]: digits throughout."""
    texts = [digits(work.observed_tokens, rng) for _ in range(work.num_episodes)]
    return torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])


WAYS: Mapping[str, Callable[[Work], Way]] = {
    "ours bfloat16": lambda work: ours(work, "bfloat16"),
    "ours float32": lambda work: ours(work, "float32"),
    "generate bfloat16": lambda work: generate(work, "bfloat16"),
    "generate float32": lambda work: generate(work, "float32"),
}


def report(work: Work, threads: int, timed: Mapping[str, Timed]) -> str:
    """A line per way with the ratio of the best `generate` to it, and what ours comes to."""
    rivals = [one.median for name, one in timed.items() if name.startswith("generate")]
    rows = []
    for name, one in timed.items():
        rate = f"{work.total_sampled / one.median:.0f}"
        ratio = f"{min(rivals) / one.median:.2f}" if rivals else "-"
        rows.append([name, str(threads), f"{one.median:.2f}", one.spread, str(len(one.seconds)), rate, ratio])
    return table(["way", "threads", "median s", "range", "n", "sampled tokens/s", "times best generate"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=counts, default=[1, 2], help="such as 1,2")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    args = parser.parse_args()
    names = [name.strip() for name in args.ways.split(",")]
    if unknown := [name for name in names if name not in WAYS]:
        parser.error(f"--ways has {unknown[0]!r}; it takes {', '.join(WAYS)}")
    work = Work()
    print(f"{work.num_episodes} episodes, {work.total_sampled} sampled tokens, {work.episode_tokens} tokens an episode")
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(machine(), flush=True)
        print(report(work, threads, alternate({name: WAYS[name](work) for name in names}, args.repetitions)))
        print(machine(), flush=True)


if __name__ == "__main__":
    main()
