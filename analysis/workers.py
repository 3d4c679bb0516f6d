"""Dask's workers for an analysis: threads of this process, processes of this job, or jobs of their own."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import dask

from ntkhpc.studies import memory
from ntkhpc.surroundings import without_files_of_the_user

SETTING = "NTKHPC_DASK"
"""Set by the launcher: "" for threads, "local:N" for N processes, "slurm:{...}" for jobs by dask-jobqueue, with the
arguments of its SLURMCluster and the number of `workers`."""

START_SECONDS = 1800
"""How long jobs of workers may wait in the queue."""


def threads_of_each(tasks: int) -> int:
    """Threads that each of so many tasks may use by itself: as many as there are of Dask's, where it uses threads."""
    return max(1, (dask.config.get("num_workers", None) or 1) // max(1, tasks))


@contextmanager
def workers(setting: str | None = None) -> Iterator[None]:
    """Let what is computed inside use these workers. Raises TimeoutError if no job of theirs starts."""
    kind, _, rest = (os.environ.get(SETTING, "") if setting is None else setting).partition(":")
    if not kind:
        # A thread holds a cell at a time, and nobody projects the memory of as many as a large machine has cores.
        with dask.config.set(num_workers=min(memory.REPORT_THREADS, len(os.sched_getaffinity(0)))):
            yield
        return
    from distributed import Client, LocalCluster  # a second to import, which threads do without

    with tempfile.TemporaryDirectory() as scratch:
        if kind == "local":
            # Each worker imports Dask.
            with without_files_of_the_user():
                cluster = LocalCluster(
                    n_workers=int(rest),
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    local_directory=scratch,
                )
                with cluster, Client(cluster):
                    yield
            return
        from dask_jobqueue.slurm import SLURMCluster

        options = json.loads(rest)
        count = options.pop("workers")
        with SLURMCluster(**options) as jobs, Client(jobs) as client:
            jobs.scale(count)
            client.wait_for_workers(1, timeout=START_SECONDS)
            yield
