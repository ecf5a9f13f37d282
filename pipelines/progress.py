"""Show how far a command is: bars on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

PLAIN_SECONDS: Final = 10.0
"""Between two plain lines."""


class Progress:
    """Where phases are shown.

    Args:
        quiet: show nothing.
        stream: stderr unless a test looks.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stderr

    def say(self, text: str) -> None:
        """One line for the person."""
        if self.quiet or self.stream is None:
            return
        try:
            print(text, file=self.stream, flush=True)
        except (BrokenPipeError, ValueError):
            # Nobody reads; the work goes on all the same.
            self.stream = None

    @contextmanager
    def phase(self, name: str, total: float | None, unit: str = "s of audio") -> Iterator[Phase]:
        """Show one piece of work, of `total` units, until the block ends."""
        phase = Phase(self, name, total, unit)
        if self.quiet or self.stream is None:
            yield phase
            return
        if not self.stream.isatty():
            yield phase
            phase.line()
            return
        with _bar(self.stream) as bar:
            phase.bar, phase.task = bar, bar.add_task(name, total=total, unit=unit, about="")
            yield phase


class Phase:
    """Work under way; `advance` it as things get done."""

    def __init__(self, progress: Progress, name: str, total: float | None, unit: str) -> None:
        self._progress = progress
        self._name = name
        self._total = total
        self._unit = unit
        self._done = 0.0
        self._earlier = 0.0
        self._begun = self._told = time.monotonic()
        self.about = ""
        self.bar: Any = None
        self.task: Any = None

    def advance(self, amount: float) -> None:
        """So much more is done."""
        self.reach(self._done + amount)

    def reach(self, done: float, counted: bool = True) -> None:
        """So much is done in all; what an earlier command did is not counted into the rate."""
        self._done = done
        if not counted:
            self._earlier = done
        self.refresh()

    def refresh(self) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self._done, about=f"{self._rate()}  {self.about}")
        elif not self._progress.quiet and time.monotonic() - self._told > PLAIN_SECONDS:
            self.line()

    def line(self) -> None:
        """Tell the state in one plain line."""
        self._told = time.monotonic()
        of = f" of {self._total:.0f}" if self._total is not None else ""
        self._progress.say(f"{self._name}: {self._done:.0f}{of} {self._unit}, {self._rate()} {self.about}".rstrip())

    def _rate(self) -> str:
        seconds = time.monotonic() - self._begun
        rate = (self._done - self._earlier) / seconds if seconds > 0 else 0.0
        unit = "x real time" if self._unit == "s of audio" else f"{self._unit}/s"
        left = (self._total - self._done) / rate if self._total is not None and rate > 0 else None
        text = f"{rate:.0f} {unit}" if rate >= 10 else f"{rate:.2g} {unit}"
        return text if not left or left <= 0 else f"{text}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bar(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[about]}"),
    )
    return Bars(*columns, console=Console(file=stream), refresh_per_second=5)
