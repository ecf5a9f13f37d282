"""A cluster of hosts of their own: one that is cut off, and joined again, changes no byte of a corpus in a store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Tonemill, write_wav
from hosts import Hosts, hosts

pytest.importorskip("distributed", reason="a cluster of Dask needs tonemill[dask]")

SERVE = """
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
make_server("0.0.0.0", 9000, DomainDispatcherApplication(create_backend_app), True,
            request_handler=MotoRequestHandler).serve_forever()
"""

BUCKET = "import boto3; boto3.client('s3').create_bucket(Bucket='tonemill')"

COUNT = """
import boto3, sys
pages = boto3.client('s3').get_paginator('list_objects_v2').paginate(Bucket='tonemill', Prefix=sys.argv[1])
print(sum(one['Key'].endswith('.tar') for page in pages for one in page.get('Contents', ())))
"""

LISTEN = "import socket; server = socket.create_server(('0.0.0.0', 9000)); print(flush=True); input()"

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 9000), 2).close()"

CUT_SECONDS = 25.0


@dataclass
class Cluster:
    """A scheduler with the command, a store, and two workers; each on a host of its own."""

    hosts: Hosts
    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        tmp = self.folder / f"tmp-{name}"
        tmp.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.started.append(
                self.hosts.start(
                    name,
                    words,
                    env=self.environment | {"TMPDIR": str(tmp)},
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )
        return self.started[-1]

    def python(self, name: str, program: str, *words: str) -> bytes:
        command = [sys.executable, "-P", "-c", program, *words]
        process = self.hosts.start(name, command, env=self.environment, stdout=subprocess.PIPE)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return out

    def end(self) -> None:
        for process in self.started[::-1]:
            process.kill()
            process.wait()

    def dask(self, name: str, kind: str, *words: str) -> None:
        self.start(name, sys.executable, "-P", "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *words)


def hosts_or_skip(stack: contextlib.ExitStack, *names: str) -> Hosts:
    try:
        return stack.enter_context(hosts(*names))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here: that takes root and the program ip")


@pytest.mark.slow
def test_a_line_that_is_cut_carries_nothing_and_the_others_all() -> None:
    with contextlib.ExitStack() as stack:
        net = hosts_or_skip(stack, "head", "one", "two")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        server = stack.enter_context(net.start("head", [sys.executable, "-P", "-c", LISTEN], **pipes))
        stack.callback(server.kill)
        assert server.stdout is not None and server.stdout.readline()

        def reached_by(name: str) -> bool:
            words = [sys.executable, "-P", "-c", CONNECT, net.address("head")]
            return net.start(name, words, stderr=subprocess.DEVNULL).wait(20) == 0

        assert reached_by("one") and reached_by("two")
        net.cut("one", "head")
        assert not reached_by("one") and reached_by("two")
        net.join("one", "head")
        assert reached_by("one")


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        net = hosts_or_skip(stack, "head", "store", "one", "two")
        there = environment | {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{net.address('store')}:9000",
        }
        cluster = Cluster(net, tmp_path, there)
        stack.callback(cluster.end)
        cluster.start("store", sys.executable, "-P", "-c", SERVE)
        scheduler = "--scheduler-file", str(tmp_path / "scheduler.json")
        cluster.dask("head", "scheduler", "--host", net.address("head"), "--port", "8786", *scheduler)
        for name in ("one", "two"):
            words = ("--host", net.address(name), "--nthreads", "1", "--no-nanny", "--local-directory", f"dask-{name}")
            cluster.dask(name, "worker", *scheduler, *words)
        cluster.python("head", BUCKET)
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("lost", [("head",), ("store",), ("head", "store")], ids="-".join)
def test_a_host_that_is_cut_off_changes_no_byte(
    tonemill: Tonemill, cluster: Cluster, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    for number in range(160):
        write_wav(tmp_path / "raw" / f"{number:03d}.wav", seed=number)
    stream = tonemill("scan", tmp_path / "raw", "-q").done().out
    (tmp_path / "stream.jsonl").write_bytes(stream)
    flags = "--shard-seconds", "0.1", "-q"
    expected = tonemill("shard", tmp_path / "local", *flags, stdin=stream).done().line["digest"]
    out = "s3://tonemill/out"
    engine = f"--runner dask --beam dask_scheduler_file={tmp_path / 'scheduler.json'}"
    shard = f"tonemill shard {out} {' '.join(flags)} {engine} < stream.jsonl > line.json"

    def shards() -> int:
        return int(cluster.python("store", COUNT, "out/"))

    begun, tries = time.monotonic(), 1
    command = cluster.start("head", "sh", "-c", shard)
    while shards() < 10:
        assert command.poll() is None, (tmp_path / "head.log").read_text()
        time.sleep(0.2)
    before = shards()
    for name in lost:
        cluster.hosts.cut("one", name)
    at, is_cut = time.monotonic(), True
    assert before < 160, "it was too late"
    while True:
        if is_cut and time.monotonic() - at > CUT_SECONDS:
            for name in lost:
                cluster.hosts.join("one", name)
            is_cut = False
        code = command.poll()
        if code == 0:
            break
        if code is not None and not is_cut:
            assert tries < 3, (tmp_path / "head.log").read_text()
            tries += 1
            command = cluster.start("head", "sh", "-c", shard)
        assert time.monotonic() - begun < 400, (tmp_path / "head.log").read_text()
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    print(f"cut off from {' and '.join(lost)}: {seconds:.0f} s, {tries} commands, {before} shards before")
    assert json.loads((tmp_path / "line.json").read_text())["digest"] == expected
    # What the host that was cut off still puts has the bytes that are there.
    time.sleep(10)
    verify = cluster.start("head", "sh", "-c", f"tonemill verify {out} -q > verified.json")
    assert verify.wait(100) == 0, (tmp_path / "verified.json").read_text()
    assert json.loads((tmp_path / "verified.json").read_text())["digest"] == expected
