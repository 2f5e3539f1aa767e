"""Compiling the C sources beside this file, once for each processor."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

SWITCH = "BANTY_NATIVE"
KERNELS = ("attention", "decoder", "draws", "layers")
"""What there is: the sources beside this file."""
_HERE = Path(__file__).parent
# Sums may be reordered so that they are computed in vectors. Not -ffast-math, which changes the whole process.
_FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
)
_NUMBERS = {torch.bfloat16: ("-DBF16",), torch.float32: ()}

_wanted: frozenset[str] = frozenset(KERNELS)


def compiled(name: str, dtype: torch.dtype, device: torch.device, defined: Sequence[str] = ()) -> ctypes.CDLL | None:
    """The library of `NAME.c` for numbers of `dtype`; None where it cannot be had, or not be used."""
    if name not in _wanted or device.type != "cpu" or dtype not in _NUMBERS or os.environ.get(SWITCH, "1") == "0":
        return None
    return _opened(name, (*_NUMBERS[dtype], *defined))


def use_kernels(wanted: Collection[str]) -> None:
    """Which of `KERNELS` this process computes with from now on, where they can be had."""
    global _wanted
    _wanted = frozenset(wanted)


@functools.cache
def _opened(name: str, defined: tuple[str, ...]) -> ctypes.CDLL | None:
    compiler = next((found for one in ("cc", "gcc", "clang") if (found := shutil.which(one))), None)
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, name, defined)))
    except (OSError, subprocess.SubprocessError):  # a compiler that cannot, such as one without OpenMP
        return None


def _built(compiler: str, name: str, defined: tuple[str, ...]) -> Path:
    """The library for this source and processor, compiled unless it has been before."""
    sources = [_HERE / f"{name}.c", *sorted(_HERE.glob("*.h"))]
    options = [*_FLAGS, *defined]
    told = "\n".join((*(one.read_text() for one in sources), *options, compiler, platform.machine(), _processor()))
    file = f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    target = _folder() / file
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / file
            command = [compiler, *options, str(sources[0]), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            os.replace(made, target)  # others may be at it too: whole or not at all
    return target


@functools.cache
def _folder() -> Path:
    """Where what was compiled is kept: the user's own cache."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "banty"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = folder.stat()
        if os.access(folder, os.W_OK) and held.st_uid == os.getuid() and not held.st_mode & 0o022:
            return folder
    except (OSError, RuntimeError):  # a user without a home, as in a container
        pass
    return Path(tempfile.mkdtemp(prefix="banty-"))  # a new one: what lies in a shared place may be anybody's


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
