"""Make a plan of recipes: their order, their keys, their split, and how they are grouped into shards."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np

from tonemill.audiotools.codecs.encoding import LOSSY
from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.planning.dealing import Dealing
from tonemill.pipelines.planning.ends import are_too_few, parts_of
from tonemill.pipelines.planning.file_names import file_names, plain_name
from tonemill.pipelines.planning.plan import (
    SPLITS,
    Output,
    Plan,
    Planned,
    Rows,
    Shard,
    Splitting,
    digest_of,
)
from tonemill.pipelines.planning.splits import Groups
from tonemill.pipelines.planning.waiting import Waiting, keys_of
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import Estimate, load_steps

T = TypeVar("T")

Note = Callable[[Recipe, bytes, bytes, Estimate], None]
"""Takes a recipe, its packed line, the digest of its canonical text, and what will come of it."""

MOST_CUT: Final = 10_000
"""With more recordings than this, none is looked at for being too few."""


def make_plan(
    recipes: Iterable[Recipe],
    output: Output,
    splitting: Splitting,
    shard_seconds: float,
    may_lack_splits: bool = False,
    dealing: Dealing | None = None,
    shard_count: int | None = None,
    note: Note | None = None,
) -> Plan:
    """Sort recipes by key, deal them to splits, and group them into shards of about equal expected seconds.

    The order is that of digests of paths: the same for any order of recipes, and each shard is a mixture.

    Args:
        recipes: in any order.
        output: what to make.
        splitting: how recipes are dealt that have no split yet.
        shard_seconds: about so much sound in each shard.
        may_lack_splits: a wished split may come out empty.
        shard_count: so many shards in the split that has most sound, instead.
        dealing: which recipes have a split already; it counts what became of them. Without it the flags deal all.
        note: called with each recipe as it comes.

    Raises:
        UsageError: a step cannot be made, the group is no field of a recipe, or shares are wished and every recipe
            has a split.
        CorpusError: there are no recipes, a wished split came out empty, or a group would be cut in two.
    """
    dealing = dealing or Dealing()
    groups = Groups(splitting, dealing)
    waiting = Waiting()
    for recipe in recipes:
        digest, estimate = _digest(recipe), expected(recipe)
        place = groups.enter(recipe, digest.hex())
        packed = waiting.put(recipe, digest, estimate, groups.settled(place), place)
        if note is not None:
            note(recipe, packed, digest, estimate)
    if not dealing.beside:
        groups.require_known_names()
    if not len(waiting):
        raise CorpusError(
            "No recipe came through the pipe, so there is nothing to make: `tonemill scan FOLDER` lists the audio "
            "of a folder."
        )
    keys = keys_of(waiting)
    # Arrays: as lists, numbers of a million recipes would take as much memory as their packed lines.
    dealt = {split: array("Q") for split in SPLITS}
    for one in array("Q", np.argsort(keys)):
        split, origin = waiting.split(one), waiting.origin(one)
        if split is None or (groups.are_joined and not (dealing.keeps and origin is not None)):
            place = waiting.places.get(one) or groups.enter(waiting.recipe(one), waiting.digest(one).hex())
            split = groups.split_of(place)
        dealing.enter(origin, split, waiting.digest(one).hex())
        dealt[split].append(one)
    lacking = any(getattr(splitting, split) > 0 and not dealt[split] for split in ("valid", "test"))
    if splitting.ends or (dealing.may_cut and (lacking or not dealt["train"]) and not may_lack_splits):
        cut = _ends_held_out(waiting, dealt, splitting)
        if cut is not None:
            waiting, splitting = cut, replace(splitting, ends=True)
            keys = keys_of(waiting)
            ordered = array("Q", np.argsort(keys))
            dealt = {split: array("Q", (one for one in ordered if waiting.split(one) == split)) for split in SPLITS}
    # Names of files depend on all that is there; a tar has none, and a plan of millions cannot afford them.
    paths = {f"{keys[one]:016x}": waiting.path(one) for one in range(len(waiting))} if output.kind == "files" else {}
    names = file_names(paths)
    if not may_lack_splits and (dealing.ruled or not dealing.keeps):
        _refuse_empty_splits(dealt, splitting, any_kept=dealing.keeps and bool(dealing.kept))
    elif dealing.typed and not may_lack_splits and dealing.there < sum(map(len, dealt.values())):
        _refuse_idle_shares(splitting)
    if shard_count is not None:
        # A little more, so that rounding makes no shard of nothing.
        most = max(sum(map(waiting.seconds, ones)) for ones in dealt.values())
        shard_seconds = most / shard_count * (1 + 1e-9) or shard_seconds
    shards, rows = list[Shard](), Rows()
    for split in SPLITS:
        for number, part in enumerate(grouped(dealt.pop(split), shard_seconds, waiting.seconds)):
            placed, size = list[Planned](), 0
            for one in part:
                key, estimate = f"{keys[one]:016x}", waiting.expected(one)
                name = names.get(key) or plain_name(waiting.path(one))
                placed.append(Planned(len(placed), key, name, estimate.clips, estimate.seconds, waiting.lines[one]))
                size += _expected_bytes(estimate, output)
            shards.append(_shard(f"{split}/{number:06d}", output, placed, [waiting.digest(one) for one in part], size))
            rows.add(placed, part, waiting.lines)
    return Plan(output, tuple(shards), rows, splitting, shard_seconds=shard_seconds)


def _digest(recipe: Recipe) -> bytes:
    return bytes.fromhex(digest_of(recipe.canonical()))


def _shard(
    name: str, output: Output, planned: Sequence[Planned], digests: Sequence[bytes], expected_bytes: int
) -> Shard:
    return Shard(
        name,
        shard_digest(output, planned, [digest.hex() for digest in digests]),
        len(planned),
        sum(row.clips for row in planned),
        sum(row.seconds for row in planned),
        expected_bytes,
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
    # A plan takes `states_none` from the one before it, so that no shard can be of two kinds; plans of before lack it.
    options = {name: value for name, value in output.to_json().items() if name != "states_none"}
    return digest_of("\n".join([json.dumps(options), *lines]))


def shard_of(
    name: str, output: Output, planned: Sequence[Planned], digests: Sequence[bytes], estimates: Sequence[Estimate]
) -> Shard:
    """A shard of recipes that another plan holds already; their positions are made to fit by the caller.

    Args:
        name: of the shard.
        output: what cooking it leaves.
        planned: its recipes, in order.
        digests: of their canonical texts.
        estimates: what will come of each.
    """
    sizes = [_expected_bytes(estimate, output) for estimate in estimates]
    return _shard(name, output, tuple(planned), digests, sum(sizes))


def expected(recipe: Recipe, to_cook: bool = True) -> Estimate:
    """What will come of a recipe, from its headers and its steps; nothing for a source without a header."""
    headers = [source for source in recipe.sounds.values() if source.get("sample_rate")]
    if recipe.sounds and not headers:
        return Estimate(0, 0, 1, 1)
    # Arrays alone span what they stand in for, and have none of its channels.
    headers = headers or [
        {**source, "frames": source["frames"] * (source.get("hop") or 0), "channels": 0}
        for source in recipe.arrays.values()
    ]
    rate = int(headers[0]["sample_rate"]) if headers else 1
    whole = min((int(source.get("frames") or 0) for source in headers), default=0)
    frames = max(0, whole - recipe.start)
    frames = frames if recipe.frames is None else min(frames, recipe.frames)
    estimate = Estimate(1, frames, rate, int(headers[0].get("channels", 1)) if headers else 1)
    for step in load_steps(recipe.steps, to_cook):
        estimate = step.estimate(estimate)
    return estimate


def _ends_held_out(waiting: Waiting, dealt: Mapping[str, Sequence[int]], splitting: Splitting) -> Waiting | None:
    """The recordings with the end of each held out, where they are too few to deal, or that is how it was done."""
    if len(waiting) >= MOST_CUT and not splitting.ends:
        return None
    recipes = [waiting.recipe(one) for ones in dealt.values() for one in ones]
    by_choice = splitting.valid_where or splitting.test_where or splitting.split_by
    wished = splitting.valid + splitting.test
    if by_choice or not 0 < wished < 1 or any(recipe.dealt for recipe in recipes):
        return None
    if not splitting.ends and not are_too_few(iter(recipes), splitting):
        return None
    made = Waiting()
    for recipe in recipes:
        parts = list(parts_of(recipe, splitting, expected))
        if not parts and not splitting.ends:
            return None
        for split, part in parts or [("train", recipe)]:
            made.put(part, _digest(part), expected(part), split)
    return made


def _refuse_idle_shares(splitting: Splitting) -> None:
    """Refuse flags that deal recipes where each has its split from another corpus."""
    if splitting != Splitting(group=splitting.group, redeal=splitting.redeal):
        raise UsageError(
            "Every recipe of the stream keeps the split that it has in the corpus that it comes from, so --valid, "
            "--test, --valid-where, --test-where, --split-by, --ends and --split-seed would have no effect. Leave "
            "them out, or give --redeal to assign all recipes by them."
        )


def _refuse_empty_splits(dealt: Mapping[str, Sequence[int]], splitting: Splitting, any_kept: bool) -> None:
    wished = {
        "train": splitting.valid + splitting.test < 1 and not any_kept and splitting.split_by is None,
        "valid": splitting.valid > 0 or splitting.valid_where is not None,
        "test": splitting.test > 0 or splitting.test_where is not None,
    }
    for split, wish in wished.items():
        if wish and not dealt[split]:
            counts = ", ".join(f"{len(rows)} {name}" for name, rows in dealt.items())
            raise CorpusError(f"The {split} split came out empty ({counts} recipes): {_why_empty(split, splitting)}")


def _why_empty(split: str, splitting: Splitting) -> str:
    conditions = {"valid": splitting.valid_where, "test": splitting.test_where}
    if (text := conditions.get(split)) is not None:
        return f"--{split}-where {text!r} holds for none of them."
    by_condition = [f"--{name}-where {text!r}" for name, text in conditions.items() if text is not None]
    if split == "train" and by_condition:
        return f"{' and '.join(by_condition)} hold for all of them."
    return (
        "there are too few groups of recordings for such a share. Give a larger share, choose by --valid-where, "
        "hold out the end of each recording with --ends, or give another --group or --split-seed."
    )


def grouped(rows: Sequence[T], shard_seconds: float, seconds_of: Callable[[T], float]) -> Iterator[Sequence[T]]:
    """Cut a list of things into runs of nearly equal length in seconds, each of about `shard_seconds`."""
    total = sum(map(seconds_of, rows))
    count = max(1, min(len(rows), math.ceil(total / shard_seconds)))
    target = total / count
    run, begin, so_far = 1, 0, 0.0
    for number, thing in enumerate(rows):
        seconds = seconds_of(thing)
        if number > begin and run < count and so_far + seconds / 2 > target * run:
            yield rows[begin:number]
            run, begin = run + 1, number
        so_far += seconds
    if len(rows) > begin:
        yield rows[begin:]


_KEPT: Final = {"flac": 0.65, **dict.fromkeys(LOSSY, 0.08)}
"""Of a PCM file's bytes: of one-minute recordings and drum loops, FLAC left 50 to 75 % and Vorbis about 8 %."""


def _expected_bytes(estimate: Estimate, output: Output) -> int:
    kept = _KEPT.get(output.container, 1.0)
    samples = estimate.clips * estimate.frames * estimate.channels
    return round(samples * (output.bits or 16) / 8 * kept)
