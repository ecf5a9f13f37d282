"""Write JSON files whole, with a digest of themselves as a seal, and read them up to a size limit."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.storage.commit import pending

MOST_JSON: Final = 256 << 20
"""Bytes of a JSON file of ours: the description of about a million shards."""

SEAL: Final = "seal"
"""The key of a JSON file's digest of itself."""


def write_json(target: Path, record: Any) -> None:
    """Write JSON for people and programs, all at once."""
    with pending(target) as file:
        file.write(_encoded(record))


def write_sealed(target: Path, record: dict[str, Any]) -> None:
    """Write JSON that holds the digest of the rest of itself, so that any flipped byte of it is noticed."""
    write_json(target, {**record, SEAL: hashlib.sha256(_encoded(record)).hexdigest()})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The record that `write_sealed` wrote, without the seal; None if a byte of the file changed."""
    data = _bounded(path)
    record = _parsed(data)
    if isinstance(record, dict) and (cut := _without_seal(data, record.get(SEAL))) is not None:
        # The bytes themselves have the digest: nothing is spelt again, which for a million shards takes seconds.
        if hashlib.sha256(cut).hexdigest() == record[SEAL]:
            return {name: value for name, value in record.items() if name != SEAL}
        return None
    if not isinstance(record, dict) or not isinstance(record.get(SEAL), str):
        return None
    rest = {name: value for name, value in record.items() if name != SEAL}
    try:
        whole = data == _encoded({**rest, SEAL: record[SEAL]})
    except (ValueError, RecursionError):
        return None
    return rest if whole and hashlib.sha256(_encoded(rest)).hexdigest() == record[SEAL] else None


def _without_seal(data: bytes, seal: Any) -> bytes | None:
    """What `write_sealed` had before it put the seal behind it; None where the seal is not last."""
    end = f',\n  "{SEAL}": "{seal}"\n}}\n'.encode(errors="replace")
    return data.removesuffix(end) + b"\n}\n" if data.endswith(end) else None


def _encoded(record: Any) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"


def read_json(path: Path) -> Any:
    """The JSON in a file, or None where there is no whole one, or one that is larger than any of ours."""
    return _parsed(_bounded(path))


def _bounded(path: Path) -> bytes:
    """A regular file's bytes; nothing of one that is larger than `MOST_JSON`."""
    try:
        status = path.stat()
        return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_JSON else b""
    except (OSError, ValueError):
        return b""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
