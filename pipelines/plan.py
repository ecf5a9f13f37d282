"""The plan: every shard's recipes and their digest, known and written down before any work.

The plan file is Parquet with a row group per shard, so that a worker reads its own rows and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Literal

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.recipe import Recipe, parse_recipe

SCHEMA: Final = 1
SPLITS: Final = ("train", "valid", "test")

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


@dataclass(frozen=True)
class Output:
    """What cooking a plan leaves; part of every shard's digest.

    Args:
        kind: `shards` of a corpus, or `files` in a folder.
        container: flac, wav or ogg.
        bits: None for as many as the source holds.
    """

    kind: Literal["shards", "files"]
    container: str = "flac"
    bits: int | None = None


@dataclass(frozen=True)
class Splitting:
    """How recipes are dealt to splits; it stands in the plan, for what is added later must be dealt alike.

    Args:
        valid: share of groups, from 0 to 1.
        test: likewise.
        valid_where: a condition on fields and path; what it holds for goes to valid by choice.
        group: what must not straddle splits, as `planning.group_of` takes it.
        seed: another seed deals other groups.
    """

    valid: float = 0.0
    test: float = 0.0
    valid_where: str | None = None
    group: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Planned:
    """A recipe with its place in the plan.

    Args:
        position: in its shard.
        key: of its source in this plan; its examples' keys start with it.
        name: of its source's file, without suffix and fit for a folder; no other in the plan has it.
        clips: expected.
        seconds: expected.
        line: the recipe, as it stands in a stream: a plan of a million would not fit in memory as objects.
    """

    position: int
    key: str
    name: str
    clips: int
    seconds: float
    line: str

    @cached_property
    def recipe(self) -> Recipe:
        """What to cook."""
        return parse_recipe(json.loads(self.line))


@dataclass(frozen=True)
class Shard:
    """A shard of the plan.

    Args:
        name: split and number, as `train/000003`.
        digest: of its recipes, their keys and the output asked for.
        recipes: how many.
        clips: expected.
        seconds: expected.
        bytes: expected, at a usual rate of compression.
    """

    name: str
    digest: str
    recipes: int
    clips: int
    seconds: float
    bytes: int

    @property
    def split(self) -> str:
        return self.name.split("/")[0]


@dataclass(frozen=True)
class Plan:
    """All shards; `rows` has each one's recipes.

    Args:
        output: what cooking leaves.
        shards: by split and number.
        rows: the recipes of each, where they were read.
        splitting: how they were dealt.
        grown: sources were added or taken away later, so that their places follow from more than one stream.
    """

    output: Output
    shards: tuple[Shard, ...]
    rows: tuple[tuple[Planned, ...], ...] = ()
    splitting: Splitting = Splitting()
    grown: bool = False

    @property
    def digest(self) -> str:
        return digest_of("\n".join(f"{shard.name} {shard.digest}" for shard in self.shards))

    @property
    def seconds(self) -> float:
        return sum(shard.seconds for shard in self.shards)

    @property
    def recipes(self) -> int:
        return sum(shard.recipes for shard in self.shards)

    def write(self, file: BinaryIO) -> None:
        """Write the plan file; the caller moves it into place."""
        about = {
            "schema": SCHEMA,
            "output": asdict(self.output),
            "splitting": asdict(self.splitting),
            "grown": self.grown,
            "shards": [asdict(shard) for shard in self.shards],
        }
        schema = COLUMNS.with_metadata({"tonemill": json.dumps(about)})
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for shard, rows in zip(self.shards, self.rows, strict=True):
                writer.write_table(_table(shard, rows), row_group_size=len(rows))


def read_plan(path: Path) -> Plan:
    """A plan without its rows.

    Raises:
        CorpusError: there is no plan, or one that this version cannot read.
    """
    try:
        with path.open("rb") as file:
            about = json.loads(parquet.read_schema(file).metadata[b"tonemill"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not a plan: {error}.") from error
    if about["schema"] != SCHEMA:
        raise CorpusError(
            f"{path} has schema {about['schema']}; this tonemill reads {SCHEMA}. Use the one that wrote it."
        )
    shards = tuple(Shard(**shard) for shard in about["shards"])
    return Plan(
        Output(**about["output"]), shards, (), Splitting(**about.get("splitting", {})), about.get("grown", False)
    )


def read_whole(path: Path) -> Plan:
    """A plan with all its rows.

    Raises:
        CorpusError: as `read_plan`.
    """
    plan = read_plan(path)
    try:
        return replace(plan, rows=tuple(tuple(read_rows(path, number)) for number in range(len(plan.shards))))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CorpusError(f"{path} is damaged: {error}.") from error


def read_rows(path: Path, number: int) -> list[Planned]:
    """The recipes of one shard, in order."""
    with path.open("rb") as file:
        table = parquet.ParquetFile(file).read_row_group(number, use_threads=False)
    return [
        Planned(row["position"], row["key"], row["name"], row["clips"], row["seconds"], row["recipe"])
        for row in table.to_pylist()
    ]


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


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
