"""A desk small enough for a model of some ten thousand parameters: codes of colours, which have to be looked up.

A customer asks for the code of one colour, then of another. The agent may look a colour up with `find`, or guess: codes
are drawn anew for every task. Success is both codes right, so an agent that skips the look-up with probability p and
then guesses one of eight has success (1 - p + p / 8)^2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.tiny import SPECIALS, tiny_module

from banty.envs import Tasks, ToolEnv, tool
from banty.policies.scripted import FunctionPolicy
from banty.records import (
    Env,
    Expert,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    SampleRequest,
    Task,
    ToolCall,
    generator,
)

COLOURS = ("red", "blue", "green", "black", "white", "brown")
NUM_CODES = 8
GUESS = "guess"

TEMPLATE = """\
{%- for tool in tools or [] %}{{ tool.function.name + '\\n' }}{% endfor %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
PIECES = (
    *('<tool_call>\n{"name": "', '", "arguments": {"colour": "', '"}}\n</tool_call>', "find"),
    *("code for ", "system", "user", "assistant", "tool"),
    *COLOURS,
)


class ColourDesk(ToolEnv):
    """Two questions, each answered with a code in a message of its own."""

    def __init__(self, asked: tuple[str, str], codes: Mapping[str, int]) -> None:
        self.asked, self.codes = asked, codes
        self.said: list[str] = []

    async def start(self, host: Host) -> Opening:
        return self.opening(Message("user", f"code for {self.asked[0]}"))

    @tool("read", inline=True)
    def find(self, colour: str) -> str:
        """The code of a colour."""
        return str(self.codes.get(colour, "none"))

    async def reply(self, text: str, host: Host) -> Observation:
        self.said.append(text)
        done = len(self.said) == 2
        return Observation(() if done else (Message("user", f"code for {self.asked[1]}"),), done=done)

    def outcome(self) -> Outcome:
        right = [said == str(self.codes[colour]) for said, colour in zip(self.said, self.asked, strict=False)]
        return Outcome(right == [True, True], float(right == [True, True]))


class ColourTasks(Tasks):
    env = "toy/colours"
    splits: Mapping[str, int] = {"train": 4000, "test": 400}

    def make(self, split: str, index: int, rng: np.random.Generator) -> tuple[list[str], dict[str, int]]:
        asked = [COLOURS[place] for place in rng.permutation(len(COLOURS))[:2]]
        return asked, {colour: int(rng.integers(NUM_CODES)) for colour in COLOURS}

    def episode(self, task: Task) -> Env:
        (first, second), codes = task.data
        return ColourDesk((first, second), codes)

    def expert(self) -> Expert:
        return Expert(respond, {GUESS: ("looks the code up", "guesses the code")})


def respond(request: SampleRequest, choose: Callable[[str], bool]) -> Message:
    """Look the colour up, unless discipline lapses, and say the code."""
    last = request.messages[-1]
    if last.role == "tool":
        return Message("assistant", last.content)
    colour = last.content.removeprefix("code for ")
    if choose(GUESS):
        return Message("assistant", calls=(ToolCall("find", {"colour": colour}),))
    return Message("assistant", str(generator(request.params.seed or 0, "guess").integers(NUM_CODES)))


def careless(probability: float) -> Policy:
    """The expert, guessing with this probability."""

    def answer(request: SampleRequest) -> Message:
        draw = generator(request.params.seed or 0, "lapse").random()
        return respond(request, lambda point: bool(draw >= probability))

    return FunctionPolicy(answer, "careless")


def toy_tokenizer() -> Any:
    """One id for each piece of the desk's language, and for every other printable character."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["\n", *(chr(code) for code in range(32, 127))]
    vocabulary = [*SPECIALS, *PIECES, *letters]
    core = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(vocabulary)}, unk_token=SPECIALS[0]))
    escaped = sorted(PIECES, key=len, reverse=True)
    pattern = "|".join("".join(f"\\{letter}" if not letter.isalnum() else letter for letter in one) for one in escaped)
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern.replace("\\\n", "\\n") + "|[\\s\\S]"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS)})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_toy(folder: Path, *, hidden: int = 48, layers: int = 2, seed: int = 0) -> Path:
    """The folder of a random model that speaks the desk's language."""
    tokenizer = toy_tokenizer()
    module = tiny_module("qwen3", vocabulary=len(tokenizer), hidden=hidden, layers=layers, seed=seed, spread=0.05)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
