"""A WaveNet learns knobs from few settings by FiLM; without it they are inputs of its layers, as they were before."""

from __future__ import annotations

import pytest
import torch
from effect_networks import made, noise
from scipy.stats import qmc

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.export import nam
from tonemill.models.effect.networks.wavenet import Shape, StackShape, WaveNet, WaveNetConfig

STEPS = 250


def driven(dry: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
    """tanh of the dry signal at a gain of 0 to 18 dB, for a drive from -1 to 1."""
    return torch.tanh(10 ** (0.45 * (drive + 1)) * dry)


def test_drives_between_those_of_the_recordings_are_learned() -> None:
    """Four recordings, at settings of a Sobol sequence, and the closed form at others."""
    torch.manual_seed(0)
    net = WaveNet(WaveNetConfig(film=True), 1, Shape((StackShape(6, 1, (2, 2), (1, 2), 1, True),), 0.1))
    settings = torch.from_numpy(2 * qmc.Sobol(1, seed=0).random(4) - 1).float()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.01 * 0.05 ** (step / STEPS)
        drives, dry = settings[torch.randint(4, (16,))], 0.3 * torch.randn(16, net.warm_up + 128)
        loss = (net.after_warm_up(dry, drives) - driven(dry, drives)[:, net.warm_up :]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    others = torch.linspace(float(settings.min()), float(settings.max()), 7)[:, None]
    dry = 0.3 * torch.randn(7, 4000)
    with torch.inference_mode():
        wet, output = driven(dry, others), net.eval()(dry, others)
    errors = (wet - output).square().sum(dim=1) / wet.square().sum(dim=1)
    assert float(errors.median()) < 0.02
    assert float(errors.max()) < 0.06


def test_a_run_of_an_earlier_version_has_its_knobs_as_inputs() -> None:
    """It states no `film`, and the same command goes on with it."""
    before = made("wavenet", 1, preset="nano")
    assert before.stacks[0].layers[0].mix.in_channels == 2
    assert made("wavenet", 1, preset="nano", film=True).stacks[0].layers[0].mix.in_channels == 1
    with torch.inference_mode():
        one, two = (before(torch.from_numpy(noise(500))[None], torch.full((1, 1), at)) for at in (-1.0, 1.0))
    assert float((one - two).abs().max()) > 1e-6


def test_a_network_with_knobs_is_no_nam_file() -> None:
    for name, settings in (("wavenet", {"film": True}), ("wavenet", {"film": False}), ("packed", {})):
        with pytest.raises(UsageError, match="none of them with knobs"):
            nam.written(made(name, 1, **settings), 48_000, {})
