"""What the variants of a comparison do not have in common: fields of their studies, and their scales of the outputs."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from analysis.comparison.results import Variant
from ntkhpc.output_scale import OutputScale
from ntkhpc.studies.ensemble.network import Network
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.words import joined

LOOKED_AT = ("training", "network")
"""Sections in which variants may differ."""


def fields(variants: Iterable[Variant]) -> list[str]:
    """By their place in a study, "training.optimiser", fields of which not all variants have the same value."""
    found = [dict(_flat(one.results.study)) for one in variants]
    return [name for name in found[0] if any(one.get(name) != found[0][name] for one in found)]


def settings(variants: Iterable[Variant]) -> dict[str, dict[str, Any]]:
    """By variant: the values of `fields`."""
    known = list(variants)
    names = fields(known)
    return {one.name: {name: dict(_flat(one.results.study))[name] for name in names} for one in known}


def _flat(study: EnsembleStudy) -> Iterator[tuple[str, Any]]:
    for section in LOOKED_AT:
        yield from _below(msgspec.to_builtins(getattr(study, section)), f"{section}.")


def _below(table: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _below(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


OTHER_WEIGHTS = ("network.depth", "network.architecture", "network.bias_variance", "training.precision")
"""Fields of which other values draw other weights from the same seed, if only of some layers."""


def pairing(variants: Iterable[Variant]) -> str:
    """What members of one number have in common, in a sentence."""
    changed = [name.rpartition(".")[2] for name in fields(variants) if name in OTHER_WEIGHTS]
    if not changed:
        return "members of one number begin with the same weights in all variants."
    return f"members of one number begin with the same weights in variants of one {joined(changed)}."


def scale(variant: Variant, width: int) -> OutputScale:
    """Of the outputs of its networks of a width."""
    return variant.results.study.network.output_scale(width)


def strength(variant: Variant, width: int) -> float:
    """gamma/sqrt(width): how much features move, gamma0 of the mu-parametrisation."""
    return scale(variant, width).gamma / math.sqrt(width)


def unscaled(network: Network) -> Network:
    """The same with outputs over 1: equal of networks that differ in the size of their outputs alone."""
    return msgspec.structs.replace(network, parametrisation="ntk", gamma=1.0, gamma0=1.0)


def centred_pairs(variants: Iterable[Variant]) -> list[tuple[Variant, Variant]]:
    """(uncentred, centred): variants that are alike but for the centring."""
    known = list(variants)
    return [
        (one, other)
        for one in known
        for other in known
        if not one.results.study.network.centred
        and other.results.study.network == msgspec.structs.replace(one.results.study.network, centred=True)
        and other.results.study.training == one.results.study.training
    ]


def by_strength(variants: Iterable[Variant]) -> list[Variant]:
    """The uncentred variants, as many as there are, that differ in the size of their outputs alone, from the weakest
    feature movement to the strongest at the first width; fewer than 2 are none."""
    groups: list[list[Variant]] = []
    for one in variants:
        study = one.results.study
        if study.network.centred:
            continue
        mine = next((group for group in groups if _alike(group[0].results.study, study)), None)
        if mine is None:
            groups.append([one])
        else:
            mine.append(one)
    largest = max(groups, key=len, default=[])
    if len(largest) < 2:
        return []
    width = largest[0].results.study.network.widths[0]
    return sorted(largest, key=lambda one: strength(one, width))


def _alike(one: EnsembleStudy, other: EnsembleStudy) -> bool:
    """But for the scale. Rates of layers go with the parametrisation where an optimiser has no stability bound, and
    fall beyond gamma0 = 1: what differs in those differs in more."""
    bound = one.training.algorithm.entry.bound
    same_rates = one.network.rate_factor == other.network.rate_factor and (
        bound is not None or one.network.parametrisation == other.network.parametrisation
    )
    return one.training == other.training and unscaled(one.network) == unscaled(other.network) and same_rates
