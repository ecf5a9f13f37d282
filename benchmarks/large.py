"""Corpora of a million examples for `benchmarks.scale`: one source that tonemill cooked, repeated under other names.

Every file of such a corpus is as tonemill writes it, but for the names in the tars: all shards link to one tar, which
holds the clips of one source. So plan, sidecars and tables are as large as those of real ones, and the sound is not.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.corpus.shard_tables import write_table
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.recipe_stream import RecipeReader, write_stream
from tonemill.pipelines.storage import json_files
from tonemill.pipelines.storage.parquet import read_table

TONEMILL = Path(sys.executable).parent / "tonemill"
RATE, CLIPS, CLIP_SECONDS, SOURCES_OF_SHARD = 8000, 100, 2, 5
"""A source of 200 s gives 100 clips; five fill a shard."""

WORDS = ["--shard-seconds", str(SOURCES_OF_SHARD * CLIPS * CLIP_SECONDS), "--valid", "0.1", "-q"]


def make_corpus(folder: Path, sources: int) -> tuple[Path, Path]:
    """A corpus of so many sources, whose index and description are not made yet, and the stream that finishes it."""
    raw, stream, corpus = folder / "raw", folder / "recipes.jsonl", folder / "corpus"
    raw.mkdir(parents=True)
    quiet = np.random.default_rng(0).integers(-20, 20, RATE * CLIPS * CLIP_SECONDS).astype(np.int16)
    soundfile.write(raw / "take.wav", quiet, RATE)
    one = folder / "one.jsonl"
    pipe = f"{TONEMILL} scan {raw} -q | {TONEMILL} slice --seconds {CLIP_SECONDS} > {one}"
    subprocess.run(pipe, shell=True, check=True)
    with one.open("rb") as file:
        (recipe,) = RecipeReader(file, str(one))
    with stream.open("wb") as target:
        write_stream(_recipes(recipe, sources), target)
    small = OutputFolder(folder / "small", "shards")
    for place, given, words in ((small.folder, one, ["-q"]), (corpus, stream, [*WORDS, "--range", "0:0"])):
        with given.open("rb") as file:
            subprocess.run([TONEMILL, "shard", place, *words], stdin=file, check=True, stdout=subprocess.DEVNULL)
    _fill(small, OutputFolder(corpus, "shards"))
    return corpus, stream


def _recipes(recipe: Recipe, count: int) -> Iterator[Recipe]:
    """One recipe under other paths and with other contents, labels and takes."""
    for number in range(count):
        source = {**recipe.sources["audio"], "sha256": hashlib.sha256(f"{number}".encode()).hexdigest()}
        fields = {"label": f"{number % 200:03d}", "take": number}
        yield Recipe(f"{number % 200:03d}/{number:08d}.wav", {"audio": source}, fields, recipe.steps)


def _fill(small: OutputFolder, large: OutputFolder) -> None:
    """Write tables and sidecar of every shard, and link its tar."""
    plan_file, small_plan = PlanFile(large.plan), PlanFile(small.plan)
    pattern = small.shard(small_plan.plan.shards[0].name)
    index, rejects, sidecar = read_table(pattern.index), read_table(pattern.rejects), pattern.read_sidecar()
    assert sidecar is not None
    rng = np.random.default_rng(1)
    for number, shard in enumerate(plan_file.plan.shards):
        files, rows = large.shard(shard.name), plan_file.rows(number)
        files.base.parent.mkdir(exist_ok=True)
        os.link(pattern.tar, files.tar)
        tables = []
        for planned in rows:
            columns: dict[str, Any] = {
                "key": [f"{planned.key}-{clip:04d}" for clip in range(index.num_rows)],
                "source": [planned.recipe.path] * index.num_rows,
                "split": [shard.split] * index.num_rows,
                "shard": [shard.name] * index.num_rows,
                "audio_sha256": [rng.bytes(32).hex() for _ in range(index.num_rows)],
                "peak_db": -rng.gamma(2, 3, index.num_rows),
                **{name: [value] * index.num_rows for name, value in planned.recipe.fields.items()},
            }
            held = index
            for name, values in columns.items():
                at = held.schema.get_field_index(name)
                held = held.append_column(name, [values]) if at < 0 else held.set_column(at, name, [values])
            tables.append(held)
        examples, seconds = len(rows) * index.num_rows, len(rows) * index.num_rows * float(CLIP_SECONDS)
        ledger = {name: value * len(rows) for name, value in sidecar["ledger"].items()}
        ledger_of_seconds = {name: value * len(rows) for name, value in sidecar["seconds_ledger"].items()}
        table = pa.concat_tables(tables).combine_chunks()
        record = {
            **{name: value for name, value in sidecar.items() if name != json_files.SEAL},
            "shard": shard.name,
            "plan_digest": shard.digest,
            "examples": examples,
            "seconds": round(seconds, 6),
            "ledger": ledger,
            "seconds_ledger": ledger_of_seconds,
            "tables": {
                "index": write_table(files.index, table),
                "rejects": write_table(files.rejects, rejects),
            },
        }
        json_files.write_sealed(files.sidecar, record)


def last_key(corpus: Path) -> str:
    """Key of the last example of an index."""
    return str(read_table(corpus / "index.parquet", lambda name: name == "key")["key"][-1].as_py())
