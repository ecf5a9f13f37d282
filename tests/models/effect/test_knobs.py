"""A WaveNet learns knobs from few settings by FiLM; runs of before go on with what they began with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from effect_networks import made, noise
from scipy.signal import lfilter
from scipy.stats import qmc

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.export import nam
from tonemill.models.effect.model import Effect
from tonemill.models.effect.networks.wavenet import Shape, StackShape, WaveNet, WaveNetConfig
from tonemill.models.effect.settings import config_of_network, with_film

STEPS = 250
RATE = 24_000


def driven(dry: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
    """tanh of the dry signal at a gain of 0 to 18 dB, for a drive from -1 to 1."""
    return torch.tanh(10 ** (0.45 * (drive + 1)) * dry)


def test_drives_between_those_of_the_recordings_are_learned() -> None:
    """Four recordings, at settings of a Sobol sequence, and the closed form at others."""
    torch.manual_seed(0)
    net = WaveNet(
        WaveNetConfig(film=True, film_gain="linear"), 1, Shape((StackShape(6, 1, (2, 2), (1, 2), 1, True),), 0.1)
    )
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


def riff(seconds: float, seed: int) -> np.ndarray:
    """Four notes a second of coloured noise at levels over 30 dB, the loudest at half of full scale."""
    draws, size = np.random.default_rng(seed), RATE // 4
    struck = draws.standard_normal((int(4 * seconds), size)) * np.exp(-5 * np.arange(size) / size)
    struck *= 10 ** (draws.uniform(-30, 0, (len(struck), 1)) / 20)
    coloured = lfilter([1], [1, -0.8], struck.ravel())
    return np.asarray(0.5 * coloured / np.abs(coloured).max(), np.float32)


def amplified(dry: np.ndarray, drive_db: float, tone_hz: float) -> np.ndarray:
    """tanh of the dry signal at a gain, and a low-pass of the first order."""
    pole = np.exp(-2 * np.pi * tone_hz / RATE)
    return np.asarray(lfilter([1 - pole], [1, -pole], np.tanh(10 ** (drive_db / 20) * dry)), np.float32)


@pytest.mark.slow
def test_drive_and_tone_are_learned_from_eight_recordings_of_20_s() -> None:
    """0 to 36 dB and 800 to 8000 Hz, at settings of a Sobol sequence; others of it in the range of these."""
    points = np.array([0.0, 800.0]) + np.array([36.0, 7200.0]) * qmc.Sobol(2, seed=0).random(64)
    learned = points[:8]
    low, high = learned.min(axis=0), learned.max(axis=0)
    others = [one for one in points[8:] if (one >= low).all() and (one <= high).all()][:16]
    assert len(others) == 16
    positions = torch.from_numpy(2 * (learned - low) / (high - low) - 1).float()
    dry = [riff(20, number) for number in range(8)]
    wet = [amplified(one, *setting) for one, setting in zip(dry, learned, strict=True)]
    torch.manual_seed(0)
    net = WaveNet(WaveNetConfig(preset="nano", film=True), 2)
    optimizer, draws, steps = torch.optim.Adam(net.parameters(), net.learning_rate), np.random.default_rng(0), 600
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = net.learning_rate * 0.05 ** (step / steps)
        starts = draws.integers(0, dry[0].size - net.warm_up - 1024, 8)
        clips, wanted = (
            torch.from_numpy(
                np.stack([one[at : at + net.warm_up + 1024] for one, at in zip(signals, starts, strict=True)])
            )
            for signals in (dry, wet)
        )
        loss = (net.after_warm_up(clips, positions) - wanted[:, net.warm_up :]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    held_out, errors = riff(2, 99), []
    for setting in others:
        true = amplified(held_out, *setting)
        position = torch.from_numpy(2 * (setting - low) / (high - low) - 1).float()[None]
        with torch.inference_mode():
            output = net.eval()(torch.from_numpy(held_out)[None], position)[0].numpy()
        errors.append(float(np.square(true - output).sum() / np.square(true).sum()))
    assert np.median(errors) < 0.05
    assert max(errors) < 0.15


def test_a_run_of_an_earlier_version_has_its_knobs_as_inputs() -> None:
    """It states no `film`, and the same command goes on with it."""
    before = made("wavenet", 1, preset="nano")
    assert before.stacks[0].layers[0].mix.in_channels == 2
    assert made("wavenet", 1, preset="nano", film=True).stacks[0].layers[0].mix.in_channels == 1
    then: dict[str, object] = {"network": "wavenet", "knobs": ["drive"], "knob_low": [0.0], "knob_high": [1.0]}
    assert Effect.current(then) == {**then, "film": False}
    assert Effect.current({**then, "film": True}) == {**then, "film": True, "film_gain": "linear"}
    none: dict[str, object] = {"network": "wavenet", "knobs": [], "knob_low": [], "knob_high": []}
    assert Effect.current({**none, "film": False}) == none
    assert Effect.current({**then, "network": "lstm"}) == {**then, "network": "lstm"}
    with torch.inference_mode():
        one, two = (before(torch.from_numpy(noise(500))[None], torch.full((1, 1), at)) for at in (-1.0, 1.0))
    assert float((one - two).abs().max()) > 1e-6


@pytest.mark.parametrize("more", [{}, {"film": True}, {"network": "chain"}])
def test_a_file_that_names_knobs_keeps_todays_settings(more: dict[str, object]) -> None:
    """It may leave the network to a flag, and `--network tcn` has no `film`."""
    assert Effect.current({"knobs": ["drive"], **more}) == {"knobs": ["drive"], **more}


def test_a_form_of_gains_that_there_are_not_is_refused() -> None:
    config = config_of_network("wavenet")(film=False, film_gain="linear")
    with pytest.raises(UsageError, match="--film-gain is linear, and --no-film leaves no gains"):
        with_film(config)


def test_a_network_with_knobs_is_no_nam_file() -> None:
    for name, settings in (("wavenet", {"film": True}), ("wavenet", {"film": False}), ("packed", {})):
        with pytest.raises(UsageError, match="none of them with knobs"):
            nam.written(made(name, 1, **settings), 48_000, {})
