"""The scratch arrays of a run, kernel.zarr: freed once what is made from them is there, made anew where it is not."""

import shutil

from ntkhpc import files
from ntkhpc.engine import arrays, remake
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError

FREED = "kernels-freed.json"
"""Says in a run directory that its kernel.zarr was removed on purpose."""


def are_freed(run: Run) -> bool:
    return files.is_there(run.path / FREED)


def writers(run: Run) -> tuple[str, ...]:
    """The phases of a run that write scratch arrays."""
    layout = run.layout
    return tuple(
        phase
        for phase in run.plan.phases
        if phase in layout.phases and any(array.scratch for array in layout.arrays(phase))
    )


def readers(run: Run) -> tuple[str, ...]:
    """The phases that read them and write none themselves."""
    layout, written = run.layout, writers(run)
    scratch = {array.name for phase in written for array in layout.arrays(phase)}
    return tuple(
        phase
        for phase in run.plan.phases
        if phase in layout.phases and phase not in written and scratch & set(layout.phases[phase].reads)
    )


def free(run: Run) -> int:
    """Remove kernel.zarr; how many bytes it had. Raises RunError if there is none, or while somebody needs it."""
    place = run.path / arrays.SCRATCH
    if not writers(run):
        raise RunError("this run has no kernels of its own", where=run.path, cause="its curve fits into one tile")
    if are_freed(run) and not files.is_there(place):
        return 0
    if missing := [shard for phase in readers(run) for shard in run.missing(phase)]:
        raise RunError(
            f"{len(missing)} shards of phase {missing[0].phase} are missing, which are made from the kernels",
            where=run.path,
            todo=f"make resume RUN={run.path} finishes them; then free the kernels",
        )
    size = sum(path.stat().st_size for path in files.tree(place))
    files.write_atomic(run.path / FREED, files.seal({"bytes": size}))  # first: what is half removed is not damaged
    shutil.rmtree(place)
    return size


def require(run: Run) -> tuple[Shard, ...]:
    """Make room for kernels that were freed where a shard that is missing needs them; the shards to compute again."""
    if not are_freed(run) or not any(run.missing(phase) for phase in (*writers(run), *readers(run))):
        return ()
    again = [shard for phase in writers(run) for shard in run.plan.of_phase(phase)]
    shutil.rmtree(run.path / arrays.SCRATCH, ignore_errors=True)
    for shard in reversed(again):  # whatever ends this leaves nothing that was computed from what is missing
        run.receipt(shard).unlink(missing_ok=True)
    names = [name for name in run.manifest.files if name.startswith(f"{arrays.SCRATCH}/")]
    if len(made := remake.restore(run, names)) < len(names):
        raise RunError(
            f"kernel.zarr was freed, and {len(names) - len(made)} of its files cannot be made again by this code",
            where=run.path,
            cause="another version made the run",
            todo="go on with the code of the run's own version",
        )
    (run.path / FREED).unlink(missing_ok=True)
    return tuple(again)
