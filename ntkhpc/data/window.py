"""Shares of a radial profile that fall into the square cells around its axis, in closed form.

With 2 r R^2/(r^2 + R^2)^2 uniform in azimuth, the density in the plane is R^2/(pi (r^2 + R^2)^2). Its integral over the
rectangle from the axis to (x, y) is F = [x/X atan(y/X) + y/Y atan(x/Y)]/(2 pi), X^2 = x^2 + R^2, Y^2 = y^2 + R^2, and
the integral over a cell is a difference of F at its corners.
"""

from functools import lru_cache

import numpy as np


def corners(edges: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """First half of F at all pairs of `edges` (m,) for each R of `radius` (...,): (..., m, m), not yet symmetrised.

    F is this plus its transpose. Halves may be averaged over R first, which saves half of the arctangents.
    """
    root = np.sqrt(edges**2 + radius[..., None] ** 2)
    return (edges / root)[..., :, None] * np.arctan(edges / root[..., :, None]) / (2 * np.pi)


def edges(cells: int, cell_mm: float) -> np.ndarray:
    """Edges of the cells in mm on one side of the axis, (ceil(cells/2),); that at zero, if any, is left out."""
    return (np.arange((cells + 1) // 2) + (0.5 if cells % 2 else 1.0)) * cell_mm


def shares(half: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """From halves of F (..., m, m) the share in the window (...,) and in its cells (..., cells**2), which sum to 1.

    Cells are in the order of `inner_first`. Where nothing falls into the window the first cell is given all.
    """
    quadrant = half + np.swapaxes(half, -1, -2)
    inside = np.clip(4 * quadrant[..., -1, -1], 0, 1)
    if cells % 2:  # the innermost cell reaches from -edge to edge, and F is odd in both coordinates
        quadrant = np.concatenate([-quadrant[..., :1, :], quadrant], axis=-2)
        quadrant = np.concatenate([-quadrant[..., :, :1], quadrant], axis=-1)
    else:
        quadrant = np.pad(quadrant, [(0, 0)] * (quadrant.ndim - 2) + [(1, 0), (1, 0)])
    cell = np.maximum(np.diff(np.diff(quadrant, axis=-1), axis=-2), 0)
    cell = np.take(cell.reshape(*inside.shape, cell.shape[-1] ** 2), _images(cells), axis=-1)
    total = cell.sum(axis=-1, keepdims=True)
    cell[..., :1] = np.where(total > 0, cell[..., :1], 1)
    return inside, cell / np.where(total > 0, total, 1)


@lru_cache
def inner_first(cells: int) -> np.ndarray:
    """Flat numbers (cells**2,) of the cells by distance from the axis: a multinomial draw ends with its last spot."""
    apart = np.arange(cells) - (cells - 1) / 2
    return np.argsort((apart[:, None] ** 2 + apart**2).ravel(), kind="stable")


@lru_cache
def _images(cells: int) -> np.ndarray:
    """For each cell in the order of inner_first, the cell of the quadrant it is a mirror image of, (cells**2,)."""
    away = (np.abs(2 * np.arange(cells) + 1 - cells) // 2).astype(np.int64)
    return (away[:, None] * ((cells + 1) // 2) + away).ravel()[inner_first(cells)]
