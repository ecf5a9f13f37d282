"""Checkpoints: a score is of its own weights, bytes are those that were saved, and what a kill leaves is swept."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Shell, Tonemill, contents, leftovers
from making import QUIET
from safetensors.torch import load_file, save_file
from torch import Tensor

from tonemill.audiotools.errors import OutputError, RunError
from tonemill.models.contract import Update
from tonemill.models.exchange import Batch
from tonemill.models.wavegan import WaveGAN, WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs import checkpoint_folder
from tonemill.pipelines.runs.checkpoint_folder import OPTIMIZERS, STATE, WEIGHTS, Checkpoint
from tonemill.pipelines.runs.checkpoints import State, load_for_rendering
from tonemill.pipelines.runs.run import Run, TrainConfig, open_run
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.loop import train

TINY = WaveGANConfig(length=4096, dim=2, critic_steps=2)
SHORT = TrainConfig(steps=6, batch_size=4, checkpoint_every=2, listen_every=3, listen_clips=2, log_every=1000, ema=0.9)
CPU = torch.device("cpu")


def trained(corpus: Corpus, folder: Path, **changes: object) -> Run:
    return train("wavegan", TINY, dataclasses.replace(SHORT, **{"keep": 20, **changes}), corpus, folder, QUIET).run


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Leave out the clips and pictures of listening, which take most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Listener, "_leave", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def made(drums: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six steps with checkpoints of 2, 3, 4 and 6, of which 3 and 6 were measured; only to be read."""
    return trained(drums, tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy to be changed."""
    shutil.copytree(made.folder, tmp_path / "run")
    return open_run(tmp_path / "run")


def as_before(checkpoint: Checkpoint, **changes: object) -> None:
    """Write a checkpoint's state as the version before did: without a seal, and with no digest of the optimizers."""
    later = ("score_step", "optimizers_sha256", "scaler", "seal")
    state = {name: value for name, value in checkpoint.state.items() if name not in later}
    digest = hashlib.sha256(checkpoint.weights.read_bytes()).hexdigest()
    (checkpoint.folder / STATE).write_text(json.dumps({**state, "sha256": digest, **changes}))


def spoil(checkpoint: Checkpoint, prefix: str) -> None:
    """Save a NaN, as the version before did."""
    weights = load_file(checkpoint.weights)
    name = next(name for name in weights if name.startswith(prefix) and name.endswith("weight"))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, checkpoint.weights)
    as_before(checkpoint)


def steps(run: Run) -> list[int]:
    return [one.step for one in run.checkpoints()]


# Scores


def test_a_checkpoint_carries_the_score_of_its_own_weights(made: Run) -> None:
    found = {one.step: (one.score is not None, one.state["score_step"]) for one in made.checkpoints()}
    assert found == {2: (False, None), 3: (True, 3), 4: (False, None), 6: (True, 6)}
    assert made.checkpoint("best").score == min(one.score for one in made.checkpoints() if one.score is not None)


