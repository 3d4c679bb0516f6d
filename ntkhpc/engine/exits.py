"""Exit statuses of workers and tasks that say why they ended."""

STOPPED = 75
"""Told to stop, and kept what it had: the host side requeues it."""

TOO_SHORT = 76
"""Ran into its time limit with shards that keep nothing: it needs more time."""

INCOMPLETE = 3
"""Earlier phases are incomplete: only the host side can mend that."""
