"""Memory is projected within a fifth of the measured peak of each phase, alone in a worker of its own."""

from pathlib import Path

import pytest
from support import memory

from ntkhpc import studies
from ntkhpc.engine import run
from ntkhpc.engine.run import Run
from ntkhpc.studies.memory import MARGIN

SIZES = {
    "small ensemble": memory.ENSEMBLE.format(
        pool=512, test=200, widths=[16], n_train=[16, 32], members=20, curve=[32, 64], times=["steps", "infinite"]
    ),
    "middle ensemble": memory.ENSEMBLE.format(
        pool=4096, test=1500, widths=[16, 256], n_train=[32, 512], members=60, curve=[512, 1024],
        times=["steps", "infinite"],
    ),
    "small posterior": memory.POSTERIOR.format(
        n_train=32, test=100, widths=[16], sampler="hmc", neurons=200, populations=2
    ),
    "middle posterior": memory.POSTERIOR.format(
        n_train=400, test=800, widths=[300], sampler="hmc", neurons=1000, populations=2
    ),
}  # fmt: skip

CASES = [(size, phase) for size, text in SIZES.items() for phase in studies.layout(studies.loads(text)).phases]


@pytest.fixture(scope="module")
def runs_by_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder: Path = tmp_path_factory.mktemp("memory")
    return {size: run.create(folder, studies.loads(text)) for size, text in SIZES.items()}


@pytest.mark.promise("Memory is projected within a fifth of the measured peak, for every phase of both kinds of study.")
@pytest.mark.parametrize(("size", "phase"), CASES)
def test_a_phase_holds_at_its_peak_what_was_projected(size: str, phase: str, runs_by_size: dict[str, Run]) -> None:
    """In the order of the phases, each of which needs the ones before."""
    target = runs_by_size[size]
    missing = [one for one in target.layout.closure(phase) if target.missing(one)]
    for one in missing:  # this test was chosen alone
        memory.peak(target, [one])
    found = memory.peak(target, [phase])
    assert 0.8 < found.ratio < 1.25, str(found)


def test_what_jobs_ask_beyond_a_projection_covers_its_error() -> None:
    assert 0.8 * MARGIN >= 1
