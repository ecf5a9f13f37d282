"""Cut a shard's tar into the runs of bytes that each source left, and put such runs together to another tar."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tonemill.audiotools.errors import CorpusError


class Run(NamedTuple):
    """Bytes of a tar, whole members, as neighbours."""

    path: Path
    start: int
    end: int


class Member(NamedTuple):
    """A member of a tar and where its data lies."""

    name: str
    offset: int
    size: int


def members(file: BinaryIO) -> Iterator[Member]:
    """The members of a tar, in order.

    Raises:
        CorpusError: a header is damaged, or the tar is cut.
    """
    place, size = 0, file.seek(0, os.SEEK_END)
    while (one := _member_at(file, place, size)) is not None:
        yield one
        place = one.offset + one.size + -one.size % tarfile.BLOCKSIZE


def _member_at(file: BinaryIO, place: int, size: int) -> Member | None:
    """The member whose header lies at a place; None where the zeros of the end do.

    Nothing is ever unpacked to disk: whatever a name says, and whatever kind a link or a device says it is.
    """
    file.seek(place)
    header = file.read(tarfile.BLOCKSIZE)
    if header == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise CorpusError(f"the header of a member at byte {place} is damaged: {error}") from error
    if not info.isreg():
        raise CorpusError(f"the member {info.name!r} at byte {place} is no file, but of type {info.type!r}")
    # A size may be negative, and lead back to where the reader has been.
    if not 0 <= info.size <= size - place - tarfile.BLOCKSIZE:
        raise CorpusError(
            f"the member {info.name!r} at byte {place} announces {info.size} bytes, which the tar has not"
        )
    return Member(info.name, place + tarfile.BLOCKSIZE, info.size)


def cut_out(file: BinaryIO, offset: int, length: int) -> bytes:
    """Bytes of a file from a place that an index or a recipe names; as many as there are."""
    size = file.seek(0, os.SEEK_END)
    if not 0 <= offset <= size or length < 0:
        return b""
    file.seek(offset)
    return file.read(min(length, size - offset))


def source_key(key: str) -> str:
    """The key of an example's source."""
    return key.rpartition("-")[0]


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
        offsets = [value for name, value in row.items() if name.endswith("_offset") and value is not None]
        starts.setdefault(source_key(row["key"]), min(offsets, default=0) - tarfile.BLOCKSIZE)
    keys = list(starts)
    if sorted(starts.values()) != list(starts.values()) or any(start < 0 for start in starts.values()):
        raise CorpusError(f"the index of {tar} names places that no shard has")
    ends = [starts[key] for key in keys[1:]]
    if keys:
        with tar.open("rb") as file:
            size = file.seek(0, 2)
            ends.append(_end(file, starts[keys[-1]], size))
        if ends[-1] > size:
            raise CorpusError(f"{tar} is cut")
    return {key: Run(tar, starts[key], end) for key, end in zip(keys, ends, strict=True)}


def _end(file: BinaryIO, start: int, size: int) -> int:
    """Where the last source's members end: before the zeros."""
    place = start
    while (one := _member_at(file, place, size)) is not None:
        place = one.offset + one.size + -one.size % tarfile.BLOCKSIZE
    return place


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
    end = size + 2 * tarfile.BLOCKSIZE
    write(bytes(end + -end % tarfile.RECORDSIZE - size))
    return {"bytes": size, "sha256": digest.hexdigest()}
