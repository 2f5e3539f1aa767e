"""docs/environments.md, run: its files in a folder of their own, its commands, and what its sentences claim."""

from __future__ import annotations

import ast
import asyncio
import re
import shutil
import subprocess
import sys
import time
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typing_extensions

from banty import cli
from banty.envs import State, Tasks, ToolEnv, World, tool
from banty.envs.registry import installed, make_taskset
from banty.envs.userfiles import import_file
from banty.errors import InputError
from banty.evals import EvalPlan, evaluate, run_baselines
from banty.policies.scripted import FunctionPolicy, ScriptedPolicy, expert_policy
from banty.records import (
    EpisodeSpec,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    Rollout,
    Task,
    Taskset,
    ToolCall,
    take,
)
from banty.rollout import Cast, Store, replay, run_episode

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "environments.md").read_text()
FOUND = re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", TEXT, re.M)
BLOCKS = {(language, name): code for language, name, code in FOUND}
FILES = {name: code for (language, name), code in BLOCKS.items() if language == "python"}
CONSOLE = [code for language, name, code in FOUND if (language, name) == ("console", "")]
TEACHING = BLOCKS["console", "teach"]
SHORT = {  # in place of some minutes
    "eval": ["--tasks", "12", "--trials", "1"],
    "teach.toml": ["train.steps=3", "train.batch_size=4"],
    "improve.toml": ["train.steps=1", "train.tasks_per_step=2", "train.rollouts_per_task=2", "eval.num_tasks=3"],
}
WHOLE = f"{FILES['library.py']}\n\n{FILES['library.py (added)']}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`library.py` as the page first gives it, `coached/library.py` with its additions, and `desk/`, the package."""
    made = tmp_path_factory.mktemp("environments")
    assert ROOT not in made.parents
    (made / "library.py").write_text(FILES["library.py"])
    (made / "shelves.py").write_text(FILES["shelves.py"])
    (made / "coached").mkdir()
    (made / "coached" / "library.py").write_text(WHOLE)
    (made / "desk").mkdir()
    (made / "desk" / "__init__.py").write_text("")
    for name in ("member.py", "judged.py", "test_library.py"):
        (made / "desk" / name).write_text(FILES[name])
    (made / "desk" / "library.py").write_text(WHOLE)
    return made


@pytest.fixture(scope="module")
def library(folder: Path) -> ModuleType:
    return import_file(folder / "library.py")


@pytest.fixture(scope="module")
def tasks(folder: Path) -> Taskset:
    return make_taskset(f"{folder / 'library.py'}:LibraryTasks", allow_code=True)


@pytest.fixture(scope="module")
def coached(folder: Path) -> Taskset:
    return make_taskset(f"{folder / 'coached' / 'library.py'}:CoachedLibraryTasks", allow_code=True)


def call(tool_name: str, **arguments: Any) -> Message:
    return Message("assistant", calls=(ToolCall(tool_name, arguments),))


def play(
    taskset: Taskset,
    *lines: Message | str,
    roles: Mapping[str, Policy] | None = None,
    limits: Limits | None = None,
    task: Task | None = None,
) -> Rollout:
    spec = EpisodeSpec(task or taskset.task("test", 0))
    return asyncio.run(run_episode(spec, taskset, Cast(ScriptedPolicy(lines), roles or {}), limits))[0]


def share_of_successes(taskset: Taskset, policy: Policy) -> float:
    rollouts = asyncio.run(evaluate(EvalPlan(num_tasks=50), taskset, Cast(policy)))
    assert all(rollout.scored for rollout in rollouts)
    return sum(bool(rollout.outcome.success) for rollout in rollouts) / len(rollouts)


def right_call(task: Task) -> Message:
    return call("lend", book_id=task.data["book_id"], member_number=task.data["member"])


# The 40 lines.


