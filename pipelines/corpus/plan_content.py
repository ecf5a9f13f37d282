"""What stands in a plan's file, as columns and as objects: each value is checked, for anyone may have written it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from tonemill.audiotools.codecs.encoding import CONTAINERS
from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.planning.plan import KEY, SHARD_NAME, Output, Plan, Planned, Rows, Shard, Splitting, pack
from tonemill.pipelines.storage.columns import column
from tonemill.pipelines.storage.paths import is_plain

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

SHARD_COLUMNS: Final = pa.schema(
    [
        ("name", pa.string()),
        ("digest", pa.string()),
        ("recipes", pa.int64()),
        ("clips", pa.int64()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("first", pa.int64()),
    ]
)
"""Of the list of shards; `first` is the number of a shard's first row among all rows."""


def plan_of(about: dict[str, Any], shards: tuple[Shard, ...]) -> Plan:
    """The plan that a file describes: names become paths, numbers become loops.

    Args:
        about: the description in the file.
        shards: all of them, or those that the caller wants checked.

    Raises:
        ValueError, KeyError, TypeError: it describes none.
    """
    output, splitting = Output(**about["output"]), Splitting(**about.get("splitting", {}))
    require(output.kind in ("shards", "files"), "kind of output", output.kind)
    require(output.container in CONTAINERS, "container", output.container)
    require(output.bits in (None, 16, 24, 32), "bits", output.bits)
    quality = output.quality
    require(quality is None or (type(quality) in (int, float) and 0 <= quality <= 1), "quality", quality)
    require(type(output.states_none) is bool, "states_none", output.states_none)
    for name in ("valid", "test"):
        share = getattr(splitting, name)
        require(type(share) in (int, float) and 0 <= share <= 1, name, share)
    for name in ("valid_where", "test_where", "split_by", "group"):
        require(isinstance(getattr(splitting, name), str | None), name, getattr(splitting, name))
    require(type(splitting.seed) is int, "seed", splitting.seed)
    for name in ("ends", "redeal"):
        require(type(getattr(splitting, name)) is bool, name, getattr(splitting, name))
    shard_seconds = about.get("shard_seconds")
    require(
        shard_seconds is None or (type(shard_seconds) in (int, float) and 0 < shard_seconds < math.inf),
        "shard_seconds",
        shard_seconds,
    )
    for shard in shards:
        require(type(shard.name) is str and SHARD_NAME.fullmatch(shard.name), "shard", shard.name)
        require(type(shard.digest) is str, "digest", shard.digest)
        require(type(shard.seconds) in (int, float) and 0 <= shard.seconds < math.inf, "seconds", shard.seconds)
        for name in ("recipes", "clips", "bytes"):
            require(type(getattr(shard, name)) is int and getattr(shard, name) >= 0, name, getattr(shard, name))
    require(len({shard.name for shard in shards}) == len(shards), "shard", "of one name twice")
    return Plan(output, shards, Rows(), splitting, about.get("grown") is True, shard_seconds)


def require(fits: object, what: str, found: object) -> None:
    """Refuse a value that does not fit.

    Raises:
        ValueError: with its name and itself.
    """
    if not fits:
        raise ValueError(f"its {what} is {str(found)[:80]!r}")


def rows_of(path: Path, number: int, table: pa.Table) -> list[Planned]:
    """The recipes of one shard, from its rows.

    Raises:
        CorpusError: they are not those of a plan, or a name among them would lead out of the folder.
    """
    if table.schema.names != COLUMNS.names or table.schema.types != COLUMNS.types:
        raise CorpusError(f"{path} does not have the columns of a plan, so tonemill did not write it or it is damaged.")
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


def table_of(named: Sequence[tuple[str, Planned]]) -> pa.Table:
    """Recipes, each with the name of its shard, as rows."""
    rows = [row for _, row in named]
    columns: dict[str, list[Any]] = {
        "shard": [name for name, _ in named],
        "position": [row.position for row in rows],
        "key": [row.key for row in rows],
        "name": [row.name for row in rows],
        "clips": [row.clips for row in rows],
        "seconds": [row.seconds for row in rows],
        "recipe": [row.line for row in rows],
    }
    return pa.Table.from_arrays([column(columns[field.name], field.type) for field in COLUMNS], schema=COLUMNS)