def test_the_best_stays_and_is_one_that_was_measured(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = itertools.chain([1.0], itertools.repeat(5.0))
    monkeypatch.setattr(Listener, "listen", lambda *_: next(scores))
    kept = trained(drums, tmp_path / "run", steps=11, checkpoint_every=4, keep=2)
    assert steps(kept) == [3, 9, 11]
    assert kept.checkpoint("best").step == 3


def test_the_best_of_a_run_of_the_version_before_is_one_that_its_metrics_name(run: Run) -> None:
    by_step = {one.step: one for one in run.checkpoints()}
    for step, score in ((2, 1.0), (3, 7.0), (4, 1.0), (6, 8.0)):
        as_before(by_step[step], score=score)
    assert run.checkpoint("best").step == 3
    (run.folder / "metrics.jsonl").unlink()
    assert run.checkpoint("best").step == 6


# Weights that are not finite


def breaking(monkeypatch: pytest.MonkeyPatch, at: int, averages: bool = False) -> None:
    """Let a weight become NaN in a step, while losses stay finite."""
    before, advance = WaveGAN.training_step, State.advance

    def step(model: WaveGAN, batch: Batch, number: int, update: Update) -> dict[str, Tensor]:
        losses = before(model, batch, number, update)
        if number == at and not averages:
            next(model.generator.parameters()).data.fill_(float("nan"))
        return {name: torch.zeros(()) for name in losses}

    def advanced(state: State) -> None:
        advance(state)
        if state.step == at and averages:
            next(iter(state.average.values())).fill_(float("inf"))

    monkeypatch.setattr(WaveGAN, "training_step", step)
    monkeypatch.setattr(State, "advance", advanced)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("last", [5, 20])
def test_weights_that_are_not_finite_are_never_saved(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int, averages: bool
) -> None:
    breaking(monkeypatch, 5, averages)
    with pytest.raises(RunError, match="is NaN or infinite at step") as refused:
        trained(drums, tmp_path / "run", steps=last)
    left = open_run(tmp_path / "run")
    assert steps(left) == [2, 3, 4]
    assert str(left.folder / "checkpoints/00000004") in str(refused.value)
    assert "--learning-rate" in str(refused.value)
    lines = [json.loads(line) for line in (left.folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines if "mel_distance_db" in line} == {3}


def test_a_run_that_breaks_at_once_names_no_checkpoint(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, 1)
    with pytest.raises(RunError, match="no good checkpoint yet"):
        trained(drums, tmp_path / "run")
    assert steps(open_run(tmp_path / "run")) == []


def test_a_last_checkpoint_that_is_not_finite_is_reported_and_the_mend_holds(
    run: Run, drums: Corpus, tonemill: Tonemill
) -> None:
    *_, good, other, bad = run.checkpoints()
    spoil(other, "")
    spoil(bad, "")
    spoil(bad, "average.")
    words = ("not finite", "--checkpoint 3", "Remove the folders 00000004 and 00000006 to train on from step 3")
    with pytest.raises(RunError) as refused:
        trained(drums, run.folder, steps=8)
    for word in words:
        assert word in str(refused.value)
    stream = tonemill("seeds", 1).done().out
    last = ("--checkpoint", "last")
    rendering = tonemill("render", run.folder, *last, stdin=stream).done().out
    tonemill("write", run.folder.parent / "clips", "-q", stdin=rendering).refused(1, *words)
    onnx = ("-o", run.folder.parent / "it.onnx", "--format", "onnx")
    tonemill("export", run.folder, *onnx, *last).refused(1, *words)
    load_for_rendering(run, run.checkpoint(str(good.step)), CPU)
    shutil.rmtree(other.folder)
    shutil.rmtree(bad.folder)
    assert steps(trained(drums, run.folder, steps=8)) == [2, 3, 4, 6, 8]


# Bytes


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def load(run: Run, name: str) -> None:
    """Read a file of the last checkpoint as rendering or going on does."""
    checkpoint = run.checkpoint()
    model = load_for_rendering(run, checkpoint, CPU)
    if name == OPTIMIZERS:
        State(model, model.optimizers(), 0.9).load(checkpoint)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZERS, STATE])
def test_a_flipped_byte_anywhere_is_noticed(run: Run, name: str) -> None:
    path = run.checkpoint().folder / name
    data = path.read_bytes()
    load(run, name)
    for place in [*range(0, len(data), len(data) // 25), len(data) - 1]:
        flipped(path, place)
        with pytest.raises(RunError) as refused:
            load(run, name)
        assert str(path) in str(refused.value)
        assert "--checkpoint 4" in str(refused.value)
        assert ("Remove that folder" in str(refused.value)) == (name == WEIGHTS), "good weights are not to be removed"
        path.write_bytes(data)
    load(run, name)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZERS, STATE])
def test_after_a_flipped_byte_the_mend_holds(run: Run, drums: Corpus, name: str) -> None:
    bad = run.checkpoint().folder
    flipped(bad / name, 300)
    with pytest.raises(RunError, match="to train on from step 4") as refused:
        trained(drums, run.folder, steps=8)
    assert str(bad / name) in str(refused.value)
    load_for_rendering(run, run.checkpoint("4"), CPU)
    bad.rename(run.folder.parent / "elsewhere")
    assert trained(drums, run.folder, steps=8).checkpoint().step == 8


def test_a_missing_file_and_an_only_checkpoint_end_in_words(run: Run) -> None:
    *rest, last = run.checkpoints()
    (last.folder / OPTIMIZERS).unlink()
    with pytest.raises(RunError, match=f"{OPTIMIZERS} is missing.*Move that folder out of the run"):
        load(run, OPTIMIZERS)
    load(run, WEIGHTS)
    for one in rest:
        shutil.rmtree(one.folder)
    with pytest.raises(RunError, match="No other checkpoint of the run is intact"):
        load(run, OPTIMIZERS)


