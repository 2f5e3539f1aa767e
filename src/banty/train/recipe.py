"""The recipes of training runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from banty.calibrate import CalibrateBlock
from banty.credit import CreditSpec
from banty.errors import InputError
from banty.records import OptimizerSpec, PolicyLoss, SupervisedLoss


@dataclass(frozen=True, kw_only=True)
class EnvBlock:
    """Which tasks. `options` go to the taskset, such as `data` or `grade`."""

    name: str = "airline/mini"
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class PolicyBlock:
    """What is trained.

    `type="habits"`: a habit policy that lapses with probability `lapse`, or at `lapses[point]` where given, or as the
    weights in `start` do. `type="model"`: the language model in the Hugging Face folder (or of the hub name) `start`,
    or `nano`, which comes with Banty; all of it or, with a `lora_rank`, an adapter; `max_tokens` caps one answer.
    `threads` is how many cores a CPU run uses; 0 measures once which number is faster. `template` is passed to the
    tokenizer's chat template.
    """

    type: Literal["habits", "model"] = "habits"
    start: str = ""
    lapse: float = 0.2
    lapses: Mapping[str, float] = field(default_factory=dict)
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    threads: int = 0
    lora_rank: int = 0
    lora_alpha: float = 32.0
    max_tokens: int = 256
    template: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        if self.type == "model" and not self.start:
            raise InputError("policy.start is empty; name the folder of a model, a hub name such as ORG/NAME, or nano")
        for name, most in (("threads", 1024), ("lora_rank", 1024)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"policy.{name} is {getattr(self, name)}; it takes 0 to {most}")
        if self.max_tokens < 1:
            raise InputError(f"policy.max_tokens is {self.max_tokens}; it takes at least 1")
        rates = {"lapse": self.lapse, **{f"lapses.{point}": at for point, at in self.lapses.items()}}
        for name, rate in rates.items():
            if not 0.0 < rate < 1.0:
                raise InputError(f"policy.{name} is {rate}; it takes a number between 0 and 1, ends excluded")


@dataclass(frozen=True, kw_only=True)
class LearnerBlock:
    """How a language model's gradient is computed: memory against time, nothing else.

    `micro_batch_tokens` is what one pass holds; it has to take the longest episode. `recompute` keeps no activations.
    """

    micro_batch_tokens: int = 16_384
    recompute: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainBlock:
    """How it is trained. `tasks_per_step` groups of `rollouts_per_task` episodes make one batch.

    A batch makes `epochs` times `minibatches` updates. `old_logprobs` says whose logprobs the ratio is taken against:
    the sampler's, or the trainer's own before the first update of the batch (one more pass, which also gives the exact
    mismatch between the two). With `sampling_rounds` above 1, groups that teach nothing (all advantages 0) are set
    aside and further tasks are taken, for at most so many rounds a step (DAPO's dynamic sampling).

    `max_tokens` caps what an episode samples; 0 is no cap. `truncated="mask"` leaves episodes that ran into a cap out
    of the loss (they stay in their group's baseline). `overlong_buffer` takes up to `overlong_penalty` from the reward
    of an episode that samples into the last so many tokens before the cap (DAPO, eq. 13). Steps after the last
    checkpoint are done again when a run is resumed.
    """

    steps: int = 30
    tasks_per_step: int = 16
    rollouts_per_task: int = 8
    epochs: int = 1
    minibatches: int = 1
    old_logprobs: Literal["sampler", "trainer"] = "sampler"
    sampling_rounds: int = 1
    temperature: float = 1.0
    max_turns: int = 20
    max_tokens: int = 0
    truncated: Literal["keep", "mask"] = "keep"
    overlong_buffer: int = 0
    overlong_penalty: float = 1.0
    concurrency: int = 64
    checkpoint_every: int = 1
    seed: int = 0

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _at_least(self, "train", 1, "steps", "tasks_per_step", "rollouts_per_task", "epochs", "minibatches")
        _at_least(self, "train", 1, "sampling_rounds", "max_turns", "concurrency", "checkpoint_every")
        _at_least(self, "train", 0, "max_tokens", "overlong_buffer", "overlong_penalty")
        if self.overlong_buffer and self.overlong_buffer > self.max_tokens:
            raise InputError(
                f"train.overlong_buffer is {self.overlong_buffer} and train.max_tokens {self.max_tokens}; the buffer "
                "is the last part of the cap"
            )
        if self.overlong_penalty != TrainBlock.overlong_penalty and not self.overlong_buffer:
            raise InputError(
                f"train.overlong_penalty is {self.overlong_penalty}, and train.overlong_buffer is 0: no episode would "
                "pay it; set how many tokens before train.max_tokens it begins"
            )
        if self.rollouts_per_task < 2:
            raise InputError(
                "train.rollouts_per_task is 1; rollouts are credited against others of one task: take 2 or more"
            )
        batch = self.tasks_per_step * self.rollouts_per_task
        if self.minibatches > batch:
            raise InputError(
                f"train.minibatches is {self.minibatches}, and a step has {batch} episodes (tasks_per_step x "
                "rollouts_per_task); each minibatch needs one at least"
            )
        _check_seed(self, "train")
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"train.temperature is {self.temperature}; it takes a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class RewardsBlock:
    """What single turns earn beside the outcome: `file` is a packaged reward file's name or a path; empty is nothing.

    Rewards are multiplied with `weight`, which falls linearly to 0 over the first `anneal_steps` steps; with 0 it
    stays.
    """

    file: str = ""
    weight: float = 1.0
    anneal_steps: int = 0

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _at_least(self, "rewards", 0, "weight", "anneal_steps")
        given = {name: getattr(self, name) for name in ("weight", "anneal_steps")}
        changed = [name for name, value in given.items() if value != getattr(RewardsBlock(), name)]
        if changed and not self.file:
            raise InputError(
                f"rewards.{changed[0]} is {given[changed[0]]}, and rewards.file names no reward file to apply it to"
            )

    def scale_at(self, step: int) -> float:
        """What rewards are multiplied with at `step`, from 0."""
        left = max(1.0 - step / self.anneal_steps, 0.0) if self.anneal_steps else 1.0
        return self.weight * left


@dataclass(frozen=True, kw_only=True)
class EvalBlock:
    """The evaluation before and after: the same tasks and seeds both times.

    `also` names further evaluations of the same size, each with options of its own in place of the environment's:
    `also.phrasings = {phrasing = "own"}`.
    """

    split: str = "test"
    num_tasks: int = 200
    num_trials: int = 4
    temperature: float = 1.0
    max_turns: int = 20
    max_tokens: int = 0
    concurrency: int = 64
    seed: int = 1
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _at_least(self, "eval", 1, "num_tasks", "num_trials", "max_turns", "concurrency")
        _at_least(self, "eval", 0, "temperature", "max_tokens")
        for name in self.also:
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise InputError(f"eval.also.{name}: name it in lower-case letters, digits and _; it names a folder")
        _check_seed(self, "eval")


@dataclass(frozen=True, kw_only=True)
class DeskBlock:
    """Train a habit policy on decision trees instead of in the environment: `banty sweep` does, in seconds a thousand
    runs, with exact success.

    The world is the first `num_tasks` tasks of `env.split` that discipline ends rightly within `train.max_turns` and
    that have at most `max_leaves` episodes; success is measured on them. A cell trains `runs` times, each with a seed
    of its own. The step is noted at which success reaches `target`. With `keep="summary"` the single runs' numbers are
    not kept.
    """

    num_tasks: int = 16
    max_leaves: int = 2400
    runs: int = 1000
    target: float = 0.8
    keep: Literal["runs", "summary"] = "runs"

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _at_least(self, "desk", 1, "num_tasks", "max_leaves")
        _at_least(self, "desk", 2, "runs")
        if not 0.0 < self.target < 1.0:
            raise InputError(f"desk.target is {self.target}; it takes a success between 0 and 1, ends excluded")


@dataclass(frozen=True, kw_only=True)
class RLRecipe:
    """Reinforcement learning: tasks, policy, training, turn rewards, credit, evaluation before and after.

    With a `desk` it is simulated on decision trees, and evaluated by adding them up.
    """

    env: EnvBlock = field(default_factory=EnvBlock)
    policy: PolicyBlock = field(default_factory=PolicyBlock)
    train: TrainBlock = field(default_factory=TrainBlock)
    rewards: RewardsBlock = field(default_factory=RewardsBlock)
    calibrate: CalibrateBlock = field(default_factory=CalibrateBlock)
    credit: CreditSpec = field(default_factory=CreditSpec)
    loss: PolicyLoss = field(default_factory=PolicyLoss)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    learner: LearnerBlock = field(default_factory=LearnerBlock)
    eval: EvalBlock = field(default_factory=EvalBlock)
    desk: DeskBlock | None = None

    def check(self) -> None:
        """Raises InputError for values that contradict each other or cannot work."""
        for block in (
            self.policy,
            self.train,
            self.rewards,
            self.calibrate,
            self.credit,
            self.loss,
            self.optimizer,
            self.eval,
        ):
            block.check()
        _at_least(self.learner, "learner", 1, "micro_batch_tokens")
        if self.calibrate.every and not self.rewards.file:
            raise InputError(
                "calibrate.every moves the values of a reward file, and rewards.file names none; name one, such as "
                "naive-dense"
            )
        if self.credit.scale == "others" and self.train.tasks_per_step == 1:
            raise InputError(
                "credit.scale='others' divides a group's advantages by those of the step's other groups, and "
                "train.tasks_per_step is 1; take more tasks a step, or another scale"
            )
        if self.credit.estimator == "unbiased":
            self._check_unbiased()
        if self.loss.correction != "none" and self.train.old_logprobs != "trainer":
            raise InputError(
                f"loss.correction={self.loss.correction!r} compares the trainer with the sampler; set "
                "train.old_logprobs='trainer'"
            )
        if self.policy.type == "habits":
            self._check_habits()
        if self.desk is not None:
            self._check_desk(self.desk)
        if self.policy.type == "model" and self.policy.max_tokens >= self.learner.micro_batch_tokens:
            raise InputError(
                f"policy.max_tokens lets an answer have {self.policy.max_tokens} tokens, and "
                f"learner.micro_batch_tokens holds {self.learner.micro_batch_tokens}, prompt included; raise the one "
                "or lower the other"
            )
        if self.train.max_tokens > self.learner.micro_batch_tokens and self.policy.type == "model":
            raise InputError(
                f"train.max_tokens lets an episode sample {self.train.max_tokens} tokens, and "
                f"learner.micro_batch_tokens holds {self.learner.micro_batch_tokens}; raise the one or lower the other"
            )

    def _check_unbiased(self) -> None:
        """Raises InputError for what takes the name away from `unbiased` (specs/irc.md 9)."""
        updates = self.train.epochs * self.train.minibatches
        wrong = {
            "credit.scale='batch' divides by a number the group itself made; take 'none' or 'others'": (
                self.credit.scale == "batch"
            ),
            f"loss.aggregation={self.loss.aggregation!r} divides by a length the policy decides; take 'constant'": (
                self.loss.aggregation != "constant"
            ),
            f"{updates} updates a batch (train.epochs x train.minibatches) clip; take 1": updates > 1,
            "train.truncated='mask' leaves episodes out for what the policy did; take 'keep'": (
                self.train.truncated == "mask"
            ),
            f"train.sampling_rounds={self.train.sampling_rounds} replaces groups for how they ended; take 1": (
                self.train.sampling_rounds > 1
            ),
        }
        if found := [words for words, is_so in wrong.items() if is_so]:
            raise InputError(f"credit.estimator='unbiased' would not be: {'; '.join(found)}")

    def _check_habits(self) -> None:
        """Raises InputError for what only the training of a language model heeds."""
        if self.loss.kl or self.loss.correction != "none":
            raise InputError("the habit learner is its own sampler and keeps no reference: turn kl and correction off")
        for block, names in _OF_MODELS.items():
            for name in names:
                given = getattr(getattr(self, block), name)
                if given != getattr(getattr(RLRecipe(), block), name):
                    raise InputError(
                        f"{block}.{name} is {given!r}, and a habit policy is trained by plain gradient descent on all "
                        "it has; leave it out, or train a model (policy.type='model')"
                    )

    def _check_desk(self, desk: DeskBlock) -> None:
        """Raises InputError for what decision trees have no place for."""
        desk.check()
        if self.policy.type != "habits":
            raise InputError("desk trains on decision trees, which only policy.type='habits' has; leave [desk] out")
        if self.train.tasks_per_step > desk.num_tasks:
            raise InputError(
                f"train.tasks_per_step is {self.train.tasks_per_step} and desk.num_tasks {desk.num_tasks}; a step "
                "takes each task at most once"
            )
        for block, names in _NOT_ON_DESKS.items():
            for name in names:
                given = getattr(getattr(self, block), name)
                if given != getattr(getattr(RLRecipe(), block), name):
                    raise InputError(f"{block}.{name} is {given!r}, which [desk] does not heed; leave it out")


_NOT_ON_DESKS = {
    "train": (
        *("epochs", "minibatches", "sampling_rounds", "temperature", "max_tokens", "truncated"),
        *("overlong_buffer", "old_logprobs"),
    ),
    "eval": ("split", "num_tasks", "num_trials", "temperature", "max_turns", "max_tokens", "seed", "also"),
}
_OF_MODELS = {"policy": ("lora_rank",), "optimizer": ("weight_decay", "muon_rate", "state", "offload")}


@dataclass(frozen=True, kw_only=True)
class DataBlock:
    """What to imitate: folders of stored rollouts (a run, an evaluation or a store), and files of traces.

    A trace is a line of JSON: `{"messages": [...], "tools": [...]}` as OpenAI-compatible endpoints write them. Of
    rollouts the scored ones count, and with `only_successes` those that succeeded. `tokens="text"` writes every message
    with the model's own template; `"sampled"` trains on the stored token ids, which must be this tokenizer's.
    """

    rollouts: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    only_successes: bool = True
    tokens: Literal["text", "sampled"] = "text"


@dataclass(frozen=True, kw_only=True)
class SFTBlock:
    """How it is imitated: `epochs` times over everything, `batch_size` conversations an update, in an order drawn from
    `seed`. `steps` ends it earlier; 0 does not."""

    epochs: int = 1
    steps: int = 0
    batch_size: int = 32
    checkpoint_every: int = 50
    seed: int = 0

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _at_least(self, "train", 1, "epochs", "batch_size", "checkpoint_every")
        _at_least(self, "train", 0, "steps")
        _check_seed(self, "train")


@dataclass(frozen=True, kw_only=True)
class SFTRecipe:
    """Supervised fine-tuning of a language model. With an environment, it is evaluated there before and after."""

    data: DataBlock = field(default_factory=DataBlock)
    policy: PolicyBlock = field(default_factory=lambda: PolicyBlock(type="model"))
    train: SFTBlock = field(default_factory=SFTBlock)
    loss: SupervisedLoss = field(default_factory=SupervisedLoss)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    learner: LearnerBlock = field(default_factory=LearnerBlock)
    env: EnvBlock | None = None
    eval: EvalBlock = field(default_factory=EvalBlock)

    def check(self) -> None:
        """Raises InputError for values that contradict each other or cannot work."""
        if self.policy.type != "model":
            raise InputError("policy.type is 'habits'; fine-tuning on conversations needs 'model'")
        for block in (self.policy, self.train, self.loss, self.optimizer, self.eval):
            block.check()
        _at_least(self.learner, "learner", 1, "micro_batch_tokens")
        if not self.data.rollouts and not self.data.traces:
            raise InputError("data names nothing to imitate; give data.rollouts or data.traces")


def _at_least(block: Any, name: str, least: int, *fields: str) -> None:
    for key in fields:
        if not least <= getattr(block, key) < math.inf:
            raise InputError(f"{name}.{key} is {getattr(block, key)}; it takes at least {least}")


def _check_seed(block: Any, name: str) -> None:
    if not 0 <= block.seed < 2**63:
        raise InputError(f"{name}.seed is {block.seed}; it takes a whole number from 0 to 2^63 - 1")
