"""The filter bank: a near-perfect round trip, lags that it states, bands of equal power, and a stream of blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.streaming import Chain
from tonemill.models.rave.pqmf import Analysis, Synthesis, filters, prototype

WIDE, SHORT = (32, 80.0), (12, 50.0)
"""Of v1 and v2, and of live: taps over bands, and attenuation."""


def noise(channels: int = 1, samples: int = 16384) -> torch.Tensor:
    return torch.randn(1, channels, samples, generator=torch.Generator().manual_seed(0))


def level_db(x: torch.Tensor) -> float:
    return 10 * math.log10(float(x.square().mean()))


@pytest.mark.parametrize(("design", "bands", "least_db"), [(WIDE, 16, 64.0), (SHORT, 16, 41.0), (WIDE, 4, 64.0)])
@pytest.mark.parametrize("causal", [False, True])
def test_the_way_back_gives_the_signal_late_by_the_lag(
    design: tuple[int, float], bands: int, least_db: float, causal: bool
) -> None:
    """64 dB below noise, edges left out; and at no other lag."""
    analysis, synthesis = (one(bands, 2, *design, causal) for one in (Analysis, Synthesis))
    x = noise(2)
    lag = analysis.lag + synthesis.lag
    assert lag == (bands * (design[0] - 1) if causal else 0)
    inside = slice(1000, -1000)
    back = synthesis(analysis(x)).roll(-lag, dims=-1)
    assert level_db((back - x)[..., inside]) < level_db(x[..., inside]) - least_db
    correlation = torch.fft.irfft(torch.fft.rfft(synthesis(analysis(x))) * torch.fft.rfft(x).conj()).sum(dim=(0, 1))
    assert int(correlation.argmax()) == lag


def test_half_precision_around_the_filter_bank_does_not_reach_it() -> None:
    x = noise()
    with torch.autocast("cpu", torch.bfloat16):
        back = Synthesis(16, 1, *WIDE, False)(Analysis(16, 1, *WIDE, False)(x))
    assert level_db((back - x)[..., 1000:-1000]) < -64


def test_polyphase_is_the_strided_convolution() -> None:
    x, h = noise(), torch.tensor(filters(16, *WIDE), dtype=torch.float32)
    strided = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (256, 255)), h[:, None], stride=16)
    sign = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).repeat(8, strided.shape[-1] // 2)
    assert float((Analysis(16, 1, *WIDE, False)(x) - sign * strided).abs().max()) < 1e-6


def test_white_noise_has_a_quarter_of_its_level_in_every_band() -> None:
    bands = Analysis(16, 1, *WIDE, False)(noise(samples=2**18))
    assert bands[0].std(dim=1).numpy() == pytest.approx(np.full(16, 0.25), rel=0.05)


def test_a_sine_stays_in_its_band_and_is_not_mirrored() -> None:
    """1 kHz at 44.1 kHz: other bands are 40 dB lower, and a higher sine is higher in an odd band too."""
    time = torch.arange(2**15) / 44100
    bank = Analysis(16, 1, *WIDE, False)
    levels = bank(torch.sin(2 * math.pi * 1000 * time)[None, None])[0, :, 100:-100].square().mean(dim=1)
    assert 10 * math.log10(float(levels[1:].max() / levels[0])) < -40
    places = []
    for hertz in (2 * 1378 - 900, 2 * 1378 - 500):
        spectrum = torch.fft.rfft(bank(torch.sin(2 * math.pi * hertz * time)[None, None])[0, 1, 100:-100]).abs()
        places.append(int(spectrum.argmax()))
    assert places[0] < places[1]


def test_the_prototype_is_symmetric_with_the_energy_that_the_round_trip_needs() -> None:
    h = prototype(16, *WIDE)
    assert len(h) == 511 and np.allclose(h, h[::-1])
    assert float(np.square(h).sum()) == pytest.approx(1 / 32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_stream_is_the_whole_whatever_the_parity_of_the_delay(causal: bool, late: int) -> None:
    """A layer between both that is late by an odd number of frames would turn the sign of odd bands: -3 dB."""
    analysis, synthesis = (one(4, 1, 8, 40.0, causal) for one in (Analysis, Synthesis))
    between = torch.nn.Conv1d(4, 4, 2 * late + 1, bias=False)
    chain = Chain(analysis, _centred(between), synthesis)
    x = noise(samples=960)
    with torch.no_grad():
        whole, state, sounds = chain(x), chain.at_rest(1, x), []
        for start in range(0, 960, 24):
            sound, state = chain.step(x[..., start : start + 24], state)
            sounds.append(sound)
    stream = torch.cat(sounds, dim=-1)[..., chain.delay :]
    assert float((stream - whole[..., : stream.shape[-1]]).abs().max()) < 1e-5


def _centred(convolution: torch.nn.Conv1d) -> torch.nn.Module:
    from tonemill.models.parts.streaming import Conv

    layer = Conv(4, 4, convolution.kernel_size[0], bias=False)
    layer.conv = convolution
    return layer


def test_a_block_of_an_odd_number_of_frames_is_refused() -> None:
    bank = Analysis(4, 1, 8, 40.0, True)
    with pytest.raises(UsageError, match="a block has 3 frames"):
        bank.step(torch.zeros(1, 1, 12), bank.at_rest(1, torch.zeros(1)))
