"""Read and write plan.parquet: a row group per shard, so that a worker reads its own rows and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.codecs.encoding import CONTAINERS
from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.planning.plan import KEY, SHARD_NAME, Output, Plan, Planned, Shard, Splitting, pack
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage import parquet as parquet_files
from tonemill.pipelines.storage.parquet import footer_bytes, read_metadata, read_row_group, read_row_groups, reading
from tonemill.pipelines.storage.paths import is_plain
from tonemill.pipelines.storage.table_digests import held

SCHEMA: Final = 1

COLUMNS: Final = pa.schema(
    [
        ("shard", pa.string()),
        ("position", pa.int32()),
        ("key", pa.string()),
        ("name", pa.string()),
        ("clips", pa.int64()),
        ("seconds", pa.float64()),
        ("recipe", pa.string()),
    ]
)


def dump_plan(plan: Plan, file: BinaryIO) -> None:
    """Write a plan with its rows; the caller moves the file into place."""
    about = {
        "schema": SCHEMA,
        "output": asdict(plan.output),
        "splitting": plan.splitting.to_json(),
        "grown": plan.grown,
        **({"shard_seconds": plan.shard_seconds} if plan.shard_seconds is not None else {}),
        "shards": [asdict(shard) for shard in plan.shards],
    }
    schema = COLUMNS.with_metadata({"tonemill": json.dumps(about)})
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for shard, rows in zip(plan.shards, plan.rows, strict=True):
            writer.write_table(_table(shard, rows), row_group_size=len(rows))


class PlanFile:
    """A plan's file, and which of its rows are those of a shard.

    Args:
        path: of the file.
        proved: the file's bytes are those that were recorded.
    """

    def __init__(self, path: Path, proved: bool = True) -> None:
        self._path, self._proved = path, proved

    @cached_property
    def plan(self) -> Plan:
        """The plan without its rows.

        Raises:
            CorpusError: there is no plan, or one that this version cannot read.
        """
        text = read_metadata(self._path, b"tonemill", self._proved)
        try:
            about = json.loads(text)
            if about["schema"] == SCHEMA:
                return _plan(about)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise CorpusError(f"{self._path} is not a plan: {error}.") from error
        raise CorpusError(
            f"{self._path} has schema {about['schema']!r}; this tonemill reads {SCHEMA}. Use the one that wrote it."
        )

    def tables(self, columns: Collection[str], numbers: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Some columns of the rows of one shard after another.

        Args:
            columns: their names, of `COLUMNS`.
            numbers: of the shards; None for all.

        Raises:
            CorpusError: they are missing or damaged.
        """
        yield from read_row_groups(self._path, lambda name: name in columns, numbers, self._proved)

    def rows(self, number: int) -> list[Planned]:
        """The recipes of one shard, in order.

        Raises:
            CorpusError: they cannot be read, or a name among them would lead out of the folder.
        """
        return _rows(self._path, number, read_row_group(self._path, number, self._proved))

    def whole(self) -> Plan:
        """The plan with all its rows.

        Raises:
            CorpusError: as `plan` and `rows`.
        """
        path, plan = self._path, self.plan
        try:
            with reading(path):
                copy = held(path) if self._proved else path
            tables = enumerate(read_row_groups(copy, lambda _: True, range(len(plan.shards)), self._proved))
            return replace(plan, rows=tuple(tuple(_rows(path, number, table)) for number, table in tables))
        except ValueError as error:
            raise CorpusError(f"{path} is damaged: {error}") from error


def read_plan(path: Path, proved: bool = True) -> Plan:
    """A plan without its rows; arguments and errors as of `PlanFile`."""
    return PlanFile(path, proved).plan


