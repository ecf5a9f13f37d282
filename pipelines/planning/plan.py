"""The plan: every shard's recipes and their digest, known and written down before any work.

The plan file is Parquet with a row group per shard, so that a worker reads its own rows and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.codecs.encoding import CONTAINERS
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.planning.packing import pack, unpack
from tonemill.pipelines.recipes.recipe import Recipe, recipe_of
from tonemill.pipelines.storage.confines import is_plain
from tonemill.pipelines.storage.parquet import read_metadata, read_row_group

SCHEMA: Final = 1
SPLITS: Final = ("train", "valid", "test")
SHARD_NAME: Final = re.compile(r"(?:train|valid|test)/\d{6,12}")
KEY: Final = re.compile(r"[0-9a-f]{16}")

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


@dataclass(frozen=True, slots=True)
class Planned:
    """A recipe with its place in the plan.

    Args:
        position: in its shard.
        key: of its source in this plan; its examples' keys start with it.
        name: of its source's file, without suffix and fit for a folder; no other in the plan has it.
        clips: expected.
        seconds: expected.
        packed: the recipe, as it stands in a stream, packed: a plan of a million would not fit in memory as objects.
    """

    position: int
    key: str
    name: str
    clips: int
    seconds: float
    packed: bytes
    _recipe: Recipe | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def line(self) -> str:
        """The recipe, as it stands in a stream."""
        return unpack(self.packed)

    @property
    def recipe(self) -> Recipe:
        """What to cook."""
        if self._recipe is None:
            object.__setattr__(self, "_recipe", recipe_of(self.line))
        assert self._recipe is not None
        return self._recipe


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
        about = json.loads(read_metadata(path, b"tonemill"))
        if about["schema"] == SCHEMA:
            return _plan(about)
    except (CorpusError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is not a plan: {error}.") from error
    raise CorpusError(
        f"{path} has schema {about['schema']!r}; this tonemill reads {SCHEMA}. Use the one that wrote it."
    )


def _plan(about: dict[str, Any]) -> Plan:
    """The plan that a file describes, which anyone may have written: names become paths, numbers become loops."""
    output, splitting = Output(**about["output"]), Splitting(**about.get("splitting", {}))
    _require(output.kind in ("shards", "files"), "kind of output", output.kind)
    _require(output.container in CONTAINERS, "container", output.container)
    _require(output.bits in (None, 16, 24, 32), "bits", output.bits)
    for name in ("valid", "test"):
        share = getattr(splitting, name)
        _require(type(share) in (int, float) and 0 <= share <= 1, name, share)
    for name in ("valid_where", "group"):
        _require(isinstance(getattr(splitting, name), str | None), name, getattr(splitting, name))
    _require(type(splitting.seed) is int, "seed", splitting.seed)
    shards = tuple(Shard(**shard) for shard in about["shards"])
    for shard in shards:
        _require(type(shard.name) is str and SHARD_NAME.fullmatch(shard.name), "shard", shard.name)
        _require(type(shard.digest) is str, "digest", shard.digest)
        _require(type(shard.seconds) in (int, float) and 0 <= shard.seconds < math.inf, "seconds", shard.seconds)
        for name in ("recipes", "clips", "bytes"):
            _require(type(getattr(shard, name)) is int and getattr(shard, name) >= 0, name, getattr(shard, name))
    _require(len({shard.name for shard in shards}) == len(shards), "shard", "of one name twice")
    return Plan(output, shards, (), splitting, about.get("grown") is True)


def _require(fits: object, what: str, found: object) -> None:
    if not fits:
        raise ValueError(f"its {what} is {str(found)[:80]!r}")


def read_whole(path: Path) -> Plan:
    """A plan with all its rows.

    Raises:
        CorpusError: as `read_plan`.
    """
    plan = read_plan(path)
    try:
        return replace(plan, rows=tuple(tuple(read_rows(path, number)) for number in range(len(plan.shards))))
    except (CorpusError, ValueError) as error:
        raise CorpusError(f"{path} is damaged: {error}") from error


def read_rows(path: Path, number: int) -> list[Planned]:
    """The recipes of one shard, in order.

    Raises:
        CorpusError: they cannot be read, or a name among them would lead out of the folder.
    """
    table = read_row_group(path, number)
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


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
