"""The measures of an audit: what test tasks have in common with training tasks, each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from banty.evals.audit.findings import Finding, Level, counted, examples_of, unknown
from banty.evals.audit.likeness import MOST_NULL, NEARLY_THE_SAME, SURE, Likeness, jaccard, tail
from banty.evals.audit.tasks import Side, records_of
from banty.rubrics.matching import Wanted, assign

FEWEST_WORDS = 8
"""An instruction of fewer words may be the same twice by accident."""
_FEW = 10
"""A customer with at most one in so many of the training tasks is one of many."""
_MOST_NEAR = 64
"""Training tasks with a record in common that one test task's writes are scored against."""

_WITHIN = "golden writes, all of one task's among the other's"
TASKS_RULE = (
    "Overlapping: a test task has the pin of a training task, or its id, customer and golden writes, or its words and "
    "golden writes; or both sides are the same split of one environment or file. Ids alone say nothing."
)
CUSTOMERS_RULE = (
    "Related: the customer of a test task is in training too. Overlapping: and wants the same there, by golden writes "
    "of which one task has all of the other's, or by an instruction nearer (word Jaccard) than the 90th percentile of "
    "what unrelated training tasks reach (the 99th, if the customer has more than a tenth of them); or what is wanted "
    "cannot be compared, since one side is known from conversations alone."
)
WRITES_RULE = (
    "Overlapping: the golden writes of a test task, as a set of canonical calls, are those of a training task, or all "
    "of one's are among the other's; but not where they name no record and several training tasks have them, as a "
    "refusal in fixed words does. Related: a golden write uses the tool of a training task on the same record. "
    "Tasks that write nothing do not count."
)
TEXT_RULE = (
    "A test task is close when its best match in training (word Jaccard, or containment of 5-word shingles) is above "
    "the 99th percentile of the best matches that training tasks have among training tasks of other customers. "
    f"Related: more are close than chance gives (binomial p below {SURE:g}). Overlapping: at least half are, and then "
    "all tasks count, since a set that is mostly rephrased is rephrased; or one instruction of "
    f"{FEWEST_WORDS} words or more is the same, or nearly: word Jaccard {NEARLY_THE_SAME:g}, and half-way "
    "from the nearest unrelated training tasks to the same words."
)
TEMPLATES_RULE = (
    "Related: both sides use a wording, exactly where the environment says which templates its customers speak in. "
    "Elsewhere a sentence with its names, codes, numbers and dates masked counts as one, and more test tasks must "
    f"share one with training than training tasks share with unrelated ones (binomial p below {SURE:g}). Wordings "
    "alone never make tasks overlapping."
)
TABLES_RULE = (
    "Related: both sides are played on a table of the same sha256, or a record that a test task's golden writes name "
    "is named by training's. What is done to the records is for the other measures to say."
)


def same_tasks(train: Side, test: Side, one_split: bool) -> Finding:
    """Test tasks that are training tasks."""
    if one_split:
        shares = "the split itself, which promises nothing between its own tasks"
        everything = frozenset(range(len(test)))
        return Finding("tasks", "overlapping", len(test), len(test), shares, TASKS_RULE, overlapping=everything)
    by_pin = {task.pin: place for place, task in enumerate(train.tasks) if task.pin}
    by_id = {_named(train, place): place for place in range(len(train)) if _named(train, place)}
    by_words = {_worded(train, place): place for place in range(len(train)) if _worded(train, place)}
    pairs: dict[int, int] = {}
    for place, task in enumerate(test.tasks):
        other = by_pin.get(task.pin) if task.pin else None
        if other is not None and not _same_content(train, other, test, place):
            other = None
        for keys, key in ((by_id, _named(test, place)), (by_words, _worded(test, place))):
            other = keys.get(key) if other is None and key else other
        if other is not None:
            pairs[place] = other
    ids = {task.id for task in train.tasks}
    figures = {"same_ids": sum(task.id in ids for task in test.tasks)}
    shares = f"tasks ({counted(len(pairs), len(test))})"
    found = examples_of(train, test, pairs, dict.fromkeys(pairs, "the task"))
    return Finding(
        "tasks", _level(len(pairs), 0), len(pairs), len(test), shares, TASKS_RULE, figures, found, frozenset(pairs)
    )


