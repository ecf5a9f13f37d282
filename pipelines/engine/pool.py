"""Worker processes that take tasks from one queue: who is free gets the next, and who dies is replaced.

A command starts a server (`fork_server`), which forks a worker for each that is wanted. A codec that crashes takes one
worker with it: the journals say which source that one was at, and its task goes to another.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError, TonemillError
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.channel import Channel, error_of
from tonemill.pipelines.engine.server import start_server
from tonemill.pipelines.engine.watchdog import end_largest

POLL_SECONDS: Final = 0.2

MEMORY_SECONDS: Final = 1.0
"""Between two looks at the memory of all workers."""

INTERRUPT_SECONDS: Final = 1.5
"""How long workers may take to stop when a person ends the command; then they are killed."""

FAILURE_SECONDS: Final = 10.0
"""How long they may take when one of them failed."""

MOST_IDLE_ENDS: Final = 3
"""So often may each worker end while it is at no source, for whatever reason, before a command gives up."""


@dataclass
class UnderWay:
    """What is known of the shards that a worker on this machine is at, by number.

    Args:
        seconds: expected seconds of sound cooked so far.
        refused: sources and clips refused so far.
        rejected: whole sources rejected so far.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    rejected: dict[int, int] = field(default_factory=dict)


@dataclass
class Worker:
    """A worker process, seen from the command.

    Args:
        process: its id.
        channel: to it.
        place: among all workers.
        task: that it is at; None where it is free.
        is_surplus: every device has a worker already, and this one ends.
    """

    process: int
    channel: Channel
    place: int
    task: Any = None
    is_surplus: bool = False


