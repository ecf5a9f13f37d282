"""Follow an example back to its source, and make it again from there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from tonemill.audiotools.arrays import read_npy
from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import AudioError, CorpusError, UsageError
from tonemill.audiotools.secrets import without_secrets
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.cooking.cook import cook
from tonemill.pipelines.corpus.array_columns import arrays_of, encoded_array, parts_of
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.corpus.sidecar import made_files, source_key
from tonemill.pipelines.planning.plan import Output, Planned
from tonemill.pipelines.storage.chosen_rows import rows_with
from tonemill.pipelines.storage.parquet import table_file
from tonemill.pipelines.storage.tar import cut_out

MOST_NEAR: Final = 4
"""Keys that are named where there is no such example."""


@dataclass(frozen=True)
class Trace:
    """An example and where it comes from.

    Args:
        output: the corpus, or the folder of files.
        row: of the index.
        planned: its source's recipe and place in the plan.
        made: what the plan makes.
        sidecar: of its shard.
    """

    output: OutputFolder
    row: dict[str, Any]
    planned: Planned
    made: Output
    sidecar: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """Its roles, and then its arrays."""
        return parts_of(self.row)

    @property
    def arrays(self) -> list[str]:
        return arrays_of(self.row)

    def facts(self) -> dict[str, Any]:
        """Everything that is known, as one record."""
        recipe, row = self.planned.recipe, self.row
        return {
            **{name: row[name] for name in ("key", "split", "shard", "source", "clip")},
            "sources": {role: {**one, "uri": without_secrets(one["uri"])} for role, one in recipe.sources.items()},
            "start": recipe.start,
            "frames": recipe.frames,
            "fields": recipe.fields,
            "steps": recipe.steps,
            **{name: row[name] for name in ("start_seconds", "seconds", "samples", "sample_rate", "channels", "bits")},
            "stored": {role: self._stored_at(role) for role in self.parts},
            "environment": self.sidecar["environment"],
            "shard_digest": self.sidecar["plan_digest"],
        }

    def _stored_at(self, role: str) -> dict[str, Any]:
        file = place_of(self.output, self.sidecar, self.row, role)
        return {
            "file": str(file.relative_to(self.output.folder)),
            "offset": self.row.get(f"{role}_offset", 0),
            "bytes": self.row.get(f"{role}_bytes", file.stat().st_size if file.exists() else None),
            "sha256": self.row[f"{role}_sha256"],
        }


@dataclass(frozen=True)
class Remade:
    """An example that was made again, one role or array of it.

    Args:
        data: encoded.
        same_samples: every sample is that of the stored one.
        same_bytes: and every byte.
        difference_db: the largest difference of a sample, in dB of full scale; None where there is none, or where
            the two differ in length or channels.
    """

    data: bytes
    same_samples: bool
    same_bytes: bool
    difference_db: float | None


def trace(folder: Path, key: str) -> Trace:
    """Find an example by its key.

    Raises:
        UsageError: there is no such example; names some that there are.
        CorpusError: plan, index or sidecar cannot be read.
    """
    output = OutputFolder.open(folder)
    plan_file = PlanFile(output.plan)
    made = plan_file.output
    try:
        row, near = _row(output.index, key)
    except (CorpusError, KeyError) as error:
        raise CorpusError(f"{output.index} cannot be read: {error}. `tonemill repair {folder}` mends it.") from error
    if row is None:
        shown = ", ".join(near[:MOST_NEAR])
        raise UsageError(f"{folder} has no example {key!r}; it has {shown}{', ...' if len(near) > MOST_NEAR else ''}.")
    number = plan_file.find(row["shard"])
    sidecar = output.shard(row["shard"]).read_sidecar()
    rows = plan_file.rows(number) if number is not None else []
    planned = [one for one in rows if one.key == source_key(key)]
    if sidecar is None or not planned:
        raise CorpusError(f"{folder} is damaged at example {key}. `tonemill verify {folder}` lists what is wrong.")
    return Trace(output, row, planned[0], made, sidecar)


def _row(index: Path, key: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The row of an example; where there is none, keys that begin alike or are of that source, or else any."""
    near: list[str] = []
    others: list[str] = []
    with table_file(index) as table:
        row = next(rows_with(table, "key", key), None)
        if row is not None:
            return row, []
        for batch in table.batches(("key", "source")):
            keys, sources = batch.column("key"), batch.column("source")
            if key and len(near) <= MOST_NEAR:
                near += keys.filter(pc.or_(pc.starts_with(keys, key), pc.equal(sources, key))).to_pylist()
            if len(others) <= MOST_NEAR:
                others += keys.slice(0, MOST_NEAR + 1).to_pylist()
    return None, near or others


