"""Evaluate a condition on an example's fields, as `label in ["kick", "snare"] and seconds < 2`, and nothing else."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import as_number

LONGEST: Final = 10_000
"""Characters of a condition; it may come from a plan that another person wrote."""


def _of_numbers(work: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(one: Any, other: Any) -> Any:
        # Text times a number would be that much text, and `'%999999999d' % 1` a gigabyte of blanks.
        if not isinstance(one, int | float) or not isinstance(other, int | float):
            raise TypeError
        return work(one, other)

    return compute


_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, whole: _is_in(item, whole),
    ast.NotIn: lambda item, whole: not _is_in(item, whole),
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _of_numbers(operator.mod),
}
_FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {"int": int, "float": float, "str": str, "len": len, "abs": abs}
_METHODS: Final = frozenset({"startswith", "endswith", "lower", "upper"})


class Condition:
    """A test of an example's fields.

    A field that one example lacks is None there, and comparing None with an order is false. A text that is a number
    counts as one beside a number.

    Args:
        tree: of a text that was checked.
        text: as typed.
        flag: that it was typed after.
    """

    def __init__(self, tree: ast.expr, text: str, flag: str) -> None:
        self._tree, self._text, self._flag = tree, text, flag
        callees = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        found = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in callees)
        self.names = frozenset(node.id for node in found)
        self._unseen = set(self.names)
        self._known: set[str] = set()

    def __call__(self, fields: Mapping[str, Any]) -> bool:
        if self._unseen:
            self._unseen -= fields.keys()
            self._known |= fields.keys()
        try:
            return bool(_value(self._tree, fields))
        except (TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, RecursionError):
            return False

    def refuse_unknown(self, known: Collection[str] = ()) -> None:
        """Refuse a name that none of the examples so far has; before any, those that are known must do.

        Raises:
            UsageError: names it, and the nearest that there is.
        """
        known = self._known | set(known)
        for name in sorted(self._unseen - known) if known else ():
            raise UsageError(f"{self._flag} {self._text!r}: {unknown_name(name, known)}")


def unknown_name(name: str, known: Collection[str], in_condition: bool = True) -> str:
    """The message for a field name that no example has, typed in a condition or by itself."""
    alike = difflib.get_close_matches(name, sorted(known), 1)
    meant = f"{alike[0]!r} is the nearest" if alike else f"there are: {', '.join(sorted(known)) or 'none'}"
    quoted = f" A text stands in quotation marks, as 'label == \"{name}\"'." if in_condition else ""
    return f"nothing has a field {name!r}; {meant}.{quoted}"


def condition(text: str, flag: str) -> Condition:
    """Make a test of a condition.

    Raises:
        UsageError: the text is not such a condition.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"it has {len(text)} characters, and may have {LONGEST}")
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text, flag)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        equals = "; == compares" if re.search(r"(?<![=!<>])=(?!=)", text) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"{flag} {text[:200]!r} is not a condition: {reason}{equals}.") from error
    return Condition(tree, text, flag)


def _check(node: ast.AST, text: str, flag: str) -> None:
    """Allow these forms and no others, so that a condition can neither call nor reach anything else."""
    allowed = (
        isinstance(node, ast.BoolOp | ast.Compare | ast.Name | ast.Constant | ast.List | ast.Tuple)
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub))
        or (isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC)
        or (isinstance(node, ast.Call) and not node.keywords and _callee(node) is not None)
    )
    if isinstance(node, ast.Compare) and not all(type(op) in _COMPARISONS for op in node.ops):
        allowed = False
    if not allowed:
        raise UsageError(
            f"{flag} {text!r} holds {ast.unparse(node)!r}, which a condition cannot contain. It can contain "
            "fields, numbers, text, lists, and or not, == != < <= > >= in, + - * / // %, int float str len abs, "
            ".startswith .endswith."
        )
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        children = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
    for child in children:
        if isinstance(child, ast.expr):
            _check(child, text, flag)


def _callee(node: ast.Call) -> str | None:
    if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS else None


def _value(node: ast.expr, fields: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return fields.get(node.id)
        case ast.List() | ast.Tuple():
            return [_value(item, fields) for item in node.elts]
        case ast.BoolOp(op=ast.And()):
            return all(_value(item, fields) for item in node.values)
        case ast.BoolOp():
            return any(_value(item, fields) for item in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, fields)
        case ast.UnaryOp():
            return -as_number(_value(node.operand, fields))
        case ast.BinOp():
            return _ARITHMETIC[type(node.op)](*_alike(_value(node.left, fields), _value(node.right, fields)))
        case ast.Compare():
            return _compare(node, fields)
        case ast.Call(func=ast.Attribute() as method):
            return getattr(str(_value(method.value, fields)), method.attr)(*(_value(a, fields) for a in node.args))
        case ast.Call(func=ast.Name() as function):
            values = [_value(argument, fields) for argument in node.args]
            return _FUNCTIONS[function.id](*(map(as_number, values) if function.id == "abs" else values))
    raise AssertionError(f"_check let {ast.dump(node)} pass")


def _compare(node: ast.Compare, fields: Mapping[str, Any]) -> bool:
    left = _value(node.left, fields)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, fields)
        if not _COMPARISONS[type(op)](*(_alike(left, right) if type(op) not in (ast.In, ast.NotIn) else (left, right))):
            return False
        left = right
    return True


def _alike(one: Any, other: Any) -> tuple[Any, Any]:
    """Two values; where one is a number and the other the text of one, two numbers."""
    if _is_number(one):
        return one, as_number(other)
    return (as_number(one), other) if _is_number(other) else (one, other)


def _is_in(item: Any, whole: Any) -> bool:
    """Whether a text holds another, or a list a value; in a list too a text that is a number counts as one."""
    if isinstance(whole, list | tuple):
        return any(operator.eq(*_alike(item, one)) for one in whole)
    return item in whole


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
