"""The scratch arrays of a run, kernel.zarr: freed once what is made from them is there, made anew where it is not."""

from pathlib import Path

from ntkhpc import files
from ntkhpc.engine import arrays
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError

FREED = "kernels-freed.json"
"""Says in a run directory that the tiles of its kernel.zarr were removed on purpose."""


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
    """Remove the tiles of kernel.zarr; how many bytes they had. Its metadata stay: tiles may be wanted again.

    Raises RunError if there is none, or while somebody needs it.
    """
    if not writers(run):
        raise RunError(
            "this run has no kernels of its own",
            where=run.path,
            cause="its curve fits into one tile, is iterated, or was planned before kernels had tiles",
        )
    if missing := [shard for phase in readers(run) for shard in run.missing(phase)]:
        raise RunError(
            f"{len(missing)} shards of phase {missing[0].phase} are missing, which are made from the kernels",
            where=run.path,
            todo=f"make resume RUN={run.path} finishes them; then free the kernels",
        )
    tiles = _tiles(run)
    size = sum(path.stat().st_size for path in tiles)
    if tiles:
        files.write_atomic(run.path / FREED, files.seal({"bytes": size}))  # first: what is half removed is no damage
    for path in tiles:
        path.unlink(missing_ok=True)
    return size


def require(run: Run) -> tuple[Shard, ...]:
    """Forget kernels that were freed where a shard that is missing needs them; the shards to compute again."""
    if not are_freed(run) or not any(run.missing(phase) for phase in (*writers(run), *readers(run))):
        return ()
    again = [shard for phase in writers(run) for shard in run.plan.of_phase(phase)]
    for shard in reversed(again):  # whatever ends this leaves nothing that was computed from what is missing
        if are_freed(run):  # not where another resume was faster
            run.receipt(shard).unlink(missing_ok=True)
    (run.path / FREED).unlink(missing_ok=True)
    return tuple(again)


def _tiles(run: Run) -> list[Path]:
    """The files of kernel.zarr that are not of its making."""
    made = {run.path / name for name in run.manifest.files}
    return [path for path in files.tree(run.path / arrays.SCRATCH) if path not in made]
