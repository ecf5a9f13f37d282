"""Object stores on loopback, S3's API (moto's) and Google's, and a wire to them that fails as it is set to."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.paths import as_store, place
from tonemill.pipelines.storage.store_path import StorePath

SERVE_S3 = """
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), True,
                     request_handler=MotoRequestHandler)
print(server.port, flush=True)
server.serve_forever()
"""

SERVE_GS = """
import socket
import threading
from gcp_storage_emulator.server import create_server
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = create_server("127.0.0.1", port, in_memory=True, default_bucket="tonemill")
server.start()
print(port, flush=True)
threading.Event().wait()
"""


@dataclass
class Wire:
    """What goes wrong between a client and the server.

    Args:
        port: of the wire itself.
        share: of the requests that fail, in each of the ways of `kinds`.
        kinds: error (503), cut (half an answer), drop (no answer), slow (an answer after `seconds`).
        seconds: see there.
        among: only requests fail whose address holds it.
        counted: requests by method, and faults by kind.
    """

    port: int = 0
    share: float = 0.0
    kinds: tuple[str, ...] = ("error", "cut", "drop")
    seconds: float = 0.05
    among: str = ""
    counted: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(default_factory=lambda: random.Random(11))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, address: str) -> str:
        return self.dice.choice(self.kinds) if self.among in address and self.dice.random() < self.share else ""


def _handler(wire: Wire, server: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = wire.fault(self.path)
            wire.counted.update([self.command, *([fault] if fault else [])])
            if fault == "slow":
                time.sleep(wire.seconds)
            if fault == "drop":
                self.close_connection = True
                return
            if fault == "error":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            link = HTTPConnection("127.0.0.1", server)
            # As it came, for the signature is over the host's name too.
            link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                link.putheader(name, value)
            link.endheaders(data)
            answer = link.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if fault == "cut" and body:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    return Handler


@contextmanager
def _served(program: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


class _Quiet(ThreadingHTTPServer):
    """Clients that end in the middle are what is tested, and no error of the server."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _wired(port: int) -> Iterator[Wire]:
    wire = Wire()
    proxy = _Quiet(("127.0.0.1", 0), _handler(wire, port))
    wire.port = proxy.server_port
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield wire
    proxy.shutdown()
    proxy.server_close()


@contextmanager
def s3_server() -> Iterator[Wire]:
    """A server with an empty bucket `tonemill`, reached through a wire."""
    with _served(SERVE_S3) as port, _wired(port) as wire:
        make = urllib.request.Request(f"http://127.0.0.1:{port}/tonemill", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(make).close()
        yield wire


@contextmanager
def gs_server() -> Iterator[Wire]:
    """As `s3_server`, of Google's kind."""
    with _served(SERVE_GS) as port, _wired(port) as wire:
        yield wire


@contextmanager
def reached(scratch_folder: Path, **environment: str) -> Iterator[None]:
    """This process and those it starts find a server by an environment, and wait little before they try again."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "TMPDIR": str(scratch_folder)}.items():
            patch.setenv(name, value)
        patch.setattr("tempfile.tempdir", None)
        patch.setattr(stores, "_stores", {})
        patch.setattr(stores, "PAUSE_SECONDS", 0.005)
        yield


def folder_at(uri: str) -> StorePath:
    """A folder in a store."""
    found = as_store(place(uri))
    assert found is not None
    return found


def objects_at(root: StorePath) -> dict[str, bytes]:
    """All that is below a folder of a store."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.below()}


THREADS = ("--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner")
"""Flags of a command whose shards are cooked by Beam in one process."""

FLAGS = ("--shard-seconds", 2, "-q")
"""Flags that make two shards of a few sources."""


def bucket(name: str) -> StorePath:
    """A folder in the bucket of tests."""
    return folder_at(f"s3://tonemill/{name}")


def objects(name: str) -> dict[str, bytes]:
    """What is in such a folder, by name."""
    return objects_at(bucket(name))


def upload(folder: Path, name: str) -> StorePath:
    """Put a folder of this machine there."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        (bucket(name) / path.relative_to(folder).as_posix()).put(path)
    return bucket(name)
