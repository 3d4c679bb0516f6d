"""The console of the command line: rich, whose own commands to a terminal are the only ones that reach it."""

from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from ntkhpc.terminal import plain


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(one) for one in renderables]


class _Shown:
    """A renderable whose text is as `plain` has it."""

    def __init__(self, inner: ConsoleRenderable):
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _shown(console.render(self.inner, options))


def _shown(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        yield segment if segment.control else Segment(plain(segment.text), segment.style)


def console() -> Console:
    """A console of the program: no highlighting, no breaking of lines, and no command that a text brings along."""
    made = Console(highlight=False, soft_wrap=True)
    made.push_render_hook(_Hook())
    return made
