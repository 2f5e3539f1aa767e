"""The desk's calculator: arithmetic on a line of text, without evaluating it as Python."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from banty.errors import ToolError

_CHARACTERS = frozenset("0123456789+-*/(). ")
_POWER_BITS = 1 << 20


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and base.bit_length() * exponent > _POWER_BITS:
        raise ToolError("the result is too large")
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """The value of an expression, rounded to two places, as a float's text ("4.0").

    `**` and `//` work as in Python. Raises ToolError for other characters and for too large a power, and Python's own
    errors (syntax, division by zero, overflow) for what else has no value.
    """
    if not all(character in _CHARACTERS for character in expression):
        raise ToolError("Invalid characters in expression")
    return str(round(float(_value(ast.parse(expression.lstrip(" "), "<string>", "eval").body)), 2))


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand))
    raise ToolError("the expression is not arithmetic")
