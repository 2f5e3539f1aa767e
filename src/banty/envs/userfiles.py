"""Importing a Python file that a person named, alone or as part of the package it lies in."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from banty.errors import BantyError, InputError


def import_file(path: str | Path) -> ModuleType:
    """The module of a file, run once in a process. Whatever it raises comes out as one InputError.

    A file in a folder without `__init__.py` becomes a module of its own. Any other is imported as part of its
    outermost package: under the package's own name where that is what `import` would find anyway, otherwise under a
    name that no installed module has.
    """
    file = Path(os.path.abspath(path))
    root = _outermost_package(file)
    top = file if root is None else root
    private = f"banty_user_{hashlib.blake2b(os.fsencode(top), digest_size=6).hexdigest()}_{top.stem}".replace(".", "_")
    before = set(sys.modules)
    importlib.invalidate_caches()  # the file may be younger than what the import system remembers of its folder
    try:
        if root is None:
            return _run(private, file)
        if _is_importable(root):
            package = root.name
        else:
            package = _run(private, root / "__init__.py", root).__name__
        inner = file.relative_to(root).with_suffix("").parts
        return importlib.import_module(".".join([package, *(part for part in inner if part != "__init__")]))
    except (Exception, SystemExit) as error:
        for name in set(sys.modules) - before:
            if name == private or name.startswith(f"{private}."):
                del sys.modules[name]  # a half-run package must not answer the next import
        raise InputError(_what_happened(error, str(path), file, root)) from error


def _outermost_package(file: Path) -> Path | None:
    found: Path | None = None
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        found = folder
    return found


def _is_importable(root: Path) -> bool:
    """True where importing the folder's name gives this folder: it is installed, or on the path."""
    if not root.name.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(root.name)
    except ValueError:  # a module without a spec has that name
        return False
    origin = spec.origin if spec is not None else None
    return origin is not None and Path(origin) == root / "__init__.py"


def _run(name: str, file: Path, package: Path | None = None) -> ModuleType:
    """The module of that name, made from the file unless it was before."""
    if name in sys.modules:
        return sys.modules[name]
    folders = None if package is None else [str(package)]
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec is not None, "a .py file has a module spec"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look their module up by name
    spec.loader.exec_module(module)
    return module


def _what_happened(error: BaseException, given: str, file: Path, root: Path | None) -> str:
    where, line = _place(error, file, root)
    shown = given if where == file else str(where)
    place = f"{shown}, line {line}," if line else shown
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    if isinstance(error, BantyError):
        return f"{place} cannot be run: {text}"
    return f"{place} cannot be run: {type(error).__name__}{': ' if text else ''}{text}{_hint(error, file, root)}"


def _place(error: BaseException, file: Path, root: Path | None) -> tuple[Path, int]:
    """The innermost line of the person's own code that the error passed through; line 0 where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename), error.lineno or 0
    found = (file, 0)
    for frame in traceback.extract_tb(error.__traceback__):
        code = Path(frame.filename)
        if code == file or (root is not None and code.is_relative_to(root)):
            found = (code, frame.lineno or 0)
    return found


def _hint(error: BaseException, file: Path, root: Path | None) -> str:
    """What to do about the commonest mistake: a neighbouring file imported in a way that cannot find it."""
    if not isinstance(error, ImportError):
        return ""
    missing = (error.name or "").partition(".")[0]
    if root is not None and missing == root.name:
        return f"; inside {root.name} write `from .tools import ...`"
    if root is None and ("relative import" in str(error) or (file.parent / f"{missing}.py").is_file()):
        return f"; put an __init__.py beside {file.name} and write `from .tools import ...`"
    if root is not None and (file.parent / f"{missing}.py").is_file():
        return f"; write `from .{missing} import ...`"
    return ""
