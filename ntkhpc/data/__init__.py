"""Data sets: one module per source, with `prepare`, before anything is submitted, and `load`, in the data phase."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ntkhpc.data.sources import AnySource, Cifar10, Images, ShowerFile, Table
from ntkhpc.errors import DataError

if TYPE_CHECKING:  # planning and status do without NumPy
    from ntkhpc.data.split import Split
    from ntkhpc.studies.base import AnyStudy, Kind

_MODULES = {
    "calorimeter": "calorimeter",
    "showers": "shower_source",
    "file": "table_source",
    "mnist": "mnist",
    "cifar10": "cifar10",
}


def resolve(study: "Kind", folder: Path) -> "Kind":
    """The study with what its files alone tell: absolute paths, from `folder`, checksums, rows, inputs and outputs.

    So a study of other data has another id. Raises DataError for files that are not there or are not those the study
    was resolved with.
    """
    if not isinstance(study.data, ShowerFile | Table | Cifar10):
        return study
    found = _module(study.data).resolve(study.data, folder)
    if study.data.sha256 and study.data.sha256 != found.sha256:
        raise DataError(
            f"the data are not those of the study: sha256 {found.sha256} instead of {study.data.sha256}",
            where=getattr(found, "path", "CIFAR-10"),
            todo="take sha256 out of the study if they are meant to be others",
        )
    return msgspec.structs.replace(study, data=found)


def unresolved(study: "Kind", folder: Path) -> "Kind":
    """The study as its user wrote it, but for paths, which are absolute."""
    section = study.data
    if isinstance(section, Table):
        plain = msgspec.structs.replace(section, path=str((folder / section.path).resolve()), sha256="", bytes=0)
        return msgspec.structs.replace(study, data=msgspec.structs.replace(plain, rows=0, features=0, outputs=0))
    if isinstance(section, ShowerFile):
        paths = tuple(str((folder / path).resolve()) for path in section.path)
        return msgspec.structs.replace(
            study, data=msgspec.structs.replace(section, path=paths, sha256=(), rows=0, features=0)
        )
    return study


def prepare(study: "AnyStudy") -> None:
    """Fetch and look at whatever the data phase will read. Raises DataError or SurroundingsError if it would fail."""
    _module(study.data).prepare(study.data)


def load(study: "AnyStudy") -> "Split":
    """The training pool and test points of a study. Raises DataError if they cannot be used."""
    return _module(study.data).load(study.data)


def reads(study: "AnyStudy") -> tuple[Path, ...]:
    """Folders the data phase reads from, which a container must see."""
    section = study.data
    if isinstance(section, ShowerFile | Table):
        paths = [section.path] if isinstance(section, Table) else section.path
        return tuple(sorted({Path(path).parent for path in paths}))
    if isinstance(section, Images):
        from ntkhpc.data import download

        here = download.directory()
        links = [path for path in (here / section.source).glob("*") if path.is_symlink()]
        return (here, *sorted({path.resolve().parent for path in links} - {here / section.source}))
    return ()


def _module(section: AnySource) -> Any:
    # Not all at once: pandas, h5py and pooch are slow to import, and only one of them is needed.
    return importlib.import_module(f"ntkhpc.data.{_MODULES[section.source]}")
