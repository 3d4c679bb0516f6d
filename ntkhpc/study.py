"""Study: a validated, frozen TOML file whose content hash is its id.

`jobs/template.toml` explains every field for its users. Here each field has its type and range; what they mean for
one another is in the `__post_init__` of the section they belong to.
"""

import difflib
import math
import re
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import tomli_w
from msgspec import Meta, Struct

from ntkhpc.errors import StudyError
from ntkhpc.files import canonical_json, sha256
from ntkhpc.section import Increasing, NonNegativeFloat, Positive, PositiveFloat, Section, Seed, require_increasing
from ntkhpc.sources import AnySource

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Network(Section, frozen=True, kw_only=True):
    """Fully connected networks of the given widths; the depth counts hidden layers."""

    widths: Increasing
    parametrisation: Literal["ntk"] = "ntk"
    depth: Positive = 1
    activation: Literal["relu", "erf"] = "relu"
    weight_variance: PositiveFloat = 2.0
    bias_variance: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)


class Steps(Section, frozen=True, kw_only=True):
    """Number of full-batch steps as a rule of n_train: ceil(factor * n_train ** power)."""

    factor: PositiveFloat = 4.0
    power: NonNegativeFloat = 1.0

    def __call__(self, n_train: int) -> int:
        # The small term keeps 0.1 * 30 at 3 steps, not 4.
        return max(1, math.ceil(self.factor * n_train**self.power - 1e-9))


class Training(Section, frozen=True, kw_only=True):
    """Full-batch gradient descent, with heavy-ball momentum if it is not zero."""

    steps: Steps = Steps()
    learning_rate_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "float64"] = "float32"
    matmul_precision: Literal["highest", "high", "default"] = "highest"


class Ensemble(Section, frozen=True, kw_only=True):
    """Members of the initialisation ensemble, and how they are cut into tiles and shards."""

    n_train: Increasing
    members: Annotated[int, Meta(ge=2)]
    draws: Positive = 1
    tile: Positive = 10
    shard_members: Positive = 100
    trace_points: Annotated[int, Meta(ge=2)] = 12
    predictions: bool = False

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if self.shard_members % self.tile:
            raise ValueError(
                f"shard_members = {self.shard_members} must be a multiple of tile = {self.tile}: "
                f"try {max(1, round(self.shard_members / self.tile)) * self.tile}"
            )


Time = Literal["steps", "fixed", "infinite"]


class InfiniteWidth(Section, frozen=True, kw_only=True):
    """The exact learning curve of infinitely wide networks. Without `n_train`, at the ensemble's sizes."""

    n_train: tuple[Positive, ...] = ()
    draws: Positive = 1
    times: Annotated[tuple[Time, ...], Meta(min_length=1)] = ("steps", "infinite")
    fixed_steps: Positive = 512

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if len(set(self.times)) < len(self.times):
            raise ValueError(f"times = {list(self.times)} names one of them twice")


class Study(Section, frozen=True, kw_only=True):
    """Everything that decides the values of a run; two studies with equal content have the same id."""

    name: str
    data: AnySource
    network: Network
    ensemble: Ensemble
    training: Training = Training()
    infinite_width: InfiniteWidth = InfiniteWidth()
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name = {self.name!r} is not allowed: 1 to 64 letters a-z A-Z, digits, '.', '_' and '-', "
                "beginning with a letter or digit"
            )
        for section, sizes in (("ensemble", self.ensemble.n_train), ("infinite_width", self.curve_sizes)):
            if sizes[-1] > self.data.pool:
                raise ValueError(f"{section}.n_train asks for {sizes[-1]} samples, data.pool has {self.data.pool}")
        fewest = self.training.steps(self.ensemble.n_train[0])
        if fewest < self.ensemble.trace_points - 1:
            raise ValueError(
                f"ensemble.trace_points = {self.ensemble.trace_points} needs at least {self.ensemble.trace_points - 1} "
                f"steps, but n_train = {self.ensemble.n_train[0]} trains for {fewest}"
            )

    @property
    def id(self) -> str:
        """First ten hex digits of the sha256 of the content; of data files what is in them, not where they are."""
        content = msgspec.to_builtins(self)
        if content["data"].get("sha256"):
            content["data"].pop("path", None)
        return sha256(canonical_json(content))[:10]

    @property
    def run_name(self) -> str:
        return f"{self.name}-{self.id}"

    @property
    def curve_sizes(self) -> tuple[int, ...]:
        """Training-set sizes of the infinite-width learning curve."""
        return self.infinite_width.n_train or self.ensemble.n_train

    @property
    def test_sizes(self) -> tuple[int, ...]:
        """Test-set sizes at which the spread of L is computed: the whole, and halves of it down to a sixteenth."""
        return tuple(sorted({max(1, self.data.test >> halvings) for halvings in range(5)}))

    def curve_steps(self, time: Time, n_train: int) -> int | None:
        """Steps of the infinite-width curve; None is the end of training."""
        steps = {"steps": self.training.steps(n_train), "fixed": self.infinite_width.fixed_steps, "infinite": None}
        return steps[time]

    def trace_steps(self, n_train: int) -> tuple[int, ...]:
        """Steps at which losses are recorded: 0, then spaced as powers, strictly increasing, the last step last."""
        points, last = self.ensemble.trace_points, self.training.steps(n_train)
        steps = [0]
        for i in range(1, points):
            wanted = round(last ** (i / (points - 1)))
            room = last - (points - 1 - i)
            steps.append(min(max(wanted, steps[-1] + 1), room))
        return tuple(steps)