def same_customers(train: Side, test: Side, like: Likeness) -> Finding:
    """Test tasks whose customer is in training, and those who want the same there."""
    by_customer: dict[str, list[int]] = {}
    for place, customers in enumerate(train.customers):
        for customer in customers or ():
            by_customer.setdefault(customer, []).append(place)
    known = [place for place, customers in enumerate(test.customers) if customers]
    if not by_customer or not known:
        return unknown("customers", CUSTOMERS_RULE, "no customer ids are known on one side")
    also: dict[int, int] = {}
    same: dict[int, int] = {}
    words: dict[int, str] = {}
    for place in known:
        customers = test.customers[place] or frozenset()
        others = sorted({other for customer in customers for other in by_customer.get(customer, ())})
        if not others:
            continue
        also[place] = others[0]
        who = ", ".join(sorted(customers & (train.customers[others[0]] or frozenset())))
        words[place] = f"customer {who}"
        few = _FEW * len(others) <= len(train)
        least = like.of_one_customer if few else like.thresholds[0] if like.thresholds else None
        for other in others:
            if why := _wants_the_same(train, other, test, place, like, least):
                same[place], words[place] = other, f"customer {who}, {why}"
                break
    shown = same or also
    shares = "customers who want the same" if same else "customers"
    return Finding(
        "customers",
        _level(len(same), len(also)),
        len(shown),
        len(known),
        f"{shares} ({counted(len(shown), len(known))})",
        CUSTOMERS_RULE,
        {"in_training": len(also), "want_the_same": len(same)},
        examples_of(train, test, shown, words),
        frozenset(same),
    )


def same_writes(train: Side, test: Side) -> Finding:
    """Test tasks with the golden writes of a training task, and with writes to the same records."""
    if all(writes is None for writes in train.writes) or all(writes is None for writes in test.writes):
        return unknown("writes", WRITES_RULE, "the golden writes of one side are not known")
    by_key = {key: place for place, key in reversed(list(enumerate(train.write_keys))) if key}
    by_record: dict[tuple[str, str], list[int]] = {}
    for place in range(len(train)):
        for touched in _touched(train, place):
            by_record.setdefault(touched, []).append(place)
    writing = [place for place, key in enumerate(test.write_keys) if key]
    if not writing:
        return unknown("writes", WRITES_RULE, "no test task is known to write")
    holders = Counter(train.write_keys)
    identical = {
        place: by_key[test.write_keys[place]]
        for place in writing
        if test.write_keys[place] in by_key and (test.records[place] or holders[test.write_keys[place]] == 1)
    }
    by_write: dict[str, list[int]] = {}
    for place, each in enumerate(train.each_write):
        for write in each:
            by_write.setdefault(write, []).append(place)
    within = {
        place: other
        for place in writing
        if place not in identical and (other := _within(train, by_write, test, place)) is not None
    }
    same = {place: {**identical, **within}[place] for place in sorted({*identical, *within})}
    near: dict[int, int] = {}
    scores: dict[int, float] = {}
    for place in writing:
        others = sorted({other for touched in _touched(test, place) for other in by_record.get(touched, ())})
        if place not in same and others:
            scored = [(_alike(train, other, test, place), -other) for other in others[:_MOST_NEAR]]
            scores[place], near[place] = max(scored)[0], -max(scored)[1]
    shown, words = (
        (same, {place: "identical golden writes" if place in identical else _WITHIN for place in same})
        if same
        else (near, {place: f"golden writes alike by {score:.2f}" for place, score in scores.items()})
    )
    what = _WITHIN if within else "identical golden writes" if identical else "golden writes to the same record"
    return Finding(
        "writes",
        _level(len(same), len(near)),
        len(shown),
        len(writing),
        f"{what} ({counted(len(shown), len(writing), 'test tasks that write')})",
        WRITES_RULE,
        {
            "identical": len(identical),
            "within": len(within),
            "near": len(near),
            "near_alike": _spread(np.array(list(scores.values()))),
        },
        examples_of(train, test, shown, words),
        frozenset(same),
    )


