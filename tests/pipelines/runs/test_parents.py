"""A run that leans on another: found where it was or is, known by its digest, and never saved twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Ended, Tonemill, write_wav
from faults import FailingStore
from leaning import install
from safetensors.numpy import load_file, save_file

from tonemill.audiotools.errors import RunError
from tonemill.pipelines.runs.parents import parents_of
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.paths import place

SMALL = ("--length", 4096, "--dim", 2, "--batch-size", 2, "--critic-steps", 1, "--listen-clips", 1, "-q")


@pytest.fixture(scope="module")
def made(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a corpus, a run of wavegan at step 2, and one that leans on it at step 3; only to be read."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "site", patch)
        patch.chdir(folder)
        for number in range(3):
            write_wav(folder / f"raw/{number}.wav", frames=4800, rate=8000)
        tonemill("shard", "corpus", "-q", stdin=tonemill("scan", "raw", "-q").out).done()
        tonemill("train", "wavegan", "corpus", "-o", "runs/voice", "--steps", 2, *SMALL).done()
        lean(tonemill, 3).done()
        yield folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to be changed."""
    for name in ("runs", "corpus"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lean(tonemill: Tonemill, steps: int, voice: str = "runs/voice") -> Ended:
    words = ("--steps", steps, "--batch-size", 2, "--listen-clips", 1, "-q")
    return tonemill("train", "leaning", "corpus", "-o", "runs/level", "--voice", voice, *words)


def sound(tonemill: Tonemill, run: str, folder: str, *flags: object) -> np.ndarray:
    stream = tonemill("render", run, *flags, stdin=tonemill("seeds", 1).out).done().out
    tonemill("write", folder, "-q", "--bits", 24, stdin=stream).done()
    return soundfile.read(next(Path(folder).glob("*.wav")))[0]


def test_it_renders_through_its_parent_whose_weights_it_does_not_hold(work: Path, tonemill: Tonemill) -> None:
    weights = load_file(work / "runs/level/checkpoints/00000003/weights.safetensors")
    assert list(weights) == ["level"]
    own, voice = sound(tonemill, "runs/level", "own"), sound(tonemill, "runs/voice", "voice")
    assert 20 * np.log10(np.abs(own - weights["level"] * voice).max()) < -130
    record = json.loads((work / "runs/level/run.json").read_text())["uses"]["voice"]
    assert record["run"] == "../voice" and record["model"] == "wavegan" and record["step"] == 2
    shown = tonemill("inspect", "runs/level").done().out.decode()
    assert "voice: wavegan, step 2" in shown


def test_both_may_move_and_the_parent_may_be_trained_on(work: Path, tonemill: Tonemill) -> None:
    before = sound(tonemill, "runs/level", "before")
    (work / "runs").rename(work / "elsewhere")
    tonemill("train", "wavegan", "corpus", "-o", "elsewhere/voice", "--steps", 4, *SMALL).done()
    assert np.array_equal(sound(tonemill, "elsewhere/level", "after"), before)
    (work / "elsewhere").rename(work / "runs")
    lean(tonemill, 5).done()  # with the weights of then


def test_a_parent_that_is_gone_or_another_is_named_with_the_mend(work: Path, tonemill: Tonemill) -> None:
    before = sound(tonemill, "runs/level", "before")
    seeds = tonemill("seeds", 1).out
    (work / "runs/voice").rename(work / "moved")
    tonemill("render", "runs/level", stdin=seeds).refused(1, "voice", "does not exist", "--uses voice=RUN")
    assert "--uses voice=RUN" in tonemill("inspect", "runs/level").done().out.decode().replace("\n", " ")
    assert np.array_equal(sound(tonemill, "runs/level", "after", "--uses", "voice=moved"), before)
    tonemill("render", "runs/level", "--uses", "ears=moved", stdin=seeds).refused(2, "it uses voice")
    tonemill("render", "runs/level", "--uses", "moved", stdin=seeds).refused(2, "NAME=RUN")
    shutil.rmtree(work / "moved/checkpoints/00000002")
    tonemill("train", "wavegan", "corpus", "-o", "moved", "--steps", 1, "--seed", 3, *SMALL).done()
    tonemill("render", "runs/level", "--uses", "voice=moved", stdin=seeds).refused(1, "no such checkpoint", "steps 1")


def test_bytes_that_changed_in_the_parent_are_noticed(work: Path, tonemill: Tonemill) -> None:
    path = work / "runs/voice/checkpoints/00000002/weights.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(path).items()}, path)
    stream = tonemill("render", "runs/level", stdin=tonemill("seeds", 1).out).done().out
    tonemill("write", "out", "-q", stdin=stream).refused(1, "voice/checkpoints/00000002")


def test_a_setting_that_names_no_fitting_run_is_refused(work: Path, tonemill: Tonemill) -> None:
    words = ("train", "leaning", "corpus", "-o", "runs/other", "--steps", 1)
    tonemill(*words).refused(1, "needs --voice")
    tonemill(*words, "--voice", "nowhere").refused(1, "nowhere does not exist")
    assert not (work / "runs/other").exists()


def test_a_run_in_a_store_leans_on_the_one_beside_it(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(copies, "_held", {})
    (tmp_path / "tmp").mkdir()
    store = FailingStore(tmp_path / "store")
    for module in ("storage.stores", "storage.store_path"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: store)
    shutil.copytree(work / "runs", tmp_path / "store/bucket/runs")
    far, near = open_run(place("s3://bucket/runs/level")), open_run(work / "runs/level")
    assert far.about == near.about and far.chosen(None).state == near.chosen(None).state
    voice = parents_of(far)["voice"]
    assert voice.run.folder == place("s3://bucket/runs/voice")
    assert voice.checkpoint.digest == parents_of(near)["voice"].checkpoint.digest
    copy = far.chosen(None).whole("weights.safetensors")
    there = tmp_path / "store/bucket/runs/level/checkpoints/00000003/weights.safetensors"
    whole = there.read_bytes()
    assert copy.read_bytes() == whole and (tmp_path / "tmp") in copy.parents
    # A copy of another version that had the same size and time is fetched again; what differs in the store is refused.
    copy.write_bytes(bytes(len(whole)))
    assert far.chosen(None).whole("weights.safetensors").read_bytes() == whole
    there.write_bytes(whole[:-1] + b"x")
    with pytest.raises(RunError, match=r"s3://bucket/runs/level.*SHA-256 is not the recorded one"):
        far.chosen(None).whole("weights.safetensors")
