"""What is made of rows of an index as they come, some thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tonemill.pipelines.corpus.sidecar import source_key


def of_split(rows: pa.RecordBatch, split: str) -> pa.RecordBatch:
    """Those of some rows that are of a split."""
    if not rows.num_rows:
        return rows
    # A comparison with a text, and `to_numpy`, would import pandas where that is installed: 0.2 s.
    splits = rows["split"].dictionary_encode()
    names = splits.dictionary.to_pylist()
    codes = np.frombuffer(splits.indices.buffers()[1], np.int32)[: len(splits)]
    chosen = np.flatnonzero(codes == (names.index(split) if split in names else -1))
    return rows.take(pa.Array.from_buffers(pa.int64(), len(chosen), [None, pa.py_buffer(chosen)]))


def with_neighbours(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each row, and whether other examples came of its source, which stand beside it."""
    before, held = None, next(rows, None)
    while held is not None:
        following = next(rows, None)
        stem = source_key(held["key"])
        after = source_key(following["key"]) if following is not None else None
        yield held, stem in (before, after)
        before, held = stem, following
