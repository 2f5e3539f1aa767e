"""nano through the commands: what `make demo` runs, made short, and what the shipped weights do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANTY = str(Path(sys.executable).parent / "banty")
SHORT = [
    *("train.steps=2", "train.tasks_per_step=2", "train.rollouts_per_task=4", "policy.threads=1"),
    *("eval.num_tasks=6", "eval.num_trials=2"),
]


def banty(*words: str, cwd: Path) -> str:
    done = subprocess.run([BANTY, *words], cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a short demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    printed = banty("train", str(ROOT / "recipes" / "demo.toml"), *SHORT, "--out", "run", cwd=folder)
    return folder / "run", printed.splitlines()


def test_it_trains_evaluates_on_both_and_says_so_in_one_sentence(demo: tuple[Path, list[str]]) -> None:
    run, printed = demo
    assert printed[-2:] == ["report: run/report.html", "run: run"]
    sentence = printed[-3]
    assert re.match(
        r"nano went from 0\.\d\d \[.*\] to 0\.\d\d \[.*\] sampled success on 6 held-out test tasks x 2", sentence
    )
    assert "after 2 steps of RL" in sentence
    assert sentence.endswith("one training seed.")
    result = json.loads((run / "result.json").read_text())
    assert set(result["also"]) == {"phrasings"}
    for name, phrasing in (("", "train"), ("-phrasings", "own")):
        card = json.loads((run / f"eval-after{name}" / "card.json").read_text())
        assert card["identity"]["provenance"]["phrasing"] == phrasing
        assert card["identity"]["split"] == "test"
        assert "skips the look-up" in {row["lapse"] for row in card["habits"].values()}


def test_its_report_has_what_it_promises_and_nothing_from_outside(demo: tuple[Path, list[str]]) -> None:
    run, _ = demo
    page = (run / "report.html").read_text()
    for words in ("skips the look-up", "phrasings", "do-nothing", "Episodes", "bfloat16", "get_reservation_details"):
        assert words in page, words
    assert not re.search(r"""(?:src|href)=["']https?:""", page)
    assert "Content-Security-Policy" in page


def test_the_weights_it_writes_are_a_model_of_their_own(demo: tuple[Path, list[str]]) -> None:
    run, _ = demo
    printed = banty(
        *("eval", "weights", "--env", "airline/mini", "--tasks", "2", "--trials", "1", "--threads", "1"),
        *("--dtype", "bfloat16", "--no-baselines", "--json"),
        cwd=run,
    )
    assert json.loads(printed)["num_scored"] == 2


def test_nano_is_a_base_worth_training(tmp_path: Path) -> None:
    """Loose bounds on what its card says: floats differ between machines, and forty tasks are few."""
    printed = banty(
        *("eval", "nano", "--env", "airline/mini", "-o", "phrasing=train", "--tasks", "40", "--trials", "4"),
        *(
            "--max-tokens",
            "80",
            "--max-turns",
            "14",
            "--threads",
            "1",
            "--dtype",
            "bfloat16",
            "--no-baselines",
            "--json",
        ),
        cwd=tmp_path,
    )
    card = json.loads(printed)
    assert 0.2 < card["success"]["estimate"] < 0.55
    assert card["pass_at"]["4"]["estimate"] > 0.6
    assert card["pass_hat"]["4"]["estimate"] < 0.3
    for habit in ("lookup", "unknown_id", "confirm", "format", "error"):
        assert card["habits"][habit]["estimate"] > 0.03, habit
