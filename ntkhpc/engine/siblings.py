"""Runs that lie beside a run, and which of their chunks a shard could take instead of computing them.

Runs are found by their studies, and chunks by the names that a phase gives them (`phase.shared`). That a chunk is the
same is told by its key alone, in the receipt of the shard that wrote it: see `donors`. Another run may be damaged, of
another version, under way, or go away meanwhile: then it has nothing to give, and no error of it is one of this run.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntkhpc.engine import conflicts, kernels, receipts
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Manifest, Run
from ntkhpc.phase.layout import Layout
from ntkhpc.phase.phase import Phase
from ntkhpc.studies.base import Study

MOST = 64
"""Runs that are looked at, those whose receipts of the phase are the newest."""

FEW = 4
"""Runs of which it is remembered that they have a chunk: one may go away."""


@dataclass(frozen=True)
class Offer:
    """Where a chunk is: the number of it in the part of each array that a shard of a run wrote."""

    run: Run
    manifest: Manifest
    shard: Shard
    number: int


def offers(runs: Path, own: Path | None, study: Study, phase: Phase, code: str) -> dict[str, list[Offer]]:
    """Finished chunks of a phase, by their names, in all runs of a folder but the `own` one that agree with a study.

    Runs none of whose shards was computed by the code of this hash are left out.
    """
    found: dict[str, list[Offer]] = {}
    for path in _newest(runs, own, phase.name):
        with contextlib.suppress(Exception):  # whatever another run is, this one computes
            for name, offer in [*_of(Run(path, frozenset()), study, phase, code)]:
                if len(there := found.setdefault(name, [])) < FEW:
                    there.append(offer)
    return found


def _newest(runs: Path, own: Path | None, phase: str) -> list[Path]:
    ages: dict[Path, float] = {}
    with contextlib.suppress(OSError):
        for path in runs.iterdir():
            with contextlib.suppress(OSError):
                if not path.name.startswith(".") and (own is None or not path.samefile(own)):
                    ages[path] = (path / "receipts" / phase).stat().st_mtime
    return sorted(ages, key=lambda path: (-ages[path], path.name))[:MOST]


def _of(other: Run, study: Study, wanted: Phase, code: str) -> Iterator[tuple[str, Offer]]:
    manifest = other.manifest
    if manifest.code != code and not manifest.changes:
        return
    layout = other.layout
    phase = layout.phases.get(wanted.name)
    if phase is None or phase.shared is None or wanted.shared is None or kernels.are_freed(other):
        return
    if type(other.study) is not type(study) or phase.shared.decides(other.study) != wanted.shared.decides(study):
        return
    finished = other.finished(phase.name) - {conflicts.shard_of(path) for path in conflicts.records(other)}
    for shard in other.regions(phase.name) if finished else ():
        if shard.id in finished:
            for number, name in enumerate(phase.shared.names(other.study, layout.block(shard.region))):
                yield name, Offer(other, manifest, shard, number)


def givers(runs: Path, own: Path | None, layout: Layout, code: str) -> tuple[Path, ...]:
    """Runs of a folder that have something of what a study computes."""
    shared = [phase for phase in layout.phases.values() if phase.shared is not None]
    there = [one for phase in shared for one in offers(runs, own, layout.study, phase, code).values()]
    return tuple(dict.fromkeys(offer.run.path for one in there for offer in one))


def receipt(offer: Offer) -> Receipt | None:
    """The receipt of the shard that wrote what lies there."""
    return receipts.own(offer.run, offer.shard, offer.manifest)


@dataclass(frozen=True)
class Forecast:
    """How many `chunks` of a phase there are to come, how many of them other runs have, and the paths of these.

    `seconds` are left of one core, where all of them are taken.
    """

    phase: str
    known: int
    chunks: int
    runs: tuple[Path, ...]
    seconds: float


def forecast(
    runs: Path, own: Path | None, layout: Layout, shards: Mapping[str, Sequence[Shard]], code: str
) -> list[Forecast]:
    """What shards of a study, by phase, find if they run under the fingerprint of the runs beside them.

    `code` is the hash of the code that will compute them. The receipts of those that may be found are read.
    """
    made = (_forecast(runs, own, layout, phase, shards.get(phase.name, ()), code) for phase in layout.phases.values())
    return [one for one in made if one is not None and one.known]


def _forecast(
    runs: Path, own: Path | None, layout: Layout, phase: Phase, shards: Sequence[Shard], code: str
) -> Forecast | None:
    if phase.shared is None or not shards:
        return None
    there, fitting = offers(runs, own, layout.study, phase, code), _Fitting(code, layout.study)
    givers, known, chunks, seconds = dict[Path, None](), 0, 0, 0.0
    for shard in shards:
        block = layout.block(shard.region)
        found = [fitting.first(there.get(name, ())) for name in phase.shared.names(layout.study, block)]
        givers |= dict.fromkeys(one.run.path for one in found if one is not None)
        known, chunks = known + len([one for one in found if one is not None]), chunks + len(found)
        seconds += phase.shared.seconds(layout.study, block, [one is not None for one in found])
    return Forecast(phase.name, known, chunks, tuple(givers), seconds)


class _Fitting:
    """Which shards were computed by code of this hash, with the study's settings that decide bits, and say what their
    chunks were made from."""

    def __init__(self, code: str, study: Study):
        self._code, self._numerics = code, study.numerics
        self._known: dict[tuple[Path, str], bool] = {}

    def first(self, found: Sequence[Offer]) -> Offer | None:
        return next((one for one in found if self._fits(one)), None)

    def _fits(self, offer: Offer) -> bool:
        at = (offer.run.path, offer.shard.id)
        if at not in self._known:
            self._known[at] = False
            with contextlib.suppress(Exception):  # whatever another run is, this one computes
                found = receipt(offer)
                self._known[at] = found is not None and self._agrees(found)
        return self._known[at]

    def _agrees(self, found: Receipt) -> bool:
        same = all(found.fingerprint.get(name) == value for name, value in self._numerics.items())
        return same and found.code == self._code and bool(found.keys)
