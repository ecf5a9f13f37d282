"""Names of places: local paths as `file:` URIs that keep every byte of a name, and back."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tonemill.pipelines.places import as_store, place


def to_uri(path: str | os.PathLike[str]) -> str:
    """The absolute `file:` URI of a local path (RFC 8089), or that of one in a store; names not in UTF-8 survive."""
    if as_store(path) is not None:
        return str(path)
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (links stay as typed)


def to_path(uri: str) -> Path:
    """The path of a URI, or of a plain path, here or in a store.

    Raises:
        UsageError: it lies where nothing is read.
    """
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(uri[len("file://") :])))
    return place(uri) if "://" in uri else Path(uri)


def readable(path: str) -> str:
    """A path for people, keys and JSON: bytes that are not UTF-8 are spelt out, as in `caf\\xe9.wav`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
