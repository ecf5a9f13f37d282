"""A pool of worker processes with one queue of tasks: a free worker gets the next task, and a dead one is replaced.

A command starts a server (`fork_server`), which forks the workers. A codec that crashes ends one worker. The journals
record the source that the worker was reading, and its task is given to another worker.
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
from tonemill.pipelines.child import end_in_words
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.engine.channel import Channel, error_of
from tonemill.pipelines.engine.server import start_server
from tonemill.pipelines.engine.watchdog import end_largest

POLL_SECONDS: Final = 0.2

MEMORY_SECONDS: Final = 1.0
"""Seconds between two checks of the memory of all workers."""

INTERRUPT_SECONDS: Final = 1.5
"""Seconds that workers have to stop when the user stops the command; then they are killed."""

FAILURE_SECONDS: Final = 10.0
"""Seconds that workers have to stop when one of them failed."""

MOST_IDLE_ENDS: Final = 3
"""Ends while reading no source, per worker, after which the command fails."""


@dataclass
class UnderWay:
    """Progress of the shards that workers on this machine are cooking, by shard number.

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
    """The command's record of a worker process.

    Args:
        process: process id.
        channel: to the process.
        place: number of the worker, from 0.
        task: in progress; None if the worker is free.
        putting: number of a shard that it has cooked and puts into a store; None without one.
        is_surplus: every device has a worker already, so this one ends.
    """

    process: int
    channel: Channel
    place: int
    task: Any = None
    putting: int | None = None
    is_surplus: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether it does anything."""
        return self.task is not None or self.putting is not None

    def note(self, message: dict[str, Any]) -> Any:
        """Take in a message about its tasks; returns the task that ended without being put."""
        task = None
        if "cooked" in message:
            self.task, self.putting = None, message["cooked"]
        elif "put" in message:
            self.putting = None
        elif "at" not in message:
            task, self.task = self.task, None
        return task


class WorkerPool:
    """Workers that do tasks in parallel; for a `with` block, at whose end all of them are killed.

    Args:
        count: of workers.
        job: the argument `job` of `worker.work_for`, without the worker's place.
        home: folder of the plan, which has the journals.
        watch: shows progress; called several times a second. An error that it raises stops the work.
        among: numbers of the shards that belong to this command; None for all.
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
        """Give each task to a worker, and return when all are done.

        Args:
            tasks: numbers of shards, or other messages that a worker accepts.
            again: maps a task whose worker ended to the task that replaces it.

        Raises:
            TonemillError: a worker failed.
        """
        self._waiting.extend(tasks)
        self._again = again
        while True:
            free = [worker for worker in self._workers if worker.task is None and not worker.is_surplus]
            for worker, _ in zip(free, range(len(self._waiting)), strict=False):
                self._give(worker, self._waiting.popleft())
            if not any(worker.is_busy for worker in self._workers):
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
        # If the worker has ended, the server reports it.
        with contextlib.suppress(OSError):
            worker.channel.send(task)

    def _look(self) -> None:
        """Handle messages of the workers and of the server; wait at most `POLL_SECONDS` for one."""
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
                # Without waiting: the channel of a worker that ended stays readable until the server reports the end.
                messages, is_gone = worker.channel.messages()
                for message in messages:
                    self._take(worker, message)
                if is_gone and worker.process not in self._server.ended:
                    self._server.read()
        for worker in [one for one in self._workers if one.process in self._server.ended]:
            self._on_worker_end(worker)

    def _take(self, worker: Worker, message: dict[str, Any]) -> None:
        if "at" in message:
            for key, (seconds, refused, rejected) in message["at"].items():
                number = int(key)
                self._known.seconds[number] = seconds
                self._known.refused[number], self._known.rejected[number] = refused, rejected
            return
        task = worker.note(message)
        self._idle_ends = 0
        if "failed" in message:
            raise error_of(*message["failed"])
        if "broke" in message:
            raise OutputError(
                f"A worker process failed: {message['broke']}. Finished work is kept: repeat the command to go on."
            )
        if "surplus" in message:
            worker.is_surplus = True
            if task is not None:
                self._waiting.appendleft(task)

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.channel.close()

    def _on_worker_end(self, worker: Worker) -> None:
        """Record in the journals how a worker ended, start another in its place, and queue its task again."""
        for message in worker.channel.messages()[0]:
            self._take(worker, message)
        self._remove(worker)
        what, task = _name_of(self._server.ended.pop(worker.process)), worker.task
        if worker.is_surplus:
            return
        mine = [task] if isinstance(task, int) else self._among
        # The watchdog has named the hung source in its journal. Sources of the worker's other shards are suspects only.
        if task is None or not journal.note_end(self._home, journal.SUSPECT if what == journal.HUNG else what, mine):
            self._idle_ends += 1
            if self._idle_ends == MOST_IDLE_ENDS * self._count:
                raise OutputError(
                    f"A worker ended with {what} while it read no source, as did {self._idle_ends - 1} before "
                    f"it{': ' + words if (words := self._server.last_words()) else ''}. Finished work is kept: "
                    "repeat the command to go on."
                )
        self._start(worker.place)
        if worker.putting is not None:
            self._waiting.appendleft(self._again(worker.putting))
        if task is not None:
            # The kernel kills the largest process, which may not be the cause. Its task runs once more, alone.
            (self._alone if what == signal.SIGKILL.name else self._waiting).appendleft(self._again(task))

    def _stop(self, seconds: float) -> None:
        """Request that the workers stop before their next clip, and wait for them, at most `seconds`."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.channel.send("stop")
        until = time.monotonic() + seconds
        while any(worker.is_busy for worker in self._workers) and time.monotonic() < until:
            time.sleep(0.01)
            for worker in self._workers:
                messages, is_gone = worker.channel.messages()
                for message in messages:
                    worker.note(message)
                if is_gone:
                    worker.task = worker.putting = None

    def _end(self) -> None:
        """Kill all workers and wait for them."""
        for worker in self._workers:
            # The whole process group, with processes that a Beam runner started there.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process, signal.SIGKILL)
        with contextlib.suppress(TonemillError):
            while {one.process for one in self._workers} - self._server.ended.keys():
                self._server.read()
        while self._workers:
            self._remove(self._workers[0])


def _name_of(code: int) -> str:
    """How a worker ended, from its exit code: `journal.HUNG`, or as `end_in_words`."""
    return journal.HUNG if code == journal.HUNG_EXIT else end_in_words(code)
