"""A part of a corpus: the examples whose fields fit a condition, as if the corpus held no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of
from tonemill.pipelines.recipes.conditions import Condition, condition
from tonemill.pipelines.recipes.recipe import Recipe


@dataclass(frozen=True)
class Part(Corpus):
    """Examples of a corpus; its name, folder and digest are those of the whole.

    Args:
        fits: of a row of the index, which has the folder of its source too.
    """

    fits: Condition

    def batches(self, wanted: Collection[str] | None = None) -> Iterator[pa.RecordBatch]:
        known = {*self.fits.names, "source"}
        for batch in super().batches(None if wanted is None else {*wanted, *known}):
            names = [name for name in batch.schema.names if name in known]
            holds = pa.array([self._holds(row) for row in batch.select(names).to_pylist()], pa.bool_())
            columns = [name for name in batch.schema.names if wanted is None or name in wanted]
            yield batch.select(columns).filter(holds)

    def recipes(self, holds: Callable[[Mapping[str, Any]], bool] | None = None) -> Iterator[Recipe]:
        yield from super().recipes(lambda row: self._holds(row) and (holds is None or holds(row)))

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        keys = set(self.index(("key",))["key"].to_pylist())
        yield from (one for one in super().records() if one[0] in keys)

    def _holds(self, row: Mapping[str, Any]) -> bool:
        return self.fits({FOLDER: folder_of(row["source"]), **row})


def part_of(corpus: Corpus, text: str, flag: str) -> Part:
    """The examples for which a condition holds.

    Args:
        corpus: the whole.
        text: the condition, on columns of its index.
        flag: that it was typed after, for messages.

    Raises:
        UsageError: the text is no condition, or names a field that the corpus lacks.
        CorpusError: it holds for no example.
    """
    fits = condition(text, flag)
    fits.refuse_unknown([*corpus.about["columns"], FOLDER])
    columns = ("split", "shard", "sample_rate", *(f"{name}_offset" for name in corpus.arrays))
    table = Part(corpus.folder, corpus.about, fits).index(columns)
    if not table.num_rows:
        raise CorpusError(
            f"{flag} {text!r}: no example of {corpus.name} fits. Fields and values: `tonemill inspect {corpus.name}`."
        )
    splits, shards = Counter(table["split"].to_pylist()), Counter(table["shard"].to_pylist())
    arrays = {
        name: {**about, "examples": table.num_rows - table[f"{name}_offset"].null_count}
        for name, about in corpus.arrays.items()
    }
    rates = table["sample_rate"].unique().to_pylist()
    about = {
        **corpus.about,
        "examples": table.num_rows,
        "sample_rate": rates[0] if len(rates) == 1 else None,
        "splits": {
            name: {**of, "examples": splits[name]} for name, of in corpus.about["splits"].items() if splits[name]
        },
        "shards": [{**one, "examples": shards[one["shard"]]} for one in corpus.about["shards"]],
        **({"arrays": arrays} if arrays else {}),
    }
    return Part(corpus.folder, about, fits)
