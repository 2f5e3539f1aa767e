"""What a set of rollouts has in common in how it fails, and how two sets differ in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from banty.errors import InputError
from banty.evals.dependability.figures import share
from banty.evals.dependability.results import task_place
from banty.evals.diagnosis.causes import CAUSES, STAGES, Finding, Reference, find_cause
from banty.evals.diagnosis.symptoms import SYMPTOMS
from banty.evals.suite import published_id
from banty.records import Rollout, Task
from banty.stats import compare_on_tasks

FORMAT = "banty-diagnosis-1"
NUM_EXAMPLES = 3
NUM_ABOUT = 5


class _Found(NamedTuple):
    rollout: Rollout
    finding: Finding

    @property
    def passed(self) -> bool:
        return bool(self.rollout.outcome.success)

    @property
    def verdict(self) -> str:
        """`success`, or why it failed."""
        return "success" if self.passed else self.finding.cause


def diagnose(rollouts: Sequence[Rollout], reference: Reference) -> dict[str, Any]:
    """The diagnosis as JSON: `success`, `causes`, `stages`, `off_path`, `symptoms`, `tasks`.

    Only scored root episodes count. Every failure has one cause, so their counts add up to the failures. Shares are
    means over tasks with intervals clustered by task. Raises InputError where no episode is scored.
    """
    return _diagnosis(rollouts, _find(rollouts, reference))


def compare_diagnoses(
    first: Sequence[Rollout], second: Sequence[Rollout], references: tuple[Reference, Reference]
) -> dict[str, Any]:
    """How two sets on the same tasks fail, side by side: each diagnosis, and for success and each cause the difference
    of its share of episodes, B less A, paired by task, over the tasks of both. Raises InputError where there are none.
    """
    sides = [_find(rollouts, reference) for rollouts, reference in zip((first, second), references, strict=True)]
    by_task = [_by_task(found) for found in sides]
    shared = [
        place
        for place in sorted(set(by_task[0]) & set(by_task[1]))
        if _are_one([side[place][0].rollout.task for side in by_task], references)
    ]
    if not shared:
        raise InputError(
            f"the two share none of their {len(by_task[0])} and {len(by_task[1])} tasks; name two results on the same "
            "tasks, such as RUN/eval-before and RUN/eval-after"
        )
    rows = []
    for verdict, words in {"success": "success", **_WORDS}.items():
        trials = [[[float(one.verdict == verdict) for one in side[task]] for task in shared] for side in by_task]
        counts = [int(sum(map(sum, side))) for side in trials]
        if any(counts):
            compared = compare_on_tasks(trials[1], trials[0])
            rows.append(
                {
                    "cause": verdict,
                    "words": words,
                    "counts": counts,
                    "of": [sum(map(len, side)) for side in trials],
                    "difference": compared.difference.to_json(),
                    "p_value": compared.p_value,
                    "num_tasks": compared.num_tasks,
                }
            )
    a, b = (_diagnosis(rollouts, found) for rollouts, found in zip((first, second), sides, strict=True))
    return {"format": FORMAT, "a": a, "b": b, "differences": rows}


def _are_one(tasks: Sequence[Task], references: Sequence[Reference]) -> bool:
    """Whether two tasks of one place are the same: a seed may draw others, with other reference calls."""
    golden = [reference.golden(task) for task, reference in zip(tasks, references, strict=True)]
    return tasks[0].id == tasks[1].id or (bool(golden[0]) and golden[0] == golden[1])


_WORDS: Mapping[str, str] = {str(cause): words for cause, words in CAUSES.items()}


def _find(rollouts: Sequence[Rollout], reference: Reference) -> list[_Found]:
    roots = [one for one in rollouts if one.depth == 0]
    found = [_Found(one, find_cause(one, reference)) for one in roots if one.scored]
    if not found:
        raise InputError(f"none of {len(roots)} stored episodes is scored, so none failed; see them with banty inspect")
    return found


def _diagnosis(rollouts: Sequence[Rollout], found: Sequence[_Found]) -> dict[str, Any]:
    unscored = [one for one in rollouts if one.depth == 0 and not one.scored]
    return {
        "format": FORMAT,
        "policies": sorted({each.rollout.policy for each in found}),
        "env": sorted({each.rollout.task.env for each in found}),
        "num_scored": len(found),
        "num_failures": sum(not each.passed for each in found),
        "num_without_reference": sum(each.finding.on_path is None for each in found),
        "excluded": dict(Counter(one.cause or one.status for one in unscored).most_common()),
        "success": _share(found, [each.passed for each in found]),
        "causes": _causes(found),
        "stages": _stages(found),
        "off_path": _off_path(found),
        "symptoms": _symptoms(found),
        "tasks": _tasks(found),
    }


def _share(found: Sequence[_Found], holds: Sequence[bool]) -> dict[str, Any]:
    """Of how many it holds, with the mean over tasks and its interval."""
    held = {each.rollout.rollout_id for each, yes in zip(found, holds, strict=True) if yes}
    return share([each.rollout for each in found], lambda one: one.rollout_id in held)


def _by_task(found: Sequence[_Found]) -> dict[str, list[_Found]]:
    by_task: dict[str, list[_Found]] = {}
    for each in found:
        by_task.setdefault(task_place(each.rollout.task.id), []).append(each)
    return by_task


def _causes(found: Sequence[_Found]) -> list[dict[str, Any]]:
    rows = []
    for cause, words in _WORDS.items():
        mine = [each for each in found if each.verdict == cause]
        if mine:
            rows.append(
                {
                    "cause": cause,
                    "words": words,
                    "share": _share(found, [each.verdict == cause for each in found]),
                    "num_tasks": len(_by_task(mine)),
                    "about": dict(Counter(each.finding.about for each in mine).most_common(NUM_ABOUT)),
                    "examples": _examples(mine),
                }
            )
    return sorted(rows, key=lambda row: -row["share"]["count"])


def _examples(found: Sequence[_Found]) -> list[dict[str, Any]]:
    """The first few, of as many tasks as there are."""
    rounds = zip_longest(*_by_task(found).values())
    picked = [each for members in rounds for each in members if each is not None][:NUM_EXAMPLES]
    return [
        {
            "rollout_id": each.rollout.rollout_id,
            "task": _name_of(each.rollout),
            "turn": each.finding.turn,
            "about": each.finding.about,
            "told": each.finding.told,
        }
        for each in picked
    ]


def _name_of(rollout: Rollout) -> str:
    return published_id(rollout.task.public, str(rollout.task.index))


def _stages(found: Sequence[_Found]) -> list[dict[str, Any]]:
    """A row a stage: of the episodes that take a change and came as far as the stage before, how many reached it."""
    left = [each for each in found if each.finding.stages is not None]
    if not left:
        return []
    rows: list[dict[str, Any]] = [{"stage": "episodes that take a change", "reached": len(left), "share": None}]
    for place, stage in enumerate((*STAGES, "success"), 1):
        reached = [_how_far(each) >= place for each in left]
        row = _share(left, reached)
        left = [each for each, yes in zip(left, reached, strict=True) if yes]
        rows.append({"stage": stage, "reached": len(left), "share": row})
    return rows


def _how_far(found: _Found) -> int:
    stages = found.finding.stages or 0
    return stages + (stages == len(STAGES) and found.passed)


def _off_path(found: Sequence[_Found]) -> dict[str, Any]:
    """Passes with other changes than the reference's, and failures with just those: where verdict and path differ."""
    known = [each for each in found if each.finding.on_path is not None]
    off = [each for each in known if each.passed and not each.finding.on_path]
    on = [each for each in known if not each.passed and each.finding.on_path]
    return {
        "num_known": len(known),
        "passes_off_path": len(off),
        "of_passes": sum(each.passed for each in known),
        "failures_on_path": len(on),
        "of_failures": sum(not each.passed for each in known),
        "examples": _examples(off),
    }


def _symptoms(found: Sequence[_Found]) -> list[dict[str, Any]]:
    """A row a symptom that came up: its share of passes and of failures."""
    passes, fails = ([each for each in found if each.passed == passed] for passed in (True, False))
    rows = []
    for name, (words, shows) in SYMPTOMS.items():
        inside = [_share(part, [shows(each.rollout) for each in part]) for part in (passes, fails)]
        if any(row["count"] for row in inside):
            rows.append({"symptom": name, "words": words, "in_passes": inside[0], "in_failures": inside[1]})
    return rows


def _tasks(found: Sequence[_Found]) -> list[dict[str, Any]]:
    """A row a task that ever failed, worst first: how often, and its causes."""
    rows = []
    for task, trials in _by_task(found).items():
        causes = Counter(each.verdict for each in trials if not each.passed)
        if causes:
            rows.append(
                {
                    "task": _name_of(trials[0].rollout),
                    "id": task,
                    "num_trials": len(trials),
                    "num_failures": causes.total(),
                    "causes": dict(causes.most_common()),
                }
            )
    return sorted(rows, key=lambda row: (-row["num_failures"] / row["num_trials"], -row["num_failures"]))
