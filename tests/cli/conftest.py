"""A bucket on loopback, and what a corpus in it should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import FLAGS, Wire, reached, s3_server
from conftest import Tonemill, lines_of, stream_of

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "loopback", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A bucket `s3://tonemill`, for this process and those it starts."""
    with s3_server() as wire, reached(tmp_path_factory.mktemp("scratch"), **CREDENTIALS, AWS_ENDPOINT_URL=wire.url):
        yield wire


@pytest.fixture
def s3(server: Wire) -> Iterator[Wire]:
    server.share, server.kinds, server.seconds, server.among = 0.0, ("error", "cut", "drop"), 0.05, ""
    server.counted.clear()
    yield server
    server.share = 0.0


@pytest.fixture(scope="module")
def few(plan: bytes) -> bytes:
    """A quarter of the plan: two shards."""
    return stream_of(lines_of(plan)[:4])


@pytest.fixture(scope="module")
def expected(few: bytes, tonemill: Tonemill, server: Wire, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it gives in a folder."""
    folder = tmp_path_factory.mktemp("local") / "corpus"
    tonemill("shard", folder, *FLAGS, stdin=few).done()
    return folder
