"""What a person sees of a run on a terminal: what is said, line by line, and how far it has come.

The lines are results and go to standard output, the bar to standard error. Where both are one
terminal the lines are drawn above the bar.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.reasons import one_line
from srd_edge.runtime.records import Result, Verdict
from srd_edge.runtime.runner import Progress
from srd_edge.runtime.sinks import write_failed

if TYPE_CHECKING:
    from rich.progress import Task

_STYLES: Final[dict[Verdict, str]] = {
    "clean": "green",
    "suspicious": "bold red",
    "held": "dim",
    "undefended": "dim",
}
_VERDICT_CELLS: Final = max(map(len, _STYLES))
_SOURCE_CELLS: Final = 20
"""Of a source's name, from its end: files differ there."""
_CAPTION_CELLS: Final = 24
"""A caption that has less room than this beside what stands before it goes below."""
_BAR_CELLS: Final = 36
_WORDS_CELLS: Final = 44
"""Beside the bar, of a long run."""
_SOURCES: Final = 1000
"""So many sources' last captions are remembered; a folder may hold any number of pictures."""


def is_watched() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def _is_one_terminal() -> bool:
    """Whether standard output and standard error are."""
    if not is_watched() or sys.stderr is None or not sys.stderr.isatty():
        return False
    out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    return out.st_rdev == err.st_rdev


class ReadableLines:
    """The sink: a line for each frame of a source whose caption or verdict is new.

    Args:
        timed: whether frames have a time.

    Raises:
        RunError: from ``write`` where the terminal takes no more.
    """

    def __init__(self, *, timed: bool = True) -> None:
        self._timed = timed
        self._encoding = sys.stdout.encoding  # the bar's stand-in for it has none
        self._last: dict[str | None, tuple[str | None, ...]] = {}
        self._source_cells = 0

    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        news = result.verdict, result.caption, result.raw_caption
        if self._last.get(result.source) == news:
            return
        self._last[result.source] = news
        if len(self._last) > _SOURCES:
            del self._last[next(iter(self._last))]
        line = self._drawn(result).encode(self._encoding, "replace").decode(self._encoding)
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except OSError as error:
            raise write_failed(f"frame {result.frame}", "the terminal", error) from error

    def close(self) -> None:
        """Nothing is held."""

    def _drawn(self, result: Result) -> str:
        """The line as it is shown; what is longer than the terminal goes on below its caption."""
        from rich.cells import cell_len, set_cell_size
        from rich.console import Console
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        caption = result.caption
        words = "no caption yet" if caption is None else one_line(caption) or "an empty caption"
        said = Text(words, "" if caption else "dim")
        if result.raw_caption is not None and result.raw_caption != result.caption:
            said.append(f"\nundefended: {one_line(result.raw_caption)}", "dim")
        head = [Text(result.verdict.ljust(_VERDICT_CELLS), _STYLES[result.verdict])]
        if result.source is not None:
            name = _ending(one_line(result.source))
            self._source_cells = max(self._source_cells, cell_len(name))
            head.append(Text(set_cell_size(name, self._source_cells), "cyan"))
        if self._timed:
            head.insert(0, Text(f"{result.time_s:7.2f} s"))
        before, console = Text("  ").join([*head, Text()]), Console()
        with console.capture() as captured:
            if console.width - before.cell_len >= _CAPTION_CELLS:
                line = Table.grid()
                line.add_column(no_wrap=True)
                line.add_column(overflow="fold")
                line.add_row(before, said)
                console.print(line)
            else:
                console.print(before, Padding(said, (0, 0, 0, 2)), sep="\n")
        return "".join(row.rstrip() + "\n" for row in captured.get().splitlines())


@contextlib.contextmanager
def progress_bar(frames: int | None, what: str = "frames") -> Generator[Progress]:
    """How far a run is, on standard error; silent if that is not a terminal.

    Args:
        frames: how many there will be, as in Source; None where nobody knows, and there is no bar.
        what: is counted.
    """
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn
    from rich.progress import Progress as Bar
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_how_far(task, what))

    console = Console(stderr=True)
    room = max(min(console.width - _WORDS_CELLS, _BAR_CELLS), 1)
    bar = [BarColumn(room)] * (frames is not None)
    with Bar(
        *bar,
        Words(Column(no_wrap=True)),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=_is_one_terminal(),
    ) as shown:
        task = shown.add_task("", total=frames)
        yield lambda done: shown.update(task, completed=done)


def _how_far(task: Task, what: str) -> str:
    """Of so many, how many are done; how fast; and what is left, or what has passed."""
    speed = task.finished_speed or task.speed
    rate = "" if speed is None else f"   {speed:.1f} {what}/s"
    if task.total is None:
        return f"{task.completed:.0f} {what}{rate}   {_clock(task.elapsed)}"
    left = "" if task.time_remaining is None else f"   {_clock(task.time_remaining)} left"
    return f"{task.completed:.0f}/{task.total:.0f}{rate}{left}"


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(round(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _ending(name: str) -> str:
    from rich.cells import cell_len

    if cell_len(name) <= _SOURCE_CELLS:
        return name
    while cell_len(name) >= _SOURCE_CELLS:
        name = name[1:]
    return f"…{name}"
