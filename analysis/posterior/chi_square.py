"""Whether deviations of the samples from each theory are statistical, below the losses."""

from typing import Any

import numpy as np

from analysis.posterior.results import PosteriorResults
from analysis.report.numbers import chance, two_digits
from analysis.report.section import Section
from analysis.scaling import plain


def chi_squares(results: PosteriorResults) -> list[str]:
    """Are the deviations statistical? Theory is an approximation, so they need not be."""
    found = results.chi_square
    if found is None:
        return []
    cells, said = results.sampled_cells, []
    for who, value, count, p, deviations in (
        ("finite-width theory", found.finite, found.cells, found.p_finite, [c.deviation for c in cells]),
        ("infinite width", found.infinite, found.cells, found.p_infinite, [c.infinite_deviation for c in cells]),
        ("adaptive kernel, its own errors included", found.adaptive, found.adaptive_cells, found.p_adaptive,
         [c.adaptive_deviation for c in cells if c.is_adaptive]),
    ):  # fmt: skip
        if not count:
            continue
        verdict = "the samples cannot tell it from exact" if p > 0.01 else "deviations are more than statistical"
        said.append(
            f"{who}: chi squared {value:.3g} for {count} cells ({chance(p)}): {verdict}; the median size of "
            f"deviations is {two_digits(100 * float(np.median(np.abs(deviations))))} %"
        )
    return said


def fits(results: PosteriorResults) -> dict[str, Any]:
    chi = results.chi_square
    if chi is None:
        return {}
    return {
        "chi_square": {
            "cells": chi.cells, "finite_width": chi.finite, "infinite_width": chi.infinite,
            "p_finite_width": chi.p_finite, "p_infinite_width": chi.p_infinite,
            "adaptive_kernel_cells": chi.adaptive_cells, "adaptive_kernel": plain(chi.adaptive),
            "p_adaptive_kernel": plain(chi.p_adaptive),
        }
    }  # fmt: skip


SECTION: Section[PosteriorResults] = Section(sentences=lambda results: [chi_squares(results)], fits=fits)
