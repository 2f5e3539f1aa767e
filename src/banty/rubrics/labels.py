"""What each turn of a rollout was, and what it earns under a reward file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from banty.errors import InputError
from banty.records import CallResult, Rollout, Task, Taskset, ToolCall, Turn
from banty.rubrics.matching import Arguments, Match, arguments_of, assign, best_of, wanted_of
from banty.rubrics.rewardfile import RewardFile, Tier


@dataclass(frozen=True)
class CallLabel:
    """One call's tier; `score` is what the tier's value is multiplied with. `golden` is the place of the golden call it
    counts as. `stray` is a change of the state that no golden call asked for, whichever built-in tier it is."""

    tier: str
    score: float
    golden: int | None
    why: str
    stray: bool = False


@dataclass(frozen=True)
class TurnLabel:
    """One turn's tier, and what it earns; the tier is empty where the file has none for it."""

    tier: str
    reward: float
    score: float
    why: str
    calls: tuple[CallLabel, ...] = ()


@dataclass(frozen=True)
class _Call:
    """What tiers are decided by. `given` is the golden call that is this one's alone, `most` the one it is most
    like."""

    result: CallResult
    arguments: Arguments
    writes: bool
    failed: bool
    changed: bool | None
    repeats: bool
    given: Match | None
    most: Match | None


def label_rollout(rollout: Rollout, golden: Sequence[ToolCall] | None, file: RewardFile) -> tuple[TurnLabel, ...]:
    """One label per trainable turn, in order; a pure function of what it is given.

    Tiers depend on no value of the file, so that calibrating values moves no turn. Without golden calls (None) the
    tiers that need them never come up. Turns of other roles than the agent get no tier. Raises InputError for a Python
    tier that is not loaded, or that fails.
    """
    if missing := [place for place in file.code if place not in file.functions]:
        raise InputError(f"{missing[0]} is Python code; add --allow-code to run it")
    turns = [turn for turn in rollout.turns if turn.actor == "agent"]
    calls = _calls(rollout, turns, golden, file)
    quiet_end = _ends_quietly(rollout, golden, calls)
    picker = _Picker(rollout, file)
    labelled: dict[int, tuple[CallLabel, tuple[CallLabel, ...]]] = {}
    for turn, made in zip(turns, calls, strict=True):
        found = tuple(picker.of_call(turn, call) for call in made)
        last = turn is turns[-1]
        decides = decisive(found, file) if found else picker.of_message(turn, quiet_end and last)
        labelled[turn.index] = (decides, found)
    paid: Counter[str] = Counter()
    nobody = CallLabel("", 0.0, None, "a turn of another role")
    return tuple(_paid(*labelled.get(turn.index, (nobody, ())), file, paid) for turn in rollout.turns if turn.trainable)


def rewarded(rollout: Rollout, labels: Sequence[TurnLabel], scale: float = 1.0) -> Rollout:
    """The rollout with `scale` times each label's reward in its trainable turns."""
    given = iter(labels)
    turns = tuple(
        replace(turn, reward=scale * next(given).reward) if turn.trainable else turn for turn in rollout.turns
    )
    assert next(given, None) is None, "one label per trainable turn"
    return replace(rollout, turns=turns)


class GoldenCalls:
    """The golden calls of a taskset's tasks, stored ones too, which come without their data."""

    def __init__(self, taskset: Taskset) -> None:
        self._taskset = taskset
        self._known: dict[str, Sequence[ToolCall] | None] = {}

    def __call__(self, task: Task) -> Sequence[ToolCall] | None:
        if task.id not in self._known:
            self._known[task.id] = self._taskset.golden(self.whole(task))
        return self._known[task.id]

    def whole(self, task: Task) -> Task:
        """The task with its data."""
        return task if task.data is not None else self._taskset.task(task.split, task.index, task.seed)


class Labeller:
    """Labels rollouts of one taskset, stored ones too, with its golden calls and its rules for comparing arguments."""

    def __init__(self, taskset: Taskset, file: RewardFile) -> None:
        self.file = file.with_rules(taskset.matching())
        self.golden = GoldenCalls(taskset)

    def __call__(self, rollout: Rollout) -> tuple[TurnLabel, ...]:
        # A child's task is its parent's own making: a stored one cannot be made again, nor its golden calls be known.
        known = rollout.depth == 0
        if self.file.code:  # which may look at anything: a stored rollout is shown as it was when it was sampled
            turns = tuple(replace(turn, reward=None) for turn in rollout.turns)
            rollout = replace(rollout, turns=turns, task=self.golden.whole(rollout.task) if known else rollout.task)
        return label_rollout(rollout, self.golden(rollout.task) if known else None, self.file)


