"""Reward files: which kinds of turn there are, and what each earns."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from banty.errors import InputError
from banty.records import CallResult, Rollout, ToolMatching, Turn
from banty.rubrics.matching import Matching
from banty.runs import from_mapping, to_mapping, write_text

FORMAT = 1
Scope = Literal["any", "read", "write"]
SeveralCalls = Literal["worst", "best", "sum"]
Predicate = Callable[[Rollout, Turn, CallResult | None], bool | float]
"""A tier in Python: asked of each call of a turn, and once with None of a turn that has none. What it says, from 0 to
1, is multiplied with the tier's value; 0 is no."""

PREDICATES: Mapping[str, str] = {
    "golden": "a call equal to one of the golden ones",
    "golden_part": "a call of a golden tool with some of its arguments; pays by how many",
    "error": "a call that failed, or that could not be read",
    "duplicate": "a call made before, with the same result to be expected",
    "write": "a call that changed the state, or ended the episode",
    "read": "a call that changed nothing",
    "noop": "the last message of a success that changed nothing, where nothing golden does",
    "message": "a turn without calls",
}
STANDARD: Mapping[str, str] = {"gold": "golden", "soft": "golden_part"} | {
    name: name for name in PREDICATES if not name.startswith("golden")
}
"""The usual names of tiers and the predicate each has where its table names none."""

NEED_GOLDEN = ("golden", "golden_part", "noop")
_WITHOUT_CALLS = ("message", "noop")
_FOLDER = Path(__file__).parent / "packaged_rewards"


@dataclass(frozen=True)
class Tier:
    """One kind of turn and what it earns.

    `predicate` is a name of `PREDICATES` or `FILE.py:NAME`. `cap` is how often it pays in an episode; 0 is no cap. With
    `once` the same thing is credited once: a golden call, or else an equal call; the second time it is what the tiers
    below say. `scope` leaves it to calls of tools that only read, or of tools that do not. `intended` is which way it
    is meant to push. A `pinned` tier keeps its value when others are calibrated.
    """

    value: float
    predicate: str
    cap: int = 0
    once: bool = False
    scope: Scope = "any"
    intended: Literal[-1, 0, 1] = 0
    pinned: bool = False

    @property
    def is_code(self) -> bool:
        return ".py" in self.predicate

    @property
    def needs_golden(self) -> bool:
        return self.predicate in NEED_GOLDEN


@dataclass(frozen=True)
class RewardFile:
    """A reward file: its tiers in order of precedence, and how calls are compared with golden ones.

    Of the calls of one turn, `several_calls="worst"` lets the worst decide if any is an error or a stray write, else
    the best; `"best"` always the best; `"sum"` pays for each. `soft_writes` gives partial credit to tools that write
    as well. `parent` is the sha256 of the file this one was made from. `functions` are the loaded Python tiers by
    predicate.
    """

    name: str
    version: int
    tiers: Mapping[str, Tier]
    matching: Matching = field(default_factory=Matching)
    several_calls: SeveralCalls = "worst"
    soft_writes: bool = False
    parent: str = ""
    note: str = ""
    functions: Mapping[str, Predicate] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Of the file as `write_reward_file` writes it: comments and spaces do not count."""
        return hashlib.sha256(text_of(self).encode()).hexdigest()

    @property
    def needs_golden(self) -> bool:
        """Whether nothing but tiers that need golden calls has a value."""
        valued = [tier for tier in self.tiers.values() if tier.value]
        return bool(valued) and all(tier.needs_golden for tier in valued)

    @property
    def code(self) -> tuple[str, ...]:
        """The Python predicates it names, `FILE.py:NAME`."""
        return tuple(dict.fromkeys(tier.predicate for tier in self.tiers.values() if tier.is_code))

    def with_rules(self, tools: Mapping[str, ToolMatching]) -> RewardFile:
        """The file with a taskset's rules for its tools; those of the file itself win."""
        return replace(self, matching=replace(self.matching, tools={**tools, **self.matching.tools}))

    def check(self, where: str = "") -> None:
        """Raises InputError for what cannot work; `where` is the file, for the message."""
        at = f"{where}: " if where else ""
        if not self.name:
            raise InputError(f"{at}name is empty; give the file a name, such as 'mine'")
        if self.version < 1:
            raise InputError(f"{at}version is {self.version}; it takes a whole number from 1")
        if self.parent and not re.fullmatch("[0-9a-f]{64}", self.parent):
            raise InputError(f"{at}parent is {self.parent!r}; it takes the sha256 of the file it was made from")
        if not self.tiers:
            raise InputError(f"{at}tiers is empty; add a table such as [tiers.gold] with value = 1.0")
        for name, tier in self.tiers.items():
            _check_tier(f"{at}tiers.{name}", name, tier)


