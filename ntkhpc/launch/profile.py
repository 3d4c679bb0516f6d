"""A profile says what a cluster is called, what its partitions hold and how containers start there.

`jobs/profiles/*.toml` are looked at first, then `ntkhpc/profiles/` in the user's configuration directory. Every value
that reaches a job script is checked against what it may contain: a profile cannot put a line of its own there, except
through `directives`, each of which must be one long option of sbatch.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ntkhpc import studies
from ntkhpc.errors import ProfileError
from ntkhpc.phase.settings import Natural, NonNegativeFloat, Positive, PositiveFloat, Settings
from ntkhpc.studies import toml
from ntkhpc.studies.base import NAME

WORD = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}"
Word = Annotated[str, Meta(pattern=rf"^(?:{WORD})?\Z")]
List = Annotated[str, Meta(pattern=rf"^(?:{WORD}(?:[,&|]{WORD})*)?\Z")]

DIRECTIVE = re.compile(r"--[a-z][a-z0-9-]*(?:=[A-Za-z0-9._:/@+,%=()\[\]-]+)?")
GPU_REQUEST = re.compile(r"--(?:gres|gpus|gpus-per-node|gpus-per-task)=[A-Za-z0-9._:,=-]+")
OURS = frozenset(
    f"--{name}"
    for line in (
        "array account chdir comment constraint cpus-per-task dependency error exclude export job-name mem",
        "nodes ntasks ntasks-per-node open-mode output partition qos requeue no-requeue signal time wrap",
        "parsable wait test-only clusters cluster mem-per-cpu mem-per-gpu export-file get-user-env cpus-per-gpu",
    )
    for name in line.split()
)
"""Options of sbatch that a directive may not set: they are fields of a profile, or ours to keep."""


class Partition(Settings, frozen=True, kw_only=True):
    """A partition in which tasks of some phases run. `cores`, `memory_gb` and `minutes` are the most that one task may
    ask for. With `memory` "none" jobs do not ask for memory, where a cluster does not schedule it."""

    partition: Word = ""
    cores: Positive = 1
    memory_gb: PositiveFloat
    memory: Literal["total", "none"] = "total"
    minutes: Positive
    gpu: str = ""
    account: Word = ""
    qos: Word = ""
    constraint: List = ""
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.gpu and not GPU_REQUEST.fullmatch(self.gpu):
            raise ValueError(f"gpu = {self.gpu!r} must read like --gres=gpu:a100:1 or --gpus-per-task=1")
        _check_directives(self.directives)


SCRATCH = r"^(?:|/[A-Za-z0-9._/+@=-]*|\$[A-Z][A-Z0-9_]*(?:/[A-Za-z0-9._/+@=-]*)?)\Z"


class Container(Settings, frozen=True, kw_only=True):
    """How containers start. `image` is a path; without one, the image of this checkout's lock."""

    runtime: Literal["apptainer", "none"] = "apptainer"
    image: Annotated[str, Meta(pattern=r"^[^\x00-\x1f,:'\"]*\Z")] = ""
    gpu_flag: Literal["nv", "rocm", ""] = "nv"
    binds: tuple[Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._/+@=-]*\Z")], ...] = ()


class Limits(Settings, frozen=True, kw_only=True):
    """How much is submitted at once: at most `tasks` tasks of a phase. `array_size` 0 asks for SLURM's MaxArraySize.

    A run may take at most `max_gb` of disk and `max_files` files, where no command tells the quota; 0 is no limit.
    """

    array_size: Natural = 0
    throttle: Positive = 100
    tasks: Positive = 1000
    task_minutes: PositiveFloat = 60.0
    restarts: Natural = 20
    stop_seconds: Annotated[int, Meta(ge=5)] = 120
    max_gb: NonNegativeFloat = 0.0
    max_files: Natural = 0