def similar_text(train: Side, test: Side, like: Likeness) -> Finding:
    """Test tasks whose instruction is nearer to training than training is to itself."""
    if not any(train.spoken) or not any(test.spoken):
        return unknown("text", TEXT_RULE, "one side's tasks have no text that the other's could be compared with")
    by_text = {words: place for place, words in reversed(list(enumerate(train.spoken))) if len(words) >= FEWEST_WORDS}
    verbatim = {place: by_text[words] for place, words in enumerate(test.spoken) if words in by_text}
    nearly = {
        int(place): int(like.jaccard.places[place])
        for place in np.flatnonzero(like.jaccard.scores > like.nearly_the_same)
        if place not in verbatim and len(test.spoken[place]) >= FEWEST_WORDS
    }
    copied = {**verbatim, **nearly}
    close = {int(place): int(like.jaccard.places[place]) for place in np.flatnonzero(like.close)}
    close = {place: other for place, other in close.items() if other >= 0}
    more_than_chance = like.p_value is not None and like.p_value < SURE
    most = more_than_chance and 2 * len(close) >= len(test)
    level: Level | None = "overlapping" if copied or most else "related" if more_than_chance else "none"
    if level == "none" and (why := _not_telling(train, test, like)):
        level = None
    counts_close = more_than_chance and (most or not copied)
    pairs = {**(close if counts_close else {}), **copied}
    pairs = {place: pairs[place] for place in sorted(pairs, key=lambda place: -like.jaccard.scores[place])}
    words = {place: f"word Jaccard {like.jaccard.scores[place]:.2f}" for place in pairs}
    what = "nearer than unrelated tasks come to each other" if counts_close else _copied(len(verbatim), len(nearly))
    figures: dict[str, Any] = {
        "close": len(close),
        "word_for_word": len(verbatim),
        "nearly_word_for_word": len(nearly),
        "expected_by_chance": None if like.chance is None else round(like.chance * len(test), 2),
        "p_value": like.p_value,
        "thresholds": None if like.thresholds is None else [round(one, 4) for one in like.thresholds],
        "jaccard": _spread(like.jaccard.scores),
        "jaccard_of_unrelated": _spread(like.null_jaccard),
        "containment": _spread(like.containment.scores),
        "containment_of_unrelated": _spread(like.null_containment),
        **_paired(train, test, like),
    }
    if level is None:
        return Finding("text", None, 0, 0, why, TEXT_RULE, figures)
    count = len(pairs) if level != "none" else len(close)
    return Finding(
        "text",
        level,
        count,
        len(test),
        f"instructions {what} ({counted(count, len(test))})",
        TEXT_RULE,
        figures,
        examples_of(train, test, pairs, words),
        frozenset(range(len(test)) if most else pairs) if level == "overlapping" else frozenset(),
    )


def same_templates(train: Side, test: Side) -> Finding:
    """Test tasks that share a wording with training."""
    told = [[task.content.templates for task in side.tasks] for side in (train, test)]
    exact = all(one is not None for side in told for one in side)
    of_train, of_test = (
        ([one or frozenset() for one in side] for side in told) if exact else (train.skeletons, test.skeletons)
    )
    if not exact and (not any(of_train) or not any(of_test)):
        return unknown(
            "templates",
            TEMPLATES_RULE,
            "no side tells its templates, and one has no sentence of five words",
        )
    users = Counter(one for bag in of_train for one in bag)
    sharing = {place: bag & users.keys() for place, bag in enumerate(of_test) if bag & users.keys()}
    if exact:
        p_value = 0.0 if sharing else 1.0
        expected = None
    else:
        chance = _chance_of_sharing(train, of_train)
        p_value, expected = tail(len(sharing), len(test), chance), round(chance * len(test), 2)
    shared = set().union(*sharing.values()) if sharing else set()
    pairs, words = {}, {}
    for place, bag in list(sharing.items())[:3]:
        wording = max(sorted(bag), key=len)
        pairs[place] = next(other for other, theirs in enumerate(of_train) if wording in theirs)
        words[place] = f"{'template' if exact else 'sentence'} {wording!r}"
    level: Level = "related" if p_value < SURE else "none"
    what = "paraphrase templates" if exact else "sentences with only names and numbers changed"
    return Finding(
        "templates",
        level,
        len(sharing),
        len(test),
        f"{what} ({len(shared)}, in {counted(len(sharing), len(test))})",
        TEMPLATES_RULE,
        {"exact": exact, "shared": len(shared), "expected_by_chance": expected, "p_value": p_value},
        examples_of(train, test, pairs, words) if level != "none" else (),
    )


