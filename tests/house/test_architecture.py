"""The arrows between rooms, and the import budget: what docs/architecture.md draws, as a test."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "banty"

ARROWS: dict[str, set[str]] = {
    "records": set(),
    "stats": set(),
    "credit": set(),
    "chat": {"records"},
    "envs": {"records", "chat"},
    "rollout": {"records", "chat"},
    "runs": {"records"},
    "rubrics": {"records", "chat", "runs"},
    "calibrate": {"records", "stats", "credit", "rubrics", "runs"},
    "evals": {"records", "rollout", "envs", "rubrics", "stats", "runs"},
    "report": {"records", "stats", "credit", "rollout", "microscope", "runs", "evals", "perf"},
    "microscope": {"records", "credit", "rollout", "rubrics", "train"},
    "sweeps": {"records", "stats", "runs", "evals"},
    "interop": {"records", "chat", "envs", "rollout", "runs"},
    "train": {"records", "calibrate", "credit", "rollout", "rubrics", "runs", "evals", "perf"},
    "perf": set(),
    "models": {"records", "perf"},
    "policies": {"records", "chat", "models", "perf"},
    "learn": {"records", "models", "perf"},
    "desk": {"records", "credit", "models", "rollout", "rubrics", "train"},
    "cli": {
        *("records", "stats", "credit", "chat", "envs", "rollout", "runs", "rubrics"),
        *("evals", "microscope", "report", "sweeps", "train", "perf", "calibrate", "models", "policies", "learn"),
        *("interop", "desk"),
    },
}
EVERYONE_MAY = {"errors", "blocking"}
TEST_HELPERS = {"testing"}  # beside the rooms: what environment authors import in their tests


def _rooms_of(path: Path) -> set[str]:
    """The rooms a module imports, type-checking-only imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "banty" else [f"banty.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("banty.")}
    return found


def test_every_room_is_listed() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ARROWS)


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_a_room_imports_only_what_its_line_names(room: str) -> None:
    allowed = ARROWS[room] | EVERYONE_MAY | {room, "__version__"}
    for path in sorted((SOURCE / room).rglob("*.py")):
        extra = _rooms_of(path) - allowed
        assert not extra, f"{path.relative_to(SOURCE)} imports {sorted(extra)}"


def test_the_arrows_have_no_cycle() -> None:
    left = {room: set(targets) for room, targets in ARROWS.items()}
    while left:
        free = [room for room, targets in left.items() if not targets & set(left)]
        assert free, f"a cycle among {sorted(left)}"
        for room in free:
            del left[room]


HEAVY = ("torch", "transformers", "vllm", "ray", "pandas", "duckdb", "tokenizers", "peft", "safetensors", "jinja2")


USE_TORCH = {
    "models": {
        "attention",
        "compiled",
        "decoder",
        "draws",
        "forward",
        "layers",
        "loading",
        "packed",
        "probe",
        "slots",
        "threads",
        "tiles",
        "treeattention",
    },
    "policies": {"engine", "sampling", "token"},
    "learn": {"batches", "blockwise", "checkpoint", "head", "learner", "losses", "masters", "memory", "optimizer"},
}
"""The modules below the line that compute with tensors; everything else imports in a moment."""


def _modules(tensors: bool) -> list[str]:
    def computes(path: Path) -> bool:
        return path.stem in USE_TORCH.get(path.relative_to(SOURCE).parts[0], ())

    return sorted(
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCE.rglob("*.py")
        if computes(path) == tensors
    )


@pytest.mark.parametrize("tensors", [False, True])
def test_nothing_heavy_is_imported(tensors: bool) -> None:
    """In a fresh process: torch by the modules that need it alone, and no module imports the other heavy packages."""
    modules, heavy = _modules(tensors), HEAVY[1:] if tensors else HEAVY
    assert len(modules) == sum(map(len, USE_TORCH.values())) if tensors else len(modules) > 50
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"heavy = [name for name in {heavy!r} if name in sys.modules]\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lower_rooms_import_neither_the_network_nor_the_terminal() -> None:
    script = (
        "import sys, banty.records, banty.stats, banty.credit, banty.chat, banty.envs.toolenv\n"
        "found = [name for name in ('httpx', 'rich', 'typer', 'pyarrow') if name in sys.modules]\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
