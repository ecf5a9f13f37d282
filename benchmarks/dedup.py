"""Measure how well copies of recordings are found, and how fast: recall by what was done to a copy, and false merges.

    python -m benchmarks.dedup FOLDER...       # of recordings that are not copies of each other
    python -m benchmarks.dedup                 # of drum hits and loops that it makes
    python -m benchmarks.dedup --scale 100000  # the search for candidates alone, among made-up outlines

Of each recording (its first 12 s) it makes copies: gain, polarity, resampling, a delay, trims, lossy coding. They are
compared in memory as `dedup` does it.

    found        copies whose outline is near enough to be a candidate
    copies       share of all that is then found to be copies: the recall
    excess, dB   95th percentile of the differences of level and phase beyond coding noise; 0.09 is the limit
    merged       pairs of different recordings found to be copies: look at them, some are real copies
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import soundfile

from tonemill.audiotools.codecs import files
from tonemill.audiotools.comparison.copies import are_copies, likeness
from tonemill.audiotools.comparison.fingerprint import OUTLINE, Fingerprint, fingerprint
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.dedup.clusters import MAX_OUTLINE_DB, _candidates
from tonemill.pipelines.dedup.fingerprints import Entry
from tonemill.pipelines.sources.scan import find_audio

SECONDS = 12


def copies(sound: Waveform) -> Iterator[tuple[str, Waveform]]:
    """What may have been done to a recording."""
    x, rate = sound.samples, sound.sample_rate
    yield "14 dB softer, 16 bits", Waveform((np.rint(x * 0.2 * 32768) / 32768).astype(np.float32), rate)
    yield "polarity", Waveform(-x, rate)
    yield "mono", Waveform(x.mean(axis=0, keepdims=True), rate)
    yield "100 ms late", Waveform(np.pad(x, ((0, 0), (rate // 10, 0))), rate)
    yield "37.3 ms late", Waveform(np.pad(x, ((0, 0), (round(0.0373 * rate), 0))), rate)
    cut = min(rate // 10, x.shape[1] // 20)
    yield "5 % (up to 100 ms) off the end", Waveform(x[:, : x.shape[1] - cut], rate)
    if x.shape[1] > 1.5 * rate:
        yield "50 ms off the start, if longer than 1.5 s", Waveform(x[:, rate // 20 :], rate)
    for other in (48000, 44100, 22050, 16000):
        if rate >= 32000 and rate != other:
            yield f"resampled to {other}", Waveform(resample(x, rate, other), other)
    # MP3 has few rates.
    codable = sound if rate in (8000, 16000, 22050, 44100, 48000) else Waveform(resample(x, rate, 44100), 44100)
    full, least = (320, 32) if codable.sample_rate >= 32000 else (160, 8)
    for kbps in (64, 128, full):
        level = (full - kbps) / (full - least)
        yield f"mp3, {kbps} kbps", coded(codable, "MP3", level, subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT")
    for quality in (0, 4, 9):
        yield f"ogg, quality {quality}", coded(codable, "OGG", 1 - quality / 10, subtype="VORBIS")
    if rate >= 32000:
        low = Waveform(resample(0.3 * x, rate, 22050), 22050)
        yield "10 dB softer, 22050 Hz, ogg quality 0", coded(low, "OGG", 1.0, subtype="VORBIS")


def coded(sound: Waveform, container: str, level: float, **options: str) -> Waveform:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound.samples.T, sound.sample_rate, format=container, compression_level=level, **options)
    return files.read(buffer.getvalue()).whole()


def recordings(folders: list[str]) -> Iterator[tuple[str, Waveform]]:
    for path, place in find_audio(folders).audio:
        try:
            rate = files.read(Path(place)).sample_rate
            yield path, files.read(Path(place), 0, SECONDS * rate).whole()
        except AudioError as error:
            print(f"left out: {path}: {error}")


def entry_of(made: Fingerprint) -> Entry:
    names = {field.name for field in fields(Entry)} & {field.name for field in fields(Fingerprint)}
    return Entry(**{name: getattr(made, name) for name in names}, place=Path(), offset=0, samples=0)


def distance_db(one: Fingerprint, other: Fingerprint) -> float:
    return float(np.sqrt(np.mean((one.outline - other.outline) ** 2)))


def measure(folders: list[str], every: int) -> None:
    originals: dict[str, Fingerprint] = {}
    rows: dict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    spent, seconds, made = 0.0, 0.0, 0
    for number, (path, sound) in enumerate(recordings(folders)):
        begun = time.process_time()
        original = originals[path] = fingerprint([sound])
        spent, seconds, made = spent + time.process_time() - begun, seconds + sound.frames / sound.sample_rate, made + 1
        if number % every or original.is_silent:
            continue
        for what, copy in copies(sound):
            other = fingerprint([copy])
            top_hz = 0.9 * min(original.bandwidth_hz, other.bandwidth_hz)
            alike = likeness(original.pieces()[0], other.pieces()[0], top_hz)
            near = original.pcm_digest == other.pcm_digest or distance_db(original, other) <= MAX_OUTLINE_DB
            rows[what].append((near, near and are_copies(original, other), alike.excess_db))
    print("| what was done | pairs | found | copies | excess, dB |\n|---|--:|--:|--:|--:|")
    for what, pairs in rows.items():
        near, same, excess = (np.array(column, float) for column in zip(*pairs, strict=True))
        print(f"| {what} | {len(pairs)} | {near.mean():.1%} | {same.mean():.1%} | {np.percentile(excess, 95):.3f} |")
    total = [same for pairs in rows.values() for _, same, _ in pairs]
    print(f"| all | {len(total)} | | {np.mean(total):.1%} | |\n")
    paths, prints = list(originals), list(originals.values())
    entries = dict(enumerate(map(entry_of, prints)))
    begun = time.process_time()
    pairs = sorted(_candidates(list(entries), entries))
    searched, begun = time.process_time() - begun, time.process_time()
    merged = [(paths[a], paths[b]) for _, a, b in pairs if are_copies(prints[a], prints[b])]
    compared = time.process_time() - begun
    print(f"{made} recordings, {made * (made - 1) // 2:,} pairs: {len(pairs)} candidates, {len(merged)} merged")
    for one, other in merged:
        print(f"    {one} = {other}")
    print(f"fingerprints: {made / spent:.0f} files and {seconds / spent:.0f} s of audio per second of CPU time")
    print(f"search: {1000 * searched:.0f} ms; comparing: {1000 * compared / max(1, len(pairs)):.1f} ms a candidate")


def measure_search(count: int) -> None:
    """Among outlines spread as those of speech are, 5 dB from each other, with lengths from 0.1 to 3 s."""
    rng = np.random.default_rng(0)
    outlines = rng.normal(-15, 3.5, (count, OUTLINE)).astype(np.float32)
    lengths = np.round(0.1 * 30 ** rng.random(count), 2)
    entries = {
        number: Entry(str(number), 44100, 22050.0, 16, False, float(lengths[number]), outlines[number], Path(), 0, 0)
        for number in range(count)
    }
    begun = time.perf_counter()
    found = sum(1 for _ in _candidates(list(entries), entries))
    print(f"search among {count:,} outlines: {time.perf_counter() - begun:.1f} s, {found} candidates")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="*", help="recordings; drum hits and loops are made if none is given")
    parser.add_argument("--every", type=int, default=1, help="make copies of every n-th only (default 1)")
    parser.add_argument("--scale", type=int, help="only search among so many made-up outlines")
    options = parser.parse_args()
    if options.scale:
        measure_search(options.scale)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not options.folders:
            from tonemill.audiotools.demo_corpus import write_drum_machine

            write_drum_machine(Path(folder), hits=32, loops=8)
        measure(options.folders or [folder], options.every)


if __name__ == "__main__":
    main()
