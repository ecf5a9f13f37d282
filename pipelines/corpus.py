"""A corpus on disk: open it and read its tables."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.files import is_audio
from tonemill.pipelines import commit
from tonemill.pipelines.places import place
from tonemill.pipelines.recipe import RESERVED, Recipe
from tonemill.pipelines.uri import to_uri

if TYPE_CHECKING:
    from tonemill.models.contract import CorpusFacts

SCHEMA: Final = 1
DESCRIPTION: Final = "corpus.json"
INDEX: Final = "index.parquet"
REJECTS: Final = "rejects.parquet"
MOST_VALUES: Final = 10_000
"""A field with more distinct values than this is no label."""


@dataclass(frozen=True)
class Corpus:
    """A finished corpus."""

    folder: Path
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.folder)

    def shards(self, split: str) -> list[dict[str, Any]]:
        """Sidecars of the shards of a split that hold examples, in order."""
        named = [one for one in self.about["shards"] if one["shard"].startswith(f"{split}/") and one["examples"]]
        return sorted(named, key=lambda one: str(one["shard"]))

    def index(self) -> pa.Table:
        return read_table(self.folder / INDEX)

    def fields(self) -> list[str]:
        """Columns of the index that are metadata."""
        return [name for name in self.about["columns"] if is_field(name, self.about["roles"])]

    def facts(self) -> CorpusFacts:
        """What a model asks before training.

        Raises:
            CorpusError: its examples differ in rate or channels, which no model can read in one batch.
        """
        # Models need torch, which everything else here does without.
        from tonemill.models.contract import CorpusFacts

        for what, flag in (("sample_rate", "--rate 44100"), ("channels", "--rate 44100 --channels mono")):
            if self.about[what] is None:
                raise CorpusError(
                    f"{self.name} holds examples of different {what.replace('_', ' ')}. Rebuild it with "
                    f"`tonemill scan ... | tonemill resample {flag} | tonemill shard {self.name}`."
                )
        table, roles, values = self.index(), tuple(self.about["roles"]), {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if is_field(name, roles) and (pa.types.is_string(column.type) or pa.types.is_integer(column.type)):
                distinct = column.unique().drop_null()
                if len(distinct) <= MOST_VALUES:
                    values[name] = tuple(sorted(map(str, distinct.to_pylist())))
        return CorpusFacts(self.name, roles, self.about["sample_rate"], self.about["channels"], values)

    def recipes(self, holds: Callable[[Mapping[str, Any]], bool] | None = None) -> Iterator[Recipe]:
        """One recipe per example whose row of the index fits, which reads its members out of their tar."""
        table = self.index()
        several = Counter(key.rpartition("-")[0] for key in table["key"].to_pylist())
        fields = self.fields()
        for batch in table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                if holds is not None and not holds(row):
                    continue
                stem, number = row["key"].rsplit("-", 1)
                path = row["source"] if several[stem] == 1 else _numbered(row["source"], number)
                sources = {
                    role: {
                        "uri": to_uri(self.folder / f"{row['shard']}.tar"),
                        "offset": row[f"{role}_offset"],
                        "bytes": row[f"{role}_bytes"],
                        "sha256": row[f"{role}_sha256"],
                        "sample_rate": row["sample_rate"],
                        "channels": row["channels"],
                        "frames": row["samples"],
                        "key": row["key"],
                    }
                    for role in self.about["roles"]
                }
                yield Recipe(path, sources, {name: row[name] for name in fields if row[name] is not None})


def open_corpus(folder: Path) -> Corpus:
    """Open a finished corpus.

    Raises:
        CorpusError: there is none, it is unfinished, or of a schema this version cannot read.
    """
    folder = place(folder)
    about = commit.read_json(folder / DESCRIPTION)
    if about is None:
        if (folder / "plan.parquet").exists():
            raise CorpusError(
                f"{folder} is not finished. Give the command that makes it again: it goes on where it stopped."
            )
        what = "is no corpus" if folder.is_dir() else "does not exist"
        raise CorpusError(f"{folder} {what}. Make one with `tonemill scan FOLDER | tonemill shard {folder}`.")
    if about.get("schema") != SCHEMA:
        raise CorpusError(
            f"{folder} has schema {about.get('schema')} and this tonemill reads {SCHEMA}. Use the one that wrote it."
        )
    return Corpus(folder, about)


def is_field(column: str, roles: Sequence[str]) -> bool:
    """Whether a column of the index is metadata, and not written by tonemill itself."""
    places = {f"{role}_{what}" for role in roles for what in ("offset", "bytes", "sha256")}
    return column not in RESERVED and column not in places


def _numbered(path: str, number: str) -> str:
    """A source's path with a clip's number before its suffix, as `loop-0003.wav`."""
    stem, suffix = os.path.splitext(path) if is_audio(path) else (path, "")  # noqa: PTH122
    return f"{stem}-{number}{suffix}"


def read_table(path: Path) -> pa.Table:
    """A Parquet file's table; opened here, for pyarrow cannot open a name that is not UTF-8."""
    with path.open("rb") as file:
        return table_of(file)


def table_of(file: BinaryIO) -> pa.Table:
    """The table of an open Parquet file."""
    # Without Arrow's threads: some were still starting when a short command ended, and aborted it. Arrow's own
    # read_table starts one whatever it is told, for it reads through its data sets.
    return parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def describe_line(about: dict[str, Any], **more: Any) -> str:
    """The one line of JSON that a sink prints about what it made."""
    names = (
        "examples",
        "seconds",
        "bytes",
        "sample_rate",
        "channels",
        "digest",
        "ledger",
        "reasons",
        "clipped_examples",
    )
    return json.dumps({**more, **{name: about[name] for name in names}}, ensure_ascii=False)
