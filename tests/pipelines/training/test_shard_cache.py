"""Copies of shards: whole or not at all, no more than there is room for, and the same batches with and without them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from counted_store import Counted

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.training import shard_cache
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.shard_cache import ShardCache

LENGTH = 4096


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
    with pytest.raises(CorpusError, match="is damaged: its digest"):
        epoch(there, ShardCache(tmp_path, 10**9, there))
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(f"{shard_cache.PART}*"))


def test_a_corpus_of_this_machine_is_read_where_it_is(here: Corpus, tmp_path: Path) -> None:
    with ShardCache(tmp_path / "cache", 10**9, here).open(here.shards("train")[0]["shard"]) as file:
        assert isinstance(file, io.BufferedReader) and Path(file.name).is_relative_to(here.folder)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_no_shard_that_is_missing(there: Corpus, store: Counted) -> None:
    with pytest.raises(OutputError, match="--cache /proc/none/copies cannot be written: No such file"):
        epoch(there, ShardCache(Path("/proc/none/copies"), 10**9, there))
