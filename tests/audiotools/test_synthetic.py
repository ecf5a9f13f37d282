"""The drum machine keeps time to the sample, starts and ends clean, and writes the truth about what it wrote."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tonemill.audiotools.demo_corpus import write_drum_machine
from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.audiotools.synthetic import PATTERNS, RANGES, VOICES, hit, loop, sine, sweep, varied

RATE = 44100
every_voice = pytest.mark.parametrize("voice", VOICES)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-30))


def middle_hz(samples: np.ndarray, sample_rate: int = RATE) -> float:
    """The frequency with half of the power on either side."""
    power = np.cumsum(np.abs(np.fft.rfft(samples)) ** 2)
    return float(np.searchsorted(power, power[-1] / 2) * sample_rate / samples.size)


def test_a_sine_has_its_frequency_phase_and_amplitude() -> None:
    tone = sine(441, RATE, RATE, amplitude=0.25, phase=np.pi / 2)
    assert tone.shape == (1, RATE)
    assert tone[0, 0] == pytest.approx(0.25, abs=1e-6)
    np.testing.assert_allclose(tone[0, 100::100], 0.25, atol=1e-6)  # 441 Hz is 100 frames
    assert np.argmax(np.abs(np.fft.rfft(tone[0]))) == 441


def test_a_sweep_spends_equal_time_in_every_octave() -> None:
    glide = sweep(100, 1600, 4 * RATE, RATE)[0]  # four octaves in four seconds
    for second in range(4):
        around = glide[int((second + 0.45) * RATE) :][: RATE // 10] * np.hanning(RATE // 10)
        assert middle_hz(around) == pytest.approx(100 * 2 ** (second + 0.5), rel=0.03)


@every_voice
def test_a_hit_starts_at_once_peaks_below_full_scale_and_ends_in_silence(voice: str) -> None:
    for seed in range(10):
        for sample_rate in (16000, 44100, 48000):
            sound = hit(voice, sample_rate, seed, varied(voice, np.random.default_rng(seed)))[0]
            assert np.abs(sound).max() == pytest.approx(0.8, abs=1e-6)
            assert np.argmax(np.abs(sound) > 0.02) < 0.002 * sample_rate
            assert abs(sound[-1]) < 1e-6
            assert level_db(sound[-sound.size // 10 :]) < level_db(sound) - 25
            assert abs(sound.mean()) < 0.08


@every_voice
def test_one_seed_gives_one_sound_and_another_another(voice: str) -> None:
    parameters = varied(voice, np.random.default_rng(1))
    assert parameters.keys() == RANGES[voice].keys()
    assert all(low <= parameters[name] <= high for name, (low, high) in RANGES[voice].items())
    first = hit(voice, RATE, 1, parameters)
    np.testing.assert_array_equal(first, hit(voice, RATE, 1, parameters))
    assert not np.array_equal(first, hit(voice, RATE, 2, parameters))
    left, right = hit(voice, RATE, 1, parameters, channels=2)
    np.testing.assert_allclose(left, first[0], atol=1e-6)
    assert not np.array_equal(left, right)


def test_each_voice_sounds_where_such_a_drum_sounds() -> None:
    spectrum_hz = {voice: middle_hz(hit(voice, RATE, 0, {})[0]) for voice in VOICES}
    assert spectrum_hz["kick"] < 120 < 150 < spectrum_hz["snare"] < 6000
    assert 700 < spectrum_hz["clap"] < 3000 < 7000 < spectrum_hz["hat"]


def test_a_kick_falls_in_pitch_and_comes_to_rest_where_it_was_set() -> None:
    sound = hit("kick", RATE, 0, {"pitch_hz": 55.0, "decay_ms": 900.0, "drive": 1.0, "click": 0.0})[0]
    crossings = np.flatnonzero(np.diff(np.signbit(sound[: RATE // 2])))
    half_periods_hz = RATE / 2 / np.diff(crossings)
    assert half_periods_hz[0] > 110
    assert half_periods_hz[-5:] == pytest.approx(55, abs=1)


@pytest.mark.parametrize("decay_ms", [50.0, 200.0, 400.0])
def test_a_decay_is_the_time_to_fall_by_60_db(decay_ms: float) -> None:
    sound = hit("hat", RATE, 0, {"decay_ms": decay_ms})[0]
    first, second = sound[: sound.size // 4], sound[sound.size // 2 : 3 * sound.size // 4]
    assert level_db(first) - level_db(second) == pytest.approx(30, abs=3)


@pytest.mark.parametrize("bpm", [60, 93.7, 120, 174])
@pytest.mark.parametrize(("bars", "beats"), [(1, 4), (2, 3), (8, 4)])
@pytest.mark.parametrize("sample_rate", [22050, 44100])
def test_a_loop_lasts_its_bars_to_the_sample(bpm: float, bars: int, beats: int, sample_rate: int) -> None:
    sound = loop(bpm, bars, sample_rate, beats_per_bar=beats)
    assert sound.shape == (1, round(bars * beats * 60 / bpm * sample_rate))
    assert np.abs(sound).max() == pytest.approx(0.8)


def test_loops_of_one_kit_have_its_drums_whatever_their_seed() -> None:
    kit = {"kick": {"pitch_hz": 55.0, "decay_ms": 300.0, "drive": 1.0, "click": 0.0}}
    first, second = (loop(100, 1, RATE, {"kick": "x..............."}, seed=seed, kit=kit)[0] for seed in (1, 2))
    np.testing.assert_allclose(first, second, atol=1e-6)
    other = loop(100, 1, RATE, {"kick": "x..............."}, seed=1)[0]
    assert np.abs(first - other).max() > 0.1


def onsets(sound: np.ndarray) -> list[int]:
    """Frames at which sound begins after a millisecond of near silence."""
    loud = np.abs(sound) > 1e-3
    quiet_before = np.convolve(loud, np.ones(45), "full")[: sound.size] - loud == 0
    return [int(frame) for frame in np.flatnonzero(loud & quiet_before)]


def test_hits_fall_on_their_sixteenths() -> None:
    found = onsets(loop(100, 2, RATE, {"clap": "x...x..x........"}, seed=3)[0])
    sixteenth = 0.15 * RATE
    for step in (0, 4, 7, 16, 20, 23):
        assert min(abs(frame - step * sixteenth) for frame in found) < 0.002 * RATE


def test_swing_delays_every_second_sixteenth() -> None:
    found = onsets(loop(100, 1, RATE, {"clap": ".x.............."}, swing=2 / 3, seed=3)[0])
    assert found[0] == pytest.approx((1 + 1 / 3) * 0.15 * RATE, abs=0.002 * RATE)


def test_a_loop_rings_on_across_its_seam() -> None:
    late = loop(120, 1, RATE, {"kick": "...............x"}, seed=0)[0]
    assert level_db(late[:1000]) > -40
    assert abs(late[0] - late[-1]) < 0.05


def test_a_loop_of_rests_is_silent() -> None:
    assert not loop(120, 1, RATE, {"kick": "................"}).any()


def test_a_stereo_loop_puts_voices_in_their_places() -> None:
    left, right = loop(120, 1, RATE, {"hat": "x...x...x...x..."}, channels=2)
    assert level_db(right) > level_db(left) + 3
    assert np.array_equal(*loop(120, 1, RATE, {"kick": "x..............."}, channels=2))


@pytest.mark.parametrize(("bpm", "bars"), [(0, 1), (-1, 1), (120, 0)])
def test_a_loop_without_length_is_refused(bpm: float, bars: int) -> None:
    with pytest.raises(UsageError, match="has no length"):
        loop(bpm, bars, RATE)


def test_patterns_fill_their_bar() -> None:
    for name, pattern in PATTERNS.items():
        assert {len(notes) for notes in pattern.values()} == {12 if name == "waltz" else 16}


@pytest.fixture(scope="module")
def drum_machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drums") / "machine"
    write_drum_machine(folder, seed=4, hits=8, loops=8)
    return folder


def truth(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_the_truth_describes_every_file(drum_machine: Path) -> None:
    rows = truth(drum_machine)
    wavs = {path.relative_to(drum_machine).as_posix() for path in drum_machine.rglob("*.wav")}
    assert {row["path"] for row in rows} == wavs
    assert len(rows) == 8 * 4 + 8
    for row in rows:
        header = soundfile.info(drum_machine / row["path"])
        assert header.samplerate == int(row["sample_rate"])
        assert header.channels == int(row["channels"])
        assert header.subtype == f"PCM_{row['bits']}"
        if row["kind"] == "loop":
            beats = int(row["bars"]) * int(row["beats_per_bar"])
            assert header.frames == round(beats * 60 / float(row["tempo_bpm"]) * header.samplerate)
            assert f"_{row['tempo_bpm']}bpm" in row["path"]
    for field in ("sample_rate", "channels", "bits", "beats_per_bar"):
        assert len({row[field] for row in rows} - {""}) == 2, field


def test_the_truth_is_enough_to_make_each_file_again(drum_machine: Path) -> None:
    for row in truth(drum_machine):
        seed, sample_rate, channels = int(row["seed"]), int(row["sample_rate"]), int(row["channels"])
        settings = json.loads(row["parameters"])
        if row["kind"] == "loop":
            musical = {
                "bpm": int(row["tempo_bpm"]),
                "bars": int(row["bars"]),
                "beats_per_bar": int(row["beats_per_bar"]),
            }
            again = loop(sample_rate=sample_rate, seed=seed, channels=channels, **musical, **settings)
        else:
            again = hit(row["kind"], sample_rate, seed, settings, channels)
        written, _ = soundfile.read(drum_machine / row["path"], dtype="float32", always_2d=True)
        np.testing.assert_allclose(written.T, again, atol=1 / 32768)


def test_one_seed_gives_one_corpus_and_another_another(drum_machine: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> list[str]:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))]

    write_drum_machine(tmp_path / "same", seed=4, hits=8, loops=8)
    write_drum_machine(tmp_path / "same", seed=4, hits=8, loops=8)  # over itself
    write_drum_machine(tmp_path / "other", seed=5, hits=8, loops=8)
    assert digests(tmp_path / "same") == digests(drum_machine)
    assert not set(digests(tmp_path / "other")) & set(digests(drum_machine))


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        write_drum_machine(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
