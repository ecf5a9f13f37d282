"""The exact denoiser of sound whose level is known in each cell, against closed forms."""

from __future__ import annotations

import pytest
import torch

from tonemill.models.diffusion.cells import RAYLEIGH, WINDOW_POWER, CellPower, Cells
from tonemill.models.diffusion.noising import Objective, mix_at
from tonemill.models.parts.mel import LogMel, MelConfig
from tonemill.models.parts.spectra import stft

HOP = 64


@pytest.mark.parametrize("objective", ["v", "flow"])
def test_cells_of_one_level_are_white_noise(objective: Objective) -> None:
    """Signal and noise are of one level: the expected slope is (a a' + b b') / (a^2 + b^2) x, for v nothing."""
    x, added = torch.randn(2, 3, 1, 1000, generator=torch.Generator().manual_seed(0)).unbind(0)
    level, deviation = torch.tensor([0.1, 0.5, 0.9]), 0.3
    cells = Cells(torch.full((3, 16, 129), deviation**2), HOP)
    mix = mix_at(objective, level)
    power = mix.signal**2 + mix.noise**2
    slope = (mix.signal * mix.signal_slope + mix.noise * mix.noise_slope) / power * x
    found = cells.denoised(x, torch.zeros_like(x), level, objective)
    torch.testing.assert_close(found, slope, atol=1e-5, rtol=0)
    found = cells.denoised(torch.zeros_like(x), added, level, objective)
    torch.testing.assert_close(found, added * deviation / power.sqrt(), atol=1e-5, rtol=0)
    torch.testing.assert_close(cells.shaped(x), deviation * x, atol=1e-5, rtol=0)


def test_noise_has_the_levels_of_its_cells() -> None:
    """20 dB within half a dB, and before it silence."""
    power = torch.zeros(1, 100, 129)
    power[:, 50:] = 100.0
    made = Cells(power.expand(200, -1, -1), HOP).shaped(torch.randn(200, 1, 6400))
    levels = [float(10 * made[..., part].square().mean().log10()) for part in (slice(0, 2800), slice(3600, 6400))]
    assert levels[0] < -100 and levels[1] == pytest.approx(20, abs=0.5)


def test_searched_sound_has_the_level_of_each_cell() -> None:
    """Magnitudes of white noise deviate by half of their mean (Rayleigh: 0.52); searched ones by less than 0.3."""
    noise = torch.randn(8, 1, 6400, generator=torch.Generator().manual_seed(0))
    cells, shares = Cells(torch.full((8, 100, 129), 4.0), HOP), []
    for made in (cells.shaped(noise), cells.searched(noise)):
        assert made.shape == noise.shape
        sizes = stft(made, 256, HOP).abs()[..., 8:-8, 4:-4]
        shares.append(float(sizes.std() / sizes.mean()))
    assert shares[0] == pytest.approx(0.52, abs=0.03) and shares[1] < 0.3


@pytest.mark.parametrize("objective", ["v", "flow"])
def test_the_expected_loss_is_that_of_gaussian_sound(objective: Objective) -> None:
    """Within 1.5 dB at three noise levels, of sound that comes and goes by 40 dB every 32 ms; of noise it is 1."""
    torch.manual_seed(0)
    steps = torch.where(torch.arange(100) % 16 < 8, 1.0, 1e-4)[None, :, None].expand(64, -1, 129)
    clean = Cells(steps, HOP).shaped(torch.randn(64, 1, 6400))
    # What a spectrogram of it states, leaks of loud into soft frames included.
    seen = stft(torch.nn.functional.pad(clean, (96, 96)), 256, HOP).abs().square().mean(dim=(0, 1)) / (0.375 * 256)
    cells = Cells(seen.expand(64, -1, -1), HOP)
    noise = cells.shaped(torch.randn(64, 1, 6400))
    assert float(10 * cells.loss(noise).mean().log10()) == pytest.approx(0, abs=1.5)
    for share in (0.1, 0.5, 0.9):
        level = torch.full((64,), share)
        mix = mix_at(objective, level)
        found = cells.denoised(mix.mixed(clean, noise), torch.zeros_like(clean), level, objective)
        loss, expected = cells.loss(found - mix.slope(clean, noise)), cells.expected_loss(6400, level, objective)
        assert float(10 * (loss.mean() / expected.mean()).log10()) == pytest.approx(0, abs=1.5), share


def test_a_mel_spectrogram_gives_back_its_bands() -> None:
    """Of two tones, within 0.6 dB in each band down to -20 dB of the loudest."""
    time = torch.arange(8000) / 8000
    clip = ((2 * torch.pi * 220 * time).sin() + 0.3 * (2 * torch.pi * 1500 * time).sin())[None]
    log_mel = LogMel(MelConfig(n_fft=256, hop_length=HOP, mel_bands=24), 8000)
    mel = log_mel(clip)
    sizes = (CellPower(log_mel)(mel) * (WINDOW_POWER * 256 / RAYLEIGH)).sqrt()
    found = (sizes @ log_mel.filters).clamp(min=1e-5).log10().transpose(1, 2)
    loud = mel > mel.amax() - 1
    assert 20 * (found - mel)[loud].abs().max() < 0.6


@pytest.mark.parametrize(("deviation", "bands"), [(1.0, 16), (0.01, 16), (0.1, 128)])
def test_a_mel_spectrogram_states_the_variance_of_noise(deviation: float, bands: int) -> None:
    """On average over time in every quarter of the bins, within 1.5 dB; also of bands as narrow as bins."""
    log_mel = LogMel(MelConfig(n_fft=256, hop_length=HOP, mel_bands=bands), 8000)
    power = CellPower(log_mel)(log_mel(deviation * torch.randn(8, 8000, generator=torch.Generator().manual_seed(1))))
    assert power.shape == (8, 125, 129)
    for part in power.mean(dim=(0, 1))[:128].reshape(4, 32).mean(dim=1):
        assert float(10 * part.log10()) == pytest.approx(20 * torch.tensor(deviation).log10(), abs=1.5)


def test_the_least_value_of_a_band_is_silence() -> None:
    """1e-5 in a band of hundreds of hertz would be noise at -70 dB."""
    log_mel = LogMel(MelConfig(n_fft=256, hop_length=HOP, mel_bands=16), 8000)
    clip = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    clip[:, 4000:] = 0
    power = CellPower(log_mel)(log_mel(clip))[0]
    assert power[70:].max() == 0 and power[:60].mean() == pytest.approx(1, rel=0.2)
