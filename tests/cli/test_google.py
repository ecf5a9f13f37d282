"""Corpora and sources on `gs://`, against Google's API on loopback; what stores have in common is in `test_stores`."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import Wire, folder_at, gs_server, objects_at, reached
from conftest import Tonemill, contents, lines_of, stream_of, write_wav

pytest.importorskip("gcsfs", reason="gs:// needs tonemill[gs]")
pytest.importorskip("gcp_storage_emulator", reason="tests of stores need tonemill[test]")

from tonemill.pipelines.storage.store_path import StorePath

FLAGS = ("--shard-seconds", 2, "-q")


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A bucket `gs://tonemill`, for this process and those it starts."""
    # The second, for it would ask Google what kind of bucket it is, with credentials that a test has not.
    with (
        gs_server() as wire,
        reached(
            tmp_path_factory.mktemp("scratch"),
            STORAGE_EMULATOR_HOST=wire.url,
            GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",
        ),
    ):
        yield wire


@pytest.fixture
def few(plan: bytes) -> bytes:
    """A quarter of the plan: two shards."""
    return stream_of(lines_of(plan)[:4])


@pytest.fixture
def expected(few: bytes, tonemill: Tonemill, gs: Wire, tmp_path: Path) -> Path:
    """What it gives in a folder."""
    tonemill("shard", tmp_path / "local", *FLAGS, stdin=few).done()
    return tmp_path / "local"


def bucket(name: str) -> StorePath:
    return folder_at(f"gs://tonemill/{name}")


def objects(name: str) -> dict[str, bytes]:
    return objects_at(bucket(name))


@pytest.mark.parametrize("share", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_corpus_in_a_bucket_has_the_bytes_of_one_in_a_folder(
    tonemill: Tonemill, few: bytes, expected: Path, gs: Wire, share: float
) -> None:
    # Its client waits a second before it tries once more itself, so dice are rolled for few requests.
    gs.share, gs.kinds = share, ("error", "drop")
    gs.counted.clear()
    where = f"gs://tonemill/whole-{share}"
    tonemill("shard", where, *FLAGS, stdin=few).done()
    gs.share = 0.0
    assert objects(f"whole-{share}") == contents(expected)
    assert bool(gs.counted["error"] + gs.counted["drop"]) == bool(share)
    assert tonemill("inspect", where, "--json").done().line["examples"] > 0


def test_sources_in_a_bucket_are_scanned_and_read(tonemill: Tonemill, tmp_path: Path, gs: Wire) -> None:
    for number in range(3):
        path = write_wav(tmp_path / "raw" / f"{number}.wav", seed=number)
        (bucket("raw") / path.name).put(path)
    made = []
    for source in (tmp_path / "raw", bucket("raw")):
        stream = tonemill("scan", source, "-q").done().out
        out = tmp_path / f"out-{len(made)}"
        tonemill("shard", out, "-q", stdin=stream).done()
        made.append({name: data for name, data in contents(out).items() if not name.startswith("plan")})
    assert made[0] == made[1]


@pytest.mark.slow
def test_killed_it_goes_on(few: bytes, expected: Path, tmp_path: Path, gs: Wire, environment: dict[str, str]) -> None:
    (tmp_path / "plan.jsonl").write_bytes(few)
    words = ["tonemill", "shard", "gs://tonemill/killed", *map(str, FLAGS)]
    ended = []
    for seconds in (1.5, 2.0, 2.5, 3.0, 3.5, None):
        with (tmp_path / "plan.jsonl").open("rb") as stdin:
            process = subprocess.Popen(
                words, env={**os.environ, "PATH": environment["PATH"]}, stdin=stdin, stdout=subprocess.DEVNULL
            )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        ended.append(process.wait())
    assert -signal.SIGKILL in ended and ended[-1] == 0
    assert objects("killed") == contents(expected)
