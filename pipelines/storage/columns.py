"""Columns of Arrow from lists of Python's values, without pandas.

`pyarrow.array` of a list imports pandas where that is installed, to look whether the list is one of its objects: 0.2 s
of processor time in every worker process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import pyarrow as pa

_INFERRED: Final = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
}
"""Types of values as `pyarrow.array` infers them."""

_FITTING: Final[dict[pa.DataType, set[type]]] = {
    pa.bool_(): {bool},
    pa.int32(): {int},
    pa.int64(): {int},
    pa.float64(): {int, float},
    pa.string(): {str},
}
_NUMBERS: Final = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float64(): np.float64}

_EXACT: Final = 1 << 53
"""Above it a float does not hold every whole number, and `pyarrow.array` refuses to convert one."""

_MOST_TEXT: Final = (1 << 31) - 1
"""Bytes of text in one array, whose offsets have 32 bits."""


def column(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array | pa.ChunkedArray:
    """As `pyarrow.array`.

    Args:
        values: None is a missing one.
        kind: of the column; inferred if it is not given.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError, OverflowError: the values are of several kinds, or do not fit.
    """
    types = {type(value) for value in values} - {type(None)}
    if not types:
        return pa.nulls(len(values), kind or pa.null())
    if kind is None:
        kind = _INFERRED.get(frozenset(types))
    if types <= _FITTING.get(kind, set()):
        buffers = _buffers(values, kind, types)
        if buffers is not None:
            is_there = np.array([value is not None for value in values])
            valid = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
            return pa.Array.from_buffers(kind, len(values), [valid, *map(pa.py_buffer, buffers)])
    return pa.array(values, kind)


def table_of_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """As `pyarrow.Table.from_pylist`."""
    columns = [column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _buffers(values: Sequence[Any], kind: pa.DataType, types: set[type]) -> list[Any] | None:
    """The buffers of a column behind its bitmap of missing values; None if `pyarrow.array` must decide."""
    if kind == pa.string():
        encoded = [b"" if value is None else value.encode() for value in values]
        text = b"".join(encoded)
        if len(text) > _MOST_TEXT:
            return None
        return [np.fromiter(accumulate(map(len, encoded), initial=0), np.int32, len(values) + 1), text]
    if kind == pa.bool_():
        return [np.packbits([bool(value) for value in values], bitorder="little")]
    if kind == pa.float64() and int in types and any(type(one) is int and abs(one) > _EXACT for one in values):
        return None
    return [np.array([0 if value is None else value for value in values], _NUMBERS[kind])]