class Analysis(Settings, frozen=True, kw_only=True):
    """Dask's workers for the analysis: processes of its job (`local`), or jobs of their own in the image (`slurm`).

    For the latter the analysis itself runs in the Python of the login node, as the image cannot call sbatch;
    `interface` is the network by which jobs reach each other.
    """

    dask: Literal["local", "slurm"] = "local"
    workers: Positive = 4
    interface: Word = ""


class Profile(Settings, frozen=True, kw_only=True):
    """One cluster. `phases` names the partition of each phase; `default` is that of the others."""

    description: str = ""
    cluster: Word = ""
    partitions: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")], Partition]
    phases: dict[str, str] = msgspec.field(default_factory=dict)
    modules: tuple[Annotated[str, Meta(pattern=rf"^{WORD}\Z")], ...] = ()
    umask: Annotated[str, Meta(pattern=r"^0[0-7]{3}\Z")] = "0077"
    scratch: Annotated[str, Meta(pattern=SCRATCH)] = ""
    container: Container = Container()
    limits: Limits = Limits()
    analysis: Analysis = Analysis()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.partitions:
            raise ValueError("[partitions] names no partition")
        if "default" not in self.phases and len(self.partitions) > 1:
            raise ValueError("with several [partitions], phases.default must name the one for phases not named")
        for phase, partition in self.phases.items():
            if phase != "default" and phase not in studies.phase_names():
                raise ValueError(
                    f"phases.{phase}: there is no such phase; there are {', '.join(studies.phase_names())}"
                )
            if partition not in self.partitions:
                raise ValueError(f"phases.{phase} = {partition!r} is no [partitions.{partition}]")

    def partition_of(self, phase: str) -> str:
        """Return the label of the partition in which a phase runs."""
        return self.phases.get(phase, self.phases.get("default", next(iter(self.partitions))))

    def __getitem__(self, phase: str) -> Partition:
        return self.partitions[self.partition_of(phase)]


def _check_directives(directives: tuple[str, ...]) -> None:
    for directive in directives:
        if not DIRECTIVE.fullmatch(directive):
            raise ValueError(f"directive {directive!r} is not one option like --mail-type=END")
        if (option := directive.partition("=")[0]) in OURS:
            raise ValueError(f"directive {option} is a field of the profile, or is set by ntkhpc itself")


def folders() -> list[Path]:
    """Return the folders in which profiles are looked for, in order."""
    checkout = Path(__file__).resolve().parent.parent.parent
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    return [checkout / "jobs" / "profiles", configuration / "ntkhpc" / "profiles"]


def available() -> Iterator[Path]:
    for folder in folders():
        yield from sorted(folder.glob("*.toml"))


def find(name: str) -> Profile:
    """Return the profile of a name, or of a path. Raises ProfileError with the names there are."""
    if name.endswith(".toml"):
        return load(Path(name))
    if not NAME.fullmatch(name):
        raise ProfileError(f"{name!r} is no profile name", todo="letters, digits, dot, dash and underscore only")
    for path in available():
        if path.stem == name:
            return load(path)
    there = ", ".join(sorted({path.stem for path in available()})) or "none"
    raise ProfileError(
        f"there is no profile {name!r}; there are: {there}",
        where=" and ".join(map(str, folders())),
        todo="copy jobs/profiles/cpu.toml under a new name and fill it in, or PROFILE=local for this machine",
    )


def load(path: Path) -> Profile:
    """Read and check a profile. Raises ProfileError that names the field."""
    try:
        table = toml.parse(toml.read(path))
        profile = msgspec.convert(table, Profile)
    except FileNotFoundError:
        raise ProfileError("there is no such profile", where=path, todo="give PROFILE=name or the path") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise ProfileError(
            f"the profile cannot be used: {str(error)[:1000]}", where=path, todo="mend that field"
        ) from error
    return msgspec.structs.replace(profile, name=path.stem)


def of_cluster(cluster: str) -> Profile | None:
    """Return the first profile that names this cluster. A profile that cannot be read is passed over."""
    for path in available():
        try:
            profile = load(path)
        except ProfileError:
            continue
        if profile.cluster and profile.cluster == cluster:
            return profile
    return None
