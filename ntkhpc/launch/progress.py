"""Progress of a phase by projected cost: a bar on a terminal, plain lines elsewhere."""

import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich import progress as bars
from rich.console import Console

from ntkhpc.run import Run

PLAIN_SECONDS = 15.0


class Progress:
    """Reads receipts and partial tiles; never asks a process."""

    def __init__(self, run: Run, phase: str, console: Console):
        self.run, self.phase, self.console = run, phase, console
        self.shards = run.plan.of_phase(phase)
        self.total = sum(shard.seconds for shard in self.shards)
        self.started = self.last_line = time.monotonic()
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[shards]}"),
            bars.TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task(phase, total=self.total, shards="")

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bar.start()
        else:
            finished = len(self.run.finished(self.phase))
            self.console.print(f"{self.phase}: {len(self.shards) - finished} of {len(self.shards)} shards to run")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.bar.stop()
        elif kind is None:
            finished = len(self.run.finished(self.phase))
            seconds = time.monotonic() - self.started
            self.console.print(f"{self.phase}: {finished} of {len(self.shards)} shards done, {seconds:.0f} s")

    def update(self) -> None:
        finished, cost = self._done()
        text = f"{finished}/{len(self.shards)} shards"
        if self.console.is_terminal:
            self.bar.update(self.task, completed=cost, shards=text)
        elif time.monotonic() - self.last_line > PLAIN_SECONDS:
            self.last_line = time.monotonic()
            share = cost / self.total
            self.console.print(f"{self.phase}: {text}, {100 * share:.0f} % of the work")

    def _done(self) -> tuple[int, float]:
        """Finished shards, and the projected cost of what is finished: shards, and tiles of those under way."""
        finished = self.run.finished(self.phase)
        partial = self.run.path / "partial" / self.phase
        started = set(os.listdir(partial)) if partial.exists() else set()
        cost = 0.0
        for shard in self.shards:
            if shard.id in finished:
                cost += shard.seconds
            elif shard.id in started:
                with suppress(FileNotFoundError):
                    first, last = shard.region["tile"]
                    cost += shard.seconds * min(1.0, len(os.listdir(partial / shard.id)) / (last - first))
        return len(finished), cost
