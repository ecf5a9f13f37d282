"""Store the examples of a shard, as members of a tar or as files in a folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tonemill.audiotools.arrays import SUFFIX as ARRAY_SUFFIX
from tonemill.audiotools.codecs.encoding import Encoded
from tonemill.audiotools.codecs.loop_tags import loop_of, with_loop
from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.paths import mapped, scratch
from tonemill.pipelines.storage.tar import MEMBER_BYTES, Mark, TarWriter


@dataclass(frozen=True)
class Piece:
    """An encoded example.

    Args:
        key: of the example.
        name: for its files in a folder; the plan derives it from the source's path.
        encoded: encoded sounds by role.
        record: content of its JSON file.
        arrays: encoded arrays by name.
    """

    key: str
    name: str
    encoded: dict[str, Encoded]
    record: dict[str, Any]
    arrays: Mapping[str, Encoded] = field(default_factory=dict)

    def parts(self, container: str, role_mark: str) -> Iterator[tuple[str, str, Encoded]]:
        """All files of the example, arrays last: role or array name, end of the file name, and content.

        Args:
            container: of sounds.
            role_mark: between the names of example and role; an example with only `audio` has no role in its name.
        """
        for role, one in self.encoded.items():
            role_name = "" if set(self.encoded) == {"audio"} else f"{role_mark}{role}"
            yield role, f"{role_name}.{container}", one
        for name, one in sorted(self.arrays.items()):
            yield name, f".{name}.{ARRAY_SUFFIX}", one


class Shelf(Protocol):
    """Storage for a shard's examples; those of a source that fails later can be removed again.

    Args:
        spill: folder on the same disk, for temporary files of sound that is too large for memory.
        most_bytes: most bytes of one file.
    """

    spill: Path
    most_bytes: float

    def put(self, piece: Piece) -> dict[str, Any]:
        """Store an example; returns index columns with its offsets, sizes and hashes."""

    def mark(self) -> Any:
        """The current position, for `roll_back`."""

    def roll_back(self, mark: Any) -> None:
        """Remove the examples that were stored since the mark."""

    def finish(self) -> dict[str, Any]:
        """Commit all examples; returns entries for the sidecar."""

    def discard(self) -> None:
        """Remove examples that were not committed."""


class TarShelf:
    """A shard of a corpus. An example's members are neighbours: KEY.flac or KEY.ROLE.flac, KEY.ARRAY.npy, KEY.json."""

    def __init__(self, target: Path, container: str) -> None:
        self.spill, self.most_bytes = scratch(target.parent), float(MEMBER_BYTES - 1)
        self._part = commit.Part(target)
        self._tar = TarWriter(self._part.file)
        self._container = container

    def put(self, piece: Piece) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name, ending, one in piece.parts(self._container, "."):
            columns[f"{name}_offset"] = self._tar.add(f"{piece.key}{ending}", one.size, one.pieces())
            columns[f"{name}_bytes"] = one.size
            columns[f"{name}_sha256"] = one.sha256
        text = json.dumps(piece.record, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")
        self._tar.add(f"{piece.key}.json", len(text), [text])
        return columns

    def mark(self) -> Mark:
        return self._tar.mark()

    def roll_back(self, mark: Mark) -> None:
        self._tar.roll_back(mark)

    def finish(self) -> dict[str, Any]:
        if not self._tar.size:
            # Readers fail on a tar without members, so a shard without examples has no tar.
            self._part.target.unlink(missing_ok=True)
            return {"bytes": 0, "sha256": None}
        digest = self._tar.finish()
        self._part.commit()
        return {"bytes": self._tar.size, "sha256": digest}

    def discard(self) -> None:
        self._part.discard()


@dataclass(frozen=True)
class _Written:
    """A temporary file, and the end of its final name."""

    ending: str
    part: commit.Part
    bytes: int
    sha256: str


class FileShelf:
    """Files in a folder, named after their sources: NAME.wav, NAME_dry.wav, NAME.latents.npy, or NAME-0003.wav."""

    def __init__(self, folder: Path, work: Path, container: str) -> None:
        self.spill, self.most_bytes = work, math.inf
        self._folder = folder
        self._work = work
        self._container = container
        self._waiting: list[tuple[str, str, list[_Written]]] = []

    def put(self, piece: Piece) -> dict[str, Any]:
        parts: list[_Written] = []
        columns: dict[str, Any] = {}
        self._waiting.append((piece.name, piece.key.rpartition("-")[2], parts))
        for name, ending, one in self._tagged(piece).parts(self._container, "_"):
            # Temporary files are beside the sidecars: after a kill the next command removes them from there.
            part = commit.Part(self._work / piece.key, self._work)
            parts.append(_Written(ending, part, one.size, one.sha256))
            columns[f"{name}_sha256"] = parts[-1].sha256
            try:
                part.file.writelines(one.pieces())
            except OSError as error:
                raise commit.unwritable(self._folder / piece.name, error) from error
            part.close()
        return columns

    def _tagged(self, piece: Piece) -> Piece:
        """The example, with the tempo in the files of a loop; a corpus has it in its index and in KEY.json."""
        rate, encoded = int(piece.record["sample_rate"]), dict(piece.encoded)
        for role, one in piece.encoded.items():
            loop = loop_of(piece.record, one.frames, rate)
            if loop is not None:
                encoded[role] = with_loop(one, self._container, loop)
        return replace(piece, encoded=encoded)

    def mark(self) -> int:
        return len(self._waiting)

    def roll_back(self, mark: int) -> None:
        for _, _, parts in self._waiting[mark:]:
            for one in parts:
                one.part.discard()
        del self._waiting[mark:]

    def finish(self) -> dict[str, Any]:
        clips = Counter(name for name, _, _ in self._waiting)
        files_named = [
            (f"{name}{f'-{number}' if clips[name] > 1 else ''}{one.ending}", one)
            for name, number, parts in self._waiting
            for one in parts
        ]
        mapped(self._folder, lambda named: self._commit(*named), files_named)
        files_written = [{"name": name, "bytes": one.bytes, "sha256": one.sha256} for name, one in files_named]
        text = json.dumps(files_written, sort_keys=True)
        return {
            "bytes": sum(one["bytes"] for one in files_written),
            "sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            "files": files_written,
        }

    def _commit(self, name: str, one: _Written) -> None:
        target = self._folder / name
        if target.is_file() and commit.fingerprint(target)["sha256"] != one.sha256:
            raise OutputError(f"{target} exists and was not made by tonemill. Move it away, and repeat the command.")
        one.part.commit(target)

    def discard(self) -> None:
        self.roll_back(0)