def place_of(output: OutputFolder, sidecar: Mapping[str, Any], row: Mapping[str, Any], role: str) -> Path:
    """The file in which a role of an example is stored."""
    if "files" not in sidecar:
        return output.shard(row["shard"]).tar
    made = made_files(output, sidecar)
    return next(path for path, one in made.items() if one["sha256"] == row[f"{role}_sha256"])


def stored(output: OutputFolder, sidecar: Mapping[str, Any], row: Mapping[str, Any], role: str) -> bytes:
    """The encoded audio of an example, as stored.

    Raises:
        CorpusError: it is not what was written.
    """
    path = place_of(output, sidecar, row, role)
    try:
        with path.open("rb") as file:
            data = cut_out(file, row.get(f"{role}_offset", 0), row.get(f"{role}_bytes", 1 << 62))
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read: {error.strerror}. `tonemill repair {output.folder}` makes it again."
        ) from error
    if hashlib.sha256(data).hexdigest() != row[f"{role}_sha256"]:
        raise CorpusError(f"{row['key']} in {path} is damaged. `tonemill repair {output.folder}` makes it again.")
    return data


def remake(found: Trace) -> dict[str, Remade]:
    """Cook the recipe of an example again and hold what comes against what is stored, by role and array.

    Raises:
        CorpusError: nothing comes of it any more, or what is stored is damaged.
    """
    for clip, outcome in enumerate(cook([found.planned])):
        if outcome.of_source and outcome.error is not None:
            raise CorpusError(
                f"{found.row['source']} cannot be made again: {outcome.error.reason}, {outcome.error.message}."
            )
        if clip != found.row["clip"]:
            continue
        if outcome.error is not None:
            raise CorpusError(f"{found.row['key']} is now refused: {outcome.error.reason}, {outcome.error.message}.")
        bits = found.made.bits or outcome.example.bits
        made = {}
        for role, sound in outcome.example.sounds.items():
            old = stored(found.output, found.sidecar, found.row, role)
            made[role] = against(encode(sound, found.made.container, bits).data, old)
        for name, array in outcome.example.arrays.items():
            old = stored(found.output, found.sidecar, found.row, name)
            made[name] = against(encoded_array(array).data, old, is_array=True)
        return made
    raise CorpusError(f"{found.row['source']} gives fewer clips than before, and {found.row['key']} is not among them.")


def against(data: bytes, old: bytes, is_array: bool = False) -> Remade:
    """Two encoded sounds or arrays held against each other, sample by sample.

    Raises:
        CorpusError: one cannot be decoded.
    """
    try:
        new, before = _decoded(data, is_array), _decoded(old, is_array)
    except AudioError as error:
        raise CorpusError(f"A stored example cannot be decoded: {error.message}.") from error
    if new.samples.shape != before.samples.shape or new.sample_rate != before.sample_rate:
        return Remade(data, False, False, None)
    most = float(np.max(np.abs(new.samples.astype(np.float64) - before.samples), initial=0.0))
    return Remade(data, most == 0.0, data == old, float(20 * np.log10(most)) if most else None)


def _decoded(data: bytes, is_array: bool) -> Waveform:
    return Waveform(read_npy(data, 1, None).values, 1) if is_array else files.read(data).whole()