class WorkerPool:
    """Workers that do tasks side by side; to be used in a `with` block, at whose end none of them lives.

    Args:
        count: of workers.
        job: what `worker.work_for` needs to know, but for its place.
        home: of the plan, where the journals are found.
        watch: shows progress; called some times a second. What it raises stops the work.
        among: numbers of the only shards that are this command's; None where all are.
    """

    def __init__(
        self,
        count: int,
        job: dict[str, Any],
        home: Path,
        watch: Callable[[UnderWay], None],
        among: Collection[int] | None = None,
    ) -> None:
        self._job = {
            **job,
            "workers": count,
            "path": sys.path,
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
        }
        self._count, self._home, self._watch, self._among = count, home, watch, among
        self._known = UnderWay()
        self._workers: list[Worker] = []
        self._waiting: deque[Any] = deque()
        self._alone: deque[Any] = deque()
        self._again: Callable[[Any], Any] = lambda task: task
        self._idle_ends = 0
        self._memory_looked = self._watched = 0.0

    def __enter__(self) -> WorkerPool:
        self._server = start_server()
        try:
            for place in range(self._count):
                self._start(place)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._stop(FAILURE_SECONDS if issubclass(kind, TonemillError) else INTERRUPT_SECONDS)
        finally:
            self._end()

    def do(self, tasks: Sequence[Any], again: Callable[[Any], Any] = lambda task: task) -> None:
        """Have workers do tasks, each once, until all are done.

        Args:
            tasks: numbers of shards, or other messages that a worker takes.
            again: the task to give in place of one whose worker ended.

        Raises:
            TonemillError: a worker failed.
        """
        self._waiting.extend(tasks)
        self._again = again
        while True:
            free = [worker for worker in self._workers if worker.task is None and not worker.is_surplus]
            for worker, _ in zip(free, range(len(self._waiting)), strict=False):
                self._give(worker, self._waiting.popleft())
            if not any(worker.task is not None for worker in self._workers):
                if not self._alone:
                    return
                self._give(free[0], self._alone.popleft())
            self._look()
            now = time.monotonic()
            if now - self._watched > POLL_SECONDS / 2:
                self._watch(self._known)
                self._watched = time.monotonic()
            if now - self._memory_looked > MEMORY_SECONDS:
                self._memory_looked = now
                end_largest([worker.process for worker in self._workers])

    def _start(self, place: int) -> None:
        process, channel = self._server.fork({**self._job, "place": place})
        self._workers.append(Worker(process, channel, place))

    def _give(self, worker: Worker, task: Any) -> None:
        worker.task = task
        # If it has ended, the server tells.
        with contextlib.suppress(OSError):
            worker.channel.tell(task)

    def _look(self) -> None:
        """Take in what workers and the server tell, which is waited for a moment."""
        poll = select.poll()
        by_end: dict[int, Worker | None] = {self._server.channel.fileno(): None}
        by_end |= {worker.channel.fileno(): worker for worker in self._workers}
        for end in by_end:
            poll.register(end, select.POLLIN)
        for end, _ in poll.poll(1000 * POLL_SECONDS):
            worker = by_end[end]
            if worker is None:
                self._server.read()
            else:
                # Without waiting, for one that has ended stays ready to be read until the server tells of it.
                messages, is_gone = worker.channel.messages()
                for message in messages:
                    self._take(worker, message)
                if is_gone and worker.process not in self._server.ended:
                    self._server.read()
        for worker in [one for one in self._workers if one.process in self._server.ended]:
            self._bury(worker)

    def _take(self, worker: Worker, message: dict[str, Any]) -> None:
        if "at" in message:
            for key, (seconds, refused, rejected) in message["at"].items():
                number = int(key)
                self._known.seconds[number] = seconds
                self._known.refused[number], self._known.rejected[number] = refused, rejected
            return
        task, worker.task = worker.task, None
        self._idle_ends = 0
        if "failed" in message:
            raise error_of(*message["failed"])
        if "broke" in message:
            raise OutputError(
                f"A worker failed: {message['broke']}. What was finished stays; give the same command again to go on."
            )
        if "surplus" in message:
            worker.is_surplus = True
            if task is not None:
                self._waiting.appendleft(task)

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.channel.close()

    def _bury(self, worker: Worker) -> None:
        """Note how a worker ended, start another in its place, and give its task back."""
        for message in worker.channel.messages()[0]:
            self._take(worker, message)
        self._remove(worker)
        what, task = _name_of(self._server.ended.pop(worker.process)), worker.task
        if worker.is_surplus:
            return
        mine = [task] if isinstance(task, int) else self._among
        # What hung is in the journal by name; other shards of that worker were at work beside it.
        if task is None or not journal.note_end(self._home, journal.SUSPECT if what == journal.HUNG else what, mine):
            self._idle_ends += 1
            if self._idle_ends == MOST_IDLE_ENDS * self._count:
                raise OutputError(
                    f"A worker ended with {what} while it was at no source, as {self._idle_ends - 1} before it"
                    f"{': ' + words if (words := self._server.last_words()) else ''}. What was finished stays; give "
                    "the same command again to go on."
                )
        self._start(worker.place)
        if task is not None:
            # The kernel ends the largest process, which need not be the one that took too much: once more, alone.
            (self._alone if what == signal.SIGKILL.name else self._waiting).appendleft(self._again(task))

    def _stop(self, seconds: float) -> None:
        """Ask the workers to stop before their next clip, and wait until they have, or so long."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.channel.tell("stop")
        until = time.monotonic() + seconds
        while any(worker.task is not None for worker in self._workers) and time.monotonic() < until:
            time.sleep(0.01)
            for worker in self._workers:
                messages, is_gone = worker.channel.messages()
                if is_gone or any("at" not in message for message in messages):
                    worker.task = None

    def _end(self) -> None:
        """End all workers, and wait until they have."""
        for worker in self._workers:
            # With what a runner of Beam started there.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process, signal.SIGKILL)
        with contextlib.suppress(TonemillError):
            while {one.process for one in self._workers} - self._server.ended.keys():
                self._server.read()
        while self._workers:
            self._remove(self._workers[0])


def _name_of(code: int) -> str:
    """What ended a process: the name of a signal, that a decoder hung, or its exit code."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"
    return journal.HUNG if code == journal.HUNG_EXIT else f"exit code {code}"
