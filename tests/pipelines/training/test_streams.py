"""A corpus in a store: shards are read in ranges, in one order for any ranks, processes and cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counted_store import Counted
from making import QUIET

from tonemill.models.contract import Batch
from tonemill.models.wavegan import WaveGAN, WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.training import order, shard_ranges
from tonemill.pipelines.training.beginning import epoch_of
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.loader_processes import batches
from tonemill.pipelines.training.loop import train
from tonemill.pipelines.training.shard_cache import ShardCache

LENGTH = 4096


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of few examples, as shards of a real corpus have many."""
    for module in (order, shard_ranges):
        monkeypatch.setattr(module, "RANGE_BYTES", 30_000)


def streamed(corpus: Corpus, **options: Any) -> Batches:
    return Batches(corpus, "train", ("audio",), LENGTH, 8, seed=3, streamed=True, **options)


def same(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.audio["audio"], other.audio["audio"]) and one.fields == other.fields


def test_each_range_comes_once_an_epoch_by_one_request(here: Corpus, there: Corpus, store: Counted) -> None:
    made, alone = streamed(there), streamed(here)
    places = [made._at(place) for place in range(made.examples)]
    ranges = {place.range for place in places}
    assert made.examples > 2 * len(ranges) > 4 * len(there.shards("train"))
    for found, expected in zip(epoch_of(made, 8), epoch_of(alone, 8), strict=True):
        assert same(found, expected)
    # Of the next epoch, which completes the last batch, some are read too.
    assert len(ranges) <= store.counted["read"] <= len(ranges) + order.STREAMS + 8


@pytest.mark.parametrize(("before", "after"), [((1, 0), (4, 2)), ((2, 2), (1, 0)), ((1, 2), (2, 1))])
def test_a_run_goes_on_at_another_topology_and_none_is_repeated_or_lost(
    here: Corpus, there: Corpus, store: Counted, before: tuple[int, int], after: tuple[int, int]
) -> None:
    alone = streamed(here)
    for (ranks, processes), first in ((before, 0), (after, 3)):
        parts = [
            batches(streamed(there, first=first, rank=rank, ranks=ranks), processes, pin=False) for rank in range(ranks)
        ]
        for number in range(first, first + 3):
            shares = [next(part) for part in parts]
            assert [(one.first, one.whole, len(one)) for one in shares] == [
                (rank * 8 // ranks, 8, 8 // ranks) for rank in range(ranks)
            ]
            assert same(Batch.joined(shares), alone.batch(number))


def test_ranks_and_processes_read_streams_that_no_other_reads(there: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch holds a row of each stream, or several."""
    made = Batches(there, "train", ("audio",), LENGTH, 16, seed=3, streamed=True)
    seen: dict[int, set[int]] = {}
    for part in range(4):
        monkeypatch.setattr(
            shard_ranges.ShardRanges,
            "prepare",
            lambda _, places, part=part: seen.setdefault(part, set()).update(place.stream for place in places),
        )
        for number in range(made.examples // 16):
            made.batch(number, part, 4)
    assert [sorted(seen[part]) for part in range(4)] == [[*range(4 * part, 4 * part + 4)] for part in range(4)]


def test_a_cache_serves_ranges_and_the_store_those_that_have_no_room(
    here: Corpus, there: Corpus, store: Counted, tmp_path: Path
) -> None:
    bytes_of_all = sum(one["bytes"] for one in there.shards("train"))
    for most, reads in ((10**9, False), (bytes_of_all // 2, True)):
        store.counted.clear()
        cached = streamed(there, tars=ShardCache(tmp_path / str(most), most, there))
        for found, expected in zip(epoch_of(cached, 8), epoch_of(streamed(here), 8), strict=True):
            assert same(found, expected)
        copies = list((tmp_path / str(most)).glob("*.tar"))
        assert sum(path.stat().st_size for path in copies) <= most
        assert len(copies) == store.counted["fetched"] > 0 and bool(store.counted["read"]) is reads


def test_whole_examples_one_after_another_take_few_requests(here: Corpus, there: Corpus, store: Counted) -> None:
    for found, expected in zip(
        examples_of(there, "train", ("audio",)), examples_of(here, "train", ("audio",)), strict=True
    ):
        assert np.array_equal(found.audio["audio"], expected.audio["audio"]) and found.fields == expected.fields
    assert store.counted["read"] <= sum(one["bytes"] for one in there.shards("train")) // 15_000


def test_what_failed_ahead_of_its_use_is_read_when_it_is_used(
    here: Corpus, there: Corpus, store: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = streamed(there)
    failing = [OSError("the store is away")] * 20
    read = shard_ranges.ShardRanges._read

    def once(self: Any, wanted: order.Range) -> bytes:
        if failing:
            raise failing.pop()
        return read(self, wanted)

    monkeypatch.setattr(shard_ranges.ShardRanges, "_read", once)
    made._ranges.prepare([made._at(place) for place in range(8)])  # type: ignore[union-attr]
    for waiting in list(made._ranges._held.values()):  # type: ignore[union-attr]
        waiting.exception()
    failing.clear()
    assert same(made.batch(0), streamed(here).batch(0))


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_keeps_the_order_in_which_it_began_wherever_its_corpus_is(
    here: Corpus, there: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """Runs that began before orders were recorded read a permutation, also of a corpus in a store."""
    seen: list[str] = []

    def step(self: WaveGAN, batch: Batch, *_: object) -> dict[str, torch.Tensor]:
        seen.extend(batch.fields["take"])
        return {"loss": batch.audio["audio"].square().mean()}

    monkeypatch.setattr(WaveGAN, "training_step", step)

    def trained(corpus: Corpus, steps: int) -> Run:
        settings = TrainConfig(steps=steps, batch_size=8, listen_every=1000, listen_clips=1, seed=3)
        return train("wavegan", WaveGANConfig(length=LENGTH, dim=2), settings, corpus, tmp_path / "run", QUIET).run

    run = trained(there, 2)
    assert run.order == "streams"
    if not recorded:
        about = json_files.read_json(run.folder / "run.json")
        del about["order"]
        json_files.write_json(run.folder / "run.json", about)
    del seen[:]
    trained(here if recorded else there, 4)
    alone = Batches(here, "train", ("audio",), LENGTH, 8, seed=3, streamed=recorded)
    assert seen == [take for number in (2, 3) for take in alone.batch(number).fields["take"]]
