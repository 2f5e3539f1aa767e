"""The files of a new environment: a small one that works, in the shape every environment has."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path

from banty.errors import InputError

_PLACEHOLDER = "skeleton"
_FILES = (
    "__init__.py",
    "data.py",
    "tools.py",
    "env.py",
    "rubric.py",
    "expert.py",
    "README.md",
    "test_env.py",
)


def class_prefix(name: str) -> str:
    """What the classes of the environment `name` begin with: LibraryDesk for library_desk."""
    return "".join(part.title() for part in name.split("_"))


def new_env(name: str, folder: Path) -> list[Path]:
    """Write a working environment into `folder/name`; the files written.

    Raises InputError for a name that is not a lower-case identifier or is taken, by a module or a folder.
    """
    _check_name(name)
    target = folder / name
    if target.exists():
        raise InputError(f"{target} is there already; choose another name, or another folder with --folder")
    if _is_module(name):
        raise InputError(
            f"{name} is the name of an installed Python module, which yours would hide; choose another, such as "
            f"{name}_desk"
        )
    template = resources.files("banty.envs") / "template"
    texts = {file: (template / f"{file}.txt").read_text(encoding="utf-8") for file in _FILES}
    try:
        target.mkdir(parents=True)
        for file, text in texts.items():
            filled = text.replace(_PLACEHOLDER.title(), class_prefix(name)).replace(_PLACEHOLDER, name)
            (target / file).write_text(filled, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}; choose another --folder") from error
    return [target / file for file in texts]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(
            f"{name!r} cannot be the name of an environment; it takes lower-case letters, digits and underscores, a "
            "letter first, such as library_desk"
        )
    if keyword.iskeyword(name):
        raise InputError(f"{name} is a word of Python's own; choose another name, such as {name}_desk")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a loaded module without a spec, such as __main__
        return True
