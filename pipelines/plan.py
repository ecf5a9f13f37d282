"""The plan: every shard's recipes and their digest, known and written down before any work.

The plan file is Parquet with a row group per shard, so that a worker reads its own rows and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.naming import file_names
from tonemill.pipelines.recipe import Recipe, parse_recipe
from tonemill.pipelines.step import Estimate, Step, load_step

SCHEMA: Final = 1
SPLITS: Final = ("train", "valid", "test")

COLUMNS: Final = pa.schema(
    [
        ("shard", pa.string()),
        ("position", pa.int32()),
        ("key", pa.string()),
        ("name", pa.string()),
        ("clips", pa.int32()),
        ("seconds", pa.float64()),
        ("recipe", pa.string()),
    ]
)


@dataclass(frozen=True)
class Output:
    """What cooking a plan leaves; part of every shard's digest.

    Args:
        kind: `shards` of a corpus, or `files` in a folder.
        container: flac, wav or ogg.
        bits: None for as many as the source holds.
    """

    kind: Literal["shards", "files"]
    container: str = "flac"
    bits: int | None = None


@dataclass(frozen=True)
class Splitting:
    """How recipes are dealt to splits.

    Args:
        valid: share of groups, from 0 to 1.
        test: likewise.
        valid_where: goes to valid by choice, whatever its group.
        group: what must not straddle splits, as `group_of` takes it.
        seed: another seed deals other groups.
    """

    valid: float = 0.0
    test: float = 0.0
    valid_where: Callable[[Mapping[str, Any]], bool] | None = None
    group: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Planned:
    """A recipe with its place in the plan.

    Args:
        position: in its shard.
        key: of its source in this plan; its examples' keys start with it.
        name: of its source's file, without suffix and fit for a folder; no other in the plan has it.
        clips: expected.
        seconds: expected.
        recipe: what to cook.
    """

    position: int
    key: str
    name: str
    clips: int
    seconds: float
    recipe: Recipe


@dataclass(frozen=True)
class Shard:
    """A shard of the plan.

    Args:
        name: split and number, as `train/000003`.
        digest: of its recipes, their keys and the output asked for.
        recipes: how many.
        clips: expected.
        seconds: expected.
        bytes: expected, at a usual rate of compression.
    """

    name: str
    digest: str
    recipes: int
    clips: int
    seconds: float
    bytes: int

    @property
    def split(self) -> str:
        return self.name.split("/")[0]


@dataclass(frozen=True)
class Plan:
    """All shards; `rows` has each one's recipes."""

    output: Output
    shards: tuple[Shard, ...]
    rows: tuple[tuple[Planned, ...], ...] = ()

    @property
    def digest(self) -> str:
        return _sha256("\n".join(f"{shard.name} {shard.digest}" for shard in self.shards))

    @property
    def seconds(self) -> float:
        return sum(shard.seconds for shard in self.shards)

    @property
    def recipes(self) -> int:
        return sum(shard.recipes for shard in self.shards)

    def write(self, path: Path) -> None:
        """Write the plan file; the caller moves it into place."""
        about = {"schema": SCHEMA, "output": asdict(self.output), "shards": [asdict(shard) for shard in self.shards]}
        with parquet.ParquetWriter(
            path, COLUMNS.with_metadata({"tonemill": json.dumps(about)}), compression="zstd"
        ) as file:
            for shard, rows in zip(self.shards, self.rows, strict=True):
                file.write_table(_table(shard, rows), row_group_size=len(rows))


