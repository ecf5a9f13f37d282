"""The JSON file beside each shard, written last: counts, digests, the ledger, the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs.ffmpeg import loads
from tonemill.audiotools.codecs.files import is_audio
from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.reject_reasons import TRANSIENT
from tonemill.pipelines.corpus.layout import OutputFolder, ShardFiles
from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS, Tally, index_table, write_table
from tonemill.pipelines.planning.plan import Shard
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.columns import table_of_rows
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import inside, is_plain

SIDECAR_SCHEMA: Final = 2

LEDGER: Final = ("sources", "kept", "rejected", "filtered", "clips", "examples", "clips_rejected", "clips_filtered")


SECONDS: Final = ("read", "stored", "left_behind", "rejected", "filtered")
"""Of the ledger of sound: the first is the sum of the others."""


def made_files(output: OutputFolder, sidecar: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Every file that a shard left, the sidecar apart, with its bytes and SHA-256.

    Raises:
        CorpusError: the sidecar names one that does not lie there.
    """
    files = ShardFiles(inside(output.home, sidecar["shard"]))
    if "files" in sidecar:
        made = {inside(output.folder, one["name"]): one for one in sidecar["files"]}
    else:
        made = {files.tar: sidecar} if sidecar["bytes"] else {}
    made = {path: {"bytes": one["bytes"], "sha256": one["sha256"]} for path, one in made.items()}
    return made | {files.table(name): dict(one) for name, one in sidecar["tables"].items()}


def is_sidecar(record: Any) -> bool:
    """Whether a JSON file that carries a right seal, which anyone can make, is the sidecar of a shard."""
    if not isinstance(record, dict) or record.get("schema") != SIDECAR_SCHEMA:
        return False
    counts = [record.get(name) for name in ("examples", "bytes", "clipped_examples", "transient")]
    ledger, tables, files = record.get("ledger"), record.get("tables"), record.get("files", [])
    return (
        isinstance(record.get("shard"), str)
        and isinstance(record.get("plan_digest"), str)
        and isinstance(record.get("seconds"), int | float)
        and isinstance(record.get("roles"), list)
        and isinstance(record.get("arrays", []), list)
        and isinstance(record.get("environment"), dict)
        and isinstance(ledger, dict)
        and isinstance(tables, dict)
        and _is_seconds(record.get("seconds_ledger"))
        and all(type(count) is int and count >= 0 for count in [*counts, *(ledger.get(name) for name in LEDGER)])
        and all(_is_file(tables.get(name)) for name in ("index", "rejects"))
        and isinstance(files, list)
        and all(_is_file(one) and is_plain(one.get("name")) for one in files)
        and is_plain(record["shard"])
        and "sha256" in record
    )


def _is_seconds(record: Any) -> bool:
    """Whether that is a ledger of sound, which sidecars of before lack."""
    return record is None or (
        isinstance(record, dict) and all(isinstance(record.get(name), int | float) for name in SECONDS)
    )


def _summed(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Sums to the microsecond; what is left behind is what the others leave, so that they add up."""
    sums = {name: round(math.fsum(seconds.get(name, ())), 6) for name in SECONDS}
    rest = sums["read"] - sums["stored"] - sums["rejected"] - sums["filtered"]
    return {**sums, "left_behind": round(rest, 6) + 0.0}


def _is_file(one: Any) -> bool:
    return isinstance(one, dict) and type(one.get("bytes")) is int and isinstance(one.get("sha256"), str)


def is_done(
    output: OutputFolder,
    shard: Shard,
    transient: bool = False,
    sizes: Mapping[Path, int] | None = None,
    retry: Set[str] = frozenset(),
) -> bool:
    """Whether a sidecar fits the plan, its files have their sizes, and nothing failed for a temporary reason.

    Args:
        output: the folder of the shard.
        shard: of the plan.
        transient: that last matters not.
        sizes: of everything in `output.folder`, where that is known.
        retry: reasons for which a source of it may not have been refused.
    """
    files = output.shard(shard.name)
    if sizes is not None and files.sidecar not in sizes:
        return False
    sidecar = files.read_sidecar()
    if sidecar is None or not is_sidecar(sidecar) or sidecar["shard"] != shard.name:
        return False
    if sidecar["plan_digest"] != shard.digest or (_may_pass(sidecar) and not transient):
        return False
    if retry and retry & refusals_of(files):
        return False
    made = made_files(output, sidecar)
    if sizes is not None:
        return all(sizes.get(path) == one["bytes"] for path, one in made.items())
    return all(path.is_file() and path.stat().st_size == one["bytes"] for path, one in made.items())


def _may_pass(sidecar: Mapping[str, Any]) -> bool:
    """Whether it is of use to try again what failed; what lacks a decoder waits until there is one."""
    waiting = sidecar.get("without_decoder", 0)
    return bool(sidecar["transient"] > (0 if not waiting or loads() else waiting))


def refusals_of(files: ShardFiles) -> frozenset[str]:
    """The reasons for which anything of a shard was refused; none where its table cannot be read."""
    try:
        table = read_table(files.rejects)
    except (CorpusError, OSError):
        return frozenset()
    return frozenset(table["reason"].to_pylist())


def source_key(key: str) -> str:
    """The key of an example's source."""
    return key.rpartition("-")[0]


def commit_tables(
    files: ShardFiles, shard: Shard, tally: Tally, stored: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """Write the tables of a shard whose sound is in place, and last its sidecar, which is returned.

    Args:
        files: of the shard.
        shard: of the plan.
        tally: what came of its sources.
        stored: fields about the stored audio: bytes, digest and container.
        environment: what the sound was made with.
    """
    tables = {
        "index": index_table(tally.examples),
        "rejects": table_of_rows(tally.rejects, REJECT_COLUMNS),
    }
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "shard": shard.name,
        "plan_digest": shard.digest,
        "examples": len(tally.examples),
        "seconds": round(math.fsum(row["seconds"] for row in tally.examples), 6),
        **stored,
        "ledger": {name: tally.ledger[name] for name in LEDGER},
        **({"seconds_ledger": _summed(tally.seconds)} if tally.seconds is not None else {}),
        "roles": sorted(tally.roles),
        **({"arrays": sorted(tally.arrays)} if tally.arrays else {}),
        "tables": {name: write_table(files.table(name), tables[name]) for name in tables},
        "clipped_examples": sum(row["clipped_samples"] > 0 for row in tally.examples),
        "transient": sum(row["reason"] in TRANSIENT for row in tally.rejects),
        "environment": environment,
    }
    if without := sum(row["reason"] == "no_decoder" for row in tally.rejects):
        sidecar["without_decoder"] = without
    json_files.write_sealed(files.sidecar, sidecar)
    return sidecar


def path_of(row: Mapping[str, Any], is_one_of_several: bool) -> str:
    """The path of an example's source; with the number of the clip before its suffix, as `loop-0003.wav`, if needed.

    Args:
        row: of the index.
        is_one_of_several: whether its source has other clips.
    """
    path: str = row["source"]
    if not is_one_of_several:
        return path
    stem, suffix = os.path.splitext(path) if is_audio(path) else (path, "")  # noqa: PTH122
    return f"{stem}-{row['key'].rpartition('-')[2]}{suffix}"
