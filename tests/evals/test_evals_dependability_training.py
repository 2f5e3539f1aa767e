"""Where a measured policy came from: which audits speak of it, and which checkpoints are of one method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.evals import evaluations as made

from banty.errors import InputError
from banty.evals.audit import read_audit
from banty.evals.dependability import TaskFacts, audits_of, dependability_card, read_results
from banty.runs import RunFolder
from banty.runs.folder import write_json

SOME, OTHER = [[1, 0], [1, 1], [0, 0]], [[1, 1], [1, 0], [0, 1]]
AUDIT = {
    "format": "banty-audit-1",
    "may_be_called_held_out": True,
    "sentence": "These tasks may be called held-out.",
    "train": {"env": "hand/made", "split": "train"},
    "test": {"tasks_sha256": made.identity()["tasks_sha256"]},
    "overlaps": [{"measure": "text", "level": "none"}],
    "overlapping_tasks": [],
}


def trained(
    place: Path, told: list[list[int]], weights: str, when: str = "after", *, seed: int = 0, rate: float = 1.0
) -> Path:
    """An evaluation inside a training run."""
    recipe = {
        "kind": "rl",
        "env": {"name": "hand/made", "split": "train"},
        "train": {"seed": seed, "concurrency": seed},
        "optimizer": {"learning_rate": rate},
        "eval": {"num_tasks": seed},
    }
    RunFolder.create(place, recipe)
    (place / "rewards").mkdir()
    (place / "rewards" / "0000.toml").write_text("format = 1\n")
    who = made.identity(f"nano {when}", policy_details={"weights_sha256": weights})
    return made.write(place / f"eval-{when}", made.episodes(told), who)


def said(places: list[Path], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    results = read_results(places)
    audit = None if given is None else read_audit(write_json(places[0].parent / "given.json", given))
    card = dependability_card(results, TaskFacts(why_not="nobody knows"), audits=audits_of(results, audit))
    found: dict[str, Any] = card["audit"]
    return found


def test_every_result_has_to_be_audited(tmp_path: Path) -> None:
    places = [trained(tmp_path / str(at), told, f"w{at}", seed=at) for at, told in enumerate((SOME, OTHER))]
    write_json(places[0] / "audit.json", AUDIT)
    assert said(places[:1])["may_be_called_held_out"]
    found = said(places)
    assert not found["may_be_called_held_out"]
    assert f"{places[1]} has no audit" in found["sentence"]
    write_json(places[1] / "audit.json", {**AUDIT, "sentence": "Nor do those."})
    found = said(places)
    assert found["may_be_called_held_out"]
    assert found["sentence"].startswith("These tasks may be called held-out. 1 more of")
    assert len(found["sha256"]) == 2
    write_json(places[1] / "audit.json", {**AUDIT, "may_be_called_held_out": False, "sentence": "They share tasks."})
    found = said(places)
    assert (found["audited"], found["may_be_called_held_out"]) == (True, False)
    assert found["sentence"] == "They share tasks."


def test_the_same_weights_need_one_audit(tmp_path: Path) -> None:
    places = [made.write(tmp_path / str(at), made.episodes(told)) for at, told in enumerate((SOME, OTHER))]
    write_json(places[0] / "audit.json", AUDIT)
    assert said(places)["may_be_called_held_out"]


def test_an_audit_after_other_training_says_nothing(tmp_path: Path) -> None:
    place = trained(tmp_path / "run", SOME, "w")
    assert said([place], AUDIT)["may_be_called_held_out"]
    found = said([place], {**AUDIT, "train": {"env": "hand/made", "split": "all"}})
    assert not found["audited"]
    assert "of other training tasks than hand/made train" in found["sentence"]
    assert not said([place], {**AUDIT, "train": {"kind": "task file"}})["audited"], "nobody knows that it trained on it"


@pytest.mark.parametrize(
    ("test", "covered"),
    [
        ({"sha256": "f", "num_tasks": 3}, False),
        ({"sha256": "f", "num_tasks": 3, "split": "test"}, True),
        ({"sha256": "f", "num_tasks": 3, "split": "train"}, False),
        ({"sha256": "f", "num_tasks": 2}, False),
        ({"sha256": "f"}, False),
        ({"sha256": "e", "num_tasks": 3}, False),
    ],
)
def test_an_audit_of_a_file_has_to_hold_the_tasks_measured(tmp_path: Path, test: Any, covered: bool) -> None:
    who = made.identity(provenance={**made.identity()["provenance"], "tasks_sha256": "f"})
    place = made.write(tmp_path / "a", made.episodes(SOME), who)
    assert said([place], {**AUDIT, "test": test})["audited"] is covered


def test_checkpoints_are_of_one_method(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", SOME, "w0")
    assert len(read_results([first, trained(tmp_path / "b", OTHER, "w1", seed=1)])) == 2
    with pytest.raises(InputError, match=r"in training, optimizer\.learning_rate is 1\.0 and 2\.0"):
        read_results([first, trained(tmp_path / "c", OTHER, "w2", rate=2.0)])
    untrained = made.identity("nano after", policy_details={"weights_sha256": "w3"})
    with pytest.raises(InputError, match=r"of which only .*a/eval-after was trained here"):
        read_results([first, made.write(tmp_path / "d", made.episodes(OTHER), untrained)])


def test_the_start_is_not_its_own_training(tmp_path: Path) -> None:
    """`banty eval nano` and `banty eval RUN` are two policies, though both have weights."""
    trained(tmp_path / "run", SOME, "w0")
    places = []
    for name, model in (("nano", "/packaged/nano"), ("run", str(tmp_path / "run" / "weights"))):
        who = made.identity(name, policy_details={"weights_sha256": name})
        places.append(made.write(tmp_path / f"of-{name}", made.episodes(SOME if name == "run" else OTHER), who))
        write_json(places[-1] / "engine.json", {"model": model})
    with pytest.raises(InputError, match=r"nano and run, of which only .*of-run was trained here"):
        read_results(places)
    (result,) = read_results(places[1:])
    assert result.training is not None
    assert result.training.trained_on == ("hand/made", "train")
    (other,) = read_results([made.write(tmp_path / "run" / "mine", made.episodes(SOME))])
    assert other.training is None, "it only lies there"


def test_what_was_measured_before_training_had_no_reward_file(tmp_path: Path) -> None:
    for when, wanted in (("before", None), ("after", "0000.toml")):
        results = read_results([trained(tmp_path / when, SOME, "w", when)])
        (row,) = dependability_card(results, TaskFacts(why_not="nobody knows"))["results"]
        assert (row["reward_file"] or {}).get("file") == wanted
