"""The models that come with the package, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "packaged_models"
PACKAGED: Mapping[str, Path] = {"nano": _FOLDER / "nano"}


def place_of(model: str | Path) -> Path:
    """The folder that a packaged model's name stands for; any other folder or hub name as it is.

    A name is text: a `Path`, and text such as `./nano`, is always a folder of the caller's.
    """
    return PACKAGED.get(model, Path(model)) if isinstance(model, str) else model


def stored_name(folder: str) -> str:
    """What a file that refers to a model's folder, or hub name, calls it: a packaged model by its name, which is right
    wherever Banty lies, and nothing else by one of those names."""
    for name, place in PACKAGED.items():
        if place == Path(folder):
            return name
    return f"./{folder}" if folder in PACKAGED else folder
