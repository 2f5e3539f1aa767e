"""What a reader of somebody's log gives, whatever the format: episodes under the log's own task keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from banty.interop.places import Place
from banty.records import JSON, Message, Outcome, Status, StatusCause, ToolCall, ToolSchema, Turn


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an episode ended, in our terms; an errored one has a cause and is never scored."""

    status: Status = "completed"
    cause: StatusCause = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One logged episode. `key` is the log's own name of the task; `tag` tells collections over the same tasks apart,
    such as two training steps, whose rollouts are not compared with each other."""

    place: Place
    key: str
    ending: Ending
    outcome: Outcome
    opening: tuple[Message, ...]
    turns: tuple[Turn, ...]
    log_id: str = ""
    tag: str = ""
    public: Mapping[str, JSON] = field(default_factory=dict)
    tools: tuple[ToolSchema, ...] = ()
    policy: str = ""
    version: int = 0
    seed: int = 0
    duration_s: float = 0.0


@dataclass
class Reading:
    """A log as read. `keys` are its tasks in the log's own order, as far as it has one; `golden` are reference calls by
    task key; `left_out` counts what was not imported, by reason; `about` is what the log says of itself."""

    env: str
    success_rule: str
    episodes: list[Episode] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    golden: dict[str, tuple[ToolCall, ...]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    about: dict[str, JSON] = field(default_factory=dict)

    def count_ending(self, words: str, ending: Ending) -> None:
        """Count how an episode ended, in the log's own `words` and in our terms."""
        self.endings[" ".join(filter(None, [f"{words}:", ending.status, ending.cause]))] += 1
