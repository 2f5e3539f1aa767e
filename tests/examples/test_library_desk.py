"""examples/library_desk.py prints what it says it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from banty.envs.registry import make_taskset

EXAMPLE = Path(__file__).parents[2] / "examples" / "library_desk.py"


def test_it_prints_both_ends_of_the_scale(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    promised = re.search(r"\$ python examples/library_desk.py\n((?:    \S.*\n)+)", EXAMPLE.read_text())
    assert promised is not None
    assert done.stdout.splitlines() == [line.strip() for line in promised.group(1).splitlines()]


def test_it_is_an_environment_that_eval_can_load() -> None:
    taskset = make_taskset(f"{EXAMPLE}:CoachedLibraryTasks", allow_code=True)
    assert taskset.env == "library"
    assert taskset.expert() is not None
