"""Phase `nngp_factor`: the Cholesky factor of the NNGP kernel and its noise, where a posterior goes beyond one tile."""

from typing import TYPE_CHECKING

from ntkhpc.studies.ensemble.factor import Factored
from ntkhpc.studies.ensemble.kernel import is_tiled

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy


def is_wanted(study: "EnsembleStudy") -> bool:
    return is_tiled(study) and "posterior" in study.infinite_width.times


PHASE = Factored(
    "kernel_nngp",
    "noise",
    "nngp_factor",
    "Cholesky factor of the NNGP kernel and its noise, in the same tiles; the rows of the test points are K_*X L^-T",
).phase("nngp_factor", is_wanted)