def _plan(about: dict[str, Any]) -> Plan:
    """The plan that a file describes, which anyone may have written: names become paths, numbers become loops."""
    output, splitting = Output(**about["output"]), Splitting(**about.get("splitting", {}))
    _require(output.kind in ("shards", "files"), "kind of output", output.kind)
    _require(output.container in CONTAINERS, "container", output.container)
    _require(output.bits in (None, 16, 24, 32), "bits", output.bits)
    for name in ("valid", "test"):
        share = getattr(splitting, name)
        _require(type(share) in (int, float) and 0 <= share <= 1, name, share)
    for name in ("valid_where", "test_where", "split_by", "group"):
        _require(isinstance(getattr(splitting, name), str | None), name, getattr(splitting, name))
    _require(type(splitting.seed) is int, "seed", splitting.seed)
    for name in ("ends", "redeal"):
        _require(type(getattr(splitting, name)) is bool, name, getattr(splitting, name))
    shard_seconds = about.get("shard_seconds")
    _require(
        shard_seconds is None or (type(shard_seconds) in (int, float) and 0 < shard_seconds < math.inf),
        "shard_seconds",
        shard_seconds,
    )
    shards = tuple(Shard(**shard) for shard in about["shards"])
    for shard in shards:
        _require(type(shard.name) is str and SHARD_NAME.fullmatch(shard.name), "shard", shard.name)
        _require(type(shard.digest) is str, "digest", shard.digest)
        _require(type(shard.seconds) in (int, float) and 0 <= shard.seconds < math.inf, "seconds", shard.seconds)
        for name in ("recipes", "clips", "bytes"):
            _require(type(getattr(shard, name)) is int and getattr(shard, name) >= 0, name, getattr(shard, name))
    _require(len({shard.name for shard in shards}) == len(shards), "shard", "of one name twice")
    return Plan(output, shards, (), splitting, about.get("grown") is True, shard_seconds)


def _require(fits: object, what: str, found: object) -> None:
    if not fits:
        raise ValueError(f"its {what} is {str(found)[:80]!r}")


def read_whole(path: Path, proved: bool = True) -> Plan:
    """A plan with all its rows; arguments and errors as of `PlanFile`."""
    return PlanFile(path, proved).whole()


def read_rows(path: Path, number: int, proved: bool = True) -> list[Planned]:
    """The recipes of one shard, in order; arguments and errors as of `PlanFile`."""
    return PlanFile(path, proved).rows(number)


def _rows(path: Path, number: int, table: pa.Table) -> list[Planned]:
    if table.schema.names != COLUMNS.names or table.schema.types != COLUMNS.types:
        raise CorpusError(f"{path} has other columns than a plan.")
    rows = [
        Planned(row["position"], row["key"], row["name"], row["clips"], row["seconds"], pack(row["recipe"] or ""))
        for row in table.to_pylist()
    ]
    for position, row in enumerate(rows):
        if (
            None in (row.clips, row.seconds)
            or not row.packed
            or row.position != position
            or not _are_names(row.key, row.name)
        ):
            raise CorpusError(f"{path} is damaged at recipe {position} of part {number}, {str(row.name)[:80]!r}.")
    return rows


def _are_names(key: object, name: object) -> bool:
    return isinstance(key, str) and KEY.fullmatch(key) is not None and is_plain(name)


def _table(shard: Shard, rows: tuple[Planned, ...]) -> pa.Table:
    return pa.Table.from_pydict(
        {
            "shard": [shard.name] * len(rows),
            "position": [row.position for row in rows],
            "key": [row.key for row in rows],
            "name": [row.name for row in rows],
            "clips": [row.clips for row in rows],
            "seconds": [row.seconds for row in rows],
            "recipe": [row.line for row in rows],
        },
        schema=COLUMNS,
    )


def write_plan(output: OutputFolder, plan: Plan) -> None:
    """Write a plan with its rows, and beside it the digest of its file.

    The corpus's own description cannot hold that digest: a plan names places, and those decide nothing. The old digest
    goes first, so that no reader holds the new file against it, whenever this is killed.

    Raises:
        UsageError: it has more shards than a reader would take.
    """
    with commit.pending(output.plan) as file:
        dump_plan(plan, file)
        length = footer_bytes(file)
        if length > parquet_files.MOST_METADATA:
            longer = sum(shard.seconds for shard in plan.shards) / len(plan.shards) * length
            raise UsageError(
                f"This plan has {len(plan.shards)} shards, which no reader takes: the list of them has {length} bytes, "
                f"and {parquet_files.MOST_METADATA} are the most. Make longer shards: --shard-seconds "
                f"{math.ceil(1.5 * longer / parquet_files.MOST_METADATA)}."
            )
        output.plan_seal.unlink(missing_ok=True)
    json_files.write_sealed(output.plan_seal, {"plan_digest": plan.digest, **commit.fingerprint(output.plan)})


def plan_is_whole(output: OutputFolder) -> bool:
    """Whether every byte of the plan's file is as it was written."""
    seal = json_files.read_sealed(output.plan_seal)
    if seal is None or not output.plan.is_file():
        return False
    return {name: seal.get(name) for name in ("bytes", "sha256")} == commit.fingerprint(output.plan)
