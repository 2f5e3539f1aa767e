"""Which evaluations make a card together, and what is said of those that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.evals import evaluations as made

from banty.errors import InputError
from banty.evals.dependability import FORMAT, TaskFacts, dependability_card, read_results, users_of
from banty.runs import RunFolder
from banty.runs.folder import write_json

SOME = [[1, 0], [1, 1], [0, 0]]
OTHER = [[1, 1], [1, 0], [0, 1]]


def test_rollouts_count_where_they_are_and_the_card_where_not(tmp_path: Path) -> None:
    stored = made.write(tmp_path / "stored", made.episodes(SOME))
    sent = made.write(tmp_path / "sent", made.episodes(OTHER), made.identity(seed=0), stored=False)
    first, second = read_results([stored, sent / "card.json"])
    assert (first.source, second.source) == ("rollouts", "card")
    assert second.why_card == "the card was given without its folder"
    assert list(first.successes.values()) == SOME
    assert list(second.successes.values()) == OTHER
    (user,) = users_of([first, second])
    assert user.source == "rollouts of 1 of 2 results"


def test_rollouts_that_are_missing_or_damaged_are_said(tmp_path: Path) -> None:
    whole = made.write(tmp_path / "a", made.episodes(SOME))
    (whole / "rollouts" / "shard-000000" / "turns.parquet").write_bytes(b"nothing")
    (found,) = read_results([whole])
    assert found.source == "card"
    assert "its rollouts cannot be read" in found.why_card
    short = made.write(tmp_path / "b", made.episodes(SOME))
    data = json.loads((short / "card.json").read_text())
    data["tasks"][0]["successes"] = [1.0, 1.0, 1.0]
    made.edit(short, tasks=data["tasks"])
    (found,) = read_results([short])
    assert found.why_card == "6 of 7 rollouts are stored"


def test_a_card_that_differs_from_its_rollouts_is_noted(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes(SOME))
    data = json.loads((folder / "card.json").read_text())
    data["tasks"][2]["successes"] = [1.0, 1.0]
    made.edit(folder, tasks=data["tasks"])
    (found,) = read_results([folder])
    assert list(found.successes.values()) == SOME
    assert "differ in the verdicts of 1 tasks; the rollouts count" in found.notes[0]


def test_replicates_and_users(tmp_path: Path) -> None:
    again = made.write(tmp_path / "again", made.episodes(OTHER), made.identity())
    first = made.write(tmp_path / "first", made.episodes(SOME))
    other = made.identity("nano@1", policy_details={"weights_sha256": "w1"})
    (user,) = users_of(read_results([first, again]))
    assert (user.name, user.replicates) == ("scripted", "repetitions")
    (user,) = users_of(read_results([first, made.write(tmp_path / "seed", made.episodes(OTHER), other)]))
    assert user.replicates == "checkpoints"
    who = made.identity(roles={"user": "judge-4"}, role_params={"user": {"temperature": 0.5}})
    users = users_of(read_results([first, made.write(tmp_path / "user", made.episodes(OTHER), who)]))
    assert [(one.name, one.temperature, one.replicates) for one in users] == [
        ("scripted", None, "none"),
        ("judge-4", 0.5, "none"),
    ]


def test_several_users_of_one_evaluation(tmp_path: Path) -> None:
    for name, successes in (("kind", SOME), ("cross", OTHER)):
        made.write(tmp_path / "many" / f"user-{name}", made.episodes(successes), made.identity(roles={"user": name}))
    rows = [{"name": name, "version": "v9", "temperature": 0.5, "folder": f"user-{name}"} for name in ("kind", "cross")]
    write_json(tmp_path / "many" / "users.json", {"format": "banty-users-1", "users": rows})
    users = users_of(read_results([tmp_path / "many"]))
    assert [(user.name, user.version, user.temperature) for user in users] == [
        ("kind", "v9", 0.5),
        ("cross", "v9", 0.5),
    ]
    for damaged, said in (
        ({"format": "banty-users-2", "users": rows}, "is no list of users"),
        ({"format": "banty-users-1", "users": []}, "is no list of users"),
        ({"format": "banty-users-1", "users": [{"name": "x"}]}, "each user takes a name and a folder"),
        ({"format": "banty-users-1", "users": [{"name": "x", "folder": "../.."}]}, "lies outside"),
    ):
        write_json(tmp_path / "many" / "users.json", damaged)
        with pytest.raises(InputError, match=said):
            read_results([tmp_path / "many"])


def test_what_is_no_evaluation_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run = RunFolder.create(tmp_path / "run", {"kind": "rl"}).path
    trained = RunFolder.create(tmp_path / "trained", {"kind": "rl"}).path
    made.write(trained / "eval-after", made.episodes(SOME))
    half = RunFolder.create(tmp_path / "half", {"kind": "eval"}).path
    log = RunFolder.create(tmp_path / "log", {"kind": "import"}).path
    done = tmp_path / "done"
    done.mkdir()
    write_json(done / "card.json", {"format": FORMAT})
    for place, said in (
        (tmp_path / "nowhere", "is not there"),
        (empty, "it holds no card.json"),
        (run, "a training run, and it has no evaluation yet"),
        (trained, "a training run; name one of its evaluations: .*eval-after"),
        (half, "has not ended; go on with banty eval"),
        (log, "is an import without rollouts"),
        (done, "is a dependability card already"),
    ):
        with pytest.raises(InputError, match=said):
            read_results([place])
    with pytest.raises(InputError, match="name at least one"):
        read_results([])


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], "names no task"),
        ([{"id": "a:b:0:0", "successes": [0.5]}], "verdicts other than 0, 1"),
        ([{"id": "a:b:0:0", "successes": 1}], "one of its tasks"),
        ([{"id": 3, "successes": [1.0]}], "one of its tasks"),
        ([{"id": "a:b:0:0", "successes": [None]}], "no scored episode"),
    ],
)
def test_damaged_cards_and_cards_without_a_score(tmp_path: Path, tasks: list[object], said: str) -> None:
    folder = made.write(tmp_path / "a", made.episodes(SOME))
    made.edit(folder, tasks=tasks)
    with pytest.raises(InputError, match=said):
        read_results([folder])


def test_results_that_do_not_belong_together(tmp_path: Path) -> None:
    first = made.write(tmp_path / "first", made.episodes(SOME))
    base = made.identity()
    for number, (who, successes, said) in enumerate(
        [
            (made.identity(env="hand/other"), OTHER, "not measured on the same tasks: env"),
            (made.identity(split="dev"), OTHER, "not measured on the same tasks: split"),
            (made.identity(provenance={**base["provenance"], "grader": "soft"}), OTHER, "grader is"),
            (made.identity(tasks_sha256="f" * 64), OTHER, "tasks_sha256 is"),
            (made.identity(), OTHER[:2], "they share 2 of 3 and 2"),
            (made.identity(params={"temperature": 0.5}), OTHER, "measured otherwise: params"),
            (made.identity("expert", policy_details={}), OTHER, "of different policies: nano and expert"),
            (made.identity(), SOME, "hold the same episodes"),
        ]
    ):
        other = made.write(tmp_path / f"{number}", made.episodes(successes), who)
        with pytest.raises(InputError, match=said):
            read_results([first, other])
    with pytest.raises(InputError, match="hold the same episodes"):
        read_results([first, first / "card.json"])


def test_before_and_after_training_are_no_replicates(tmp_path: Path) -> None:
    whos = [made.identity(f"nano {when}", policy_details={"weights_sha256": when}) for when in ("before", "after")]
    places = [
        made.write(tmp_path / who["policy"], made.episodes(told), who)
        for who, told in zip(whos, (SOME, OTHER), strict=True)
    ]
    with pytest.raises(InputError, match="different policies"):
        read_results(places)


def test_two_users_may_have_two_fingerprints_of_the_same_tasks(tmp_path: Path) -> None:
    first = made.write(tmp_path / "first", made.episodes(SOME))
    who = made.identity(tasks_sha256="f" * 64, provenance={**made.identity()["provenance"], "user": "model"})
    assert len(users_of(read_results([first, made.write(tmp_path / "second", made.episodes(OTHER), who)]))) == 2


def test_other_seeds_of_the_same_tasks_are_replicates(tmp_path: Path) -> None:
    first = made.write(tmp_path / "first", made.episodes(SOME))
    again = made.write(tmp_path / "again", made.episodes(OTHER), made.identity(seed=7))
    (user,) = users_of(read_results([first, again]))
    assert user.replicates == "repetitions"


def test_another_seed_may_draw_other_tasks_and_that_is_said(tmp_path: Path) -> None:
    first = made.write(tmp_path / "first", made.episodes(SOME))
    again = made.write(tmp_path / "again", made.episodes(OTHER), made.identity(seed=7, tasks_sha256="f" * 64))
    with pytest.raises(InputError, match="--seed is 0 and 7, and hand/made draws other tasks with each"):
        read_results([first, again])


@pytest.mark.parametrize(
    ("ids", "said"), [(["a:b:0:0", "a:b:0:1"], "'a:b:0' more than once"), (["x", "a:b:1:0"], "'x'")]
)
def test_tasks_that_cannot_be_told_apart(tmp_path: Path, ids: list[str], said: str) -> None:
    folder = made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]), stored=False)
    tasks = json.loads((folder / "card.json").read_text())["tasks"]
    made.edit(folder, tasks=[{**task, "id": one} for task, one in zip(tasks, ids, strict=True)])
    with pytest.raises(InputError, match=said):
        read_results([folder])


def test_repetitions_of_unknown_weights_are_taken_for_the_same_and_that_is_said(tmp_path: Path) -> None:
    places = [
        made.write(tmp_path / str(seed), made.episodes(told), made.identity(seed=seed, policy_details={}), stored=False)
        for seed, told in enumerate((SOME, OTHER))
    ]
    card = dependability_card(read_results(places), TaskFacts(why_not="nobody knows"))
    (user,) = card["users"]
    assert user["replicates"] == "repetitions"
    assert "are not known; they are taken for the same" in " ".join(card["notes"])
    assert user["errors"]["source"] == user["criteria"]["source"] == f"card of {places[0]}"


def test_a_format_that_is_not_known_is_named(tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a", made.episodes(SOME))
    made.edit(folder, format="banty-card-9")
    with pytest.raises(InputError, match="'banty-card-9', not 'banty-card-1'"):
        read_results([folder])
