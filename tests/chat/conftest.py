from __future__ import annotations

import pytest

from banty.records.messages import ToolSchema


@pytest.fixture(scope="session")
def tools() -> list[ToolSchema]:
    """A small desk: two library tools and one with a parameter of every kind."""
    kinds = {
        "count": {"type": "integer"},
        "code": {"type": "string"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "urgent": {"type": "boolean"},
        "rate": {"type": "number", "minimum": 0},
        "options": {"type": "object"},
        "legs": {"type": "array", "items": {"type": "object", "properties": {"day": {"type": "string"}}}},
        "shelf": {"enum": ["A", "B"]},
    }
    return [
        ToolSchema(
            "find_book",
            "Look a book up.",
            {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        ),
        ToolSchema(
            "lend",
            "Lend a book.",
            {
                "type": "object",
                "properties": {
                    "book_id": {"type": "string"},
                    "member_id": {"type": "string"},
                    "days": {"type": "integer"},
                },
                "required": ["book_id", "member_id"],
                "additionalProperties": False,
            },
        ),
        ToolSchema("sort", "Sort the shelf.", {"type": "object", "properties": kinds}),
    ]
