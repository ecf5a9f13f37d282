"""Measure tempo, bar lines and stated confidence on takes of drums whose truth is known (`tests/kit/takes.py`).

python -m benchmarks.takes                # the 300 takes of the tests
... --first SEED --takes N                # others
... --short                               # of one to three bars
... --unclear                             # whose tempo is open
... --misses                              # say which were missed, and how
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np

from tonemill.audiotools.rhythm.beats import find_beats
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.waveform import Waveform

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))
from takes import RATE, Verdict, judged, take, unclear_take


def measured(seed: int, bars: tuple[int, int], unclear: bool) -> tuple[str, str, Verdict]:
    one = unclear_take(seed) if unclear else take(seed, bars=bars)
    found = find_beats(onsets(Waveform(one.samples, RATE)), one.beats_per_bar)
    what = f"{one.rhythm} at {one.tempo_bpm:.1f}: {found.tempo_bpm:.1f} BPM, confidence {found.confidence:.2f}"
    return one.rhythm, what, judged(one, found)


def print_speed() -> None:
    """Each does ten takes, once before its time is taken: numba compiles at the first call."""
    import librosa

    sounds = [take(seed).samples for seed in range(10)]
    minutes = sum(sound.shape[1] for sound in sounds) / RATE / 60
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "find_beats": lambda sound: find_beats(onsets(Waveform(sound, RATE))),
        "librosa.beat.beat_track": lambda sound: librosa.beat.beat_track(y=sound[0], sr=RATE),
    }
    print("| | CPU seconds per minute of sound |\n|---|--:|")
    for name, way in ways.items():
        way(sounds[0])
        started = process_time()
        for sound in sounds:
            way(sound)
        print(f"| {name} | {(process_time() - started) / minutes:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--takes", type=int, default=300)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--unclear", action="store_true")
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.speed:
        print_speed()
        return
    bars = (1, 3) if options.short else (6, 14)
    seeds = range(options.first, options.first + options.takes)
    with ProcessPoolExecutor(options.workers) as pool:
        each = list(pool.map(partial(measured, bars=bars, unclear=options.unclear), seeds, chunksize=8))
    for seed, (_, what, verdict) in zip(seeds, each, strict=True):
        if options.misses and not (verdict.octave and verdict.starts >= 0.9 * verdict.bars == 0.9 * verdict.of):
            print(f"take {seed}: {what}; {verdict.starts} of {verdict.bars} bars on one of {verdict.of}")
    print("| rhythm | takes | octave | bars cut on a bar line | bars found | too many | in silence |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for rhythm in ("all", *sorted({rhythm for rhythm, _, _ in each})):
        some = [verdict for name, _, verdict in each if rhythm in ("all", name)]
        octave = np.mean([one.octave for one in some])
        starts = sum(one.starts for one in some) / max(1, sum(one.bars for one in some))
        found = sum(one.found for one in some) / sum(one.of for one in some)
        many, silent = sum(one.bars > one.of for one in some), sum(one.silent for one in some)
        print(f"| {rhythm} | {len(some)} | {octave:.1%} | {starts:.1%} | {found:.1%} | {many} | {silent} |")
    print("\n| stated confidence | takes | stated | right |\n|---|--:|--:|--:|")
    stated = np.array([verdict.confidence for _, _, verdict in each])
    right = np.array([verdict.octave for _, _, verdict in each])
    for fifth in range(5):
        inside = (np.minimum(stated, 0.999) * 5).astype(int) == fifth
        if inside.any():
            share = f"{stated[inside].mean():.3f} | {right[inside].mean():.3f}"
            print(f"| {fifth / 5:.1f} to {(fifth + 1) / 5:.1f} | {inside.sum()} | {share} |")


if __name__ == "__main__":
    main()
