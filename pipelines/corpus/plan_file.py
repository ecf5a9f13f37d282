"""Read and write plan.parquet, so that a worker reads its own shard's rows and little else, however many shards."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_content import COLUMNS, SHARD_COLUMNS, plan_of, require, rows_of, table_of
from tonemill.pipelines.planning.plan import Each, Output, Plan, Planned, Rows, Shard
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.columns import table_of_rows
from tonemill.pipelines.storage.parquet import read_row_group, read_row_groups, reading
from tonemill.pipelines.storage.parts_file import PartsFile, PartsWriter
from tonemill.pipelines.storage.table_digests import held

SCHEMA: Final = 2
"""Of new plans: the shards are listed in tables beside the rows, and the file's parts have digests of their own."""

EARLIER: Final = 1
"""With a row group for each shard, and all shards in the footer."""

AT_ONCE: Final = 4096
"""Rows of a row group, and of a table of shards."""

MOST_TEXT: Final = 16 << 20
"""Characters of recipes in a row group, beyond which it ends sooner."""

ABOUT: Final = b"tonemill"


def dump_plan(plan: Plan, file: BinaryIO, schema: int = SCHEMA, rows: Each | None = None) -> dict[str, Any] | None:
    """Write a plan with its rows; the caller moves the file into place.

    Args:
        plan: to write.
        file: open for writing.
        schema: `EARLIER` to write what earlier versions wrote.
        rows: the recipes of each shard, where the plan does not hold them.

    Returns:
        Bytes and SHA-256 of the end of the file; None of schema `EARLIER`.
    """
    rows = plan.rows if rows is None else rows
    about = {
        "schema": schema,
        "output": plan.output.to_json(),
        "splitting": plan.splitting.to_json(),
        "grown": plan.grown,
        **({"shard_seconds": plan.shard_seconds} if plan.shard_seconds is not None else {}),
    }
    if schema == EARLIER:
        about["shards"] = [asdict(shard) for shard in plan.shards]
        with parquet.ParquetWriter(file, COLUMNS.with_metadata({ABOUT: json.dumps(about)}), compression="zstd") as old:
            for shard, recipes in zip(plan.shards, rows, strict=True):
                old.write_table(table_of([(shard.name, row) for row in recipes]), row_group_size=len(recipes))
        return None
    about |= {"shards": len(plan.shards), "at_once": AT_ONCE}
    with PartsWriter(file, COLUMNS.with_metadata({ABOUT: json.dumps(about)})) as writer:
        for group in _groups(plan, rows):
            writer.group(table_of(group))
        firsts = itertools.accumulate((shard.recipes for shard in plan.shards), initial=0)
        listed = ({**vars(shard), "first": first} for shard, first in zip(plan.shards, firsts, strict=False))
        while some := list(itertools.islice(listed, AT_ONCE)):
            writer.table(table_of_rows(some, SHARD_COLUMNS))
        return writer.close()


def _groups(plan: Plan, rows: Each) -> Iterator[list[tuple[str, Planned]]]:
    """The rows of each row group, with the names of their shards."""
    group, text = list[tuple[str, Planned]](), 0
    for shard, some in zip(plan.shards, rows, strict=True):
        for row in some:
            group.append((shard.name, row))
            text += len(row.line)
            if len(group) == AT_ONCE or text > MOST_TEXT:
                yield group
                group, text = [], 0
    if group:
        yield group


