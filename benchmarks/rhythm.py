"""Measure tempo and bar lines on drum patterns whose every beat is known: per set, rhythm, tempo range and condition.

    python -m benchmarks.rhythm                # the rhythms of tests/kit/patterns.py, as a machine plays them
    python -m benchmarks.rhythm --played       # other rhythms, as people play them, with made sounds
    python -m benchmarks.rhythm --drums FOLDER # again others, with real drum hits: FOLDER/bd, sn, hh and so on
    ... --fresh                                # rhythms that were looked at only when everything was set
    ... --tones                                # with bass, and chords that change each bar, on top
    ... --hits PART                            # with every other hit of FOLDER: even or odd
    ... --every N                              # of the pieces, the first of N
    ... --misses                               # say which pieces were missed, and how

loops   files of 1, 2 and 4 bars, cut to the sample: tempo within 1 %, octave included
bars    recordings of 16 bars: bar lines within 10 ms, of all bar lines
A played piece has hits up to 8 ms early or late, uneven velocities, ghost notes, a fill every fourth bar, and in turn
a tempo that drifts by 2 %, silence before and after, or a pick-up before the first bar.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.playing import (
    FRESH,
    PLAYED,
    RATE,
    UNSEEN,
    Piece,
    Rhythms,
    Sounds,
    drum_sounds,
    made_sounds,
    played,
    with_tones,
)
from tonemill.audiotools.rhythm.beats import find_beats
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.waveform import Waveform

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))
from patterns import RHYTHMS, perform


def machine_pieces() -> Iterator[Piece]:
    for rhythm, (beats_per_bar, _) in RHYTHMS.items():
        for bpm in np.linspace(70, 180, 13):
            for bars in (1, 2, 4):
                for swing in (0.5, 0.6):
                    one = perform(rhythm, bpm, bars, swing=swing, seed=bars)
                    yield Piece(
                        "loops", rhythm, bpm, f"swing {swing}", beats_per_bar, one.samples, one.beats[::beats_per_bar]
                    )
        for bpm in np.linspace(70, 180, 6):
            conditions: dict[str, dict[str, Any]] = {
                "drift": {"drift": 0.02},
                "drift, silence": {"drift": 0.02, "lead_seconds": 0.7, "tail_seconds": 0.7},
                "swing, 3 ms": {"swing": 0.6, "jitter_ms": 3.0, "lead_seconds": 0.5, "tail_seconds": 1.0},
            }
            for name, how in conditions.items():
                one = perform(rhythm, bpm, 16, seed=int(bpm), **how)
                yield Piece("bars", rhythm, bpm, name, beats_per_bar, one.samples, one.beats[::beats_per_bar])


def played_pieces(rhythms: Rhythms, sounds: Sounds) -> Iterator[Piece]:
    for place, (rhythm, what) in enumerate(rhythms.items()):
        beats_per_bar = what[0]
        for bpm in np.linspace(72, 178, 7):
            for bars in (1, 2, 4):
                samples, beats = played(what, bpm, bars, sounds, 1000 * place + int(bpm) + bars, "loop")
                yield Piece("loops", rhythm, bpm, "loop", beats_per_bar, samples, beats[::beats_per_bar])
            for number, condition in enumerate(("drift", "silence", "pick-up")):
                samples, beats = played(what, bpm, 16, sounds, 5000 + 100 * place + int(bpm) + number, condition)
                yield Piece("bars", rhythm, bpm, condition, beats_per_bar, samples, beats[::beats_per_bar])


def measured(piece: Piece) -> tuple[int, int, str]:
    """What is right, of how much; and what is wrong."""
    sound = Waveform(piece.samples, RATE)
    found_onsets = onsets(sound)
    found = find_beats(found_onsets, piece.beats_per_bar)
    ratio = found.tempo_bpm / piece.tempo_bpm
    if piece.group == "loops":
        right = int(abs(ratio - 1) < 0.01)
        return right, 1, "" if right else f"{found.tempo_bpm:.1f} BPM, {ratio:.2f} times"
    lines = found.bars(piece.beats_per_bar).ravel()
    near = [float(np.abs(lines - bar).min()) if len(lines) else np.inf for bar in piece.bars]
    right = int(np.count_nonzero(np.array(near) <= 0.010))
    if right >= 0.9 * len(near):
        return right, len(near), ""
    offset = "none"
    if len(lines):
        beat = 60 / piece.tempo_bpm
        offset = f"{float(np.median([(lines[np.abs(lines - bar).argmin()] - bar) / beat for bar in piece.bars])):+.2f}"
    return right, len(near), f"{ratio:.2f} times the tempo, bars {offset} beats off, {right} of {len(near)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--played", action="store_true")
    parser.add_argument("--drums", type=Path)
    parser.add_argument("--hits", choices=("all", "even", "odd"), default="all")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--tones", action="store_true")
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.drums:
        pieces = list(played_pieces(FRESH if options.fresh else UNSEEN, drum_sounds(options.drums, options.hits)))
    else:
        pieces = list(played_pieces(PLAYED, made_sounds) if options.played else machine_pieces())
    pieces = pieces[:: options.every]
    if options.tones:
        pieces = [with_tones(piece, seed) for seed, piece in enumerate(pieces)]
    counts: dict[tuple[str, str, str], np.ndarray] = defaultdict(lambda: np.zeros(2, int))
    with ProcessPoolExecutor(options.workers) as pool:
        for piece, (right, of, wrong) in zip(pieces, pool.map(measured, pieces, chunksize=8), strict=True):
            speed = (
                "under 90 BPM"
                if piece.tempo_bpm < 90
                else "90 to 150 BPM"
                if piece.tempo_bpm <= 150
                else "over 150 BPM"
            )
            meter = f"{piece.beats_per_bar}/4"
            for kind, value in (
                ("", "all"),
                ("rhythm", piece.rhythm),
                ("meter", meter),
                ("tempo", speed),
                ("condition", piece.condition),
            ):
                counts[piece.group, kind, value] += (right, of)
            if wrong and options.misses:
                print(
                    f"{piece.group:6} {piece.rhythm:12} {piece.tempo_bpm:6.1f} {piece.condition:16} "
                    f"{len(piece.bars) - 1:2} bars: {wrong}"
                )
    print("| what | | right | of | |\n|---|---|--:|--:|--:|")
    for (group, kind, value), (right, of) in counts.items():
        print(f"| {group} | {f'{kind}: ' if kind else ''}{value} | {right} | {of} | {right / of:.1%} |")


if __name__ == "__main__":
    main()
