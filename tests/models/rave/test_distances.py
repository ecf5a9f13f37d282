"""Spectral distances: the vectors of the reference, nothing between equal signals, and quiet clips that stay finite."""

from __future__ import annotations

import math

import pytest
import torch

from tonemill.models.rave.distances import spectral_distance

SCALES = (2048, 1024, 512, 256, 128)


def sine(hertz: float, amplitude: float = 0.5) -> torch.Tensor:
    """In float32, whose rounding is what quiet bins hold: the vectors of the reference are of such a sine."""
    return (amplitude * torch.sin(2 * math.pi * hertz * (torch.arange(65536) / 44100)))[None, None]


@pytest.mark.parametrize(
    ("found", "distance"), [(sine(440, 0.25), 4.708442), (sine(445), 3.738038), (sine(440, 0.0), 45.638824)]
)
def test_vectors_of_the_reference(found: torch.Tensor, distance: float) -> None:
    """RAVE's published code."""
    assert float(spectral_distance(found, sine(440), SCALES, 1e-3)) == pytest.approx(distance, rel=1e-3)


def test_half_of_noise_is_a_quarter_of_power_and_ln_2_away_at_each_scale() -> None:
    noise = torch.randn(1, 2, 16384, generator=torch.Generator().manual_seed(0))
    found = spectral_distance(noise / 2, noise, SCALES, 1e-3)
    assert float(found) == pytest.approx(5 * (0.25 + math.log(2)), rel=1e-4)


def test_equal_signals_are_no_distance_apart() -> None:
    assert float(spectral_distance(sine(440), sine(440), SCALES, 1e-3)) == 0


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_a_quiet_batch_has_finite_distances_and_gradients(level: float) -> None:
    """Of silence, and of a clip at -80 dB, which would weigh a hundred times more without a floor."""
    true = level * torch.randn(2, 3, 4096, generator=torch.Generator().manual_seed(0))
    found = torch.full_like(true, 1e-3).requires_grad_()
    distance = spectral_distance(found, true, (256, 64), 1e-3)
    distance.backward()
    assert torch.isfinite(distance) and torch.isfinite(found.grad).all()
    ratios = float(distance.detach() - spectral_distance(found.detach(), true, (256, 64), 1e9))
    assert 0 <= ratios < 2 * 256


def test_the_ratio_is_of_each_clip() -> None:
    """A loud clip beside a quiet one does not hide what the quiet one gets wrong."""
    quiet, loud = sine(440, 0.01), sine(440, 0.9)
    alone = spectral_distance(torch.zeros_like(quiet), quiet, SCALES, 1e-6)
    both = spectral_distance(torch.cat([torch.zeros_like(quiet), loud]), torch.cat([quiet, loud]), SCALES, 1e-6)
    assert float(both) == pytest.approx(float(alone) / 2, rel=1e-4)
