"""Training, rendering and judging on another device than the CPU, which is simulated, and runs that change device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from making import QUIET
from other_device import HERE, THERE, OtherDevice

from tonemill.models.contract import load_model
from tonemill.models.specgan import SpecGANConfig
from tonemill.models.wavegan import WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.evaluation.unpaired import Options, evaluate
from tonemill.pipelines.rendering import render
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training import loop

SHORT = TrainConfig(
    steps=2, batch_size=4, checkpoint_every=2, listen_every=2, listen_clips=1, ema=0.9, loader_workers=0
)
SETTINGS: dict[str, Any] = {
    "classifier": load_model("classifier").Config(chunk_seconds=0.4, label="kind"),
    "specgan": SpecGANConfig(length=4096, dim=1, critic_steps=2, griffin_lim_iterations=1),
    # Its optimizers keep a state of their own making.
    "wavegan": WaveGANConfig(length=4096, dim=1, critic_steps=2, loss="lsgan"),
}


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a device the one that every command takes."""

    def choice(device: torch.device) -> None:
        for module in (loop, render):
            monkeypatch.setattr(module, "pick_device", lambda _: device)
        render._loaded.cache_clear()

    yield choice
    render._loaded.cache_clear()


@pytest.mark.parametrize(
    "name", [name if name == "specgan" else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS]
)
def test_a_run_goes_on_on_another_device(name: str, drums: Corpus, tmp_path: Path, choose: Any) -> None:
    def trained(steps: int) -> Any:
        settings = dataclasses.replace(SHORT, steps=steps)
        return loop.train(name, SETTINGS[name], settings, drums, tmp_path / "run", QUIET)

    for steps, elsewhere in ((2, True), (4, False), (6, True)):
        choose(THERE if elsewhere else HERE)
        if elsewhere:
            with OtherDevice():
                reached = trained(steps)
        else:
            reached = trained(steps)
        assert reached.step == reached.run.checkpoint().step == steps


@pytest.mark.slow
def test_a_judge_judges_on_another_device(drums: Corpus, tmp_path: Path, choose: Any) -> None:
    choose(HERE)
    settings = dataclasses.replace(SHORT, steps=2)
    loop.train("classifier", SETTINGS["classifier"], settings, drums, tmp_path / "judge", QUIET)

    def judged() -> dict[str, Any]:
        return evaluate([drums.folder], drums.folder, tmp_path / "judge", [], Options(most=16), QUIET)

    here = judged()
    choose(THERE)
    with OtherDevice():
        there = judged()
    assert there["metrics"]["frechet"]["generated"]["value"] == pytest.approx(
        here["metrics"]["frechet"]["generated"]["value"], rel=1e-3
    )
