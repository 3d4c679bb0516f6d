"""The verbs of the command line: `ntkhpc VERB`, or `make VERB` in a checkout."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from ntkhpc import files, studies, terminal
from ntkhpc.engine import arrays, claims, conflicts, frozen_code, plan, published, run, siblings, status
from ntkhpc.engine.discrepancies import FROM_A_COPY, MADE_AGAIN
from ntkhpc.engine.run import Run
from ntkhpc.errors import (
    DamagedError,
    DataError,
    NtkhpcError,
    RunError,
    SchedulerError,
    StudyError,
    show_calls,
    unexpected,
)
from ntkhpc.launch import submissions
from ntkhpc.launch.console import console
from ntkhpc.options import parse
from ntkhpc.studies import checked, facts
from ntkhpc.studies.base import Study
from ntkhpc.words import named

if TYPE_CHECKING:
    from ntkhpc.launch.profile import Profile
    from ntkhpc.launch.queue import Queue

_console = console()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit status: 0 complete, 1 incomplete or damaged, 2 bad input, 130 interrupted."""
    before = sys.stdout, sys.stderr
    terminal.guard()
    try:
        status = _run(arguments)
        if lost := terminal.lost():
            print(f"error: not all could be printed: {lost.strerror or lost}", file=sys.stderr)
            return status or 1
        return status
    finally:
        sys.stdout, sys.stderr = before


