"""The process beside a command that imports the cooking code once and forks the worker processes.

    command -> server   a byte for each worker, with the worker's end of a channel and the locks that the command holds
    server -> channel   {"process": process id} when it has forked the worker, {"ended": exit code} when that has ended

The fork server of `multiprocessing` is not used. Its socket is a file in TMPDIR: the file stays when the command is
killed, cannot be made if TMPDIR is full, and its path may have at most 107 bytes. It also runs the command's main
module a second time. This server has no files and ends with its command.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Final

# Of imports nothing is garbage, and looking for it takes a quarter of their time.
gc.disable()

import tonemill.pipelines.cooking.shard  # noqa: E402, F401  (forked workers have it)
from tonemill.pipelines.engine.channel import Channel  # noqa: E402
from tonemill.pipelines.engine.worker import work_for  # noqa: E402

MOST_DESCRIPTORS: Final = 32


def serve(command: socket.socket) -> None:
    """Fork workers until the command has ended."""
    # The exit code reports a crash, so no core file is needed.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # the collector does not touch imported objects, so workers share their memory pages
    gc.enable()
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    channels: dict[int, Channel] = {}
    while True:
        ready, _, _ = select.select([command.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1 << 10)
            _report_ended(channels)
        if command.fileno() in ready:
            # No more than a byte, for the next one has other descriptors.
            request, descriptors, _, _ = socket.recv_fds(command, 1, MOST_DESCRIPTORS)
            if not request:
                return
            channel = Channel(socket.socket(fileno=descriptors[0]))
            worker = os.fork()
            if worker == 0:
                os.setpgid(0, 0)  # before it can end, for then it kills its process group
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (command.fileno(), woken, waker, *(other.fileno() for other in channels.values())):
                    os.close(end)
                work_for(channel)
            for lock in descriptors[1:]:
                os.close(lock)
            with suppress(ProcessLookupError):
                os.setpgid(worker, worker)  # a process group of its own, so that its child processes are killed with it
            with suppress(OSError):
                channel.send({"process": worker})
            channels[worker] = channel


def _report_ended(channels: dict[int, Channel]) -> None:
    """Send the exit code of each worker that has ended, and close its channel."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            channel = channels.pop(ended[0])
            with suppress(OSError):
                channel.send({"ended": os.waitstatus_to_exitcode(ended[1])})
            channel.close()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
