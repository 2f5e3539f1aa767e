"""The measures of an audit: what test tasks have in common with training tasks, each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from banty.evals.audit.findings import Finding, Level, counted, examples_of, unknown
from banty.evals.audit.likeness import MOST_NULL, SURE, Likeness, jaccard, tail
from banty.evals.audit.tasks import Side, records_of
from banty.rubrics.matching import Wanted, assign

FEWEST_WORDS = 8
"""An instruction of fewer words may be the same twice by accident."""

TASKS_RULE = (
    "Overlapping: a test task has the pin of a training task, or its id, customer and golden writes, or its words and "
    "golden writes; or both sides are the same split of one environment or file. Ids alone say nothing."
)
CUSTOMERS_RULE = (
    "Related: the customer of a test task is in training too. Overlapping: and wants the same there, by identical "
    "golden writes or by an instruction nearer than unrelated training tasks come to each other."
)
WRITES_RULE = (
    "Overlapping: all golden writes of a test task, as a set of canonical calls, are those of a training task. "
    "Related: a golden write uses the tool of a training task on the same record. Tasks that write nothing do not "
    "count."
)
TEXT_RULE = (
    "A test task is close when its best match in training (word Jaccard, or containment of 5-word shingles) is above "
    "the 99th percentile of the best matches that training tasks have among training tasks of other customers. "
    f"Related: more are close than chance gives (binomial p below {SURE:g}). Overlapping: at least half are, or one "
    f"instruction of {FEWEST_WORDS} words or more is the same word for word."
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
        for other in others:
            if why := _wants_the_same(train, other, test, place, like):
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
    identical = {place: by_key[test.write_keys[place]] for place in writing if test.write_keys[place] in by_key}
    near: dict[int, int] = {}
    scores: dict[int, float] = {}
    for place in writing:
        others = sorted({other for touched in _touched(test, place) for other in by_record.get(touched, ())})
        if place not in identical and others:
            scored = [(_alike(train, other, test, place), -other) for other in others]
            scores[place], near[place] = max(scored)[0], -max(scored)[1]
    shown, words = (
        (identical, dict.fromkeys(identical, "identical golden writes"))
        if identical
        else (near, {place: f"golden writes alike by {score:.2f}" for place, score in scores.items()})
    )
    what = "identical golden writes" if identical else "golden writes to the same record"
    return Finding(
        "writes",
        _level(len(identical), len(near)),
        len(shown),
        len(writing),
        f"{what} ({counted(len(shown), len(writing), 'test tasks that write')})",
        WRITES_RULE,
        {
            "identical": len(identical),
            "near": len(near),
            "near_alike": _spread(np.array(list(scores.values()))),
        },
        examples_of(train, test, shown, words),
        frozenset(identical),
    )


def similar_text(train: Side, test: Side, like: Likeness) -> Finding:
    """Test tasks whose instruction is nearer to training than training is to itself."""
    if not any(train.spoken) or not any(test.spoken):
        return unknown("text", TEXT_RULE, "one side's tasks have no text")
    by_text = {words: place for place, words in reversed(list(enumerate(train.spoken))) if len(words) >= FEWEST_WORDS}
    verbatim = {place: by_text[words] for place, words in enumerate(test.spoken) if words in by_text}
    close = {int(place): int(like.jaccard.places[place]) for place in np.flatnonzero(like.close)}
    close = {place: other for place, other in close.items() if other >= 0}
    more_than_chance = like.p_value is not None and like.p_value < SURE
    most = more_than_chance and 2 * len(close) >= len(test)
    level: Level = "overlapping" if verbatim or most else "related" if more_than_chance else "none"
    counts_close = more_than_chance and (most or not verbatim)
    pairs = {**(close if counts_close else {}), **verbatim}
    pairs = {place: pairs[place] for place in sorted(pairs, key=lambda place: -like.jaccard.scores[place])}
    words = {place: f"word Jaccard {like.jaccard.scores[place]:.2f}" for place in pairs}
    what = "nearer than unrelated tasks come to each other" if counts_close else "word for word"
    figures: dict[str, Any] = {
        "close": len(close),
        "word_for_word": len(verbatim),
        "expected_by_chance": None if like.chance is None else round(like.chance * len(test), 2),
        "p_value": like.p_value,
        "thresholds": None if like.thresholds is None else [round(one, 4) for one in like.thresholds],
        "jaccard": _spread(like.jaccard.scores),
        "jaccard_of_unrelated": _spread(like.null_jaccard),
        "containment": _spread(like.containment.scores),
        "containment_of_unrelated": _spread(like.null_containment),
        **_paired(train, test, like),
    }
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
        frozenset(pairs) if level == "overlapping" else frozenset(),
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


def _wants_the_same(train: Side, other: int, test: Side, place: int, like: Likeness) -> str:
    """Why two tasks of one customer are about the same thing; empty where they are not."""
    if test.write_keys[place] and test.write_keys[place] == train.write_keys[other]:
        return "identical golden writes"
    if like.thresholds is None or not test.words[place]:
        return ""
    shared = np.array(len(test.words[place] & train.words[other]))
    sizes = np.array(len(test.words[place])), np.array(len(train.words[other]))
    alike = float(jaccard(shared, *sizes))
    return f"word Jaccard {alike:.2f}" if alike > like.thresholds[0] else ""


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
