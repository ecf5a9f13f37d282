"""Sources that are far: many are fetched at once, and no more processes read headers than there are cores."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import write_wav
from faults import FailingStore

from tonemill.pipelines.sources import scan
from tonemill.pipelines.sources.decoder import Prober
from tonemill.pipelines.sources.reach import Reach, reach
from tonemill.pipelines.sources.scan import FAR_THREADS
from tonemill.pipelines.storage.paths import to_uri


class Together(FailingStore):
    """A store that answers none before as many wait as were expected; of fewer, all fail."""

    def __init__(self, folder: Path, expected: int) -> None:
        super().__init__(folder)
        self.waiting = threading.Barrier(expected, timeout=60)

    def fetch(self, key: str, target: Path) -> None:
        self.waiting.wait()
        super().fetch(key, target)


@pytest.mark.parametrize(("workers", "expected"), [(None, FAR_THREADS), (5, 5)])
def test_a_store_gets_requests_for_many_sources_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None, expected: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    store = Together(tmp_path / "store", expected)
    for module in ("storage.stores", "storage.store_path", "sources.reach"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: store)
    names = [f"{number:02d}.wav" for number in range(2 * expected)]
    for number, name in enumerate(names):
        write_wav(store.folder / "bucket" / "in" / name, frames=100, seed=number)
    probed: set[int] = set()
    header = Prober.header

    def noted(self: Prober, path: Path, keep_cut: bool = False) -> object:
        probed.add(id(self))
        return header(self, path, keep_cut)

    monkeypatch.setattr(Prober, "header", noted)
    Reach.__init__(reach)
    recipes = list(scan.scan(scan.find_audio(["s3://bucket/in"]), workers=workers))
    assert [one.path for one in recipes] == names and all(one.sources["audio"]["frames"] == 100 for one in recipes)
    assert len(probed) <= 2
    Reach.__init__(reach)


@pytest.mark.parametrize("count", [1, 7, 300])
def test_the_stream_is_in_the_order_of_names_however_many_threads_there_are(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number:03d}.wav").write_bytes(b"no sound")
    found = scan.find_audio([str(tmp_path)])
    streams = [[one.to_line() for one in scan.scan(found, workers=workers)] for workers in (1, 3)]
    assert streams[0] == streams[1] and len(streams[0]) == count
    assert to_uri(tmp_path / "000.wav") in streams[0][0]


def test_copies_are_removed_after_the_last_thread_of_a_scan_that_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a thread still fetches would be left behind."""
    for number in range(9):
        (tmp_path / f"{number}.wav").write_bytes(b"no sound")
    order = []

    def describe(path: Path, *_: object) -> dict[str, Any]:
        time.sleep(0.0 if path.name == "0.wav" else 0.3)
        order.append(path.name)
        return {}

    monkeypatch.setattr(scan, "cut_short", threading.Event())
    monkeypatch.setattr(scan, "describe", describe)
    monkeypatch.setattr(scan, "tidy", lambda: order.append("tidy"))
    recipes = scan.scan(scan.find_audio([str(tmp_path)]), workers=3)
    next(recipes)
    recipes.close()  # type: ignore[attr-defined]
    assert len(order) > 1 and order[-1] == "tidy"
