"""Columns made from lists are those that pyarrow makes, and cost no import of pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonemill.pipelines.storage.columns import column, table_of_rows

WHOLE = st.integers(-(1 << 64), 1 << 64)
LISTS = st.one_of(
    *(
        st.lists(st.one_of(st.none(), one), max_size=20)
        for one in (st.text(), st.booleans(), WHOLE, st.floats(), st.one_of(WHOLE, st.floats()), st.lists(st.text()))
    ),
    st.lists(st.one_of(st.none(), st.text(), st.booleans(), WHOLE, st.floats()), max_size=4),
)
KINDS = st.sampled_from([None, pa.string(), pa.bool_(), pa.int32(), pa.int64(), pa.float64(), pa.float32()])
REFUSED = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)


def made(make: Any, values: list[Any], kind: pa.DataType | None) -> Any:
    """A column, or None where it is refused."""
    try:
        return make(values, kind)
    except REFUSED:
        return None


@given(LISTS, KINDS)
def test_a_column_is_what_pyarrow_makes(values: list[Any], kind: pa.DataType | None) -> None:
    ours, theirs = made(column, values, kind), made(pa.array, values, kind)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        ours.validate(full=True)
        assert ours.type == theirs.type
        # By text, for no NaN equals another.
        assert repr(ours.to_pylist()) == repr(theirs.to_pylist())


@pytest.mark.parametrize("rows", [[], [{"a": "x", "b": None}, {"b": 2}]])
def test_a_table_is_what_pyarrow_makes(rows: list[dict[str, Any]]) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int32())], {"about": "it"})
    found = table_of_rows(rows, schema)
    assert found.equals(pa.Table.from_pylist(rows, schema), check_metadata=True)


def test_the_tables_of_a_shard_are_made_without_pandas() -> None:
    program = (
        "import sys; from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS, index_table\n"
        "from tonemill.pipelines.storage.columns import table_of_rows\n"
        "index_table([{'key': 'a', 'seconds': 1.5, 'clip': 0, 'peak_db': None, 'live': True}, {'bpm': 1}])\n"
        "table_of_rows([{'source': 'a', 'clip': 3}], REJECT_COLUMNS)\n"
        "print('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"
