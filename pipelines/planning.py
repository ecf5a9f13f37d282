"""Make a plan of recipes: their order, their keys, their split, and how they are grouped into shards."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple, TypeVar

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.naming import file_names
from tonemill.pipelines.plan import SPLITS, Output, Plan, Planned, Shard, Splitting, digest_of
from tonemill.pipelines.recipe import Recipe
from tonemill.pipelines.splitting import Groups, Place
from tonemill.pipelines.step import Estimate, load_steps

T = TypeVar("T")


def make_plan(
    recipes: Iterable[Recipe],
    output: Output,
    splitting: Splitting,
    shard_seconds: float,
    may_lack_splits: bool = False,
) -> Plan:
    """Sort recipes by key, deal them to splits, and group them into shards of about equal expected seconds.

    The order is that of digests of paths: the same for any order of recipes, and each shard is a mixture.

    Raises:
        UsageError: a step cannot be made, or the group is no field of a recipe.
        CorpusError: there are no recipes, a wished split came out empty, or a choice cuts a group in two.
    """
    by_path: dict[str, list[_Row]] = defaultdict(list)
    groups = Groups(splitting)
    for recipe in recipes:
        place, digest = groups.enter(recipe), digest_of(recipe.canonical())
        by_path[recipe.path].append(_Row(digest, recipe.to_line(), place, expected(recipe)))
    if not by_path:
        raise CorpusError("The stream holds no recipes, so there is nothing to make.")
    keyed = {
        key_of(path, occurrence): (path, row)
        for path, same in by_path.items()
        for occurrence, row in enumerate(sorted(same))
    }
    names = file_names({key: path for key, (path, _) in keyed.items()})
    dealt: dict[str, list[tuple[str, _Row]]] = {split: [] for split in SPLITS}
    for key in sorted(keyed):
        dealt[groups.split_of(keyed[key][1].place)].append((key, keyed[key][1]))
    if not may_lack_splits:
        _refuse_empty_splits(dealt, splitting)
    shards, rows = [], []
    for split in SPLITS:
        seconds = [((key, row), row.expected.seconds) for key, row in dealt[split]]
        for number, part in enumerate(grouped(seconds, shard_seconds)):
            planned = tuple(
                Planned(position, key, names[key], row.expected.clips, row.expected.seconds, row.line)
                for position, (key, row) in enumerate(part)
            )
            shards.append(_shard(f"{split}/{number:06d}", output, [row for _, row in part], planned))
            rows.append(planned)
    return Plan(output, tuple(shards), tuple(rows), splitting)


class _Row(NamedTuple):
    """What is kept of a recipe while the plan is made; rows of one path are ordered by digest."""

    digest: str
    line: str
    place: Place
    expected: Estimate


def _shard(name: str, output: Output, part: Sequence[_Row], planned: tuple[Planned, ...]) -> Shard:
    return Shard(
        name,
        shard_digest(output, planned, [row.digest for row in part]),
        len(planned),
        sum(row.clips for row in planned),
        sum(row.seconds for row in planned),
        sum(_expected_bytes(row.expected, output) for row in part),
    )


def shard_digest(output: Output, planned: Sequence[Planned], digests: Sequence[str]) -> str:
    """The digest of a shard.

    Args:
        output: what cooking it leaves.
        planned: its recipes, in order.
        digests: of their canonical texts.
    """
    # A file's name depends on what else is in the plan; a member's of a tar does not.
    named = output.kind == "files"
    lines = [f"{row.key} {digest} {row.name if named else ''}" for row, digest in zip(planned, digests, strict=True)]
    return digest_of("\n".join([json.dumps(asdict(output)), *lines]))


NOWHERE: Final = Place("", None, False, "")
"""Of a recipe that was dealt long ago."""


def shard_of(name: str, output: Output, planned: Sequence[Planned]) -> Shard:
    """A shard of recipes that another plan holds already; their positions are made to fit by the caller."""
    rows = [_Row(digest_of(row.recipe.canonical()), row.line, NOWHERE, expected(row.recipe)) for row in planned]
    return _shard(name, output, rows, tuple(planned))


def expected(recipe: Recipe) -> Estimate:
    """What will come of a recipe, from its headers and its steps; nothing for a source without a header."""
    headers = [source for source in recipe.sources.values() if source.get("sample_rate")]
    if recipe.sources and not headers:
        return Estimate(0, 0, 1, 1)
    rate = int(headers[0]["sample_rate"]) if headers else 1
    whole = min((int(source.get("frames") or 0) for source in headers), default=0)
    frames = max(0, whole - recipe.start)
    frames = frames if recipe.frames is None else min(frames, recipe.frames)
    estimate = Estimate(1, frames, rate, int(headers[0].get("channels", 1)) if headers else 1)
    for step in load_steps(recipe.steps):
        estimate = step.estimate(estimate)
    return estimate


def _refuse_empty_splits(dealt: Mapping[str, list[Any]], splitting: Splitting) -> None:
    wished = {
        "train": splitting.valid + splitting.test < 1,
        "valid": splitting.valid > 0 or splitting.valid_where is not None,
        "test": splitting.test > 0,
    }
    for split, wish in wished.items():
        if wish and not dealt[split]:
            counts = ", ".join(f"{len(rows)} {name}" for name, rows in dealt.items())
            raise CorpusError(
                f"The {split} split came out empty ({counts} recipes): there are too few groups for such shares. "
                "Raise the share, choose by --valid-where, deal by another --group, or try another --split-seed."
            )


def grouped(rows: Sequence[tuple[T, float]], shard_seconds: float) -> list[list[T]]:
    """Cut a list of things and their seconds into runs of nearly equal length, each of about `shard_seconds`."""
    total = sum(seconds for _, seconds in rows)
    count = max(1, min(len(rows), math.ceil(total / shard_seconds)))
    target = total / count
    runs: list[list[T]] = [[]]
    so_far = 0.0
    for thing, seconds in rows:
        if runs[-1] and len(runs) < count and so_far + seconds / 2 > target * len(runs):
            runs.append([])
        runs[-1].append(thing)
        so_far += seconds
    return [run for run in runs if run]


def _expected_bytes(estimate: Estimate, output: Output) -> int:
    # Of one-minute recordings and drum loops, FLAC left 50 to 75 % and Vorbis about 8 %.
    kept = {"flac": 0.65, "ogg": 0.08}.get(output.container, 1.0)
    samples = estimate.clips * estimate.frames * estimate.channels
    return round(samples * (output.bits or 16) / 8 * kept)


def key_of(path: str, occurrence: int) -> str:
    """The key of a source: of its path, and which one of those with that path it is."""
    return digest_of(f"{path}\0{occurrence}")[:16]
