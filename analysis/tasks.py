"""Work of many cells as tasks of Dask, in threads or other processes, each of which reads its part of a store."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar
from uuid import uuid4

from dask.base import compute
from dask.delayed import delayed

Result = TypeVar("Result")


class Task(Generic[Result]):
    """A call that Dask does not look into: it would compute lazy arguments first, whole."""

    def __init__(self, call: Callable[..., Result], *arguments: Any):
        self._call, self._arguments = call, arguments

    def __call__(self, _: None) -> Result:
        return self._call(*self._arguments)


def each(name: str, tasks: Iterable[Task[Result]]) -> list[Result]:
    """The result of each of the tasks, which Dask calls by `name`, in their order."""
    return list(compute(*[delayed(task)(None, dask_key_name=f"{name}-{uuid4().hex}") for task in tasks]))
