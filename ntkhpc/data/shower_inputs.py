"""Energies in layers, rings or cells as inputs of a network."""

import numpy as np


def compressed(energy: np.ndarray, threshold: float) -> np.ndarray:
    """log(1 + energy / threshold), both in GeV; noise below zero counts as zero.

    Deposits span decades, and most of their information is in the logarithm.
    """
    return np.log1p(np.maximum(energy, 0) / threshold)


def rings(cells: np.ndarray) -> np.ndarray:
    """(n, layers, rings) sums of cells (n, layers, size, size) over square rings around the centre."""
    size = cells.shape[-1]
    distance = np.abs(np.arange(size) - (size - 1) / 2)
    ring = np.floor(np.maximum(distance[:, None], distance)).astype(int)
    member = np.arange((size + 1) // 2)[:, None] == ring.ravel()
    return np.einsum("nlc,rc->nlr", cells.reshape(*cells.shape[:2], -1), member.astype(float))
