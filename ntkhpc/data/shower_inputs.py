"""Energies in layers, rings or cells as inputs of a network."""

from typing import Literal

import numpy as np

from ntkhpc.data.source import Facts, Source
from ntkhpc.data.split import SCALED, Split, regression
from ntkhpc.errors import DataError
from ntkhpc.phase.settings import PositiveFloat

INPUTS = {
    "layers": "energies in the layers",
    "rings": "energies in square rings of cells around the axis of the particle, layer by layer",
    "cells": "energies in the cells of all layers",
}
"""What the inputs are, in words."""


class ShowerSource(Source, frozen=True, kw_only=True):
    """What generated and stored showers share: how their energies become inputs. The target is log E."""

    inputs: Literal["layers", "rings", "cells"] = "layers"
    threshold: PositiveFloat = 0.050
    scaling: Literal["global", "feature"] = "global"

    @property
    def noun(self) -> str:
        return "showers"

    @property
    def unit(self) -> str:
        return "GeV"

    @property
    def log_target(self) -> bool:
        return True

    @property
    def energy_target(self) -> bool:
        return True

    def preparation(self, facts: Facts) -> str:
        return (
            f"Inputs are the {facts.features:,} {INPUTS[self.inputs]}, as log(1 + energy/{1e3 * self.threshold:g} "
            f"MeV), {SCALED[self.scaling]}. The network learns log(E) of the incident energy E, standardised over "
            "the pool."
        )

    def _require_range(self, energy_min: float, energy_max: float) -> None:
        if energy_min >= energy_max:
            raise ValueError(f"energy_min = {energy_min} must be below energy_max = {energy_max} (GeV)")

    def _split(self, raw: np.ndarray, energy: np.ndarray) -> Split:
        """From inputs (n, features) and incident energies (n,) in GeV; the first `pool` showers are for training."""
        if not np.isfinite(raw).all():
            raise DataError(
                f"energies in units of data.threshold = {self.threshold:g} GeV are not finite",
                where="[data]",
                cause="a threshold that is no energy of a shower, or energies that are none",
                todo="leave data.threshold out, or compare with jobs/template.toml",
            )
        return regression(
            raw,
            energy[:, None],
            self.pool,
            log_target=self.log_target,
            scaling=self.scaling,
            keep_constant=True,  # cells that nothing ever reached
        )


def compressed(energy: np.ndarray, threshold: float) -> np.ndarray:
    """log(1 + energy / threshold), both in GeV; noise below zero counts as zero.

    Deposits span decades, and most of their information is in the logarithm.
    """
    with np.errstate(over="ignore"):  # what is infinite is refused by those who use it
        return np.log1p(np.maximum(energy, 0) / threshold)


def rings(cells: np.ndarray) -> np.ndarray:
    """(n, layers, rings) sums of cells (n, layers, size, size) over square rings around the centre."""
    size = cells.shape[-1]
    distance = np.abs(np.arange(size) - (size - 1) / 2)
    ring = np.floor(np.maximum(distance[:, None], distance)).astype(int)
    member = np.arange((size + 1) // 2)[:, None] == ring.ravel()
    return np.einsum("nlc,rc->nlr", cells.reshape(*cells.shape[:2], -1), member.astype(float))
