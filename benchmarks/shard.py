"""Measure `scan | resample | slice | shard` as whole processes against a plain two-process pool around soundfile, soxr.

    python -m benchmarks.shard                 # one hour of audio, about three minutes; --hours 10 for ten
    python -m benchmarks.shard --with measure --with 'normalize --lufs -23'     # and what a step after slice adds
    python -m benchmarks.shard --before CHECKOUT --runs 7           # and the same by another checkout, in turns

One-minute 48 kHz stereo 16-bit WAVs become mono 44.1 kHz two-second FLAC clips, on two workers; the two take turns. The
plain loop is `plain_loop` below: soundfile.read, mean over channels, soxr.resample, soundfile.write, tarfile. The tuned
one reads int16 and adds the channels, which is what a loop can gain by our own tricks; it has no target. A few files
of drum loops and noise, which FLAC brings to about 0.7, are hard-linked under as many names as the hours need. After
timing, every member of the loop's tars is decoded, and clips of ours are held against the loop's.

    wall, CPU   seconds, median; CPU is user and system time of all processes together
    peak        resident memory of the largest process
    all         most memory of all processes of a pipe together, shared pages counted once (PSS); five looks a second
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from threading import Event, Thread
from typing import Final

import numpy as np
import soundfile
import soxr
from pyarrow import parquet

FILES, CLIPS, RATE, CLIP = 6, 30, 44100, 88200
TONEMILL: Final = str(Path(sys.executable).parent / "tonemill")


def make_minute(place: Path, number: int) -> None:
    """A minute of drum loops, one after the other, over a floor of noise."""
    from tonemill.audiotools.synthetic import PATTERNS, loop

    rng = np.random.default_rng(number)
    patterns = list(PATTERNS.values())
    parts = [loop(90 + 7 * i, 4, 48000, patterns[(number + i) % 5], seed=9 * number + i, channels=2) for i in range(8)]
    sound = np.concatenate(parts, axis=1)[:, : 60 * 48000]
    sound = 0.8 * np.pad(sound, ((0, 0), (0, 60 * 48000 - sound.shape[1])), mode="wrap")
    sound += rng.normal(0, 0.01, sound.shape[1]) + rng.normal(0, 0.005, sound.shape)
    soundfile.write(place / f"{number:04d}.wav", sound.T, 48000, subtype="PCM_16")


def plain_loop(paths: list[Path], target: Path, tuned: bool) -> None:
    """One worker's share, into one tar."""
    with tarfile.open(target, "w") as tar:
        for path in paths:
            if tuned:
                raw, rate = soundfile.read(path, dtype="int16")
                mono = (raw[:, 0].astype(np.float32) + raw[:, 1]) * np.float32(0.5 / 32768)
            else:
                samples, rate = soundfile.read(path, dtype="float32")
                mono = samples.mean(axis=1)
            resampled = soxr.resample(mono, rate, RATE)
            for clip in range(len(resampled) // CLIP):
                buffer = io.BytesIO()
                soundfile.write(buffer, resampled[clip * CLIP : (clip + 1) * CLIP], RATE, format="FLAC")
                info = tarfile.TarInfo(f"{path.stem}-{clip:04d}.flac")
                # Not tell(): libsndfile leaves the buffer at the header, which it writes once more at the end.
                info.size = buffer.getbuffer().nbytes
                buffer.seek(0)
                tar.addfile(info, buffer)


def run_loop(raw: Path, out: Path, tuned: bool) -> None:
    paths = sorted(raw.iterdir())
    out.mkdir()
    with Pool(2) as pool:
        pool.starmap(plain_loop, [(paths[i::2], out / f"{i}.tar", tuned) for i in range(2)])


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    peak_mb: float
    all_mb: float = 0.0


def command_of(checkout: Path, folder: Path) -> list[str]:
    """The `tonemill` of a checkout, whichever is installed.

    Args:
        checkout: with the packages at its root.
        folder: where a link can be made.
    """
    place = folder / f"path-{checkout.resolve().name}"
    place.mkdir(exist_ok=True)
    if not (place / "tonemill").exists():
        (place / "tonemill").symlink_to(checkout.resolve())
    program = "from tonemill.cli.start import main; main()"
    return ["env", f"PYTHONPATH={place}", sys.executable, "-P", "-c", program]


class Memory(Thread):
    """Looks how much memory the processes below this one hold together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_mb = 0.0
        self._ended = Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            self.most_mb = max(self.most_mb, sum(map(_pss_mb, _below(os.getpid()))))

    def end(self) -> float:
        """Look no more; the most there was."""
        self._ended.set()
        self.join()
        return self.most_mb


def _below(process: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)


def _pss_mb(process: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cost_of(*stages: list[str]) -> Cost:
    """What a pipe of whole processes costs."""
    memory = Memory()
    memory.start()
    start, running, source = time.perf_counter(), [], None
    for stage in stages:
        last = stage is stages[-1]
        process = subprocess.Popen(stage, stdin=source, stdout=subprocess.DEVNULL if last else subprocess.PIPE)
        if source:
            source.close()
        source = process.stdout
        running.append(process)
    cpu = peak = 0.0
    for process in running:
        # The usage of a process that is waited for holds that of the children it has waited for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{process.args} failed")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss * 1024 / 1e6)
    wall = time.perf_counter() - start
    return Cost(wall, cpu, peak, memory.end())


def ours(raw: Path, out: Path, more: str = "", tonemill: Sequence[str] = (TONEMILL,)) -> Cost:
    steps = [["resample", "--rate", str(RATE), "--channels", "mono"], ["slice", "--seconds", "2"]]
    stages = [
        ["scan", str(raw), "-q"],
        *steps,
        *([more.split()] if more else []),
        ["shard", str(out), "--workers", "2", "-q"],
    ]
    return cost_of(*([*tonemill, *stage] for stage in stages))


def theirs(raw: Path, out: Path, kind: str) -> Cost:
    return cost_of([sys.executable, "-m", "benchmarks.shard", "--loop", kind, str(raw), str(out)])


def check(corpus: Path, loop: Path, expected: int) -> str:
    """Decode every clip of the loop, and hold each 50th of ours against it."""
    places = {}
    for path in loop.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                samples, rate = soundfile.read(tar.extractfile(member), dtype="int16")
                assert samples.shape == (CLIP,) and rate == RATE, member.name
                places[member.name] = path, member.offset_data
    index = parquet.read_table(corpus / "index.parquet").to_pylist()
    assert len(places) == len(index) == expected, (len(places), len(index), expected)
    worst = 0
    for row in index[::50]:
        other = places[f"{Path(row['source']).stem}-{row['clip']:04d}.flac"]
        pair = [decoded_at(corpus / f"{row['shard']}.tar", row["audio_offset"]), decoded_at(*other)]
        worst = max(worst, int(np.abs(pair[0] - pair[1]).max()))
    return f"{expected:,} clips on either side, each whole; ours and the loop's differ by {worst} of 32768 at most."


def decoded_at(path: Path, offset: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(offset)
        return soundfile.read(io.BytesIO(file.read(4 * CLIP)), dtype="int16")[0].astype(int)


def whole(folder: Path, hours: float, runs: int, more: list[str], before: Path | None) -> None:
    raw = folder / "raw"
    names = [f"{i:04d}.wav" for i in range(round(60 * hours))]
    for i, name in enumerate(names[FILES:]):
        os.link(raw / names[i % FILES], raw / name)
    contenders: dict[str, Callable[[Path], Cost]] = {
        "tonemill": partial(ours, raw),
        "plain loop": partial(theirs, raw, kind="plain"),
        "tuned loop": partial(theirs, raw, kind="tuned"),
        **({} if before is None else {"before": partial(ours, raw, tonemill=command_of(before, folder))}),
        **{f"tonemill with {step}": partial(ours, raw, more=step) for step in more},
    }
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for turn in range(runs):
        for name, contender in contenders.items():
            out = folder / name.replace(" ", "-")
            shutil.rmtree(out, ignore_errors=True)
            costs[name].append(contender(out))
            print(f"{name} {turn}: {costs[name][-1]}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    medians = {
        name: Cost(
            *(statistics.median(getattr(one, what) for one in some) for what in ("wall", "cpu", "peak_mb", "all_mb"))
        )
        for name, some in costs.items()
    }
    plain = medians["plain loop"]
    allowed = 3 + 1.05 * plain.wall
    print("| | wall, s | CPU, s | ratio, wall | ratio, CPU | peak, MB | all, MB |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, one in medians.items():
        ratios = f"{one.wall / plain.wall:.2f} | {one.cpu / plain.cpu:.2f}"
        print(
            f"| {name}, {hours:g} h | {one.wall:.1f} | {one.cpu:.1f} | {ratios} | {one.peak_mb:.0f} "
            f"| {one.all_mb:.0f} |"
        )
    print(f"\nTarget: 3 s + 1.05 x {plain.wall:.1f} s = {allowed:.1f} s, under 500 MB. ", end="")
    print(check(folder / "tonemill", folder / "plain-loop", CLIPS * len(names)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0, help="of audio (default 1)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default 3)")
    parser.add_argument(
        "--with", action="append", default=[], dest="more", help="a step after slice, in a run of its own"
    )
    parser.add_argument("--before", type=Path, help="another checkout, which takes its turns too")
    parser.add_argument("--folder", type=Path, help="where to work; needs 1 GB and 0.7 GB for each hour")
    parser.add_argument("--loop", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        kind, raw, out = options.loop
        run_loop(Path(raw), Path(out), kind == "tuned")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        with Pool(2) as pool:  # not here: a process's peak counts what its parent held when it was started
            pool.starmap(make_minute, [(folder / "raw", number) for number in range(FILES)])
        whole(folder, options.hours, options.runs, options.more, options.before)


if __name__ == "__main__":
    main()
