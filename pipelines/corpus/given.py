"""Tell which fields the recipes of a plan hold, without parsing every recipe of a million."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage.parquet import read_row_groups

MOST_TRIED: Final = 8
"""Recipes of a shard that hold a name elsewhere than in their fields, before the rest is parsed one by one."""

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def given_fields(plan_file: Path, names: Iterable[str]) -> set[str]:
    """Those of some names that any recipe of a plan has among its fields.

    Args:
        plan_file: of a corpus or a folder of files.
        names: none of them costs nothing; names that every recipe has cost the first shard.

    Raises:
        CorpusError: the plan is missing or damaged.
    """
    missing, found = set(names), set[str]()
    if not missing:
        return found
    for table in read_row_groups(plan_file, lambda column: column == "recipe"):
        try:
            new = {name for name in missing if _gives(table["recipe"], name)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
            raise CorpusError(f"{plan_file} is damaged: {error}.") from error
        found |= new
        missing -= new
        if not missing:
            break
    return found


def _gives(texts: Any, name: str) -> bool:
    """Whether a recipe has a field; a text that does not hold the name as JSON spells it is not parsed."""
    spelt = json.dumps(name, ensure_ascii=False)
    holds = pc.match_substring(texts, spelt)
    if not spelt.isascii():
        holds = pc.or_(holds, pc.match_substring(texts, json.dumps(name)))
    rows = texts.filter(holds)
    for _ in range(MOST_TRIED):
        if not len(rows):
            return False
        record = json.loads(rows[0].as_py())
        if name in record.get("fields", {}):
            return True
        # A parameter of a step may have that name. Texts that hold the same steps and no other mention need no look.
        steps = _compact(record.get("steps", []))
        known = pc.and_(pc.match_substring(rows, steps), pc.equal(pc.count_substring(rows, spelt), steps.count(spelt)))
        rows = rows.slice(1).filter(pc.invert(known.slice(1)))
    return any(name in json.loads(text).get("fields", {}) for text in rows.to_pylist())
