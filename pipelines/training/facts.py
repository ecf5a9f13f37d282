"""What a model asks of a corpus before training: roles, rate, channels, labels, and which numbers were given.

`given_fields` finds the given numbers without parsing every recipe of a million.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tonemill.audiotools.errors import CorpusError
from tonemill.models.directions import as_number
from tonemill.models.exchange import ArrayFacts, CorpusFacts, Range
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of, is_field
from tonemill.pipelines.corpus.plan_file import PlanFile

MOST_VALUES: Final = 10_000
"""A field with more distinct values than this is no label."""

MOST_TRIED: Final = 8
"""Recipes of a shard that hold a name elsewhere than in their fields, before the rest is parsed one by one."""

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def facts_of(corpus: Corpus) -> CorpusFacts:
    """What a model asks before training.

    Raises:
        CorpusError: the examples differ in rate or channels, or arrays of one name in channels or hop, which no model
            can read in one batch.
    """
    for what, flag in (("sample_rate", "--rate 44100"), ("channels", "--rate 44100 --channels mono")):
        if corpus.about[what] is None:
            raise CorpusError(
                f"{corpus.name} holds examples of different {what.replace('_', ' ')}, and a model reads only one. "
                f"Rebuild it with `tonemill scan ... | tonemill resample {flag} | tonemill shard {corpus.name} "
                "--overwrite`."
            )
    arrays = {name: _array_facts(corpus, name) for name, one in corpus.arrays.items() if _all_have(corpus, one)}
    table, roles, values, texts = corpus.index(("source", *corpus.fields())), tuple(corpus.about["roles"]), {}, {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if is_field(name, roles, corpus.arrays) and (
            pa.types.is_string(column.type) or pa.types.is_integer(column.type)
        ):
            distinct = column.unique().drop_null()
            if len(distinct) <= MOST_VALUES:
                values[name] = tuple(sorted(map(str, distinct.to_pylist())))
            if pa.types.is_string(column.type):
                # Compared with a text, it would import pandas where that is installed.
                texts[name] = len(column) - (pc.sum(pc.binary_length(column).cast(pa.bool_())).as_py() or 0)
    folders = {folder_of(source) for source in table["source"].unique().to_pylist()}
    if len(folders) <= MOST_VALUES:
        values.setdefault(FOLDER, tuple(sorted(folders)))
    rate, channels = corpus.about["sample_rate"], corpus.about["channels"]
    numbers, examples = _numbers(corpus, table), corpus.about["examples"]
    given_names = given_fields(corpus.output.plan, numbers)
    given = {name: range_ for name, range_ in numbers.items() if name in given_names}
    return CorpusFacts(
        corpus.name,
        roles,
        rate,
        channels,
        values,
        given,
        arrays,
        texts=texts,
        examples=examples,
        numbers=numbers,
        spelt={name: range_ for name in texts if (range_ := _spelt(table[name], texts[name])) is not None},
    )


def _all_have(corpus: Corpus, array: Mapping[str, Any]) -> bool:
    return bool(array["examples"] == corpus.about["examples"])


def _array_facts(corpus: Corpus, name: str) -> ArrayFacts:
    facts = corpus.arrays[name]
    for what in ("channels", "hop"):
        if isinstance(facts[what], list):
            raise CorpusError(
                f"{corpus.name} holds arrays {name} of different {what}: {' and '.join(map(str, facts[what]))}. "
                "Make it again from arrays that one model encoded."
            )
    return ArrayFacts(facts["channels"], facts["hop"])


def _numbers(corpus: Corpus, table: pa.Table) -> dict[str, Range]:
    """The range of each numeric field in the index."""
    found = {}
    for name in sorted(table.column_names):
        kind = table.schema.field(name).type
        wanted = is_field(name, corpus.about["roles"], corpus.arrays)
        if wanted and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            about = pc.min_max(table[name])
            if about["min"].is_valid:
                low, high = float(about["min"].as_py()), float(about["max"].as_py())
                found[name] = Range(low, high, table[name].null_count)
    return found


def _spelt(column: pa.ChunkedArray, missing: int) -> Range | None:
    """The range of texts that all write a finite number; None where one does not, or all are empty."""
    low, high = math.inf, -math.inf
    for text in column.unique().to_pylist():
        number = as_number(text) if text else None
        if isinstance(number, str) or (number is not None and not math.isfinite(number)):
            return None
        low, high = (low, high) if number is None else (min(low, number), max(high, number))
    return Range(low, high, missing) if low <= high else None


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
    for table in PlanFile(plan_file).batches(("recipe",)):
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
