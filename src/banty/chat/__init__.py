"""What is said on the wire: tool schemas, the calls a policy writes, and precise words for what is wrong with them."""

from banty.chat.coerce import Coerced, coerce
from banty.chat.lint import lint_schema
from banty.chat.parser import CallParser, Format, ParseDelta, call_parser, in_order, parse
from banty.chat.render import render_calls, signature_line
from banty.chat.schemas import argument_checker, schema_of
from banty.chat.templates import ChatTokenizer, Conversation, Prompt, Renderer, TemplateClass
from banty.chat.toolbox import Check
from banty.chat.validate import check

__all__ = [
    "CallParser",
    "ChatTokenizer",
    "Check",
    "Coerced",
    "Conversation",
    "Format",
    "ParseDelta",
    "Prompt",
    "Renderer",
    "TemplateClass",
    "argument_checker",
    "call_parser",
    "check",
    "coerce",
    "in_order",
    "lint_schema",
    "parse",
    "render_calls",
    "schema_of",
    "signature_line",
]
