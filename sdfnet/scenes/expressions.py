"""Arithmetic on the parameters of a scene: `width / 2 - 1`, `radius * cos(30)`.

Angles are in degrees, as everywhere in a scene. Nothing but arithmetic is evaluated: no attribute, no subscript, no
text, no call of another function.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "sqrt": math.sqrt,
    "floor": math.floor,
    "sin": lambda degrees: math.sin(math.radians(degrees)),
    "cos": lambda degrees: math.cos(math.radians(degrees)),
    "tan": lambda degrees: math.tan(math.radians(degrees)),
    "atan2": lambda y, x: math.degrees(math.atan2(y, x)),
}
_CONSTANTS = {"pi": math.pi}
RESERVED = frozenset(_FUNCTIONS) | frozenset(_CONSTANTS)
"""Names that a parameter cannot have."""

_LONGEST = 400


def names_in(text: str) -> set[str]:
    """Return the names of parameters in an expression. Raise ValueError if `text` is no arithmetic.

    >>> sorted(names_in("max(width, 2) / depth"))
    ['depth', 'width']
    """
    names = {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)}
    return names - RESERVED


def evaluate_expression(text: str, values: Mapping[str, float]) -> float:
    """Return the number that `text` is, with `values` for the names in it.

    Raises
    ------
    ValueError
        `text` is no arithmetic, names something unknown, or has no finite value.

    >>> evaluate_expression("width / 2 - 1", {"width": 40})
    19.0
    """
    try:
        number = _value(_parse(text).body, values)
        if not math.isfinite(number):
            raise OverflowError("it is not finite")
    except (ZeroDivisionError, OverflowError, TypeError) as error:
        raise ValueError(f"{text!r} has no value: {error}") from error
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    return number


def _parse(text: str) -> ast.Expression:
    """Return the syntax tree of `text`, of which every node is known to `_value`."""
    if len(text) > _LONGEST:
        raise ValueError(f"expected at most {_LONGEST} characters of arithmetic, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(f"expected a number or arithmetic on parameters, got {text!r}") from None
    for node in ast.walk(tree):
        known: tuple[Any, ...] = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, *_OPERATORS)
        is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords
        if is_call and node.func.id not in _FUNCTIONS:  # type: ignore[attr-defined]
            raise ValueError(f"unknown function {ast.unparse(node)!r}; known are {', '.join(sorted(_FUNCTIONS))}")
        if not (isinstance(node, known) or is_number or is_call):
            raise ValueError(f"expected a number or arithmetic on parameters, got {text!r}")
    return tree


def _value(node: ast.AST, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=number):
            return number  # type: ignore[return-value]
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=sign, operand=operand):
            return _OPERATORS[type(sign)](_value(operand, values))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, values) for argument in arguments))
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id=name):
            known = f"known are {', '.join(values)}" if values else "the scene has none"
            raise ValueError(f"unknown parameter {name!r}; {known}")
    raise AssertionError(ast.dump(node))