# What happened.


def _calls(
    rollout: Rollout, turns: Sequence[Turn], golden: Sequence[ToolCall] | None, file: RewardFile
) -> list[list[_Call]]:
    effects: dict[str, str] = {schema.name: schema.effect for schema in rollout.tools}
    made = [call for turn in turns for call in turn.calls]
    effects |= {call.name: call.effect for call in made if call.effect != "none"}

    def writes(name: str) -> bool:
        return effects.get(name, "write") != "read"  # nobody knows of a tool: it may write

    wanted = [wanted_of(call, file.matching) for call in golden or ()]
    keys = [(call.name, arguments_of(call.name, call.arguments, file.matching)) for call in made]
    worked = [place for place, call in enumerate(made) if not call.error]
    given = assign([keys[place] for place in worked], wanted, lambda name: file.soft_writes or not writes(name))
    matches = dict(zip(worked, given, strict=True))
    found: list[_Call] = []
    changes = [0]  # how many calls may have changed the state before each: tells states apart where no hash does
    for place, (call, (name, arguments)) in enumerate(zip(made, keys, strict=True)):
        most = best_of((name, arguments), wanted) if place in matches else None
        if most and most.score < 1.0 and writes(name) and not file.soft_writes:
            most = None
        changed = changed_state(call)
        same = [at for at, other in enumerate(found) if (other.result.name, other.arguments) == (name, arguments)]
        found.append(
            _Call(
                call,
                arguments,
                writes(name),
                bool(call.error),
                changed,
                any(_repeats(call, made[at], writes(name), changes[place] - changes[at]) for at in same),
                matches.get(place),
                most,
            )
        )
        changes.append(changes[-1] + (changed is not False))
    each = iter(found)
    return [[next(each) for _ in turn.calls] for turn in turns]


def changed_state(call: CallResult) -> bool | None:
    """Whether a call changed the state; the end of an episode is a change. Without hashes, its effect tells, and of an
    imported call whose effect is unknown nobody knows: None, which is neither a read nor a write."""
    hashed = bool(call.state_before and call.state_after)
    if call.error:
        return hashed and call.state_before != call.state_after
    if call.effect == "terminal":
        return True
    if hashed:
        return call.state_before != call.state_after
    return None if call.effect == "unknown" else call.effect == "write"


def _repeats(call: CallResult, earlier: CallResult, writes: bool, changes: int) -> bool:
    """Whether a call does again what one with equal arguments did: a retry that works now does not, and neither does
    reading what has changed since. Where no hash tells, it may have changed if any of the calls since then, `changes`
    of them, changed something or nobody knows."""
    if bool(call.error) != bool(earlier.error):
        return False
    if writes:
        return True
    if call.state_before and earlier.state_before:
        return call.state_before == earlier.state_before
    return not changes


def _ends_quietly(rollout: Rollout, golden: Sequence[ToolCall] | None, calls: Sequence[Sequence[_Call]]) -> bool:
    """A success in which nothing was changed, and nothing was to be."""
    if golden is None or not rollout.outcome.success:
        return False
    effects = {schema.name: schema.effect for schema in rollout.tools}
    if any(effects.get(call.name, "write") != "read" for call in golden):
        return False
    return all(call.changed is False for turn in calls for call in turn)


# Which tier it is.