def _check_tier(at: str, name: str, tier: Tier) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(f"{at}: a tier's name takes lower-case letters, digits and _, a letter first")
    if not tier.predicate:
        raise InputError(
            f"{at}: {name!r} is no usual tier{_near(name, STANDARD)}; known are {', '.join(STANDARD)}. A tier of "
            "another name says what it is by its predicate"
        )
    if not tier.is_code and tier.predicate not in PREDICATES:
        raise InputError(
            f"{at}: predicate is {tier.predicate!r}{_near(tier.predicate, PREDICATES)}; known are "
            f"{', '.join(PREDICATES)}, and FILE.py:NAME"
        )
    if tier.is_code and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", tier.predicate):
        raise InputError(f"{at}: predicate is {tier.predicate!r}; write FILE.py:NAME, where NAME is a function in it")
    if not math.isfinite(tier.value):
        raise InputError(f"{at}: value is {tier.value}; it takes a finite number")
    if tier.cap < 0:
        raise InputError(f"{at}: cap is {tier.cap}; it takes how often the tier pays in an episode, or 0 for no cap")
    if isinstance(tier.intended, bool):
        raise InputError(f"{at}: intended is {str(tier.intended).lower()}; allowed are -1, 0, 1")
    if tier.predicate in _WITHOUT_CALLS and (tier.scope != "any" or tier.once):
        raise InputError(
            f"{at}: scope and once are about calls, and {tier.predicate} has none; leave them out (cap = 1 pays once)"
        )


_KEYS = tuple(each.name for each in fields(RewardFile) if each.name != "functions")


def packaged() -> Mapping[str, Path]:
    """The reward files that come with Banty, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def read_reward_file(name_or_path: str | Path) -> RewardFile:
    """The packaged reward file of that name, or the one at a path (a name with a `/` or ending in `.toml`).

    Python predicates are named relative to the file, and not loaded: see `with_functions`. Raises InputError naming
    the file, the key, and what is allowed.
    """
    path = _place(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"no reward file {path}; a packaged one is named without .toml: {', '.join(packaged())}"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}") from error
    return _of_table(data, path)


def _place(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, str) and name_or_path in packaged():
        return packaged()[name_or_path]
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, str) and path.suffix != ".toml" and len(path.parts) == 1:
        raise InputError(
            f"no reward file {name_or_path!r}{_near(name_or_path, packaged())}; packaged are "
            f"{', '.join(packaged())}. Your own: a path that ends in .toml"
        )
    return path


def _of_table(data: dict[str, Any], path: Path) -> RewardFile:
    written = data.pop("format", None)
    if written != FORMAT or isinstance(written, bool):
        told = "is missing" if written is None else f"is {written!r}"
        raise InputError(f"{path}: format {told}; this version reads format = {FORMAT}")
    if unknown := [key for key in data if key not in _KEYS]:
        raise InputError(
            f"{path}: unknown key {unknown[0]!r}{_near(unknown[0], _KEYS)}; known are {', '.join(['format', *_KEYS])}"
        )
    tables = data.get("tiers")
    if isinstance(tables, dict):
        data["tiers"] = {
            name: {"predicate": STANDARD.get(name, ""), **table} if isinstance(table, dict) else table
            for name, table in tables.items()
        }
    file = from_mapping(RewardFile, data, str(path))
    file.check(str(path))
    return replace(file, tiers={name: _placed(tier, path.parent) for name, tier in file.tiers.items()})


def _placed(tier: Tier, folder: Path) -> Tier:
    """A Python predicate with its file's whole path: it is found from any folder."""
    if not tier.is_code:
        return tier
    code, _, name = tier.predicate.rpartition(":")
    return replace(tier, predicate=f"{(folder / Path(code).expanduser()).resolve()}:{name}")


def with_functions(file: RewardFile, load: Callable[[str], Predicate]) -> RewardFile:
    """The file with its Python tiers loaded; `load` gets each `FILE.py:NAME`."""
    return replace(file, functions={place: load(place) for place in file.code})


def write_reward_file(path: str | Path, file: RewardFile) -> Path:
    """Write it whole or not at all, so that reading it gives the same. Raises InputError for a file that cannot work,
    StoreError where it cannot be written."""
    file.check(str(path))
    return write_text(Path(path), text_of(file))


def text_of(file: RewardFile) -> str:
    """The file as TOML."""
    lines = [f"format = {FORMAT}", f"name = {_toml(file.name)}", f"version = {file.version}"]
    lines += [f"{key} = {_toml(getattr(file, key))}" for key in ("parent", "note") if getattr(file, key)]
    lines += [f"several_calls = {_toml(file.several_calls)}", f"soft_writes = {_toml(file.soft_writes)}"]
    matching = to_mapping(file.matching)
    tools = matching.pop("tools")
    tables = {"matching": matching}
    tables |= {f"matching.tools.{_key(name)}": {k: v for k, v in rules.items() if v} for name, rules in tools.items()}
    tables |= {f"tiers.{_key(name)}": to_mapping(tier) for name, tier in file.tiers.items()}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def diff_of(a: RewardFile, b: RewardFile) -> list[str]:
    """What changes from `a` to `b`, a line a key, for a person; empty where nothing does."""
    before, after = _flat(a), _flat(b)
    lines = [
        f"{key}: {before.get(key, '(not there)')} -> {after.get(key, '(gone)')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    if list(a.tiers) != list(b.tiers) and set(a.tiers) == set(b.tiers):
        lines.append(f"order of tiers: {', '.join(a.tiers)} -> {', '.join(b.tiers)}")
    return lines


def _flat(file: RewardFile) -> dict[str, str]:
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), item)
        else:
            found[prefix] = _toml(value)

    walk("", {**tomllib.loads(text_of(file))})
    return found


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # which JSON lets pass, and TOML does not
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _toml(name)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
