"""Environments by name: what there is, what is refused, and whose code runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from banty.envs.registry import BUILT_IN, installed, make_taskset
from banty.errors import InputError

TASKSET = """
from pathlib import Path
from banty.envs.tasksets import Tasks

Path({mark!r}).write_text("the code ran")


class Toys(Tasks):
    splits = {{"test": 3}}

    def __init__(self, size: int = 1, env: str = "toys") -> None:
        self.env = env
        self.size = size

    def make(self, split, index, rng):
        return [self.size, index]


def large() -> Toys:
    return Toys(size=9)


number = 3
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def file(tmp_path: Path, mark: Path) -> Path:
    path = tmp_path / "toys.py"
    path.write_text(TASKSET.format(mark=str(mark)))
    return path


@pytest.mark.parametrize("name", ["airline/mini", "airline/full"])
def test_a_built_in_environment_is_made_by_name(name: str) -> None:
    taskset = make_taskset(name)
    assert taskset.env == name
    assert {"train", "dev", "test"} <= set(taskset.splits)
    assert taskset.provenance["grader"] == "semantic"
    assert make_taskset(name, {"grade": "tau2"}).provenance["grader"] == "tau2"


def test_every_built_in_environment_has_a_summary_of_one_line() -> None:
    for entry in BUILT_IN.values():
        assert entry.summary
        assert "\n" not in entry.summary


@pytest.mark.parametrize("name", ["airline/minni", "", "mini", "AIRLINE/MINI", "os", "subprocess:run"])
def test_an_unknown_environment_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match=r"there are .*airline/mini, airline/full, airline/tau2.*--allow-code"):
        make_taskset(name)


def test_an_option_that_is_part_of_the_name_cannot_be_set_again() -> None:
    with pytest.raises(InputError, match="airline/mini has size=mini by name; it cannot be set again"):
        make_taskset("airline/mini", {"size": "full"})


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"airline/mini cannot be made with .*'colour'"):
        make_taskset("airline/mini", {"colour": "red"})


def test_a_value_an_option_does_not_take_is_answered_with_those_it_does() -> None:
    with pytest.raises(InputError, match=r"grade=harsh is not one of .*tau2"):
        make_taskset("airline/mini", {"grade": "harsh"})


def test_a_missing_option_is_said() -> None:
    with pytest.raises(InputError, match=r"airline/tau2 .*data"):
        make_taskset("airline/tau2")


# A file's code.


def test_a_file_is_not_run_unless_that_is_allowed(file: Path, mark: Path) -> None:
    modules = set(sys.modules)
    for name in (f"{file}:Toys", f"{file}:nothing", str(file)):
        with pytest.raises(InputError, match="is Python code; add --allow-code to run it"):
            make_taskset(name)
    assert not mark.exists()
    assert set(sys.modules) == modules


def test_a_file_is_run_when_that_is_allowed(file: Path, mark: Path) -> None:
    taskset = make_taskset(f"{file}:Toys", {"size": 4}, allow_code=True)
    assert mark.read_text() == "the code ran"
    assert taskset.env == "toys"
    assert taskset.task("test", 2).data == [4, 2]
    assert make_taskset(f"{file}:large", allow_code=True).task("test", 0).data == [9, 0]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", r"toys\.py names no taskset; write .*toys\.py:NAME"),
        (":", r"toys\.py names no taskset; write .*toys\.py:NAME"),
        (":Toy", r"toys\.py defines no Toy"),
        (":number", r"number.* int.* class or function"),
    ],
)
def test_a_file_without_such_a_taskset_is_refused(file: Path, rest: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_taskset(f"{file}{rest}", allow_code=True)


def test_an_option_a_files_taskset_does_not_take_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be made with .*'colour'"):
        make_taskset(f"{file}:Toys", {"colour": "red"}, allow_code=True)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*nowhere\.py"):
        make_taskset(f"{tmp_path / 'nowhere.py'}:Toys", allow_code=True)


def test_what_makes_no_taskset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("def made():\n    return 3\n")
    with pytest.raises(InputError, match=r"\bint\b.* no taskset"):
        make_taskset(f"{tmp_path / 'wrong.py'}:made", allow_code=True)


@pytest.mark.parametrize(
    "code", ["raise RuntimeError('broken')", "import no_such_module_at_all", "def f(:\n", "exit(3)"]
)
def test_a_file_that_cannot_be_run_is_one_clear_error(tmp_path: Path, code: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(InputError, match=r"broken\.py.* line 1\b.*cannot be run"):
        make_taskset(f"{tmp_path / 'broken.py'}:Toys", allow_code=True)


# Installed packages.


@pytest.fixture
def package(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that offers an environment under the entry-point group."""
    site = tmp_path / "site"
    info = site / "toy_package_for_banty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package-for-banty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[banty.envs]\ntoys/installed = toy_package_for_banty:Toys\n")
    (site / "toy_package_for_banty.py").write_text(TASKSET.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "toy_package_for_banty", raising=False)
    return "toys/installed"


def test_an_installed_package_adds_environments_by_entry_point(package: str, mark: Path) -> None:
    assert package in installed()
    with pytest.raises(InputError, match=r"there are .*toys/installed"):
        make_taskset("toys/instaled")
    assert not mark.exists(), "listing runs nothing"
    taskset = make_taskset(package, {"size": 2})
    assert taskset.task("test", 1).data == [2, 1]
    assert mark.exists()


def test_an_installed_package_does_not_replace_what_is_built_in(package: str, tmp_path: Path, mark: Path) -> None:
    entries = tmp_path / "site" / "toy_package_for_banty-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[banty.envs]\nairline/mini = toy_package_for_banty:Toys\n")
    assert make_taskset("airline/mini").env == "airline/mini"
    assert not mark.exists()
