"""Wrote `tests/data/store_v1`, once: `python -m tests.rollout.make_store_v1`. Readers are tested against the files."""

from __future__ import annotations

from pathlib import Path

from banty.records import (
    CallFault,
    CallResult,
    Message,
    Outcome,
    Rollout,
    Segment,
    Task,
    ToolCall,
    ToolSchema,
    Transform,
    Turn,
)

FOLDER = Path(__file__).parents[1] / "data" / "store_v1"
SECOND_PARAMETERS = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


def rollouts() -> list[Rollout]:
    """A completed tree of two and an errored rollout, with something in every column."""
    find = ToolCall("find", {"title": "Ödön", "nested": {"list": [1, 2.5, None, True]}}, "c0")
    fault = CallFault("malformed", "no JSON", order=1, position=12, raw="{'a'}", name="lend")
    result = CallResult("find", find.arguments, '[{"id": "b1"}]', "read", "", "w:0", "w:0")
    refused = CallResult("lend", {}, "Error: no JSON", "none", "malformed", "w:0", "w:0")
    first = Turn(
        index=0,
        actor="agent",
        message=Message("assistant", "Let me look.", (find,), (fault,), reasoning="I think…"),
        trainable=True,
        observation=(Message("tool", result.output, call_id="c0"), Message("tool", refused.output)),
        calls=(result, refused),
        segment=Segment((1, 2, 3), (4, 5), (-0.5, -0.25), False, Transform(0.7, 0.9, 40, 0.05, "json")),
        policy="nano",
        version=3,
        finish="length",
        prompt_tokens=3,
        sampled_tokens=2,
        cost_usd=0.001,
        policy_s=0.5,
        env_s=0.25,
        state_before="w:0",
        state_after="w:0",
        reward=0.125,
    )
    asked = Turn(
        index=1,
        actor="user",
        message=Message("assistant", "Danke 🙂"),
        request=(Message("system", "You are Ödön."), Message("user", "Which book?")),
        policy="user-model",
    )
    last = Turn(
        index=2,
        actor="agent",
        message=Message("assistant", "Done."),
        trainable=True,
        segment=Segment((6,), (7, 8), (-1.5, 0.0), True),
        policy="nano",
        version=4,
        state_before="w:0",
        state_after="w:1f",
    )
    root = Rollout(
        rollout_id="library:test:3:11#1",
        task=Task("library", "test", 3, 11, {"level": "easy"}),
        status="completed",
        outcome=Outcome(True, 0.75, {"state": 1.0, "style": None}, "as wished"),
        opening=(Message("system", "You keep a desk."), Message("user", "Hello!")),
        tools=(
            ToolSchema("leave", "Go.", effect="terminal"),
            ToolSchema("find", "Look a book up.", SECOND_PARAMETERS, "read"),
        ),
        turns=(first, asked, last),
        group_id="library:test:3:11",
        trial=1,
        seed=(1 << 63) - 1,
        policy="nano",
        version=4,
        root_id="library:test:3:11#1",
        duration_s=1.5,
    )
    child = Rollout(
        rollout_id="library:test:3:11#1/1",
        task=Task("library", "half", 0, 11),
        status="truncated",
        cause="turns",
        detail="the cap of 0 turns is reached",
        outcome=Outcome(False, 0.0),
        group_id="library:test:3:11",
        trial=1,
        seed=5,
        policy="nano",
        root_id=root.rollout_id,
        parent_id=root.rollout_id,
        depth=1,
    )
    errored = Rollout(
        rollout_id="library:test:4:11#0",
        task=Task("library", "test", 4, 11),
        status="errored",
        cause="simulator",
        detail="answer 0 of the user failed: 503",
        group_id="library:test:4:11",
        policy="nano",
        root_id="library:test:4:11#0",
    )
    return [root, child, errored]


if __name__ == "__main__":
    from banty.rollout import Store

    Store(FOLDER).write("part-000", rollouts())
