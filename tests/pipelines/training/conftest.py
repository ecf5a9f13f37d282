"""A corpus of two shards or more, in a folder and in a store; a corpus of pairs of several effects."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from conftest import RATE, Tonemill
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

EFFECTS = {"fuzz": lambda x: np.tanh(20 * x), "drive": lambda x: 0.8 * np.tanh(4 * x), "A&B": lambda x: np.abs(x)}


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


@pytest.fixture(scope="session")
def captures(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four clips of each of three effects, which differ in their keys and so in their crops."""
    folder = tmp_path_factory.mktemp("captures")
    draws = np.random.default_rng(0)
    for source in ("riff", "solo", "lick", "hook"):
        dry = np.repeat(draws.uniform(-0.5, 0.5, 2 * RATE // 4), 4)
        for role in ("dry", "wet"):
            (folder / role).mkdir(exist_ok=True)
        soundfile.write(folder / "dry" / f"{source}.wav", dry, RATE)
        for name, effect in EFFECTS.items():
            soundfile.write(folder / "wet" / f"{source}__{name}.wav", 0.9 * effect(dry), RATE)
    stream = tonemill("pair", folder / "dry", folder / "wet", "-q").done().out
    stream = tonemill("slice", "--seconds", 2, stdin=stream).done().out
    tonemill("shard", folder / "corpus", "-q", "--valid", 0, stdin=stream).done()
    return open_corpus(folder / "corpus")
