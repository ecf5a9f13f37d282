"""Training: an interrupted run learns what an uninterrupted one does, and a checkpoint renders what it rendered."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import QUIET
from safetensors.torch import load_file

from tonemill.audiotools.errors import OutputError, RunError, UsageError
from tonemill.models.contract import Request
from tonemill.models.wavegan import WaveGANConfig
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.rendering.render import render
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import Run, TrainConfig, open_run
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.loop import train
from tonemill.pipelines.training.updater import Updater

TINY = WaveGANConfig(length=4096, dim=2, critic_steps=2)
SHORT = TrainConfig(steps=8, batch_size=4, checkpoint_every=4, listen_every=4, listen_clips=2, log_every=1, ema=0.9)


def trained(corpus: Corpus, folder: Path, **changes: object) -> Run:
    return train("wavegan", TINY, dataclasses.replace(SHORT, **changes), corpus, folder, QUIET).run


@pytest.fixture(scope="module")
def run(drums: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(drums, tmp_path_factory.mktemp("runs") / "whole")


def losses(run: Run) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_going_on_is_bit_exact(run: Run, drums: Corpus, tmp_path: Path) -> None:
    for steps in (3, 5, 8):
        parts = trained(drums, tmp_path / "parts", steps=steps)
    assert parts.checkpoint().digest == run.checkpoint().digest
    by_step = {line["step"]: line for line in losses(run) if "discriminator_loss" in line}
    assert [line for line in losses(parts) if "discriminator_loss" in line] == list(by_step.values())
    assert len(by_step) == 8


def test_half_precision_goes_on_where_it_stopped(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listener, "_leave", lambda *_: None)
    growing = functools.partial(torch.amp.GradScaler, growth_interval=3)
    monkeypatch.setattr(torch.amp, "GradScaler", growing)
    whole = trained(drums, tmp_path / "whole", precision="fp16", steps=5, listen_every=100)
    for steps in (2, 5):
        parts = trained(drums, tmp_path / "parts", precision="fp16", steps=steps, listen_every=100)
    assert parts.checkpoint().digest == whole.checkpoint().digest
    scaler = whole.checkpoint().state["scaler"]
    assert parts.checkpoint().state["scaler"] == scaler
    assert scaler["scale"] != growing("cpu").get_scale(), "it never changed"


def test_backward_runs_outside_of_autocast_and_forward_sees_new_weights() -> None:
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return gradient

    layer = torch.nn.Linear(4, 4)
    optimizers = {"layer": torch.optim.SGD(layer.parameters(), lr=100.0)}
    update = Updater(optimizers, torch.device("cpu"), torch.amp.GradScaler("cpu", enabled=False))
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(torch.ones(1, 4))
        update("layer", Watched.apply(before).float().sum())
        after = layer(torch.ones(1, 4))
    assert seen == [False]
    assert after.dtype == torch.bfloat16
    assert not torch.equal(before, after)


def test_lines_after_the_checkpoint_are_taken_back(drums: Corpus, tmp_path: Path) -> None:
    first = trained(drums, tmp_path / "run", steps=4)
    metrics = first.folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 7, "discriminator_loss": 1.0}\n{"step": 8, "discrim')
    trained(drums, tmp_path / "run")
    steps = [line["step"] for line in losses(first) if "discriminator_loss" in line]
    assert steps == list(range(1, 9))


def test_a_run_records_everything_about_itself(run: Run) -> None:
    again = config.read_toml(run.folder / "run.toml")
    assert config.build(TrainConfig, again["train"], "train") == SHORT
    built = config.build(WaveGANConfig, again["model"], "wavegan")
    assert (built.sample_rate, built.channels, built.dim) == (16000, 1, 2)
    assert run.about["parameters"]["generator"] == sum(
        tensor.numel() for name, tensor in load_file(run.checkpoint().weights).items() if name.startswith("generator.")
    )
    assert {path.name for path in (run.folder / "clips" / "00000008").iterdir()} == {
        "00.wav",
        "01.wav",
        "spectrograms.png",
        "training.png",
    }
    assert (run.folder / "clips" / "real" / "00.wav").exists()
    held_out = [line for line in losses(run) if "critic_held_out" in line]
    assert [line["step"] for line in held_out] == [4, 8]
    assert all(line["validated_on"] == "valid" for line in held_out)


def test_tensorboard_has_curves_clips_and_pictures(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"discriminator_loss", "mel_distance_db", "critic_held_out"} <= {*tags["scalars"]}
    assert "rendered/spectrograms" in tags["images"]
    assert [one.step for one in events.Audio("rendered/00")] == [4, 8]


def test_the_last_checkpoints_and_the_best_stay(drums: Corpus, tmp_path: Path) -> None:
    kept = trained(drums, tmp_path / "run", steps=12, checkpoint_every=2, keep=2)
    steps = [one.step for one in kept.checkpoints()]
    assert steps[-2:] == [10, 12]
    assert len(steps) <= 3
    assert kept.checkpoint("best").step in steps
    with pytest.raises(RunError, match="no checkpoint '3'"):
        kept.checkpoint("3")


def test_averages_are_what_is_rendered(run: Run) -> None:
    weights = load_file(run.checkpoint().weights)
    model = load_for_rendering(run, run.checkpoint(), torch.device("cpu"))
    name = next(name for name in weights if name.startswith("average.") and name.endswith("weight"))
    shown = dict(model.state_dict())[name.removeprefix("average.")]
    assert torch.equal(shown, weights[name])
    assert not torch.equal(shown, weights[name.removeprefix("average.")])


def test_a_seed_gives_the_same_bytes_whatever_its_neighbours(run: Run) -> None:
    model = load_for_rendering(run, run.checkpoint(), torch.device("cpu"))
    requests = [Request(seed, {}, {}) for seed in range(7)]
    together = render(model, requests, 4, torch.device("cpu"))
    alone = [render(model, [request], 4, torch.device("cpu"))[0] for request in reversed(requests)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert one.tobytes() == other.tobytes()
    for one, other in zip(together, render(model, requests, 3, torch.device("cpu")), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_when_stopped_it_saves_first_and_goes_on(drums: Corpus, tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, steps=100_000, checkpoint_every=100_000, listen_every=100_000)
    timer = threading.Timer(3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    stopped = train("wavegan", TINY, settings, drums, tmp_path / "run", QUIET)
    assert stopped.interrupted
    assert stopped.run.checkpoint().step == stopped.step < 100_000
    assert trained(drums, tmp_path / "run", steps=stopped.step + 1).checkpoint().step == stopped.step + 1


def test_another_config_is_refused_by_name(run: Run, drums: Corpus) -> None:
    with pytest.raises(RunError, match=r"--dim 2 \(now 3\)"):
        train("wavegan", dataclasses.replace(TINY, dim=3), SHORT, drums, run.folder, QUIET)
    with pytest.raises(RunError, match=r"--batch-size 4 \(now 8\)"):
        trained(drums, run.folder, batch_size=8)


def test_a_foreign_folder_is_left_alone(drums: Corpus, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("mine")
    with pytest.raises(OutputError, match="did not make"):
        trained(drums, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


def test_a_damaged_checkpoint_names_the_mend(drums: Corpus, tmp_path: Path) -> None:
    broken = trained(drums, tmp_path / "run", steps=4)
    weights = broken.checkpoint().weights
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match="Remove that folder"):
        trained(drums, tmp_path / "run")
    with pytest.raises(RunError, match="Remove that folder"):
        load_for_rendering(open_run(broken.folder), broken.checkpoint(), torch.device("cpu"))


def test_a_damaged_description_is_replaced_by_that_of_another_run_of_the_same_settings(
    run: Run, drums: Corpus, tmp_path: Path
) -> None:
    broken = trained(drums, tmp_path / "run", steps=1)
    about = broken.folder / "run.json"
    about.write_bytes(about.read_bytes()[:100])
    with pytest.raises(RunError, match=r"run.json is damaged.*copy the run.json of that run"):
        trained(drums, tmp_path / "run", steps=2)
    about.write_bytes((run.folder / "run.json").read_bytes())
    assert trained(drums, tmp_path / "run", steps=2).checkpoint().step == 2


def test_weights_can_come_from_another_run(run: Run, drums: Corpus, tmp_path: Path) -> None:
    started = train("wavegan", TINY, dataclasses.replace(SHORT, steps=1), drums, tmp_path / "new", QUIET, init_from=run)
    before, after = load_file(run.checkpoint().weights), load_file(started.run.checkpoint().weights)
    name = "generator." + next(name for name in before if name.startswith("generator.")).removeprefix("generator.")
    assert (before[name] - after[name]).abs().max() < 1e-3, "one step cannot move far from where it started"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "--steps or --minutes"),
        ({"steps": 0}, "--steps is 0"),
        ({"batch_size": -1}, "--batch-size is -1"),
        ({"ema": 1.0}, "--ema is 1.0"),
    ],
)
def test_settings_are_checked_in_the_words_of_their_flags(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SHORT, **changes)
