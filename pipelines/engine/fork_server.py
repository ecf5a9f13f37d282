"""The process beside a command that imports what cooks once, and forks a worker for each that is wanted.

    command -> server   a line of JSON for each worker, with its end of a channel and the locks that the command holds
    server -> command   {"began": process id} for each, in their order; {"ended": process id, "code": exit code}

The fork server of `multiprocessing` would not do: its socket is a file in TMPDIR, which stays there when the command is
killed, cannot be made where TMPDIR is full, and has no room in a path of more than 107 bytes; and it runs the
command's main module a second time. This one leaves nothing behind, and ends with its command.
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

import tonemill.pipelines.cooking.shard  # noqa: F401  (forked workers have it)
from tonemill.pipelines.engine.channel import Channel
from tonemill.pipelines.engine.worker import work_for


def serve(command: Channel) -> None:
    """Fork workers until the command is gone."""
    # A crash is told by the exit code; a dump of the memory is of no use to anybody.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # what was imported is never looked through, so workers share its memory
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([command.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1 << 10)
            _tell_who_ended(command)
        if command.fileno() in ready:
            try:
                jobs = command.read()
            except EOFError:
                return
            for job in jobs:
                mine = [command.descriptors.pop(0) for _ in range(1 + job["locks"])]
                worker = os.fork()
                if worker == 0:
                    os.setpgid(0, 0)  # a group of its own: what it starts is ended with it
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (command.fileno(), woken, waker):
                        os.close(end)
                    work_for(Channel(socket.socket(fileno=mine[0])), job)
                with suppress(ProcessLookupError):
                    os.setpgid(worker, worker)  # whichever of the two processes comes first
                for one in mine:
                    os.close(one)
                with suppress(OSError):
                    command.tell({"began": worker})


def _tell_who_ended(command: Channel) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with suppress(OSError):
                command.tell({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


if __name__ == "__main__":
    serve(Channel(socket.socket(fileno=int(sys.argv[1]))))
