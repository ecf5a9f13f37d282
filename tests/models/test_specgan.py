"""SpecGAN: counts and shapes of the paper, an exact representation, and an inversion as good as was published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Batch, Request
from tonemill.models.parts.griffin_lim import griffin_lim, inverse_stft, stft
from tonemill.models.parts.layers import NearestConv2d, SameConv2d, SameConvTranspose2d
from tonemill.models.specgan import LogSpectrogram, SpecGAN, SpecGANConfig

SMALL = SpecGANConfig(sample_rate=16000, channels=1, length=4096, dim=2)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("batch_norm", "generator", "discriminator"), [(False, 19_065_345, 17_427_969), (True, 19_069_313, 17_431_809)]
)
def test_parameters_are_the_paper_s(batch_norm: bool, generator: int, discriminator: int) -> None:
    model = SpecGAN(SpecGANConfig(sample_rate=16000, channels=1, batch_norm=batch_norm))
    assert (count(model.generator), count(model.discriminator)) == (generator, discriminator)


@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
def test_stages_double_both_axes(upsampling: str) -> None:
    model = SpecGAN(replace(SMALL, length=8192, upsampling=upsampling, channels=2))
    spectrogram = model.generator(torch.zeros(3, 100))
    assert spectrogram.shape == (3, 2, 64, 128)
    assert model.discriminator(spectrogram).shape == (3,)


def test_same_padding_puts_the_odd_zero_last() -> None:
    layer = SameConv2d(1, 1, 5, 2)
    torch.nn.init.zeros_(layer.bias)
    torch.nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 8, 8)
    x[..., 0, 0] = 1
    # Window 0 reaches from -1 to 3, window 1 from 1 to 5: only the first sees sample 0.
    expected = torch.zeros(4, 4)
    expected[0, 0] = 1
    torch.testing.assert_close(layer(x)[0, 0], expected, atol=1e-4, rtol=0)


def test_transposed_convolution_is_the_adjoint() -> None:
    torch.manual_seed(0)
    down, up = SameConv2d(3, 2, 5, 2).double(), SameConvTranspose2d(2, 3, 5, 2).double()
    up.weight = torch.nn.Parameter(down.weight.detach())
    torch.nn.init.zeros_(down.bias)
    torch.nn.init.zeros_(up.bias)
    x, y = torch.randn(1, 3, 8, 16).double(), torch.randn(1, 2, 4, 8).double()
    assert torch.isclose((down(x) * y).sum(), (x * up(y)).sum())


def test_nearest_is_repeating_and_then_convolving() -> None:
    torch.manual_seed(0)
    layer = NearestConv2d(2, 3, 5, 2)
    x = torch.randn(1, 2, 6, 4)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    plain = F.conv2d(repeated, layer.weight.transpose(0, 1).flip(2, 3), layer.bias, padding=2)
    assert torch.allclose(layer(x), plain, atol=1e-5)


def test_the_paper_s_clip_has_128_frames_of_128_bins() -> None:
    assert LogSpectrogram()(torch.zeros(2, 1, 16384)).shape == (2, 1, 128, 128)


def test_statistics_are_those_of_all_frames() -> None:
    torch.manual_seed(0)
    clips = torch.randn(6, 1, 4096) * 0.1
    spectrogram = LogSpectrogram()
    spectrogram.fit([clips[:4], clips[4:]])
    logs = spectrogram.logs(clips)[:, 0].reshape(-1, 129)
    assert torch.allclose(spectrogram.mean, logs.mean(0), atol=1e-5)
    assert torch.allclose(spectrogram.deviation, logs.std(0, correction=0), atol=1e-4)


def test_a_corpus_that_never_changes_gives_finite_numbers() -> None:
    model = SpecGAN(SMALL)
    silence = torch.zeros(4, 1, 4096)
    model.fit([Batch({"audio": silence}, {})])
    assert torch.isfinite(model.seen(silence)).all()


def test_what_is_within_three_deviations_comes_back() -> None:
    torch.manual_seed(0)
    clips = torch.randn(4, 1, 4096) * 0.1
    spectrogram = LogSpectrogram()
    spectrogram.fit([clips])
    seen = spectrogram(clips)
    back, true = spectrogram.magnitudes(seen)[..., :-1], spectrogram.logs(clips)[..., :-1].exp()
    inside = seen.abs() < 1
    assert inside.float().mean() > 0.98
    assert torch.allclose(back[inside], true[inside], rtol=1e-4)
    # Nyquist is not seen; it comes back as its mean.
    assert torch.allclose(spectrogram.magnitudes(seen)[..., -1].log(), spectrogram.mean[-1].expand(4, 1, 32), atol=1e-5)


def test_the_true_inverse_gives_back_the_signal() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4096)
    again = inverse_stft(stft(x, 256, 128), 128)
    # Where the sum of squared windows is all but nothing the ends fade.
    assert torch.allclose(again[:, 64:-64], x[:, 64:-64], atol=1e-4)
    reference = inverse_stft(stft(x, 256, 128), 128, "reference")
    ratio = (reference / x)[:, 256:-256][x[:, 256:-256].abs() > 0.1]
    assert ratio.min() == pytest.approx(0.5, abs=0.01)
    assert ratio.max() == pytest.approx(1.0, abs=0.01)


def drums(seconds: float = 1.024, rate: int = 16000) -> torch.Tensor:
    """Decaying noise and falling tones: attacks and tails, as in the loops that the published figures are of."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    loops = []
    for _ in range(4):
        loop = np.zeros_like(time)
        for onset in np.arange(0, seconds, 0.125):
            t = np.clip(time - onset, 0, None)
            envelope = (time >= onset) * np.exp(-t * random.uniform(10, 60))
            tone = np.sin(2 * np.pi * random.uniform(50, 2000) * t * np.exp(-t))
            loop += envelope * (random.uniform(0, 0.5) * random.standard_normal(len(time)) + tone)
        loops.append(loop / np.abs(loop).max())
    return torch.tensor(np.array(loops), dtype=torch.float32)


