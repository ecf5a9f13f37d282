"""Which fields are columns of an index, and what becomes of values of different kinds in one column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS, fits_a_column, index_table
from tonemill.pipelines.corpus.whole_tables import WholeTables
from tonemill.pipelines.storage.output_names import INDEX


@pytest.mark.parametrize(
    ("value", "alone", "given"),
    [
        *((one, True, True) for one in ("kick", 3, 0.5, True)),
        (["kick", "808"], False, True),
        ([], False, True),
        ([0.1, None], False, True),
        *((one, False, False) for one in (None, {"x": 1}, [[1]], [{"x": 1}])),
    ],
)
def test_values_are_columns_and_lists_that_came_with_the_source(value: Any, alone: bool, given: bool) -> None:
    """An embedding, which a step makes, would be hundreds of numbers in each row."""
    assert fits_a_column(value, may_be_list=False) is alone
    assert fits_a_column(value, may_be_list=True) is given


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["a"], None, []], [["a"], None, []]),
        ([[1], [2.5]], [[1.0], [2.5]]),
        ([["a"], "b"], ['["a"]', "b"]),
        ([["é", 1], None], ['["é", 1]', None]),
        ([1, "x"], ["1", "x"]),
    ],
)
def test_one_column_has_one_kind(values: list[Any], expected: list[Any], tmp_path: Path) -> None:
    rows = [{"field": value} for value in values]
    assert index_table(rows)["field"].to_pylist() == expected
    # As well where each is in the table of a shard of its own.
    pairs = [(index_table([row]), REJECT_COLUMNS.empty_table()) for row in rows]
    (whole,) = (group for name, group in WholeTables(tmp_path, len(pairs), pairs.__getitem__).groups() if name == INDEX)
    assert whole["field"].to_pylist() == expected
