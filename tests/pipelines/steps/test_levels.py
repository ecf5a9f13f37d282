"""The steps for levels and hygiene, by what they leave in a corpus: sound, fields, rejects and ledger."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, adds_up, lines_of, reasons, stream_of, table
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.errors import AudioError, Filtered, UsageError
from tonemill.audiotools.synthetic import sine
from tonemill.audiotools.waveform import Flow, Sound, Waveform
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.steps.channels import Channels
from tonemill.pipelines.steps.dc import Dc
from tonemill.pipelines.steps.fade import Fade
from tonemill.pipelines.steps.filter import Filter
from tonemill.pipelines.steps.measure import Measure
from tonemill.pipelines.steps.normalize import Normalize
from tonemill.pipelines.steps.resample import Resample
from tonemill.pipelines.steps.slice import Slice
from tonemill.pipelines.steps.trim import Trim

RATE = 48000
Piped = Callable[..., bytes]


def flow(samples: np.ndarray, rate: int = RATE, block: int = 5000) -> Flow:
    cuts = list(range(block, samples.shape[1], block))
    return Flow(lambda: iter(np.split(samples, cuts, axis=1)), rate, len(samples))


def example(**sounds: np.ndarray) -> Example:
    return Example({role: flow(samples) for role, samples in sounds.items()})


def tone(amplitude: float, seconds: float = 1.0, frequency_hz: float = 997) -> np.ndarray:
    return sine(frequency_hz, round(seconds * RATE), RATE, amplitude)


def peak_db(sound: Sound) -> float:
    return 20 * math.log10(float(np.abs(sound.whole().samples).max()))


def only(step: Any, one: Example) -> Example:
    (made,) = step.apply(one)
    return made


@pytest.mark.parametrize(
    ("step", "expected_peak_db"),
    [(Normalize(peak_db=-1.0), -1), (Normalize(rms_db=-23.01), -20), (Normalize(lufs=-23.0), -20)],
)
def test_a_sine_comes_to_the_level_that_is_set(step: Normalize, expected_peak_db: float) -> None:
    """A mono sine of 997 Hz has its RMS and its loudness 3.01 dB below its peak."""
    made = only(step, example(audio=tone(0.03)))
    assert isinstance(made.sounds["audio"], Flow)
    assert peak_db(made.sounds["audio"]) == pytest.approx(expected_peak_db, abs=0.02)
    assert made.fields["gain_db"] == pytest.approx(expected_peak_db - 20 * math.log10(0.03), abs=0.02)
    assert made.fields["gain_limited"] is False
    assert made.fields["rms_db"] == pytest.approx(expected_peak_db - 3.01, abs=0.02)


@pytest.mark.parametrize("step", [Normalize(rms_db=-3.0), Normalize(lufs=-1.0), Normalize(peak_db=0.0)])
def test_a_gain_stops_at_full_scale_and_is_reported(step: Normalize) -> None:
    burst = np.concatenate([tone(0.5, 0.5), tone(0.01, 2)], axis=1)
    made = only(step, example(audio=burst))
    assert np.abs(made.sounds["audio"].whole().samples).max() <= 1
    assert peak_db(made.sounds["audio"]) == pytest.approx(0, abs=0.001)
    assert made.fields["gain_db"] == pytest.approx(6.02, abs=0.01)
    assert made.fields["gain_limited"] is (step.peak_db is None)


def test_a_gain_that_would_clip_is_rejected_or_allowed_as_set() -> None:
    with pytest.raises(AudioError, match=r"\+4\.\d+ dB, above 0; --on-clip limit") as caught:
        only(Normalize(rms_db=0.0, on_clip="reject"), example(audio=tone(0.5) + np.float32(0.45)))
    assert caught.value.reason == "clipping"
    made = only(Normalize(rms_db=0.0, on_clip="allow"), example(audio=tone(0.5)))
    assert peak_db(made.sounds["audio"]) == pytest.approx(3.01, abs=0.01)


def test_noise_is_not_blown_up_and_silence_is_kept_or_dropped() -> None:
    made = only(Normalize(peak_db=-1.0, max_gain_db=20.0), example(audio=tone(0.001)))
    assert peak_db(made.sounds["audio"]) == pytest.approx(-40, abs=0.01)
    assert made.fields["gain_limited_by"] == "max_gain"
    silence = example(audio=np.zeros((1, 30000), np.float32))
    kept = only(Normalize(lufs=-23.0), silence)
    assert (kept.fields["gain_db"], kept.fields["gain_limited_by"]) == (0, "silence")
    with pytest.raises(Filtered, match="it is silent"):
        only(Normalize(lufs=-23.0, on_silence="drop"), silence)


def test_two_roles_keep_their_ratio_unless_set() -> None:
    pair = example(dry=tone(0.1), wet=tone(0.4, frequency_hz=300))
    made = only(Normalize(peak_db=-6.0), pair)
    assert peak_db(made.sounds["wet"]) == pytest.approx(-6, abs=0.01)
    assert peak_db(made.sounds["wet"]) - peak_db(made.sounds["dry"]) == pytest.approx(12.041, abs=0.001)
    made = only(Normalize(peak_db=-6.0, roles="each"), pair)
    assert [peak_db(made.sounds[role]) for role in ("dry", "wet")] == pytest.approx([-6, -6], abs=0.01)
    assert made.fields["dry_gain_db"] - made.fields["wet_gain_db"] == pytest.approx(12.04, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0625, 8.0, width=32), st.sampled_from([Normalize(peak_db=0.0), Normalize(rms_db=0.0)]))
def test_no_rounding_leads_above_full_scale(peak: float, step: Normalize) -> None:
    sound = np.array([[peak, -peak / 3, 0.0, peak / 7]], np.float32)
    made = only(step, example(audio=sound)).sounds["audio"].whole().samples
    assert 1 - 3e-5 < np.abs(made).max() <= 1


def test_before_slice_it_sees_the_file_and_after_it_the_clip() -> None:
    sound = np.concatenate([tone(0.5), tone(0.05)], axis=1)
    cut, level = Slice(seconds=1.0), Normalize(peak_db=-1.0)
    loud, quiet = cut.apply(only(level, example(audio=sound)))
    assert peak_db(loud.sounds["audio"]) - peak_db(quiet.sounds["audio"]) == pytest.approx(20, abs=0.01)
    for clip in cut.apply(example(audio=sound)):
        assert peak_db(only(level, clip).sounds["audio"]) == pytest.approx(-1, abs=0.001)


@pytest.mark.parametrize("step", [Normalize(peak_db=-1.0), Measure(), Filter(min_seconds=0.1)])
def test_what_cannot_be_measured_is_refused(step: Any) -> None:
    with pytest.raises(AudioError, match="has no sound"):
        only(step, Example({}, {"seed": 1}))
    with pytest.raises(AudioError, match="NaN"):
        only(step, example(audio=np.array([[0.1, np.nan]], np.float32)))


def test_gains_of_two_steps_add_up() -> None:
    made = only(Normalize(peak_db=-12.0), only(Normalize(peak_db=-1.0), example(audio=tone(0.5))))
    assert made.fields["gain_db"] == pytest.approx(-12 + 6.02, abs=0.01)


def test_trim_cuts_to_the_sample_and_moves_the_start() -> None:
    sound = np.zeros((1, 3 * RATE), np.float32)
    sound[0, 12345:100000] = 0.5
    made = only(Trim(keep_ms=0.0), example(audio=sound))
    assert isinstance(made.sounds["audio"], Flow)
    np.testing.assert_array_equal(made.sounds["audio"].whole().samples, sound[:, 12345:100000])
    assert made.start_seconds == 12345 / RATE
    assert made.fields["trimmed_start_seconds"] == pytest.approx(12345 / RATE, abs=1e-6)
    assert made.fields["trimmed_end_seconds"] == pytest.approx((3 * RATE - 100000) / RATE, abs=1e-6)
    again = only(Trim(keep_ms=0.0), only(Trim(keep_ms=100.0), example(audio=sound)))
    assert again.start_seconds == pytest.approx(made.start_seconds)
    assert again.fields["trimmed_start_seconds"] == pytest.approx(made.fields["trimmed_start_seconds"], abs=2e-6)


@pytest.mark.parametrize(("sides", "frames"), [("both", 4800), ("start", 28800), ("end", 28800)])
def test_trim_keeps_what_it_is_reported_to(sides: Any, frames: int) -> None:
    sound = np.concatenate([np.zeros((1, 24000)), tone(0.5, 0.1), np.zeros((1, 24000))], axis=1).astype(np.float32)
    made = only(Trim(keep_ms=0.0, sides=sides), example(audio=sound))
    assert made.sounds["audio"].whole().frames == pytest.approx(frames, abs=3)


def test_trim_counts_from_the_peak_or_from_full_scale() -> None:
    sound = np.concatenate([tone(0.001, 0.5), tone(0.1, 0.5)], axis=1)
    whole = only(Trim(threshold_db=-50.0, keep_ms=0.0), example(audio=sound))
    assert whole.sounds["audio"].whole().frames == pytest.approx(RATE, abs=3)
    half = only(Trim(threshold_db=-50.0, relative_to="full-scale", keep_ms=0.0), example(audio=sound))
    assert half.sounds["audio"].whole().frames == pytest.approx(RATE / 2, abs=3)


def test_trim_leaves_out_what_holds_nothing_and_cuts_roles_alike() -> None:
    with pytest.raises(Filtered, match="silence from end to end") as caught:
        only(Trim(), example(audio=np.zeros((1, 1000), np.float32)))
    assert caught.value.reason == "silent"
    with pytest.raises(Filtered, match=r"1\.000 s are left .* less than 2 s") as caught:
        only(Trim(min_seconds=2.0), example(audio=tone(0.5)))
    assert caught.value.reason == "too_short"
    dry, wet = np.zeros((2, 1, 9000), np.float32)
    dry[0, 2000:4000], wet[0, 2500:7000] = 0.5, 0.1
    made = only(Trim(keep_ms=0.0), example(dry=dry, wet=wet))
    for role, sound in (("dry", dry), ("wet", wet)):
        np.testing.assert_array_equal(made.sounds[role].whole().samples, sound[:, 2000:7000])


def test_fade_records_what_it_did_even_where_the_sound_is_short() -> None:
    made = only(Fade(in_ms=10.0, out_ms=30.0, shape="cosine"), example(audio=np.ones((2, RATE), np.float32)))
    samples = made.sounds["audio"].whole().samples
    assert (samples[:, 480:-1440] == 1).all() and (samples[:, [0, -1]] == 0).all()
    assert (made.fields["fade_in_ms"], made.fields["fade_out_ms"]) == (10, 30)
    made = only(Fade(in_ms=10.0, out_ms=30.0), example(audio=np.ones((1, 960), np.float32)))
    assert (made.fields["fade_in_ms"], made.fields["fade_out_ms"]) == (5, 15)


@pytest.mark.parametrize(
    ("limits", "sound", "reason", "words"),
    [
        ({"min_seconds": 2.0}, tone(0.5), "too_short", "its length is 1 s, below --min-seconds 2"),
        ({"max_seconds": 0.5}, tone(0.5), "too_long", "above --max-seconds 0.5"),
        ({"min_peak_db": -3.0}, tone(0.5), "too_quiet", "its peak is -6.021 dB, below --min-peak-db -3"),
        ({"max_peak_db": 0.0}, tone(1.5), "too_loud", "its peak is 3.522 dB, above --max-peak-db 0"),
        ({"min_loudness_lufs": -9.0}, tone(0.5), "too_quiet", "its loudness is -9.031 LUFS, below --min-loudness-lufs"),
        ({"max_loudness_lufs": -9.1}, tone(0.5), "too_loud", "above --max-loudness-lufs -9.1"),
        ({"min_loudness_lufs": -99.0}, tone(0.0), "too_quiet", "its loudness is -inf LUFS"),
        (
            {"max_silence": 0.4},
            np.hstack([tone(0.5), tone(0)]),
            "silent",
            "its share of silence is 0.5, above --max-silence 0.4",
        ),
        ({"max_clipping": 0.5}, tone(2).clip(-1, 1), "clipping", "above --max-clipping 0.5"),
        ({"max_dc": 0.1}, tone(0.5) + np.float32(0.2), "dc_offset", "its mean is 0.2, above --max-dc 0.1"),
        ({"where": "rms_db > -9"}, tone(0.5), "condition", "it does not fit 'rms_db > -9': rms_db is -9.031"),
        ({"where": "loudness_lufs > -9 and seconds > 0"}, tone(0.5), "condition", "loudness_lufs is -9.03"),
    ],
)
def test_filter_leaves_out_with_value_and_limit(limits: Any, sound: np.ndarray, reason: str, words: str) -> None:
    with pytest.raises(Filtered) as caught:
        only(Filter(**limits), example(audio=sound))
    assert caught.value.reason == reason
    assert words in caught.value.message


def test_filter_lets_pass_what_fits_as_it_is_and_records_what_it_measured() -> None:
    every = Filter(0.5, 2.0, -7.0, -6.0, -10.0, -9.0, 0.1, -60.0, 0.0, 0.01, "peak_db - rms_db < 3.1 and label == 'a'")
    given = Example({"audio": flow(tone(0.5))}, {"label": "a"})
    made = only(every, given)
    assert made.sounds is given.sounds
    assert made.fields["loudness_lufs"] == pytest.approx(-9.03, abs=0.01)
    assert (made.fields["silence_share"], made.fields["clipping_share"], made.fields["loudness_gated"]) == (0, 0, True)
    with pytest.raises(Filtered, match="wet: its peak"):
        only(Filter(max_peak_db=-10.0), example(dry=tone(0.1), wet=tone(0.5)))


def test_what_was_measured_goes_when_the_sound_changes() -> None:
    measured = only(Measure(), example(audio=tone(0.5)))
    assert "loudness_lufs" in measured.fields
    for step in (Trim(), Fade(in_ms=1.0), Channels("stereo"), Resample(16000), Slice(seconds=0.5)):
        assert "loudness_lufs" not in next(iter(step.apply(measured))).fields, step
    assert only(Normalize(lufs=-23.0), measured).fields["loudness_lufs"] == pytest.approx(-23, abs=0.001)


def test_channels_are_mixed_chosen_or_made_clips() -> None:
    stereo = np.concatenate([tone(0.1), tone(0.5)])
    for policy, expected, channel in (
        ("mean", stereo.mean(axis=0), None),
        ("left", stereo[0], 1),
        ("right", stereo[1], 2),
        ("loudest", stereo[1], 2),
    ):
        made = only(Channels(policy), example(audio=stereo))  # type: ignore[arg-type]
        np.testing.assert_allclose(made.sounds["audio"].whole().samples[0], expected, atol=1e-6)
        assert made.fields["channels_from"] == 2 and made.fields.get("channel") == channel
        assert not made.is_clip
    left, right = Channels("explode").apply(example(audio=stereo))
    assert [one.fields["channel"] for one in (left, right)] == [1, 2] and left.is_clip
    np.testing.assert_array_equal(right.sounds["audio"].whole().samples[0], stereo[1])
    mono = example(audio=stereo[:1])
    assert only(Channels("loudest"), mono) is only(Channels("keep"), mono) is mono


def test_channels_of_a_pair_are_chosen_together() -> None:
    pair = example(dry=np.concatenate([tone(0.1), tone(0.5)]), wet=np.concatenate([tone(0.9), tone(0.2)]))
    made = only(Channels("loudest"), pair)
    assert [peak_db(made.sounds[role]) for role in ("dry", "wet")] == pytest.approx([-6.02, -13.98], abs=0.01)
    left, right = Channels("explode").apply(example(dry=tone(0.1), wet=np.concatenate([tone(0.9), tone(0.2)])))
    assert peak_db(left.sounds["dry"]) == peak_db(right.sounds["dry"]) == pytest.approx(-20, abs=0.01)
    with pytest.raises(AudioError, match="channels mean"):
        only(Channels("left"), example(dry=np.zeros((3, 9), np.float32), wet=np.zeros((2, 9), np.float32)))


def test_resample_and_slice_say_what_they_changed() -> None:
    made = only(Resample(16000, channels="mono"), example(audio=np.repeat(tone(0.5), 2, axis=0)))
    assert (made.fields["sample_rate_from"], made.fields["channels_from"]) == (RATE, 2)
    first, last = Slice(seconds=0.75, tail="pad").apply(made)
    assert "padded_samples" not in first.fields and last.fields["padded_samples"] == 8000
    assert Slice(seconds=0.75, tail="pad").none_fields == {"padded_samples": 0} and not Slice(seconds=0.75).none_fields
    assert only(Resample(RATE), example(audio=tone(0.5))).fields == {}


@pytest.mark.parametrize(
    ("step", "values", "words"),
    [
        (Normalize, {}, "needs one of --peak-db"),
        (Normalize, {"peak_db": -1.0, "lufs": -23.0}, "needs one of"),
        (Normalize, {"peak_db": 3.0}, "--peak-db is 3.0"),
        (Normalize, {"lufs": float("nan")}, "--lufs is nan"),
        (Normalize, {"lufs": -23.0, "max_gain_db": -1.0}, "--max-gain-db is -1.0"),
        (Trim, {"threshold_db": 0.0}, "--threshold-db is 0.0"),
        (Trim, {"keep_ms": -1.0}, "--keep-ms is -1.0"),
        (Fade, {}, "needs --in-ms or --out-ms"),
        (Fade, {"in_ms": float("inf")}, "--in-ms is inf"),
        (Filter, {}, "needs a limit"),
        (Filter, {"max_silence": 1.5}, "--max-silence is 1.5"),
        (Filter, {"where": "os.system()"}, "--where"),
        (Measure, {"silence_db": 1.0}, "--silence-db is 1.0"),
    ],
)
def test_a_slip_of_the_hand_is_named(step: Any, values: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        step(**values)


def write(path: Path, samples: np.ndarray, subtype: str = "FLOAT") -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples.T, RATE, subtype=subtype)


@pytest.mark.parametrize("sink", ["shard", "write"])
def test_nothing_is_cut_off_silently_in_storing(sink: str, tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write(tmp_path / "raw/hot.wav", tone(1.5))
    write(tmp_path / "raw/fine.wav", tone(1.0))
    stream = piped(["scan", tmp_path / "raw", "-q"])
    ended = tonemill(sink, tmp_path / "out", "-q", stdin=stream).done()
    assert ended.line["clipped_examples"] == 1
    assert "CLIPPED: 1 of 2 examples reach up to +3.52 dB" in ended.err and "normalize --peak-db -1" in ended.err
    home = tmp_path / "out" / (".tonemill" if sink == "write" else "")
    rows = {row["source"]: row for row in table(home / "index.parquet")}
    # |1.5 sin| is above 1 for 1 - 2 asin(1 / 1.5) / pi of the time.
    expected = RATE * (1 - 2 * math.asin(1 / 1.5) / math.pi)
    assert rows["hot.wav"]["clipped_samples"] == pytest.approx(expected, rel=0.001)
    assert rows["fine.wav"]["clipped_samples"] == 0


def test_floats_and_what_was_normalised_are_not_cut_off(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write(tmp_path / "raw/hot.wav", tone(1.5))
    stream = piped(["scan", tmp_path / "raw", "-q"])
    as_floats = tonemill("write", tmp_path / "floats", "--bits", 32, "-q", stdin=stream).done()
    assert as_floats.line["clipped_examples"] == 0 and "CLIPPED" not in as_floats.err
    assert np.abs(soundfile.read(tmp_path / "floats/hot.wav")[0]).max() == pytest.approx(1.5, abs=1e-3)
    mended = tonemill("normalize", "--peak-db", -1, stdin=stream).done().out
    assert "CLIPPED" not in tonemill("write", tmp_path / "files", "-q", stdin=mended).done().err
    left_out = tonemill("filter", "--max-peak-db", 0, stdin=stream).done().out
    tonemill("shard", tmp_path / "none", "-q", stdin=left_out).refused(1, "1 filtered: too_loud")


def test_each_refusal_is_in_the_ledger_by_step(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    sounds = {"good": tone(0.5), "quiet": tone(0.001), "short": tone(0.5, 0.05), "silent": tone(0.0)}
    for name, sound in sounds.items():
        write(tmp_path / f"raw/{name}.wav", sound)
    write(tmp_path / "raw/stereo.wav", np.concatenate([tone(0.5), tone(0.001)]))
    stream = piped(
        ["scan", tmp_path / "raw", "-q"],
        ["trim"],
        ["filter", "--min-seconds", 0.1],
        ["channels", "explode"],
        ["filter", "--min-peak-db", -40],
        ["normalize", "--lufs", -23],
        ["fade", "--out-ms", 5],
        ["measure"],
    )
    ended = tonemill("shard", tmp_path / "corpus", stdin=stream).done()
    counts = {"sources": 5, "kept": 2, "rejected": 0, "filtered": 3, "clips": 3, "examples": 2, "clips_filtered": 1}
    assert ended.line["ledger"] | counts == ended.line["ledger"]
    assert reasons(tmp_path / "corpus") == {
        "quiet.wav": "too_quiet",
        "short.wav": "too_short",
        "silent.wav": "silent",
        "stereo.wav": "too_quiet",
    }
    assert "2 filtered: too_quiet (filter)" in ended.err and "1 filtered: silent (trim)" in ended.err
    for row in table(tmp_path / "corpus/index.parquet"):
        assert row["loudness_lufs"] == pytest.approx(-23, abs=0.1)
        assert row["gain_db"] == pytest.approx(-20 + 6.02, abs=0.05)
        assert row["fade_out_ms"] == 5
    assert [row["channel"] for row in table(tmp_path / "corpus/index.parquet") if row["channels_from"] == 2] == [1]


def test_a_cut_file_gives_no_channels(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    """What is damaged at its end is found before its first channel is kept."""
    write(tmp_path / "raw/good.wav", tone(0.5))
    data = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, (400000, 2))
    soundfile.write(data, noise, RATE, format="FLAC")
    (tmp_path / "raw/cut.flac").write_bytes(data.getvalue()[: data.getbuffer().nbytes * 9 // 10])
    stream = piped(["scan", tmp_path / "raw", "-q"], ["channels", "explode"], ["slice", "--seconds", 0.5])
    ended = tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    assert {row["source"] for row in table(tmp_path / "corpus/index.parquet")} == {"good.wav"}
    assert reasons(tmp_path / "corpus") == {"cut.flac": "truncated"} and adds_up(ended.line)


def test_corpora_keep_their_fields_through_open(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write(tmp_path / "raw/a.wav", tone(0.5))
    stream = piped(["scan", tmp_path / "raw", "-q"], ["normalize", "--peak-db", -1], ["measure"])
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    (recipe,) = lines_of(tonemill("open", tmp_path / "corpus").done().out)
    assert recipe["fields"]["gain_db"] == pytest.approx(5.02, abs=0.01)
    again = tonemill("normalize", "--peak-db", -7, stdin=stream_of([recipe])).done().out
    tonemill("shard", tmp_path / "again", "-q", stdin=again).done()
    (row,) = table(tmp_path / "again/index.parquet")
    assert row["gain_db"] == pytest.approx(5.02 - 6, abs=0.01) and "loudness_lufs" not in row


def test_hours_flow_through_every_step_in_blocks() -> None:
    """What no step may do to a Flow is to hold all of it."""
    most = 0

    def blocks() -> Any:
        rng = np.random.default_rng(0)
        for _ in range(40):
            yield rng.normal(0, 0.1, (2, 50000)).astype(np.float32)

    one = Example({"audio": Flow(blocks, 96000, 2)})
    for step in (Filter(max_silence=0.5), Trim(), Fade(in_ms=5.0, out_ms=5.0), Normalize(lufs=-23.0), Measure()):
        one = only(step, one)
    one = only(Channels("mean"), one)
    assert isinstance(one.sounds["audio"], Flow)
    for block in one.sounds["audio"].blocks():
        most = max(most, block.shape[1])
    assert most <= 50000


def test_a_clip_stays_a_clip() -> None:
    clip = Example({"audio": Waveform(tone(0.5), RATE)}, is_clip=True)
    for step in (Trim(), Fade(in_ms=5.0), Normalize(lufs=-23.0), Channels("stereo")):
        clip = only(step, clip)
        assert isinstance(clip.sounds["audio"], Waveform) and clip.is_clip


def sides(left: float, right: float) -> np.ndarray:
    """Two seconds of a tone in two channels, each times a factor."""
    tone = np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE)
    return np.stack([left * tone, right * tone]).astype(np.float32)


@pytest.mark.parametrize(
    ("left", "right", "loss_db"),
    [(0.5, -0.5, -120.0), (0.5, -0.4, -20.0), (0.5, 0.0, -6.0), (0.5, 0.5, None), (0.5, 0.2, None)],
)
@pytest.mark.parametrize(
    "step", [Channels("mean"), Resample(8000, channels="mono")], ids=lambda step: type(step).__name__
)
def test_a_mono_mix_that_loses_sound_states_how_much(
    step: Channels | Resample, left: float, right: float, loss_db: float | None
) -> None:
    sound = Waveform(sides(left, right), RATE)
    clip = only(step, Example({"audio": sound}))
    flowing = only(step, Example({"audio": Flow(sound.blocks, RATE, 2)}))
    assert not flowing.notes, "nothing is read yet"
    flowing.sounds["audio"].whole()
    for found in (clip.fields, flowing.notes):
        assert found.get("mix_db") == (None if loss_db is None else pytest.approx(loss_db, abs=0.1))


def test_a_mix_that_is_not_to_mono_notes_nothing() -> None:
    for step in (Channels("loudest"), Channels("keep"), Resample(8000)):
        assert "mix_db" not in only(step, Example({"audio": Waveform(sides(0.5, -0.5), RATE)})).fields


def test_dc_takes_an_offset_away_and_states_it() -> None:
    sound = Waveform(sides(0.5, 0.5) + np.float32([[0.02], [-0.01]]), RATE)
    made = only(Dc(), Example({"audio": sound}))
    np.testing.assert_allclose(made.sounds["audio"].whole().samples, sides(0.5, 0.5), atol=1e-4)
    assert made.fields["dc_removed"] == pytest.approx(0.02, abs=1e-4)
    with pytest.raises(UsageError, match="--high-pass-hz is 0"):
        Dc(high_pass_hz=0)
    with pytest.raises(AudioError, match="half of its 1000 Hz"):
        only(Dc(high_pass_hz=800), Example({"audio": Waveform(np.zeros((1, 99), np.float32), 1000)}))
