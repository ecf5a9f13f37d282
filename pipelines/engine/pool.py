"""A pool of worker processes with one queue of tasks: a free worker gets the next task, and a dead one is replaced.

A command starts a server (`fork_server`), which forks the workers. A codec that crashes ends one worker. The journals
record the source that the worker was reading, and its task is given to another worker.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError, TonemillError
from tonemill.pipelines.child import end_in_words
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.cooking.status import UnderWay
from tonemill.pipelines.engine.channel import STOP, Channel, error_of
from tonemill.pipelines.engine.server import start_server
from tonemill.pipelines.engine.watchdog import end_largest

Task = int | Callable[[], Any]
"""The number of a shard, or a function that returns another message that a worker accepts; called for each worker."""

POLL_SECONDS: Final = 0.2

MEMORY_SECONDS: Final = 1.0
"""Seconds between two checks of the memory of all workers."""

INTERRUPT_SECONDS: Final = 1.5
"""Seconds that workers have to stop when the user stops the command; then they are killed."""

FAILURE_SECONDS: Final = 10.0
"""Seconds that workers have to stop when one of them failed."""

KILL_SECONDS: Final = 10.0
"""Seconds that the system has to end a worker that was killed."""

MOST_IDLE_ENDS: Final = 3
"""Ends while reading no source, per worker, after which the command fails."""


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
    task: Task | None = None
    putting: int | None = None
    is_surplus: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether it does anything."""
        return self.task is not None or self.putting is not None


class WorkerPool:
    """Workers that do tasks in parallel; for a `with` block, at whose end all of them are killed.

    Args:
        count: of workers.
        job: what the workers do, as `worker.work_for` reads it, without what this process is and has.
        home: folder of the plan, which has the journals.
        watch: gets the shards in progress by number, several times a second. An error that it raises stops the work.
        among: numbers of the shards that belong to this command; None for all.
    """

    def __init__(
        self,
        count: int,
        job: Mapping[str, Any],
        home: Path,
        watch: Callable[[Mapping[int, UnderWay]], None],
        among: Collection[int] | None = None,
    ) -> None:
        mine = {"workers": count, "path": sys.path, "environment": dict(os.environ), "folder": str(Path.cwd())}
        self._job = {**job, **mine}
        self._count, self._home, self._watch, self._among = count, home, watch, among
        self._known: dict[int, UnderWay] = {}
        self._workers: list[Worker] = []
        self._waiting: deque[Task] = deque()
        self._alone: deque[Task] = deque()
        self._idle_ends = 0

    def __enter__(self) -> WorkerPool:
        self._server = start_server()
        self._channels = selectors.DefaultSelector()
        self._channels.register(self._server, selectors.EVENT_READ)
        try:
            for place in range(self._count):
                self._start(place)
        except BaseException:
            self._end(0.0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        failed = kind is not None and issubclass(kind, TonemillError)
        self._end(FAILURE_SECONDS if failed else 0.0 if kind is None else INTERRUPT_SECONDS)

    def do(self, tasks: Sequence[Task]) -> None:
        """Give each task to a worker, and return when all are done.

        Raises:
            TonemillError: a worker failed.
        """
        self._waiting.extend(tasks)
        watched = looked = 0.0
        while True:
            free = [worker for worker in self._workers if worker.task is None and not worker.is_surplus]
            for worker in free[: len(self._waiting)]:
                self._give(worker, self._waiting.popleft())
            if not any(worker.is_busy for worker in self._workers):
                if not self._alone:
                    return
                self._give(free[0], self._alone.popleft())
            for worker, message in self._messages(POLL_SECONDS):
                self._take(worker, message)
            now = time.monotonic()
            if now - watched > POLL_SECONDS / 2:
                self._watch(self._known)
                watched = time.monotonic()
            if now - looked > MEMORY_SECONDS:
                looked = now
                end_largest([worker.process for worker in self._workers])

    def _start(self, place: int) -> None:
        worker = Worker(*self._server.fork({**self._job, "place": place}), place)
        self._workers.append(worker)
        self._channels.register(worker.channel, selectors.EVENT_READ, worker)

    def _give(self, worker: Worker, task: Task) -> None:
        worker.task, message = task, task if isinstance(task, int) else task()
        with suppress(OSError):  # if the worker has ended, the server reports it
            worker.channel.send(message)

    def _messages(self, seconds: float) -> Iterator[tuple[Worker, dict[str, Any]]]:
        """Wait for messages of the workers, at most some seconds, and yield them.

        Raises:
            OutputError: the server has ended.
        """
        for ready, _ in self._channels.select(seconds):
            worker = ready.data
            try:
                if worker is None:  # the server sends nothing; it has ended
                    raise EOFError
                for message in worker.channel.read():
                    yield worker, message
            except EOFError:
                raise self._server.failure() from None

    def _take(self, worker: Worker, message: dict[str, Any]) -> None:
        if "failed" in message:
            raise error_of(*message["failed"])
        if "broke" in message:
            raise OutputError(
                f"A worker process failed: {message['broke']}. Finished work is kept: repeat the command to go on."
            )
        if "at" in message:
            self._known |= {number: UnderWay(*counts) for number, *counts in message["at"]}
        elif "ended" in message:
            self._on_worker_end(worker, message["ended"])
        elif "surplus" in message:
            worker.is_surplus = True
            if worker.task is not None:
                self._waiting.appendleft(worker.task)
                worker.task = None
        elif "put" in message:
            worker.putting, self._idle_ends = None, 0
        else:
            worker.task, worker.putting, self._idle_ends = None, message.get("cooked", worker.putting), 0

    def _on_worker_end(self, worker: Worker, code: int) -> None:
        """Record in the journals how a worker ended, start another in its place, and queue its task again."""
        self._remove(worker)
        if worker.is_surplus:
            return
        task, what = worker.task, journal.SUSPECT if code == journal.HUNG_EXIT else end_in_words(code)
        mine = [task] if isinstance(task, int) else self._among
        # The watchdog has named the hung source in its journal. Sources of the worker's other shards are suspects only.
        if task is None or not journal.note_end(self._home, what, mine):
            self._idle_ends += 1
            if self._idle_ends == MOST_IDLE_ENDS * self._count:
                words = self._server.last_words()
                raise OutputError(
                    f"A worker ended with {end_in_words(code)} while it read no source, as did {self._idle_ends - 1} "
                    f"before it{f': {words}' if words else ''}. Finished work is kept: repeat the command to go on."
                )
        self._start(worker.place)
        if worker.putting is not None:
            self._waiting.appendleft(worker.putting)
        if task is not None:
            # The kernel kills the largest process, which may not be the cause. Its task runs once more, alone.
            (self._alone if code == -signal.SIGKILL else self._waiting).appendleft(task)

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._channels.unregister(worker.channel)
        worker.channel.close()

    def _end(self, seconds: float) -> None:
        """Have the workers stop before their next clip and end; kill those that have not ended after some seconds."""
        try:
            for worker in self._workers:
                with suppress(OSError):
                    worker.channel.send(STOP)
            self._await_ends(seconds)
        finally:
            for worker in self._workers:
                # The whole process group, with processes that a Beam runner started there.
                with suppress(ProcessLookupError):
                    os.killpg(worker.process, signal.SIGKILL)
            self._await_ends(KILL_SECONDS)
            for worker in self._workers:
                worker.channel.close()
            self._channels.close()

    def _await_ends(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with suppress(OutputError):  # the server has ended, and reports no more ends
            while self._workers and (left := until - time.monotonic()) > 0:
                for worker, message in self._messages(left):
                    if "ended" in message:
                        self._remove(worker)
