"""Show how far a command is: bars on a terminal, plain lines elsewhere, lines of JSON for programs; all on stderr."""

from __future__ import annotations

import bisect
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.secrets import without_secrets

PLAIN_SECONDS: Final = 10.0
"""Between two plain lines."""

MACHINE_SECONDS: Final = 0.5
"""Between two lines of JSON."""

MOST_SEEN: Final = 500
"""So many moments are remembered, and at most twice as many."""

AUDIO: Final = "s of audio"
"""The unit of work that is sound."""

STORED: Final = "s to store"
"""The same, where only what is stored counts: what `slice` leaves behind, say, does not."""


class Progress:
    """Where phases are shown.

    Args:
        quiet: show nothing.
        stream: stderr unless a test looks.
        machine: where a line of JSON goes some times a second, besides.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, machine: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self.machine = machine

    def say(self, text: str) -> None:
        """One line for the person, without secrets; for a program that reads the same stream it is JSON too."""
        text = without_secrets(text)
        self.record({"message": text})
        self.show(text)

    def warn(self, text: str) -> None:
        """Print a line, with `--quiet` too."""
        text = without_secrets(text)
        self.record({"message": text})
        if self.machine is not sys.stderr and sys.stderr is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()

    def show(self, text: str) -> None:
        """One line for the person alone."""
        if self.quiet or self.stream is None:
            return
        try:
            print(text, file=self.stream, flush=True)
        except (BrokenPipeError, ValueError):
            # stderr is closed; the work goes on without messages.
            self.stream = None

    def record(self, entry: dict[str, Any]) -> None:
        """One line of JSON for a program."""
        if self.machine is None:
            return
        try:
            print(
                json.dumps({"time": round(time.time(), 3), **entry}, ensure_ascii=False), file=self.machine, flush=True
            )
        except (OSError, ValueError):
            # Neither a full disk nor a reader that left may stop the work.
            self.machine = None

    @contextmanager
    def phase(self, name: str, total: float | None, unit: str = AUDIO, shown: str = "") -> Iterator[Phase]:
        """Show one piece of work, of `total` units, until the block ends; people read `shown` for the unit."""
        name = without_secrets(name)
        phase = Phase(self, name, total, unit, shown or unit)
        if self.quiet or self.stream is None:
            yield phase
            phase.tell_program("done")
            return
        if not self.stream.isatty():
            yield phase
            phase.close()
            phase.tell_program("done")
            return
        with _bar(self.stream) as bar:
            phase.bar, phase.task = bar, bar.add_task(name, total=total, unit=phase.shown, about="")
            yield phase
            phase.tell_program("done")


def open_progress(kind: Literal["auto", "none", "jsonl"], file: Path | None = None, quiet: bool = False) -> Progress:
    """Make the progress display of a command.

    Args:
        kind: `auto` for people, `none`, or `jsonl` for programs.
        file: where lines of JSON go, appended to what is there; stderr if None.
        quiet: nothing for people.

    Raises:
        UsageError: the file cannot be written, or `kind` is not `jsonl`.
    """
    if file is not None and kind != "jsonl":
        raise UsageError(f"--progress-file {file} takes lines of JSON only: add --progress jsonl.")
    if kind != "jsonl":
        return Progress(quiet or kind == "none")
    if file is None:
        return Progress(quiet=True, machine=sys.stderr)
    try:
        return Progress(quiet, machine=file.open("a", encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--progress-file {file} cannot be written: {error.strerror}.") from error


class Phase:
    """Work under way; `advance` it as things get done."""

    def __init__(self, progress: Progress, name: str, total: float | None, unit: str, shown: str) -> None:
        self._progress = progress
        self._name = name
        self._total = total
        self._unit = unit
        self.shown = shown
        self._done = 0.0
        self._earlier = 0.0
        self._stated: tuple[float, str] | None = None
        self._begun = self._printed = self._recorded = time.monotonic()
        self._seen: list[tuple[float, float]] = []
        self.rejects = 0
        self._rejects_under_way = 0
        self.about = ""
        self.bar: Any = None
        self.task: Any = None
        self.tell_program("begun")

    def say(self, text: str) -> None:
        """One line for the person, above the bar where there is one."""
        if self.bar is None:
            self._progress.say(text)
            return
        text = without_secrets(text)
        self._progress.record({"message": text})
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, amount: float) -> None:
        """So much more is done."""
        self.reach(self._done + amount)

    def reach(self, done: float, counted: bool = True, rejects_under_way: int = 0) -> None:
        """So much is done in all; what an earlier command did is not counted into the rate."""
        self._rejects_under_way = rejects_under_way
        if not counted:
            self._earlier = done
        elif done > self._done:
            self._see(done)
        self._done = done
        self.refresh()

    def refresh(self) -> None:
        now = time.monotonic()
        if self._progress.machine is not None and now - self._recorded > MACHINE_SECONDS:
            self.tell_program("working")
        if self.bar is not None:
            self.bar.update(self.task, completed=self._done, about=f"{self._shown()}  {self.about}")
        elif not self._progress.quiet and now - self._printed > PLAIN_SECONDS:
            self.line()

    def line(self) -> None:
        """Tell the state in one plain line."""
        self._printed, self._stated = time.monotonic(), (self._done, self.about)
        of = f" of {self._total:.0f}" if self._total is not None else ""
        self._progress.show(f"{self._name}: {self._done:.0f}{of} {self.shown}, {self._shown()} {self.about}".rstrip())

    def close(self) -> None:
        """State where it ended, unless the last line did."""
        if self._stated != (self._done, self.about):
            self.line()

    def tell_program(self, state: Literal["begun", "working", "done"]) -> None:
        """Tell the state in one line of JSON."""
        self._recorded = time.monotonic()
        rate = self.rate()
        left = self.seconds_left()
        self._progress.record(
            {
                "phase": self._name,
                "state": state,
                "done": round(self._done, 3),
                "total": None if self._total is None else round(self._total, 3),
                "unit": self._unit,
                "seconds_of_audio": round(self._done, 3) if self._unit == AUDIO else None,
                "rate": round(rate, 3),
                "elapsed_seconds": round(self._recorded - self._begun, 3),
                "eta_seconds": None if left is None else round(left, 3),
                "rejects": self.rejects + self._rejects_under_way,
                "about": self.about or None,
            }
        )

    def _see(self, done: float) -> None:
        """Remember when so much was done, some hundred times in all."""
        now = time.monotonic()
        if not self._seen or now - self._seen[-1][0] > (now - self._seen[0][0]) / MOST_SEEN:
            self._seen.append((now, done))
        if len(self._seen) > 2 * MOST_SEEN:
            del self._seen[1::2]

    def rate(self) -> float:
        """Units a second over the later half of the time since the first thing was done; 0 as long as nothing is.

        The first examples take longer, as they load and compile; they would distort the estimate of what is left.
        """
        if not self._seen:
            return 0.0
        now = time.monotonic()
        middle = (self._seen[0][0] + now) / 2
        at, done = self._seen[max(0, bisect.bisect(self._seen, (middle,)) - 1)]
        if self._done > done and now > at:
            return (self._done - done) / (now - at)
        # One thing is done, or one that takes long is under way: the best guess has all of the time in it.
        whole = now - self._begun
        return (self._done - self._earlier) / whole if whole > 0 else 0.0

    def seconds_left(self) -> float | None:
        rate = self.rate()
        return None if self._total is None or rate <= 0 else max(0.0, (self._total - self._done) / rate)

    def _shown(self) -> str:
        rate, left = self.rate(), self.seconds_left()
        unit = "x real time" if self._unit == AUDIO else f"{self._unit}/s"
        text = f"{rate:.0f} {unit}" if rate >= 10 else f"{rate:.2g} {unit}"
        return f"{text}, {_clock(left)} left" if left else text


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
