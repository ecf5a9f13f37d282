"""Measure how long a report of a large corpus takes, and how large the page is.

    python -m benchmarks.report                    # 100,000 rows, about a minute with the making of the corpus
    python -m benchmarks.report --rows 1000000     # some minutes
    python -m benchmarks.report --keep FOLDER      # leave corpus and page there to look at

The corpus is real but for its size: 2,000 clips of a second, cooked by tonemill, whose rows of plan and index are
repeated under other names and keys with other measures until there are enough; a tenth as many were refused. So the
page reads, counts and plays what it would of a corpus as large. The command is a process of its own.

    wall, CPU   of `tonemill report`, medians of the runs
    peak        memory of that process
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from pyarrow import parquet

from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.plan_file import read_whole, write_plan
from tonemill.pipelines.corpus.shard_tables import REJECT_COLUMNS
from tonemill.pipelines.planning.plan import Plan, Rows, Shard, pack, unpack
from tonemill.pipelines.storage import commit, json_files

RATE, CLIPS = 16000, 2000
TONEMILL = Path(sys.executable).parent / "tonemill"


def make_corpus(folder: Path, rows: int) -> Path:
    """A small corpus that tonemill cooked, grown to so many rows."""
    from tonemill.audiotools.synthetic import loop

    raw, corpus = folder / "raw", folder / "corpus"
    raw.mkdir()
    for number in range(CLIPS):
        sound = loop(60 + number % 120, 4, RATE, seed=number)[0, : round(RATE * (0.5 + number % 17 / 16))]
        soundfile.write(raw / f"{number % 10}_{number}.wav", 0.9 * sound / (1 + number % 7), RATE)
    pipe = f"{TONEMILL} scan {raw} --fields '{{label}}_{{take}}' -q | {TONEMILL} shard {corpus} --valid 0.1 -q"
    subprocess.run(pipe, shell=True, check=True, stdout=subprocess.DEVNULL)
    _grow(corpus, rows)
    return corpus


def _grow(corpus: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    index = parquet.read_table(corpus / "index.parquet")
    times = -(-rows // index.num_rows)
    grown = pa.concat_tables([index] * times).slice(0, rows)
    names = [f"pack{number // CLIPS:04d}/{name}" for number, name in enumerate(grown["source"].to_pylist())]
    columns: dict[str, Any] = {
        "key": [f"{number:016x}-0000" for number in range(rows)],
        "source": names,
        "peak_db": -rng.gamma(2, 3, rows),
        "loudness_lufs": -14 - rng.gamma(2, 3, rows),
        "confidence": rng.beta(4, 2, rows),
    }
    for name, values in columns.items():
        at = grown.column_names.index(name) if name in grown.column_names else grown.num_columns
        grown = grown.remove_column(at) if at < grown.num_columns else grown
        grown = grown.add_column(at, name, pa.array(values))
    parquet.write_table(grown, corpus / "index.parquet", compression="zstd")
    refused = [
        {
            **dict.fromkeys(REJECT_COLUMNS.names),
            "source": f"pack{number % 97:04d}/{number}.wav",
            "step": "filter" if number % 50 else "read",
            "outcome": "filtered" if number % 50 else "rejected",
            "reason": "too_short" if number % 50 else "unreadable",
            "message": f"its length is {number % 100} ms, below --min-seconds 0.1" if number % 50 else "no header",
        }
        for number in range(rows // 10)
    ]
    parquet.write_table(pa.Table.from_pylist(refused, schema=REJECT_COLUMNS), corpus / "rejects.parquet")
    plan = _grown_plan(read_whole(corpus / "plan.parquet"), times)
    write_plan(OutputFolder(corpus, "shards"), plan)
    about = json.loads((corpus / "corpus.json").read_bytes())
    about = {name: value for name, value in about.items() if name != json_files.SEAL}
    split = grown["split"].to_pylist()
    for name, one in about["splits"].items():
        one.update({key: value * times for key, value in one.items()}, examples=split.count(name))
    about |= {"examples": rows, "columns": grown.column_names}
    about |= {name: about[name] * times for name in ("seconds", "bytes")}
    about["ledger"] |= {"sources": rows + rows // 10, "kept": rows, "clips": rows, "examples": rows}
    about["ledger"] |= {
        "rejected": len(range(0, rows // 10, 50)),
        "filtered": rows // 10 - len(range(0, rows // 10, 50)),
    }
    about["files"] = {name: commit.fingerprint(corpus / name) for name in about["files"]}
    json_files.write_sealed(corpus / "corpus.json", about)


def _grown_plan(plan: Plan, times: int) -> Plan:
    """Its shards again and again, each recipe with a path and a digest of its own."""
    shards: list[Shard] = []
    rows = Rows()
    for again in range(times):
        for shard, planned in zip(plan.shards, plan.rows, strict=True):
            shards.append(replace(shard, name=f"{shard.split}/{len(shards):06d}"))
            some = []
            for row in planned:
                record = json.loads(unpack(row.packed))
                record["path"] = f"pack{again:04d}/{record['path']}"
                for source in record["sources"].values():
                    source["sha256"] = f"{again:08x}{source['sha256'][8:]}"
                some.append(replace(row, packed=pack(json.dumps(record))))
            rows.add(some)
    return replace(plan, shards=tuple(shards), rows=rows)


def measure(corpus: Path, page: Path, runs: int) -> None:
    """Print the table."""
    walls, cpus = [], []
    line: dict[str, Any] = {}
    for _ in range(runs):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        words = [TONEMILL, "report", corpus, "-o", page, "-q"]
        line = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows = parquet.read_metadata(corpus / "index.parquet").num_rows
    print("| rows | wall, s | CPU, s | clips | page, MB | target |\n|--:|--:|--:|--:|--:|--:|")
    target = "20 s" if rows == 100_000 else ""
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"| {rows:,} | {wall:.1f} | {cpu:.1f} | {line['clips']} | {line['bytes'] / 1e6:.2f} | {target} |")
    print(f"\nPeak of any process here: {peak_mb:,.0f} MB. {os.cpu_count()} cores.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.keep is None:
        with tempfile.TemporaryDirectory() as folder:
            measure(make_corpus(Path(folder), options.rows), Path(folder) / "report.html", options.runs)
    else:
        options.keep.mkdir(parents=True, exist_ok=True)
        corpus = options.keep / "corpus"
        corpus = corpus if corpus.exists() else make_corpus(options.keep, options.rows)
        measure(corpus, options.keep / "report.html", options.runs)


if __name__ == "__main__":
    main()
