"""Names of places: local paths as `file:` URIs that keep every byte of a name, and back."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tonemill.audiotools.errors import UsageError


def to_uri(path: str | os.PathLike[str]) -> str:
    """The absolute `file:` URI of a local path (RFC 8089); names that are not UTF-8 survive."""
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (links stay as typed)


def to_path(uri: str) -> Path:
    """The local path of a `file:` URI or of a plain path.

    Raises:
        UsageError: it lies elsewhere, where this version cannot read.
    """
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(uri[len("file://") :])))
    if "://" in uri:
        raise UsageError(
            f"{uri} does not lie on this machine; tonemill reads local files only so far. Copy it here first."
        )
    return Path(uri)


def readable(path: str) -> str:
    """A path for people, keys and JSON: bytes that are not UTF-8 are spelt out, as in `caf\\xe9.wav`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
