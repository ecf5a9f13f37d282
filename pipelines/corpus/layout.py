"""Where each file of a corpus, or of a folder of files, is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.output_names import (
    DESCRIPTION,
    HIDDEN,
    INDEX,
    MARK,
    PLAN,
    PLAN_SEAL,
    REJECTS,
    REMOVED,
    SIDECAR_SUFFIX,
    TABLE_SUFFIX,
    TAR_SUFFIX,
)
from tonemill.pipelines.storage.paths import place


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard.

    Args:
        base: their path without a suffix, as `corpora/loops/train/000003`.
    """

    base: Path

    @property
    def sidecar(self) -> Path:
        return self.base.with_suffix(SIDECAR_SUFFIX)

    @property
    def tar(self) -> Path:
        """Of a corpus; a shard of a folder of files has none."""
        return self.base.with_suffix(TAR_SUFFIX)

    @property
    def index(self) -> Path:
        return self.table("index")

    @property
    def rejects(self) -> Path:
        return self.table("rejects")

    def table(self, name: str) -> Path:
        """The table of that name: `index` or `rejects`."""
        return self.base.with_suffix(f".{name}{TABLE_SUFFIX}")

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file, the sidecar last: it alone names the sounds of a folder of files, so it is removed last."""
        return self.tar, self.index, self.rejects, self.sidecar

    def read_sidecar(self) -> dict[str, Any] | None:
        """The sidecar's content; None where it is missing or a byte of it changed."""
        return json_files.read_sealed(self.sidecar)

    def remove(self) -> None:
        """Delete every file that is there."""
        for path in self.all:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class OutputFolder:
    """A corpus, or a folder of files: where each of its own files is.

    Args:
        folder: as a person named it.
        kind: `shards` of a corpus, or `files` that `tonemill write` made.
    """

    folder: Path
    kind: Literal["shards", "files"]

    @classmethod
    def found(cls, folder: Path) -> OutputFolder | None:
        """A folder here or in a store, of which any file may be missing or damaged; None where tonemill made none."""
        folder = place(folder)
        if (folder / MARK).exists() or (folder / HIDDEN).is_dir():
            return cls(folder, "files")
        if any((folder / name).exists() for name in (DESCRIPTION, PLAN, PLAN_SEAL, INDEX)):
            return cls(folder, "shards")
        return None

    @classmethod
    def open(cls, folder: Path) -> OutputFolder:
        """As `found`.

        Raises:
            UsageError: tonemill did not make it.
        """
        output = cls.found(folder)
        if output is None:
            raise UsageError(f"{place(folder)} is neither a corpus nor a folder that `tonemill write` made.")
        return output

    @property
    def is_begun(self) -> bool:
        """Whether its plan or its description is there, by names that no other program gives its files."""
        return self.description.exists() or self.plan.exists()

    @property
    def home(self) -> Path:
        """The folder of the plan, the sidecars and the tables: a hidden one in a folder of files."""
        return self.folder if self.kind == "shards" else self.folder / HIDDEN

    @property
    def plan(self) -> Path:
        return self.home / PLAN

    @property
    def plan_seal(self) -> Path:
        """The digest of the plan's file."""
        return self.home / PLAN_SEAL

    @property
    def index(self) -> Path:
        return self.home / INDEX

    @property
    def rejects(self) -> Path:
        return self.home / REJECTS

    @property
    def removed(self) -> Path:
        """Hashes of sources that may not be added again."""
        return self.home / REMOVED

    @property
    def description(self) -> Path:
        """Totals of the whole; written last."""
        return self.folder / (DESCRIPTION if self.kind == "shards" else MARK)

    def shard(self, name: str) -> ShardFiles:
        """The files of a shard, by its name, as `train/000003`."""
        return ShardFiles(self.home / name)
