"""Studies with an architecture: what is refused, what a report says of them, and what they are projected to cost."""

import pytest
from support.runs import tiny_text

from ntkhpc import kernel_batches, studies
from ntkhpc.engine import plan
from ntkhpc.errors import StudyError
from ntkhpc.studies.base import Study
from ntkhpc.studies.ensemble import network

CONV = 'serial(Conv(width, (3, 3), padding="SAME"), Relu(), Flatten(), Dense(outputs))'
DENSE = "serial(Dense(width), Relu(), Dense(outputs))"


def load(architecture: str, more: str = "", data: str = 'source = "mnist"') -> Study:
    section = f"widths = [4]\n{more}\narchitecture = '''{architecture}'''"
    text = tiny_text(redraws=0).replace("widths = [4]", section)
    return studies.loads(text.replace('source = "calorimeter"', data))


@pytest.mark.parametrize(
    ("architecture", "more", "said"),
    [
        ("serial(Dense(width),\nDense(depth))", "", ("[network]", "line 2, column 7", "depth")),
        (DENSE, "depth = 2", ("depth = 2", "leave them out")),
        (DENSE, 'activation = "erf"', ("activation = 'erf'", "leave them out")),
        (DENSE.replace("Relu", "Sigmoid"), "", ("network.architecture", "line 1, column 22", "Relu")),
        (CONV.replace("Flatten(), ", ""), "", ("network.architecture", "(28, 28, 10)", "10 outputs")),
        (CONV.replace("width", "4"), "", ()),
    ],
)
def test_an_architecture_that_makes_no_sense_is_no_study(architecture: str, more: str, said: tuple[str, ...]) -> None:
    if not said:  # one width, which the text need not name
        load(architecture, more)
        return
    with pytest.raises(StudyError) as refused:
        load(architecture, more)
    assert [one for one in said if one not in str(refused.value)] == []


def test_layers_for_images_are_refused_where_inputs_have_no_positions() -> None:
    with pytest.raises(StudyError, match=r"line 1, column 8, Conv"):
        load(CONV, data='source = "calorimeter"')
    load(DENSE, data='source = "calorimeter"')
    load(CONV, data='source = "calorimeter"\ninputs = "cells"\ncells = 5')


def test_methods_hold_the_text_and_cite_the_library() -> None:
    study = load(f"\n  {CONV}  # the usual one\n", "bias_variance = 0.25")
    text = " ".join(study.methods())
    assert CONV.replace('"', "'") in text
    assert "usual" not in text
    assert "width = 4 and outputs = 10" in text
    assert "C_b = 0.25" in text
    assert "fully connected" not in text
    assert "Novak2020" in [one.key for one in study.references]
    assert "Novak2020" not in [one.key for one in studies.loads(tiny_text()).references]


def test_a_study_without_an_architecture_is_the_study_that_it_was() -> None:
    study = studies.loads(tiny_text())
    assert "architecture" not in study.content["network"]
    assert study.packages == ()
    assert load(DENSE).content["network"]["architecture"] == DENSE


def test_a_pool_costs_what_all_pairs_of_positions_cost() -> None:
    """Of 28 x 28 images; a batch of them is memory beside the matrices."""
    texts = (CONV, CONV.replace("Flatten()", "GlobalAvgPool()"), DENSE)
    none, pool, dense = (plan.make(load(text)) for text in texts)
    seconds = [sum(shard.seconds for shard in one.of_phase("curve")) for one in (none, pool, dense)]
    assert seconds[1] > 3 * seconds[0] > 3 * seconds[2]
    plain = plan.make(studies.loads(tiny_text(redraws=0).replace('source = "calorimeter"', 'source = "mnist"')))
    for one in (none, pool):
        study = load(CONV if one is none else texts[1])
        batch = kernel_batches.batch(network.stax_network(study), 784)
        held = kernel_batches.batch_bytes(network.stax_network(study), 784, batch)
        assert held > 2**26
        assert one.memory_bytes["curve"] >= plain.memory_bytes["curve"] + held
