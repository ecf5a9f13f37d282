"""Measure `scan` and `shard` of sources in a store that is far.

    python -m benchmarks.far                       # 120 files, 15 ms each way, 2 and 16 requests at once
    python -m benchmarks.far --digest none --seconds 30
    python -m benchmarks.far --shard               # by two workers, into the store

A server of S3's interface on loopback (moto's, on one core) stands behind a relay that hands on each piece of bytes so
many milliseconds late, in both directions; any number of pieces are on their way at once, as on a long wire.

    bare    the store's client and nothing else, in as many threads: `StorePath.fetch` of every object, or, with
            `--digest none`, `StorePath.begin`, which asks for its size and its first 64 KiB
    scan    `tonemill scan` of the same objects, without the time that it takes to start

Both take turns; files a second, median of the runs, and what scan reaches of the bare loop (aim: 0.8).

    shard   seconds of `tonemill shard s3://...`, from its start to its end, through the relay, and through one that
            hands on at once; in turns, least and median of the runs (aim: 1.15 of it)
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))

from buckets import folder_at, reached, s3_server

from tonemill.pipelines.recipes.recipe_stream import write_stream
from tonemill.pipelines.sources.ranges import HEAD_BYTES
from tonemill.pipelines.sources.scan import find_audio, scan
from tonemill.pipelines.storage import stores

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "loopback", "AWS_DEFAULT_REGION": "us-east-1"}


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Write what is read, each piece so much later."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        while True:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            pieces.put_nowait((time.monotonic() + seconds, data))
            if not data:
                return

    reading = asyncio.create_task(read())
    try:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        reading.cancel()
        writer.close()


def relay(port: int, seconds: float) -> int:
    """Start a relay to a port of this machine in a thread; its own port."""
    found: list[int] = []
    begun = threading.Event()

    async def serve() -> None:
        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(
                hand_on(reader, far_writer, seconds), hand_on(far_reader, writer, seconds), return_exceptions=True
            )

        server = await asyncio.start_server(meet, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        begun.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    begun.wait()
    return found[0]


def bare(names: list[str], threads: int, folder: Path, digest: bool) -> None:
    """Fetch every object, or its first bytes."""

    def one(number: int) -> None:
        root, _, name = names[number].rpartition("/")
        place = folder_at(root) / name
        place.fetch(folder / str(number)) if digest else place.begin(HEAD_BYTES)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(names))))


def sharded(recipes: bytes, corpus: str, url: str, flags: list[str]) -> float:
    """Seconds of the command."""
    command = [str(Path(sys.executable).with_name("tonemill")), "shard", corpus, "--workers", "2", "-q", *flags]
    begun = time.perf_counter()
    subprocess.run(
        command, input=recipes, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "AWS_ENDPOINT_URL": url}
    )
    return time.perf_counter() - begun


def shard_rates(recipes: bytes, ports: list[int], runs: int, flags: list[str]) -> None:
    """Print the table of `shard`, through relays that do not delay and that do."""
    taken = [
        [sharded(recipes, f"s3://tonemill/out-{run}-{port}", f"http://127.0.0.1:{port}", flags) for port in ports]
        for run in range(runs)
    ]
    print("        at once, s   late, s   late / at once")
    for name, of in (("least", min), ("median", statistics.median)):
        at_once, late = (of(one) for one in zip(*taken, strict=True))
        print(f"{name:6}   {at_once:9.2f} {late:9.2f} {late / at_once:16.2f}")


def timed(files: int, act: object) -> float:
    """Files a second."""
    begun = time.perf_counter()
    act()  # type: ignore[operator]
    return files / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=2.0, help="of sound in each")
    parser.add_argument("--milliseconds", type=float, default=15.0, help="each way")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shard", action="store_true", help="measure shard")
    parser.add_argument("--shard-seconds", type=float, default=30.0, help="of the corpus that shard makes")
    parser.add_argument("--digest", choices=["sha256", "none"], default="sha256", help="of scan")
    typed = parser.parse_args()
    digest = typed.digest == "sha256"
    with s3_server() as wire, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        near, far = wire.port, relay(wire.port, typed.milliseconds / 1000)
        with reached(folder, **CREDENTIALS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{near}"):
            for number in range(typed.files):
                sound = np.random.default_rng(number).standard_normal(round(typed.seconds * 16000)) * 0.1
                soundfile.write(folder / "one.wav", sound, 16000)
                (folder_at("s3://tonemill/far") / f"{number:04d}.wav").put(folder / "one.wav")
        os.environ.pop("AWS_ENDPOINT_URL", None)
        with reached(folder, **CREDENTIALS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{far}"):
            stores.store_of("s3")
            found = find_audio(["s3://tonemill/far"])
            names = [name for _, name in found.audio]
            if typed.shard:
                stream = io.BytesIO()
                write_stream(scan(found), stream)
                flags = ["--shard-seconds", f"{typed.shard_seconds:g}"]
                shard_rates(stream.getvalue(), [relay(wire.port, 0.0), far], typed.runs, flags)
                return
            print(f"{typed.files} files of {typed.seconds:g} s, {typed.milliseconds:g} ms each way, {typed.digest}")
            print("threads   bare, files/s   scan, files/s   scan / bare")
            for threads in typed.threads:
                rates = [
                    (
                        timed(len(names), lambda threads=threads: bare(names, threads, folder, digest)),
                        timed(len(names), lambda threads=threads: list(scan(found, digest, workers=threads))),
                    )
                    for _ in range(typed.runs)
                ]
                loop, ours = (statistics.median(one) for one in zip(*rates, strict=True))
                print(f"{threads:7}   {loop:13.1f}   {ours:13.1f}   {ours / loop:11.2f}")


if __name__ == "__main__":
    main()
