"""The exact Gaussian denoiser: its loss on noise is the root of the spectrum, and what it makes has the spectrum."""

from __future__ import annotations

from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from autoregressive_noise import DEVIATION, OPTIMUM, RHO, noise

from tonemill.models.diffusion.baseline import GaussianDenoiser
from tonemill.models.diffusion.noising import Objective, mix_at, schedule_of
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.parts.spectra import stft


@cache
def fitted() -> GaussianDenoiser:
    model = GaussianDenoiser(1)
    model.fit([noise(64, 4096, 1)])
    return model


def test_level_and_spectrum_are_measured() -> None:
    """The spectrum of AR(1) is (1 - rho^2) / |1 - rho exp(-i w)|^2; each band to 1 dB."""
    assert float(fitted().deviation) == pytest.approx(DEVIATION, rel=0.02)
    bands = np.linspace(0, np.pi, 513)
    true = (1 - RHO**2) / np.abs(1 - RHO * np.exp(-1j * bands)) ** 2
    # The window spreads the lowest bins.
    error_db = 10 * np.log10(fitted().spectrum[0].numpy() / true)
    assert np.abs(error_db[4:].reshape(-1)[: 508 // 4 * 4].reshape(-1, 4).mean(axis=1)).max() < 1


def test_the_mean_loss_over_levels_is_the_root_of_the_spectrum() -> None:
    levels = (torch.arange(4096) + 0.5) / 4096
    loss = fitted().loss(levels, "v").mean() * fitted().deviation
    assert float(loss) == pytest.approx(OPTIMUM, rel=0.02)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_the_loss_of_a_level_is_what_a_trial_measures(objective: Objective) -> None:
    clean = noise(64, 4096, 2) / fitted().deviation
    torch.manual_seed(0)
    drawn = torch.randn_like(clean)
    for level in (0.1, 0.5, 0.9):
        levels = torch.full((64,), level)
        mix = mix_at(objective, levels)
        error = fitted().expected(mix.mixed(clean, drawn), levels, objective) - mix.slope(clean, drawn)
        assert float(error.square().mean()) == pytest.approx(float(fitted().loss(levels, objective)[0]), rel=0.03)


def test_white_noise_costs_its_deviation() -> None:
    """The optimal loss on white noise of deviation d is d, and of the answer 0 it is (1 + d^2) / 2."""
    model, deviation = GaussianDenoiser(1), 0.3
    model.spectrum.fill_(deviation**2)
    levels = (torch.arange(4096) + 0.5) / 4096
    assert float(model.loss(levels, "v").mean()) == pytest.approx(deviation, rel=1e-3)
    clean, drawn = torch.randn(2, 64, 1, 4096, generator=torch.Generator().manual_seed(1))
    slope = mix_at("v", levels[::64]).slope(deviation * clean, drawn)
    assert float(slope.square().mean()) == pytest.approx((1 + deviation**2) / 2, abs=1e-2)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_ten_steps_make_the_spectrum_of_the_corpus(objective: Objective) -> None:
    """To 1 dB in quarters of the band, from colored noise; the covariance of two channels to 10 %."""
    mid, side = noise(64, 4096, 3), noise(64, 4096, 4, rho=-0.5) * 0.3
    clips = torch.cat([mid + side, mid - side], dim=1)
    model = GaussianDenoiser(2)
    model.fit([clips])
    levels = schedule_of("tan", objective, 10)
    drawn = torch.randn(64, 2, 4096, generator=torch.Generator().manual_seed(2))

    def denoiser(x: torch.Tensor, level: float) -> torch.Tensor:
        return model.expected(x, torch.full((len(x),), level), objective)

    found = sampled(denoiser, model.colored(drawn, levels[0], objective), levels, objective, "2m") * model.deviation
    for quarter in range(4):
        band = slice(128 * quarter, 128 * (quarter + 1))
        powers = [stft(one, 1024, 512)[..., band].abs().square().mean() for one in (found, clips)]
        assert abs(10 * float((powers[0] / powers[1]).log10())) < 1
    covariances = [torch.einsum("bct,bdt->cd", one, one) / one[:, 0].numel() for one in (found, clips)]
    torch.testing.assert_close(*covariances, rtol=0.1, atol=1e-4)


def test_silence_is_refused() -> None:
    for clips in ([torch.zeros(2, 1, 4096)], []):
        with pytest.raises(ValueError, match="silence"):
            GaussianDenoiser(1).fit(clips)


def test_short_clips_are_measured_too() -> None:
    model = GaussianDenoiser(1)
    model.fit([noise(256, 300, 5)])
    assert float(model.deviation) == pytest.approx(DEVIATION, rel=0.05)
    assert model.expected(torch.randn(1, 1, 333), torch.tensor([0.5]), "v").shape == (1, 1, 333)
