"""Packages whose versions a run records, and those without which it does not go on."""

import importlib.metadata
import platform

DECIDING = ("blackjax", "jax", "jaxlib", "numpy", "optax", "scipy", "zarr")
"""Packages that decide the values of shards: the missing shards of a run are refused with another version of one."""

PACKAGES = (*DECIDING, "dask", "lmfit", "pandas", "pyarrow", "xarray")
"""Packages whose versions are recorded. pandas and pyarrow read users' tables, in the one shard of phase `data`; dask,
lmfit and xarray decide numbers of reports."""

SOME = ("neural-tangents",)
"""Packages that decide the values of some studies (`Study.packages`), whose runs record their versions too."""


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of packages, `missing` for one that is not installed."""
    installed = {}
    for name in packages:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "missing"
    # The patch level decides no bit; a container's rarely is the login node's.
    return {"python": ".".join(platform.python_version_tuple()[:2]), **installed}


def changed_versions(recorded: dict[str, str]) -> list[tuple[str, str, str]]:
    """Name, recorded version and version here of Python and of each deciding package that changed.

    A package that the record does not name is none of them. Code of format 1 recorded submitit and compares every name
    of its record; a run that goes on in such code must have all of them.
    """
    deciding = (*DECIDING, *(name for name in SOME if name in recorded))
    here = versions(tuple(name for name in recorded if name != "python") if "submitit" in recorded else deciding)
    return [(name, recorded[name], here[name]) for name in here if recorded.get(name, here[name]) != here[name]]
