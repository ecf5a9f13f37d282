"""A corpus of two shards or more, in a folder and in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from counted_store import Counted
from making import shard_folder

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.synthetic import hit
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.paths import place
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.training import shard_cache


@pytest.fixture(scope="session")
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
