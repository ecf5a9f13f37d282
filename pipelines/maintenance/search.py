"""Search every file of a corpus for what must not be in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tonemill.pipelines.storage.leases import LEASES
from tonemill.pipelines.storage.parquet import read_batches
from tonemill.pipelines.storage.paths import mapped, sizes_below

BLOCK: Final = 1 << 24
"""Bytes read at once."""


@dataclass
class Search:
    """What a search found.

    Args:
        files: how many were searched.
        bytes: on disk.
        hits: `FILE: WHAT` for everything that was found.
    """

    files: int = 0
    bytes: int = 0
    hits: list[str] = field(default_factory=list)


def search(folder: Path, tokens: Sequence[str], paths: Sequence[str]) -> Search:
    """Look for texts in every file below a folder: bytes as they lie, and what is packed in tables.

    Args:
        folder: the corpus.
        tokens: keys and digests, found wherever they stand.
        paths: of sources, found where they are a whole value: as a JSON string, as a cell, as the end of a URI.

    Raises:
        CorpusError: a table cannot be read.
    """
    # `1.wav` is no trace of itself in `11.wav`.
    needles = {token: [token.encode()] for token in tokens if token}
    for path in paths:
        spellings = {json.dumps(path, ensure_ascii=ascii) for ascii in (True, False)}
        spellings |= {json.dumps(one)[1:-1] for one in set(spellings)}
        uri = quote(path.encode("utf-8", "backslashreplace"))
        needles[path] = [one.encode("utf-8", "backslashreplace") for one in [*spellings, f'/{uri}"']]
    longest = max((len(one) for some in needles.values() for one in some), default=1)
    there = sizes_below(folder)
    if there is None:
        there = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    # Leases of other commands come and go, and hold no names.
    files = sorted(path for path in there if not str(path.relative_to(folder)).startswith(f"{LEASES}/"))

    def hits(file: Path) -> list[str]:
        found = {
            name for data in _contents(file, longest) for name, some in needles.items() if any(x in data for x in some)
        }
        if file.suffix == ".parquet":
            found |= _cells(file) & set(paths)
        return [f"{file.relative_to(folder)}: {name}" for name in sorted(found)]

    found = mapped(folder, hits, files)
    return Search(len(files), sum(there[file] for file in files), [hit for some in found for hit in some])


def _contents(path: Path, overlap: int) -> Iterator[bytes]:
    """A file's bytes in blocks that overlap, and a table's texts unpacked."""
    before = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            yield before + data
            before = data[-overlap:]
    if path.suffix == ".parquet":
        for texts in _texts(path):
            yield "\n".join(texts).encode("utf-8", "backslashreplace")


def _cells(path: Path) -> set[str]:
    return {text for texts in _texts(path) for text in texts}


def _texts(path: Path) -> Iterator[list[str]]:
    """The texts of a table, some thousand rows at a time, and its metadata."""
    for number, batch in enumerate(read_batches(path)):
        if number == 0:
            yield [f"{key!r}{value!r}" for key, value in (batch.schema.metadata or {}).items()]
        for column in batch.columns:
            yield [str(value) for value in column.to_pylist() if isinstance(value, str)]
