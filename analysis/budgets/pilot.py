"""What a run that is there tells a study that is planned: the spread of its networks, the worth of leaps, the speed.

A pilot has the data, the network and the training of the study, and all its widths and sizes; it may have fewer
members and draws, and another seed. Leaps of another `leap_tolerance` are other leaps: nothing is learned from them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray
from msgspec import structs

from analysis import estimators
from analysis.budgets.foreseen import VALUES, Covariances, Foreseen, with_usual_leaps
from analysis.budgets.pilot_leaps import Judged
from analysis.opened import opened
from ntkhpc.engine import receipts, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError
from ntkhpc.studies.base import Study
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import OK

ENOUGH = 100
"""Members by which spreads are measured: of fewer, the error of sigma_L is known less well than by the law."""

PAIRS = 20
"""Networks that were trained and leapt, by which the worth of leaps is measured."""

_RECEIPTS = 100
"""Of a phase, by which its speed is known."""


@dataclass(frozen=True)
class Pilot:
    """Measured covariances by members, None where there are too few, in cells of the study; and seconds.

    `members` are those that tell the spread, trained or else leapt ones, the fewest of a cell. `judged` is of leaps of
    the tolerance of the study; where they are refused, or too few to be judged, nothing is taken from them.
    `factors` are measured over projected seconds of phases, on a `processor` that is "core" or "GPU".
    """

    path: Path
    members: int
    judged: Judged
    trained: Covariances | None
    leapt: Covariances | None
    difference: Covariances | None
    factors: Mapping[str, float]
    processor: str

    def improve(self, found: Foreseen | None, study: EnsembleStudy) -> Foreseen | None:
        """What the law foresees, with what is measured in its place; None where neither tells the spread."""
        widths = tuple(f"width {width:,}" for width in study.network.widths)
        if self.trained is not None:
            leapt, difference = with_usual_leaps(self.trained)
            found = replace(
                found or Foreseen.of_nothing(study), widths=widths, trained=self.trained, leapt=leapt,
                difference=difference, common=found.trained if found else None,
            )  # fmt: skip
        if found is None or self.difference is None:
            return found
        trained = found.trained
        if len(found.widths) < len(widths):  # those of the law are one
            trained = {name: np.repeat(one, len(widths), axis=0) for name, one in trained.items()}
        return replace(found, widths=widths, trained=trained, leapt=self.leapt or trained, difference=self.difference)

    @property
    def bias(self) -> float | None:
        """The mean of L_leap/L - 1 in the cell where it is largest; None where there are too few pairs."""
        return self.judged.bias if self.difference is not None else None

    @property
    def said(self) -> str:
        """In a sentence, what of it is used."""
        used = [f"the spread of {self.members:,} networks"] if self.trained is not None else []
        if self.difference is not None:
            bias = f"a bias of {100 * self.judged.bias:+.2g} % in the cell where it is largest"
            used.append(f"the worth of leaps by {self.judged.pairs:,} networks, with {bias}")
        used += ["seconds of its receipts"] if self.factors else []
        few = f"; {self.members:,} networks are too few to tell the spread" if self.trained is None else ""
        return f"measured by the run {self.path}: {', '.join(used) or 'nothing'}{few}"


def find(runs: Path, study: EnsembleStudy) -> Pilot | None:
    """The best pilot of a folder of runs: that with the most members. Runs that cannot be read are passed over."""
    found = [pilot for one in _runs(runs, study) if (pilot := _measured(one, study)) is not None]
    return max(found, key=lambda pilot: (pilot.members, pilot.judged.pairs), default=None)


def _runs(runs: Path, study: EnsembleStudy) -> Iterator[Run]:
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        try:
            if (path / "manifest.json").is_file() and fits((one := run.load(path)).study, study):
                yield one
        except (NtkhpcError, OSError):
            continue


def fits(theirs: Study, wanted: EnsembleStudy) -> bool:
    """Whether networks of a study are those of the wanted one, in all its cells."""
    if type(theirs) is not type(wanted):
        return False
    theirs = theirs.of_kind(EnsembleStudy)
    alike = structs.replace(theirs.network, widths=wanted.network.widths) == wanted.network
    return (
        alike
        and theirs.training == wanted.training
        and theirs.content["data"] == wanted.content["data"]
        and set(theirs.network.widths) >= set(wanted.network.widths)
        and set(theirs.ensemble.n_train) >= set(wanted.ensemble.n_train)
    )


def _measured(pilot: Run, study: EnsembleStudy) -> Pilot | None:
    """None where no network was trained."""
    try:
        store = opened(pilot).sel(width=list(study.network.widths), n_train=list(study.ensemble.n_train))
        losses = _losses(store, "test_loss", "status", "member")
        leaps = _losses(store, "leap_loss", "leap_status", "leap_member") if _leaps_alike(pilot, study) else None
    except NtkhpcError:
        return None
    members, number, judged, leapt, difference = _fewest(losses), 0, Judged(), None, None
    if leaps is not None:
        both = min(losses.shape[-1], leaps.shape[-1])
        one, other = losses[..., :both], leaps[..., :both]
        there = np.isfinite(one) & np.isfinite(other)
        one, other = (np.where(there, values, np.nan) for values in (one, other))
        judged = Judged.of(one, other, study.network.widths, study.ensemble.n_train)
        number = _fewest(leaps) if judged.accepted else 0
        leapt = covariances(leaps, leaps) if number >= ENOUGH else None
        difference = covariances(one, other, differ=True) if judged.accepted and judged.pairs >= PAIRS else None
    if not max(members, number):
        return None
    trained = covariances(losses, losses) if members >= ENOUGH else leapt
    members = members if members >= ENOUGH else max(members, number)
    factors, processor = _speed(pilot)
    return Pilot(pilot.path, members, judged, trained, leapt, difference, factors, processor)


def _leaps_alike(pilot: Run, study: EnsembleStudy) -> bool:
    """Whether there are leaps of the tolerance that those of the study have, or would have."""
    theirs = pilot.study.of_kind(EnsembleStudy).ensemble
    return theirs.leapt > 0 and theirs.leap_tolerance == study.ensemble.leap_tolerance


def _losses(store: xarray.Dataset, loss: str, status: str, members: str) -> np.ndarray:
    """(width, draw, size, member), NaN for those that are not there."""
    there = store[loss].where(store[status] == OK)
    return np.asarray(there.transpose("width", "draw", "n_train", members).values, float)


def _fewest(losses: np.ndarray) -> int:
    return int(np.isfinite(losses).sum(axis=-1).min())


def covariances(losses: np.ndarray, others: np.ndarray, *, differ: bool = False) -> dict[str, np.ndarray]:
    """By quantity (width, draw, size, draw, size), of the logarithms times the number of members, by the jackknife.

    From losses (width, draw, size, member); with `differ` of the difference to the same members' `others`.
    """
    moved, count = _deviates(losses), np.isfinite(losses).sum(axis=-1, keepdims=True)
    if differ:
        theirs = _deviates(others)
        moved = {name: one - theirs[name] for name, one in moved.items()}
    root = np.sqrt(count)
    return {name: np.einsum("waim,wbjm->waibj", root * one, root * one) for name, one in moved.items()}


def _deviates(losses: np.ndarray) -> dict[str, np.ndarray]:
    """What each member does to the logarithms, by quantity."""
    mu, variance = estimators.leave_one_out(losses)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_mu, log_sigma = np.log(mu), np.log(variance) / 2
    logarithms = dict(zip(VALUES, (log_mu, log_sigma, log_sigma - log_mu), strict=True))
    return {name: estimators.deviates(one, np.isfinite(losses)) for name, one in logarithms.items()}


def _speed(pilot: Run) -> tuple[dict[str, float], str]:
    """Measured over projected seconds of each phase, of shards that were computed in one go; and on what."""
    factors, processor = {}, "core"
    for phase in pilot.plan.phases:
        finished = pilot.finished(phase)
        shards = [shard for shard in pilot.plan.of_phase(phase) if shard.id in finished]
        shards = shards[:: max(1, len(shards) // _RECEIPTS)]
        read = [(shard, receipts.read(pilot, shard)) for shard in shards]
        whole = [(shard.seconds, one) for shard, one in read if one is not None and not one.tiles_reused]
        if whole:
            factors[phase] = sum(one.seconds for _, one in whole) / sum(seconds for seconds, _ in whole)
            if any(one.fingerprint.get("platform", "cpu") != "cpu" for _, one in whole):
                processor = "GPU"
    return factors, processor