class PlanFile:
    """A plan's file, and which of its rows are those of a shard.

    Only what is read is held against its digest. A plan of schema `EARLIER` has a row group for each shard.

    Args:
        path: of the file.
        proved: what is read has the digest that was recorded.
    """

    def __init__(self, path: Path, proved: bool = True) -> None:
        self._path, self._proved = path, proved
        self._held: tuple[object, pa.Table] = None, pa.table({})
        self._listed: tuple[int, pa.Table] = -1, pa.table({})

    @cached_property
    def _file(self) -> PartsFile:
        return PartsFile(self._path, self._proved)

    @cached_property
    def _about(self) -> dict[str, Any]:
        text = self._file.note(ABOUT)
        if text is None:
            raise CorpusError(f"{self._path} was not made by tonemill.")
        with self._understood():
            about: dict[str, Any] = json.loads(text)
            if about["schema"] not in (EARLIER, SCHEMA):
                raise CorpusError(
                    f"{self._path} has schema {about['schema']!r} (the version of its format); this tonemill reads "
                    f"{EARLIER} and {SCHEMA}. Use the tonemill that wrote it."
                )
            if about["schema"] == SCHEMA:
                for name, least in (("shards", 0), ("at_once", 1)):
                    require(type(about[name]) is int and about[name] >= least, name, about[name])
                tables = self._file.tables
                require(tables == -(-about["shards"] // about["at_once"]), "number of tables", tables)
            return about

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise CorpusError(f"{self._path} is not a plan: {error}.") from error

    @property
    def _is_earlier(self) -> bool:
        return bool(self._about["schema"] == EARLIER)

    @cached_property
    def _starts(self) -> list[int]:
        return self._file.starts()

    @property
    def count(self) -> int:
        """How many shards it has."""
        return len(self.plan.shards) if self._is_earlier else int(self._about["shards"])

    @cached_property
    def output(self) -> Output:
        """What cooking it leaves."""
        with self._understood():
            return plan_of(self._about, ()).output

    @cached_property
    def plan(self) -> Plan:
        """The plan without its rows.

        Raises:
            CorpusError: there is no plan, or one that this version cannot read.
        """
        about = self._about
        with self._understood():
            if self._is_earlier:
                return plan_of(about, tuple(Shard(**shard) for shard in about["shards"]))
            shards, rows = list[Shard](), 0
            for number in range(self._file.tables):
                for record in self._table_of_shards(number).to_pylist():
                    require(record.pop("first") == rows, "first row of a shard", record["name"])
                    shards.append(Shard(**record))
                    rows += shards[-1].recipes
            require(len(shards) == self.count and rows == self._starts[-1], "number of shards", len(shards))
            return plan_of(about, tuple(shards))

    def shard(self, number: int) -> Shard:
        """One shard; of the list of all no more is read than the table that it is in.

        Raises:
            CorpusError: there is no such shard, or it is damaged.
        """
        if self._is_earlier:
            return self.plan.shards[self._known(number)]
        return self._entry(number)[0]

    def find(self, name: str) -> int | None:
        """The number of the shard of a name; None if there is none.

        Raises:
            CorpusError: the list of shards is damaged.
        """
        if self._is_earlier:
            return next((number for number, shard in enumerate(self.plan.shards) if shard.name == name), None)
        for number in range(self._file.tables):
            if (place := pc.index(self._table_of_shards(number)["name"], name).as_py()) >= 0:
                return int(number * self._about["at_once"] + place)
        return None

    def rows(self, number: int) -> list[Planned]:
        """The recipes of one shard, in order.

        Raises:
            CorpusError: they cannot be read, or a name among them would lead out of the folder.
        """
        if self._is_earlier:
            return rows_of(self._path, number, read_row_group(self._path, number, self._proved))
        return self._checked(number, *self._entry(number))

    def tables(self, columns: Collection[str], numbers: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Some columns of the rows of one shard after another.

        Args:
            columns: their names, of `COLUMNS`.
            numbers: of the shards; None for all.

        Raises:
            CorpusError: they are missing or damaged.
        """
        if self._is_earlier:
            yield from read_row_groups(self._path, lambda name: name in columns, numbers, self._proved)
            return
        for number in range(self.count) if numbers is None else numbers:
            shard, first = self._entry(number)
            yield self._slice(first, shard.recipes, tuple(columns))

    def batches(self, columns: Collection[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, some thousand at a time, whichever shards they are of.

        Raises:
            CorpusError: they are missing or damaged.
        """
        if self._is_earlier:
            yield from self.tables(columns)
            return
        for number in range(len(self._starts) - 1):
            yield self._file.group(number, columns)

    def whole(self) -> Plan:
        """The plan with all its rows; errors as of `each`."""
        rows = Rows(self.each())  # first, so that the list of shards too is read from the copy
        return replace(self.plan, rows=rows)

    def each(self) -> Iterator[list[Planned]]:
        """The recipes of one shard after another; of a plan in a store a copy is kept here. Errors as of `rows`."""
        path, first = self._path, 0
        try:
            if self._is_earlier:
                with reading(path):
                    copy = held(path) if self._proved else path
                for number, table in enumerate(read_row_groups(copy, lambda _: True, range(self.count), self._proved)):
                    yield rows_of(path, number, table)
                return
            self._file.copy()
            for number, shard in enumerate(self.plan.shards):
                yield self._checked(number, shard, first)
                first += shard.recipes
        except ValueError as error:
            raise CorpusError(f"{path} is damaged: {error}") from error

    def _checked(self, number: int, shard: Shard, first: int) -> list[Planned]:
        table = self._slice(first, shard.recipes)
        rows = rows_of(self._path, number, table)
        if table.num_rows and table["shard"].unique().to_pylist() != [shard.name]:
            raise CorpusError(f"{self._path} is damaged: among the rows of {shard.name} are rows of other shards.")
        return rows

    def _known(self, number: int) -> int:
        if not 0 <= number < self.count:
            raise CorpusError(f"{self._path} has {self.count} shards, and shard {number} is needed.")
        return number

    def _entry(self, number: int) -> tuple[Shard, int]:
        """A shard of the list, and the number of its first row."""
        place, at = divmod(self._known(number), self._about["at_once"])
        record = self._table_of_shards(place).slice(at, 1).to_pylist()[0]
        with self._understood():
            first = record.pop("first")
            require(type(first) is int and first >= 0, "first row", first)
            return plan_of(self._about, (Shard(**record),)).shards[0], first

    def _table_of_shards(self, number: int) -> pa.Table:
        place, table = self._listed
        if place != number:
            table, at_once = self._file.table(number), self._about["at_once"]
            if (
                table.schema.names != SHARD_COLUMNS.names
                or table.schema.types != SHARD_COLUMNS.types
                or table.num_rows != min(at_once, self.count - number * at_once)
            ):
                raise CorpusError(f"{self._path} is damaged: its list of shards does not have the recorded digest.")
            self._listed = number, table
        return table

    def _slice(self, first: int, count: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        """Rows by their numbers; the row group of the last of them is kept."""
        starts = self._starts
        if first + count > starts[-1]:
            raise CorpusError(f"{self._path} has {starts[-1]} rows, and row {first + count - 1} is needed.")
        pieces, end = list[pa.Table](), first + count
        group = max(0, bisect.bisect_right(starts, first) - 1)
        while first < end:
            table = self._group(group, columns)
            pieces.append(table.slice(first - starts[group], end - first))
            group += 1
            first = starts[group]
        return pa.concat_tables(pieces) if pieces else self._file.schema.empty_table()

    def _group(self, number: int, columns: tuple[str, ...] | None) -> pa.Table:
        what, table = self._held
        if what != (number, columns):
            table = self._file.group(number, columns)
            if table.num_rows != self._starts[number + 1] - self._starts[number]:
                raise CorpusError(f"{self._path} is damaged: it states another number of rows than it has.")
            self._held = (number, columns), table
        return table


def read_plan(path: Path, proved: bool = True) -> Plan:
    """A plan without its rows; arguments and errors as of `PlanFile`."""
    return PlanFile(path, proved).plan


def read_whole(path: Path, proved: bool = True) -> Plan:
    """A plan with all its rows; arguments and errors as of `PlanFile`."""
    return PlanFile(path, proved).whole()


def write_plan(output: OutputFolder, plan: Plan, schema: int = SCHEMA, rows: Each | None = None) -> None:
    """Write a plan with its rows, and beside it the digests of its file and of that file's end; as `dump_plan`.

    The corpus's own description cannot hold that digest: a plan names places, and those decide nothing. The old digest
    goes first, so that no reader holds the new file against it, whenever this is killed.
    """
    with commit.fingerprinted(output.plan) as (file, written):
        end = dump_plan(plan, file, schema, rows)
        output.plan_seal.unlink(missing_ok=True)
    seal = {"plan_digest": plan.digest, **written, **({"end": end} if end is not None else {})}
    json_files.write_sealed(output.plan_seal, seal)


def plan_is_whole(output: OutputFolder) -> bool:
    """Whether every byte of the plan's file is as it was written."""
    seal = json_files.read_sealed(output.plan_seal)
    return seal is not None and output.plan.is_file() and commit.fingerprint(output.plan).items() <= seal.items()
