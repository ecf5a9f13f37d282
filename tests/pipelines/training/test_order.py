"""Orders: each example once an epoch, found without reading what comes before, and streams that read in long ranges."""

from __future__ import annotations

import time
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest

from tonemill.pipelines.training.order import RANGE_BYTES, STREAMS, Permuted, Place, Streamed

EACH = RANGE_BYTES // 50
"""Bytes of an example: a range holds fifty of them."""


def index(examples: int, shards: int) -> pa.Table:
    """What an index holds of so many examples, a shard's one after another."""
    number = np.arange(examples)
    each = -(-examples // shards)
    names = np.array([f"train/{shard:06d}" for shard in range(shards)])[number // each]
    places = {"audio_offset": number % each * EACH + 512, "audio_bytes": np.full(examples, EACH - 1024)}
    return pa.table({"shard": pa.array(names.tolist()), **places})


def epoch(order: Streamed | Permuted, number: int, examples: int) -> list[Place]:
    return [order.at(number, position) for position in range(examples)]


@pytest.mark.parametrize(("examples", "shards"), [(1, 1), (7, 2), (STREAMS, 1), (999, 1), (3000, 7)])
def test_an_epoch_holds_each_example_once_and_no_other_epoch_or_seed_has_its_order(examples: int, shards: int) -> None:
    rows = index(examples, shards)
    orders = [Streamed(rows, ("audio",), 3), Streamed(rows, ("audio",), 4), Permuted(examples, 3)]
    found = [[place.row for place in epoch(one, number, examples)] for one in orders for number in (0, 1)]
    assert all(sorted(one) == list(range(examples)) for one in found)
    if examples > 7:
        assert len({tuple(one) for one in found}) == len(found)
    assert found[0] == [place.row for place in epoch(Streamed(rows, ("audio",), 3), 0, examples)]


def test_a_stream_reads_range_after_range_and_names_the_one_that_follows() -> None:
    places = epoch(Streamed(index(3000, 7), ("audio",), 3), 2, 3000)
    assert [place.stream for place in places[: 2 * STREAMS]] == [*range(STREAMS)] * 2
    runs = []
    for stream in range(STREAMS):
        own = [place for place in places if place.stream == stream]
        assert len(own) in (3000 // STREAMS, 3000 // STREAMS + 1)
        ranges = [(one, next(some).following) for one, some in groupby(own, key=lambda place: place.range)]
        assert [following for _, following in ranges] == [one for one, _ in ranges[1:]] + [None]
        runs += [one for one, _ in ranges]
    # Each range once, and once more for each cut between two streams that goes through one.
    assert len(set(runs)) <= len(runs) < len(set(runs)) + STREAMS
    for place in places:
        shard, number = divmod(place.row, 429)
        assert place.range is not None and place.range.shard == f"train/{shard:06d}"
        assert place.range.start <= number * EACH + 512 < (number + 1) * EACH - 512 <= place.range.end


def test_a_batch_is_of_many_ranges_of_many_shards() -> None:
    """Neighbours in the corpus, as clips of one recording, do not stand in one batch."""
    order = Streamed(index(20_000, 40), ("audio",), 0)
    for first in (0, 6400, 12_800):
        batch = [order.at(0, first + one).range for one in range(64)]
        assert len(set(batch)) >= STREAMS
        assert len({one.shard for one in batch if one is not None}) >= STREAMS - 2


@pytest.mark.parametrize("kind", [Permuted, Streamed])
def test_going_on_in_the_middle_of_a_million_examples_takes_less_than_a_second(kind: type) -> None:
    rows = index(1_000_000, 500)
    begun = time.process_time()
    order = Permuted(1_000_000, 0) if kind is Permuted else Streamed(rows, ("audio",), 0)
    order.at(17, 765_432)
    assert time.process_time() - begun < 1.0
