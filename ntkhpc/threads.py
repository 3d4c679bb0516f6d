"""Work that threads share, so that their number changes no bit: cut in one way, and put together in one order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from ntkhpc.blocks import STRIP

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    found = ThreadPoolExecutor(threads)
    try:
        yield found
    finally:
        found.shutdown(cancel_futures=True)


def each(workers: ThreadPoolExecutor, work: Callable[[slice], None], rows: int) -> None:
    """Do what is to be done to each strip of so many rows: from the last one on, which is the largest of a triangle."""
    starts = reversed(range(0, rows, STRIP))
    for done in [workers.submit(work, slice(start, min(start + STRIP, rows))) for start in starts]:
        done.result()


@contextmanager
def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Iterator[Iterator[Result]]:
    """What is made of each item, in the order of the items, while these threads make the ones that come after it.

    So many results are waited for or wait at a time, and one is in the hands of the caller.
    """
    with pool(threads) as workers:

        def results() -> Iterator[Result]:
            left = iter(items)
            coming: deque[Future[Result]] = deque(workers.submit(work, item) for item in islice(left, threads))
            while coming:
                found = coming.popleft().result()
                coming.extend(workers.submit(work, item) for item in islice(left, 1))
                yield found

        yield results()
