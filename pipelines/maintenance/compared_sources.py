"""The sources of a corpus as far as a comparison holds them: keys, splits, and one digest for the recipe of each."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from sys import intern
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.recipes.recipe import SPLITS, Recipe, recipe_of
from tonemill.pipelines.storage.parquet import read_batches

AT_ONCE: Final = 1 << 14
"""Recipes that are taken out of a plan in one pass over it."""

_DIGEST_BYTES: Final = 16

Numbers = NDArray[np.int64]


class ComparedSources:
    """Keys, splits and digests of all recipes of a plan, in order of keys; the recipes themselves stay in their file.

    Args:
        file: the plan's.

    Raises:
        CorpusError: it is missing or damaged.
    """

    def __init__(self, file: PlanFile) -> None:
        self._file = file
        keys, digests, counts = bytearray(), bytearray(), list[int]()
        for rows in file.each():
            keys += bytes.fromhex("".join(row.key for row in rows))
            digests += b"".join(blake2b(row.packed, digest_size=_DIGEST_BYTES).digest() for row in rows)
            counts.append(len(rows))
        splits = [SPLITS.index(shard.split) for shard in file.plan.shards]
        every = np.frombuffer(keys, ">u8").astype(np.uint64)
        order = np.argsort(every)
        self.keys = every[order]
        self.splits = np.repeat(np.array(splits, np.int8), counts)[order]
        self.digests = np.frombuffer(digests, np.uint64).reshape(-1, _DIGEST_BYTES // 8)[order]
        self._rows = order.astype(np.int32)
        self._firsts = np.cumsum([0, *counts])

    def recipes(self, numbers: Numbers) -> Iterator[Recipe]:
        """Recipes by their numbers, in that order.

        Raises:
            CorpusError: the plan is damaged, or was changed meanwhile.
        """
        for start in range(0, len(numbers), AT_ONCE):
            rows = self._rows[numbers[start : start + AT_ONCE]]
            order = np.argsort(rows)
            shards = np.searchsorted(self._firsts, rows[order], "right") - 1
            of_shard = np.split(order, np.flatnonzero(np.diff(shards)) + 1)
            texts = [""] * len(rows)
            tables = self._file.tables(("recipe",), np.unique(shards).tolist())
            for shard, some, table in zip(np.unique(shards), of_shard, tables, strict=True):
                places = pa.array(rows[some] - self._firsts[shard])
                for at, text in zip(some.tolist(), table["recipe"].take(places).to_pylist(), strict=True):
                    texts[at] = text
            yield from map(recipe_of, texts)

    def refusals(self, rejects: Path) -> NDArray[np.object_]:
        """For each why it was refused as a whole, as `silent in normalize`; None where it was not.

        Args:
            rejects: the table of what was refused.

        Raises:
            CorpusError: it is missing or damaged.
        """
        found = np.full(len(self.keys), None, object)
        for batch in read_batches(rejects):
            whole = batch.filter(pc.is_null(batch["clip"]))
            keys = numbers_of(whole["key"])
            places = np.searchsorted(self.keys, keys)
            is_known = np.append(self.keys, np.uint64(0))[places] == keys
            why: list[Any] = [
                intern(f"{reason} in {step}")
                for reason, step in zip(whole["reason"].to_pylist(), whole["step"].to_pylist(), strict=True)
            ]
            found[places[is_known]] = np.array(why, object)[is_known]
        return found


def numbers_of(keys: pa.Array) -> NDArray[np.uint64]:
    """Keys of sources as numbers in the order of the texts; 0 for a text that is no such key."""
    found = bytearray()
    for start in range(0, len(keys), AT_ONCE):
        some = keys.slice(start, AT_ONCE)
        is_key = pc.fill_null(pc.match_substring_regex(some, "^[0-9a-f]{16}$"), False)
        found += bytes.fromhex("".join(pc.if_else(is_key, some, "0" * 16).to_pylist()))
    return np.frombuffer(found, ">u8").astype(np.uint64)
