"""Cut a shard's tar into the runs of bytes that each source left, and put such runs together to another tar."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.array_columns import parts_of
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.storage.tar import ending, members


def offset_columns(row: Mapping[str, Any]) -> list[str]:
    """Columns of a row with the place of a sound or an array in its tar; a field such as `dc_offset` is none."""
    return [
        f"{name}_offset"
        for name in parts_of(row)
        if row.get(f"{name}_offset") is not None and row.get(f"{name}_bytes") is not None
    ]


class Run(NamedTuple):
    """Bytes of a tar, whole members, as neighbours."""

    path: Path
    start: int
    end: int


def runs(tar: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Run]:
    """For each source the run that it left in a tar.

    Args:
        tar: of the shard.
        rows: of its index, in order, as they stand there.

    Raises:
        CorpusError: the tar does not reach so far.
    """
    starts: dict[str, int] = {}
    for row in rows:
        offsets = [row[name] for name in offset_columns(row)]
        starts.setdefault(source_key(row["key"]), min(offsets, default=0) - tarfile.BLOCKSIZE)
    keys = list(starts)
    if sorted(starts.values()) != list(starts.values()) or any(start < 0 for start in starts.values()):
        raise CorpusError(f"the index of {tar} names places outside of the tar")
    ends = [starts[key] for key in keys[1:]]
    if keys:
        with tar.open("rb") as file:
            size = file.seek(0, 2)
            last = starts[keys[-1]]
            ends.append(max((one.end for one in members(file, last)), default=last))
        if ends[-1] > size:
            raise CorpusError(f"{tar} is cut")
    return {key: Run(tar, starts[key], end) for key, end in zip(keys, ends, strict=True)}


def splice(parts: Iterable[Run], out: BinaryIO) -> dict[str, Any]:
    """Write a tar of runs; returns its bytes and SHA-256, as a sidecar has them."""
    digest, size = hashlib.sha256(), 0

    def write(data: bytes) -> None:
        nonlocal size
        out.write(data)
        digest.update(data)
        size += len(data)

    for run in parts:
        with run.path.open("rb") as file:
            file.seek(run.start)
            left = run.end - run.start
            while left:
                data = file.read(min(left, 1 << 20))
                if not data:
                    raise CorpusError(f"{run.path} is cut")
                write(data)
                left -= len(data)
    if not size:
        return {"bytes": 0, "sha256": None}
    write(ending(size))
    return {"bytes": size, "sha256": digest.hexdigest()}
