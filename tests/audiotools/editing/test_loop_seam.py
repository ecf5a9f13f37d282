"""Joints of loops: cut loops score below whole ones, jumps count unless beats have them too, flat clips are marked."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jaxtyping import Float32
from sklearn.metrics import roc_auc_score

from tonemill.audiotools.editing.loop_seam import loopability, seam_of
from tonemill.audiotools.synthetic import PATTERNS, loop, sine

RATE = 16000
LOOPS = Path(__file__).parents[4] / "shared" / "audio" / "loops"
Clip = Float32[np.ndarray, "1 time"]


def drums(number: int) -> tuple[Clip, int]:
    """A loop of the drum machine and its beats."""
    pattern = list(PATTERNS.values())[number % len(PATTERNS)]
    beats, bars = len(pattern["kick"]) // 4, 1 + number % 2
    bpm = 80 + 7 * number % 80
    clip = loop(bpm, bars, RATE, pattern, seed=number, swing=(0.5, 0.58)[number % 2], beats_per_bar=beats)
    return clip, beats * bars


def chords(number: int) -> tuple[Clip, int]:
    """Decaying chords on two or three beats of a bar, of whole periods, so that nothing jumps at the joint."""
    rng = np.random.default_rng(number)
    count = round(240 / rng.integers(80, 140) * RATE)
    time, sound = np.arange(count) / count, np.zeros(count)
    for beat in rng.permutation(4)[: rng.integers(2, 4)]:
        envelope = np.exp(-3 * time) * np.minimum(1, np.arange(count) / 160)
        for harmonic in range(1, 8):
            periods = round(110 * 2 ** (rng.integers(24) / 12) * harmonic * count / RATE)
            tone = np.sin(2 * np.pi * periods * time + rng.uniform(0, 6)) / harmonic
            sound += np.roll(envelope, beat * count // 4) * tone
    return (0.5 * sound / np.abs(sound).max())[None].astype(np.float32), 4


@pytest.mark.parametrize("beats_are_known", [True, False])
def test_loops_with_30_ms_cut_off_are_distinguished(beats_are_known: bool) -> None:
    made = [drums(number) for number in range(20)] + [chords(number) for number in range(12)]
    missing = []
    scores: dict[str, list[float]] = {"whole": [], "cut": []}
    for clip, beats in made:
        known = beats if beats_are_known else None
        cut = seam_of(clip[:, : -round(0.03 * RATE)], RATE, known)
        scores["whole"].append(loopability(clip, RATE, known))
        scores["cut"].append(cut.loopability)
        missing.append(cut.missing_ms)
    labels = [1] * len(made) + [0] * len(made)
    assert roc_auc_score(labels, scores["whole"] + scores["cut"]) > 0.95
    assert np.median(missing) == pytest.approx(30, abs=6)
    assert np.median(scores["whole"]) > 0.9 > 0.6 > np.median(scores["cut"])


@pytest.mark.skipif(not LOOPS.is_dir(), reason="the loops to try with are not here")
def test_recorded_loops_are_distinguished_from_cut_ones() -> None:
    whole, cut = [], []
    with (LOOPS / "tempo.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            clip, rate = soundfile.read(LOOPS / row["file"], dtype="float32", always_2d=True)
            found = seam_of(clip.T, rate, int(row["beats"]))
            assert found.flat == ("drone" in row["file"])
            if not found.flat:
                whole.append(found.loopability)
                cut.append(loopability(clip.T[:, : -round(0.03 * rate)], rate, int(row["beats"])))
    assert len(whole) == 10
    assert roc_auc_score([1] * 10 + [0] * 10, whole + cut) > 0.95


def test_a_jump_counts_where_no_beat_has_it() -> None:
    assert loopability(sine(100.5, RATE, RATE, phase=1.0), RATE) < 0.3, "a click"
    loud_end = np.concatenate([sine(300, RATE, RATE, 0.001), sine(300, RATE // 2, RATE, 0.5)], axis=1)
    assert loopability(loud_end, RATE) < 0.5, "a tail cut off"
    assert loopability(loop(120, 1, RATE), RATE) > 0.9


def test_flat_clips_stand_apart() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * RATE)).astype(np.float32)
    for clip in (noise, noise[:, :-480], np.zeros_like(noise), sine(100, RATE, RATE), noise[:, :100]):
        assert seam_of(clip, RATE).flat
        assert math.isnan(loopability(clip, RATE))


def test_the_percentile_is_the_share_of_beats_at_which_less_changes() -> None:
    beat = RATE // 2
    clip = np.zeros((1, 4 * beat), np.float32)
    for number, level in enumerate((0.2, 0.4, 0.05, 0.1)):
        burst = np.random.default_rng(number).standard_normal(beat // 3)
        clip[0, number * beat : number * beat + beat // 3] = level * burst * np.exp(-np.arange(beat // 3) / 400)
    percentiles = [seam_of(np.roll(clip, -n * beat, axis=1), RATE, 4).percentile for n in range(4)]
    assert np.argsort(percentiles).tolist() == [2, 3, 0, 1], "the louder the attack at the joint, the higher"
    assert max(percentiles) == 1
    assert loopability(clip, RATE, 4) == pytest.approx(1, abs=0.1), "a soft downbeat is none the worse"
