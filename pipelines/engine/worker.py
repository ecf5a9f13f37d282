"""A worker process: does one task after the other for its command, and ends with the command.

    command -> worker   the job; then a task: the number of a shard, or a graph for a Beam runner; or `stop`, upon which
                        it stops before its next clip and ends
    worker -> command   at (progress of shards); for each task done, stopped, failed (an error of ours) or broke (any
                        other error); or surplus: there is no device for the worker, and it ends. Of a shard that is put
                        into a store, first cooked, upon which the worker takes another task, and then one of those
                        above, with its number as put

A worker holds the locks of its command until it ends, so no other command can use the folder, even if the command was
killed. When the command ends, the worker ends at once.
"""

from __future__ import annotations

import os
import pkgutil
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines.cooking import journal, status
from tonemill.pipelines.engine.channel import STOP, Channel, named
from tonemill.pipelines.engine.devices import take_device
from tonemill.pipelines.engine.server import ALLOCATION
from tonemill.pipelines.engine.watchdog import end_if_hung
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import place

REPORT_SECONDS: Final = 0.2
"""Seconds between two reports of progress."""


def work_for(command: Channel) -> NoReturn:
    """Do the tasks that the command sends, until this process ends.

    Args:
        command: channel to the command. Its first message has the home of the plan, the name of the work, the patience
            with decoders, the devices, number and place of the workers; and the command's environment, folder and
            module path.
    """
    try:
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_follow, args=(command, messages), daemon=True).start()
        job = messages.get()
        _settle(job)
        threading.Thread(target=end_if_hung, args=(job["patience"],), daemon=True).start()
        if job["devices"] and not take_device(job["devices"], job["place"], job["workers"]):
            _end(command, {"surplus": True})
        reported: dict[int, status.UnderWay] = {}
        threading.Thread(target=_report_often, args=(command, reported), daemon=True).start()
        home, commits = place(job["home"]), Commits(command)
        status.COMMITTED.set(commits.take)
        while (task := messages.get()) != STOP:
            commits.task = task
            answer = _outcome(partial(_do, command, home, job["work"], task))
            _report_progress(command, reported)
            # Of what was taken, `commits` sends how it ends.
            if commits.task is not None:
                command.send(answer)
        commits.wait()
    except Exception:
        traceback.print_exc()  # the command prints the last line when this process ends
    finally:
        copies.discard()
        _exit()


def _settle(job: dict[str, Any]) -> None:
    """Give this process the environment, folder and module path of the command."""
    for name in os.environ.keys() - job["environment"].keys() - ALLOCATION.keys():
        del os.environ[name]
    os.environ.update(job["environment"])
    tempfile.tempdir = None
    sys.path[:] = job["path"]
    with suppress(OSError):
        os.chdir(job["folder"])
    journal.set_patience(job["patience"])


def _do(command: Channel, home: Path, work: str, task: Any) -> None:
    if isinstance(task, int):
        pkgutil.resolve_name(work)(home, task)
    else:
        from tonemill.pipelines.engine.beam import run_on

        run_on(home, work, end=lambda answer: _end(command, answer), **task)


def _outcome(act: Callable[[], None]) -> dict[str, Any]:
    """How something ended, for the command."""
    try:
        act()
    except TonemillError as error:
        return {"failed": named(error)}
    except status.Stopped:
        return {"stopped": True}
    except Exception as error:
        return {"broke": f"{type(error).__name__}: {error}"}
    return {"done": True}


class Commits:
    """Commits shards, one at a time, each while this process cooks the next one.

    Args:
        command: channel to the command.
    """

    def __init__(self, command: Channel) -> None:
        self._command = command
        self._thread: threading.Thread | None = None
        self.task: Any = None
        """In progress; None once its commit was taken."""

    def take(self, commit: Callable[[], None]) -> None:
        """Commit the shard in progress, after the one before: no more than two are on this machine."""
        if not isinstance(self.task, int):
            # A graph of a Beam runner, whose elements are done when they return.
            commit()
            return
        self.wait()
        # The thread reports that the shard is cooked: where none can start, the shard stays in progress, and fails.
        thread = threading.Thread(target=self._commit, args=(self.task, commit), daemon=True)
        thread.start()
        self._thread, self.task = thread, None

    def wait(self) -> None:
        """Wait for the commit of the shard before, if there is one."""
        if self._thread is not None:
            self._thread.join()

    def _commit(self, number: int, commit: Callable[[], None]) -> None:
        with suppress(OSError):
            self._command.send({"cooked": number})
        answer = _outcome(commit)
        with suppress(OSError):
            self._command.send({**answer, "put": number})


def _end(command: Channel, answer: dict[str, Any]) -> NoReturn:
    with suppress(OSError):
        command.send(answer)
    copies.discard()
    _exit()


def _exit() -> NoReturn:
    """Kill this process group: this process and those of a Beam runner. Threads may be in a call into a codec."""
    while True:
        os.killpg(0, signal.SIGKILL)


def _follow(command: Channel, messages: queue.SimpleQueue[Any]) -> None:
    """Queue what the command sends, note a request to stop, and end this process when the command ends."""
    with suppress(EOFError):
        while True:
            for message in command.read():
                if message == STOP:
                    status.stopping.set()
                messages.put(message)
    _exit()


def _report_often(command: Channel, reported: dict[int, status.UnderWay]) -> None:
    with suppress(OSError):
        while True:
            time.sleep(REPORT_SECONDS)
            _report_progress(command, reported)


def _report_progress(command: Channel, reported: dict[int, status.UnderWay]) -> None:
    """Send the progress of shards that changed since the last report, and note it in `reported`."""
    now = {number: replace(one) for number, one in list(status.under_way.items())}
    changed = [(number, *astuple(one)) for number, one in now.items() if reported.get(number) != one]
    if changed:
        reported.update(now)
        command.send({"at": changed})
