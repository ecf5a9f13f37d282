"""Copies of whole shards of a corpus in an object store, in a bounded folder of this machine.

Without them each example of each epoch is a request of its own. A copy is named by the SHA-256 of its shard, so corpora
that hold equal shards share it, and it is compared with that when it is made and before a process first reads it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from tonemill.audiotools.errors import CorpusError, OutputError
from tonemill.audiotools.trouble import is_of_machine, machine_error
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.storage.commit import fingerprint
from tonemill.pipelines.storage.locks import exclusively
from tonemill.pipelines.storage.output_names import TAR_SUFFIX
from tonemill.pipelines.storage.paths import as_store

LOCK: Final = "tonemill-cache.lock"
PART: Final = "tonemill-cache-part-"
"""Begins the names of copies that are not whole yet."""

_checked: Final[set[Path]] = set()
"""Copies whose digest this process has computed."""

_COPY: Final = re.compile(r"[0-9a-f]{64}\.tar")


class ShardCache:
    """Opens shards of a corpus: a copy where it has room for one, the shard itself otherwise.

    Args:
        folder: of the copies; other files in it stay as they are.
        most_bytes: of all copies together. The copy that was not used for longest is removed for a new one, but none
            of this corpus: one that is larger than the cache would displace each copy before its next use.
        corpus: whose shards are read. Those of a corpus on this machine are opened where they are.
    """

    def __init__(self, folder: Path, most_bytes: int, corpus: Corpus) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._output = corpus.output
        self._shards = {one["shard"]: (str(one["sha256"]), int(one["bytes"])) for one in corpus.about["shards"]}
        self._without_room: set[str] = set()

    def open(self, shard: str) -> BinaryIO:
        """A shard as a file.

        Raises:
            CorpusError: the store holds another shard than the description of the corpus promises.
            OutputError: the cache cannot be written.
            OSError: the store cannot be read.
        """
        there = self._output.shard(shard).tar
        digest, size = self._shards[shard]
        if as_store(there) is None or digest in self._without_room:
            return cast(BinaryIO, there.open("rb"))
        copy = self._folder / f"{digest}{TAR_SUFFIX}"
        while True:
            if copy in _checked:
                # Another command may have removed it for a copy of its own.
                with contextlib.suppress(FileNotFoundError):
                    return copy.open("rb")
            if not self._has(copy, shard, digest, size):
                self._without_room.add(digest)
                return cast(BinaryIO, there.open("rb"))
            _checked.add(copy)

    def _has(self, copy: Path, shard: str, digest: str, size: int) -> bool:
        """Make sure of a whole copy; False where there is no room."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # So that processes do not fetch one shard twice.
            with exclusively(self._folder / LOCK) as lock:
                if _is_whole(copy, digest, size):
                    os.utime(copy)
                    return True
                copy.unlink(missing_ok=True)
                if lock is not None:
                    # Only who holds the lock makes parts; these are of processes that were killed.
                    for part in self._folder.glob(f"{PART}*"):
                        part.unlink(missing_ok=True)
                if not self._make_room(size):
                    return False
                self._fetch(copy, shard, digest, size)
                return True
        except OSError as error:
            if is_of_machine(error):
                raise machine_error(
                    error, f"--cache is {self._folder}, and {size} bytes must be copied there"
                ) from error
            # An answer of the store has a meaning of its own.
            ours = PermissionError | NotADirectoryError | FileExistsError | FileNotFoundError
            if isinstance(error, ours) and not hasattr(error, "meaning"):
                raise OutputError(f"--cache {self._folder} cannot be written: {error.strerror}.") from error
            raise

    def _fetch(self, copy: Path, shard: str, digest: str, size: int) -> None:
        there: Any = self._output.shard(shard).tar
        handle, name = tempfile.mkstemp(prefix=PART, dir=self._folder)
        os.close(handle)
        part = Path(name)
        try:
            there.fetch(part)
            if not _is_whole(part, digest, size):
                raise CorpusError(
                    f"{there} is damaged: its digest is not the recorded one. `tonemill verify "
                    f"{self._output.folder}` lists what is damaged, `tonemill repair {self._output.folder}` makes "
                    "it again."
                )
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> bool:
        """Remove copies of other corpora, the one that was not used for longest first."""
        own = {digest for digest, _ in self._shards.values()}
        found = {path: path.stat() for path in self._folder.iterdir() if _COPY.fullmatch(path.name)}
        room = self._most_bytes - sum(about.st_size for about in found.values())
        for path in sorted(found, key=lambda path: found[path].st_mtime_ns):
            if room >= size:
                break
            if path.stem not in own:
                path.unlink(missing_ok=True)
                room += found[path].st_size
        return room >= size


def _is_whole(copy: Path, digest: str, size: int) -> bool:
    return copy.exists() and copy.stat().st_size == size and fingerprint(copy)["sha256"] == digest


def cache_of(corpus: Corpus, settings: TrainConfig) -> ShardCache | None:
    """The cache of `--cache`; None where there is none."""
    if settings.cache is None:
        return None
    return ShardCache(Path(settings.cache), round(settings.cache_gigabytes * 1e9), corpus)
