"""Text from outside, made safe for a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.text import Text

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str, style: str = "") -> Text:
    """Text that is shown as it is: never read for markup, and with control characters (escape codes) made visible."""
    return Text(visible(text), style=style)


def visible(text: str) -> str:
    """`text` with every control character but newline and tab replaced by a visible mark."""
    return _CONTROLS.sub("�", text)


def print_json(value: Any) -> None:
    """Print `value` as JSON, with nothing in it that a terminal obeys."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found.group()):04x}", text))
