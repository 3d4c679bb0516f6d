"""This shows the progress of phases by projected cost: as a bar on a terminal, in plain lines elsewhere."""

import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich import progress as bars
from rich.console import Console

from ntkhpc.engine import status
from ntkhpc.engine.run import Run

PLAIN_SECONDS = 15.0
ENOUGH = 0.1


class Progress:
    """It reads receipts and partial tiles and asks no process."""

    def __init__(self, run: Run, phases: tuple[str, ...], console: Console):
        self.run, self.phases, self.console, self.name = run, phases, console, ", ".join(phases)
        self.shards = [shard for phase in phases for shard in run.plan.of_phase(phase)]
        self.total = sum(shard.seconds for shard in self.shards)
        self.started = self.last_line = time.monotonic()
        self.before = self._done()[1] / self.total
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[shards]}"),
            bars.TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task(self.name, total=self.total, shards="")

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bar.start()
        else:
            finished = self._done()[0]
            self.console.print(f"{self.name}: {len(self.shards) - finished} of {len(self.shards)} shards to run")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.bar.stop()
        elif kind is None:
            finished = self._done()[0]
            seconds = time.monotonic() - self.started
            self.console.print(f"{self.name}: {finished} of {len(self.shards)} shards done, {seconds:.0f} s")

    def update(self) -> None:
        finished, cost = self._done()
        text = f"{finished}/{len(self.shards)} shards"
        if self.console.is_terminal:
            self.bar.update(self.task, completed=cost, shards=text)
        elif time.monotonic() - self.last_line > PLAIN_SECONDS:
            self.last_line = time.monotonic()
            share = cost / self.total
            line = f"{self.name}: {text}, {100 * share:.0f} % of the work"
            if share - self.before > ENOUGH:  # before that an estimate would mostly be wrong
                left = (time.monotonic() - self.started) * (1 - share) / (share - self.before)
                line += f", about {status.duration(left)} left"
            self.console.print(line)

    def _done(self) -> tuple[int, float]:
        """Count finished shards, and sum the projected cost of these and of the finished tiles of others."""
        finished = {phase: self.run.finished(phase) for phase in self.phases}
        count, cost = 0, 0.0
        for shard in self.shards:
            if shard.id in finished[shard.phase]:
                count, cost = count + 1, cost + shard.seconds
            elif tiles := shard.region.get("tile"):
                with suppress(FileNotFoundError):
                    saved = len(os.listdir(self.run.path / "partial" / shard.phase / shard.id))
                    cost += shard.seconds * min(1.0, saved / (tiles[1] - tiles[0]))
        return count, cost
