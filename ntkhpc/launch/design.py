"""Error budgets before a submission: what networks, leaps and draws reach an error, and the cheapest study of them."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ntkhpc import files, studies
from ntkhpc.engine import plan
from ntkhpc.errors import StudyError
from ntkhpc.launch import speed, study_file
from ntkhpc.launch.profile import Profile
from ntkhpc.studies import content
from ntkhpc.studies.base import Study
from ntkhpc.studies.ensemble import algorithms, standing, train
from ntkhpc.studies.ensemble.study import EnsembleStudy

if TYPE_CHECKING:  # loaded where they are needed: they take seconds
    from analysis.budgets.budget import Design, Seconds, Target, Way
    from analysis.budgets.foreseen import Foreseen
    from analysis.budgets.pilot import Pilot

ALL = "all of these"

BIASED = "leaps: their bias, of {}, is not in the error, as trained networks alone tell it; no study file is of them"

_SAMPLE = 100
"""Networks of the study by which the cost of one is projected."""

_LEAST = 2
"""Networks that a study of leaps alone trains: it has to have some."""


@dataclass(frozen=True)
class Goal:
    """What a user asks for: an error, of one quantity or of all, and where the study file goes."""

    error: float
    quantity: str = ""
    out: Path | None = None

    def of(self, quantity: str) -> str:
        """The error in words: that of an exponent is absolute, of all other quantities relative."""
        relative, absolute = f"{100 * self.error:g} %", f"{self.error:g}"
        if quantity == ALL:
            return f"{relative}, of exponents {absolute}"
        return absolute if quantity.startswith("exponent") else relative

    def require_sense(self, known: Sequence[str]) -> None:
        """Raises StudyError for a quantity that is none, and for a file that is there or cannot be made."""
        if self.quantity and self.quantity not in known:
            close = difflib.get_close_matches(self.quantity, known, n=1)
            raise StudyError(
                f"QUANTITY={self.quantity} is none" + (f"; did you mean {close[0]}?" if close else ""),
                cause=f"there are: {', '.join(known)}",
                todo="name one of them, or none for all of them together",
            )
        if self.out is None:
            return
        if self.out.suffix != ".toml":
            raise StudyError("the study file must end with .toml", where=self.out, todo=f"OUT={self.out}.toml")
        if files.is_there(self.out) or not self.out.absolute().parent.is_dir():
            there = files.is_there(self.out)
            raise StudyError(
                "the study file is there already" if there else "the folder of the study file is not there",
                where=self.out.absolute(),
                cause="it may be of use, and is not written over" if there else None,
                todo="name another file with OUT=",
            )


@dataclass(frozen=True)
class Clock:
    """Seconds of a phase against those projected for a reference core, of a processor, and how they are known."""

    factors: dict[str, float]
    usual: float
    processor: str
    said: str

    def seconds(self, planned: plan.Plan) -> float:
        return sum(shard.seconds * self.factors.get(shard.phase, self.usual) for shard in planned.shards)


@dataclass(frozen=True)
class Choice:
    """One way to reach the error of a quantity: the design, its study and the hours of all its phases."""

    quantity: str
    design: "Design"
    study: EnsembleStudy
    hours: float
    points: int


def show(wanted: Study, path: Path, goal: Goal, runs: Path, profile: Profile | None, console: Console) -> None:
    """Print the budget of every quantity, the cheapest way first, and the study file, or write it.

    `path` is the file of the study. Raises StudyError where there is no budget, saying why.
    """
    from analysis.budgets import foreseen as foreseeing
    from analysis.budgets import pilot as pilots

    goal.require_sense(foreseeing.QUANTITIES)
    study = _ensemble(wanted, path)
    pilot = pilots.find(runs, study)
    law = _law(study, console) if standing.is_own(study) else None
    known = pilot.improve(law, study) if pilot else law
    if known is None:
        raise StudyError(_unknown(study), where=path, cause=_lacking(pilot), todo=_try(study))
    clock = _clock(study, pilot, profile)
    console.print(f"study [bold]{escape(study.name)}[/bold], to {goal.of(goal.quantity or ALL)}")
    for line in _sources(known, law, pilot, clock, study):
        console.print(f"  {escape(line)}")
    quantities = [goal.quantity] if goal.quantity else list(foreseeing.QUANTITIES)
    found: list[Choice] = []
    notes: list[str] = []
    together: list[Target] = []
    ways, bias = _ways(study, clock, pilot, notes), None if pilot is None else pilot.bias
    for quantity in quantities:
        try:
            targets = known.targets(quantity)
        except ValueError as error:
            notes.append(str(error))
            continue
        together += targets
        found += _choices(quantity, targets, ways, study, goal, clock, bias, notes)
    if len(quantities) > 1 and together:
        found += _choices(ALL, together, ways, study, goal, clock, bias, notes)
    console.print(_table(found, clock))
    console.print(
        "  error: of values relative, in %, of exponents absolute; h: of all phases; N_T: test points so that another "
        "test set changes no more"
    )
    for note in dict.fromkeys(notes):
        console.print(escape(f"  {note}"))
    last = [choice for choice in found if choice.quantity == (goal.quantity or ALL) and choice.design.way != "leaps"]
    if any(choice.design.way == "leaps" for choice in found):
        console.print(f"  {BIASED.format('about 1 %' if bias is None else f'{100 * bias:+.2g} % as measured')}")
    if not last:
        raise StudyError("no study reaches this error", where=path, cause="; ".join(dict.fromkeys(notes)))
    _hand_over(last[0], path, goal, clock, console)


def _ensemble(wanted: Study, path: Path) -> EnsembleStudy:
    try:
        return wanted.of_kind(EnsembleStudy)
    except TypeError:
        raise StudyError(
            "budgets are made for studies of one ensemble",
            where=path,
            cause=f"this is a study of kind {studies.kind_of(wanted).name!r}",
            todo='take a study of kind "ensemble"; of a comparison, one of its variants by itself',
        ) from None


def _law(study: EnsembleStudy, console: Console) -> "Foreseen":
    from analysis.budgets import foreseen_law

    split = study.data.load(study.known)
    if (seconds := foreseen_law.seconds(study)) > 60:
        console.print(f"the exact laws of this study take about {seconds / 60:.0f} min of one core")
    return foreseen_law.foresee(study, split)


def _unknown(study: EnsembleStudy) -> str:
    return f"without a law of its own networks nobody knows their spread: {standing.short(study)}"


def _lacking(pilot: "Pilot | None") -> str:
    from analysis.budgets.pilot import ENOUGH

    if pilot is None:
        return f"no run has the same networks, at all widths and sizes, which with {ENOUGH} of them would tell it"
    return f"the run {pilot.path} has {pilot.members:,} networks in a cell, {ENOUGH} would tell it"


def _try(study: EnsembleStudy) -> str:
    from analysis.budgets.pilot import ENOUGH

    return f"run a pilot, this study with ensemble.members = {ENOUGH} and draws = 1, then make design again"


def _sources(
    known: "Foreseen", law: "Foreseen | None", pilot: "Pilot | None", clock: Clock, study: EnsembleStudy
) -> Iterable[str]:
    if pilot is None or pilot.trained is None:
        yield "spread of the loss by the exact law at infinite width: narrow networks may spread more or less"
    if pilot is not None:
        yield pilot.said
    yield f"time: {clock.said}"
    if any(known.draw.get(name) is None for name in ("mu_L", "eps_L")):
        yield (
            "exponents are those of the draws of the training set that there are: what others would change is "
            + (f"not known for {algorithms.name(study.training.algorithm)}" if law is None else "told by several "
               "infinite_width.redraws of a larger data.pool")
        )  # fmt: skip


def _clock(study: EnsembleStudy, pilot: "Pilot | None", profile: Profile | None) -> Clock:
    if pilot is not None and pilot.factors:
        usual = pilot.factors.get(train.PHASE.name, 1.0)
        return Clock(dict(pilot.factors), usual, pilot.processor, f"as measured in {pilot.path}")
    if profile is not None and (timed := speed.speeds(profile, study.id)):
        phases = {phase: profile.partition_of(phase) for phase in studies.layout(study).phases}
        factors = {phase: 1 / timed[label] for phase, label in phases.items() if label in timed}
        gpu = profile[train.PHASE.name].gpu
        return Clock(factors, 1.0, "GPU" if gpu else "core", f"make doctor timed it on {profile.name}")
    return Clock({}, 1.0, "core", "projected for one reference core")


def _choices(
    quantity: str,
    targets: "Sequence[Target]",
    ways: "Sequence[tuple[Way, Seconds]]",
    study: EnsembleStudy,
    goal: Goal,
    clock: Clock,
    bias: float | None,
    notes: list[str],
) -> list[Choice]:
    """The ways that reach the error, the cheapest first; `notes` says of the others why they do not."""
    from analysis.budgets import budget

    found = []
    for way, seconds in ways:
        try:
            design = budget.cheapest(
                targets, seconds, goal.error, way,
                fewest_draws=study.ensemble.draws, multiple=study.ensemble.tile,
                bias=budget.BIAS if bias is None else abs(bias),
            )  # fmt: skip
            made = _made(study, design.trained, design.leapt, design.draws)
            hours = clock.seconds(plan.make(made)) / 3600
        except ValueError as error:
            notes.append(f"{quantity} by {way}: {error}")
            continue
        except StudyError as error:  # more shards than are planned
            notes.append(f"{quantity} by {way}: {'; '.join(filter(None, (error.what, error.cause, error.todo)))}")
            continue
        points = budget.points_needed(targets, goal.error, study.data.test)
        found.append(Choice(quantity, design, made, hours, points))
    return sorted(found, key=lambda choice: choice.hours)


def _ways(study: EnsembleStudy, clock: Clock, pilot: "Pilot | None", notes: list[str]) -> "list[tuple[Way, Seconds]]":
    """What networks and draws of the study take, in each way that is open to it; `notes` says why leaps are not."""
    from analysis.budgets.budget import FEWEST, Seconds

    def seconds(trained: int, leapt: int, draws: int) -> float:
        return clock.seconds(plan.make(_made(study, trained, leapt, draws)))

    one = seconds(_SAMPLE, 0, 1)
    trained = (seconds(2 * _SAMPLE, 0, 1) - one) / _SAMPLE
    draw = seconds(_SAMPLE, 0, 2) - one - _SAMPLE * trained
    ways: list[tuple[Way, Seconds]] = [("training", Seconds(trained, draw=draw))]
    if pilot is not None and pilot.judged.refusal:
        notes.append(f"leaps are refused, as the run {pilot.path} has them: {pilot.judged.refusal}")
        return ways
    try:
        leapt = (seconds(FEWEST, 2 * _SAMPLE, 1) - seconds(FEWEST, _SAMPLE, 1)) / _SAMPLE
    except ValueError as error:
        notes.append(f"leaps are not open to this study: {error}")
        return ways
    return [*ways, ("leaps", Seconds(trained, leapt, draw)), ("both", Seconds(trained, leapt, draw))]


def _made(study: EnsembleStudy, trained: int, leapt: int, draws: int) -> EnsembleStudy:
    """With so many networks, of which no leapt ones is training. Raises ValueError where leaps are not known."""
    usual = content.introduced(type(study.ensemble))
    fields = {name: usual[name] for name in study_file.OF_LEAPS} | {"members": trained}
    if leapt:
        fields = {"method": "leaps", "leap_members": 0, "members": leapt, "validation": trained or _LEAST}
    return structs.replace(study, ensemble=structs.replace(study.ensemble, draws=draws, **fields))


def _table(found: Sequence[Choice], clock: Clock) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    columns = ("quantity", "by", "trained", "leapt", "share", "draws", "error", f"{clock.processor} h", "N_T")
    for column in columns:
        table.add_column(column, justify="left" if column in ("quantity", "by") else "right", no_wrap=True)
    before = ""
    for choice in found:
        one = choice.design
        error = _promised(one) + (" + bias" if one.way == "leaps" else "")
        share = f"{100 * one.trained / one.leapt:.2g} %" if one.leapt and one.trained else ""
        table.add_row(
            choice.quantity if choice.quantity != before else "", one.way, f"{one.trained:,}" if one.trained else "-",
            f"{one.leapt:,}" if one.leapt else "", share, str(one.draws), error,
            f"{choice.hours:,.2g}", f"{choice.points:,}" if choice.points else "",
        )  # fmt: skip
        before = choice.quantity
    return table


def _promised(design: "Design") -> str:
    return f"{design.error:.2g}" if design.absolute else f"{100 * design.error:.2g} %"


def _hand_over(choice: Choice, path: Path, goal: Goal, clock: Clock, console: Console) -> None:
    one = choice.design
    text = (
        f"# {choice.quantity} to {goal.of(choice.quantity)}, by {one.way}: {_promised(one)} is promised for "
        f"{one.decided_by}.\n# All phases take about {choice.hours:.2g} {clock.processor} hours ({clock.said}), "
        f"by make design.\n{study_file.text(path, choice.study)}"
    )
    if goal.out is None:
        console.print("the cheapest, as a study file (OUT=path.toml writes it):\n")
        print(text, end="")
        return
    files.write_atomic(goal.out, text.encode())
    console.print(f"the cheapest is in {escape(str(goal.out))}: make submit TASK={escape(str(goal.out))}")
