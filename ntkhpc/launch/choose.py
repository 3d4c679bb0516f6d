"""A study runs with the profile that was named, with that of the cluster on which this is, or on this machine."""

import os

from rich.console import Console

from ntkhpc.errors import ProfileError
from ntkhpc.launch import profile, slurm
from ntkhpc.launch.profile import Profile

LOCAL = "local"


def choose(name: str, console: Console) -> Profile | None:
    """Return the profile, or None for this machine. It prints what was detected when none was named.

    Raises ProfileError for an unknown profile, and on a SLURM cluster that no profile says is its own.
    """
    if name == LOCAL:
        return None
    if name:
        return profile.find(name)
    if not slurm.present() or "SLURM_JOB_ID" in os.environ:  # inside a job its cores are what there is
        return None
    cluster = slurm.cluster()
    if cluster is None:
        console.print("SLURM is installed here, but configured for no cluster: running on this machine")
        return None
    found = profile.of_cluster(cluster) if cluster else None
    if found is None:
        there = ", ".join(sorted({path.stem for path in profile.available()}))
        raise ProfileError(
            f"this is a login node of the SLURM cluster {cluster or '(unnamed)'}, and no profile is made for it",
            where=" and ".join(map(str, profile.folders())),
            todo=f"name one of {there} with PROFILE=, write your own from jobs/profiles/cpu.toml, or run here with "
            "PROFILE=local",
        )
    console.print(f"SLURM cluster {cluster}: profile {found.name}")
    return found
