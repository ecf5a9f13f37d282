"""The bytes of a table, out of what it is packed in: gzip, bzip2, xz, Zstandard, or a zip of one file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_ZIP: Final = b"PK\x03\x04"
_WORKBOOKS: Final = ("[Content_Types].xml", "mimetype")
"""Members of the zip that an Excel or an OpenDocument workbook is."""


def suffix_of(path: Path) -> str:
    """The suffix of the format, without that of a compression."""
    return Path(path.stem if path.suffix.lower() in _COMPRESSIONS else path.name).suffix.lower()


def unpacked(path: Path) -> tuple[str, bytes]:
    """(name, bytes) of a file, unpacked if its first bytes are those of a compression, whatever it is called.

    Raises:
        ValueError: it is a workbook, or a zip of several files.
        OSError, EOFError, zlib.error, lzma.LZMAError: it cannot be read, or is damaged.
    """
    data = path.read_bytes()
    if data.startswith(_ZIP):
        return _of_zip(data)
    unpack = next((one for begin, one in _PACKED.items() if data.startswith(begin)), None)
    return path.name, data if unpack is None else unpack(data)


def _of_zip(data: bytes) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if any(name in _WORKBOOKS for name in names):
                raise ValueError("it is a workbook; save its sheet as CSV")
            files = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]
            if len(files) != 1:
                raise ValueError(f"it is a zip of {len(files)} files; unpack it and name the table")
            return files[0], archive.read(files[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"it is a damaged or encrypted zip: {error}") from error


def _from_zstandard(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())


_PACKED: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x28\xb5\x2f\xfd": _from_zstandard,
}
