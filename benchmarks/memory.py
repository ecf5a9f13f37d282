"""Measure what each step holds in memory while it works on one recording of hours.

    python -m benchmarks.memory        # three hours of 96 kHz stereo, 24 bit; needs 16 GB of disk, and half an hour
    python -m benchmarks.memory --hours 0.2 --only trim --only fade

The recording is an RF64 file of drum loops, noise and a minute of silence here and there, with another gain each
minute, so that no two are equal. Every pipe is `scan | step | slice --seconds 10 --hop-seconds 300 | shard`, on one
worker, unless the table names another: clips are few, so that the codec of the output does not take all the time. The
dry/wet pair is the recording and itself, 100 samples later, with its polarity turned.

    peak        resident memory of the largest process of the pipe, its workers among them
    speed       seconds of sound in a second, whole pipe
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.shard import TONEMILL

RATE: Final = 96_000
LIMIT_MB: Final = 600.0

CASES: Final = {
    "slice --seconds 10, every clip": "{scan} | slice --seconds 10 | {shard}",
    "resample (soxr, 44.1 kHz, mono)": "{scan} | resample --rate 44100 --channels mono | {slice} | {shard}",
    "resample (resampy, 44.1 kHz)": "{scan} | resample --rate 44100 --engine resampy | {slice} | {shard}",
    "channels left": "{scan} | channels left | {slice} | {shard}",
    "channels loudest": "{scan} | channels loudest | {slice} | {shard}",
    "channels explode": "{scan} | channels explode | {slice} | {shard}",
    "trim": "{scan} | trim | {slice} | {shard}",
    "fade": "{scan} | fade --in-ms 10 --out-ms 1000 | {slice} | {shard}",
    "normalize --peak-db": "{scan} | normalize --peak-db -1 | {slice} | {shard}",
    "normalize --lufs": "{scan} | normalize --lufs -23 | {slice} | {shard}",
    "filter": "{scan} | filter --max-peak-db 0 --min-loudness-lufs -60 --max-silence 0.9 | {slice} | {shard}",
    "measure": "{scan} | measure | {slice} | {shard}",
    "loops --bpm 120": "{scan} | loops --bars 4 --bpm 120 | {shard}",
    "loops --bpm auto": "{scan} | loops --bars 4 --bpm auto --min-confidence 0 | {shard}",
    "align": "{pair} | align | {slice} | {shard}",
    "dedup": "{scan} | dedup --cache {cache} | {slice} | {shard}",
    "write, one FLAC of all": "{scan} | write {out} --format flac --workers 1 -q",
}


def make_recording(path: Path, hours: float, late: int = 0, polarity: float = 1.0) -> None:
    """An RF64 file of so many hours."""
    from tonemill.audiotools.synthetic import PATTERNS, loop

    rng = np.random.default_rng(0)
    parts = [loop(120, 4, RATE, pattern, seed=number, channels=2) for number, pattern in enumerate(PATTERNS.values())]
    sound = np.concatenate(parts, axis=1)
    minute = np.pad(sound, ((0, 0), (0, 60 * RATE - sound.shape[1])), mode="wrap")
    minute = 0.5 * minute + rng.normal(0, 0.01, minute.shape)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24", format="RF64") as file:
        file.write(np.zeros((late, 2)))
        for number in range(round(60 * hours)):
            gain = 0.0 if number % 20 == 0 else rng.uniform(0.2, 0.9)
            file.write((polarity * gain * minute.T).astype(np.float32))


@dataclass(frozen=True)
class Cost:
    wall: float
    peak_mb: float
    error: str


def cost_of(pipe: str) -> Cost:
    """What the processes of a pipe cost; the largest of them, and of those that they started and waited for."""
    begun = time.monotonic()
    shell = ["bash", "-o", "pipefail", "-c", pipe]
    process = subprocess.Popen(shell, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(time.monotonic() - begun, usage.ru_maxrss * 1024 / 1e6, errors.strip()[-300:] if status else "")


def command(pipe: str, folder: Path) -> str:
    """A case as bash takes it."""
    places = {"cache": folder / "cache", "out": folder / "out"}
    known = {
        "scan": f"scan {folder / 'raw' / 'long.wav'} -q",
        "pair": f"pair {folder / 'raw' / 'long.wav'} {folder / 'wet' / 'long.wav'}",
        "slice": "slice --seconds 10 --hop-seconds 300",
        "shard": f"shard {folder / 'out'} --workers 1 -q",
    }
    words = pipe.format(**known, **{name: shlex.quote(str(place)) for name, place in places.items()})
    return " | ".join(f"{TONEMILL} {stage.strip()}" for stage in words.split("|"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=float, default=3.0, help="of the recording (default 3)")
    parser.add_argument("--only", action="append", default=[], help="cases whose name holds this")
    parser.add_argument("--folder", type=Path, help="where to work")
    options = parser.parse_args()
    cases = {name: pipe for name, pipe in CASES.items() if not options.only or any(o in name for o in options.only)}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for place, late, polarity in (("raw", 0, 1.0), ("wet", 100, -1.0)):
            if place == "raw" or "align" in cases:
                (folder / place).mkdir()
                with Pool(1) as pool:  # not here: a process's peak counts what its parent held when it was started
                    pool.apply(make_recording, (folder / place / "long.wav", options.hours, late, polarity))
        size = (folder / "raw" / "long.wav").stat().st_size
        print(f"{options.hours:g} h, {size / 1e9:.1f} GB; wanted: under {LIMIT_MB:g} MB\n", flush=True)
        print("| step | peak, MB | speed |\n|---|--:|--:|", flush=True)
        for case, pipe in cases.items():
            cost = cost_of(command(pipe, folder))
            failure = f" ({cost.error})" if cost.error else ""
            print(f"| {case} | {cost.peak_mb:.0f} | {3600 * options.hours / cost.wall:.0f} x |{failure}", flush=True)
            for left in ("out", "cache"):
                shutil.rmtree(folder / left, ignore_errors=True)


if __name__ == "__main__":
    main()
