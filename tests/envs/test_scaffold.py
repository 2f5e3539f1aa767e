"""What `banty new env` writes works at once, wherever it is written, and what it cannot write it says."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from banty.envs.registry import make_taskset
from banty.envs.scaffold import class_prefix, new_env
from banty.envs.userfiles import import_file
from banty.errors import InputError
from banty.evals import EvalPlan, evaluate, run_baselines
from banty.policies.scripted import FunctionPolicy, expert_policy
from banty.records import EpisodeSpec, Message, Policy, Rollout, Task, Taskset
from banty.rollout import Cast, run_episode
from banty.rubrics import Labeller, read_reward_file

RULES = "E,F,W,I,UP,B,C4,SIM,RUF,PT,PERF,RET,N,T20,BLE"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scaffold")
    new_env("supply_desk", made)
    return made


@pytest.fixture(scope="module")
def taskset(folder: Path) -> Taskset:
    return make_taskset(f"{folder}/supply_desk/env.py:SupplyDeskTasks", allow_code=True)


def expert_of(taskset: Taskset) -> Policy:
    expert = taskset.expert()
    assert expert is not None
    return expert_policy(expert)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def share(rollouts: list[Rollout]) -> float:
    assert all(rollout.scored for rollout in rollouts)
    return sum(bool(rollout.outcome.success) for rollout in rollouts) / len(rollouts)


def test_every_file_is_written_and_no_placeholder_is_left(tmp_path: Path) -> None:
    written = new_env("ticket_desk_2", tmp_path / "not" / "there" / "yet")
    names = {path.name for path in written}
    assert names == {
        *("__init__.py", "data.py", "tools.py", "env.py", "rubric.py", "expert.py", "README.md", "test_env.py"),
    }
    assert {path.parent for path in written} == {tmp_path / "not" / "there" / "yet" / "ticket_desk_2"}
    for path in written:
        assert "skeleton" not in path.read_text().lower(), path.name
    assert "class TicketDesk2Tasks(Tasks)" in (written[0].parent / "env.py").read_text()


def test_every_template_file_is_written(folder: Path) -> None:
    template = Path(sys.modules["banty.envs.scaffold"].__file__ or "").parent / "template"
    assert {path.name.removesuffix(".txt") for path in template.iterdir()} == {
        path.name for path in (folder / "supply_desk").iterdir() if path.is_file()
    }


def test_class_names_come_from_the_name() -> None:
    assert [class_prefix(name) for name in ("library_desk", "sql2", "a__b_")] == ["LibraryDesk", "Sql2", "AB"]


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_its_own_test_passes(folder: Path, mode: str) -> None:
    done = run(folder, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--import-mode={mode}", "supply_desk")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    assert "failed" not in done.stdout


def test_it_is_clean_under_mypy_strict(folder: Path) -> None:
    done = run(folder, "mypy", "--strict", "--no-error-summary", "supply_desk")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_clean_under_ruff(folder: Path) -> None:
    options = ("--isolated", "--line-length", "120", "--target-version", "py311")
    for verb in (("check", "--select", RULES), ("format", "--check")):
        done = run(folder, "ruff", *verb, *options, "--no-cache", "supply_desk")
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_ends_of_the_scale(taskset: Taskset) -> None:
    plan = EvalPlan(num_tasks=100)
    assert share(asyncio.run(evaluate(plan, taskset, Cast(expert_of(taskset))))) == 1.0
    played = {name: share(list(rollouts)) for name, rollouts in asyncio.run(run_baselines(plan, taskset)).items()}
    assert played["do-nothing"] == 0.0
    assert played["golden"] == 1.0
    assert 0.0 < played["always-decline"] < 0.25


@pytest.mark.parametrize("point", ["look-up", "count", "stock"])
def test_every_lapse_costs_some_tasks(taskset: Taskset, point: str) -> None:
    expert = taskset.expert()
    assert expert is not None
    assert point in expert.points
    lapsing = FunctionPolicy(lambda request: expert.respond(request, lambda asked: asked != point))
    assert share(asyncio.run(evaluate(EvalPlan(num_tasks=100), taskset, Cast(lapsing)))) < 0.95


def test_the_readme_shows_an_episode_as_it_is(folder: Path, taskset: Taskset) -> None:
    readme = (folder / "supply_desk" / "README.md").read_text()
    shown = readme.split("## One episode")[1].split("```")[1].strip().splitlines()
    case = import_file(folder / "supply_desk" / "data.py").Case("C0412", "I3", 4)
    spec = EpisodeSpec(Task("supply_desk", "test", 0, 0, data=case))
    rollout = asyncio.run(run_episode(spec, taskset, Cast(expert_of(taskset))))[0]
    played = [f"{message.role:<10} {said(message)}" for message in rollout.transcript]
    assert shown[1:] == [line.rstrip() for line in played[1:]]
    assert played[0].startswith(shown[0].removesuffix("..."))


def said(message: Message) -> str:
    for call in message.calls:
        arguments = ", ".join(
            f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}" for key, value in call.arguments.items()
        )
        return f"{call.name}({arguments})"
    return message.content


def test_the_readme_names_the_commands_that_work(folder: Path) -> None:
    readme = (folder / "supply_desk" / "README.md").read_text()
    assert "banty eval expert --env supply_desk/env.py:SupplyDeskTasks --allow-code" in readme
    assert "pytest supply_desk" in readme


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LibraryDesk", "lower-case letters, digits and underscores"),
        ("library-desk", "lower-case letters"),
        ("2desks", "a letter first"),
        ("_desk", "a letter first"),
        ("", "'' cannot be the name"),
        ("../desk", "lower-case letters"),
        ("büro", "lower-case letters"),
        ("desk\n", "lower-case letters"),
        ("class", "a word of Python's own; choose another name, such as class_desk"),
        ("json", "json is the name of an installed Python module"),
        ("numpy", "choose another, such as numpy_desk"),
        ("banty", "is the name of an installed Python module"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        new_env(name, tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "supply_desk").mkdir()
    (tmp_path / "supply_desk" / "data.py").write_text("mine")
    with pytest.raises(InputError, match="is there already; choose another name"):
        new_env("supply_desk", tmp_path)
    assert (tmp_path / "supply_desk" / "data.py").read_text() == "mine"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        new_env("supply_desk", tmp_path / "file")


def test_its_golden_calls_are_what_its_golden_baseline_makes(taskset: Taskset) -> None:
    labeller = Labeller(taskset, read_reward_file("irc"))
    played = asyncio.run(run_baselines(EvalPlan(num_tasks=50), taskset))
    tiers = [[label.tier for label in labeller(rollout)] for rollout in played["golden"]]
    assert {tuple(each) for each in tiers} == {("gold", "message"), ("gold",)}
    declined = [[label.tier for label in labeller(rollout)] for rollout in played["always-decline"]]
    assert {tuple(each) for each in declined} == {("gold",), ("write",)}, "the reason is free text"
