"""corpus.json or tonemill.json: totals of all shards, written last, with the tables of the whole."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.reject_reasons import TABLE
from tonemill.pipelines.corpus import environment
from tonemill.pipelines.corpus.array_columns import described
from tonemill.pipelines.corpus.corpus import SCHEMA
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.shard_tables import as_text
from tonemill.pipelines.corpus.sidecar import LEDGER, SECONDS, is_sidecar
from tonemill.pipelines.planning.plan import Plan, Shard, digest_of
from tonemill.pipelines.recipes.recipe import SPLITS
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.output_names import INDEX, LOADERS, REJECTS, REMOVED
from tonemill.pipelines.storage.parquet import read_table, table_in
from tonemill.pipelines.storage.paths import mapped

SHOWN: Final = 5
"""Rejects whose messages a command prints."""


def merge(output: OutputFolder, plan: Plan) -> dict[str, Any]:
    """Total what every shard left into the index, the rejects and a description, which is returned and not written.

    Raises:
        CorpusError: a shard is missing, or its tables are damaged.
    """
    home = output.home
    sidecars = mapped(home, lambda shard: _sidecar(output, shard), plan.shards)
    index, rejects = together(
        mapped(home, lambda one: _whole_table(output, one, "index"), sidecars),
        mapped(home, lambda one: _whole_table(output, one, "rejects"), sidecars),
    )
    for name, table in ((INDEX, index), (REJECTS, rejects)):
        with commit.pending(home / name) as file:
            parquet.write_table(table, file, compression="zstd")
    beside = [INDEX, REJECTS, *([REMOVED] if (home / REMOVED).exists() else [])]
    files = {name: commit.fingerprint(home / name) for name in beside}
    return {
        "schema": SCHEMA,
        "made_by": environment.environment(environment.beside([one["environment"] for one in sidecars])),
        **totals(plan, sidecars, index, rejects),
        "files": files,
    }


def together(indexes: Sequence[pa.Table], rejects: Sequence[pa.Table]) -> tuple[pa.Table, pa.Table]:
    """The index and the rejects of the whole, of those of its shards."""
    return _together(list(indexes)), pa.concat_tables(rejects)


def totals(plan: Plan, sidecars: Sequence[Mapping[str, Any]], index: pa.Table, rejects: pa.Table) -> dict[str, Any]:
    """The fields of corpus.json that follow from the shards: counts, seconds, bytes and ledger."""
    ledger: Counter[str] = Counter()
    for one in sidecars:
        ledger.update(one["ledger"])
    refused = rejects.select(["step", "outcome", "reason"]).to_pylist()
    reasons = Counter(f"{row['outcome']}: {row['reason']}" for row in refused)
    by_step = Counter(f"{row['outcome']}: {row['reason']} ({row['step']})" for row in refused)
    return {
        "plan_digest": plan.digest,
        "digest": digest_of_shards(sidecars),
        "container": plan.output.container,
        "roles": sorted({role for one in sidecars for role in one["roles"]}),
        **_arrays(sidecars, index),
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
        **_seconds(sidecars),
        "reasons": dict(sorted(reasons.items())),
        "refused_by": dict(sorted(by_step.items())),
        "clipped_examples": sum(one["clipped_examples"] for one in sidecars),
        "peak_db": _highest(index, "peak_db"),
        "gain_limited": _trues(index, "gain_limited"),
        "other_lengths": _sources_with(index, "declared_samples"),
        **({"quiet_mixes": quiet} if (quiet := _sources_with(index, "mix_db")) else {}),
        "transient": sum(one["transient"] for one in sidecars),
        "shards": [
            {name: one[name] for name in ("shard", "examples", "seconds", "bytes", "sha256")} for one in sidecars
        ],
    }


def _seconds(sidecars: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of every second that was read; nothing where a shard does not say so, as those of before."""
    ledgers = [one.get("seconds_ledger") for one in sidecars]
    known = [one for one in ledgers if one is not None]
    if len(known) < len(ledgers):
        return {}
    return {"seconds_ledger": {name: round(math.fsum(one[name] for one in known), 6) for name in SECONDS}}


def _arrays(sidecars: Sequence[Mapping[str, Any]], index: pa.Table) -> dict[str, Any]:
    """The entry for arrays; nothing where there are none, as in descriptions of before."""
    names = {name for one in sidecars for name in one.get("arrays", ())}
    return {"arrays": described(index, names)} if names else {}


def digest_of_shards(sidecars: Sequence[Mapping[str, Any]]) -> str:
    """The digest of a corpus: of its shards' names and bytes, and nothing that varies with the machine."""
    return digest_of("\n".join(f"{one['shard']} {one['sha256']}" for one in sidecars))


