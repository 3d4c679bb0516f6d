"""A worker that is told to stop ends as by Ctrl-C, at the latest when its tile, or a shard without tiles, is saved.

The exception alone is not enough: raised in a finaliser or in a callback of the garbage collector, of which JAX has
one, Python prints and forgets it.
"""

import signal

_told = False


def listen() -> None:
    """Let TERM and USR2 raise KeyboardInterrupt, now or in `check`; submitit would ignore TERM."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _interrupt)


def check() -> None:
    """Raises KeyboardInterrupt if this process was told to stop."""
    if _told:
        raise KeyboardInterrupt


def _interrupt(*_: object) -> None:
    global _told
    _told = True
    raise KeyboardInterrupt
