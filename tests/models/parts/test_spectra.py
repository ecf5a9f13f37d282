"""Short-time spectra come back as signals, and distances between them have their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tonemill.models.parts import spectra
from tonemill.models.parts.spectra import BandStatistics, Resolution, inverse_stft, quarter_hops, stft


def decibels(error: torch.Tensor, of: torch.Tensor) -> float:
    return 20 * float(torch.log10(error.norm() / of.norm()))


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 160), (256, 64), (512, 128)])
def test_the_inverse_gives_the_signal_back_at_minus_100_db(n_fft: int, hop: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, n_fft + 40 * hop)
    inner = slice(n_fft // 2, -(n_fft // 2))
    again = inverse_stft(stft(x, n_fft, hop), hop)
    assert again.shape == x.shape
    assert decibels((again - x)[:, inner], x[:, inner]) < -100


@pytest.mark.parametrize("edges", ["silence", "reflection"])
def test_a_centred_spectrum_is_torch_s(edges: spectra.Edges) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3000)
    mode = {"silence": "constant", "reflection": "reflect"}[edges]
    window = torch.hann_window(240)
    theirs = torch.stft(x, 512, 50, 240, window, center=True, pad_mode=mode, return_complex=True)
    ours = stft(x, 512, 50, 240, edges)
    assert decibels(ours - theirs.transpose(1, 2), theirs) < -110


def test_distances_of_a_sine_are_those_of_the_specification() -> None:
    """RAVE's published code: squared relative distances of 440 and 445 Hz; its logarithms are of rounding noise."""
    expected = (0.044309, 0.011689, 0.003120, 0.001133, 0.043147)
    low, high = (0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(65536) / 44100)[None] for hertz in (440, 445))
    for resolution, distance in zip(quarter_hops(2048, 1024, 512, 256, 128), expected, strict=True):
        x, y = (spectra.magnitudes(one, resolution, "reflection") for one in (high, low))
        assert float(spectra.relative_distance(x, y, power=2)) == pytest.approx(distance, abs=3e-6)


def test_a_gain_of_6_db_has_the_distances_of_a_factor_of_two() -> None:
    torch.manual_seed(0)
    true = 0.1 + torch.rand(3, 20, 65)
    assert float(spectra.logarithm_distance(true / 2, true)) == pytest.approx(np.log(2), rel=1e-5)
    assert float(spectra.relative_distance(true / 2, true)) == pytest.approx(0.5, rel=1e-5)
    assert float(spectra.relative_distance(true / 2, true, power=2)) == pytest.approx(0.25, rel=1e-5)
    assert float(spectra.linear_distance(true / 2, true)) == pytest.approx(float(true.mean()) / 2, rel=1e-5)


def test_silence_has_finite_distances_and_gradients() -> None:
    found = torch.zeros(2, 4096, requires_grad=True)
    loss = spectra.multi_resolution_distance(found, torch.zeros(2, 4096), [Resolution(512, 128)])
    loss.backward()
    assert float(loss.detach()) < 1e-5
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()


def test_a_quiet_clip_weighs_as_one_of_the_least_level() -> None:
    """Of white noise 20 dB below it the relative distance from silence is a tenth, and the logarithm's is as it was."""
    torch.manual_seed(0)
    noise, sizes = torch.randn(1, 40000), [Resolution(512, 128)]
    quiet = 0.001 * noise
    plain, floored = (
        float(spectra.multi_resolution_distance(2 * quiet, quiet, sizes, least_rms=least)) for least in (0.0, 0.01)
    )
    assert plain == pytest.approx(1 + np.log(2), rel=1e-3)
    assert floored == pytest.approx(0.1 + np.log(2), rel=1e-2)


def test_a_reflection_leaves_the_edge_sample_out() -> None:
    x = torch.arange(5.0).expand(2, 1, 5)
    assert spectra.reflected(x, (2, 1))[1, 0].tolist() == [2, 1, 0, 1, 2, 3, 4, 3]


def test_statistics_normalise_the_corpus_and_go_back() -> None:
    torch.manual_seed(0)
    clips = [torch.randn(2, 50, 3) * torch.tensor([1.0, 2.0, 0.0]) + 4 for _ in range(3)]
    statistics = BandStatistics(3)
    statistics.fit_frames(clips)
    every = statistics.normalized(torch.cat(clips)).reshape(-1, 3)
    assert torch.allclose(every.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(every[:, :2].std(0, correction=0), torch.ones(2), atol=1e-4)
    assert torch.allclose(statistics.denormalized(statistics.normalized(clips[0])), clips[0], atol=1e-5)
