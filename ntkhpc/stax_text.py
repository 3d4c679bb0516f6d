"""Architectures as text: an expression of neural_tangents.stax, read and never run.

    serial(Conv(width, (3, 3), padding="SAME"), Relu(), Flatten(), Dense(outputs))

It has calls of named layers, numbers, words, truth values, None, tuples and lists of them, sums and products of
numbers, and the names `width` and `outputs`. Whatever else Python may say is refused, with its place in the text.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 20_000
MOST_DEPTH = 60
"""Calls and brackets in one another."""

NAMES = ("width", "outputs")
"""What a text may name besides layers: the width of a study, and how many outputs its data have."""

SOME_WIDTH = 1024
"""Stands for a width where none is meant."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class ArchitectureError(ValueError):
    """What is wrong with the text of an architecture, and where in it."""


@dataclass(frozen=True)
class LayerCall:
    """A layer as a text calls it; `source` is its text, `where` says where it stands."""

    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    source: str
    where: str

    def refused(self, what: str) -> ArchitectureError:
        """An error at this place."""
        return ArchitectureError(f"{self.where}, {shortened(self.source)}: {what}")


def evaluate(text: str, numbers: Mapping[str, int], make: Callable[[LayerCall], Any]) -> Any:
    """What `make` makes of the outermost call; arguments that are calls are made before it.

    `numbers` holds those of NAMES. Raises ArchitectureError for a text that is no such expression.
    """
    tree = _parsed(text)
    if not isinstance(tree, ast.Call):
        raise _refused(text, tree, "an architecture is a call of a layer, such as serial(...)")
    return _value(text, tree, numbers, make, 0)


def names_used(text: str) -> frozenset[str]:
    """Those of NAMES that stand in a text."""
    return frozenset(node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)) & frozenset(NAMES)


def calls(text: str) -> tuple[LayerCall, ...]:
    """Every layer that a text calls, arguments before what they are given to. Raises as `evaluate` does."""
    found: list[LayerCall] = []

    def note(call: LayerCall) -> LayerCall:
        found.append(call)
        return call

    evaluate(text, dict.fromkeys(NAMES, SOME_WIDTH), note)
    return tuple(found)


def one_line(text: str) -> str:
    """A text on one line, without its comments. Raises ArchitectureError for one that is no expression."""
    return ast.unparse(_parsed(text))


def shortened(text: str) -> str:
    """A text on one line, and no more of it than a message needs."""
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:76]} ..."


def _parsed(text: str) -> ast.expr:
    if len(text) > MOST_CHARACTERS:
        raise ArchitectureError(f"the text has {len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    if not text.strip():
        raise ArchitectureError("the text is empty")
    try:
        # Brackets let a text have any lines and indentation; they take one line, before the first one.
        return ast.parse(f"(\n{text}\n)", mode="eval").body
    except SyntaxError as error:
        line = min(max((error.lineno or 2) - 1, 1), text.count("\n") + 1)
        raise ArchitectureError(f"line {line}: this is no expression: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ArchitectureError(f"this is no expression: {error}") from None


def _value(text: str, node: ast.expr, numbers: Mapping[str, int], make: Callable[[LayerCall], Any], depth: int) -> Any:
    def inner(one: ast.expr) -> Any:
        return _value(text, one, numbers, make, depth + 1)

    if depth > MOST_DEPTH:
        raise _refused(text, node, f"calls are nested more than {MOST_DEPTH} deep")
    if isinstance(node, ast.Call):
        return make(_call(text, node, inner))
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool | int | float | str)):
        return node.value
    if isinstance(node, ast.Name) and node.id in numbers:
        return numbers[node.id]
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(inner(one) for one in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(text, node.operand, inner)
    if isinstance(node, ast.BinOp) and (apply := _ARITHMETIC.get(type(node.op))):
        left, right = _number(text, node.left, inner), _number(text, node.right, inner)
        try:
            return apply(left, right)
        except (ZeroDivisionError, OverflowError) as error:
            raise _refused(text, node, str(error)) from None
    known = f"a number, a word, a tuple, a layer's call, or {' or '.join(NAMES)}"
    raise _refused(text, node, f"this is not {known}")


def _call(text: str, node: ast.Call, inner: Callable[[ast.expr], Any]) -> LayerCall:
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "stax":
        name = function.attr
    elif isinstance(function, ast.Name):
        name = function.id
    else:
        raise _refused(text, node, "what is called is not the name of a layer")
    if any(keyword.arg is None for keyword in node.keywords):
        raise _refused(text, node, "** has no place in an architecture; write the arguments out")
    arguments = tuple(inner(one) for one in node.args)
    keywords = {str(keyword.arg): inner(keyword.value) for keyword in node.keywords}
    return LayerCall(name, arguments, keywords, _source(text, node), _where(node))


def _number(text: str, node: ast.expr, inner: Callable[[ast.expr], Any]) -> Any:
    value = inner(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(text, node, "only numbers are added, multiplied and divided")
    return value


def _where(node: ast.expr) -> str:
    return f"line {max(node.lineno - 1, 1)}, column {node.col_offset + 1}"


def _source(text: str, node: ast.expr) -> str:
    return ast.get_source_segment(f"(\n{text}\n)", node) or ""


def _refused(text: str, node: ast.expr, what: str) -> ArchitectureError:
    return ArchitectureError(f"{_where(node)}, {shortened(_source(text, node))}: {what}")
