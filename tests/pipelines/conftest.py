"""A small corpus of drum hits, made once."""

from __future__ import annotations

import pytest
from making import shard_folder

from tonemill.audiotools.demo_corpus import write_drum_machine
from tonemill.pipelines.corpus.corpus import Corpus


@pytest.fixture(scope="session")
def drums(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sixty-four hits of four kinds, as clips of 4096 samples at 16 kHz."""
    folder = tmp_path_factory.mktemp("drums")
    write_drum_machine(folder / "raw", hits=16, loops=0)
    return shard_folder(folder / "raw", folder / "corpus")
