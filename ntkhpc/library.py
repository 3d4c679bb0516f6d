"""A run in the hands of a person: `ntkhpc.open_run(path)`, in a notebook or a script."""

import html
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ntkhpc.engine import published, run, status
from ntkhpc.engine.status import PhaseStatus
from ntkhpc.errors import DamagedError, RunError
from ntkhpc.studies.base import Study

if TYPE_CHECKING:  # loaded where they are needed: they take seconds
    import pandas
    import xarray


@dataclass(frozen=True)
class Figure:
    """A figure of a report; a notebook shows it. Beside `path` lies the same as PDF."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


class OpenRun:
    """A run directory to look at; nothing of it is changed. `path` is where it is."""

    def __init__(self, path: Path | str):
        self._run = run.load(Path(path))
        self.path = self._run.path

    @property
    def study(self) -> Study:
        """The study that the run was made of: its sections and fields are attributes."""
        return self._run.study

    @cached_property
    def store(self) -> "xarray.Dataset":
        """Every array with its dimensions, coordinates and units; values are read when they are used.

        Values without a receipt, not computed, half written or set aside as damaged, read as missing: NaN, -1 of
        integers. Raises DamagedError for metadata that are not as they were made, and when values are read, for those
        that are not what their receipt says. `xarray.open_zarr(path / "store.zarr")` asks no receipt.
        """
        from analysis.opened import opened

        return opened(self._run)

    def moments(self, *, partial: bool = False) -> "xarray.Dataset":
        """Moments of the test loss over the ensemble, with standard errors: `analysis.aggregate.moments`.

        Raises RunError for a run with missing shards unless `partial`, as `make report` does. Then values without a
        receipt are left out: `members` says how many networks a cell has, and what cannot be computed is NaN.
        Of a run that compares variants they have a dimension `variant`, with their names. Raises RunError for a run of
        another kind too; its results are in `table()`.
        """
        if "test_point_loss" not in self.store:
            raise RunError(
                "only runs of an ensemble have moments over initialisations",
                where=self.path,
                todo=f"look at its tables: {', '.join(self._made('.csv')) or 'make report writes them'}",
            )
        if "variant" in self.store.dims:
            from analysis.comparison import results as compared

            return compared.collect(self._run, partial=partial).moments
        from analysis.ensemble import results

        return results.collect(self._run, partial=partial).moments

    def table(self, name: str = "moments") -> "pandas.DataFrame":
        """A table of the run's report, as it was when the report was made; summary.txt says if shards were missing.

        Raises RunError if there is none of that name, DamagedError if it is not what the report wrote.
        """
        import pandas

        return pandas.read_csv(io.BytesIO(published.content(self._run, self._file(name, ".csv").name)))

    def figure(self, name: str) -> Figure:
        """A figure of the run's report; it says itself if shards were missing.

        Raises RunError if there is none of that name, DamagedError if it is not what the report wrote.
        """
        path = self._file(name, ".png")
        published.content(self._run, path.name)
        return Figure(path)

    def status(self) -> list[PhaseStatus]:
        """Counts of done, running, failed and missing shards of each phase, in order."""
        return status.phases(self._run)

    def _made(self, suffix: str) -> list[str]:
        return sorted(path.stem for path in (self.path / "analysis").glob(f"*{suffix}"))

    def _file(self, name: str, suffix: str) -> Path:
        path = self.path / "analysis" / f"{name}{suffix}"
        if name in (known := self._made(suffix)):
            return path
        raise RunError(
            f"the report of this run has no {path.name}",
            where=path.parent,
            cause=f"there are: {', '.join(known)}" if known else "the run is not analysed yet, or they were removed",
            todo=f"make report RUN={self.path}",
        )

    def __repr__(self) -> str:
        done = ", ".join(f"{phase.phase} {phase.done} of {phase.total}" for phase in self.status())
        return f"run {self.path}: {done}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{phase.phase}</td><td>{phase.done:,} of {phase.total:,}</td></tr>" for phase in self.status()
        )
        try:
            text = published.content(self._run, "summary.txt").decode()
        except FileNotFoundError:
            text = "no report yet: make report"
        except DamagedError as error:
            text = str(error)
        return (
            f"<b>{html.escape(self.path.name)}</b><table><tr><th>phase</th><th>done</th></tr>{rows}</table>"
            f"<pre>{html.escape(text)}</pre>"
        )
