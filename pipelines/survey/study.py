"""The files of a study: what is handed out, the key that stays, and whatever comes back; each is named here alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.paths import of_this_machine

SCHEMA: Final = 1
REHEARSED: Final = "rehearsal"


@dataclass(frozen=True)
class StudyFolder:
    """Where the files of a study are; those that name systems stand beside the folder, never in it.

    Args:
        folder: to hand out.
    """

    folder: Path

    def beside(self, suffix: str) -> Path:
        folder = self.folder.resolve()
        return folder.with_name(folder.name + suffix)

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def plan(self) -> Path:
        return self.folder / "study.json"

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def readme(self) -> Path:
        return self.folder / "README.txt"

    @property
    def key(self) -> Path:
        """Which clip is of which system; readable by its owner only."""
        return self.beside(".key.json")

    @property
    def answers(self) -> Path:
        """A folder where `serve` puts what is handed over."""
        return self.beside(".answers")

    @property
    def collected(self) -> Path:
        return self.beside(".collected.json")

    @property
    def rehearsal(self) -> Path:
        """What `simulate` made up."""
        return self.beside(".rehearsal.json")


@dataclass(frozen=True)
class Study:
    """A study that was made.

    Args:
        files: where everything is.
        plan: what listeners get: questions, orders, texts; no names.
        digest: of the plan.
    """

    files: StudyFolder
    plan: dict[str, Any]
    digest: str

    @property
    def questions(self) -> list[str]:
        return [one["name"] for one in self.plan["questions"]["items"]]

    @property
    def levels(self) -> int:
        """Of the scale."""
        return len(self.plan["questions"]["scale"])

    @property
    def rehearsal_digest(self) -> str:
        """What made-up answers carry in place of the study's digest."""
        return hashlib.sha256(f"{REHEARSED} {self.digest}".encode()).hexdigest()

    def key(self) -> dict[str, Any]:
        """Which clip is of which system.

        Raises:
            UsageError: the key is missing, or of another study.
        """
        found = json_files.read_json(self.files.key)
        if not isinstance(found, dict) or found.get("study") != self.digest or not isinstance(found.get("clips"), dict):
            raise UsageError(
                f"{self.files.key} is not the key of {self.files.folder}. Put the key that `tonemill survey make` "
                "wrote back beside the folder, under that name."
            )
        return found


def digest_of(plan: dict[str, Any]) -> str:
    """SHA-256 of a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def open_study(folder: Path) -> Study:
    """Open a study.

    Raises:
        UsageError: it is none.
    """
    files = StudyFolder(of_this_machine(folder, "A study"))
    plan = json_files.read_json(files.plan)
    if not isinstance(plan, dict) or plan.get("schema") != SCHEMA or "orders" not in plan:
        raise UsageError(
            f"{folder} is not the folder of a study. Make one with `tonemill survey make real=FOLDER model=FOLDER "
            f"-o {folder}`."
        )
    return Study(files, plan, digest_of(plan))


def opaque_id(secret: bytes, *parts: str) -> str:
    """An opaque name of a clip: 16 hexadecimal digits of its HMAC-SHA-256 (RFC 2104) under the study's secret."""
    message = json.dumps(parts).encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:16]


def write_key(target: Path, record: dict[str, Any]) -> None:
    """Write a file that only its owner may read, at every moment.

    Raises:
        OutputError: it cannot be written.
    """
    with commit.Part(target) as part:
        part.file.write(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
        part.close()
        # A temporary file has this mode, which its final name must keep.
        try:
            part.path.chmod(0o600)
            os.replace(part.path, target)  # noqa: PTH105
            commit.sync_folder(target.parent)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error