def loads(text: str, where: object = "study") -> Study:
    """Parse and validate a study. Raises StudyError naming field, value, what is allowed and the nearest spelling."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"not valid TOML: {error}", where=where, todo="compare with jobs/template.toml") from error
    _check_tables(raw, Study, "", where)
    try:
        return msgspec.convert(raw, Study)
    except msgspec.ValidationError as error:
        raise _explain(error, raw, where) from error


def load(path: Path) -> Study:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"cannot read the study: {error.strerror}",
            where=path.absolute(),
            todo="TASK is a name of jobs/ without .toml, or the path of a study file; a run directory is named by RUN",
        ) from error
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8 text: {error}", where=path, todo="save the file as UTF-8") from error
    return loads(text, path)


def dumps(study: Study) -> bytes:
    """The frozen spelling of a study: every field, defaults included, in the order of the classes."""
    return tomli_w.dumps(msgspec.to_builtins(study)).encode()


def find(task: str, jobs: Path = Path("jobs")) -> Path:
    """The study file of TASK: a name of `jobs/`, or a path. Raises StudyError with the nearest name."""
    if task.endswith(".toml") or "/" in task:
        return Path(task)
    known = {path.stem: path for path in sorted(jobs.glob("*.toml"))}
    if task in known:
        return known[task]
    raise StudyError(
        f"no study is called {task!r}{_nearest(task, known)}" if task else "no study was named",
        where=jobs.resolve(),
        cause=f"there are: {', '.join(known) or 'none'}",
        todo="name one of them, or give the path of a study file: TASK=path/to/study.toml",
    )


def _check_tables(raw: dict[str, Any], section: type[Struct], path: str, where: object) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    if tag := section.__struct_config__.tag_field:
        fields = {tag: str, **fields}
    for key, value in raw.items():
        field = f"{path}{key}"
        if key not in fields:
            raise StudyError(
                f"unknown field {field} = {value!r}{_nearest(key, fields)}",
                where=where,
                cause=f"{'[' + path[:-1] + ']' if path else 'the top level'} has the fields: {', '.join(fields)}",
                todo="jobs/template.toml explains each of them",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise StudyError(f"{field} = {value} is not a finite number", where=where)
        if isinstance(value, dict) and (table := _table(fields[key], value, field, where)) is not None:
            _check_tables(value, table, f"{field}.", where)


def _table(kind: Any, value: dict[str, Any], field: str, where: object) -> type[Struct] | None:
    """The class of a table; where there are several, the one whose tag the table names. None if no table is meant."""
    if not isinstance(kind, UnionType):
        return kind if isinstance(kind, type) and issubclass(kind, Struct) else None
    known = {str(one.__struct_config__.tag): one for one in get_args(kind)}
    tag = get_args(kind)[0].__struct_config__.tag_field
    if isinstance(value.get(tag), str) and value[tag] in known:
        return known[value[tag]]
    given = f"{field}.{tag} = {value[tag]!r} is not allowed" if tag in value else f"{field}.{tag} is missing"
    raise StudyError(
        f"{given}{_nearest(str(value.get(tag, '')), known)}",
        where=where,
        cause=f"allowed: {', '.join(known)}",
        todo="jobs/template.toml explains each of them",
    )


def _explain(error: msgspec.ValidationError, raw: dict[str, Any], where: object) -> StudyError:
    """msgspec says what was expected and the path; add the value, the choices and the nearest spelling."""
    message, _, path = str(error).partition(" - at `$")
    keys = re.findall(r"[A-Za-z_]\w*|\d+", path.rstrip("`"))
    value: Any = raw
    kind: Any = Study
    for key in keys:
        table = _table(kind, value, key, where) if isinstance(value, dict) else None
        value = value[int(key)] if isinstance(value, list) else value.get(key) if isinstance(value, dict) else value
        if table is not None:
            kind = {field.name: field.type for field in msgspec.structs.fields(table)}.get(key)
        elif key.isdigit():
            kind = get_args(get_args(kind)[0] if get_origin(kind) is Annotated else kind)[0]
    field = ".".join(keys)
    if isinstance(value, dict):
        # A rule of a whole section: its message already names field and value.
        section = f"[{field}] " if field else ""
        return StudyError(f"{section}{message}", where=where, todo="jobs/template.toml explains every field")
    cause = message
    nearest = ""
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        cause, nearest = f"allowed: {', '.join(choices)}", _nearest(str(value), choices)
    return StudyError(f"{field} = {value!r} is not allowed{nearest}", where=where, cause=cause)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
