"""A worker process: does one task after the other for its command, and ends with it.

    command -> worker   the number of a shard, or a graph for a runner of Beam (a task); or `stop`
    worker -> command   at (what is under way); done, stopped, failed (an error of ours) or broke (any other), once for
                        each task; or surplus: there is no device for it, and it ends

A worker holds the locks of its command until it ends, so nothing else works on that folder even when the command was
killed; and it ends at once when the command is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines.cooking import journal, status
from tonemill.pipelines.engine.channel import Channel, named
from tonemill.pipelines.engine.devices import take_device
from tonemill.pipelines.engine.server import ALLOCATION
from tonemill.pipelines.engine.watchdog import end_if_hung
from tonemill.pipelines.engine.work import work_named
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import place

TELL_SECONDS: Final = 0.2


def work_for(command: Channel, job: dict[str, Any]) -> NoReturn:
    """Do what the command wants, to the end of this process.

    Args:
        command: from which tasks come.
        job: home of the plan, name of the work, patience with decoders, devices; and the command's own environment,
            folder and module path.
    """
    try:
        _settle(job)
        tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_follow, args=(command, tasks), daemon=True).start()
        threading.Thread(target=end_if_hung, args=(job["patience"],), daemon=True).start()
        if job["devices"] and not take_device(job["devices"], job["place"], job["workers"]):
            _end(command, {"surplus": True})
        told: dict[int, tuple[float, ...]] = {}
        threading.Thread(target=_tell_often, args=(command, told), daemon=True).start()
        home = place(job["home"])
        while True:
            task = tasks.get()
            answer = _answer(command, home, job["work"], task)
            _tell_under_way(command, told)
            command.tell(answer)
    except Exception:
        traceback.print_exc()  # its last line is told by the command, which sees this process end
    finally:
        copies.discard()
        _exit()


def _settle(job: dict[str, Any]) -> None:
    """Make this process see what the command sees."""
    for name in os.environ.keys() - job["environment"].keys() - ALLOCATION.keys():
        del os.environ[name]
    os.environ.update(job["environment"])
    tempfile.tempdir = None
    sys.path[:] = job["path"]
    with suppress(OSError):
        os.chdir(job["folder"])
    journal.set_patience(job["patience"])


def _answer(command: Channel, home: Path, work: str, task: Any) -> dict[str, Any]:
    try:
        if isinstance(task, int):
            work_named(work)(home, task)
        else:
            from tonemill.pipelines.engine.beam import run_on

            run_on(home, work, end=lambda answer: _end(command, answer), **task)
    except TonemillError as error:
        return {"failed": named(error)}
    except status.Stopped:
        return {"stopped": True}
    except Exception as error:
        return {"broke": f"{type(error).__name__}: {error}"}
    return {"done": True}


def _end(command: Channel, answer: dict[str, Any]) -> NoReturn:
    with suppress(OSError):
        command.tell(answer)
    copies.discard()
    _exit()


def _exit() -> NoReturn:
    """End this process, and with it what a runner of Beam started; threads may be in the middle of a codec."""
    while True:
        os.killpg(0, signal.SIGKILL)


def _follow(command: Channel, tasks: queue.SimpleQueue[Any]) -> None:
    """Pass on what the command wants, and end with it."""
    with suppress(EOFError):
        while True:
            for message in command.read():
                if message == "stop":
                    status.stopping.set()
                else:
                    tasks.put(message)
    _exit()


def _tell_often(command: Channel, told: dict[int, tuple[float, ...]]) -> None:
    stop = threading.Event()
    with suppress(OSError):
        while not stop.wait(TELL_SECONDS):
            _tell_under_way(command, told)


def _tell_under_way(command: Channel, told: dict[int, tuple[float, ...]]) -> None:
    """Tell what changed of the shards that this process is at."""
    now = {
        number: (seconds, status.refused.get(number, 0), status.rejected.get(number, 0))
        for number, seconds in list(status.under_way.items())
    }
    if changed := {number: known for number, known in now.items() if told.get(number) != known}:
        told.update(changed)
        command.tell({"at": changed})
