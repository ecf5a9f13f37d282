"""Check one shard: its sidecar, its files, its tables, and every example in it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from tonemill.audiotools.arrays import SUFFIX as ARRAY_SUFFIX
from tonemill.audiotools.arrays import read_npy
from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, CorpusError
from tonemill.pipelines.corpus.array_columns import SHAPE_COLUMNS, arrays_of, parts_of, roles_of
from tonemill.pipelines.corpus.layout import OutputFolder, ShardFiles
from tonemill.pipelines.corpus.shard_copy import local_shard
from tonemill.pipelines.corpus.sidecar import is_sidecar, made_files, source_key
from tonemill.pipelines.corpus.whole_tables import Pair
from tonemill.pipelines.planning.plan import Output, Planned, Shard
from tonemill.pipelines.planning.splits import LEFT_OUT
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.tar import cut_out, members

KINDS: Final = {
    "missing": "a file is not there",
    "size": "a file is longer or shorter than it was",
    "digest": "a file has other bytes than were written",
    "damaged": "a file cannot be read as its kind (tar, JSON, Parquet)",
    "unfit": "two files of the corpus disagree on a count, a digest or a fact",
    "undecodable": "the sound of an example cannot be decoded",
    "orphan": "a file that belongs to no shard of the plan",
    "unfinished": "the command that makes the folder has not finished",
}
"""Every kind of finding, and what it means."""

MOST_NAMED: Final = 5
"""So many damaged examples are named in one message."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was made.

    Args:
        path: under the folder.
        kind: a key of `KINDS`.
        message: for a person.
        shard: whose it is; None for what belongs to the whole.
    """

    path: str
    kind: str
    message: str
    shard: str | None = None


@dataclass(frozen=True)
class Job:
    """A shard to look at, and what is known of it elsewhere.

    Args:
        output: the whole.
        name: of the shard.
        planned: as the plan has it; None without one.
        rows: its recipes.
        entry: as the description of the whole has it.
        made: what the plan makes.
        size: bytes of sound there.
        keeps_transient: what failed for a temporary reason was left out on purpose.
    """

    output: OutputFolder
    name: str
    planned: Shard | None
    rows: Sequence[Planned]
    entry: Mapping[str, Any] | None
    made: Output | None
    size: int = 0
    keeps_transient: bool = False

    @property
    def files(self) -> ShardFiles:
        return self.output.shard(self.name)


@dataclass
class Checked:
    """What was found in a shard; its sidecar where that is whole; index and rejects where they were read."""

    job: Job
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    examples: int = 0
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    tables: Pair | None = None

    def find(self, path: Path, kind: str, message: str) -> None:
        self.findings.append(Finding(str(path.relative_to(self.job.output.folder)), kind, message, self.job.name))


def compare(path: Path, known: Mapping[str, Any], find: Callable[[Path, str, str], None]) -> bool:
    """Hold a file against its bytes and SHA-256; whether they fit."""
    if not path.is_file():
        find(path, "missing", f"it had {known['bytes']} bytes")
        return False
    there = commit.fingerprint(path)
    if there["bytes"] != known["bytes"]:
        find(path, "size", f"it has {there['bytes']} bytes and had {known['bytes']}")
    elif there["sha256"] != known["sha256"]:
        find(path, "digest", "its bytes are not those that were written")
    return there == {"bytes": known["bytes"], "sha256": known["sha256"]}


def check(job: Job, quick: bool) -> Checked:
    """Look at one shard; `quick` leaves out what is in its tables and examples.

    A shard in a store is copied to TMPDIR first, so that each of its objects is read once.
    """
    with local_shard(job.output, job.name) as output:
        return _check(replace(job, output=output), quick)


def _check(job: Job, quick: bool) -> Checked:
    checked = Checked(job)
    path, tar = job.files.sidecar, job.files.tar
    sidecar = job.files.read_sidecar()
    if sidecar is None or not is_sidecar(sidecar):
        there = path.exists()
        checked.find(
            path, "damaged" if there else "missing", "its bytes are not those that were written" if there else ""
        )
        if job.entry is not None and job.entry["bytes"]:
            compare(tar, job.entry, checked.find)
        return checked
    checked.examples, checked.sidecar = sidecar["examples"], sidecar
    _facts(checked, sidecar)
    whole = {one: compare(one, known, checked.find) for one, known in made_files(job.output, sidecar).items()}
    hit = not whole.get(tar, True) and tar.is_file()
    if (quick and not hit) or not all(whole.get(path, False) for path in (job.files.index, job.files.rejects)):
        # A table that has its digest is as it was written; a damaged one, or one of another shard's sidecar, proves
        # nothing about other files.
        return checked
    index, rejects = (read_table(job.files.table(name), known=sidecar["tables"][name]) for name in ("index", "rejects"))
    if hit:
        _name_damaged(checked, tar, index.to_pylist())
    if quick:
        return checked
    checked.tables = index, rejects
    _counts(checked, sidecar, index, rejects.to_pylist())
    if "files" in sidecar:
        _check_files(checked, sidecar, index.to_pylist(), whole)
    elif tar.is_file():
        _check_tar(checked, tar, index.to_pylist())
    return checked


def _facts(checked: Checked, sidecar: Mapping[str, Any]) -> None:
    """The sidecar against the plan and the description of the whole."""
    job, path = checked.job, checked.job.files.sidecar
    if sidecar["shard"] != job.name:
        checked.find(path, "unfit", f"it is of {sidecar['shard']}")
    if job.planned is not None and sidecar["plan_digest"] != job.planned.digest:
        checked.find(path, "unfit", "it does not belong to the plan in the folder")
    if job.planned is not None and (sources := sidecar["ledger"]["sources"]) != job.planned.recipes:
        message = f"sources planned: {sources} are recorded and {job.planned.recipes} found"
        checked.find(path, "unfit", message)
    if job.entry is not None:
        for name, value in job.entry.items():
            if sidecar[name] != value:
                checked.find(path, "unfit", f"{name} is {sidecar[name]!r}, and the description has {value!r}")
    if sidecar["transient"]:
        failed = f"{sidecar['transient']} failed for a temporary reason"
        checked.find(path, "unfinished", f"{failed}; give the command again")
        if job.keeps_transient:
            checked.notes.append(
                replace(checked.findings.pop(), kind="left out", message=f"{failed}, and were left out")
            )


def _counts(checked: Checked, sidecar: Mapping[str, Any], index: pa.Table, rejects: list[Any]) -> None:
    """Tables, ledger and plan against each other."""
    job, path = checked.job, checked.job.files.sidecar
    keys, lengths = (index[name].to_pylist() if index.num_rows else [] for name in ("key", "seconds"))
    ledger, kept = sidecar["ledger"], set(map(source_key, keys))
    clips = Counter(row["outcome"] for row in rejects if row["clip"] is not None and row["key"] in kept)
    facts = [
        ("examples", sidecar["examples"], len(keys)),
        ("seconds", sidecar["seconds"], round(math.fsum(lengths), 6)),
        ("examples of the ledger", ledger["examples"], len(keys)),
        ("sources kept", ledger["kept"], len(kept)),
        ("clips rejected", ledger["clips_rejected"], clips["rejected"]),
        ("clips filtered", ledger["clips_filtered"], clips["filtered"]),
        ("sources", ledger["sources"], ledger["kept"] + ledger["rejected"] + ledger["filtered"]),
        ("clips", ledger["clips"], ledger["examples"] + ledger["clips_rejected"] + ledger["clips_filtered"]),
    ]
    if (seconds := sidecar.get("seconds_ledger")) is not None:
        parts = [seconds[name] for name in ("stored", "left_behind", "rejected", "filtered")]
        facts.append(("seconds read", seconds["read"], round(math.fsum(parts), 6)))
    if job.planned is not None:
        unknown = kept - {row.key for row in job.rows}
        if unknown:
            checked.find(path, "unfit", f"{len(unknown)} sources are not in the plan, as {min(unknown)}")
    for what, recorded, found in facts:
        if recorded != found:
            checked.find(path, "unfit", f"{what}: {recorded} are recorded and {found} found")


def _name_damaged(checked: Checked, tar: Path, index: list[dict[str, Any]]) -> None:
    """Say whose sound is hit in a tar whose bytes are not right."""
    import hashlib

    hit = []
    with tar.open("rb") as file:
        for row in index:
            for role in parts_of(row):
                if f"{role}_offset" in row:
                    data = cut_out(file, row[f"{role}_offset"], row[f"{role}_bytes"])
                    if hashlib.sha256(data).hexdigest() != row[f"{role}_sha256"]:
                        hit.append(f"{row['key']} ({row['source']})")
    if hit:
        more = f" and {len(hit) - MOST_NAMED} more" if len(hit) > MOST_NAMED else ""
        checked.find(tar, "digest", f"the bytes of {', '.join(hit[:MOST_NAMED])}{more} are not those that were written")


def _check_tar(checked: Checked, tar: Path, index: list[dict[str, Any]]) -> None:
    """Every member of a tar against the index and the plan."""
    container = checked.job.made.container if checked.job.made else None
    recipes = {row.key: row for row in checked.job.rows}
    expected: list[tuple[str, dict[str, Any], str | None]] = []
    for row in index:
        roles = roles_of(row)
        for role in roles:
            suffix = "" if roles == ["audio"] else f".{role}"
            expected.append((f"{row['key']}{suffix}.{container}", row, role))
        expected += [(f"{row['key']}.{name}.{ARRAY_SUFFIX}", row, name) for name in arrays_of(row)]
        expected.append((f"{row['key']}.json", row, None))
    try:
        with tar.open("rb") as file:
            found = list(members(file))
            names = [one.name for one in found]
            wished = [name for name, _, _ in expected]
            if container is not None and names != wished:
                odd = next((a or b for a, b in zip([*names, ""], [*wished, ""], strict=False) if a != b), "")
                checked.find(
                    tar, "unfit", f"it holds {len(names)} members and the index {len(wished)}, other from {odd} on"
                )
                return
            for one, (_, row, of_role) in zip(found, expected, strict=True):
                data = cut_out(file, one.offset, one.size)
                if of_role is None:
                    _check_record(checked, tar, data, row, recipes)
                elif (one.offset, one.size) != (row[f"{of_role}_offset"], row[f"{of_role}_bytes"]):
                    checked.find(tar, "unfit", f"{one.name} is at byte {one.offset}, and the index names another place")
                else:
                    _check_part(checked, tar, data, row, of_role, one.name)
    except CorpusError as error:
        checked.find(tar, "damaged", str(error))


def _lineages(recipe: Recipe) -> list[Any]:
    """How the recipe of an example may stand in its JSON: a copy takes the place of a better one that was not kept."""
    lineage = json.loads(json.dumps(recipe.lineage()))
    steps = lineage["steps"]
    return [lineage, *([{**lineage, "steps": steps[1:]}] if steps and steps[0]["step"] == LEFT_OUT else [])]


def _check_record(
    checked: Checked, tar: Path, data: bytes, row: Mapping[str, Any], recipes: Mapping[str, Planned]
) -> None:
    try:
        record = json.loads(data)
        recorded = {name: record[name] for name in ("key", "source", "samples", "sample_rate", "channels", "seconds")}
        lineage = record["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        checked.find(tar, "damaged", f"{row['key']}.json cannot be read: {error}")
        return
    wrong = [name for name, value in recorded.items() if row[name] != value]
    arrays = {
        name: {
            **{what: row.get(f"{name}_{what}") for what in SHAPE_COLUMNS},
            "sample_rate": row["sample_rate"],
        }
        for name in arrays_of(row)
    }
    if arrays and record.get("arrays") != arrays:
        wrong.append("arrays")
    planned = recipes.get(source_key(row["key"]))
    if planned is not None and lineage not in _lineages(planned.recipe):
        wrong.append("recipe")
    if wrong:
        checked.find(tar, "unfit", f"{row['key']}.json and the index or the plan differ in {', '.join(wrong)}")


def _check_part(checked: Checked, path: Path, data: bytes, row: Mapping[str, Any], part: str, name: str) -> None:
    """A stored role or array against the index."""
    if part not in arrays_of(row):
        _check_sound(checked, path, data, row, name)
        return
    try:
        array = read_npy(data, row["sample_rate"], row.get(f"{part}_hop"))
    except AudioError as error:
        checked.find(path, "undecodable", f"{name}: {error.message}")
        return
    if (array.channels, array.frames) != (row[f"{part}_channels"], row[f"{part}_frames"]):
        checked.find(
            path,
            "unfit",
            f"{name} has {array.channels} channels of {array.frames} frames, and the index has "
            f"{row[f'{part}_channels']} of {row[f'{part}_frames']}",
        )


def _check_sound(checked: Checked, path: Path, data: bytes, row: Mapping[str, Any], name: str) -> None:
    try:
        sound = files.read(data).whole()
    except AudioError as error:
        checked.find(path, "undecodable", f"{name}: {error.message}")
        return
    if (sound.frames, sound.sample_rate) != (row["samples"], row["sample_rate"]) or sound.channels > row["channels"]:
        checked.find(
            path,
            "unfit",
            f"{name} has {sound.frames} samples at {sound.sample_rate} Hz, and the index has {row['samples']} at "
            f"{row['sample_rate']}",
        )


def _check_files(
    checked: Checked, sidecar: Mapping[str, Any], index: list[dict[str, Any]], whole: Mapping[Path, bool]
) -> None:
    """Every file of a folder against the index."""
    by_digest = {row[f"{part}_sha256"]: (row, part) for row in index for part in parts_of(row)}
    for one in sidecar["files"]:
        path = checked.job.output.folder / one["name"]
        row, part = by_digest.get(one["sha256"], (None, ""))
        if row is None:
            checked.find(path, "unfit", "the index does not list it")
        elif path.is_file():
            _check_part(checked, path, path.read_bytes(), row, part, one["name"])
    if len(sidecar["files"]) != sum(len(parts_of(row)) for row in index):
        checked.find(checked.job.files.sidecar, "unfit", "it lists another number of files than the index")
