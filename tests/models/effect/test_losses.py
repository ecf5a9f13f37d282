"""Losses and figures have their published forms, on signals whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect import losses
from tonemill.models.effect.losses import BlockLoss, LossConfig
from tonemill.models.effect.representations import compress

SINE = torch.sin(2 * torch.pi * 441 * torch.arange(44100) / 44100)[None]


def test_a_gain_of_nine_tenths_has_an_esr_of_a_hundredth() -> None:
    assert float(losses.esr(0.9 * SINE, SINE)) == pytest.approx(0.01, rel=1e-4)
    assert float(losses.mse(0.9 * SINE, SINE)) == pytest.approx(0.01 * 0.5, rel=1e-4)
    both = torch.cat([SINE, 0.1 * SINE])
    assert float(losses.esr(torch.cat([0.9 * SINE, 0 * SINE]), both)) == pytest.approx((0.01 + 1) / 2, rel=3e-3)


def test_a_shift_of_means_is_the_dc_loss_alone() -> None:
    assert float(losses.dc(SINE + 0.1, SINE)) == pytest.approx(0.01 / 0.5, rel=1e-3)
    assert float(losses.dc(0.5 * SINE, SINE)) < 1e-8


def test_pre_emphasis_weighs_an_error_by_its_frequency() -> None:
    """|1 - c e^{-iw}|^2 at the error's frequency over that at the signal's."""
    frequency, c = 8000, 0.85
    error = torch.sin(2 * torch.pi * frequency * torch.arange(44100) / 44100)[None]

    def gain(hertz: float) -> float:
        return abs(1 - c * np.exp(-2j * np.pi * hertz / 44100)) ** 2

    output = losses.pre_emphasised(SINE + 0.01 * error, c), losses.pre_emphasised(SINE, c)
    assert output[0].shape[1] == 44099
    # The constant that keeps silent clips finite is a share of the signal's mean square here.
    expected = 1e-4 * gain(frequency) * 0.5 / (gain(441) * 0.5 + losses.EPS)
    assert float(losses.esr(*output)) == pytest.approx(expected, rel=2e-3)


def test_the_mulaw_loss_notices_a_quiet_error_beside_a_loud_one() -> None:
    """An error that is the same share of the sample at -60 dB as at 0 dB weighs by the slope of the curve."""
    quiet, loud = torch.full((1, 100), 1e-4), torch.full((1, 100), 1.0)
    slope = 255 / np.log(256)  # of the curve at 0
    assert float(losses.mulaw(quiet + 1e-6, quiet)) == pytest.approx((slope * 1e-6) ** 2, rel=0.06)
    assert float(losses.mulaw(loud - 1e-6, loud)) < 1e-3 * float(losses.mulaw(quiet - 1e-6, quiet))
    assert float(compress(torch.tensor([1.0]))) == pytest.approx(1.0)


def test_the_stft_distance_is_auraloss_s() -> None:
    """Of a signal and half of it: spectral convergence 1/2 and |ln 2| at every resolution."""
    torch.manual_seed(0)
    noise = torch.randn(1, 20000)
    assert float(losses.mrstft(noise / 2, noise)) == pytest.approx(0.5 + np.log(2), rel=1e-4)
    assert float(losses.mrstft(noise, noise)) < 1e-5
    # Each clip has its own convergence: a loud clip beside it changes nothing of it.
    pair = torch.cat([noise, 100 * noise])
    assert float(losses.mrstft(pair / 2, pair)) == pytest.approx(0.5 + np.log(2), rel=1e-4)


def test_a_weighted_sum_is_the_sum_and_what_weighs_nothing_is_not_computed() -> None:
    config = LossConfig(mse_weight=2.0, esr_weight=0.75, dc_weight=0.25, stft_weight=0.0, pre_emphasis=0.0)
    loss, output = BlockLoss(config), 0.9 * SINE + 0.01
    parts = loss.parts(output, SINE)
    assert list(parts) == ["mse", "dc", "esr"]
    expected = 2 * losses.mse(output, SINE) + 0.75 * losses.esr(output, SINE) + 0.25 * losses.dc(output, SINE)
    assert float(loss(output, SINE)) == pytest.approx(float(expected), rel=1e-5)


def test_a_silent_clip_leaves_losses_and_gradients_finite() -> None:
    config = LossConfig(mulaw_weight=1.0, esr_weight=1.0, dc_weight=1.0, stft_weight=1.0)
    output = torch.zeros(2, 4000, requires_grad=True)
    total = BlockLoss(config)(output, torch.zeros(2, 4000))
    total.backward()
    assert torch.isfinite(total.detach())
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"mse_weight": -1.0}, "--mse-weight"),
        ({"mse_weight": 0.0, "stft_weight": 0.0}, "weights"),
        ({"pre_emphasis": 1.0}, "--pre-emphasis"),
    ],
)
def test_weights_that_cannot_be_are_refused(settings: dict[str, float], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        LossConfig(**settings)