def same_tables(train: Side, test: Side) -> Finding:
    """Test tasks on the same tables, or with golden writes to records that training's write to."""
    tables = {table for task in train.tasks for table in (task.content.tables or {}).items()}
    records = {record: place for place in reversed(range(len(train))) for record in train.records[place]}
    told = any(task.content.tables for task in test.tasks) and bool(tables)
    writing = any(train.records) and any(test.records)
    if not told and not writing:
        return unknown("tables", TABLES_RULE, "neither tables nor the records of golden writes are known")
    on = [place for place, task in enumerate(test.tasks) if tables & set((task.content.tables or {}).items())]
    same = sorted({name for place in on for name, _ in tables & set((test.tasks[place].content.tables or {}).items())})
    rows = {place: sorted(named & records.keys()) for place, named in enumerate(test.records) if named & records.keys()}
    parts = [f"the database ({', '.join(same)}; {counted(len(on), len(test))})"] if on else []
    parts += [f"records that golden writes name ({counted(len(rows), len(test))})"] if rows else []
    pairs = {place: records[found[0]] for place, found in rows.items()}
    words = {place: ", ".join(found[:4]) for place, found in rows.items()}
    return Finding(
        "tables",
        "related" if parts else "none",
        len({*on, *rows}),
        len(test),
        " and ".join(parts) or "tables and records",
        TABLES_RULE,
        {"same_tables": same, "tasks_on_them": len(on), "tasks_with_shared_records": len(rows), "tables_known": told},
        examples_of(train, test, pairs, words),
    )


def _level(overlapping: int, related: int) -> Level:
    return "overlapping" if overlapping else "related" if related else "none"


def _named(side: Side, place: int) -> tuple[Any, ...] | None:
    """Id, customer and golden writes of a task, where there are all three."""
    customers, writes = side.customers[place], side.writes[place]
    return None if not customers or writes is None else (side.tasks[place].id, customers, side.write_keys[place])


def _worded(side: Side, place: int) -> tuple[Any, ...] | None:
    """Words and golden writes of a task, where it has words enough."""
    words = side.spoken[place]
    return None if len(words) < FEWEST_WORDS else (words, side.writes[place] is None, side.write_keys[place])


def _same_content(train: Side, other: int, test: Side, place: int) -> bool:
    """Whether nothing that is known of both contradicts that they are one task: a pin does not name its world."""
    return all(
        mine is None or theirs is None or mine == theirs
        for mine, theirs in (
            (test.customers[place], train.customers[other]),
            (test.writes[place], train.writes[other]),
        )
    )


def _wants_the_same(train: Side, other: int, test: Side, place: int, like: Likeness, least: float | None) -> str:
    """Why two tasks of one customer are about the same thing; empty where they are not. Their instructions are alike
    above a word Jaccard of `least`."""
    if test.write_keys[place] and test.write_keys[place] == train.write_keys[other]:
        return "identical golden writes"
    mine, theirs = test.each_write[place], train.each_write[other]
    if mine and theirs and (mine <= theirs or theirs <= mine):
        return _WITHIN
    if test.tasks[place].spoken != train.tasks[other].spoken:
        return "and what they want in a conversation is not told"
    if least is None or not like.jaccard.scores[place] > least:
        return ""
    shared = np.array(len(test.words[place] & train.words[other]))
    sizes = np.array(len(test.words[place])), np.array(len(train.words[other]))
    alike = float(jaccard(shared, *sizes))
    return f"word Jaccard {alike:.2f}" if alike > least else ""