class _Picker:
    """Finds tiers, turn by turn; remembers what was credited."""

    def __init__(self, rollout: Rollout, file: RewardFile) -> None:
        self._rollout, self._file = rollout, file
        self._credited: set[tuple[str, str, str]] = set()

    def of_call(self, turn: Turn, call: _Call) -> CallLabel:
        for name, tier in self._file.tiers.items():
            if tier.scope != "any" and (tier.scope == "write") != call.writes:
                continue
            found = self._asked(turn, call.result, tier) if tier.is_code else _BUILT_IN[tier.predicate](call, tier)
            if found is None:
                continue
            score, golden, why = found
            if tier.once and golden is None:
                thing = (name, call.result.name, str(sorted(call.arguments.items())))
                if thing in self._credited:
                    continue
                self._credited.add(thing)
            stray = call.changed is True and golden is None and not tier.is_code
            return CallLabel(name, score, golden, why, stray)
        why = "no tier of the file" if call.changed is not None else "nobody knows whether it changed anything"
        return CallLabel("", 0.0, None, why)

    def of_message(self, turn: Turn, quiet_end: bool) -> CallLabel:
        broken = bool(turn.message.calls or turn.message.faults)
        for name, tier in self._file.tiers.items():
            if tier.is_code and tier.scope == "any":
                found = self._asked(turn, None, tier)
            elif tier.predicate == "noop" and quiet_end and not broken:
                found = 1.0, None, "ends rightly, with nothing changed"
            elif tier.predicate == "message" and not broken:
                found = 1.0, None, "no call"
            else:
                found = None
            if found is not None:
                return CallLabel(name, *found)
        return CallLabel("", 0.0, None, "its calls were never run" if broken else "no tier of the file")

    def _asked(self, turn: Turn, call: CallResult | None, tier: Tier) -> _Found | None:
        function = self._file.functions[tier.predicate]
        try:
            score = float(function(self._rollout, turn, call))
        except Exception as error:
            raise InputError(
                f"{tier.predicate} failed at turn {turn.index} of {self._rollout.rollout_id}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not 0.0 <= score <= 1.0:
            raise InputError(f"{tier.predicate} gave {score}; it gives true or false, or a number from 0 to 1")
        return (score, None, tier.predicate.rpartition(":")[2]) if score else None


_Found = tuple[float, int | None, str]


def _golden(call: _Call, tier: Tier) -> _Found | None:
    match = call.given if tier.once else call.most
    if match is None or match.score < 1.0:
        return None
    return 1.0, match.golden, f"is golden call {match.golden + 1}"


def _golden_part(call: _Call, tier: Tier) -> _Found | None:
    match = call.given if tier.once else call.most
    if match is None or match.score == 1.0:
        return None
    return match.score, match.golden, f"is golden call {match.golden + 1} in part"


def _plain(holds: Callable[[_Call], bool], why: str) -> Callable[[_Call, Tier], _Found | None]:
    return lambda call, tier: (1.0, None, why) if holds(call) else None


_BUILT_IN: Mapping[str, Callable[[_Call, Tier], _Found | None]] = {
    "golden": _golden,
    "golden_part": _golden_part,
    "error": lambda call, tier: (1.0, None, f"failed ({call.result.error})") if call.failed else None,
    "duplicate": _plain(lambda call: call.repeats, "was made before"),
    "write": _plain(lambda call: call.changed is True, "changed the state"),
    "read": _plain(lambda call: not call.failed and call.changed is False, "changed nothing"),
    "noop": lambda call, tier: None,
    "message": lambda call, tier: None,
}


# What it earns.

_BADNESS = {"golden": 0, "golden_part": 1, "noop": 2, "read": 2, "message": 2, "duplicate": 3, "error": 4, "write": 5}
"""By predicate, never by value. What is worse than a duplicate lets the worst call decide."""


def decisive(calls: Sequence[CallLabel], file: RewardFile) -> CallLabel:
    """The call that decides what a turn with several was."""

    def badness(call: CallLabel) -> float:
        if call.stray:  # also one that was made before, which its tier alone would not say
            return float(_BADNESS["write"])
        if not call.tier:
            return 2.0
        tier = file.tiers[call.tier]
        return {1: 0.5, 0: 2.0, -1: 4.0}[tier.intended] if tier.is_code else _BADNESS[tier.predicate]

    worst = max(calls, key=badness)
    if file.several_calls != "best" and badness(worst) >= 4.0:
        return worst
    return min(calls, key=lambda call: (badness(call), -call.score))


def _paid(decides: CallLabel, calls: tuple[CallLabel, ...], file: RewardFile, paid: Counter[str]) -> TurnLabel:
    reward, capped = 0.0, False
    for call in calls if file.several_calls == "sum" and calls else (decides,):
        tier = file.tiers.get(call.tier)
        if tier is None:
            continue
        if tier.cap and paid[call.tier] >= tier.cap:
            capped = True
            continue
        paid[call.tier] += 1
        reward += tier.value * call.score
    why = f"{decides.why}; its cap is reached" if capped else decides.why
    return TurnLabel(decides.tier, reward, decides.score, why, calls)
