"""Tasksets from files: alone or in a package, never run without leave, never hiding an installed module."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from banty.envs.registry import make_taskset
from banty.errors import InputError

ALONE = """
from __future__ import annotations
import dataclasses
from banty.envs.tasksets import Tasks

@dataclasses.dataclass
class Case:
    number: int

class NumberTasks(Tasks):
    env, splits = "numbers", {"test": 3}

    def __init__(self, factor: int = 1):
        self.factor = factor

    def make(self, split, index, rng):
        return Case(self.factor * index)

    def episode(self, task):
        raise NotImplementedError

def doubled():
    return NumberTasks(2)

NOT_CALLABLE = 3
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)
    return folder


def load(file: Path, name: str = "NumberTasks", **options: object) -> object:
    return make_taskset(f"{file}:{name}", options, allow_code=True)


def test_a_file_alone_gives_its_classes_and_functions(tmp_path: Path) -> None:
    write(tmp_path, numbers=ALONE)
    file = f"{tmp_path / 'numbers.py'}"
    for name, options, expected in (("NumberTasks", {}, 2), ("NumberTasks", {"factor": 5}, 10), ("doubled", {}, 4)):
        taskset = make_taskset(f"{file}:{name}", options, allow_code=True)
        assert taskset.task("test", 2).data.number == expected
    assert dataclasses.is_dataclass(taskset.task("test", 0).data)


def test_a_relative_path_and_a_home_made_one_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "here", numbers=ALONE)
    monkeypatch.chdir(tmp_path)
    first = load(Path("here/numbers.py"))
    second = load(tmp_path / "here" / ".." / "here" / "numbers.py")
    assert type(first) is type(second)


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    write(tmp_path / "a", numbers=ALONE)
    write(tmp_path / "b", numbers=ALONE.replace("self.factor * index", "-index"))
    first, second = load(tmp_path / "a" / "numbers.py"), load(tmp_path / "b" / "numbers.py")
    assert type(first) is not type(second)
    assert [taskset.task("test", 2).data.number for taskset in (first, second)] == [2, -2]  # type: ignore[attr-defined]


def test_nothing_is_run_without_leave(tmp_path: Path) -> None:
    trap = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    write(tmp_path / "desk", __init__=trap, env=trap + ALONE)
    for name in ("desk/env.py:NumberTasks", "desk/env.py", "desk/__init__.py:NumberTasks", "desk/none.py:X"):
        with pytest.raises(InputError, match="add --allow-code to run it"):
            make_taskset(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_a_file_in_a_package_imports_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "desk", __init__="", env="from .numbers import NumberTasks\n", numbers=ALONE)
    taskset = load(tmp_path / "desk" / "env.py")
    assert type(taskset) is type(load(tmp_path / "desk" / "numbers.py")), "both are of one package, run once"
    assert "desk" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_package_in_a_package_reaches_up(tmp_path: Path) -> None:
    write(tmp_path / "company", __init__="", common=ALONE)
    write(tmp_path / "company" / "desk", __init__="", env="from ..common import NumberTasks\n")
    assert load(tmp_path / "company" / "desk" / "env.py").env == "numbers"  # type: ignore[attr-defined]


def test_the_package_itself_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "desk", __init__="from .numbers import NumberTasks\n", numbers=ALONE)
    assert load(tmp_path / "desk" / "__init__.py").env == "numbers"  # type: ignore[attr-defined]


def test_no_installed_module_is_hidden(tmp_path: Path) -> None:
    import email

    write(
        tmp_path / "email", __init__="", env="from .numbers import NumberTasks\nimport email.message\n", numbers=ALONE
    )
    taskset = load(tmp_path / "email" / "env.py")
    assert sys.modules["email"] is email
    assert type(taskset).__module__ != "email.numbers"
    import email.message

    assert Path(email.message.__file__).parent != tmp_path / "email"


def test_two_packages_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for folder, factor in (("a", "1"), ("b", "-1")):
        numbers = ALONE.replace("self.factor * index", f"{factor} * index")
        write(tmp_path / folder / "desk", __init__="", env="from .numbers import NumberTasks\n", numbers=numbers)
    found = [load(tmp_path / folder / "desk" / "env.py").task("test", 2) for folder in "ab"]  # type: ignore[attr-defined]
    assert [task.data.number for task in found] == [2, -2]


