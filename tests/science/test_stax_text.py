"""Architectures as text are read, never run; what they may not say is refused with its place."""

import pytest

from ntkhpc import stax_text
from ntkhpc.stax_text import ArchitectureError, LayerCall

NUMBERS = {"width": 12, "outputs": 3}


def shown(call: LayerCall) -> tuple:
    """A call with all that is in it, in plain tuples."""
    return call.name, *call.arguments, *sorted(call.keywords.items())


def read(text: str) -> tuple:
    return stax_text.evaluate(text, NUMBERS, shown)


def test_a_text_is_read_as_its_calls_numbers_words_and_tuples() -> None:
    text = """
        # comments and any indentation are allowed
        serial(
            stax.Conv(2 * width + 1, (3, 3), padding="SAME", b_std=None),
            Gelu(), AvgPool([2, 2]), Flatten(),
            Dense(outputs, W_std=-1.5e-1 / 2, parameterization='ntk'),
        )
    """
    assert read(text) == (
        "serial",
        ("Conv", 25, (3, 3), ("b_std", None), ("padding", "SAME")),
        ("Gelu",),
        ("AvgPool", (2, 2)),
        ("Flatten",),
        ("Dense", 3, ("W_std", -0.075), ("parameterization", "ntk")),
    )
    assert [call.name for call in stax_text.calls(text)] == ["Conv", "Gelu", "AvgPool", "Flatten", "Dense", "serial"]
    assert stax_text.names_used(text) == {"width", "outputs"}


@pytest.mark.promise("An architecture is read, never run: nothing in its text is executed.")
@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("serial(\n  Dense(width),\n  Dense(depth))", "line 3, column 9", "depth"),
        ("serial(Dense(__import__('os').getpid()))", "line 1, column 14", "not the name of a layer"),
        ("serial(Dense((lambda: 1)()))", "line 1, column 14", "not the name of a layer"),
        ("serial(Dense(outputs).layers)", "line 1, column 8", "this is not"),
        ("serial(*[Relu()] * 3)", "line 1, column 8", "this is not"),
        ("serial(**{'a': 1})", "line 1, column 1", "write the arguments out"),
        ("serial(Dense(2 ** 99))", "line 1, column 14", "this is not"),
        ("serial(Dense('a' * 99))", "line 1, column 14", "only numbers"),
        ("serial(Dense(True + 1))", "line 1, column 14", "only numbers"),
        ("serial(Dense(1 // (outputs - 3)))", "line 1, column 14", "zero"),
        ("serial(Dense(f'{width}'))", "line 1, column 14", "this is not"),
        ("serial(Dense(width if width else 1))", "line 1, column 14", "this is not"),
        ("serial(Dense(x := 1))", "line 1, column 14", "this is not"),
        ("serial(Dense(b'1'))", "line 1, column 14", "this is not"),
        ("[Dense(1)]", "line 1, column 1", "an architecture is a call"),
        ("Dense(1))(Dense(2)", "line 1", "not the name of a layer"),
        ("serial(\nDense(1),\n", "line", "no expression"),
        ("serial(Dense(1)\nRelu())", "line 1", "no expression"),
        ("import os", "line 1", "no expression"),
    ],
)
def test_what_is_no_architecture_is_refused_with_its_place(text: str, where: str, what: str) -> None:
    with pytest.raises(ArchitectureError) as refused:
        read(text)
    assert where in str(refused.value)
    assert what in str(refused.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("serial(" * 70 + ")" * 70, "nested"),
        ("(" * 5000 + ")" * 5000, "no expression"),
        ("serial(" + "Relu()," * 4000 + ")", "characters"),
        ("serial(\0)", "no expression"),
    ],
)
def test_texts_without_end_or_content_are_refused(text: str, what: str) -> None:
    with pytest.raises(ArchitectureError, match=what):
        read(text)
