"""Principal axes of latents: shares of variance, a rotation that loses nothing, signs, and counts."""

from __future__ import annotations

import pytest
import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.rave.latents import Axes
from tonemill.models.rave.noise import filtered_noise, impulse_responses, normal, uniform

VARIANCES = torch.tensor([4.0, 2.0, 1.0, 0.5])


def fitted(codes: torch.Tensor, levels: torch.Tensor | None = None) -> Axes:
    axes = Axes(codes.shape[1])
    axes.fit([(part, part[:, 0] if levels is None else levels) for part in codes.split(1)])
    return axes


def correlated(frames: int = 64) -> torch.Tensor:
    """Codes (3, 4, frames) whose covariance is diagonal with `VARIANCES`, rotated, with a mean."""
    draws = torch.Generator().manual_seed(0)
    white = torch.linalg.qr(torch.randn(3 * frames, 5, generator=draws, dtype=torch.float64)).Q
    white = white - white.mean(dim=0)
    white = torch.linalg.qr(white[:, :4]).Q * (3 * frames) ** 0.5
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=draws, dtype=torch.float64)).Q
    rows = (white * VARIANCES.sqrt()) @ rotation + torch.tensor([1.0, -2.0, 0.5, 3.0])
    return rows.float().reshape(3, frames, 4).transpose(1, 2)


def test_fidelity_is_the_cumulative_share_of_variance() -> None:
    axes = fitted(correlated())
    torch.testing.assert_close(axes.fidelity, VARIANCES.cumsum(0) / VARIANCES.sum(), atol=1e-5, rtol=0)
    assert [axes.count(None, share) for share in (0.5, 4 / 7.5, 0.81, 0.95, 1.0)] == [1, 1, 3, 4, 4]
    assert [axes.count(count, None) for count in (1, 3)] == [1, 3] and axes.count(None, None) == 4


def test_axes_are_orthogonal_and_all_of_them_lose_nothing() -> None:
    codes = correlated()
    axes = fitted(codes)
    torch.testing.assert_close(axes.basis @ axes.basis.T, torch.eye(4), atol=1e-6, rtol=0)
    seeds = torch.zeros(3)
    torch.testing.assert_close(axes.codes(axes.coordinates(codes, 4), 0.0, seeds, 0), codes, atol=1e-5, rtol=0)
    for count in (1, 2, 3):
        left = codes - axes.codes(axes.coordinates(codes, count), 0.0, seeds, 0)
        assert float(left.square().sum(dim=1).mean()) == pytest.approx(float(VARIANCES[count:].sum()), rel=1e-4)


def test_axes_point_to_what_is_louder_whatever_the_sign_of_the_latents() -> None:
    codes = correlated()
    level = codes[:1, 1] - 0.3 * codes[:1, 3]
    for sign in (1, -1):
        axes = fitted(sign * codes[:1], level)
        along = axes.coordinates(sign * codes[:1], 4)[0]
        assert all(float((row * (level[0] - level.mean())).mean()) >= 0 for row in along)


def test_missing_latents_are_drawn_at_a_temperature() -> None:
    axes = fitted(correlated(2000))
    seeds = torch.tensor([1.0])
    codes = axes.codes(torch.zeros(1, 1, 5000), 0.5, seeds, 0)
    back = axes.coordinates(codes, 4)[0]
    assert float(back[0].abs().max()) < 1e-5
    assert back[1:].std(dim=1).tolist() == pytest.approx([0.5] * 3, rel=0.05)
    torch.testing.assert_close(axes.codes(torch.zeros(1, 1, 100), 0.5, seeds, 50), codes[..., 50:150])


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="fine tuning begins"):
        Axes(4).count(2, None)
    axes = fitted(correlated())
    with pytest.raises(UsageError, match="--latents is 5; this run has 4"):
        axes.count(5, None)
    with pytest.raises(UsageError, match="exclude each other"):
        axes.count(2, 0.9)


def test_silence_and_one_frame_can_be_fitted() -> None:
    for codes in (torch.zeros(1, 4, 3), torch.ones(1, 4, 1)):
        axes = fitted(codes)
        assert axes.count(None, 0.99) == 1 and torch.isfinite(axes.basis).all()


def test_equal_amplitudes_make_a_unit_impulse() -> None:
    """RAVE's published code."""
    response = impulse_responses(torch.ones(2, 5))
    torch.testing.assert_close(response[0], torch.eye(8)[4], atol=1e-6, rtol=0)


def test_a_band_of_noise_has_the_level_of_its_amplitude() -> None:
    """Also where filters are longer than frames: twice the amplitude is 6.02 dB more, in the band alone."""
    amplitudes = torch.full((1, 1, 32, 4000), 1e-4)
    frames = torch.arange(4000)[None]
    levels = []
    for amplitude in (0.5, 1.0):
        amplitudes[:, :, 8] = amplitude
        spectrum = torch.fft.rfft(filtered_noise(amplitudes, 8, torch.zeros(1), frames)[0, 0]).abs().square()
        bands = spectrum[: spectrum.numel() // 62 * 62].reshape(62, -1).sum(dim=1)
        levels.append(bands.log10() * 10)
    assert float(levels[1][15:17].sum() - levels[0][15:17].sum()) / 2 == pytest.approx(6.02, abs=0.05)
    assert int(levels[1].argmax()) in (15, 16)


def test_random_numbers_are_uniform_normal_and_independent() -> None:
    place = torch.arange(200_000)[None]
    for draw, deviation in ((uniform, 3**-0.5), (normal, 1.0)):
        x = torch.cat([draw(torch.tensor([seed]), place) for seed in (0.0, 1.0, 2.0**24 - 1)])
        assert x.mean(dim=1).abs().max() < 0.01
        assert x.std(dim=1).tolist() == pytest.approx([deviation] * 3, rel=0.01)
        assert float((torch.corrcoef(torch.cat([x, x.roll(1, dims=1)])) - torch.eye(6)).abs().max()) < 0.01