def convergence(x: torch.Tensor, magnitude: torch.Tensor) -> float:
    spectrogram = stft(F.pad(x[..., :16384], (0, 128)), 256, 128).abs()
    return float(((spectrogram - magnitude).norm(dim=(1, 2)) / magnitude.norm(dim=(1, 2))).mean())


def test_inversion_converges_as_published_and_better_than_the_reference() -> None:
    magnitude = stft(F.pad(drums(), (0, 128)), 256, 128).abs()
    phase = torch.from_numpy(np.random.default_rng(1).uniform(-np.pi, np.pi, magnitude.shape).astype(np.float32))
    reference = convergence(griffin_lim(magnitude, None, 128, 16, 0.0, "reference"), magnitude)
    plain = [convergence(griffin_lim(magnitude, None, 128, n, 0.0), magnitude) for n in (16, 60)]
    fast = convergence(griffin_lim(magnitude, phase, 128, 60, 0.99), magnitude)
    # On nine real loops: 0.291 for the reference, 0.122 and 0.089 without, 0.067 with momentum.
    assert reference > 0.2
    assert fast < plain[1] < plain[0] < 0.2
    assert fast < 0.12


def test_a_seed_decides_the_sound_and_neighbours_do_not() -> None:
    model = SpecGAN(SMALL)
    inputs = [model.inputs(Request(seed, {}, {})) for seed in (1, 2, 1)]
    audio = model.render({name: torch.stack([one[name] for one in inputs]) for name in inputs[0]})
    assert audio.shape == (3, 1, 4096)
    assert torch.equal(audio[0], audio[2])
    assert not torch.equal(audio[0], audio[1])


def test_reference_inversion_starts_from_zero_phase() -> None:
    model = SpecGAN(replace(SMALL, inversion="reference"))
    inputs = {name: value[None] for name, value in model.inputs(Request(1, {}, {})).items()}
    assert torch.equal(model.render(inputs), model.render({**inputs, "phase": inputs["phase"] * 0}))


@pytest.mark.parametrize("wrong", [{"length": 5000}, {"length": 0}, {"griffin_lim_momentum": 1.0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="it must be"):
        replace(SMALL, **wrong)
