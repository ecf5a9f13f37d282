"""Read embeddings that any other tool has made: a vector for each key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.storage.parquet import read_table

NAMES: Final = ("vector", "embedding")


def read_vectors(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Vectors by key, each of the same length, from Parquet tables or .npz files; not all need be finite.

    Raises:
        UsageError: a file is missing, or holds something else; or lengths differ.
    """
    found: dict[str, np.ndarray] = {}
    for path in paths:
        keys, vectors = _read(path)
        found |= dict(zip(keys, vectors, strict=True))
    lengths = sorted({len(vector) for vector in found.values()})
    if len(lengths) > 1:
        raise UsageError(
            f"{' and '.join(map(str, paths))} hold vectors of {' and '.join(map(str, lengths))} numbers; all "
            "vectors must come from one judge."
        )
    return found


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    if not path.exists():
        raise UsageError(f"There is no file {path}.")
    wanted = f"{path} must hold `key` and `vector`, equally many of each: as columns (Parquet) or arrays (.npz)."
    try:
        if path.suffix == ".npz":
            # As numpy.load, but for pickles, which could run code: it refuses them by default.
            with path.open("rb") as opened, NpzFile(opened) as arrays:
                name = next(name for name in NAMES if name in arrays)
                keys, vectors = arrays["key"].tolist(), np.asarray(arrays[name], np.float64)
        else:
            table = read_table(path)
            name = next(name for name in NAMES if name in table.column_names)
            keys, vectors = table["key"].to_pylist(), np.array(table[name].to_pylist(), np.float64)
    except (KeyError, StopIteration, ValueError, OSError, MemoryError, BadZipFile, CorpusError) as error:
        raise UsageError(f"{wanted} ({type(error).__name__}: {error})") from error
    if vectors.ndim != 2 or len(keys) != len(vectors):
        raise UsageError(f"{wanted} It holds {len(keys)} keys, and vectors of shape {vectors.shape}.")
    return [str(key) for key in keys], vectors