def _within(train: Side, by_write: Mapping[str, Sequence[int]], test: Side, place: int) -> int | None:
    """A training task that has all of a test task's golden writes, or whose own are all among the test task's."""
    mine = test.each_write[place]
    shared = Counter(other for write in mine for other in by_write.get(write, ()))
    found = (
        other
        for other, count in shared.items()
        if (count == len(mine) and test.records[place])
        or (count == len(train.each_write[other]) and train.records[other])
    )
    return min(found, default=None)


def _not_telling(train: Side, test: Side, like: Likeness) -> str:
    """Why a text measure that found nothing says nothing; empty where it does say something."""
    if not like.telling:
        return f"{len(test)} test and {len(train)} training tasks are too few to tell likeness from chance"
    if all(len(words) < FEWEST_WORDS for words in test.spoken) and set(test.spoken) & set(train.spoken):
        return f"no test task has {FEWEST_WORDS} words, and some have those of a training task"
    return ""


def _copied(verbatim: int, nearly: int) -> str:
    return "word for word" if not nearly else "nearly word for word" if not verbatim else "word for word, or nearly"


def _touched(side: Side, place: int) -> list[tuple[str, str]]:
    """(tool, record) of a task's golden writes."""
    return [(call.name, record) for call in side.tasks[place].content.writes or () for record in records_of(call)]


def _alike(train: Side, other: int, test: Side, place: int) -> float:
    """How alike two tasks' golden writes are: their best one-to-one matches over the longer list, 0 to 1."""
    mine, theirs = test.writes[place] or (), train.writes[other] or ()
    matched = assign(mine, [Wanted(*each) for each in theirs], lambda _: True)
    return sum(match.score for match in matched if match is not None) / max(len(mine), len(theirs), 1)


def _paired(train: Side, test: Side, like: Likeness) -> Mapping[str, Any]:
    """Each test task beside its nearest training task: whether customer and golden writes are the same too, where both
    are known, a pair in which nothing is written counting as the same."""
    pairs = [(place, int(other)) for place, other in enumerate(like.jaccard.places) if other >= 0]
    customers = [
        bool(mine & theirs)
        for place, other in pairs
        if (mine := test.customers[place]) and (theirs := train.customers[other])
    ]
    writes = [
        test.write_keys[place] == train.write_keys[other]
        for place, other in pairs
        if test.writes[place] is not None and train.writes[other] is not None
    ]
    return {
        "nearest": {
            "pairs": len(pairs),
            "different_training_tasks": len({other for _, other in pairs}),
            "same_customer": sum(customers) if customers else None,
            "same_golden_writes": sum(writes) if writes else None,
        }
    }


def _chance_of_sharing(train: Side, bags: Sequence[frozenset[str]]) -> float:
    """How often a training task shares a sentence with one of another customer, a little rounded up."""
    places = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_NULL)).astype(int)).tolist()
    holders: dict[str, list[int]] = {}
    for place, bag in enumerate(bags):
        for one in bag:
            holders.setdefault(one, []).append(place)
    sharing = sum(
        any(_unrelated(train, place, other) for one in bags[place] for other in holders[one]) for place in places
    )
    return (sharing + 1) / (len(places) + 1)


def _unrelated(side: Side, place: int, other: int) -> bool:
    mine, theirs = side.customers[place], side.customers[other]
    return place != other and not (mine and theirs and mine & theirs)


def _spread(scores: np.ndarray) -> dict[str, float | int | None]:
    if not len(scores):
        return {"n": 0, "median": None, "q90": None, "highest": None}
    at = np.quantile(scores, [0.5, 0.9, 1.0])
    named = dict(zip(("median", "q90", "highest"), (round(float(one), 4) for one in at), strict=True))
    return {"n": len(scores), **named}
