"""Batches: each epoch holds each example once, whichever process reads; the n-th batch is always the same."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.training.batch_memory import SLOTS
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches

LENGTH = 4096


def fingerprints(corpus: Corpus, **options: int) -> list[list[bytes]]:
    """Three epochs' batches, each example recognised by its samples."""
    made = Batches(corpus, "train", ("audio",), LENGTH, 8, **options)
    numbers = range(3 * made.examples // 8)
    return [[one.numpy().tobytes() for one in made.batch(number).audio["audio"]] for number in numbers]


def test_an_epoch_holds_each_example_once(drums: Corpus) -> None:
    examples = drums.about["splits"]["train"]["examples"]
    flat = [one for batch in fingerprints(drums) for one in batch]
    assert max(Counter(flat[:examples]).values()) == 1
    assert sorted(flat[:examples]) == sorted(flat[examples : 2 * examples])
    assert flat[:examples] != flat[examples : 2 * examples], "every epoch has an order of its own"


def test_a_seed_decides_the_order(drums: Corpus) -> None:
    assert fingerprints(drums, seed=1) == fingerprints(drums, seed=1) != fingerprints(drums, seed=2)


@pytest.mark.parametrize("processes", [0, 1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_and_processes_reads_one_order(drums: Corpus, ranks: int, processes: int) -> None:
    """Two batches of it, and two more where one rank and process went before: none is repeated or lost."""
    alone = Batches(drums, "train", ("audio",), LENGTH, 8)
    for first in (0, 2):
        parts = [
            batches(
                Batches(drums, "train", ("audio",), LENGTH, 8, first=first, rank=rank, ranks=ranks),
                processes,
                pin=False,
            )
            for rank in range(ranks)
        ]
        for number in (first, first + 1):
            shares, whole = [next(part) for part in parts], alone.batch(number)
            size = 8 // ranks
            assert [(one.first, one.whole, len(one)) for one in shares] == [(n * size, 8, size) for n in range(ranks)]
            assert np.array_equal(np.concatenate([one.audio["audio"] for one in shares]), whole.audio["audio"])
            for name, values in whole.fields.items():
                assert [value for one in shares for value in one.fields[name]] == values


@pytest.mark.parametrize("streamed", [False, True])
def test_batches_that_are_kept_stay_as_they_are(drums: Corpus, streamed: bool) -> None:
    """Though loader processes use memory again, for several batches ahead."""
    made = Batches(drums, "train", ("audio",), LENGTH, 8, streamed=streamed)
    incoming = batches(made, 2, pin=False)
    kept = [next(incoming) for _ in range(3 * SLOTS)]
    for number, batch in enumerate(kept):
        assert np.array_equal(batch.audio["audio"], made.batch(number).audio["audio"])


def test_longer_examples_are_cropped_inside_themselves(drums: Corpus) -> None:
    crops = {Batches(drums, "train", ("audio",), 1000, 4, seed=seed).batch(0).audio["audio"].shape for seed in range(3)}
    assert crops == {(4, 1, 1000)}


def test_what_does_not_fit_is_refused_with_the_mend(drums: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"clips of 4096 samples.*16384.*tonemill slice --samples 16384"):
        Batches(drums, "train", ("audio",), 16384, 4)
    with pytest.raises(CorpusError, match=r"no test split; it has train, valid"):
        Batches(drums, "test", ("audio",), LENGTH, 4)


def test_a_tar_cut_between_members_is_noticed(drums: Corpus, tmp_path: Path) -> None:
    copy = shutil.copytree(drums.folder, tmp_path / "copy")
    tar = next((copy / "train").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[: 512 * 40])
    with pytest.raises(CorpusError, match="so it is damaged"):
        Batches(open_corpus(copy), "train", ("audio",), LENGTH, 4)
    tar.unlink()
    with pytest.raises(CorpusError, match="is missing"):
        Batches(open_corpus(copy), "train", ("audio",), LENGTH, 4)


class Pinnable(torch.Tensor):
    """Stands for a tensor on a machine with CUDA, where alone memory can be pinned."""

    pinned = False

    def pin_memory(self, device: object = None) -> torch.Tensor:
        made = self.clone().as_subclass(Pinnable)
        made.pinned = True
        return made


def test_torch_pins_the_waveforms_of_a_batch() -> None:
    waveform = torch.ones(2, 1, 8).as_subclass(Pinnable)
    pinned = pin_memory(Batch({"dry": waveform, "wet": waveform}, {"label": ["a", "b"]}))
    assert isinstance(pinned, Batch)
    assert [one.pinned for one in pinned.audio.values()] == [True, True]
    assert torch.equal(pinned.audio["dry"], waveform)
    assert pinned.fields == {"label": ["a", "b"]}