def test_the_environment_is_forty_lines_of_code_at_most() -> None:
    lines = [line.strip() for line in FILES["library.py"].splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 40
    assert max(map(len, FILES["library.py"].splitlines())) <= 120


def test_doing_nothing_scores_zero(tasks: Taskset) -> None:
    played = asyncio.run(run_baselines(EvalPlan(num_tasks=50), tasks))
    assert list(played) == ["do-nothing"]
    assert [rollout.outcome.reward for rollout in played["do-nothing"]] == [0.0] * 50


def test_the_expert_and_golden_succeed_on_every_task(coached: Taskset) -> None:
    expert = coached.expert()
    assert expert is not None
    assert share_of_successes(coached, expert_policy(expert)) == 1
    played = asyncio.run(run_baselines(EvalPlan(num_tasks=50), coached))
    assert all(rollout.outcome.success for rollout in played["golden"])


@pytest.mark.parametrize("point", ["number", "look-up"])
def test_a_lapse_costs_the_verdict_somewhere(coached: Taskset, point: str) -> None:
    expert = coached.expert()
    assert expert is not None
    assert set(expert.points) == {"number", "look-up"}
    lapsing = FunctionPolicy(lambda request: expert.respond(request, lambda asked: asked != point))
    assert share_of_successes(coached, lapsing) < 0.5


def test_the_file_and_package_versions_are_mypy_clean(folder: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "library.py", "shelves.py", "desk"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_holds_the_same_definitions() -> None:
    example = _definitions((ROOT / "examples" / "library_desk.py").read_text())
    page = _definitions(WHOLE)
    assert page
    assert {name: example.get(name) for name in page} == page


def _definitions(code: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign):
            found[ast.unparse(node.targets[0])] = ast.unparse(node)
    return found


# The commands.


def test_the_commands_print_what_the_page_shows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "library.py").write_text(WHOLE)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    commands = [found for block in CONSOLE for found in re.split(r"^\$ ", block, flags=re.M) if found]
    assert len(commands) >= 6
    for command in commands:
        line, _, expected = command.partition("\n")
        monkeypatch.setattr(sys, "argv", line.split())
        with pytest.raises(SystemExit):
            cli.main()
        printed = capsys.readouterr()
        shown = printed.out or printed.err
        assert _matches(expected, shown), f"$ {line}\n{shown}"


def test_a_model_is_taught_the_desk_by_the_page_s_commands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With less of everything: what is printed has the page's words, whatever its figures."""
    (tmp_path / "library.py").write_text(WHOLE)
    for name in ("teach.toml", "improve.toml"):
        (tmp_path / name).write_text(BLOCKS["toml", name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for command in [found for found in re.split(r"^\$ ", TEACHING, flags=re.M) if found]:
        line, _, expected = command.partition("\n")
        words = line.split()
        words += next((changes for name, changes in SHORT.items() if name in words[:3]), [])
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert not ended.value.code, f"$ {line}\n{printed.err}"
        shape = re.sub(r"\d+(\.\d+)?", "0", expected)
        assert _matches(shape, re.sub(r"\d+(\.\d+)?", "0", printed.out)), f"$ {line}\n{printed.out}"
    page = (tmp_path / "runs" / "improve" / "report.html").read_text()
    assert "library" in page


def _matches(expected: str, printed: str) -> bool:
    """Equal but for spacing; `...` stands for anything."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in expected.split("...")]
    return re.fullmatch(".*".join(parts), printed.strip(), re.S) is not None


def test_the_commands_named_in_passing_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = set(re.findall(r"`banty (new env|\w+)", TEXT))
    assert {"play", "eval", "train", "envs", "new env"} <= named
    for name in named:
        monkeypatch.setattr(sys, "argv", ["banty", *name.split(), "--help"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0, name
        assert name in capsys.readouterr().out


# What the sentences claim.


def test_without_allow_code_no_line_is_run(tmp_path: Path) -> None:
    file = tmp_path / "library.py"
    file.write_text(f"raise SystemExit('run')\n{FILES['library.py']}")
    with pytest.raises(InputError, match="add --allow-code to run it"):
        make_taskset(f"{file}:LibraryTasks")


def test_a_tool_error_is_an_observation_and_changes_nothing(tasks: Taskset) -> None:
    rollout = play(tasks, call("lend", book_id="B9", member_number="M0001"), right_call(tasks.task("test", 0)), "Bye.")
    refused = rollout.turns[0].calls[0]
    assert rollout.turns[0].observation[0].content == "Error: there is no book 'B9'; find_book gives the ids"
    assert (refused.error, refused.effect, refused.state_before) == ("tool", "write", refused.state_after)
    assert rollout.status == "completed"
    assert rollout.outcome.success


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (call("lend", book_id=3, member_number="M0001"), "arguments"),
        (call("lend", book_id="B1", member_number="M0001", days=3), "arguments"),
        (call("lend", book_id="B1"), "arguments"),
        (call("sell", book_id="B1"), "unknown_tool"),
    ],
)
def test_a_wrong_call_is_an_observation_and_does_not_run(tasks: Taskset, wrong: Message, error: str) -> None:
    rollout = play(tasks, wrong, "Bye.")
    result = rollout.turns[0].calls[0]
    assert result.error == error
    assert result.state_before == result.state_after
    assert rollout.turns[0].observation[0].content.startswith("Error: ")
    assert rollout.scored


def test_an_extra_read_costs_nothing_and_an_extra_write_fails(tasks: Taskset) -> None:
    right, look = right_call(tasks.task("test", 0)), call("find_book", title="D")
    assert play(tasks, look, look, right, look, "Bye.").outcome.success
    other = next(key for key in ("B1", "B2") if key != tasks.task("test", 0).data["book_id"])
    assert not play(tasks, right, call("lend", book_id=other, member_number="M0001"), "Bye.").outcome.success


def test_the_member_tells_the_number_when_asked(tasks: Taskset) -> None:
    rollout = play(tasks, "What is your member number?", "Bye.")
    assert rollout.turns[0].observation[0].content == f"It is {tasks.task('test', 0).data['member']}."


def test_the_schema_is_the_signature_and_the_docstring(library: ModuleType) -> None:
    schema = library.LibraryDesk.tools["lend"].schema
    assert schema.description == "Lend a book to a member."
    assert schema.parameters["properties"] == {"book_id": {"type": "string"}, "member_number": {"type": "string"}}


class Bench(ToolEnv):
    """Tools for what the page says of tools."""

    @tool("read", inline=True)
    def count(self, number: int, host: Host) -> list[int]:
        """Count."""
        return [number]

    @tool("read", inline=True)
    def roll(self, host: Host) -> int:
        """Roll."""
        return int(host.rng("dice", 0).integers(10**9))

    @tool("terminal", inline=True)
    def leave(self) -> str:
        """Leave."""
        return "bye"

    @tool("read", inline=True)
    def crash(self) -> str:
        """Crash."""
        raise ConnectionError("the database is down")

    @tool("read")
    def sleep(self) -> str:
        """Sleep."""
        time.sleep(0.6)
        return "awake"

    async def start(self, host: Host) -> Opening:
        return self.opening(Message("user", "go"))

    async def reply(self, text: str, host: Host) -> Observation:
        return Observation((Message("user", "go on"),))

    def outcome(self) -> Outcome:
        return Outcome(None)


class BenchTasks(Tasks):
    env, splits = "bench", {"test": 1}

    def make(self, split: str, index: int, rng: Any) -> None:
        return None

    def episode(self, task: Task) -> Bench:
        return Bench()


def test_host_is_filled_in_and_not_shown_and_arguments_are_not_bent() -> None:
    assert list(Bench.tools["count"].schema.parameters["properties"]) == ["number"]
    rollout = play(BenchTasks(), call("count", number=3), call("count", number="3"), call("leave"))
    assert [turn.observation[0].content[:6] for turn in rollout.turns[:2]] == ["[3]", "Error:"]


def test_a_terminal_tool_ends_the_episode_and_what_follows_it_is_not_run() -> None:
    both = Message("assistant", calls=(ToolCall("leave", {}), ToolCall("crash", {})))
    rollout = play(BenchTasks(), both)
    assert rollout.status == "completed"
    assert [result.name for result in rollout.turns[0].calls] == ["leave"]


def test_any_other_exception_is_the_environments_own_failure() -> None:
    rollout = play(BenchTasks(), call("crash"))
    assert (rollout.status, rollout.cause, rollout.scored) == ("errored", "infrastructure", False)
    assert "the database is down" in rollout.detail


def test_a_tool_that_hangs_meets_the_deadline() -> None:
    rollout = play(BenchTasks(), call("sleep"), limits=Limits(step_timeout_s=0.1))
    assert (rollout.status, rollout.cause) == ("errored", "deadline")


def test_a_cap_truncates_and_the_outcome_counts(tasks: Taskset) -> None:
    question = "What is your member number?"
    rollout = play(tasks, *[question] * 3, limits=Limits(max_turns=3))
    assert (rollout.status, rollout.cause, rollout.outcome.success) == ("truncated", "turns", False)


def test_an_outcome_of_none_is_excluded() -> None:
    rollout = play(BenchTasks(), call("leave"))
    assert rollout.status == "completed"
    assert not rollout.scored


def test_the_limits_are_those_the_page_names() -> None:
    limits = Limits()
    claim = r"(\d+) s for the environment's part of a turn, (\d+) s for an answer, (\d+) s for an episode"
    seconds = re.search(claim, " ".join(TEXT.split()))
    assert seconds is not None
    assert [float(found) for found in seconds.groups()] == [
        limits.step_timeout_s,
        limits.ask_timeout_s,
        limits.episode_timeout_s,
    ]
    assert limits.policy_timeout_s == limits.ask_timeout_s


def test_a_change_made_without_edit_goes_unseen() -> None:
    state = State(World({"books": {"B1": {"lent_to": ""}, "B2": {"lent_to": ""}}}, "w"))
    kept = state.edit("books", "B1")
    kept["lent_to"] = "M1"
    first = state.hash()
    kept["lent_to"] = "M2"
    assert state.hash() == first
    assert state.edit("books", "B1") is kept
    assert state.hash() != first
    assert state.world.tables["books"]["B1"] == {"lent_to": ""}


def test_equal_records_hash_equal_in_whatever_order_they_came_about() -> None:
    world = World({"books": {"B1": {"lent_to": ""}, "B2": {"lent_to": ""}}}, "w")
    first, second = State(world), State(world)
    for state, order in ((first, ("B1", "B2")), (second, ("B2", "B1"))):
        for key in order:
            state.edit("books", key)["lent_to"] = "M1"
    assert first.hash() == second.hash() != State(world).hash()


def test_a_task_is_its_split_index_and_seed(library: ModuleType) -> None:
    def data(split: str, seed: int = 0) -> list[Any]:
        return [task.data for task in take(library.LibraryTasks(), split, 50, seed)]

    assert data("test") == data("test")
    assert data("test") != data("test", seed=1)
    members = {split: {each["member"] for each in data(split)} for split in ("train", "test")}
    assert not members["train"] & members["test"]


def test_a_draw_depends_on_its_task_and_its_purpose_and_on_no_other_draw() -> None:
    tasks = BenchTasks()

    def rolled(trial: int, seed: int, *lines: Message) -> str:
        spec = EpisodeSpec(tasks.task("test", 0, seed), trial=trial, sampler_seed=trial)
        rollout = asyncio.run(run_episode(spec, tasks, Cast(ScriptedPolicy([*lines, call("leave")]))))[0]
        return rollout.turns[-2].observation[0].content

    first = rolled(0, 0, call("roll"))
    assert first == rolled(1, 0, call("roll")) == rolled(0, 0, call("count", number=1), call("roll"), call("roll"))
    assert first != rolled(0, 1, call("roll"))


def test_nothing_gold_is_in_what_anyone_may_see(tasks: Taskset, tmp_path: Path) -> None:
    task = tasks.task("test", 0)
    member = task.data["member"]
    assert member not in f"{task!r}{task.pin}{task.public}"
    rollout = play(tasks, call("find_book", title=""), "Bye.")
    Store(tmp_path).write("part", [rollout])
    assert all(member not in message.content for message in rollout.transcript)
    assert all(member.encode() not in file.read_bytes() for file in tmp_path.rglob("*.parquet"))
    asyncio.run(replay([rollout], tasks))


def test_the_fingerprint_sees_data_and_provenance(library: ModuleType) -> None:
    plain = library.LibraryTasks()
    graded = type("Graded", (library.LibraryTasks,), {"provenance": {"grader": "state", "grader_version": 2}})()
    fingerprints = [plain.fingerprint("test"), plain.fingerprint("train"), plain.fingerprint("test", seed=1)]
    assert len({*fingerprints, graded.fingerprint("test")}) == 4
    assert library.LibraryTasks().fingerprint("test") == fingerprints[0]


def test_a_user_can_be_played_by_a_model(folder: Path) -> None:
    tasks = make_taskset(f"{folder}/desk/member.py:ModelMemberTasks", allow_code=True)
    task = tasks.task("test", 0)
    user = ScriptedPolicy([f"Certainly, {task.data['member']}.", "Thanks! ###STOP###"])
    rollout = play(tasks, "Your member number?", right_call(task), "It is yours.", roles={"user": user})
    assert rollout.outcome.success
    asked = [turn for turn in rollout.turns if turn.actor == "user"]
    assert [message.role for message in asked[1].request] == ["system", "user", "assistant", "user"]
    asyncio.run(replay([rollout], tasks))
    assert tasks.roles == {"user"}


def test_a_judge_is_asked_before_the_end_and_an_unreadable_answer_is_its_fault(folder: Path) -> None:
    tasks = make_taskset(f"{folder}/desk/judged.py:JudgedTasks", allow_code=True)
    right = right_call(tasks.task("test", 0))
    good = play(tasks, right, "It is yours.", roles={"judge": ScriptedPolicy(["yes"])})
    assert good.outcome.success
    assert good.outcome.components == {"lent": 1.0, "polite": 1.0}
    bad = play(tasks, right, "It is yours.", roles={"judge": ScriptedPolicy(["Well, it depends."])})
    assert (bad.status, bad.cause, bad.scored) == ("errored", "judge", False)
    capped = play(tasks, right, limits=Limits(max_turns=1), roles={"judge": ScriptedPolicy([])})
    assert capped.outcome.components["polite"] is None


def test_children_answer_their_parent(folder: Path) -> None:
    tasks = make_taskset(f"{folder / 'shelves.py'}:ShelvesTasks", allow_code=True)

    def answer(request: Any) -> Message | str:
        first, last = request.messages[0].content, request.messages[-1]
        if first.startswith("Shelf: "):
            shelf, title = re.fullmatch(r"Shelf: (\[.*\])\. Is (\w+) on it\?", first).groups()  # type: ignore[union-attr]
            return "yes" if title in shelf else "no"
        if last.role == "tool":
            return "left" if last.content.startswith('["yes"') else "right"
        return call("look")

    spec = EpisodeSpec(tasks.task("test", 0))
    root, *children = asyncio.run(run_episode(spec, tasks, Cast(FunctionPolicy(answer))))
    assert root.outcome.success
    assert [child.outcome.success for child in children] == [True, True]
    assert [child.depth for child in children] == [1, 1]
    asyncio.run(replay([root, *children], tasks))
    shallow = play(tasks, call("look"), "left", limits=Limits(max_depth=0))
    assert shallow.turns[0].calls[0].error == "tool"
    assert shallow.scored


class FromExtensions(typing_extensions.TypedDict):
    amount: int


class FromTyping(typing.TypedDict):
    amount: int


def test_typed_dict_comes_from_typing_extensions_on_python_3_11() -> None:
    def desk(kind: type) -> type[ToolEnv]:
        def pay(self: Any, payment: Any) -> str:
            """Pay."""
            return str(payment["amount"])

        pay.__annotations__["payment"] = kind
        return type("Desk", (ToolEnv,), {"pay": tool("write")(pay)})

    assert "$defs" in desk(FromExtensions).tools["pay"].schema.parameters
    if sys.version_info < (3, 12):
        with pytest.raises(InputError, match="TypedDict"):
            desk(FromTyping)


def test_the_test_on_the_page_passes(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "desk"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_an_installed_package_offers_its_environment_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads(BLOCKS["toml", "pyproject.toml"])["project"]["entry-points"]["banty.envs"]
    (tmp_path / "library.py").write_text(FILES["library.py"])
    info = tmp_path / "library-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: library\nVersion: 1.0\n")
    points = "".join(f"{name} = {value}\n" for name, value in declared.items())
    (info / "entry_points.txt").write_text(f"[banty.envs]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "library", None)
    monkeypatch.delitem(sys.modules, "library")
    assert installed()["library"].value == "library:LibraryTasks"
    assert make_taskset("library").env == "library"
