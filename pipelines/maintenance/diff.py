"""Say what differs between two corpora, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.array_columns import arrays_of, parts_of
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import read_whole
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.maintenance.compared_rows import ComparedRows, places_in
from tonemill.pipelines.maintenance.trace import against, stored
from tonemill.pipelines.planning.plan import Plan, Planned
from tonemill.pipelines.recipes.differences import differences, of_values
from tonemill.pipelines.storage.parquet import read_batches
from tonemill.pipelines.storage.paths import mapped

MOST_NAMED: Final = 20
"""So many are named of each kind of difference; all are counted."""


@dataclass
class Side:
    """One of the two.

    Args:
        output: as named.
        plan: with its rows.
        sources: split and recipe by key.
        examples: keys and digests of the rows of the index.
        rejects: reasons by key of the source.
        sidecars: by shard.
    """

    output: OutputFolder
    plan: Plan
    sources: dict[str, tuple[str, Planned]]
    examples: ComparedRows
    rejects: dict[str, str]
    sidecars: dict[str, dict[str, Any]]

    def environment(self, shard: str) -> dict[str, str]:
        return dict(self.sidecars[shard]["environment"])


@dataclass
class Several:
    """Things of one kind: all counted, some named."""

    count: int = 0
    named: list[Any] = field(default_factory=list)

    def add(self, one: Any) -> None:
        self.count += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(one)


@dataclass
class Difference:
    """What differs.

    Args:
        output: container and bits.
        splitting: flags that deal sources to splits.
        only_in_a: paths of sources.
        only_in_b: likewise.
        moved: sources in another split.
        recipes: sources whose recipes differ.
        changes: how often each difference between recipes occurs.
        examples_only_in_a: keys, of sources that are in both.
        examples_only_in_b: likewise.
        sounds: examples with other samples: key, difference in dB of full scale, and why.
        encodings: examples with other bytes and the same samples.
        undecoded: examples with other bytes that were not decoded.
        refused: sources refused in one of them, or for another reason.
        versions: of what made those examples whose recipes are the same and whose sound is not.
    """

    output: list[str] = field(default_factory=list)
    splitting: list[str] = field(default_factory=list)
    only_in_a: Several = field(default_factory=Several)
    only_in_b: Several = field(default_factory=Several)
    moved: Several = field(default_factory=Several)
    recipes: Several = field(default_factory=Several)
    changes: Counter[str] = field(default_factory=Counter)
    examples_only_in_a: Several = field(default_factory=Several)
    examples_only_in_b: Several = field(default_factory=Several)
    sounds: Several = field(default_factory=Several)
    encodings: Several = field(default_factory=Several)
    undecoded: Several = field(default_factory=Several)
    refused: Several = field(default_factory=Several)
    versions: Counter[str] = field(default_factory=Counter)
    loudest_db: float | None = None
    examples: int = 0

    @property
    def same(self) -> bool:
        """Whether both hold the same examples, made by the same recipes, in the same splits."""
        counts = [one.count for one in vars(self).values() if isinstance(one, Several)]
        return not any([*counts, self.output, self.splitting])

    def to_json(self) -> dict[str, Any]:
        plain = {name: vars(one) if isinstance(one, Several) else one for name, one in vars(self).items()}
        return {"same": self.same, **plain}


def open_side(folder: Path) -> Side:
    """Read what a comparison needs of a corpus or a folder of files.

    Raises:
        UsageError: tonemill made no such folder.
        CorpusError: it is unfinished or damaged.
    """
    output = OutputFolder.open(folder)
    folder, plan = output.folder, read_whole(output.plan)
    try:
        examples = ComparedRows(output.index)
        rejects = {
            row["key"]: f"{row['reason']} in {row['step']}"
            for batch in read_batches(output.rejects)
            for row in batch.to_pylist()
            if row["clip"] is None
        }
    except CorpusError as error:
        raise CorpusError(
            f"{folder} is unfinished or damaged: `tonemill verify {folder}` lists what is wrong."
        ) from error
    names = [shard.name for shard in plan.shards]
    sidecars = dict(zip(names, mapped(folder, lambda name: output.shard(name).read_sidecar(), names), strict=True))
    missing = [name for name, one in sidecars.items() if one is None]
    if missing:
        raise CorpusError(
            f"{folder}: {missing[0]} is unfinished or damaged. `tonemill verify {folder}` lists what is wrong."
        )
    return Side(
        output,
        plan,
        {row.key: (shard.split, row) for shard, rows in zip(plan.shards, plan.rows, strict=True) for row in rows},
        examples,
        rejects,
        {name: one for name, one in sidecars.items() if one is not None},
    )


def compare(a: Side, b: Side, decode: int) -> Difference:
    """What differs between two corpora; sources are the same where their keys are.

    Args:
        a: the one.
        b: the other.
        decode: of so many examples whose bytes differ, hold the samples against each other.

    Raises:
        CorpusError: a stored example is damaged.
    """
    found = Difference()
    found.output = _of_records(a.plan.output.to_json(), b.plan.output.to_json())
    found.splitting = _of_records(asdict(a.plan.splitting), asdict(b.plan.splitting))
    _sources(a, b, found)
    _examples(a, b, found, decode)
    return found


def _of_records(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [one for name in a for one in of_values(name, a[name], b[name])]


def _sources(a: Side, b: Side, found: Difference) -> None:
    for key in _in_either(a.sources, b.sources):
        one, other = a.sources.get(key), b.sources.get(key)
        if one is None or other is None:
            here, several = (b, found.only_in_b) if one is None else (a, found.only_in_a)
            several.add(here.sources[key][1].recipe.path)
            continue
        line, refused = one[1].line, (a.rejects.get(key), b.rejects.get(key))
        if one[0] == other[0] and line == other[1].line and refused[0] == refused[1]:
            # Most are the same; a million of them are not parsed.
            continue
        path = one[1].recipe.path
        if one[0] != other[0]:
            found.moved.add({"source": path, "a": one[0], "b": other[0]})
        if line != other[1].line and (changes := differences(one[1].recipe, other[1].recipe)):
            found.recipes.add({"source": path, "changes": changes})
            # Another content differs from source to source; that it does is one kind of change.
            found.changes.update({change.partition(" (")[0] for change in changes})
        if refused[0] != refused[1]:
            found.refused.add({"source": path, "a": refused[0], "b": refused[1]})


def _examples(a: Side, b: Side, found: Difference, decode: int) -> None:
    mine, theirs = a.examples.keys, b.examples.keys
    in_b = places_in(mine, theirs)
    for several, only in (
        (found.examples_only_in_a, mine.filter(pc.is_null(in_b))),
        (found.examples_only_in_b, theirs.filter(pc.is_null(places_in(theirs, mine)))),
    ):
        for key in only.take(pc.sort_indices(only)).to_pylist():
            if source_key(key) in a.sources and source_key(key) in b.sources:
                several.add(key)
    here = np.flatnonzero(np.asarray(pc.is_valid(in_b)))
    there = np.asarray(in_b.drop_null())
    found.examples = len(here)
    if not len(here):
        return
    other_bytes = a.examples.differ(here, b.examples, there)
    here, there = here[other_bytes], there[other_bytes]
    order = np.asarray(pc.sort_indices(mine.take(here)))
    pairs = zip(a.examples.rows(here[order]), b.examples.rows(there[order]), strict=True)
    for one, other in pairs:
        key = one["key"]
        roles = sorted({*parts_of(one), *parts_of(other)})
        differ = [role for role in roles if one.get(f"{role}_sha256") != other.get(f"{role}_sha256")]
        if not differ:
            continue
        why = _why(a, b, one, other, found)
        if decode <= 0:
            found.undecoded.add({"key": key, "why": why})
            continue
        decode -= 1
        worst: float | None = None
        same = True
        for role in differ:
            if role not in parts_of(one) or role not in parts_of(other):
                same = False
                continue
            first = stored(a.output, a.sidecars[one["shard"]], one, role)
            held = against(stored(b.output, b.sidecars[other["shard"]], other, role), first, role in arrays_of(one))
            same &= held.same_samples
            worst = max((value for value in (worst, held.difference_db) if value is not None), default=None)
        if same:
            found.encodings.add({"key": key, "why": why})
        else:
            found.sounds.add({"key": key, "source": one["source"], "difference_db": worst, "why": why})
            found.loudest_db = max((v for v in (found.loudest_db, worst) if v is not None), default=None)


def _why(a: Side, b: Side, one: Mapping[str, Any], other: Mapping[str, Any], found: Difference) -> str:
    """Why an example's bytes differ: the first reason that there is."""
    key = source_key(one["key"])
    mine, theirs = a.sources.get(key), b.sources.get(key)
    if mine is not None and theirs is not None and (changes := differences(mine[1].recipe, theirs[1].recipe)):
        return "; ".join(changes)
    if found.output:
        return "; ".join(found.output)
    then, now = a.environment(one["shard"]), b.environment(other["shard"])
    # Sidecars of before name torch also where nothing was rendered.
    both = then.keys() & now.keys()
    versions = _of_records(*({name: side[name] for name in side if name in both} for side in (then, now)))
    found.versions.update(versions)
    return "; ".join(versions) or "nothing that is recorded; `tonemill verify` shows whether a folder is damaged"


def _in_either(a: Iterable[str], b: Iterable[str]) -> list[str]:
    return sorted({*a, *b})