def read_plan(path: Path) -> Plan:
    """A plan without its rows.

    Raises:
        CorpusError: there is no plan, or one that this version cannot read.
    """
    try:
        about = json.loads(parquet.read_schema(path).metadata[b"tonemill"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is not a plan: {error}.") from error
    if about["schema"] != SCHEMA:
        raise CorpusError(
            f"{path} has schema {about['schema']}; this tonemill reads {SCHEMA}. Use the one that wrote it."
        )
    return Plan(Output(**about["output"]), tuple(Shard(**shard) for shard in about["shards"]))


def read_rows(path: Path, number: int) -> list[Planned]:
    """The recipes of one shard, in order."""
    table = parquet.ParquetFile(path).read_row_group(number)
    return [
        Planned(
            row["position"],
            row["key"],
            row["name"],
            row["clips"],
            row["seconds"],
            parse_recipe(json.loads(row["recipe"])),
        )
        for row in table.to_pylist()
    ]


def make_plan(recipes: Iterable[Recipe], output: Output, splitting: Splitting, shard_seconds: float) -> Plan:
    """Sort recipes by key, deal them to splits, and group them into shards of about equal expected seconds.

    The order is that of digests of paths: the same for any order of recipes, and each shard is a mixture.

    Raises:
        UsageError: a step cannot be made, or the group is no field of a recipe.
        CorpusError: there are no recipes, or a wished split came out empty.
    """
    by_path: dict[str, list[tuple[str, Recipe]]] = defaultdict(list)
    for recipe in recipes:
        by_path[recipe.path].append((recipe.canonical(), recipe))
    if not by_path:
        raise CorpusError("The stream holds no recipes, so there is nothing to make.")
    dealt: dict[str, list[tuple[str, str, Recipe]]] = {split: [] for split in SPLITS}
    for path, same in by_path.items():
        same.sort(key=lambda pair: pair[0])
        for occurrence, (text, recipe) in enumerate(same):
            dealt[_split_of(recipe, splitting)].append((_key(path, occurrence), text, recipe))
    _refuse_empty_splits(dealt, splitting)
    names = file_names({key: recipe.path for dealing in dealt.values() for key, _, recipe in dealing})
    shards, rows = [], []
    for split in SPLITS:
        for number, part in enumerate(_grouped(sorted(dealt[split], key=lambda row: row[0]), shard_seconds)):
            planned = tuple(
                Planned(position, key, names[key], estimate.clips, estimate.seconds, recipe)
                for position, (key, _, recipe, estimate) in enumerate(part)
            )
            shards.append(
                Shard(
                    f"{split}/{number:06d}",
                    _sha256("\n".join([json.dumps(asdict(output)), *(f"{key} {text}" for key, text, _, _ in part)])),
                    len(planned),
                    sum(row.clips for row in planned),
                    sum(row.seconds for row in planned),
                    sum(_expected_bytes(estimate, output) for _, _, _, estimate in part),
                )
            )
            rows.append(planned)
    return Plan(output, tuple(shards), tuple(rows))


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
    for step in steps_of(recipe):
        estimate = step.estimate(estimate)
    return estimate


def steps_of(recipe: Recipe) -> tuple[Step, ...]:
    """The steps of a recipe, made and checked once for all recipes that share them.

    Raises:
        UsageError: as `load_step`.
    """
    return _steps(json.dumps(recipe.steps))


@lru_cache(maxsize=256)
def _steps(text: str) -> tuple[Step, ...]:
    return tuple(load_step(record) for record in json.loads(text))


def group_of(recipe: Recipe, group: str | None) -> str:
    """What must not straddle splits: the content (None), the `path`, the `folder`, or a field.

    Raises:
        UsageError: the recipe has no such field.
    """
    digests = [str(source["sha256"]) for _, source in sorted(recipe.sources.items()) if "sha256" in source]
    if group == "path" or (group is None and not digests):
        return recipe.path
    if group is None:
        return " ".join(digests)
    if group == "folder":
        return recipe.path.rpartition("/")[0]
    if group not in recipe.fields:
        known = ", ".join(["path", "folder", *recipe.fields])
        raise UsageError(f"--group is {group!r}, but {recipe.path} has no such field; it has: {known}.")
    return str(recipe.fields[group])


def _split_of(recipe: Recipe, splitting: Splitting) -> str:
    if splitting.valid_where and splitting.valid_where({**recipe.fields, "path": recipe.path}):
        return "valid"
    text = f"{splitting.seed}\0{group_of(recipe, splitting.group)}"
    place = int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big") / 2**64
    if place < splitting.test:
        return "test"
    return "valid" if place < splitting.test + splitting.valid else "train"


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


def _grouped(
    rows: list[tuple[str, str, Recipe]], shard_seconds: float
) -> list[list[tuple[str, str, Recipe, Estimate]]]:
    """Cut a list into runs of nearly equal expected seconds, as many as make each about `shard_seconds`."""
    estimated = [(*row, expected(row[2])) for row in rows]
    total = sum(row[3].seconds for row in estimated)
    count = max(1, min(len(rows), math.ceil(total / shard_seconds)))
    target = total / count
    runs: list[list[tuple[str, str, Recipe, Estimate]]] = [[]]
    so_far = 0.0
    for row in estimated:
        if runs[-1] and len(runs) < count and so_far + row[3].seconds / 2 > target * len(runs):
            runs.append([])
        runs[-1].append(row)
        so_far += row[3].seconds
    return [run for run in runs if run]


def _expected_bytes(estimate: Estimate, output: Output) -> int:
    # Of one-minute recordings and drum loops, FLAC left 50 to 75 % and Vorbis about 8 %.
    kept = {"flac": 0.65, "ogg": 0.08}.get(output.container, 1.0)
    samples = estimate.clips * estimate.frames * estimate.channels
    return round(samples * (output.bits or 16) / 8 * kept)


def _table(shard: Shard, rows: tuple[Planned, ...]) -> pa.Table:
    return pa.Table.from_pydict(
        {
            "shard": [shard.name] * len(rows),
            "position": [row.position for row in rows],
            "key": [row.key for row in rows],
            "name": [row.name for row in rows],
            "clips": [row.clips for row in rows],
            "seconds": [row.seconds for row in rows],
            "recipe": [row.recipe.to_line() for row in rows],
        },
        schema=COLUMNS,
    )


def _key(path: str, occurrence: int) -> str:
    return _sha256(f"{path}\0{occurrence}")[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
