"""`banty calibrate` on evaluations, runs, imported logs and stores; what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import rollouts_by_hand as by_hand
from tests.calibrate.tiers_by_hand import groups
from typer.testing import CliRunner, Result

from banty.cli.app import app
from banty.errors import InputError, StoreError
from banty.records import CallResult, Rollout
from banty.rollout import Store
from banty.rubrics import read_reward_file
from banty.runs import read_metrics

QUICK = ["--option", "phrasing=own", "--tasks", "24", "--trials", "8", "--no-baselines"]


def banty(*words: str, catch: bool = False) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "TERM": "dumb"}, catch_exceptions=catch)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate") / "eval"
    assert banty("eval", "habits", *QUICK, "--out", str(folder)).exit_code == 0
    return folder


def as_json(*words: str) -> dict[str, Any]:
    done = banty("calibrate", *words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def test_an_evaluation_on_the_terminal_fits_eighty_columns(evaluation: Path) -> None:
    done = banty("calibrate", str(evaluation), "--rewards", "naive-dense")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    for words in (
        "Presence, and phi with success within tasks",
        "Direction:",
        "Criteria:",
        "Proposal",
        "Whether to stop",
    ):
        assert any(line.startswith(words) for line in lines), words
    assert "192 scored rollouts of 24 tasks" in lines[0]
    assert "nothing was written" in lines[-1]
    assert sorted(path.name for path in evaluation.parent.iterdir()) == ["eval"]


def test_the_golden_calls_are_the_tasksets(evaluation: Path) -> None:
    data = as_json(str(evaluation), "--rewards", "naive-dense")
    gold = next(row for row in data["tiers"] if row["tier"] == "gold")
    assert gold["in_passes"] == 1.0
    assert 0.0 < gold["in_fails"] < 1.0
    assert data["counts"]["scored"] == 192
    assert data["credit"]["estimator"] == "hybrid"
    assert {row["tier"] for row in data["criteria"]} >= {"database", "told"}


def test_what_out_writes(evaluation: Path, tmp_path: Path) -> None:
    out = tmp_path / "found" / "here"
    words = ["--rewards", "naive-dense", "--beta", "1", "--no-hold-out", "--out", str(out)]
    data = as_json(str(evaluation), *words)
    assert {path.name for path in out.iterdir()} == {"rewards.toml", "diff.txt", "calibration.json", "calibration.html"}
    written = json.loads((out / "calibration.json").read_text())
    assert data == written | {"folder": str(out)}
    file = read_reward_file(out / "rewards.toml")
    assert [file.tiers[one["tier"]].value for one in data["proposals"]] == [
        one["proposed"] for one in data["proposals"]
    ]
    assert data["diff"], "nothing moved: the test shows nothing"
    assert (out / "diff.txt").read_text().splitlines() == data["diff"]
    assert data["counts"]["used"] == 192
    assert data["held_out"] == []
    again = as_json(str(evaluation), "--rewards", str(out / "rewards.toml"))
    assert again["rewards"]["version"] == 2
    with pytest.raises(InputError, match="not empty"):
        banty("calibrate", str(evaluation), "--out", str(out))


def test_estimators_and_their_options_are_chosen(evaluation: Path) -> None:
    data = as_json(str(evaluation), "--credit", "mt_grpo,variant=additive")
    assert (data["credit"]["estimator"], data["credit"]["variant"]) == ("mt_grpo", "additive")
    told = banty("calibrate", str(evaluation), "--credit", "rloo").output
    assert "rloo heeds the outcome alone" in told


def test_a_run_brings_its_own_file_estimator_and_history(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "habits.toml"
    quick = ["train.steps=4", "train.tasks_per_step=6", "eval.num_tasks=2", "eval.num_trials=1"]
    gate = ["calibrate.every=2", "calibrate.patience=1", "calibrate.passes=5", "calibrate.fails=5"]
    gate += ["calibrate.present=2", "calibrate.absent=2", "optimizer.learning_rate=2.0"]
    given = ["rewards.file=naive-dense", "rewards.weight=0.5", "credit.estimator=gtpo", "credit.gamma=0.8"]
    run = tmp_path / "run"
    assert banty("train", str(recipe), *quick, *gate, *given, "--out", str(run)).exit_code == 0
    last = read_reward_file(sorted((run / "rewards").glob("*.toml"))[-1])
    assert last.version > 1, "nothing moved: the test shows nothing"
    data = as_json(str(run), "--out", str(tmp_path / "out"))
    assert data["rewards"]["sha256"] == last.sha256
    assert (data["credit"]["estimator"], data["credit"]["gamma"]) == ("gtpo", 0.8)
    assert 'id="history"' in (tmp_path / "out" / "calibration.html").read_text()
    inside = as_json(str(run / "rollouts"))  # the store of a run: the same
    assert inside["tiers"] == data["tiers"]
    first = as_json(str(run), "--rewards", str(run / "rewards" / "0000.toml"))
    assert first["rewards"]["version"] == 1


def calling(task: int, trial: int, success: bool) -> Rollout:
    call = CallResult("find", {"id": 7 if success else 8}, "found", "read")
    return by_hand.rollout([by_hand.turn(0, calls=(call,))], success, trial=trial, of=by_hand.task(task))


def test_an_imported_log_brings_its_golden_calls(tmp_path: Path) -> None:
    Store(tmp_path / "rollouts").write(
        "part", [calling(task, trial, trial < 2) for task in range(4) for trial in range(4)]
    )
    without = as_json(str(tmp_path))
    assert "nobody knows the golden calls" in without["notes"][0]
    assert without["tiers"][0]["present"] == 0
    golden = {by_hand.task(task).id: [{"name": "find", "arguments": {"id": 7}}] for task in range(3)}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    data = as_json(str(tmp_path), "--no-hold-out")
    assert data["tiers"][0]["tier"] == "gold"
    assert data["tiers"][0]["present"] == 6
    assert "names no calls for 1 tasks, such as hand/made:test:3:0" in data["notes"][0]
    for damaged in ("[", "7", '{"task": [{"name": "find"}]}'):
        (tmp_path / "golden.json").write_text(damaged)
        with pytest.raises(InputError, match=r"golden\.json"):
            banty("calibrate", str(tmp_path))


def test_one_try_a_task_is_noted(tmp_path: Path) -> None:
    Store(tmp_path).write("part", [calling(task, 0, task < 2) for task in range(4)])
    data = as_json(str(tmp_path))
    assert any("every task was tried once" in note for note in data["notes"])
    assert data["before"]["mismatches"] == []
    assert {row["actual"] for row in data["before"]["directions"]} == {None}
    assert "which way tiers are pushed, nothing here tells" in banty("calibrate", str(tmp_path)).output.replace(
        "\n", " "
    )
    settled = next(rule for rule in data["stop"] if rule["name"] == "settled")
    assert (settled["met"], settled["words"]) == (False, "no value could be judged: see what is missing")
    assert {one["decision"] for one in data["proposals"]} <= {"refused", "pinned", "frozen"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rewards", "naive"], "naive-dense"),
        (["--pin", "reed"], "no tier 'reed' to pin"),
        (["--alpha", "-1"], "--alpha is -1.0; it takes a number from 0 to 100"),
        (["--constant", "drop"], "--constant is 'drop'; it takes keep or zero"),
        (["--credit", "gpro"], "credit.estimator is 'gpro'"),
        (["--credit", "hybrid,gamma"], "--credit"),
        (["--credit", "grpo,gamma=0.5"], "grpo does not heed it"),
        (["--credit", "hybrid,gamma=2"], "credit.gamma is 2"),
    ],
)
def test_options_that_cannot_work_are_refused(evaluation: Path, tmp_path: Path, words: list[str], told: str) -> None:
    with pytest.raises(InputError) as refused:
        banty("calibrate", str(evaluation), *words, "--out", str(tmp_path / "out"))
    assert told in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_seed_below_0_is_refused(evaluation: Path) -> None:
    done = banty("calibrate", str(evaluation), "--seed", "-1")
    assert (done.exit_code, "'--seed'" in done.output) == (2, True)


def test_folders_without_anything_to_learn_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere holds no rollouts: there is no such folder; name the folder of"):
        banty("calibrate", str(tmp_path / "nowhere"))
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(InputError, match=r"file\.json holds no rollouts: it is a file; name the folder of"):
        banty("calibrate", str(tmp_path / "file.json"))
    with pytest.raises(InputError, match="holds no rollouts; name a run that has finished a step"):
        banty("calibrate", str(tmp_path))
    Store(tmp_path / "empty").write("part", [])
    with pytest.raises(InputError, match="its store is empty"):
        banty("calibrate", str(tmp_path / "empty"))
    Store(tmp_path / "lost").write("part", [by_hand.rollout(cause="judge")])
    with pytest.raises(InputError, match="none of 1 rollouts was scored"):
        banty("calibrate", str(tmp_path / "lost"))
    Store(tmp_path / "won").write("part", [calling(0, trial, True) for trial in range(4)])
    with pytest.raises(InputError, match="every one of 4 scored rollouts succeeds"):
        banty("calibrate", str(tmp_path / "won"))


def test_nothing_is_left_where_nothing_can_be_written(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("banty.cli.calibrate.write_reward_file", full)
    with pytest.raises(StoreError, match="No space left on device"):
        banty("calibrate", str(evaluation), "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_the_hand_made_groups_reads_back(tmp_path: Path) -> None:
    """Tiers are told from what turns did, not from what they say: these only talk."""
    Store(tmp_path).write("part", [rollout for group in groups(6, 4) for rollout in group.rollouts])
    data = as_json(str(tmp_path))
    assert {row["tier"]: row["turns"] > 0 for row in data["tiers"]} == {
        name: name == "message" for name in read_reward_file("irc").tiers
    }


def test_an_outcome_without_a_finite_reward_is_refused_by_name(tmp_path: Path) -> None:
    spoilt = [by_hand.rollout([by_hand.turn(0)], True, reward=float("nan")), by_hand.rollout([], False, trial=1)]
    Store(tmp_path / "store").write("all", spoilt)
    with pytest.raises(InputError, match=r"#0 has the reward nan; it takes a finite number"):
        banty("calibrate", str(tmp_path / "store"))


def test_a_runs_rollouts_are_scored_as_it_trained_on_them(tmp_path: Path) -> None:
    """Episodes that it left out of the loss are in no mean advantage and no share."""
    recipe = Path(__file__).parents[2] / "recipes" / "habits.toml"
    quick = ["train.steps=1", "train.tasks_per_step=12", "train.rollouts_per_task=4", "eval.num_tasks=1"]
    quick += ["eval.num_trials=1", "rewards.file=naive-dense", "train.max_turns=9"]
    shown = {}
    for truncated in ("keep", "mask"):
        run = tmp_path / truncated
        done = banty("train", str(recipe), *quick, f"train.truncated={truncated}", "--out", str(run))
        assert done.exit_code == 0, done.output
        (row,) = read_metrics(run / "metrics.jsonl")
        assert 0 < row["rollout/truncated"] < row["rollout/episodes"], "the test shows nothing"
        shown[truncated] = as_json(str(run), "--no-hold-out")["before"]["metrics"]
        for name in ("rms", "dead_turns", "corr", "share_read"):
            assert shown[truncated][name] == pytest.approx(row[f"credit/{name}"]), name
    assert shown["keep"] != shown["mask"]
