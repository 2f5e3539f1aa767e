"""Each measure of the audit: what it calls none, related and overlapping, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.evals.audited import cancel, strangers, task, tasks, words

from banty.errors import InputError
from banty.evals.audit import Audit, AuditedTask, Finding, audit
from banty.evals.audit.likeness import best_matches, containment, jaccard, tail
from banty.evals.audit.tasks import skeletons_of
from banty.records import TaskContent, ToolCall, generator

TRAIN = strangers(200)
TEST = strangers(60, first=1000, who="visitor")


def found(train: list[AuditedTask], test: list[AuditedTask], measure: str) -> Finding:
    return of(audit(tasks("TRAIN", train), tasks("TEST", test)), measure)


def of(audited: Audit, measure: str) -> Finding:
    return next(one for one in audited.findings if one.measure == measure)


def rephrased(original: AuditedTask, **changes: object) -> AuditedTask:
    """The task with six words of thirty changed and whatever else is asked."""
    said = " ".join(["and", "so", "some", "other", "thing", "then", *original.content.text.split()[6:]])
    content = dataclasses.replace(original.content, text=said, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(original, id=f"new {original.id}", content=content)


def test_strangers_share_nothing_and_may_be_called_held_out() -> None:
    result = audit(tasks("TRAIN", TRAIN), tasks("TEST", TEST))
    assert {one.measure: one.level for one in result.findings} == {
        "tasks": "none",
        "customers": "none",
        "writes": "none",
        "text": "none",
        "templates": "none",
        "tables": "none",
    }
    assert result.allowed
    assert result.sentence == (
        "A result on 60 tasks of TEST after training on 200 tasks of TRAIN may be called held-out: they share nothing "
        "that was looked for."
    )
    assert result.to_leave_out == []


def test_one_training_task_among_the_test_tasks_is_enough() -> None:
    planted = dataclasses.replace(TRAIN[7], id="planted")
    result = audit(tasks("TRAIN", TRAIN), tasks("TEST", [*TEST, planted]))
    assert not result.allowed
    assert [one.measure for one in result.overlapping] == ["tasks", "customers", "writes", "text"]
    assert result.to_leave_out == ["planted"]
    assert result.sentence.startswith(
        "A result on 61 tasks of TEST after training on 200 tasks of TRAIN must not be called held-out: they share "
        "tasks (1 of 61 test tasks), customers who want the same (1 of 61 test tasks), identical golden writes (1 of "
        "61 test tasks that write) and "
    )
    (example,) = of(result, "tasks").to_json()["examples"]
    assert (example["test"]["id"], example["train"]["id"]) == ("planted", "7")
    assert example["test"]["writes"] == [{"name": "cancel_reservation", "arguments": {"reservation_id": "R00007"}}]


def test_a_customer_who_wants_something_else_is_related_and_one_who_wants_the_same_overlaps() -> None:
    returning = task("returns", " ".join(words(5000)), "guest_3", [cancel("NEW001")])
    other = found(TRAIN, [*TEST, returning], "customers")
    assert (other.level, other.count, other.figures["want_the_same"]) == ("related", 1, 0)
    same_words = found(TRAIN, [*TEST, rephrased(TRAIN[3], writes=())], "customers")
    assert (same_words.level, same_words.count) == ("overlapping", 1)
    assert "word Jaccard" in same_words.examples[0].shared
    assert audit(tasks("TRAIN", TRAIN), tasks("TEST", [*TEST, returning])).allowed


def test_golden_writes_are_compared_in_canonical_form_and_as_a_set() -> None:
    bags = ToolCall("update_bags", {"reservation_id": "R00009", "total": 2})
    train = [*TRAIN, task("two", "x", "g", [cancel("R00001"), bags])]
    turned = ToolCall("update_bags", {"total": 2.0, "reservation_id": "R00009"})
    assert found(train, [task("t", "y", "h", [turned, cancel("R00001")])], "writes").level == "overlapping"
    near = found(train, [task("t", "y", "h", [ToolCall("update_bags", {**bags.arguments, "total": 3})])], "writes")
    assert (near.level, near.figures["near"]) == ("related", 1)
    assert near.figures["near_alike"]["highest"] == pytest.approx(0.375)  # 0.75 of one call, over two
    elsewhere = task("t", "y", "h", [ToolCall("update_bags", {**bags.arguments, "reservation_id": "R77777"})])
    assert found(train, [elsewhere], "writes").level == "none"


def test_tasks_that_write_nothing_have_no_writes_in_common() -> None:
    idle = found([task("a", "x", "g", [])], [task("b", "y", "h", [])], "writes")
    assert (idle.level, idle.of, idle.shares) == (None, 0, "no test task is known to write")


def test_rephrasings_are_close_and_chance_is_not() -> None:
    few = [rephrased(one) for one in TRAIN[:6]]
    related = found(TRAIN, [*TEST, *few], "text")
    assert (related.level, related.figures["close"]) == ("related", 6)
    assert related.figures["p_value"] < 0.01
    half = found(TRAIN, [*TEST[:6], *few], "text")
    assert (half.level, half.count) == ("overlapping", 6)
    assert found(TRAIN, [*TEST, few[0]], "text").level == "none", "one of 61 is within what chance gives"


def test_one_instruction_word_for_word_overlaps_and_a_short_one_does_not() -> None:
    copied = task("copy", TRAIN[0].content.text.upper() + "!", "somebody")
    same = found(TRAIN, [*TEST, copied], "text")
    assert (same.level, same.figures["word_for_word"]) == ("overlapping", 1)
    assert same.shares == "instructions word for word (1 of 61 test tasks)"
    short = task("short", "cancel it please", "a")
    assert found([short, *TRAIN], [dataclasses.replace(short, id="again"), *TEST], "text").level == "none"


def test_texts_that_are_all_alike_are_not_close_by_that() -> None:
    """Generated wording makes every task like every other: the threshold is what unrelated training tasks reach."""

    def templated(count: int, first: int) -> list[AuditedTask]:
        return [
            task(str(place), f"please cancel my reservation number {place} today thank you very much", f"c{place}")
            for place in range(first, first + count)
        ]

    same = found(templated(150, 0), templated(50, 500), "text")
    assert same.level == "none"
    assert same.figures["jaccard"]["median"] == same.figures["jaccard_of_unrelated"]["median"] > 0.8
    sentences = found(templated(150, 0), templated(50, 500), "templates")
    assert sentences.level == "none", "training tasks share the sentence with unrelated ones as well"


def test_a_sentence_that_training_uses_once_and_test_all_the_time_is_a_template() -> None:
    wording = "I would like to move the flight {} to another day because of a wedding."
    train = [*TRAIN, task("w", wording.format("HAT001"), "w")]
    test = [task(str(place), wording.format(f"HAT{place:03d}"), f"v{place}") for place in range(40)]
    shared = found(train, test, "templates")
    assert (shared.level, shared.count, shared.figures["exact"]) == ("related", 40, False)
    assert "to another day because of a wedding" in shared.examples[0].shared


def test_templates_that_the_environment_tells_are_compared_exactly() -> None:
    def speaking(name: str, *templates: str) -> AuditedTask:
        return AuditedTask(name, TaskContent(text="", templates=frozenset(templates)))

    shared = found(
        [speaking("a", "Hi.", "Bye {value}.")], [speaking("b", "Bye {value}."), speaking("c", "Ho.")], "templates"
    )
    assert (shared.level, shared.count, shared.figures["shared"]) == ("related", 1, 1)
    assert found([speaking("a", "Hi.")], [speaking("c", "Ho.")], "templates").level == "none"


def test_tables_and_the_records_that_are_written_to_are_related() -> None:
    def on(name: str, record: str, **tables: str) -> AuditedTask:
        return AuditedTask(name, TaskContent(writes=(cancel(record),), tables=tables))

    same = found([on("a", "R1", users="1", flights="2")], [on("b", "R2", users="1", flights="3")], "tables")
    assert (same.level, same.figures["same_tables"]) == ("related", ["users"])
    rows = found([on("a", "R1", users="1")], [on("b", "R1", users="2")], "tables")
    assert (rows.level, rows.figures["tasks_with_shared_records"]) == ("related", 1)
    assert found([on("a", "R1", users="1")], [on("b", "R2", users="2")], "tables").level == "none"


def test_pins_count_unless_the_tasks_behind_them_differ() -> None:
    mine = dataclasses.replace(TRAIN[0], pin="env:test:0:0")
    again = dataclasses.replace(rephrased(TRAIN[0]), pin="env:test:0:0")
    other_world = dataclasses.replace(TEST[0], pin="env:test:0:0")
    assert found([mine], [again], "tasks").level == "overlapping"
    assert found([mine], [other_world], "tasks").level == "none"


def test_ids_alone_say_nothing() -> None:
    numbered = [dataclasses.replace(one, id=str(place)) for place, one in enumerate(TEST)]
    result = found(TRAIN, numbered, "tasks")
    assert (result.level, result.figures["same_ids"]) == ("none", 60)


def test_one_split_is_never_held_out_from_itself() -> None:
    sides = [dataclasses.replace(tasks("S", one), split=("env", "train")) for one in (TRAIN, TEST)]
    result = audit(*sides)
    assert not result.allowed
    assert "they share the split itself" in result.sentence
    assert result.construction == "both are of the split 'train' of env"


def test_what_is_not_known_is_said_and_allows_nothing_by_itself() -> None:
    bare = [AuditedTask("a", TaskContent(), "env:train:0:0")], [AuditedTask("b", TaskContent(), "env:test:0:0")]
    result = audit(tasks("TRAIN", bare[0]), tasks("TEST", bare[1]))
    assert not result.allowed
    assert result.sentence.endswith(
        "must not be called held-out: what the tasks have in common is not known (not measured: customers, writes, "
        "text, templates, tables)."
    )
    levels = {row["measure"]: row["level"] for row in result.to_json()["overlaps"]}
    assert levels["text"] == "not measured"
    partly = audit(tasks("TRAIN", [task(one.id, one.content.text) for one in TRAIN]), tasks("TEST", TEST))
    assert partly.allowed
    assert partly.sentence.endswith("(not measured: customers, writes, tables).")


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(InputError, match="TEST, nothing, has no tasks"):
        audit(tasks("TRAIN", TRAIN), tasks("nothing", []))


def test_best_matches_are_those_of_every_pair_looked_at() -> None:
    rng = generator(0, "bags")
    bags = [frozenset(rng.choice(40, size=rng.integers(0, 12)).astype(str).tolist()) for _ in range(300)]
    queries, corpus = bags[:170], bags[170:]
    gone = [[place % 130, 5] for place in range(170)]
    for measure in (jaccard, containment):
        best = best_matches(queries, corpus, measure, gone)
        for place, query in enumerate(queries):
            scores = [
                -1.0
                if other in gone[place]
                else float(measure(*map(np.array, (len(query & each), len(query), len(each)))))
                for other, each in enumerate(corpus)
            ]
            assert best.scores[place] == pytest.approx(max(max(scores), 0.0))
            assert best.places[place] == (int(np.argmax(scores)) if max(scores) > 0 else -1)


def test_the_tail_is_the_binomial_one() -> None:
    assert tail(0, 10, 0.2) == 1.0
    assert tail(1, 2, 0.5) == pytest.approx(0.75)
    assert tail(3, 3, 0.1) == pytest.approx(0.001)


def test_skeletons_mask_what_is_an_entity_and_keep_what_is_said() -> None:
    said = "Hello. Move my flight HAT001 from JFK to Boston on May 20, please. I am mia_li_3668 and want it now!"
    assert skeletons_of(said) == {
        "move my flight number from code to name on number number please",
        "i am id and want it now",
    }
