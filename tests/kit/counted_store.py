"""A store in this process that counts what is read of shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tonemill.pipelines.storage.store import Fsspec


class Counted(Fsspec):
    """A store in this process that counts requests of shards, and may return damaged ones."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.counted: Counter[str] = Counter()
        self.damaged = False

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.counted["read"] += key.endswith(".tar")
        return super().read(key, start, end)

    def fetch(self, key: str, target: Path) -> None:
        self.counted["fetched"] += key.endswith(".tar")
        super().fetch(key, target)
        if self.damaged:
            target.write_bytes(target.read_bytes()[:-512] + bytes(512 * [1]))