def _run(arguments: Sequence[str] | None) -> int:
    options = parse(arguments)
    try:
        return _VERBS[options.verb](options)
    except NtkhpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        show_calls(error)
        where = Path(str(getattr(options, "run", None) or getattr(options, "runs", ".")))
        print(f"error: {files.said(error, where)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  a bug, or surroundings that nobody thought of: a sentence, not a stack
        show_calls(error)
        print(f"error: {unexpected(error)}", file=sys.stderr)
        return 1


def _plan(options: argparse.Namespace) -> int:
    wanted = _study(options.task)
    from ntkhpc.launch import choose, prepare

    planned = plan.make(wanted)
    if text := prepare.too_large(planned, "data"):
        _console.print(f"[bold]warning[/bold]: the data were not looked at: {text}")
    else:
        for line in checked.look(wanted):
            _console.print(escape(line))
    _console.print(f"study [bold]{planned.run_name}[/bold]: {len(planned.shards):,} shards")
    for phase in planned.phases:
        shards = planned.of_phase(phase)
        seconds, longest = sum(s.seconds for s in shards), max(s.seconds for s in shards)
        _console.print(
            f"  {phase:9} {len(shards):6,} shards, {status.duration(seconds):>7} of one core, longest "
            f"{status.duration(longest)}, {planned.memory_bytes[phase] / 2**20:,.0f} MiB a worker"
        )
    _console.print(
        f"  in all    {status.duration(planned.seconds)} of one reference core, {planned.store_bytes / 2**20:,.0f} MiB "
        f"in {planned.files:,} files"
    )
    tiles, size = plan.scratch(studies.layout(wanted))
    if tiles:
        _console.print(
            f"  kernel.zarr beside it has {size / 2**20:,.0f} MiB in {tiles:,} files; once the curve is there, "
            "make clean-kernels frees them"
        )
    profile = choose.choose(options.profile, _console)
    there, refusal = None, ""
    try:
        there = run.find(options.runs, wanted)
    except (NtkhpcError, OSError) as error:
        refusal = str(error)
    place = there.path if there else options.runs / planned.run_name
    if profile is not None:
        from ntkhpc.launch import preview

        made = preview.next_of(there) if there else preview.first(wanted, planned, place)
        preview.show(made, profile, _console)
    elif text := prepare.too_large(planned):
        _console.print(f"[bold]warning[/bold]: {text}")
    if there is None and (full := prepare.no_room(options.runs, wanted, planned, profile)):
        _console.print(f"[bold]warning[/bold]: {escape(full[0])}; do: {escape(full[2])}")
    _show_known(options.runs, wanted, planned, there)
    if refusal:
        _console.print(f"note: this is as if there were no run yet, but make submit would refuse: {escape(refusal)}")
    _console.print(f"{'is' if there else 'would be'} in {escape(str(place))}; nothing was written")
    return 0


def _design(options: argparse.Namespace) -> int:
    from ntkhpc.launch import choose, design

    if options.error is None:
        raise StudyError("no error was named", todo="give the one to reach, ERROR=2%")
    wanted, path = _study(options.task), studies.find(options.task)
    goal = design.Goal(options.error, options.quantity, options.out)
    design.show(wanted, path, goal, options.runs, choose.choose(options.profile, _console), _console)
    return 0


def _show_known(runs: Path, wanted: Study, planned: plan.Plan, there: Run | None) -> None:
    """What will be taken from the runs beside, if it is still there then. Tasks ask for time as if it were not."""
    layout = studies.layout(wanted)
    if not any(layout.phases[phase].shared for phase in planned.phases if phase in layout.phases):
        return
    shards = {phase: there.missing(phase) if there else list(planned.of_phase(phase)) for phase in planned.phases}
    code = there.manifest.code if there else frozen_code.current_hash()
    beside, own = (there.path.parent, there.path) if there else (runs, None)
    for one in siblings.forecast(beside, own, layout, shards, code):
        names = named(tuple(escape(str(path)) for path in one.runs))
        _console.print(
            f"{one.phase}: {one.known:,} of {one.chunks:,} tiles are those of {names}; on the same kind of processor "
            f"they are copied, and {status.duration(one.seconds)} of one core are left"
        )


def _submit(options: argparse.Namespace) -> int:
    from ntkhpc.launch import choose, prepare

    profile = choose.choose(options.profile, _console)
    if profile is not None:
        os.umask(int(profile.umask, 8))
    target = prepare.open_run(options.runs, _study(options.task), profile)
    return _run_missing(target, options, profile)


def _resume(options: argparse.Namespace) -> int:
    from ntkhpc.launch import choose

    target = _existing(options)
    if target.missing("data"):
        target.study.data.prepare(target.study.known)
    return _run_missing(target, options, choose.choose(options.profile, _console))


def _submit_missing(target: Run, options: argparse.Namespace, profile: "Profile") -> int:
    from ntkhpc.launch import cluster

    whole = cluster.submit(target, profile, _console, accept=options.accept_change, retry_bugs=options.retry)
    where = f"RUN={escape(str(target.path))}"
    _console.print(f"`make status {where}` shows how it stands, `make resume {where}` mends what is lost")
    return 0 if whole else 1


def _run_missing(target: Run, options: argparse.Namespace, profile: "Profile | None") -> int:
    from ntkhpc.engine import kernels, verify
    from ntkhpc.launch import local, prepare, queue  # submitit and zarr are not needed to plan or to look

    if profile is not None:
        os.umask(int(profile.umask, 8))  # as jobs do
    _console.print(f"run [bold]{escape(str(target.path))}[/bold]")
    if options.accept_change and (changed := prepare.differences(target)):
        prepare.accept_change(target, why="; ".join(changed))
        _console.print("accepted and recorded: " + "; ".join(changed))
    prepare.require_same_packages(target)
    if options.take_over:
        # What is in the queue is nobody's to take over.
        there = queue.ask(target) if submissions.folder(target).is_dir() else None
        taken = claims.drop(
            target, target.plan.phases, lambda o: claims.is_foreign(o) and (there is None or o.job not in there.jobs)
        )
        for owner in taken:
            _console.print(f"taken over from {escape(str(owner))}")
    if again := kernels.require(target):
        _console.print(f"kernels were freed, and are wanted again: {len(again):,} shards are computed anew")
    if profile is not None and not status.is_complete(target):
        return _submit_missing(target, options, profile)
    if not status.is_complete(target):
        if changed := prepare.differences(target):
            _console.print(f"note: {'; '.join(changed)}; the run goes on with its frozen code, unless ACCEPT_CHANGE=1")
        local.run(target, _console, options.cores)
    code = _report(target)
    for remark in verify.remarks(target) if code == 0 else ():
        _console.print(f"[bold]warning[/bold]: {escape(remark)}")
    return _show_results(target) if code == 0 else code


def _show_results(target: Run) -> int:
    """The last lines of a submission; the analysis wrote them."""
    try:
        print("\n" + published.content(target, "summary.txt").decode())
    except FileNotFoundError:
        raise RunError(
            "the results of this run are gone",
            where=published.folder(target),
            cause="somebody removed them",
            todo=published.advice(target),
        ) from None
    _console.print(f"report: {escape(str(published.folder(target) / 'report.html'))}")
    return 0


def _report_again(options: argparse.Namespace) -> int:
    from analysis import report  # it stands above runs, and imports matplotlib
    from analysis.report.publication import SUMMARY

    target = _existing(options)
    path = report.make(target, partial=options.partial)
    print((path.parent / SUMMARY).read_text(encoding="utf-8"), end="")
    print(f"report: {path}")
    return 0


def _report(target: Run) -> int:
    waiting: Queue | None = None
    silence: NtkhpcError | None = None
    if submissions.folder(target).is_dir() and not status.is_complete(target):
        from ntkhpc.launch import queue

        try:
            waiting = queue.ask(target)
        except (SchedulerError, DamagedError) as error:
            silence = error
    _console.print(status.table(target, waiting, unknown=silence is not None))
    for conflict in conflicts.unsettled(target):
        _console.print(f"conflict: {escape(conflict.what)}, see {escape(str(conflict.path))}\n  do: {conflicts.ADVICE}")
    if status.is_complete(target):
        _console.print(f'complete. Its values: xarray.open_zarr("{escape(str(target.store))}")')
        return 0
    for cause in status.causes(target):
        _console.print(escape(cause))
    if silence is not None:
        _console.print(f"what is queued or running is unknown: {escape(str(silence))}")
        return 1
    if waiting is not None:
        return _report_queue(target, waiting)
    if any(phase.running for phase in status.phases(target)):
        for owner in status.owners(target):
            _console.print(f"at work: {escape(str(owner))}")
        _console.print("watch with `make status`; if a process on another host is gone: `make resume TAKE_OVER=1`")
    else:
        logs = escape(str(target.path / "logs"))
        _console.print(f"incomplete: `make resume` runs what is missing; the workers' output is in {logs}")
    return 1


def _report_queue(target: Run, waiting: "Queue") -> int:
    from ntkhpc.launch import queue

    for line in queue.reasons(waiting):
        _console.print(escape(line))
    for line in queue.lost(target, waiting):
        _console.print(escape(line))
    strangers = [owner for owner in status.owners(target, waiting.gone) if owner.job not in waiting.jobs]
    for owner in strangers:
        _console.print(f"claimed by {escape(str(owner))}; if that is gone: `make resume TAKE_OVER=1`")
    _console.print(f"about {queue.hours_left(target, waiting):.2f} task hours of work are left")
    if waiting.elements:
        _console.print("watch with `make status`")
    else:
        logs = escape(str(target.path / "submissions"))
        _console.print(f"incomplete, and nothing is queued: `make resume` submits what is missing; logs are in {logs}")
    return 1


def _efficiency(options: argparse.Namespace) -> int:
    from ntkhpc.launch import efficiency

    target = _existing(options)
    found = efficiency.uses(target)
    if not found:
        raise RunError(
            "no task of this run has ended on a cluster",
            where=target.path,
            cause="it ran on one machine, or its first tasks are still at work",
            todo="make status",
        )
    for line in efficiency.lines(found):
        _console.print(line)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ntkhpc.launch import choose, doctor

    profile = choose.choose(options.profile, _console)
    wanted = _study(options.task) if options.task else None
    return doctor.examine(options.runs, profile, wanted, _console)


def _status(options: argparse.Namespace) -> int:
    return _report(_existing(options))


def _verify(options: argparse.Namespace) -> int:
    from ntkhpc.engine import mend, verify  # zarr is not needed to plan or to look

    target = _existing(options, damaged=True)
    found = list(verify.problems(target))
    for problem in found:
        print(problem)
    if not found:
        finished = sum(len(target.finished(phase)) for phase in target.plan.phases)
        print(f"{target.path}: intact; {finished} of {len(target.plan.shards)} shards have receipts")
        for note in verify.notes(target):
            print(f"note: {note}")
        return 0
    print(f"problems: {len(found)}")
    advice = list(dict.fromkeys(problem.todo for problem in found))
    if options.set_aside:
        mended = mend.set_aside(target, found)
        if mended.shards:
            print(f"{len(mended.shards)} shards set aside; make resume computes them again")
        if mended.files:
            print(f"{len(mended.files)} files put back as they were; make verify again says what is left")
        back = {target.path / name for name in mended.files}
        left = [problem for problem in found if problem.shard is None and problem.path not in back]
        advice = list(dict.fromkeys(FROM_A_COPY if p.todo == MADE_AGAIN else p.todo for p in left))
    for text in advice:
        print(f"do: {text}")
    return 1


def _clean_kernels(options: argparse.Namespace) -> int:
    from ntkhpc.engine import kernels

    target = _existing(options)
    freed = kernels.free(target)
    said = f"{freed / 2**20:,.0f} MiB freed" if freed else "was freed before"
    print(f"{target.path / arrays.SCRATCH}: {said}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    print(studies.markdown(), end="")
    return 0


def _existing(options: argparse.Namespace, *, damaged: bool = False) -> Run:
    if options.run:
        return run.load(Path(options.run), damaged=damaged)
    if not options.task:
        raise RunError("no run was named", todo="give TASK=name or RUN=path/of/run")
    try:
        wanted = _study(options.task)
    except DataError:
        # The store has all that is needed; a run of this very study is found by what its user wrote.
        path = studies.find(options.task)
        written = facts.unresolved(studies.load(path), path.absolute().parent)
        found = run.find(options.runs, written, looked_at=False, damaged=damaged)
        if found is None:
            raise
        return found
    return run.find(options.runs, wanted, damaged=damaged) or run.load(options.runs / wanted.run_name)


def _study(task: str) -> Study:
    """The study of TASK, with what its data files tell."""
    path = studies.find(task)
    return facts.resolve(studies.load(path), path.absolute().parent)


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "plan": _plan,
    "design": _design,
    "submit": _submit,
    "status": _status,
    "resume": _resume,
    "report": _report_again,
    "efficiency": _efficiency,
    "doctor": _doctor,
    "verify": _verify,
    "clean-kernels": _clean_kernels,
    "schema": _schema,
}