def test_an_importable_package_keeps_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "my_installed_desk", __init__="", env="from my_installed_desk.numbers import *\n", numbers=ALONE)
    monkeypatch.syspath_prepend(str(tmp_path))
    taskset = load(tmp_path / "my_installed_desk" / "env.py")
    assert type(taskset).__module__ == "my_installed_desk.numbers"


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("x = 1\ny = x +\n", 2, "SyntaxError: invalid syntax"),
        ("x = 1\n\nraise KeyError('gone')\n", 3, "KeyError: 'gone'"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: Expecting property name"),
        ("import no_such_module_here\n", 1, "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("import sys\nsys.exit('done')\n", 2, "SystemExit: done"),
        ("raise ValueError('two\\nlines')\n", 1, "ValueError: two lines"),
        (
            "from banty.envs.toolenv import ToolEnv, tool\n\nclass Desk(ToolEnv):\n    @tool('read')\n"
            "    def find(self, title):\n        '''Find.'''\n",
            3,
            "Parameter 'title' of tool 'find' has no type; annotate it",
        ),
    ],
)
def test_what_a_file_raises_is_one_sentence_with_file_and_line(tmp_path: Path, code: str, line: int, said: str) -> None:
    write(tmp_path, broken=code)
    with pytest.raises(InputError) as refused:
        load(tmp_path / "broken.py")
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / 'broken.py'}, line {line}, cannot be run: {said}")
    assert "\n" not in text


def test_the_line_is_the_neighbours_when_the_neighbour_is_wrong(tmp_path: Path) -> None:
    write(tmp_path / "desk", __init__="", env="from .numbers import NumberTasks\n", numbers="\n\n1 / 0\n")
    with pytest.raises(InputError) as refused:
        load(tmp_path / "desk" / "env.py")
    expected = f"{tmp_path / 'desk' / 'numbers.py'}, line 3, cannot be run: ZeroDivisionError: division by zero"
    assert str(refused.value) == expected


def test_a_file_that_was_mended_can_be_loaded(tmp_path: Path) -> None:
    write(
        tmp_path / "desk",
        __init__="",
        env="from .numbers import NumberTasks\n1 / 0\n",
        numbers="class NumberTasks: pass\n",
    )
    with pytest.raises(InputError, match="division by zero"):
        load(tmp_path / "desk" / "env.py")
    # A new size, since a change within the clock's grain is not seen by what Python keeps of compiled files.
    write(tmp_path / "desk", env="from .numbers import NumberTasks\n", numbers=ALONE)
    assert load(tmp_path / "desk" / "env.py").env == "numbers"  # type: ignore[attr-defined]


def test_an_interruption_passes_through(tmp_path: Path) -> None:
    write(tmp_path, slow="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path / "slow.py")


@pytest.mark.parametrize(
    ("layout", "code", "hint"),
    [
        ("alone", "from .numbers import NumberTasks\n", "put an __init__.py beside env.py"),
        ("alone", "from numbers_ import NumberTasks\n", "put an __init__.py beside env.py"),
        ("package", "from desk.numbers_ import NumberTasks\n", "inside desk write `from .tools import ...`"),
        ("package", "from numbers_ import NumberTasks\n", "write `from .numbers_ import ...`"),
    ],
)
def test_a_neighbour_imported_the_wrong_way_gets_a_hint(tmp_path: Path, layout: str, code: str, hint: str) -> None:
    folder = write(tmp_path / "desk", env=code, numbers_=ALONE)
    if layout == "package":
        write(folder, __init__="")
    with pytest.raises(InputError) as refused:
        load(folder / "env.py")
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("numbers.py", "names no taskset; write"),
        ("numbers.py:", "names no taskset; write"),
        ("missing.py:NumberTasks", "no file "),
        ("numbers.py:Numbertasks", "defines no Numbertasks; it has NumberTasks"),
        ("numbers.py:NOT_CALLABLE", "NOT_CALLABLE is of type int; name a class or function"),
        ("numbers.py:Case", "cannot be made with {}"),
        ("numbers.py:dict", "defines no dict"),
    ],
)
def test_wrong_names_are_answered_in_a_sentence(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path, numbers=ALONE)
    with pytest.raises(InputError) as refused:
        make_taskset(str(tmp_path / name), allow_code=True)
    assert said in str(refused.value)


def test_what_is_made_has_to_be_a_taskset(tmp_path: Path) -> None:
    write(tmp_path, numbers=f"{ALONE}\ndef wrong():\n    return Case(3)\n\nclass Nameless(Tasks):\n    pass\n")
    with pytest.raises(InputError, match="makes a Case, which is no taskset: it has no env, splits, task, episode"):
        load(tmp_path / "numbers.py", "wrong")
    with pytest.raises(InputError, match=r"makes a Nameless, which is no taskset: it has no env, splits$"):
        load(tmp_path / "numbers.py", "Nameless")


def test_unknown_names_and_options_list_what_there_is(tmp_path: Path) -> None:
    write(tmp_path, numbers=ALONE)
    with pytest.raises(InputError, match=r"no environment 'airlin/mini'; there are .*airline/mini.*file.py:NAME"):
        make_taskset("airlin/mini")
    with pytest.raises(InputError, match=r"cannot be made with \{'colour': 'red'\}"):
        load(tmp_path / "numbers.py", colour="red")
