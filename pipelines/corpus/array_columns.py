"""How arrays are described in the index, in KEY.json and in corpus.json, and which of them a row has."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any, Final

import pyarrow as pa

from tonemill.audiotools.arrays import Array, npy_bytes
from tonemill.audiotools.codecs.encoding import Encoded
from tonemill.pipelines.recipes.recipe import PLAIN_NAME

ARRAY_BITS: Final = 32
"""Of a value; what the index has for an example without sound."""

PLACE_COLUMNS: Final = ("offset", "bytes", "sha256")
"""Columns of the index that say where a role or an array is, after its name."""

SHAPE_COLUMNS: Final = ("frames", "channels", "hop")
"""Columns of an array alone; one without a hop lacks the last."""


def encoded_array(array: Array) -> Encoded:
    """An array as the shelves take it."""
    data = npy_bytes(array)
    return Encoded(io.BytesIO(data), len(data), array.frames, 0.0)


def array_columns(arrays: Mapping[str, Array]) -> dict[str, int]:
    """The columns of the index for the shapes of arrays."""
    found: dict[str, int] = {}
    for name, array in sorted(arrays.items()):
        found |= {f"{name}_frames": array.frames, f"{name}_channels": array.channels}
        if array.hop is not None:
            found[f"{name}_hop"] = array.hop
    return found


def array_records(arrays: Mapping[str, Array]) -> dict[str, dict[str, int | None]]:
    """The entry of KEY.json for arrays, for a .npy file holds values alone."""
    return {
        name: {"channels": one.channels, "frames": one.frames, "hop": one.hop, "sample_rate": one.sample_rate}
        for name, one in sorted(arrays.items())
    }


def parts_of(row: Mapping[str, Any]) -> list[str]:
    """The roles of an example and then its arrays, each sorted: in the order of the members of a tar."""
    return [*roles_of(row), *arrays_of(row)]


def roles_of(row: Mapping[str, Any]) -> list[str]:
    """The roles that an example has."""
    return [name for name in _stored(row) if not _is_array(row, name)]


def arrays_of(row: Mapping[str, Any]) -> list[str]:
    """The arrays that an example has."""
    return [name for name in _stored(row) if _is_array(row, name)]


def _stored(row: Mapping[str, Any]) -> list[str]:
    return sorted(name.removesuffix("_sha256") for name, value in row.items() if name.endswith("_sha256") and value)


def _is_array(row: Mapping[str, Any], name: str) -> bool:
    return row.get(f"{name}_frames") is not None and row.get(f"{name}_channels") is not None


class ArrayCounts:
    """Of an index, the entry of a description for arrays.

    Args:
        names: of the arrays.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._examples = dict.fromkeys(sorted(names), 0)
        # In the order in which they occur.
        self._values: dict[tuple[str, str], dict[Any, None]] = {}

    def add(self, index: pa.Table) -> None:
        """Enter rows."""
        for name in self._examples:
            has = index.filter(index[f"{name}_sha256"].is_valid())
            self._examples[name] += has.num_rows
            for what in ("channels", "hop"):
                column, values = f"{name}_{what}", self._values.setdefault((name, what), {})
                values.update(dict.fromkeys(has[column].unique().to_pylist() if column in has.column_names else [None]))

    def described(self) -> dict[str, dict[str, Any]]:
        """Channels and hop of each array, which are lists where they differ, and how many examples have it."""
        found = {}
        for name, examples in self._examples.items():
            facts: dict[str, Any] = {"examples": examples}
            for what in ("channels", "hop"):
                values = list(self._values.get((name, what), ()))
                facts[what] = values[0] if len(values) == 1 else sorted(values, key=lambda one: one or 0)
            found[name] = facts
        return found


def is_description_of_arrays(record: Any) -> bool:
    """Whether an entry of a description has the form that `described` gives it."""
    return isinstance(record, dict) and all(
        PLAIN_NAME.fullmatch(name)
        and isinstance(one, dict)
        and type(one.get("examples")) is int
        and (_is_size(one.get("channels")) or isinstance(one.get("channels"), list))
        and "hop" in one
        and (_is_size(one["hop"]) or isinstance(one["hop"], list | None))
        for name, one in record.items()
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31
