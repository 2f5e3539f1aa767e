"""What has no meaning in the arguments of the airline's tools: the semantic grader's notion of equality, for calls."""

from __future__ import annotations

from banty.envs.airline.meaning import BY_VALUE, UNORDERED
from banty.envs.airline.tools import AirlineTools
from banty.records import ToolMatching

_AS_SET = (*UNORDERED, "payment_methods")  # what is paid with becomes the payment history
_FREE_TEXT = ("summary",)
_EXPRESSIONS = ("expression",)

AIRLINE_MATCHING = {
    name: ToolMatching(ignore=_FREE_TEXT, as_set=_AS_SET, text=_EXPRESSIONS, numbers=BY_VALUE)
    for name in AirlineTools.tools
}
