"""A corpus on disk: open it, total its shards, and read its tables."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.files import is_audio
from tonemill.pipelines import commit
from tonemill.pipelines.plan import SPLITS, Plan, Shard
from tonemill.pipelines.recipe import RESERVED, Recipe
from tonemill.pipelines.shard import LEDGER
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


def merge(home: Path, plan: Plan) -> dict[str, Any]:
    """Total what every shard left into the index, the rejects and a description, which is returned and not written.

    Raises:
        CorpusError: a shard is missing.
    """
    sidecars = [_sidecar(home, shard) for shard in plan.shards]
    index = _together([read_table((home / one["shard"]).with_suffix(".index.parquet")) for one in sidecars])
    rejects = pa.concat_tables([read_table((home / one["shard"]).with_suffix(".rejects.parquet")) for one in sidecars])
    for name, table in ((INDEX, index), (REJECTS, rejects)):
        with commit.pending(home / name) as file:
            parquet.write_table(table, file, compression="zstd")
    ledger: Counter[str] = Counter()
    for one in sidecars:
        ledger.update(one["ledger"])
    refused = rejects.select(["step", "outcome", "reason"]).to_pylist()
    reasons = Counter(f"{row['outcome']}: {row['reason']}" for row in refused)
    by_step = Counter(f"{row['outcome']}: {row['reason']} ({row['step']})" for row in refused)
    digests = "\n".join(f"{one['shard']} {one['sha256']}" for one in sidecars)
    return {
        "schema": SCHEMA,
        "made_by": commit.environment(),
        "plan_digest": plan.digest,
        "digest": hashlib.sha256(digests.encode("utf-8", "backslashreplace")).hexdigest(),
        "container": plan.output.container,
        "roles": sorted({role for one in sidecars for role in one["roles"]}),
        "columns": index.column_names,
        "sample_rate": _only(index, "sample_rate"),
        "channels": _only(index, "channels"),
        "examples": index.num_rows,
        "seconds": round(math.fsum(one["seconds"] for one in sidecars), 6),
        "bytes": sum(one["bytes"] for one in sidecars),
        "splits": {
            split: _split_totals(sidecars, split) for split in SPLITS if _split_totals(sidecars, split)["examples"]
        },
        "ledger": {name: ledger[name] for name in LEDGER},
        "reasons": dict(sorted(reasons.items())),
        "refused_by": dict(sorted(by_step.items())),
        "clipped_examples": sum(one.get("clipped_examples", 0) for one in sidecars),
        "peak_db": _highest(index, "peak_db"),
        "gain_limited": _trues(index, "gain_limited"),
        "transient": sum(one["transient"] for one in sidecars),
        "shards": [
            {name: one[name] for name in ("shard", "examples", "seconds", "bytes", "sha256")} for one in sidecars
        ],
    }


def is_done(home: Path, shard: Shard) -> bool:
    """Whether a sidecar fits the plan, its files have their sizes, and nothing failed for a reason that may pass."""
    sidecar = commit.read_json((home / shard.name).with_suffix(".json"))
    if not isinstance(sidecar, dict) or sidecar.get("plan_digest") != shard.digest or sidecar.get("transient"):
        return False
    if "files" in sidecar:
        made = {home.parent / one["name"]: one["bytes"] for one in sidecar["files"]}
    else:
        made = {(home / shard.name).with_suffix(".tar"): sidecar["bytes"]} if sidecar["bytes"] else {}
    made |= {(home / shard.name).with_suffix(f".{name}.parquet"): size for name, size in sidecar["tables"].items()}
    return all(path.exists() and path.stat().st_size == size for path, size in made.items())


def _sidecar(home: Path, shard: Shard) -> dict[str, Any]:
    sidecar = commit.read_json((home / shard.name).with_suffix(".json"))
    if sidecar is None:
        raise CorpusError(f"{home / shard.name} is missing. Give the same command again: it makes what is missing.")
    return dict(sidecar)


def _split_totals(sidecars: Sequence[dict[str, Any]], split: str) -> dict[str, Any]:
    mine = [one for one in sidecars if one["shard"].startswith(f"{split}/") and one["examples"]]
    return {
        "shards": len(mine),
        "examples": sum(one["examples"] for one in mine),
        "seconds": round(math.fsum(one["seconds"] for one in mine), 6),
        "bytes": sum(one["bytes"] for one in mine),
    }


def _only(index: pa.Table, column: str) -> int | None:
    """The one value of a column, or None if there are several."""
    distinct = index[column].unique().to_pylist() if column in index.column_names else []
    return distinct[0] if len(distinct) == 1 else None


def _highest(index: pa.Table, column: str) -> float | None:
    """The largest number of a column."""
    values = index[column].to_pylist() if column in index.column_names else []
    return max((value for value in values if isinstance(value, int | float)), default=None)


def _trues(index: pa.Table, suffix: str) -> int:
    """Rows in which a column of this name, alone or after a role's, is true."""
    columns = [index[name].to_pylist() for name in index.column_names if name.endswith(suffix)]
    return sum(any(value is True for value in row) for row in zip(*columns, strict=True))


def _together(tables: list[pa.Table]) -> pa.Table:
    """One table of all shards'; a field that is a number here and text there becomes text."""
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return pa.table({})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:
        kinds: dict[str, set[pa.DataType]] = {}
        for table in tables:
            for field in table.schema:
                kinds.setdefault(field.name, set()).add(field.type)
        numbers = {pa.null(), pa.int64(), pa.float64()}
        mixed = {name for name, types in kinds.items() if len(types - {pa.null()}) > 1 and not types <= numbers}
        cast = [
            pa.table(
                {
                    name: column.cast(pa.string()) if name in mixed else column
                    for name, column in zip(table.column_names, table.columns, strict=True)
                }
            )
            for table in tables
        ]
        return pa.concat_tables(cast, promote_options="permissive")


def _numbered(path: str, number: str) -> str:
    """A source's path with a clip's number before its suffix, as `loop-0003.wav`."""
    stem, suffix = os.path.splitext(path) if is_audio(path) else (path, "")  # noqa: PTH122
    return f"{stem}-{number}{suffix}"


def read_table(path: Path) -> pa.Table:
    """A Parquet file's table; opened here, for pyarrow cannot open a name that is not UTF-8."""
    with path.open("rb") as file:
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
