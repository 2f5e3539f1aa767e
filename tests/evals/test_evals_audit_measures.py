"""Each measure of the audit: what it calls none, related and overlapping, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tests.evals.audited import cancel, strangers, task, tasks, tau2_task, words

from banty.errors import InputError
from banty.evals.audit import Audit, AuditedTask, Finding, Opening, audit, open_tasks
from banty.evals.audit.likeness import best_matches, containment, jaccard, tail
from banty.evals.audit.tasks import Side, skeletons_of
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


def renamed(original: AuditedTask, who: str) -> AuditedTask:
    """The same task under another customer: one word of thirty and a record differ, and nothing is written."""
    said = f"{who} {original.content.text.partition(' ')[2]}"
    return task(who, said, who, [])


def test_one_copy_under_another_name_is_found_among_a_thousand() -> None:
    many = strangers(1000, first=5000, who="visitor")
    result = audit(tasks("TRAIN", TRAIN), tasks("TEST", [*many, renamed(TRAIN[3], "zed_1")]))
    text = of(result, "text")
    assert (text.level, text.figures["word_for_word"], text.figures["nearly_word_for_word"]) == ("overlapping", 0, 1)
    assert text.shares == "instructions nearly word for word (1 of 1001 test tasks)"
    assert result.to_leave_out == ["zed_1"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sets_too_small_to_tell_likeness_from_chance_allow_nothing(size: int) -> None:
    """Everything is rephrased, and so little of it that the same might be chance."""
    train = [dataclasses.replace(one, content=dataclasses.replace(one.content, writes=())) for one in TRAIN[:size]]
    test = [task(f"n{at}", rephrased(one).content.text, f"new_{at}", []) for at, one in enumerate(train)]
    result = audit(tasks("TRAIN", train), tasks("TEST", test))
    assert not result.allowed
    assert of(result, "text").level is None
    assert "too few to tell likeness from chance" in of(result, "text").shares


def test_a_set_that_is_mostly_rephrased_leaves_no_task_that_is_not() -> None:
    result = audit(tasks("TRAIN", TRAIN), tasks("TEST", [*TEST[:4], *map(rephrased, TRAIN[:6])]))
    assert (of(result, "text").level, of(result, "text").count) == ("overlapping", 6)
    assert len(result.to_leave_out) == 10


def test_golden_writes_within_anothers_overlap_in_either_direction() -> None:
    one, both = task("one", "x", "g", [cancel("A1")]), task("both", "y", "h", [cancel("A1"), cancel("B2")])
    other = task("other", "z", "i", [cancel("A1"), cancel("C3")])
    for train, test, level in ((one, both, "overlapping"), (both, one, "overlapping"), (both, other, "related")):
        writes = found([*TRAIN, train], [*TEST, test], "writes")
        assert writes.level == level, (train.id, test.id)
        assert writes.figures["within"] == (level == "overlapping")


def test_two_requests_of_one_customer_are_told_apart_by_how_far_strangers_come() -> None:
    """A third of the words in common is more than strangers have, and less than chance gives the best of a thousand."""
    original = TRAIN[3]
    half = [*original.content.text.split()[:22], *words(9000, 8)]
    again = task("again", " ".join(half), "guest_3", [])
    assert found(TRAIN, [*TEST, again], "customers").level == "overlapping"
    crowd = [dataclasses.replace(one, content=dataclasses.replace(one.content, writes=None)) for one in TRAIN]
    few = [
        dataclasses.replace(one, content=dataclasses.replace(one.content, customers=frozenset({f"c{at % 2}"})))
        for at, one in enumerate(crowd)
    ]
    visitor = task("v", " ".join(words(9100)), "c1", [])
    assert found(few, [visitor, *TEST], "customers").level == "related", "one of two customers has half of everything"


def test_words_of_any_script_are_words() -> None:
    side = Side(tasks("T", [task("a", "Über Straße don't 取消预订 mia_li_1 2,5")]), {})
    assert side.spoken[0] == ("über", "straße", "don't", "取", "消", "预", "订", "mia_li_1", "2", "5")


def spoken(name: str, said: str, customer: str = "", writes: list[ToolCall] | None = None) -> AuditedTask:
    return dataclasses.replace(task(name, said, customer, writes), spoken=True)


def test_conversations_are_not_compared_by_words_with_what_others_are_told() -> None:
    """What a user says is other words than what they are told to want, and what was done may be wrong."""
    plain = [spoken(f"s{at}", "Hello, I would like to get rid of my trip next week, thanks.") for at in range(40)]
    result = audit(tasks("TRAIN", plain), tasks("TEST", TEST))
    assert not result.allowed
    assert of(result, "text").level is None
    known = [spoken(f"k{at}", "I want my money back at once please.", f"guest_{at}") for at in range(40)]
    assert audit(tasks("TRAIN", known), tasks("TEST", TEST)).findings[1].level == "none"
    returning = task("returns", " ".join(words(5000)), "guest_3", [])
    assert found(known, [*TEST, returning], "customers").level == "overlapping"
    mixed = audit(tasks("TRAIN", [*TRAIN, plain[0]]), tasks("TEST", TEST))
    assert not mixed.allowed
    assert "1 of 201 tasks of TRAIN could be compared neither by golden writes nor by instruction" in mixed.sentence
    copied = audit(tasks("TRAIN", [*TRAIN, *known]), tasks("TEST", [*TEST, renamed(TRAIN[3], "zed_1")]))
    assert of(copied, "text").level == "overlapping", "conversations beside them do not hide the instructions"


def test_tasks_of_one_file_in_two_splits_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    bare = [{**tau2_task(str(at), f"Short text {at}"), "evaluation_criteria": {}} for at in range(6)]
    file.write_text(json.dumps(bare))
    (tmp_path / "split_tasks.json").write_text(json.dumps({"train": ["0", "1", "2"], "test": ["2", "3"]}))
    sides = [open_tasks(f"{file}:{split}", Opening(default_split=split)) for split in ("train", "test")]
    result = audit(*sides)
    assert [one.measure for one in result.overlapping] == ["tasks"]
    assert result.to_leave_out == ["2"]


def test_short_texts_say_something_only_where_they_differ() -> None:
    """Data such as `member 3 returns Dune` tells tasks apart; three words that are the same may be one task or two."""
    train = [task(str(at), f"member {at} returns Dune") for at in range(1, 80, 2)]
    apart = audit(tasks("TRAIN", train), tasks("TEST", [task("a", "member 2 returns Dune"), task("b", "member 4")]))
    assert apart.allowed
    same = audit(tasks("TRAIN", train), tasks("TEST", [task("a", "member 3 returns Dune"), task("b", "member 4")]))
    assert not same.allowed
    assert "some have those of a training task" in of(same, "text").shares


def test_writes_that_many_tasks_have_and_that_name_no_record_tell_nothing() -> None:
    refuse, mail = ToolCall("decline", {"reason": "out of stock"}), ToolCall("send", {"text": "one of its kind"})
    train = [*TRAIN, *(task(f"r{at}", " ".join(words(700 + at)), f"r_{at}", [refuse]) for at in range(3))]
    train.append(task("m", " ".join(words(800)), "m_1", [mail]))
    test = [*TEST, task("a", " ".join(words(801)), "a_1", [refuse]), task("b", " ".join(words(802)), "b_1", [mail])]
    assert found(train, test[:-1], "writes").level == "none"
    assert found(train, test, "writes").overlapping == {61}
    several = task("c", " ".join(words(803)), "c_1", [refuse, cancel("NEW1")])
    assert found(train, [*TEST, several], "writes").level == "none", "a refusal within it is nobody's task"