def describe(output: OutputFolder, plan: Plan, keep_transient: bool = False) -> dict[str, Any]:
    """Merge, and write the description that finishes a corpus or a folder of files.

    Args:
        output: that is finished.
        plan: it was made by.
        keep_transient: what failed for a temporary reason was left out on purpose, which is recorded.

    Raises:
        CorpusError: as `merge`, or not one example came of the plan.
    """
    about = merge(output, plan)
    if not about["examples"]:
        raise CorpusError(_nothing_came(output, about))
    if keep_transient and about["transient"]:
        about["keep_transient"] = True
    if output.kind == "shards":
        json_files.write_json(output.folder / LOADERS, {"configs": configs(about["splits"])})
        about["files"][LOADERS] = commit.fingerprint(output.folder / LOADERS)
    record = about if output.kind == "shards" else {name: about[name] for name in about if name != "shards"}
    json_files.write_sealed(output.description, record)
    return about


def configs(splits: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which tars are which split, as the metadata of Hugging Face `datasets` has it.

    Args:
        splits: of the description.
    """
    files = [{"split": name, "path": f"{name}/*.tar"} for name, sums in splits.items() if sums["examples"]]
    return [{"config_name": "default", "data_files": files}]


def keeps_transient(output: OutputFolder) -> bool:
    """Whether it is recorded that what failed for a temporary reason was left out on purpose."""
    return (json_files.read_sealed(output.description) or {}).get("keep_transient") is True


def _nothing_came(output: OutputFolder, about: dict[str, Any]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in about["reasons"].items())
    rows = read_table(output.rejects).to_pylist()
    lines = [f"Not one example came of {about['ledger']['sources']} sources ({reasons}).", *messages_of(rows)]
    if len({row["reason"] for row in rows}) == 1 and (reason := TABLE.get(rows[0]["reason"])):
        steps = {row["step"] for row in rows}
        mend = reason.mend_of(next(iter(steps)) if len(steps) == 1 else None)
        lines.append(f"{mend} {output.rejects} has all of them.")
    else:
        lines.append(f"{output.rejects} has the reason of each, and `tonemill explain REASON` what to do.")
    return "\n".join(lines)


def messages_of(rejects: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line with source, message, reason and step for each reject; of more than five, for the first of each reason."""
    first = {row["reason"]: row for row in reversed(rejects)}
    return [
        f"  {row['source']}: {row['message']} ({row['reason']}, {row['step']})"
        for row in (rejects if len(rejects) <= SHOWN else list(first.values())[::-1][:SHOWN])
    ]


def _sidecar(output: OutputFolder, shard: Shard) -> dict[str, Any]:
    sidecar = output.shard(shard.name).read_sidecar()
    if sidecar is None or not is_sidecar(sidecar):
        raise CorpusError(f"{output.home / shard.name} is missing. Repeat the command: it makes what is missing.")
    return sidecar


def _whole_table(output: OutputFolder, sidecar: Mapping[str, Any], name: str) -> pa.Table:
    path = output.shard(sidecar["shard"]).table(name)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    if {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} != sidecar["tables"][name]:
        # What is damaged must not be taken over into the tables of the whole, which would make it look right.
        raise CorpusError(f"{path} is damaged. `tonemill repair {output.folder}` makes it again.")
    return table_in(data, path)


def _split_totals(sidecars: Sequence[Mapping[str, Any]], split: str) -> dict[str, Any]:
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


def _sources_with(index: pa.Table, suffix: str) -> int:
    """How many sources have something in a column of this name, alone or after a role's."""
    columns = [index[name].is_valid().to_pylist() for name in index.column_names if name.endswith(suffix)]
    sources = index["source"].to_pylist() if columns else []
    return len({source for source, *row in zip(sources, *columns, strict=True) if any(row)})


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
        mixed -= {name for name in mixed if _are_alike(kinds[name], numbers)}
        cast = [
            pa.table(
                {
                    name: _of_text(column) if name in mixed else column
                    for name, column in zip(table.column_names, table.columns, strict=True)
                }
            )
            for table in tables
        ]
        return pa.concat_tables(cast, promote_options="permissive")


def _are_alike(kinds: set[pa.DataType], numbers: set[pa.DataType]) -> bool:
    """Whether all are lists, of one kind of value or of numbers."""
    if not all(pa.types.is_null(kind) or pa.types.is_list(kind) for kind in kinds):
        return False
    values = {kind.value_type for kind in kinds if pa.types.is_list(kind)} - {pa.null()}
    return len(values) < 2 or values <= numbers


def _of_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_list(column.type):
        return column.cast(pa.string())
    return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], pa.string())
