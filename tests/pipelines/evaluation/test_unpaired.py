"""Evaluating reports copies, silence and distance; labelling touches no sound; errors are in plain words."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from conftest import Tonemill, table, write_wav
from making import QUIET
from pyarrow import parquet

from tonemill.models.classifier import ClassifierConfig
from tonemill.models.directions import Direction
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.directions import described
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training.loop import train


@pytest.fixture(scope="module")
def judge(drums: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A classifier that has hardly learned, which is enough to give labels."""
    settings = TrainConfig(steps=1, batch_size=4, listen_every=1, log_every=1)
    config = ClassifierConfig(label="kind", chunk_seconds=0.4)
    return train("classifier", config, settings, drums, tmp_path_factory.mktemp("judges") / "judge", QUIET).run


@pytest.fixture(scope="module")
def labelled(drums: Corpus, judge: Run, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training hits of the corpus, labelled."""
    folder = tmp_path_factory.mktemp("labelled") / "corpus"
    stream = tonemill("open", drums.folder, "--where", 'split == "train"').done().out
    stream = tonemill("render", judge.folder, "--batch-size", 8, stdin=stream).done().out
    tonemill("shard", folder, "-q", stdin=stream).done()
    return folder


def members(corpus: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for tar in sorted(corpus.rglob("*.tar")):
        with tarfile.open(tar) as opened:
            found |= {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]
    return found


def result(tonemill: Tonemill, *words: object) -> dict[str, Any]:
    return json.loads(tonemill("evaluate", *words, "--json", "-q").done().out)


def vectors(path: Path, count: int, seed: int, shift: float = 0.0, bad: int = 0) -> Path:
    x = np.random.default_rng(seed).standard_normal((count, 8)) + shift
    x[:bad] = np.nan
    keys = [f"{path.stem}{number}" for number in range(count)]
    if path.suffix == ".npz":
        np.savez(path, key=np.array(keys), vector=x)
    else:
        parquet.write_table(pa.table({"key": keys, "embedding": list(x)}), path)
    return path


def test_a_run_records_its_figures_on_held_out_clips(judge: Run) -> None:
    lines = [json.loads(line) for line in (judge.folder / "metrics.jsonl").read_text().splitlines()]
    (tried,) = [line for line in lines if "accuracy" in line]
    assert tried["validated_on"] == "valid"
    assert 0 <= tried["accuracy_low"] <= tried["accuracy"] <= tried["accuracy_high"] <= 1
    confusion = json.loads((judge.folder / "clips" / "00000001" / "confusion.json").read_text())
    assert confusion["labels"] == ["claps", "hats", "kicks", "snares"]
    assert np.sum(confusion["counts"]) == tried["validated_examples"] == confusion["examples"]


def test_a_score_has_a_name_and_a_unit(judge: Run) -> None:
    """Those of the model, in run.json; a run of the version before them has a score without either."""
    assert judge.score.in_words(0.12345) == "0.1235 nats" and judge.score.name == "cross-entropy"
    before = Run(judge.folder, {name: value for name, value in judge.about.items() if name != "score"})
    assert before.score.name == "score" and before.score.in_words(12.0) == "12"


def test_rendering_labels_and_leaves_sounds_as_they_are(drums: Corpus, judge: Run, labelled: Path) -> None:
    before = {row["audio_sha256"] for row in table(drums.folder / "index.parquet")}
    rows = table(labelled / "index.parquet")
    assert {row["audio_sha256"] for row in rows} <= before
    assert len(rows) == drums.about["splits"]["train"]["examples"]
    for row in rows:
        assert row["predicted"] in ("claps", "hats", "kicks", "snares")
        assert row["judge"] == f"judge@{judge.checkpoint().digest[:16]}"
        assert "embedding" not in row
    records = [json.loads(data) for name, data in members(labelled).items() if name.endswith(".json")]
    assert all(len(record["embedding"]) == 256 for record in records)
    assert all(sum(record["probabilities"]) == pytest.approx(1, abs=1e-4) for record in records)


def test_a_changed_sound_loses_its_labels(labelled: Path, tonemill: Tonemill, tmp_path: Path) -> None:
    stream = tonemill("open", labelled).done().out
    tonemill("shard", tmp_path / "same", "-q", stdin=stream).done()
    assert table(tmp_path / "same" / "index.parquet")[0]["predicted"]
    stream = tonemill("normalize", "--peak-db", -20, stdin=stream).done().out
    tonemill("shard", tmp_path / "softer", "-q", stdin=stream).done()
    assert "predicted" not in table(tmp_path / "softer" / "index.parquet")[0]


def test_any_rate_and_channels_are_labelled_and_pairs_are_refused(
    judge: Run, tonemill: Tonemill, tmp_path: Path
) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (44100, 2))
    for folder in ("dry", "wet"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", sound, 44100)
    stream = tonemill("scan", tmp_path / "dry").done().out + tonemill("pair", tmp_path / "dry", tmp_path / "wet").out
    stream = tonemill("render", judge.folder, stdin=stream).done().out
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    (row,) = table(tmp_path / "out" / "index.parquet")
    assert (row["sample_rate"], row["channels"], row["samples"]) == (44100, 2, 44100)
    assert row["predicted"]
    (reject,) = table(tmp_path / "out" / "rejects.parquet")
    assert reject["reason"] == "roles" and "renders from single clips" in reject["message"]


def test_a_copy_of_the_training_set_is_reported(drums: Corpus, judge: Run, labelled: Path, tonemill: Tonemill) -> None:
    found = result(tonemill, labelled, "--against", drums.folder, "--judge", judge.folder, "--all")
    metrics = found["metrics"]
    assert metrics["copies"]["generated"]["value"] == 1
    assert metrics["nearest_train"]["generated"]["value"] == pytest.approx(0, abs=1e-3)
    assert metrics["mel_nearest_train"]["generated"]["value"] == pytest.approx(0, abs=1e-3)
    assert metrics["frechet"]["generated"]["value"] == pytest.approx(0, abs=1e-4)
    assert metrics["copies"]["held_out"]["value"] < 0.3
    assert metrics["mel_nearest_train"]["held_out"]["value"] > 1
    assert {"generated", "held_out", "noise"} == set(metrics["frechet"])
    assert found["counts"]["reference"] == found["counts"]["generated"]
    assert sum(found["labels"]["generated"].values()) == found["counts"]["generated"]
    assert found["judge"]["trained_on"] == drums.name and found["judge"]["accuracy"] >= 0
    text = " ".join(found["notes"])
    assert "may have memorised those clips" in text and "too few for a Fréchet distance" in text
    assert found["nearest"][0]["distance"] == pytest.approx(0, abs=1e-3)


def test_what_was_written_into_corpora_is_used_again(labelled: Path, judge: Run, tonemill: Tonemill) -> None:
    stored = result(tonemill, labelled, "--against", labelled)
    measured = result(tonemill, labelled, "--against", labelled, "--judge", judge.folder)
    assert stored["judge"] == {"stored": f"judge@{judge.checkpoint().digest[:16]}"}
    # Of batches of another size the last bits may be others.
    one, other = (found["metrics"]["frechet"]["generated"] for found in (stored, measured))
    assert one == {name: pytest.approx(value, rel=1e-3, abs=1e-4) for name, value in other.items()}
    assert "noise" in measured["metrics"]["frechet"] and "noise" not in stored["metrics"]["frechet"]
    assert any("--noise" in note for note in stored["notes"])


def test_rates_that_differ_and_silence_are_noted(drums: Corpus, judge: Run, tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(6):
        write_wav(tmp_path / "raw" / f"{number}.wav", 4000, seed=number, rate=8000)
    soundfile.write(tmp_path / "raw" / "silent.wav", np.zeros(4000), 8000)
    tonemill("shard", tmp_path / "noises", "-q", stdin=tonemill("scan", tmp_path / "raw").out).done()
    found = result(tonemill, tmp_path / "noises", "--against", drums.folder, "--judge", judge.folder, "--all")
    text = " ".join(found["notes"])
    assert "from 8000 to 16000 Hz" in text
    assert "compared at 8000 Hz" in text
    assert "1 of 7 generated clips are silent" in text
    assert found["metrics"]["silent"]["generated"]["value"] == pytest.approx(1 / 7)
    assert found["metrics"]["loudness_lufs"]["generated"]["count"] == 6


def test_without_a_judge_the_sound_is_compared(drums: Corpus, labelled: Path, tonemill: Tonemill) -> None:
    found = result(tonemill, drums.folder, "--against", drums.folder)
    assert found["judge"] is None and "frechet" not in found["metrics"]
    assert found["metrics"]["centroid_hz"]["generated"]["value"] > 0
    assert any("Without a judge" in note for note in found["notes"])
    table_of = tonemill("evaluate", drums.folder, "--against", drums.folder, "-q").done().out.decode()
    assert "held out" in table_of and "copies of real clips" in table_of


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_vectors_of_any_judge_give_the_distance_of_gaussians(tonemill: Tonemill, tmp_path: Path, suffix: str) -> None:
    real, made = vectors(tmp_path / f"r{suffix}", 2000, 0), vectors(tmp_path / f"g{suffix}", 1000, 1, 1.0, bad=3)
    noise = vectors(tmp_path / f"n{suffix}", 1000, 2, 5.0)
    found = result(tonemill, made, "--against", real, "--noise", noise)
    frechet = found["metrics"]["frechet"]
    assert frechet["generated"]["value"] == pytest.approx(8, abs=0.8)
    assert frechet["noise"]["value"] == pytest.approx(200, rel=0.05)
    assert frechet["held_out"]["value"] < 0.3
    assert frechet["generated"]["low"] < 8.2 and frechet["generated"]["high"] > 7.9
    assert any("3 vector not finite" in note for note in found["notes"])
    assert "inception_score" not in found["metrics"] and "silent" not in found["metrics"]


def test_fail_if_is_an_exit_code(tonemill: Tonemill, tmp_path: Path) -> None:
    real, made = vectors(tmp_path / "r.npz", 200, 0), vectors(tmp_path / "g.npz", 100, 1, 1.0)
    words = ("evaluate", made, "--against", real, "-q")
    tonemill(*words, "--fail-if", "frechet > 100", "--fail-if", "frechet < frechet_held_out").done()
    tonemill(*words, "--fail-if", "frechet > 4").refused(1, "Failed: frechet > 4", "frechet is")
    tonemill(*words, "--fail-if", "frechet_low > 4 and abs(recall) < 2").refused(1, "Failed")
    tonemill(*words, "--fail-if", "fretchet > 4").refused(2, "names fretchet", "frechet_low")
    tonemill(*words, "--fail-if", "frechet >").refused(2, "--fail-if")
    tonemill(*words, "--fail-if", "silent > 0.1").refused(1, "cannot be checked")


def test_two_clips_have_numbers_but_no_intervals(tonemill: Tonemill, tmp_path: Path) -> None:
    two, real = vectors(tmp_path / "two.npz", 2, 0), vectors(tmp_path / "r.npz", 20, 1)
    found = result(tonemill, two, "--against", real)
    assert found["metrics"]["frechet"]["generated"]["low"] is None
    assert found["metrics"]["kernel_distance"]["generated"]["count"] == 2
    assert any("2 clips are too few for a Fréchet distance in 8 dimensions" in note for note in found["notes"])


def test_nothing_but_silence_is_reported_as_that(drums: Corpus, tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "raw").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "raw" / f"{number}.wav", np.zeros(4096), 16000)
    tonemill("shard", tmp_path / "silent", "-q", stdin=tonemill("scan", tmp_path / "raw").out).done()
    found = result(tonemill, tmp_path / "silent", "--against", drums.folder)
    assert found["metrics"]["silent"]["generated"]["value"] == 1
    assert found["metrics"]["mel_nearest_self"]["generated"]["value"] == pytest.approx(0, abs=1e-3)
    assert "generated" not in found["metrics"]["loudness_lufs"] and "generated" not in found["metrics"]["copies"]
    assert any("4 of 4 generated clips are silent" in note for note in found["notes"])


def test_bad_input_is_refused_in_words_that_help(drums: Corpus, judge: Run, tonemill: Tonemill, tmp_path: Path) -> None:
    one, real = vectors(tmp_path / "one.npz", 1, 0), vectors(tmp_path / "r.npz", 20, 0)
    tonemill("evaluate", one, "--against", real, "-q").refused(
        1, "1 of the generated clips can be used", "at least two"
    )
    tonemill("evaluate", real, "--against", one, "-q").refused(1, "at least two")
    tonemill("evaluate", drums.folder, "-q").refused(2, "--against")
    tonemill("evaluate", tmp_path / "no", "--against", drums.folder).refused(1, "does not exist")
    tonemill("evaluate", drums.folder, "--against", drums.folder, "--embeddings", real).refused(1, "have no vector")
    np.savez(tmp_path / "odd.npz", key=np.array(["a"]), other=np.zeros((1, 2)))
    tonemill("evaluate", tmp_path / "odd.npz", "--against", real).refused(2, "`key` and `vector`")
    np.savez(tmp_path / "pickle.npz", key=np.array(["a"]), vector=np.array([{}], object))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.parquet").write_text("no table")
    for name in ("pickle.npz", "text.npz", "text.parquet"):
        tonemill("evaluate", tmp_path / name, "--against", real).refused(2, "`key` and `vector`")
    wide = tmp_path / "wide.npz"
    np.savez(wide, key=np.array(["w1", "w2", "w3"]), vector=np.zeros((3, 5)))
    tonemill("evaluate", wide, "--against", real).refused(2, "all vectors must come from one judge")
    about = json.loads((judge.folder / "run.json").read_text())
    (tmp_path / "generator").mkdir()
    wavegan = described({"render": Direction("Clips from seeds.", ("seed",))}, {})["directions"]
    (tmp_path / "generator" / "run.json").write_text(json.dumps({**about, "directions": wavegan, "model": "wavegan"}))
    words = ("evaluate", drums.folder, "--against", drums.folder, "--judge")
    tonemill(*words, tmp_path / "generator").refused(1, "generates sound; a judge must classify")
    tonemill(*words, tmp_path / "nothing").refused(1, "does not exist")


@pytest.fixture(scope="module")
def pairs(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips whose wet is half as loud as the dry."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(8):
        dry = write_wav(folder / "dry" / f"{number}.wav", 4000, seed=number)
        (folder / "wet").mkdir(exist_ok=True)
        soundfile.write(folder / "wet" / f"{number}.wav", 0.5 * soundfile.read(dry)[0], 8000)
    stream = tonemill("pair", folder / "dry", folder / "wet").done().out
    tonemill("shard", folder / "corpus", "-q", stdin=stream).done()
    return folder / "corpus"


def test_wet_is_held_against_dry(pairs: Path, tonemill: Tonemill) -> None:
    found = result(tonemill, pairs)["metrics"]
    assert found["esr"]["wet"]["value"] == pytest.approx(0.25, abs=1e-3)
    assert found["log_mel_db"]["wet"]["value"] == pytest.approx(6.02, abs=0.02)
    assert found["mr_stft"]["wet"]["value"] == pytest.approx(0.5 + np.log(2), abs=1e-2)
    assert found["si_sdr_db"]["wet"]["value"] > 60
    assert found["esr"]["another"]["value"] > 1
    assert found["esr"]["wet"]["count"] == 8


def test_renders_are_held_against_the_wet_they_were_made_for(pairs: Path, tonemill: Tonemill, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for row in table(pairs / "index.parquet"):
        number = row["source"].partition(".")[0]
        raw.mkdir(exist_ok=True)
        dry = soundfile.read(pairs.parent / "dry" / f"{number}.wav")[0]
        soundfile.write(raw / f"{row['source']}.wav", 0.45 * dry, 8000)
    tonemill("shard", tmp_path / "made", "-q", stdin=tonemill("scan", raw).out).done()
    index = {row["source"].removesuffix(".wav"): row["key"] for row in table(pairs / "index.parquet")}
    tonemill("evaluate", tmp_path / "made", "--against", pairs, "--paired", "-q").refused(1, "no key in common")
    # The very examples, softer: keys agree, or the recipe names them.
    stream = tonemill("open", pairs).done().out
    stream = tonemill("normalize", "--peak-db", -20, stdin=stream).done().out
    tonemill("shard", tmp_path / "softer", "-q", stdin=stream).done()
    found = result(tonemill, tmp_path / "softer", "--against", pairs, "--paired")["metrics"]
    assert len(index) == found["esr"]["rendered"]["count"] == 8
    assert found["si_sdr_db"]["rendered"]["value"] > 60
    # The dry is twice the wet: (2 - 1)^2.
    assert found["esr"]["dry"]["value"] == pytest.approx(1, abs=1e-2)
    tonemill(
        *("evaluate", tmp_path / "softer", "--against", pairs, "--paired", "-q", "--fail-if", "si_sdr_db > 10")
    ).refused(1, "Failed")


def test_several_sets_are_ranked_only_where_they_differ(tonemill: Tonemill, tmp_path: Path) -> None:
    real = vectors(tmp_path / "real.npz", 400, 0)
    near, alike, far = (
        vectors(tmp_path / f"{name}.npz", 200, seed, shift)
        for name, seed, shift in (("near", 1, 0.05), ("alike", 2, 0.05), ("far", 3, 1.0))
    )
    found = result(tonemill, near, alike, far, "--against", real)
    rows = ["near.npz", "alike.npz", "far.npz", "held_out"]
    assert list(found["metrics"]["kernel_audio_distance"]) == rows
    ranking = {tuple(one["sets"]): one for one in found["ranking"]}
    assert ranking["near.npz", "far.npz"]["nearer"] == "near.npz"
    assert ranking["far.npz", "held_out"]["nearer"] == "held_out"
    open_question = ranking["near.npz", "alike.npz"]
    assert open_question["nearer"] is None
    assert open_question["clips_needed"] is None or open_question["clips_needed"] > 200
    shown = tonemill("evaluate", near, alike, far, "--against", real, "-q").done().out.decode()
    assert "near.npz is nearer to the real clips than far.npz" in " ".join(shown.split())
    assert "near.npz and alike.npz cannot be ranked" in " ".join(shown.split())
    tonemill("evaluate", near, far, "--paired").refused(2, "--paired compares one corpus")


def test_folders_of_audio_are_compared_and_copies_are_named(tonemill: Tonemill, tmp_path: Path) -> None:
    """The copies begin later and are softer; half of their originals are held out, and one file is no audio."""
    for number in range(12):
        tone = np.sin(np.arange(8000) * (0.05 + 0.03 * number)) * np.exp(-np.arange(8000) / 2000)
        for folder, sound in (("real", 0.8 * tone), ("made", np.r_[np.zeros(100 + 37 * number), 0.2 * tone])):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{number:02}.wav", sound, 8000)
    (tmp_path / "made" / "bad.wav").write_bytes(b"RIFF nothing")
    found = result(tonemill, tmp_path / "made", "--against", tmp_path / "real", "--all")
    assert found["generated"]["kind"] == found["against"]["kind"] == "folder"
    assert found["counts"]["generated"] == 12 and found["counts"]["reference"] == 6
    assert any("Left out of generated: 1" in note for note in found["notes"])
    assert found["metrics"]["copies"]["generated"]["value"] >= 0.5
    copies = [one for one in found["nearest"] if one["distance"] < 1]
    assert len(copies) >= 6 and sum(one["key"] == one["real_key"] for one in copies) == 6
