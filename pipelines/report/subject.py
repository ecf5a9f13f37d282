"""What a report is about: a corpus, a folder of files that `tonemill write` made, or a run, opened alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.corpus.corpus import encoded_of, is_field, open_corpus
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile, read_plan
from tonemill.pipelines.runs.run import RUN_JSON, Run, open_run
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import as_store, place, to_path

Kind = Literal["corpus", "files", "run"]
SOUNDS: Final = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class Place:
    """One thing that a report is about.

    Args:
        name: as given on the command line.
        kind: `corpus`, `files` or `run`.
        folder: its path.
        about: its description.
        index: a row per example, without digests; none of a run.
        rejects: a row per refused source or clip; none of a run.
        run: where it is one.
    """

    name: str
    kind: Kind
    folder: Path
    about: Mapping[str, Any]
    index: pa.Table = field(default_factory=lambda: pa.table({}))
    rejects: pa.Table = field(default_factory=lambda: pa.table({}))
    run: Run | None = None

    @property
    def output(self) -> OutputFolder:
        """Its files, where it is no run."""
        return OutputFolder(self.folder, "files" if self.kind == "files" else "shards")

    @property
    def roles(self) -> list[str]:
        return list(self.about.get("roles", []))

    def fields(self) -> list[str]:
        """Columns of the index that are metadata, each value one value."""
        arrays = self.about.get("arrays", {})
        return [
            field.name
            for field in self.index.schema
            if is_field(field.name, self.roles, arrays) and not pa.types.is_list(field.type)
        ]

    def sounds(self, row: Mapping[str, Any]) -> dict[str, Flow]:
        """The sounds of a row of the index by role.

        Raises:
            AudioError: one cannot be read.
            OSError: the shard is gone.
        """
        if self.kind == "files":
            names = self._file_names[row["key"]]
            return {role: files.read(to_read(self.folder / name)) for role, name in names.items()}
        stored = [role for role in self.roles if row.get(f"{role}_offset") is not None]
        return {role: files.read(encoded_of(self.folder, row, role)) for role in stored}

    @cached_property
    def _file_names(self) -> dict[str, dict[str, str]]:
        """Of a folder of files: each example's names by role, by the digests in sidecars and index."""
        found: dict[str, dict[str, str]] = {}
        for shard in read_plan(self.output.plan).shards:
            shard_files = self.output.shard(shard.name)
            sidecar = shard_files.read_sidecar() or {}
            names = {one["sha256"]: one["name"] for one in sidecar.get("files", ())}
            table = shard_files.index
            for row in read_table(table).to_pylist() if names and table.exists() else ():
                digests = {role: row.get(f"{role}_sha256") for role in self.roles}
                found[row["key"]] = {role: names[digest] for role, digest in digests.items() if digest in names}
        return found

    def rendered_by(self) -> Path | None:
        """The run whose model rendered these examples, at the path that their first recipe names; None if none did."""
        if self.kind == "run" or not self.output.plan.exists():
            return None
        plan_file = PlanFile(self.output.plan)
        number = next((number for number, shard in enumerate(plan_file.plan.shards) if shard.recipes), None)
        rows = plan_file.rows(number) if number is not None else []
        steps = rows[0].recipe.steps if rows else []
        made_by = [step for step in steps if step.get("step") == "render"]
        if not made_by:
            return None
        where, name = made_by[-1].get("run_uri"), made_by[-1].get("run", "")
        # A run on another machine is known by its name alone.
        return to_path(where) if where else Path(name)


def to_read(path: Path) -> Path | bytes:
    """A file of sound for a reader: its path, or the bytes of one in a store."""
    return path if as_store(path) is None else path.read_bytes()


def open_place(text: str) -> Place:
    """Open a corpus, a folder of files or a run.

    Raises:
        UsageError: it is none of them.
        CorpusError: it is unfinished, or damaged.
    """
    folder = place(text)
    if (folder / RUN_JSON).exists():
        run = open_run(folder)
        return Place(text, "run", folder, run.about, run=run)
    output = OutputFolder.found(folder)
    if output is None:
        what = (
            "is neither a corpus, a run, nor a folder that `tonemill write` made"
            if folder.exists()
            else "does not exist"
        )
        raise UsageError(f"{text} {what}. `tonemill report corpora/loops -o report.html` is an example of the command.")
    if output.kind == "files":
        about = json_files.read_json(output.description)
        if not isinstance(about, dict) or "files" not in about:
            raise CorpusError(
                f"{folder} is not finished. Repeat the `tonemill write` that makes it: it goes on where it stopped."
            )
        return _with_tables(Place(text, "files", folder, about))
    return _with_tables(Place(text, "corpus", folder, open_corpus(folder).about))


def _with_tables(found: Place) -> Place:
    try:
        return Place(
            found.name,
            found.kind,
            found.folder,
            found.about,
            # Without its longest columns, which no report shows and which take most of its room.
            read_table(found.output.index, lambda name: not name.endswith("_sha256")),
            read_table(found.output.rejects),
        )
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(
            f"The tables of {found.folder} cannot be read: {error}. `tonemill repair {found.folder}` rebuilds them."
        ) from error
