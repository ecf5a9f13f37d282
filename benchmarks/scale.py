"""Measure how the pipe grows: kinds of sources, workers, a store, and very many small files.

    python -m benchmarks.scale sound                   # an hour of WAV, FLAC and MP3 with 1 and 2 workers; minutes
    python -m benchmarks.scale sound --hours 10 --kinds wav --workers 2
    python -m benchmarks.scale sound --store           # also into moto's S3 server on loopback
    python -m benchmarks.scale files --count 100000    # scan and plan so many files, links to a hundred
    python -m benchmarks.scale plans                   # plans of ten thousand and a hundred thousand sources
    python -m benchmarks.scale plans --counts 1000000  # of a million
    python -m benchmarks.scale corpora                 # use corpora of a hundred thousand and a million examples

One-minute 48 kHz stereo sources become mono 44.1 kHz two-second FLAC clips. Ten sources are hard-linked under as many
names as the hours need. Each stage runs alone, from file to file, so that each has its own numbers; the plain loop is
that of `benchmarks.shard`, with as many processes, and where ffmpeg is installed so is `ffmpeg -f segment` and tar.

    wall, CPU   seconds of whole processes; CPU is user and system time of all that they started
    peak        resident memory of the largest process
    speed       seconds of sound per second of wall

`plans` makes a stream of synthetic recipes; "again" is the same command once more, "append" that with 1,000 others, and
"update" with all but the first 2,000 and 1,000 new ones. A task is a process of its own, which opens the plan and reads
a shard ("start"), and then fifty others ("shard", the median), both in CPU time; "read" are the bytes that it reads up
to the end of its first shard.

`corpora` makes corpora of which all but the sound is real (`benchmarks.large`), a hundred examples of each source, and
gives the commands that read them; "finish" is the `shard` that finds all shards made and puts their tables together.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import large
from benchmarks.shard import RATE, TONEMILL, make_minute, plain_loop

SOURCES = 10
KINDS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III"}

SERVE = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, app, True, request_handler=MotoRequestHandler)
print(server.port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    peak_mb: float


def run(command: list[str], stdin: Path | None = None, stdout: Path | None = None, **more: str) -> Cost:
    """What one process costs, with all that it waits for."""
    begun = time.perf_counter()
    with (stdin or Path(os.devnull)).open("rb") as source, (stdout or Path(os.devnull)).open("wb") as target:
        process = subprocess.Popen(command, stdin=source, stdout=target, env={**os.environ, **more})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return Cost(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def make_source(folder: Path, kind: str, number: int) -> None:
    make_minute(folder, number)
    made = folder / f"{number:04d}.wav"
    sound, rate = soundfile.read(made, dtype="int16")
    soundfile.write(folder / kind / f"{number:05d}.{kind}", sound, rate, subtype=KINDS[kind])
    made.unlink()


def make_sources(folder: Path, kind: str, minutes: int) -> Path:
    """Ten minutes of sound, and links to them."""
    raw = folder / kind
    raw.mkdir()
    # Not here: a process's peak counts what its parent held when it was started.
    with Pool(1) as pool:
        pool.starmap(make_source, [(folder, kind, number) for number in range(SOURCES)])
    for number in range(SOURCES, minutes):
        os.link(raw / f"{number % SOURCES:05d}.{kind}", raw / f"{number:05d}.{kind}")
    return raw


def run_loop(raw: Path, out: Path, workers: int) -> None:
    paths = sorted(raw.iterdir())
    out.mkdir()
    with Pool(workers) as pool:
        pool.starmap(plain_loop, [(paths[i::workers], out / f"{i}.tar", False) for i in range(workers)])


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """The environment in which `s3://bench` is a bucket on loopback."""
    process = subprocess.Popen([sys.executable, "-P", "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{url}/bench", method="PUT")).close()
        yield {**keys, "AWS_ENDPOINT_URL": url}
    finally:
        process.kill()
        process.wait()


def sound(folder: Path, hours: float, kinds: list[str], workers: list[int], store: bool) -> None:
    minutes = max(SOURCES, round(60 * hours))
    print(f"| {minutes} min of | workers | what | wall, s | CPU, s | peak, MB | speed | CPU, of the loop's |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for kind in kinds:
        raw, streams = make_sources(folder, kind, minutes), [folder / f"{kind}.{number}" for number in range(3)]
        steps = [["resample", "--rate", str(RATE), "--channels", "mono"], ["slice", "--seconds", "2"]]
        for count in workers:
            loop = run([sys.executable, "-m", "benchmarks.scale", "loop", str(raw), str(folder / "loop"), str(count)])
            shutil.rmtree(folder / "loop")
            scan = run([TONEMILL, "scan", str(raw), "-q", "--workers", str(count)], None, streams[0])
            between = [run([TONEMILL, *step], streams[n], streams[n + 1]) for n, step in enumerate(steps)]
            cook = [TONEMILL, "shard", str(folder / "corpus"), "--workers", str(count), "-q"]
            shard = run(cook, streams[2])
            shutil.rmtree(folder / "corpus")
            costs = {"plain loop": loop, "scan": scan, "resample": between[0], "slice": between[1], "shard": shard}
            if store:
                with server() as environment:
                    cook[2] = "s3://bench/corpus"
                    costs["shard to S3"] = run(cook, streams[2], **environment)
            if shutil.which("ffmpeg"):
                costs["ffmpeg and tar"] = run(["bash", "-c", FFMPEG, "-", str(raw), str(folder / "cut"), str(count)])
                shutil.rmtree(folder / "cut")
            for what, cost in costs.items():
                speed, of_loop = 60 * minutes / cost.wall, cost.cpu / loop.cpu
                print(
                    f"| {kind} | {count} | {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak_mb:.0f} "
                    f"| {speed:.0f} | {of_loop:.2f} |",
                    flush=True,
                )
        shutil.rmtree(raw)


FFMPEG = f"""
mkdir "$2" && cd "$2" && ls "$1" | xargs -P "$3" -I NAME ffmpeg -v error -i "$1/NAME" -ac 1 -ar {RATE} -f segment \
    -segment_time 2 NAME-%04d.flac && tar cf all.tar ./*.flac
"""


def files(folder: Path, count: int) -> None:
    raw, streams = folder / "many", [folder / f"many.{number}" for number in range(2)]
    (folder / "hits").mkdir()
    for number in range(100):
        hit = (np.random.default_rng(number).standard_normal(400) * 0.1).clip(-1, 1)
        soundfile.write(folder / "hits" / f"{number}.wav", hit, 8000)
    for number in range(count):
        place = raw / f"{number // 1000:05d}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        os.link(folder / "hits" / f"{number % 100}.wav", place / f"{number:07d}.wav")
    costs = {
        "scan": run([TONEMILL, "scan", str(raw), "-q"], None, streams[0]),
        "slice": run([TONEMILL, "slice", "--samples", "200"], streams[0], streams[1]),
        "plan (shard --range 0:0)": run([TONEMILL, "shard", str(folder / "c"), "--range", "0:0", "-q"], streams[1]),
    }
    print(f"| {count:,} files | wall, s | CPU, s | CPU, ms a file | peak, MB |\n|---|--:|--:|--:|--:|")
    for what, cost in costs.items():
        print(f"| {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {1000 * cost.cpu / count:.3f} | {cost.peak_mb:.0f} |")


def stream_of(target: Path, first: int, count: int) -> None:
    """Recipes of one-minute sources in two hundred folders, and two steps."""
    from tonemill.pipelines.recipes.recipe import Recipe
    from tonemill.pipelines.recipes.recipe_stream import write_stream

    def recipes() -> Iterator[Recipe]:
        steps = [
            {"step": "resample", "version": 1, "rate": 44100, "channels": "mono", "engine": "soxr", "quality": "high"},
            {
                "step": "slice",
                "version": 1,
                "seconds": 2.0,
                "samples": None,
                "hop_seconds": None,
                "short": "drop",
                "tail": "drop",
            },
        ]
        for number in range(first, first + count):
            name = f"{number % 200:03d}/{number:08d}.wav"
            facts = {"bytes": 11_520_044, "sample_rate": 48000, "channels": 2, "frames": 2_880_000, "subtype": "PCM_16"}
            digest = hashlib.sha256(name.encode()).hexdigest()
            source = {"uri": f"file:///recordings/{name}", "modified_ns": 17 * 10**17, "sha256": digest, **facts}
            yield Recipe(name, {"audio": source}, {"label": f"{number % 200:03d}"}, steps)

    with target.open("wb") as file:
        write_stream(recipes(), file)


def task(plan: Path) -> dict[str, float]:
    """What a worker spends on the plan: milliseconds of CPU, and MB that it reads."""
    from tonemill.pipelines.corpus.plan_file import PlanFile

    def spent(act: Callable[[], object]) -> float:
        begun = time.process_time()
        act()
        return 1000 * (time.process_time() - begun)

    before = _bytes_read()
    file = PlanFile(plan)
    start = spent(lambda: (file.shard(0), file.rows(0)))
    read = (_bytes_read() - before) / 1e6
    numbers = np.random.default_rng(1).integers(0, file.count, 50).tolist()
    shards = [spent(lambda number=number: (file.shard(number), file.rows(number))) for number in numbers]
    return {"shards": file.count, "start": start, "shard": statistics.median(shards), "read": read}


def _bytes_read() -> int:
    line = Path("/proc/self/io").read_text().splitlines()[0]
    return int(line.split()[1])


def plans(folder: Path, counts: list[int]) -> None:
    print(
        "| sources | shards | plan, MB | what | wall, s | CPU, s | peak, MB |\n|--:|--:|--:|---|--:|--:|--:|",
        flush=True,
    )
    tasks: list[str] = []
    for count in counts:
        streams, corpus = [folder / f"{name}.jsonl" for name in ("all", "more", "other")], folder / f"{count}"
        # Not here: a process's peak counts what its parent held when it was started.
        with Pool(1) as pool:
            pool.starmap(stream_of, [(streams[0], 0, count), (streams[1], count, 1000), (streams[2], 2000, count)])
        command = [TONEMILL, "shard", str(corpus), "--range", "0:0", "-q"]
        costs = {"plan": run(command, streams[0]), "again": run(command, streams[0])}
        size = (corpus / "plan.parquet").stat().st_size / 1e6
        words = [sys.executable, "-m", "benchmarks.scale", "task", str(corpus / "plan.parquet")]
        several = [json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout) for _ in range(5)]
        found = {name: statistics.median(one[name] for one in several) for name in several[0]}
        costs["append"] = run([*command, "--append"], streams[1])
        costs["update"] = run([*command, "--update"], streams[2])
        for what, cost in costs.items():
            print(
                f"| {count:,} | {found['shards']:,.0f} | {size:.1f} | {what} | {cost.wall:.1f} | {cost.cpu:.1f} "
                f"| {cost.peak_mb:.0f} |",
                flush=True,
            )
        costs_of_task = " | ".join(f"{found[name]:.2f}" for name in ("start", "shard", "read"))
        tasks.append(f"| {count:,} | {found['shards']:,.0f} | {costs_of_task} |")
        shutil.rmtree(corpus)
    print("\n| sources | shards | start, ms | shard, ms | read, MB |\n|--:|--:|--:|--:|--:|")
    print("\n".join(tasks), flush=True)


def corpora(folder: Path, counts: list[int]) -> None:
    print("| examples | index, MB | what | wall, s | CPU, s | peak, MB |\n|--:|--:|---|--:|--:|--:|", flush=True)
    for count in counts:
        home = folder / f"{count}"
        # Not here: a process's peak counts what its parent held when it was started.
        with Pool(1) as pool:
            corpus, stream = pool.apply(large.make_corpus, (home, count // large.CLIPS))
        costs = {"finish": run([TONEMILL, "shard", str(corpus), *large.WORDS], stream)}
        with Pool(1) as pool:
            key = pool.apply(large.last_key, (corpus,))
        every = f"find {corpus} -type f -print0 | xargs -0 sha256sum"
        commands: dict[str, list[str]] = {
            "open, first line": ["bash", "-c", f"{TONEMILL} open {corpus} | head -n 1"],
            "open": [TONEMILL, "open", str(corpus)],
            "inspect": [TONEMILL, "inspect", str(corpus)],
            "trace": [TONEMILL, "trace", str(corpus), key],
            "diff": [TONEMILL, "diff", str(corpus), str(corpus)],
            "report": [TONEMILL, "report", str(corpus), "-o", str(home / "report.html"), "-q"],
            "verify --quick": [TONEMILL, "verify", str(corpus), "--quick", "-q"],
            "sha256sum": ["bash", "-c", every],
        }
        costs |= {what: run(command) for what, command in commands.items()}
        size = (corpus / "index.parquet").stat().st_size / 1e6
        for what, cost in costs.items():
            line = f"| {count:,} | {size:.1f} | {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak_mb:.0f} |"
            print(line, flush=True)
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    what = parser.add_subparsers(dest="what", required=True)
    one = what.add_parser("sound")
    one.add_argument("--hours", type=float, default=1.0, help="of sound (default 1)")
    one.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    one.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    one.add_argument("--store", action="store_true", help="also into an S3 server on loopback")
    many = what.add_parser("files")
    many.add_argument("--count", type=int, default=100_000)
    planned = what.add_parser("plans")
    planned.add_argument("--counts", nargs="+", type=int, default=[10_000, 100_000])
    used = what.add_parser("corpora")
    used.add_argument("--counts", nargs="+", type=int, default=[100_000, 1_000_000])
    what.add_parser("task").add_argument("plan", type=Path)
    for parsed in (one, many, planned, used):
        parsed.add_argument("--folder", type=Path, help="where to work")
    loop = what.add_parser("loop")
    loop.add_argument("given", nargs=3)
    options = parser.parse_args()
    if options.what == "loop":
        raw, out, workers = options.given
        run_loop(Path(raw), Path(out), int(workers))
        return
    if options.what == "task":
        print(json.dumps(task(options.plan)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.what == "plans":
            plans(Path(name), options.counts)
        elif options.what == "corpora":
            corpora(Path(name), options.counts)
        elif options.what == "files":
            files(Path(name), options.count)
        else:
            sound(Path(name), options.hours, options.kinds, options.workers, options.store)


if __name__ == "__main__":
    main()
