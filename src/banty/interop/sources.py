"""Which files a log consists of, and of which format they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from banty.errors import InputError
from banty.interop import tau2, traces, trl, verifiers

LogFormat = Literal["tau2", "verifiers", "trl"]
FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)


class Source(NamedTuple):
    """The files of a log in a fixed order. `traces` says that verifiers' files are of 0.4.0 or later."""

    format: LogFormat
    files: tuple[Path, ...]
    traces: bool = False


def find_source(path: Path, format: str = "") -> Source:
    """What `path`, a file or a folder, holds; the format is recognized where it is not given.

    Raises InputError for what is no log, for a format that is not known, and for a folder with logs of several.
    """
    if format and format not in FORMATS:
        raise InputError(f"--format {format!r} is not one of {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"there is no {path}; name the file or the folder of a log")
    found = {name: files for name in FORMATS if (not format or name == format) and (files := _FILES[name](path))}
    if not found:
        wanted = _LOOKED_FOR[format] if format else "; ".join(_LOOKED_FOR[name] for name in FORMATS)
        raise InputError(f"{path} holds no log that can be imported. Looked for: {wanted}")
    if len(found) > 1:
        raise InputError(f"{path} holds logs of {' and '.join(found)}; name one with --format")
    name, files = next(iter(found.items()))
    old = [file for file in files if name == "verifiers" and not _has_traces(file)]
    if old and len(old) < len(files):
        raise InputError(f"{path} holds results of verifiers before and since 0.4.0; import each file by itself")
    return Source(name, tuple(files), name == "verifiers" and not old)


_LOOKED_FOR: Mapping[str, str] = {
    "tau2": 'tau2: a JSON file with "simulations", or a folder with results.json and simulations/',
    "verifiers": "verifiers: results.jsonl or traces.jsonl",
    "trl": "trl: completions_*.parquet",
}


def _tau2_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".json" and tau2.is_results(_json(path)) else []
    results = path / "results.json"
    if results.is_file() and tau2.is_results(_json(results)):
        return [results]
    # Anything may lie in a folder: only what begins like results counts.
    return [file for file in sorted(path.glob("*.json")) if tau2.is_results(_json(file))]


def _verifiers_files(path: Path) -> list[Path]:
    if path.is_file():
        row = _first_row(path) if path.suffix == ".jsonl" else None
        known = row is not None and ("example_id" in row or "completion" in row or traces.is_trace_row(row))
        return [path] if known else []
    names = (verifiers.RESULTS, traces.TRACES)
    direct = [path / name for name in names if (path / name).is_file()]
    return direct or sorted(file for name in names for file in path.glob(f"**/{name}"))


def _trl_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" and trl.is_completions(trl.columns_of(path)) else []
    for folder in (path, path / "completions"):
        if files := sorted(folder.glob("completions_*.parquet")):
            return files
    return []


_FILES: Mapping[LogFormat, Callable[[Path], list[Path]]] = {
    "tau2": _tau2_files,
    "verifiers": _verifiers_files,
    "trl": _trl_files,
}


def _has_traces(file: Path) -> bool:
    row = _first_row(file)
    return row is not None and traces.is_trace_row(row)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not whole JSON ({error}); fetch it again. Nothing was written") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}") from error


def _first_row(file: Path) -> Mapping[str, Any] | None:
    """The first object of a JSONL file; None for a file without one."""
    for _, row in verifiers.rows_of(file):
        return row
    return None
