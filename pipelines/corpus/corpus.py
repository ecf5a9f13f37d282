"""A corpus on disk: open it and read its tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import pyarrow as pa

from tonemill.audiotools.arrays import in_words, read_npy_part
from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, CorpusError
from tonemill.pipelines.corpus.array_columns import PLACE_COLUMNS, SHAPE_COLUMNS, is_description_of_arrays
from tonemill.pipelines.corpus.index_rows import of_split, with_neighbours
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.origins import Origins
from tonemill.pipelines.corpus.sidecar import path_of
from tonemill.pipelines.planning.plan import SHARD_NAME
from tonemill.pipelines.recipes.recipe import ARRAY, RESERVED, Recipe
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.output_names import INDEX
from tonemill.pipelines.storage.parquet import gathered, table_file
from tonemill.pipelines.storage.paths import place, to_uri
from tonemill.pipelines.storage.table_digests import as_record
from tonemill.pipelines.storage.tar import cut_out, members

SCHEMA: Final = 1
AT_ONCE: Final = 512
"""Rows of the index that become Python objects at once, so that the first recipe comes soon."""

FOLDER: Final = "folder"
"""What models may learn as a label where no field has that name: where a source lay under its root."""


_CHECKED: Final = ("key", "source", "split", "shard", "samples")
"""Columns of the index in which every row has a value."""


@dataclass(frozen=True)
class Corpus:
    """A finished corpus."""

    folder: Path
    about: dict[str, Any]

    @property
    def output(self) -> OutputFolder:
        return OutputFolder(self.folder, "shards")

    @property
    def name(self) -> str:
        return str(self.folder)

    def shards(self, split: str) -> list[dict[str, Any]]:
        """Sidecars of the shards of a split that hold examples, in order."""
        named = [one for one in self.about["shards"] if one["shard"].startswith(f"{split}/") and one["examples"]]
        return sorted(named, key=lambda one: str(one["shard"]))

    def batches(self, wanted: Collection[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of the index some thousand at a time; one batch without rows where there is none.

        Args:
            wanted: columns, of which those that it lacks are left out; None for all.

        Raises:
            CorpusError: it is damaged, or names shards that no corpus has.
        """
        with table_file(self.output.index, self._index_record) as table:
            self._refuse_wrong_schema(table.schema)
            for batch in table.batches(None if wanted is None else {*wanted, *_CHECKED}):
                self._refuse_wrong_rows(batch)
                yield batch if wanted is None else batch.select([one for one in batch.schema.names if one in wanted])

    def index(self, wanted: Collection[str] | None = None) -> pa.Table:
        """The index, or some columns of it; arguments and errors as of `batches`, and of `gathered`."""
        return gathered(self.batches(wanted), self.output.index)

    def rows(self, split: str, wanted: Collection[str] | None = None) -> pa.Table:
        """The rows of the index that are of a split, in its order, also with the column `split`; else as `index`."""
        batches = self.batches(None if wanted is None else {*wanted, "split"})
        return gathered((of_split(batch, split) for batch in batches), self.output.index)

    @property
    def _index_record(self) -> dict[str, Any] | None:
        """Bytes and SHA-256 of the index."""
        files = self.about.get("files")
        return as_record(files.get(INDEX)) if isinstance(files, dict) else None

    def _refuse_wrong_schema(self, schema: pa.Schema) -> None:
        text, number = pa.types.is_string, pa.types.is_integer
        wanted = {"key": text, "source": text, "split": text, "shard": text, "samples": number, "sample_rate": number}
        parts = [*self.about["roles"], *self.arrays]
        wanted |= {f"{name}_{what}": number for name in parts for what in ("offset", "bytes")}
        wanted |= {f"{name}_sha256": text for name in parts}
        wanted |= {f"{name}_{what}": number for name in self.arrays for what in ("frames", "channels")}
        wanted |= {f"{name}_hop": number for name, facts in self.arrays.items() if facts["hop"] is not None}
        kinds = dict(zip(schema.names, schema.types, strict=True))
        if wrong := [name for name, fits in wanted.items() if name not in kinds or not fits(kinds[name])]:
            raise self._wrong(wrong[0])

    def _refuse_wrong_rows(self, rows: pa.RecordBatch) -> None:
        if any(rows[name].null_count for name in _CHECKED):
            raise self._wrong("null")
        if not all(SHARD_NAME.fullmatch(name) for name in rows["shard"].unique().to_pylist()):
            raise self._wrong("shard")

    def _wrong(self, what: str) -> CorpusError:
        return CorpusError(f"{self.output.index} is damaged: see its {what}. `tonemill repair {self.folder}` mends it.")

    @property
    def arrays(self) -> dict[str, dict[str, Any]]:
        """For each array that an example has: its channels and hop, lists where they differ, and how many have it."""
        return dict(self.about.get("arrays", {}))

    @property
    def holds(self) -> str:
        """What examples are made of, in words."""
        return in_words(self.about["roles"], self.arrays)

    def fields(self) -> list[str]:
        """Columns of the index that are metadata."""
        return [name for name in self.about["columns"] if is_field(name, self.about["roles"], self.arrays)]

    def recipes(self, holds: Callable[[Mapping[str, Any]], bool] | None = None) -> Iterator[Recipe]:
        """One recipe per example whose row of the index fits, which reads its members out of their tar.

        A recipe carries the split and the group of its example, so that a corpus made of it deals it alike.

        Raises:
            CorpusError: the index or the plan is damaged.
        """
        fields, origins = self.fields(), Origins(self.output, self.about["splits"])
        with table_file(self.output.index, self._index_record) as table:
            self._refuse_wrong_schema(table.schema)
            rows = (row for batch in table.batches() for row in self._right_rows(batch))
            for row, is_one_of_several in with_neighbours(rows):
                if holds is not None and not holds(row):
                    continue
                path = path_of(row, is_one_of_several)
                sources = {
                    role: {
                        "uri": to_uri(self.output.shard(row["shard"]).tar),
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
                sources |= {
                    name: {
                        "kind": ARRAY,
                        "uri": to_uri(self.output.shard(row["shard"]).tar),
                        **{what: row[f"{name}_{what}"] for what in (*PLACE_COLUMNS, "frames", "channels")},
                        "hop": row.get(f"{name}_hop"),
                        "sample_rate": row["sample_rate"],
                        "key": row["key"],
                    }
                    for name in self.arrays
                    if row[f"{name}_sha256"]
                }
                known = {name: row[name] for name in fields if row[name] is not None}
                yield Recipe(path, sources, known, dealt=origins.dealt(row))

    def _right_rows(self, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        self._refuse_wrong_rows(batch)
        for start in range(0, batch.num_rows, AT_ONCE):
            yield from batch.slice(start, AT_ONCE).to_pylist()

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and KEY.json of each example, in the order of the shards; a record holds more than a row of the index.

        Raises:
            CorpusError: a shard cannot be read.
        """
        for split in self.about["splits"]:
            for shard in self.shards(split):
                tar = self.output.shard(shard["shard"]).tar
                try:
                    with tar.open("rb") as file:
                        for member in list(members(file)):
                            if member.name.endswith(".json"):
                                record = json.loads(cut_out(file, member.offset, member.size))
                                if not isinstance(record, dict):
                                    raise CorpusError(f"{member.name} is no record")
                                yield member.name.removesuffix(".json"), record
                except (OSError, ValueError, CorpusError) as error:
                    raise CorpusError(
                        f"{tar} cannot be read: {error}. `tonemill repair {self.folder}` mends it."
                    ) from error


def open_corpus(folder: Path) -> Corpus:
    """Open a finished corpus.

    Raises:
        CorpusError: there is none, it is unfinished, or of a schema this version cannot read.
    """
    folder = place(folder)
    output = OutputFolder(folder, "shards")
    about = json_files.read_json(output.description)
    if about is None:
        if output.plan.exists():
            raise CorpusError(
                f"{folder} is not finished. Repeat the command that makes it: it goes on where it stopped."
            )
        if folder.exists():
            raise CorpusError(f"{folder} is not a corpus. Make one with `tonemill scan FOLDER | tonemill shard NEW`.")
        raise CorpusError(f"{folder} does not exist. Make it with `tonemill scan FOLDER | tonemill shard {folder}`.")
    if not isinstance(about, dict) or (about.get("schema") == SCHEMA and not _is_description(about)):
        raise CorpusError(f"{output.description} is damaged. `tonemill repair {folder}` mends it.")
    if about.get("schema") != SCHEMA:
        raise CorpusError(
            f"{folder} has schema {about.get('schema')} (the version of its format), and this tonemill reads "
            f"{SCHEMA}. Use the tonemill that wrote it."
        )
    return Corpus(folder, about)


def _is_description(about: dict[str, Any]) -> bool:
    """Whether a description has what the rest of tonemill asks of one."""
    kinds = {"roles": list, "columns": list, "shards": list, "splits": dict, "ledger": dict, "examples": int}
    if not all(isinstance(about.get(name), kind) for name, kind in kinds.items()):
        return False
    shards = {"shard": str, "examples": int, "bytes": int, "seconds": int | float}
    if not is_description_of_arrays(about.get("arrays", {})):
        return False
    return (
        all(isinstance(name, str) for name in (*about["roles"], *about["columns"], about.get("digest")))
        and all(isinstance(about.get(name), int | None) for name in ("sample_rate", "channels"))
        and all(isinstance(one, dict) for one in (*about["shards"], *about["splits"].values()))
        and all(isinstance(one.get(name), kind) for one in about["shards"] for name, kind in shards.items())
        and all(SHARD_NAME.fullmatch(one["shard"]) for one in about["shards"])
    )


def is_field(column: str, roles: Collection[str], arrays: Collection[str] = ()) -> bool:
    """Whether a column of the index is metadata, and not written by tonemill itself."""
    places = {f"{name}_{what}" for name in (*roles, *arrays) for what in PLACE_COLUMNS}
    places |= {f"{name}_{what}" for name in arrays for what in SHAPE_COLUMNS}
    return column not in RESERVED and column not in places


def folder_of(source: str) -> str:
    """The folder of a source under its root; a dot where it lay in the root itself."""
    return source.rpartition("/")[0] or "."


class Tars(Protocol):
    """What opens shards of a corpus."""

    def open(self, shard: str) -> BinaryIO:
        """The tar of a shard."""


@lru_cache(maxsize=4096)
def _tar_of(folder: Path, shard: str) -> Path:
    return OutputFolder(folder, "shards").shard(shard).tar


@contextmanager
def _there(folder: Path, shard: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CorpusError(f"{_tar_of(folder, shard)} is missing. `tonemill repair {folder}` makes it again.") from error


def samples_of(
    folder: Path,
    record: Mapping[str, Any],
    role: str,
    start: int = 0,
    frames: int | None = None,
    tars: Tars | None = None,
) -> np.ndarray:
    """Samples of one role of an example, from its place in the tar, (channels, time).

    Args:
        folder: of the corpus.
        record: the row of the example.
        role: of the waveform.
        start: the first sample.
        frames: how many; None for all.
        tars: opens its shard; None opens it in the folder.
    """
    with _there(folder, record["shard"]):
        data = encoded_of(folder, record, role, tars)
    try:
        return files.decode(data, start, record["samples"] - start if frames is None else frames)
    except AudioError as error:
        raise CorpusError(
            f"{record['key']} in {_tar_of(folder, record['shard'])} cannot be read: {str(error).rstrip('.')}. "
            f"`tonemill repair {folder}` makes it again."
        ) from error


def encoded_of(folder: Path, record: Mapping[str, Any], role: str, tars: Tars | None = None) -> bytes:
    """The encoded sound of one role of an example, from its place in the tar; arguments as for `samples_of`."""
    with _tar_of(folder, record["shard"]).open("rb") if tars is None else tars.open(record["shard"]) as file:
        return cut_out(file, record[f"{role}_offset"], record[f"{role}_bytes"])


def array_of(
    folder: Path,
    record: Mapping[str, Any],
    name: str,
    first: int = 0,
    frames: int | None = None,
    tars: Tars | None = None,
) -> np.ndarray:
    """Frames of an array of an example, from its place in the tar, (channels, frames); no others are read.

    Args:
        folder, record, tars: as for `samples_of`.
        name: of the array.
        first: the first frame.
        frames: how many; None for all.

    Raises:
        CorpusError: it is damaged, or shorter.
    """
    tar = _tar_of(folder, record["shard"])
    place, size = record[f"{name}_offset"], record[f"{name}_bytes"]
    with _there(folder, record["shard"]), tar.open("rb") if tars is None else tars.open(record["shard"]) as file:

        def read(offset: int, count: int) -> bytes:
            return cut_out(file, place + offset, count)

        try:
            return read_npy_part(read, size, 1, None, first, frames).values
        except (AudioError, ValueError) as error:
            raise CorpusError(
                f"The array {name} of {record['key']} in {tar} cannot be read: {error}. `tonemill repair {folder}` "
                "makes it again."
            ) from error
