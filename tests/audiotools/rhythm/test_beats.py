"""Rhythm: beats of generated patterns within milliseconds, tempi of real loops, and clips of exact length."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from patterns import RHYTHMS, perform

from tonemill.audiotools.codecs import files
from tonemill.audiotools.editing.loop_seam import seam_of, with_seam
from tonemill.audiotools.editing.slicing import spans
from tonemill.audiotools.editing.stretching import stretched_loop
from tonemill.audiotools.rhythm.beat_grid import Beats
from tonemill.audiotools.rhythm.beats import find_beats
from tonemill.audiotools.rhythm.known_tempo import with_tempo
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.rhythm.tempo_tags import tempo_of_name, tempo_of_number, tempo_of_tags
from tonemill.audiotools.synthetic import loop, sine
from tonemill.audiotools.waveform import Flow, Sound, Waveform

LOOPS = Path(__file__).parents[4] / "shared" / "audio" / "loops"


def beats_of(sound: Sound, beats_per_bar: int = 4) -> Beats:
    return find_beats(onsets(sound), beats_per_bar)


@pytest.mark.skipif(not LOOPS.is_dir(), reason="the real loops are not beside this checkout")
def test_real_loops_have_the_tempo_of_their_length() -> None:
    with (LOOPS / "tempo.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found = beats_of(files.read(LOOPS / row["file"]))
            assert found.exact, row
            assert found.tempo_bpm == pytest.approx(float(row["bpm"]), rel=0.01), row


@pytest.mark.parametrize("rhythm", sorted(RHYTHMS))
@pytest.mark.parametrize("tempo_bpm", [92, 120, 150])
def test_a_loop_of_whole_bars_is_taken_whole(rhythm: str, tempo_bpm: int) -> None:
    beats_per_bar = RHYTHMS[rhythm][0]
    for bars in (1, 2, 4):
        played = perform(rhythm, tempo_bpm, bars, swing=0.55, seed=bars)
        found = beats_of(Waveform(played.samples, 22050), beats_per_bar)
        assert found.tempo_bpm == pytest.approx(tempo_bpm, rel=0.01)
        cut = found.bars(beats_per_bar)
        assert len(cut) == bars
        assert cut[0][0] == 0
        assert cut[-1][1] == pytest.approx(played.samples.shape[1] / 22050)


def boundary_errors_ms(rhythm: str, tempo_bpm: float, seed: int, **how: float) -> np.ndarray:
    beats_per_bar = RHYTHMS[rhythm][0]
    played = perform(rhythm, tempo_bpm, 16, seed=seed, **how)
    found = beats_of(Waveform(played.samples, 22050), beats_per_bar).bars(beats_per_bar).ravel()
    truth = played.beats[::beats_per_bar]
    return np.array([np.abs(found - time).min() if len(found) else np.inf for time in truth]) * 1000


def test_bars_of_long_recordings_that_drift_are_found_within_ten_milliseconds() -> None:
    errors = [
        boundary_errors_ms(rhythm, tempo_bpm, seed=int(tempo_bpm), drift=0.02, lead_seconds=lead, tail_seconds=lead)
        for rhythm in ("rock", "four", "funk", "waltz", "jazz waltz")
        for tempo_bpm in (95, 120, 145)
        for lead in (0.0, 0.7)
    ]
    assert (np.concatenate(errors) < 10).mean() > 0.95


def test_a_rounded_tempo_is_corrected_by_the_length_of_a_loop() -> None:
    played = perform("rock", 87, 2)
    strengths = onsets(Waveform(played.samples, 22050))
    found = with_tempo(strengths, 87.3, rounding_bpm=0.5)
    assert found.exact
    assert found.tempo_bpm == pytest.approx(87, abs=0.01)


@pytest.mark.parametrize(("bars", "tail_seconds"), [(1, 0.03), (16, 0.09), (4, -0.02), (4, 0.3)])
@pytest.mark.parametrize("rounding_bpm", [0.0, 0.5])
def test_a_stated_tempo_beats_a_length_that_rings_on(bars: int, tail_seconds: float, rounding_bpm: float) -> None:
    samples = perform("rock", 120, bars).samples[:, : round((2 * bars + tail_seconds) * 22050)]
    samples = np.pad(samples, ((0, 0), (0, max(0, round((2 * bars + tail_seconds) * 22050) - samples.shape[1]))))
    found = with_tempo(onsets(Waveform(samples, 22050)), 120.0, rounding_bpm=rounding_bpm).bars(4)
    assert len(found) == bars
    assert found[:, 0] == pytest.approx(2.0 * np.arange(bars), abs=0.001)
    assert found[:, 1] == pytest.approx(np.minimum(2.0 * np.arange(1, bars + 1), samples.shape[1] / 22050), abs=0.001)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_an_attack_is_found_where_it_is(rate: int) -> None:
    samples = np.zeros((1, rate), np.float32)
    at = round(0.437 * rate)
    samples[0, at : at + rate // 20] = np.random.default_rng(0).standard_normal(rate // 20) * 0.3
    strengths = onsets(Waveform(samples, rate))
    assert float(np.argmax(strengths.total)) * strengths.hop_seconds == pytest.approx(0.437, abs=0.006)


def test_onsets_do_not_depend_on_blocks_or_level() -> None:
    samples = loop(110, 2, 22050)
    whole = onsets(Waveform(samples, 22050))
    cut = onsets(Flow(lambda: iter(np.split(samples, [1, 700, 9000, 50000], axis=1)), 22050, 1))
    quiet = onsets(Waveform(samples * np.float32(0.01), 22050))
    assert whole.strength.shape == cut.strength.shape
    assert np.allclose(whole.strength, cut.strength, atol=1e-4)
    assert np.allclose(whole.strength, quiet.strength, atol=1e-2)


def test_silence_and_tones_have_beats_without_confidence() -> None:
    for samples in (np.zeros((1, 44100 * 8), np.float32), sine(220, 44100 * 8, 44100)):
        assert beats_of(Waveform(samples, 44100)).confidence < 0.7


@pytest.mark.parametrize("frames", [30000, 44100, 51234, 80000])
def test_a_stretched_loop_has_its_exact_length_its_pitch_and_its_attacks(frames: int) -> None:
    rate = 44100
    tone = sine(441, 44100, rate)
    stretched = stretched_loop(tone, rate, frames)
    assert stretched.shape == (1, frames)
    spectrum = np.abs(np.fft.rfft(stretched[0] * np.hanning(frames), 1 << 18))
    cents = 1200 * np.log2(spectrum.argmax() * rate / (1 << 18) / 441)
    assert abs(cents) < 5
    clicks = np.zeros((1, rate), np.float32)
    for beat in range(4):
        clicks[0, beat * rate // 4 : beat * rate // 4 + 300] = np.random.default_rng(0).standard_normal(300) * 0.3
    power = np.convolve(stretched_loop(clicks, rate, frames)[0] ** 2, np.ones(300) / 300, "same")
    for beat in range(1, 4):
        middle = round((beat / 4) * frames)
        around = power[middle - frames // 10 : middle + frames // 10]
        assert abs(float(np.argmax(around)) - frames // 10 - 150) / rate < 0.006


def test_a_crossfaded_seam_ends_where_it_starts_and_touches_nothing_else() -> None:
    rate = 44100
    clip = sine(100.5, rate, rate, phase=1.0)
    joined = with_seam(clip, rate, 5.0)
    assert abs(joined[0, -1] - joined[0, 0]) < 0.01
    assert np.array_equal(joined[:, : -round(0.005 * rate)], clip[:, : -round(0.005 * rate)])
    assert seam_of(joined, rate).smooth > seam_of(clip, rate).smooth


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 50], [99]])
def test_spans_are_slices(cuts: list[int]) -> None:
    samples = np.arange(200, dtype=np.float32).reshape(2, 100)
    edges = [(3, 10), (10, 40), (41, 41), (60, 100)]
    found = list(spans(iter(np.split(samples, cuts, axis=1)), edges))
    assert [np.array_equal(one, samples[:, a:b]) for one, (a, b) in zip(found, edges, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("name", "tempo_bpm"),
    [
        ("loops/break_120bpm_04.wav", 120),
        ("97.5 BPM bass.flac", 97.5),
        ("BPM_88/kick.wav", 88),
        ("drums-bpm174.wav", 174),
        ("take 12.wav", None),
        ("1200bpm.wav", None),
        ("x_5bpm.wav", None),
    ],
)
def test_tempi_in_names(name: str, tempo_bpm: float | None) -> None:
    found = tempo_of_name(name)
    assert (found and found[0]) == tempo_bpm
    # Half of the last digit.
    assert found is None or found[1] == (0.05 if "97.5" in name else 0.5)


@pytest.mark.parametrize(
    ("name", "seconds", "tempo_bpm"),
    [
        ("packs/SM_100_Am_Loop.wav", 9.6, 100),
        ("128_Drums.wav", 7.5, 128),
        ("Drums-174 (dry).wav", 16 * 60 / 174 + 0.01, 174),
        ("take 100.wav", 3.1, None),
        ("take 100.wav", 0.0, None),
        ("x_100_90.wav", 9.6, None),
        ("kick_007.wav", 9.6, None),
        ("loop_44100_100.wav", 9.6, 100),
        ("A120/riff.wav", 8.0, None),
        ("day_100.wav", 601.3, None),
    ],
)
def test_a_number_in_a_name_is_a_tempo_where_the_length_fits(
    name: str, seconds: float, tempo_bpm: float | None
) -> None:
    assert tempo_of_number(name, seconds, 4) == tempo_bpm


def acid(tempo_bpm: float, flags: int = 0) -> bytes:
    return b"acid" + struct.pack("<IIHHfIHHf", 24, flags, 60, 0x8000, 0.0, 8, 4, 4, tempo_bpm)


def test_tempi_in_tags(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 8000)
    plain = (tmp_path / "a.wav").read_bytes()
    for body, expected in ((acid(133.5), 133.5), (acid(133.5, flags=1), None), (acid(0.0), None), (b"acid", None)):
        data = plain[:36] + body + plain[36:]
        (tmp_path / "a.wav").write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
        assert tempo_of_tags(tmp_path / "a.wav") == expected


def test_tempi_in_id3_and_vorbis_comments(tmp_path: Path) -> None:
    import mutagen
    from mutagen.id3 import TBPM

    soundfile.write(tmp_path / "a.flac", np.zeros(1000), 8000)
    tagged = mutagen.File(tmp_path / "a.flac")
    tagged["BPM"] = "127"
    tagged.save()
    soundfile.write(tmp_path / "a.mp3", np.zeros(22050), 22050)
    mp3 = mutagen.File(tmp_path / "a.mp3")
    mp3.add_tags()
    mp3.tags.add(TBPM(encoding=3, text=["101"]))
    mp3.save()
    assert tempo_of_tags(tmp_path / "a.flac") == 127
    assert tempo_of_tags(tmp_path / "a.mp3") == 101
    (tmp_path / "junk.mp3").write_bytes(b"ID3\x04garbage")
    assert tempo_of_tags(tmp_path / "junk.mp3") is None
    assert tempo_of_tags(tmp_path / "missing.wav") is None
