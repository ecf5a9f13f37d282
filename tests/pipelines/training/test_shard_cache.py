"""Copies of shards: whole or not at all, no more than there is room for, and the same batches with and without them."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from making import shard_folder

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.synthetic import hit
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.paths import place
from tonemill.pipelines.storage.store import Fsspec
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.training import shard_cache
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.shard_cache import ShardCache

LENGTH = 4096


class Counted(Fsspec):
    """A store in this process that counts requests of shards, and may return damaged ones."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.counted: Counter[str] = Counter()
        self.damaged = False

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.counted["read"] += key.endswith(".tar")
        return super().read(key, start, end)

    def fetch(self, key: str, target: Path) -> None:
        self.counted["fetched"] += key.endswith(".tar")
        super().fetch(key, target)
        if self.damaged:
            target.write_bytes(target.read_bytes()[:-512] + bytes(512 * [1]))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of two shards or more in a folder."""
    folder = tmp_path_factory.mktemp("here")
    for seed in range(64):
        path = folder / f"raw/snare/{seed}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Waveform(hit("snare", 16000, seed, {}), 16000), "wav", 16).data)
    return shard_folder(folder / "raw", folder / "corpus", valid=0.1)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    store = Counted()
    monkeypatch.setitem(stores._stores, (os.getpid(), "memory"), store)
    shard_cache._checked.clear()
    yield store


@pytest.fixture
def there(here: Corpus, store: Counted) -> Corpus:
    """The same in a store."""
    for path in sorted(path for path in here.folder.rglob("*") if path.is_file()):
        StorePath("memory", f"corpora/{path.relative_to(here.folder)}").put(path)
    return open_corpus(place("memory://corpora"))


def epoch(corpus: Corpus, cache: ShardCache | None = None) -> np.ndarray:
    batches = Batches(corpus, "train", ("audio",), LENGTH, 4, seed=3, tars=cache)
    return np.stack([batches.batch(number).audio["audio"].numpy() for number in range(batches.examples // 4)])


def bytes_of(corpus: Corpus) -> int:
    return sum(one["bytes"] for one in corpus.shards("train"))


def test_each_shard_comes_once_for_any_number_of_epochs(
    here: Corpus, there: Corpus, store: Counted, tmp_path: Path
) -> None:
    shards = len(there.shards("train"))
    assert shards >= 2
    expected = epoch(here)
    for _ in range(2):
        np.testing.assert_array_equal(epoch(there, ShardCache(tmp_path, 10**9, there)), expected)
    assert store.counted == {"fetched": shards, "read": 0}
    np.testing.assert_array_equal(epoch(there), expected)
    assert store.counted["read"] >= len(expected) * 4  # a request for each example


def test_a_small_cache_stays_small_and_loses_nothing(
    here: Corpus, there: Corpus, store: Counted, tmp_path: Path
) -> None:
    most = bytes_of(there) // 2
    (tmp_path / "notes.txt").write_text("mine")
    np.testing.assert_array_equal(epoch(there, ShardCache(tmp_path, most, there)), epoch(here))
    copies = list(tmp_path.glob("*.tar"))
    assert copies and sum(path.stat().st_size for path in copies) <= most
    assert len(copies) == store.counted["fetched"] and store.counted["read"] > 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_another_corpus_left_makes_room_the_oldest_first(there: Corpus, store: Counted, tmp_path: Path) -> None:
    size = bytes_of(there)
    for age, name in enumerate("ab"):
        foreign = tmp_path / f"{name * 64}.tar"
        foreign.write_bytes(bytes(size // 2))
        os.utime(foreign, (age + 1, age + 1))
    epoch(there, ShardCache(tmp_path, size + size // 2 + 1000, there))
    assert not (tmp_path / f"{'a' * 64}.tar").exists() and (tmp_path / f"{'b' * 64}.tar").exists()


def test_a_damaged_copy_is_fetched_again_and_a_removed_one_too(
    here: Corpus, there: Corpus, store: Counted, tmp_path: Path
) -> None:
    expected, shards = epoch(here), len(there.shards("train"))
    cache = ShardCache(tmp_path, 10**9, there)
    epoch(there, cache)
    first, second = sorted(tmp_path.glob("*.tar"))[:2]
    first.unlink()
    np.testing.assert_array_equal(epoch(there, cache), expected)
    assert store.counted["fetched"] == shards + 1
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    shard_cache._checked.clear()  # as in the next process
    np.testing.assert_array_equal(epoch(there, ShardCache(tmp_path, 10**9, there)), expected)
    assert store.counted["fetched"] == shards + 2


def test_a_store_that_holds_another_shard_is_refused(there: Corpus, store: Counted, tmp_path: Path) -> None:
    store.damaged = True
    with pytest.raises(CorpusError, match="not what its sidecar promises"):
        epoch(there, ShardCache(tmp_path, 10**9, there))
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(f"{shard_cache.PART}*"))


def test_a_corpus_of_this_machine_is_read_where_it_is(here: Corpus, tmp_path: Path) -> None:
    with ShardCache(tmp_path / "cache", 10**9, here).open(here.shards("train")[0]["shard"]) as file:
        assert isinstance(file, io.BufferedReader) and Path(file.name).is_relative_to(here.folder)
    assert not (tmp_path / "cache").exists()
