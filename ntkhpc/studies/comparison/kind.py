"""Kind `comparison`: the dimensions and phases of an ensemble, for every variant."""

from collections.abc import Callable
from typing import Any

from ntkhpc.phase.block import Block
from ntkhpc.phase.kind import Kind
from ntkhpc.phase.phase import Phase
from ntkhpc.studies import analysis
from ntkhpc.studies.comparison import data, lifted
from ntkhpc.studies.comparison.study import ComparisonStudy
from ntkhpc.studies.ensemble import curve, law, moments, recheck, redraws, train
from ntkhpc.studies.ensemble import kind as of_ensemble
from ntkhpc.studies.ensemble.probe import speed

_OF_KERNELS = ("factor_column", "kernel_tile", "tile_row", "tile_column", "error_part")
"""Dimensions of what a comparison does not compute: kernels in tiles, and curves without any."""

_OF_LEAPS = ("leap_member", "leap_tile")
"""The same of networks that are trained in leaps."""

DIMS = (lifted.DIM, *(lifted.dim(one) for one in of_ensemble.DIMS if one.name not in (*_OF_KERNELS, *_OF_LEAPS)))

CONSTANTS = tuple(map(lifted.constant, of_ensemble.CONSTANTS))


def _is_any_lazy(study: ComparisonStudy) -> bool:
    return any(map(law.is_lazy, study.ensembles))


def _lifted(*phases: Phase, when: Any = lambda study: True) -> Phase:
    return lifted.phase(*phases, dims=of_ensemble.DIMS, shared=data.SHARED, when=when)


_PHASES = (
    data.PHASE,
    _lifted(train.PHASE),
    _lifted(law.PHASE, when=lambda study: not _is_any_lazy(study)),
    _lifted(law.LAZY_PHASE, law.PHASE, when=_is_any_lazy),
    _lifted(curve.PHASE),
    _lifted(redraws.PHASE),
    _lifted(moments.PHASE),
    _lifted(recheck.PHASE),
)


def _analysis_seconds(study: ComparisonStudy, block: Block) -> float:
    return sum(of_ensemble.analysis_seconds(ensemble, block) for ensemble in study.ensembles)


def _analysis_bytes(study: ComparisonStudy) -> int:
    """What the report of the largest takes, and what is kept of the others."""
    each = [of_ensemble.analysis_bytes(ensemble) for ensemble in study.ensembles]
    return max(each) + sum(map(of_ensemble.kept_bytes, study.ensembles))


def remarks(study: ComparisonStudy, load: Callable[[str], Any]) -> tuple[str, ...]:
    """What a user must know before using the results, by variant."""
    each = zip(study.variants, study.ensembles, load("members_used"), strict=True)
    return tuple(
        f"{variant.name}: {text}" for variant, ensemble, used in each for text in of_ensemble.remarks_on(ensemble, used)
    )


KIND = Kind(
    "comparison",
    ComparisonStudy,
    title="Test loss over initialisation ensembles, compared",
    loss=of_ensemble.KIND.loss,
    dims=DIMS,
    constants=CONSTANTS,
    phases=(
        *_PHASES,
        analysis.phase(
            _PHASES, seconds=_analysis_seconds, memory_bytes=_analysis_bytes, lower="data.test or ensemble.members"
        ),
    ),
    probe=lambda study: speed(study.base),
    smaller=of_ensemble.KIND.smaller,
    remarks=remarks,
)
