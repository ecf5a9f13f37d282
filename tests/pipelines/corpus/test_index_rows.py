"""What is made of the rows of an index while they come: which are of a split, and which have neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.corpus.index_rows import of_split, with_neighbours
from tonemill.pipelines.recipes.conditions import condition
from tonemill.pipelines.storage import parquet


@pytest.mark.parametrize("counts", [[], [1], [1, 1], [2], [1, 3, 1, 2], [2, 2, 1]])
def test_an_example_is_one_of_several_where_its_source_gave_others(counts: list[int]) -> None:
    rows = [{"key": f"{source:x}-{clip:04d}"} for source, count in enumerate(counts) for clip in range(count)]
    wished = [(row, counts[int(row["key"][:-5], 16)] > 1) for row in rows]
    assert list(with_neighbours(iter(rows))) == wished


def test_no_row_is_read_before_its_neighbour_is_wanted() -> None:
    read: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(100):
            read.append(number)
            yield {"key": f"{number}-0000"}

    next(with_neighbours(rows()))
    assert len(read) == 2


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_rows_of_a_split(split: str) -> None:
    splits = ["valid", "train", "train", "valid"]
    rows = pa.RecordBatch.from_pydict({"split": splits, "number": [0, 1, 2, 3]})
    assert of_split(rows, split)["number"].to_pylist() == [at for at, one in enumerate(splits) if one == split]
    assert of_split(rows.slice(0, 0), split).num_rows == 0
    assert of_split(rows.slice(1, 2), split)["number"].to_pylist() == ([1, 2] if split == "train" else [])


def test_some_columns_are_those_of_all(corpus: Path) -> None:
    whole, opened = open_corpus(corpus).index(), open_corpus(corpus)
    assert opened.index(("key", "seconds", "nothing")).equals(whole.select(["key", "seconds"]))
    for split, count in Counter(whole["split"].to_pylist()).items():
        some = opened.rows(split, ("source",))
        assert some.num_rows == count and set(some.column_names) == {"source", "split"}
        assert some["source"].to_pylist() == opened.rows(split)["source"].to_pylist()


def test_columns_of_a_part_do_not_depend_on_its_condition(corpus: Path) -> None:
    from tonemill.pipelines.corpus.part import Part

    opened = open_corpus(corpus)
    part = Part(opened.folder, opened.about, condition("seconds > 0.2 and split == 'train'", "--where"))
    assert part.index(("key",)).equals(part.index().select(["key"]))
    wished = [row["key"] for row in opened.index().to_pylist() if row["seconds"] > 0.2 and row["split"] == "train"]
    assert part.index()["key"].to_pylist() == wished


def test_batches_that_are_too_much_together_are_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_corpus(corpus)
    batch = pa.RecordBatch.from_pydict({"split": ["train"] * 100, "key": ["0-0000"] * 100})
    monkeypatch.setattr(type(opened), "batches", lambda *_: iter([batch] * 3))
    assert opened.index().num_rows == 300
    monkeypatch.setattr(parquet, "MOST_BYTES", 2 * batch.nbytes)
    for held in (opened.index, lambda: opened.rows("train")):
        with pytest.raises(CorpusError, match="would take"):
            held()
