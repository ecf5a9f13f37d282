"""Say what differs between two corpora, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.array_columns import arrays_of, parts_of
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.maintenance.compared_rows import ComparedRows, places_in
from tonemill.pipelines.maintenance.compared_sources import ComparedSources, Numbers, numbers_of
from tonemill.pipelines.maintenance.trace import against, stored
from tonemill.pipelines.planning.plan import Plan
from tonemill.pipelines.recipes.differences import differences, of_values
from tonemill.pipelines.recipes.recipe import SPLITS
from tonemill.pipelines.storage.paths import mapped

MOST_NAMED: Final = 20
"""So many are named of each kind of difference; all are counted."""


@dataclass
class Side:
    """One of the two.

    Args:
        output: as named.
        plan: without its rows.
        sources: keys, splits and digests of the recipes.
        refused: for each source why it was, as `ComparedSources.refusals` gives it.
        examples: keys and digests of the rows of the index.
        environments: what made each shard, by its name.
    """

    output: OutputFolder
    plan: Plan
    sources: ComparedSources
    refused: NDArray[np.object_]
    examples: ComparedRows
    environments: dict[str, dict[str, str]]

    def stored(self, row: Mapping[str, Any], role: str) -> bytes:
        """The encoded audio of an example, by its row of the index; errors as of `trace.stored`."""
        sidecar = self.output.shard(row["shard"]).read_sidecar()
        if sidecar is None:
            raise _unfinished(self.output.folder, row["shard"])
        return stored(self.output, sidecar, row, role)


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
    folder, file = output.folder, PlanFile(output.plan)
    sources = ComparedSources(file)
    try:
        examples = ComparedRows(output.index)
        refused = sources.refusals(output.rejects)
    except CorpusError as error:
        raise CorpusError(
            f"{folder} is unfinished or damaged: `tonemill verify {folder}` lists what is wrong."
        ) from error
    known: dict[str, dict[str, str]] = {}

    def environment(name: str) -> dict[str, str] | None:
        """Equal ones are one object, for there may be a shard for every ten sources."""
        sidecar = output.shard(name).read_sidecar()
        made = None if sidecar is None else sidecar["environment"]
        return made and known.setdefault(json.dumps(made), made)

    environments = {}
    names = [shard.name for shard in file.plan.shards]
    for name, made in zip(names, mapped(folder, environment, names), strict=True):
        if made is None:
            raise _unfinished(folder, name)
        environments[name] = made
    return Side(output, file.plan, sources, refused, examples, environments)


def _unfinished(folder: Path, shard: str) -> CorpusError:
    return CorpusError(f"{folder}: {shard} is unfinished or damaged. `tonemill verify {folder}` lists what is wrong.")


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
    _examples(a, b, found, decode, _sources(a, b, found))
    return found


def _of_records(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [one for name in a for one in of_values(name, a[name], b[name])]


def _sources(a: Side, b: Side, found: Difference) -> tuple[Numbers, Numbers]:
    """Compare the sources; returns the numbers in both of those whose recipes have other lines, in order of keys."""
    mine, theirs = a.sources, b.sources
    _, here, there = np.intersect1d(mine.keys, theirs.keys, assume_unique=True, return_indices=True)
    for several, side, places in ((found.only_in_a, mine, here), (found.only_in_b, theirs, there)):
        only = np.delete(np.arange(len(side.keys)), places)
        several.count = len(only)
        several.named = [recipe.path for recipe in side.recipes(only[:MOST_NAMED])]
    splits, why = (mine.splits[here], theirs.splits[there]), (a.refused[here], b.refused[there])
    is_other = (mine.digests[here] != theirs.digests[there]).any(1)
    # Most are the same; a million of them are not parsed.
    places = np.flatnonzero(is_other | (splits[0] != splits[1]) | (why[0] != why[1]))
    recipes = mine.recipes(here[places]), theirs.recipes(there[places])
    for place, one, other in zip(places.tolist(), *recipes, strict=True):
        split, refused = (splits[0][place], splits[1][place]), (why[0][place], why[1][place])
        if split[0] != split[1]:
            found.moved.add({"source": one.path, "a": SPLITS[split[0]], "b": SPLITS[split[1]]})
        if is_other[place] and (changes := differences(one, other)):
            found.recipes.add({"source": one.path, "changes": changes})
            # Another content differs from source to source; that it does is one kind of change.
            found.changes.update({change.partition(" (")[0] for change in changes})
        if refused[0] != refused[1]:
            found.refused.add({"source": one.path, "a": refused[0], "b": refused[1]})
    return here[is_other], there[is_other]


def _sources_of(keys: pa.Array) -> NDArray[np.uint64]:
    """The keys of the sources of examples, by the examples' keys."""
    return numbers_of(pc.replace_substring_regex(keys, "-[^-]*$", ""))


