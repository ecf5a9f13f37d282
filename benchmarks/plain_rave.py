"""RAVE in PyTorch's own layers and nothing else, to measure ours against: the published layers, losses and step.

Sizes and order of the layers are those of RAVE's published code (v1 and v2, mono, 16 bands); the counts of parameters
are checked against the published ones. What costs nothing is not built: schedules, and what phase 1 does not compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from tonemill.models.rave.pqmf import filters

BANDS: Final = 16
LATENTS: Final = 128
RATIOS: Final = (4, 4, 4, 2)
SCALES: Final = (2048, 1024, 512, 256, 128)
COUNTS: Final = {"v1": 17_612_369, "v2": 31_536_000}
DILATIONS: Final = {"v1": ((1, 3, 9),) * 4, "v2": ((1, 3, 9), (1, 3, 9), (1, 3, 9), (1, 3))}

Version = Literal["v1", "v2"]


class PlainRave(nn.Module):
    """Audio (batch, 1, time) to audio as long; time is a multiple of 2048."""

    def __init__(self, version: Version) -> None:
        super().__init__()
        self.version = version
        bank = torch.tensor(filters(BANDS, 32, 80.0), dtype=torch.float32)
        self.analysis = nn.Conv1d(1, BANDS, 512, BANDS, bias=False)
        self.synthesis = nn.Conv1d(BANDS, BANDS, 33, padding=16, bias=False)
        with torch.no_grad():
            self.analysis.weight.copy_(bank[:, None])
            phases = bank.unflatten(1, (32, BANDS)).permute(2, 0, 1).flip(2)
            self.synthesis.weight.copy_(F.pad(BANDS * phases, (0, 1)))
        self.encoder = _first_encoder() if version == "v1" else _second_encoder()
        self.trunk = _trunk(version)
        width = 64 if version == "v1" else 96
        self.noise: nn.Module | None = None
        if version == "v1":
            self.heads = nn.ModuleList([_normed(_conv(width, BANDS, 7)), _normed(_conv(width, 1, 3))])
            noise = [_conv(64, size, 3, stride=4) for size in (64, 64, 5 * BANDS)]
            self.noise = nn.Sequential(noise[0], nn.LeakyReLU(0.2), noise[1], nn.LeakyReLU(0.2), noise[2])
        else:
            self.heads = nn.ModuleList([nn.Sequential(nn.LeakyReLU(0.2), _normed(_conv(width, 2 * BANDS, 7)))])
        learned = (self.encoder, self.trunk, self.heads, *([] if self.noise is None else [self.noise]))
        assert sum(one.numel() for part in learned for one in part.parameters()) == COUNTS[version]
        for part in (self.analysis, self.synthesis):
            part.requires_grad_(False)

    def fused(self) -> PlainRave:
        """Without weight norms, in eval mode, as it is exported."""
        for module in self.modules():
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
        return self.eval()

    def bands(self, audio: Tensor) -> Tensor:
        return _signed(self.analysis(F.pad(audio, (256, 240))))

    def signal(self, bands: Tensor) -> Tensor:
        return self.synthesis(_signed(bands)).transpose(1, 2).flatten(1)[:, None]

    def encode(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.encoder(bands).chunk(2, dim=1)
        return mean, F.softplus(scale) + 1e-4

    def decode(self, codes: Tensor, with_noise: bool) -> Tensor:
        x = self.trunk(codes)
        if self.version == "v2":
            waveform, loudness = self.heads[0](x).chunk(2, dim=1)
            return torch.tanh(waveform * torch.sigmoid(loudness))
        sound = torch.tanh(self.heads[0](x)) * _modified(self.heads[1](x))
        return sound + _noise(self.noise(x)) if with_noise and self.noise is not None else sound

    def forward(self, audio: Tensor) -> Tensor:
        return self.signal(self.decode(self.encode(self.bands(audio))[0], with_noise=True))

    def loss(self, audio: Tensor, beta: float) -> Tensor:
        """Of a step of phase 1."""
        bands = self.bands(audio)
        mean, deviation = self.encode(bands)
        found = self.decode(mean + deviation * torch.randn_like(mean), with_noise=False)
        variance = deviation.square()
        divergence = (mean.square() + variance - variance.log() - 1).sum(dim=1).mean()
        distance = spectral(self.signal(found).flatten(0, 1), audio.flatten(0, 1))
        return distance + spectral(found.flatten(0, 1), bands.flatten(0, 1)) + beta * divergence


def spectral(found: Tensor, true: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    """Of signals (any, time): five scales, each with the ratio of squares and the distance of logarithms."""
    total = found.new_zeros(())
    for size in scales:
        window = torch.hann_window(size)
        y, x = (torch.stft(one, size, size // 4, window=window, return_complex=True).abs() for one in (found, true))
        total = total + (x - y).square().mean() / x.square().mean()
        total = total + ((x + 1e-7).log() - (y + 1e-7).log()).abs().mean()
    return total


def _conv(channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv1d:
    both = dilation * (kernel - 1) // 2
    return nn.Conv1d(channels, out, kernel, stride, both, dilation, groups, bias=False)


def _normed(layer: nn.Module) -> nn.Module:
    return weight_norm(layer)


def _first_encoder() -> nn.Sequential:
    layers: list[nn.Module] = [_conv(BANDS, 64, 7)]
    width = 64
    for ratio in RATIOS:
        layers += [nn.BatchNorm1d(width), nn.LeakyReLU(0.2), _conv(width, 2 * width, 2 * ratio + 1, stride=ratio)]
        width *= 2
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), _conv(width, 2 * LATENTS, 5, groups=2))


def _second_encoder() -> nn.Sequential:
    layers: list[nn.Module] = [_normed(_conv(BANDS, 96, 7))]
    width = 96
    for ratio, dilations in zip(RATIOS, DILATIONS["v2"], strict=True):
        layers += [_Unit(width, dilation, 1) for dilation in dilations]
        strided = nn.Conv1d(width, 2 * width, 2 * ratio, ratio, bias=False)
        layers += [nn.LeakyReLU(0.2), nn.ConstantPad1d((ratio - 1, 1), 0.0), _normed(strided)]
        width *= 2
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), _normed(_conv(width, 2 * LATENTS, 3)))


def _trunk(version: Version) -> nn.Sequential:
    first = version == "v1"
    width = 16 * (64 if first else 96)
    layers: list[nn.Module] = [_normed(_conv(LATENTS, width, 7 if first else 3))]
    order = slice(None) if first else slice(None, None, -1)
    for ratio, dilations in zip(RATIOS[order], DILATIONS[version][order], strict=True):
        raised = nn.ConvTranspose1d(width, width // 2, 2 * ratio, ratio, ratio // 2, bias=False)
        layers += [nn.LeakyReLU(0.2), _normed(raised)]
        width //= 2
        layers += [_Unit(width, dilation, 3 if first else 1) for dilation in dilations]
    return nn.Sequential(*layers)


class _Unit(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, dilation: int, last: int) -> None:
        super().__init__()
        convolutions = [_normed(_conv(width, width, 3, dilation=dilation)), _normed(_conv(width, width, last))]
        self.layers = nn.Sequential(nn.LeakyReLU(0.2), convolutions[0], nn.LeakyReLU(0.2), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _signed(bands: Tensor) -> Tensor:
    """Odd bands with every other frame's sign changed."""
    mask = torch.ones_like(bands)
    mask[:, 1::2, ::2] = -1
    return bands * mask


def _modified(x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(x) ** 2.3 + 1e-7


def _noise(x: Tensor, size: int = 64) -> Tensor:
    """(batch, bands * 5, frames) to filtered noise (batch, bands, frames * size), filtered through spectra."""
    amplitudes = _modified(x - 5).unflatten(1, (BANDS, 5)).transpose(2, 3)
    response = torch.fft.irfft(amplitudes).roll(4, -1) * torch.hann_window(8)
    response = F.pad(response, (0, size - 8)).roll(-4, -1)
    noise = torch.rand(*response.shape) * 2 - 1
    spectrum = torch.fft.rfft(F.pad(noise, (size, 0))) * torch.fft.rfft(F.pad(response, (0, size)))
    return torch.fft.irfft(spectrum)[..., size:].flatten(2)
