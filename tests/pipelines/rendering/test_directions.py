"""A run renders in several directions in a pipe: encode into a corpus, decode it, and both held against render."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, table

from tonemill.pipelines.corpus.corpus import Corpus, array_of

SMALL = ("--width", 8, "--blocks", 1, "--n-fft", 512, "--length", 4096, "--adversarial-after", 100, "-q")
FEW = ("--discriminators", "stft", "--discriminator-widths", 0.25)
HOP = 160
VALID = ("--where", 'split == "valid"')


@pytest.fixture(scope="module")
def run(drums: Corpus, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "vocoder"
    words = ("--steps", 3, "--validate-seconds", 1, "--listen-clips", 1)
    tonemill("train", "vocoder", drums.folder, "-o", folder, *words, *SMALL, *FEW).done()
    return folder


@pytest.fixture(scope="module")
def encoded(drums: Corpus, run: Path, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded") / "mels"
    stream = tonemill("render", run, "--as", "encode", stdin=tonemill("open", drums.folder).out).done().out
    tonemill("shard", folder, "-q", stdin=stream).done()
    return folder


def test_help_lists_directions_and_the_options_of_the_one_that_was_typed(run: Path, tonemill: Tonemill) -> None:
    shown = " ".join(tonemill("render", run, "--help").done().out.decode().split())
    for words in ("--as render: Audio to its mel", "--as encode: The log-mel", "--as decode: Audio from a log-mel"):
        assert words in shown
    tonemill("render", run, "--as", "vary", stdin=b"").refused(2, "--as is 'vary'", "render, encode, decode")
    tonemill("render", run, "--as", "encode", "--steps", 3, stdin=b"").refused(2, "No such option: --steps")
    tonemill("render", run.parent / "nothing", "--as", "x", "--y", 1, stdin=b"").refused(1, "nothing", "does not exist")


def test_encoding_keeps_splits_and_notes_the_model(drums: Corpus, run: Path, encoded: Path, tonemill: Tonemill) -> None:
    about = json.loads((encoded / "corpus.json").read_text())
    splits = {name: one["examples"] for name, one in about["splits"].items()}
    assert splits == {name: one["examples"] for name, one in drums.about["splits"].items()}
    assert about["roles"] == []
    rows = table(encoded / "index.parquet")
    assert {row["encoded_by"] for row in rows} == {f"vocoder@{digest(run)[:16]}"}
    assert all(row["mel_frames"] == -(-row["samples"] // HOP) for row in rows)
    assert tonemill("verify", encoded, "-q").done().line["ok"]


def test_other_renders_in_the_folder_are_called_renders(
    drums: Corpus, run: Path, encoded: Path, tonemill: Tonemill
) -> None:
    stream = tonemill("render", run, stdin=tonemill("open", drums.folder).out).done().out
    ended = tonemill("shard", encoded, "-q", stdin=stream).refused(
        1, "rendered by another run or checkpoint", "--overwrite"
    )
    assert "again" in ended.err and "other sources or with other steps" not in ended.err


def digest(run: Path) -> str:
    state = max((run / "checkpoints").glob("*/state.json"))
    return str(json.loads(state.read_text())["sha256"])


def test_encoded_and_decoded_is_what_render_gives(
    drums: Corpus, run: Path, encoded: Path, tmp_path: Path, tonemill: Tonemill
) -> None:
    """To a step of 16 bits, where the last frame is whole."""
    for name, source, words in (("copied", drums.folder, ()), ("decoded", encoded, ("--as", "decode"))):
        stream = tonemill("render", run, *words, stdin=tonemill("open", source, *VALID).out).done().out
        tonemill("write", tmp_path / name, "-q", stdin=stream).done()
    paths = sorted(path.relative_to(tmp_path / "copied") for path in (tmp_path / "copied").rglob("*.wav"))
    assert len(paths) == drums.about["splits"]["valid"]["examples"]
    for path in paths:
        copied, decoded = (soundfile.read(tmp_path / name / path)[0] for name in ("copied", "decoded"))
        whole = len(copied) // HOP * HOP
        assert np.abs(copied[:whole] - decoded[:whole]).max() < 2 / 32768


def test_the_sound_may_stay_beside_the_array(drums: Corpus, run: Path, tmp_path: Path, tonemill: Tonemill) -> None:
    words = ("--as", "encode", "--keep-audio")
    stream = tonemill("render", run, *words, stdin=tonemill("open", drums.folder, *VALID).out).done().out
    tonemill("shard", tmp_path / "both", "-q", stdin=stream).done()
    from tonemill.pipelines.corpus.corpus import open_corpus

    both = open_corpus(tmp_path / "both")
    assert both.about["roles"] == ["audio"]
    row = table(tmp_path / "both" / "index.parquet")[0]
    assert array_of(both.folder, row, "mel").shape == (64, -(-row["samples"] // HOP))


def test_arrays_of_another_rate_or_none_are_refused_by_name(
    drums: Corpus, run: Path, tmp_path: Path, tonemill: Tonemill
) -> None:
    resampled = tonemill("resample", "--rate", 8000, stdin=tonemill("open", drums.folder, *VALID).out).done().out
    decode = tonemill("render", run, "--as", "decode", stdin=resampled).done().out
    tonemill("write", tmp_path / "none", "-q", stdin=decode).refused(1)
    rejects = table(tmp_path / "none" / ".tonemill" / "rejects.parquet")
    assert all("renders from the array mel" in row["message"] for row in rejects)
    beside = tonemill("render", run, "--as", "encode", "--keep-audio", stdin=resampled).done().out
    tonemill("shard", tmp_path / "beside", "-q", stdin=beside).refused(1)
    assert "--keep-audio would keep 8000 Hz" in table(tmp_path / "beside" / "rejects.parquet")[0]["message"]


@pytest.mark.slow
def test_a_prior_learns_frames_and_renders_through_the_codec(
    run: Path, encoded: Path, tmp_path: Path, tonemill: Tonemill
) -> None:
    """In batches, and as a stream where clips are longer: the same sound."""
    prior = tmp_path / "prior"
    small = ("--width", 4, "--frame-width", 4, "--mixture", 2, "--receptive-seconds", 0.05, "--length", 3200)
    words = ("--codec", run, *small, "--steps", 2, "--batch-size", 2, "--listen-every", 2, "--listen-clips", 1, "-q")
    tonemill("train", "prior", encoded, "-o", prior, *words).done()
    assert "above_autoregression_nats" in (prior / "metrics.jsonl").read_text()
    assert (prior / "clips" / "00000002" / "00.wav").exists()
    for seconds in (0.2, 11):
        stream = tonemill("render", prior, "--seconds", seconds, stdin=tonemill("seeds", 1).out).done().out
        tonemill("write", tmp_path / str(seconds), "-q", stdin=stream).done()
    short, long = (soundfile.read(next((tmp_path / name).rglob("*.wav")))[0] for name in ("0.2", "11"))
    assert (len(short), len(long)) == (3200, 11 * 16000)
    assert np.abs(short[:1600] - long[:1600]).max() < 2 / 32768
