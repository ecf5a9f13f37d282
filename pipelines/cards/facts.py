"""What is known of a corpus from its own tables: splits, fields, labels, licences, what was left out, and its steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pyarrow as pa
from pyarrow import compute

from tonemill.pipelines.corpus.corpus import Corpus, folder_of
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.storage.parquet import read_table

LICENCES: Final = ("licence", "license", "licences", "licenses")
OPT_OUT: Final = "opt_out"
LABELS: Final = "label"
LIST_RECORDS: Final = 1000
"""Fields that are lists are in no table; they are looked for in so many examples of each split."""


@dataclass(frozen=True)
class Field:
    """A column of the index, or a list in KEY.json.

    Args:
        name: of the field.
        kind: text, integer, float or boolean.
        many: it is a list.
        known: examples that have it; None for lists, which are looked for in some examples only.
        values: what it holds: its range, or how many different texts.
    """

    name: str
    kind: str
    many: bool = False
    known: int | None = None
    values: str = ""


@dataclass(frozen=True)
class Facts:
    """Of one corpus.

    Args:
        corpus: what it is about.
        columns: of the index, in its order, but for places inside of tars.
        lists: fields that hold several values.
        metadata: names of fields that sources and steps gave.
        labels: examples of each label, the most frequent first; of folders where there is no field `label`.
        label: the field of these.
        licences: examples and seconds of each licence that a field states; empty where there is no such field.
        opted_out: examples whose field `opt_out` is true; None where there is no such field.
        folders: examples of each folder of sources.
        sources: how many there are.
        left_out: sources and clips by outcome, step and reason.
        chains: recipes of each chain of steps, with all settings.
    """

    corpus: Corpus
    columns: Sequence[Field]
    lists: Sequence[Field]
    metadata: Sequence[str]
    labels: dict[str, int]
    label: str
    licences: dict[str, tuple[int, float]]
    opted_out: int | None
    folders: dict[str, int]
    sources: int
    left_out: dict[tuple[str, str, str], int]
    chains: dict[str, int]


def facts_of(corpus: Corpus) -> Facts:
    """Read the tables of a corpus.

    Raises:
        CorpusError: one is damaged.
    """
    index = corpus.index()
    places = {f"{one}_{what}" for one in (*corpus.about["roles"], *corpus.arrays) for what in ("offset", "bytes")}
    columns = [_field(index, name) for name in index.column_names if name not in places and kind_of(index[name].type)]
    folders = Counter(folder_of(one) for one in index["source"].to_pylist())
    label = LABELS if LABELS in index.column_names else "folder"
    labels = Counter(map(str, index[LABELS].to_pylist())) if label == LABELS else folders
    licence = next((name for name in index.column_names if name.lower() in LICENCES), None)
    licences: dict[str, tuple[int, float]] = {}
    if licence is not None:
        for value, seconds in zip(index[licence].to_pylist(), index["seconds"].to_pylist(), strict=True):
            count, total = licences.get(str(value or "not stated"), (0, 0.0))
            licences[str(value or "not stated")] = count + 1, total + seconds
    rejects = read_table(corpus.output.rejects)
    left_out = Counter(
        (row["outcome"], row["step"] or "", row["reason"])
        for row in rejects.select(["outcome", "step", "reason"]).to_pylist()
    )
    plan = read_whole(corpus.output.plan)
    steps = (json.dumps(row.recipe.steps, ensure_ascii=False) for rows in plan.rows for row in rows)
    chains = Counter(steps)
    return Facts(
        corpus,
        columns,
        _lists(corpus),
        corpus.fields(),
        dict(labels.most_common()),
        label,
        dict(sorted(licences.items(), key=lambda item: -item[1][0])),
        _true(index[OPT_OUT]) if OPT_OUT in index.column_names else None,
        dict(folders.most_common()),
        len(set(index["source"].to_pylist())),
        dict(left_out.most_common()),
        dict(chains.most_common()),
    )


def kind_of(kind: pa.DataType) -> str:
    """Of a column; empty for one that is no plain value."""
    tests = (
        ("text", pa.types.is_string),
        ("boolean", pa.types.is_boolean),
        ("integer", pa.types.is_integer),
        ("float", pa.types.is_floating),
    )
    return next((name for name, fits in tests if fits(kind)), "")


def _field(index: pa.Table, name: str) -> Field:
    column = index[name]
    kind = kind_of(column.type)
    known = len(column) - column.null_count
    if not known:
        return Field(name, kind, known=0)
    if kind in ("text", "boolean"):
        count = compute.count_distinct(column).as_py()
        values = str(column.drop_null()[0].as_py()) if count == 1 else f"{count:,} values"
    else:
        found = compute.min_max(column).as_py()
        least, most = (f"{found[end]:.6g}" for end in ("min", "max"))
        values = least if least == most else f"{least} to {most}"
    return Field(name, kind, known=known, values=values)


def _lists(corpus: Corpus) -> list[Field]:
    found: dict[str, str] = {}
    for _, record in islice(corpus.records(), LIST_RECORDS):
        for name, value in record.items():
            if name != "roles" and isinstance(value, list) and value and name not in found:
                kinds = {type(one) for one in value}
                kind = "text" if str in kinds else "float" if float in kinds else "integer" if kinds == {int} else ""
                if kind and kinds <= {str, int, float}:
                    found[name] = kind
    return [Field(name, kind, many=True) for name, kind in sorted(found.items())]


def _true(column: pa.ChunkedArray) -> int:
    """Values that mean yes, as a table may spell them."""
    return sum(str(one).strip().lower() in ("true", "1", "1.0", "yes", "y") for one in column.to_pylist())
