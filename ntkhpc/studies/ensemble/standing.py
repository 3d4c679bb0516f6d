"""What the law at infinite width is to the networks of a study: their own limit, or a reference beside them; in words.

A law of the algorithm itself, in the NTK parametrisation or with outputs over a fixed gamma, is their own. With
gamma = gamma0 sqrt(width) the law at fixed gamma is no limit: features move at every width, and it is called lazy. Of
centred networks it has no spread.
"""

import math
from typing import TYPE_CHECKING

from ntkhpc.output_scale import LAZY
from ntkhpc.studies.ensemble import algorithms, exact
from ntkhpc.words import numbers

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

CENTRED = (
    "Networks are centred: at infinite width all members are one, so that eps_L is all finite width. Its mean loss is "
    "that of the mean of the uncentred law"
)

CENTRED_ORDERS = (
    "Networks are centred: at infinite width members that have one order of mini-batches are one, and what is left of "
    "eps_L is the order and finite width. The law is the mixture over orders of means of the uncentred law"
)

CENTRED_REFERENCE = "Networks are centred, and so is the reference, which has no spread"

LAZY_LAW = (
    "Outputs are over gamma = {0}sqrt(width), with which features move at every width. The lazy law, that of "
    "infinite width at fixed gamma, is therefore a reference and no limit"
)


def is_own(study: "EnsembleStudy") -> bool:
    """Whether the law is the limit of the study's networks, with which their spread is compared."""
    return exact.has_law(study) and exact.has_curves(study)


def sentence(study: "EnsembleStudy") -> str:
    """What the law is, where it is not the networks' own; without the last full stop."""
    network, said = study.network, []
    if not exact.has_law(study):
        without = algorithms.without_law(study.training.algorithm)
        said.append(
            f"{without[0].upper()}{without[1:]}. Curves of infinite width are {algorithms.REFERENCE}, for reference"
        )
    if network.centred:
        said.append(_centred(study))
    elif network.parametrisation == "mup":
        said.append(LAZY_LAW.format("" if network.gamma0 == 1 else f"{network.gamma0:g} "))
    return ". ".join(said)


def _centred(study: "EnsembleStudy") -> str:
    if not exact.has_law(study):
        return CENTRED_REFERENCE
    return CENTRED if len(exact.orders(study)) == 1 else CENTRED_ORDERS


def short(study: "EnsembleStudy") -> str:
    """The same in a few words: what there is instead of exact curves."""
    if not exact.has_law(study):
        return algorithms.without_law(study.training.algorithm)
    if study.network.centred:
        alike = len(exact.orders(study)) == 1
        return "centred: no spread at infinite width" + ("" if alike else " but that of orders of mini-batches")
    return "the lazy law beside each width"


def lazy_widths(study: "EnsembleStudy") -> str:
    """Of networks with a fixed gamma, a sentence on the widths at which the law is lazy; empty for the others."""
    network = study.network
    wide = [width for width in network.widths if network.gamma / math.sqrt(width) > LAZY]
    if not (is_own(study) and network.is_scaled and wide):
        return ""
    return (
        f"At width {numbers(wide)} gamma/sqrt(width) is more than {LAZY:g}: features move there, and the law, which "
        "has none that do, is the lazy law, a reference."
    )