def _examples(a: Side, b: Side, found: Difference, decode: int, changed: tuple[Numbers, Numbers]) -> None:
    mine, theirs = a.examples.keys, b.examples.keys
    in_b = places_in(mine, theirs)
    for several, only in (
        (found.examples_only_in_a, mine.filter(pc.is_null(in_b))),
        (found.examples_only_in_b, theirs.filter(pc.is_null(places_in(theirs, mine)))),
    ):
        sources = _sources_of(only)
        keys = only.filter(pa.array(np.isin(sources, a.sources.keys) & np.isin(sources, b.sources.keys)))
        several.count = len(keys)
        several.named = keys.take(pc.sort_indices(keys)[:MOST_NAMED]).to_pylist()
    here = np.flatnonzero(np.asarray(pc.is_valid(in_b)))
    there = np.asarray(in_b.drop_null())
    found.examples = len(here)
    if not len(here):
        return
    other_bytes = a.examples.differ(here, b.examples, there)
    here, there = here[other_bytes], there[other_bytes]
    order = np.asarray(pc.sort_indices(mine.take(here)))
    here, there = here[order], there[order]
    changes = _changes(a, b, changed, _sources_of(mine.take(here)))
    for one, other, change in zip(a.examples.rows(here), b.examples.rows(there), changes, strict=True):
        key = one["key"]
        roles = sorted({*parts_of(one), *parts_of(other)})
        differ = [role for role in roles if one.get(f"{role}_sha256") != other.get(f"{role}_sha256")]
        if not differ:
            continue
        why = change or _why(a.environments[one["shard"]], b.environments[other["shard"]], found)
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
            first = a.stored(one, role)
            held = against(b.stored(other, role), first, role in arrays_of(one))
            same &= held.same_samples
            worst = max((value for value in (worst, held.difference_db) if value is not None), default=None)
        if same:
            found.encodings.add({"key": key, "why": why})
        else:
            found.sounds.add({"key": key, "source": one["source"], "difference_db": worst, "why": why})
            found.loudest_db = max((v for v in (found.loudest_db, worst) if v is not None), default=None)


def _changes(a: Side, b: Side, changed: tuple[Numbers, Numbers], keys: NDArray[np.uint64]) -> Iterator[str]:
    """For each of some examples, how the recipes of its source differ; empty where they do not.

    Args:
        a: the one.
        b: the other.
        changed: numbers in both of sources whose recipes have other lines, in order of keys.
        keys: of the examples' sources, in order.
    """
    wanted = np.isin(a.sources.keys[changed[0]], keys)
    recipes = zip(a.sources.recipes(changed[0][wanted]), b.sources.recipes(changed[1][wanted]), strict=True)
    is_changed = np.isin(keys, a.sources.keys[changed[0]])
    for (_, has_changed), some in groupby(zip(keys.tolist(), is_changed.tolist(), strict=True)):
        words = "; ".join(differences(*next(recipes))) if has_changed else ""
        yield from (words for _ in some)


def _why(then: Mapping[str, str], now: Mapping[str, str], found: Difference) -> str:
    """Why an example's bytes differ although its recipe is the same, by what made both: the first reason there is."""
    if found.output:
        return "; ".join(found.output)
    # Sidecars of before name torch also where nothing was rendered.
    both = then.keys() & now.keys()
    versions = _of_records(*({name: side[name] for name in side if name in both} for side in (then, now)))
    found.versions.update(versions)
    return "; ".join(versions) or "nothing that is recorded; `tonemill verify` shows whether a folder is damaged"