def test_damage_in_a_checkpoint_of_the_version_before_is_noticed(run: Run) -> None:
    as_before(run.checkpoint())
    load(run, OPTIMIZERS)
    flipped(run.checkpoint().weights, 3000)
    with pytest.raises(RunError, match=r"state\.json beside it is") as refused:
        load(run, WEIGHTS)
    assert "Remove" not in str(refused.value), "the weights may be good"


def test_a_model_that_has_changed_is_no_damage(run: Run) -> None:
    other = Run(run.folder, {**run.about, "model_config": {**run.model_config, "dim": 3}})
    with pytest.raises(RunError, match="is intact, but does not fit") as refused:
        load_for_rendering(other, other.checkpoint(), CPU)
    assert "Remove" not in str(refused.value)


def test_a_version_of_a_file_is_hashed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = hashlib.file_digest

    def counted(file: object, kind: str) -> object:
        hashed.append(file)
        return real(file, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    for _ in range(3):
        load(run, WEIGHTS)
    assert len(hashed) == 1
    again = run.checkpoint().weights
    again.write_bytes(again.read_bytes())
    load(run, WEIGHTS)
    assert len(hashed) == 2


# Modes


def test_files_of_a_run_have_the_modes_that_the_umask_leaves(drums: Corpus, tmp_path: Path, shell: Shell) -> None:
    flags = "--steps 2 --length 4096 --dim 2 --batch-size 4 --listen-clips 1 -q"
    shell(f"umask 027; tonemill train wavegan {drums.folder} -o run {flags}", timeout=120).done()
    places = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in places if path.is_dir()} == {"0o750"}
    assert {oct(path.stat().st_mode & 0o777) for path in places if path.is_file()} == {"0o640"}


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(run: Run, failing_disk: Callable[..., object]) -> None:
    checkpoint = run.checkpoint()
    attempts: list[Callable[[], object]] = [
        lambda: load_for_rendering(run, checkpoint, CPU),
        run.checkpoint,
        run.checkpoints,
        lambda: open_run(run.folder),
    ]
    for attempt in attempts:
        failing_disk(run.folder, fail_at=0, error=errno.EACCES)
        with pytest.raises(RunError, match="cannot be read: Permission denied") as refused:
            attempt()
        assert "emove" not in str(refused.value)


def test_checkpoints_that_may_not_be_listed_are_not_called_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(RunError, match="cannot be read: Permission denied"):
        run.checkpoint()


# What a kill leaves


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def test_a_kill_while_a_checkpoint_is_removed_leaves_nothing_that_counts(
    run: Run, drums: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = run.checkpoints()[0].folder

    def killed(folder: Path, **_: object) -> None:
        (folder / WEIGHTS).unlink()
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(shutil, "rmtree", killed)
        checkpoint_folder.remove(going)
    assert steps(run) == [3, 4, 6]
    assert leftovers(run.folder)
    trained(drums, run.folder)
    assert steps(run) == [3, 4, 6]
    assert not leftovers(run.folder)


def test_a_kill_while_a_checkpoint_is_saved_leaves_nothing_that_counts(run: Run, drums: Corpus) -> None:
    shutil.copytree(run.checkpoint().folder, run.folder / "checkpoints/.tonemill-part-0123")
    assert steps(run) == [2, 3, 4, 6]
    trained(drums, run.folder)
    assert not leftovers(run.folder)


def test_what_the_version_before_left_of_a_removed_checkpoint_is_swept(run: Run, drums: Corpus) -> None:
    old = run.checkpoints()[0].folder
    (old / STATE).unlink()
    assert steps(run) == [3, 4, 6]
    trained(drums, run.folder)
    assert not old.exists()


def test_a_save_that_fails_leaves_the_one_before_and_no_leftovers(
    run: Run, failing_disk: Callable[..., object]
) -> None:
    checkpoint = run.checkpoint()
    model = load_for_rendering(run, checkpoint, CPU)
    state = State(model, model.optimizers(), 0.9)
    state.load(checkpoint)
    before = contents(run.folder)
    state.step = 7
    for number in itertools.count():
        failing_disk(checkpoint.folder.parent, fail_at=number, times=1)
        try:
            state.save(run.folder)
        except OutputError:
            assert contents(run.folder) == before
        else:
            break
    assert number > 5, "the disk did not fail"
    assert steps(run) == [2, 3, 4, 6, 7]
