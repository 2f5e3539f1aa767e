"""Numbers, durations and text from outside, as a reader sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MISSING = "–"
_MOST = 1e15
_CONTROLS = re.compile(
    # controls but tab and newline; direction overrides, which reorder what stands around them; what UTF-8 or XML lack
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def visible(text: str) -> str:
    """`text` with every character that acts instead of being seen replaced by a mark; escape codes show as ␛."""
    return _CONTROLS.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def finite(value: Any) -> float | None:
    """The number a file holds, or None for whatever is none: files of a run may be damaged. Numbers that sums and axes
    could overflow on are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST <= value <= _MOST:
        return None
    return float(value)


def table(value: Any) -> Mapping[str, Any]:
    """The table a file holds, or an empty one for whatever is none."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any, digits: int = 3) -> str:
    found = finite(value)
    return MISSING if found is None else f"{found:.{digits}f}"


def count(value: Any) -> str:
    """A whole number with thin gaps between thousands."""
    found = finite(value)
    return MISSING if found is None else f"{found:,.0f}".replace(",", "\u202f")


def interval(data: Any, digits: int = 3) -> str:
    """An estimate with its interval, as a card holds them."""
    found = table(data)
    ends = [finite(found.get(name)) for name in ("low", "high")]
    if finite(found.get("estimate")) is None or None in ends:
        return number(found.get("estimate"), digits)
    return f"{number(found['estimate'], digits)} [{number(ends[0], digits)}, {number(ends[1], digits)}]"


def seconds(value: Any) -> str:
    """A duration as people say it: 0.4 s, 38 s, 4 min 52 s, 2 h 5 min."""
    found = finite(value)
    if found is None:
        return MISSING
    if found < 0.001:
        return "below 1 ms" if found > 0 else "0 s"
    if found < 10:
        return f"{found:.2g} s" if found < 1 else f"{found:.1f} s"
    whole = round(found)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(found / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def dollars(value: Any) -> str:
    found = finite(value)
    return "unknown price" if found is None else f"${found:.2f}"
