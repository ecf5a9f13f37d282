"""corpus.json or tonemill.json: totals of all shards, written last, with the tables of the whole."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.reject_reasons import TABLE
from tonemill.pipelines.corpus import environment
from tonemill.pipelines.corpus.corpus import SCHEMA
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.sidecar import LEDGER, SECONDS, is_sidecar
from tonemill.pipelines.corpus.totals import RowTotals
from tonemill.pipelines.corpus.whole_tables import Pair, WholeTables
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
    tables = WholeTables(home, len(sidecars), lambda number: _tables_of(output, sidecars[number]))
    sums = RowTotals(arrays_in(sidecars))
    with (
        commit.fingerprinted(home / INDEX) as (index, of_index),
        commit.fingerprinted(home / REJECTS) as (rejects, of_rejects),
        ExitStack() as stack,
    ):
        files, writers = {INDEX: index, REJECTS: rejects}, dict[str, parquet.ParquetWriter]()
        for name, rows in tables.groups():
            if name not in writers:
                writer = parquet.ParquetWriter(files[name], rows.schema, compression="zstd")
                writers[name] = stack.enter_context(writer)
            writers[name].write_table(rows, row_group_size=max(1, rows.num_rows))
            sums.add(name, rows)
    written = {INDEX: of_index, REJECTS: of_rejects}
    if (home / REMOVED).exists():
        written[REMOVED] = commit.fingerprint(home / REMOVED)
    return {
        "schema": SCHEMA,
        "made_by": environment.environment(environment.beside([one["environment"] for one in sidecars])),
        **totals(plan, sidecars, sums),
        "files": written,
    }


def arrays_in(sidecars: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the arrays that any example has."""
    return {name for one in sidecars for name in one.get("arrays", ())}


def totals(plan: Plan, sidecars: Sequence[Mapping[str, Any]], sums: RowTotals | None) -> dict[str, Any]:
    """The fields of corpus.json that follow from the shards: counts, seconds, bytes and ledger.

    Args:
        plan: of the shards.
        sidecars: of all of them.
        sums: over the rows; None leaves out what follows from these alone.
    """
    ledger: Counter[str] = Counter()
    for one in sidecars:
        ledger.update(one["ledger"])
    return {
        "plan_digest": plan.digest,
        "digest": digest_of_shards(sidecars),
        "container": plan.output.container,
        "roles": sorted({role for one in sidecars for role in one["roles"]}),
        **(sums.before_splits() if sums is not None else {"examples": sum(one["examples"] for one in sidecars)}),
        "seconds": round(math.fsum(one["seconds"] for one in sidecars), 6),
        "bytes": sum(one["bytes"] for one in sidecars),
        "splits": {
            split: _split_totals(sidecars, split) for split in SPLITS if _split_totals(sidecars, split)["examples"]
        },
        "ledger": {name: ledger[name] for name in LEDGER},
        **_seconds(sidecars),
        **(sums.reasons() if sums is not None else {}),
        "clipped_examples": sum(one["clipped_examples"] for one in sidecars),
        **(sums.levels() if sums is not None else {}),
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


def _tables_of(output: OutputFolder, sidecar: Mapping[str, Any]) -> Pair:
    index, rejects = (_whole_table(output, sidecar, name) for name in ("index", "rejects"))
    return index, rejects


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
