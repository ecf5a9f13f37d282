"""The process beside a command that imports the cooking code once and forks the worker processes.

    command -> server   a line of JSON for each worker, with its end of a channel and the locks that the command holds
    server -> command   {"began": process id} for each worker, in order; {"ended": process id, "code": exit code}

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

# Of imports nothing is garbage, and looking for it takes a quarter of their time.
gc.disable()

import tonemill.pipelines.cooking.shard  # noqa: E402, F401  (forked workers have it)
from tonemill.pipelines.engine.channel import Channel  # noqa: E402
from tonemill.pipelines.engine.worker import work_for  # noqa: E402


def serve(command: Channel) -> None:
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
    while True:
        ready, _, _ = select.select([command.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1 << 10)
            _report_ended(command)
        if command.fileno() in ready:
            try:
                jobs = command.read()
            except EOFError:
                return
            for job in jobs:
                mine = [command.descriptors.pop(0) for _ in range(1 + job["locks"])]
                worker = os.fork()
                if worker == 0:
                    os.setpgid(0, 0)  # a process group of its own, so that its child processes are killed with it
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (command.fileno(), woken, waker):
                        os.close(end)
                    work_for(Channel(socket.socket(fileno=mine[0])), job)
                with suppress(ProcessLookupError):
                    os.setpgid(worker, worker)  # parent and child both set it, for either may run first
                for one in mine:
                    os.close(one)
                with suppress(OSError):
                    command.send({"began": worker})


def _report_ended(command: Channel) -> None:
    """Send process id and exit code of each worker that has ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with suppress(OSError):
                command.send({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


if __name__ == "__main__":
    serve(Channel(socket.socket(fileno=int(sys.argv[1]))))
