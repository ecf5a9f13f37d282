"""Names of places: local paths as `file:` URIs that keep every byte of a name, and back."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.secrets import without_secrets
from tonemill.pipelines.storage.paths import as_store, place


def to_uri(path: str | os.PathLike[str]) -> str:
    """The absolute `file:` URI of a local path (RFC 8089), or that of one in a store; names not in UTF-8 survive."""
    if as_store(path) is not None:
        return str(path)
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (links stay as typed)


def to_path(uri: str) -> Path:
    """The path of a URI, or of a plain path, here or in a store.

    Raises:
        UsageError: it lies where nothing is read, or holds a byte that no path has.
    """
    path = uri
    if uri.startswith("file://"):
        path = os.fsdecode(unquote_to_bytes(uri[len("file://") :]))
    elif "://" in uri:
        return place(uri)
    if "\0" in path:
        raise UsageError(f"{uri!r} names no file: no path holds a zero byte.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"{uri!r} names no file: it holds half a character.") from error
    return Path(path)


def readable(path: str) -> str:
    """A path for people, keys and JSON: bytes that are not UTF-8 are spelt out, as in `caf\\xe9.wav`.

    What a folder is called that looks like a URI with a password in it is told without the password.
    """
    return without_secrets(os.fsencode(path).decode("utf-8", "backslashreplace"))
