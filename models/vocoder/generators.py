"""Generators of the vocoder: log-mel frames (batch, bands, frames) to audio (batch, frames * hop_length)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tonemill.models.parts.mel import LOG_FLOOR
from tonemill.models.parts.spectra import inverse_stft

Mels = Float[Tensor, "batch bands frames"]
Audio = Float[Tensor, "batch time"]

DILATIONS: Final = (1, 3, 9)
EDGE_KERNEL: Final = 7
"""Width of the first kernel of both generators, of MelGAN's last one, and of each block of Vocos."""

LARGEST_LOG: Final = math.log(100.0)
"""Magnitudes of Vocos end here, so that an exponential cannot overflow (the published code's bound)."""


class Generator(nn.Module):
    """From mel frames to audio.

    Attributes:
        before: frames before a frame that its samples depend on.
        after: frames after it.
        least_frames: it takes no fewer.
    """

    before: int
    after: int
    least_frames: int

    def forward(self, mel: Mels) -> Audio:
        raise NotImplementedError

    def plain(self) -> Generator:
        """One that gives the same audio in less time, for rendering only; itself, where there is none."""
        return self


class MelGAN(Generator):
    """MelGAN's generator (section 2.1): 3,192,898 parameters with ratios 5, 4, 4, 2 and 64 bands, gains included.

    It departs in reading log magnitudes above their floor. Initial weights are PyTorch's: in the published code weight
    norm undoes the normal ones.

    Args:
        bands: of the mel spectrogram.
        ratios: by which each stage raises the rate; their product is the hop length.
        width: channels before the first stage, halved by each.
        normed: weights are gain and direction (weight norm), and computed from them at each call.
    """

    def __init__(self, bands: int, ratios: Sequence[int], width: int, normed: bool = True) -> None:
        super().__init__()
        self.sizes = bands, tuple(ratios), width
        norm = weight_norm if normed else _unchanged
        edge = EDGE_KERNEL // 2
        layers: list[nn.Module] = [nn.ReflectionPad1d(edge), norm(nn.Conv1d(bands, width, EDGE_KERNEL))]
        for ratio in ratios:
            layers += [
                nn.LeakyReLU(0.2),
                norm(
                    nn.ConvTranspose1d(
                        width, width // 2, 2 * ratio, ratio, padding=_cropped(ratio), output_padding=ratio % 2
                    )
                ),
            ]
            width //= 2
            layers += [ResidualUnit(width, dilation, norm) for dilation in DILATIONS]
        layers += [
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(edge),
            norm(nn.Conv1d(width, 1, EDGE_KERNEL)),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)
        self.before, self.after = _reach(ratios)
        # A reflection needs more samples than it mirrors: 3 of the frames, and 9 after the first stage.
        self.least_frames = max(edge + 1, max(DILATIONS) // ratios[0] + 1)

    def forward(self, mel: Mels) -> Audio:
        # Above the floor, so that silence is nothing to the first layer; as it is, silence is its loudest input.
        return self.layers(mel - math.log10(LOG_FLOOR)).squeeze(1).float()

    @torch.no_grad()
    def plain(self) -> Generator:
        copied = MelGAN(*self.sizes, normed=False).to(next(self.parameters()).device)
        for name, layer in copied.named_modules():
            if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
                normed = self.get_submodule(name)
                for kind in ("weight", "bias"):
                    getattr(layer, kind).copy_(getattr(normed, kind))
        return copied


def _unchanged(layer: nn.Module) -> nn.Module:
    return layer


def _cropped(ratio: int) -> int:
    """Samples that a transposed convolution of twice the ratio loses at its start, so that n become n * ratio."""
    return ratio // 2 + ratio % 2


def _reach(ratios: Sequence[int]) -> tuple[int, int]:
    """Frames before and after a frame that MelGAN's samples for it depend on.

    From the last layer to the first, with reach l and r around each sample: sample i of a transposed convolution with
    kernel 2s, stride s and crop p sums inputs m with 0 <= i + p - m s < 2s. For all s samples of input f together, m
    goes from f - floor((l + 2s - 1 - p) / s) to f + floor((s - 1 + r + p) / s).
    """
    edge = EDGE_KERNEL // 2
    left = right = edge
    for ratio in reversed(ratios):
        left, right = left + sum(DILATIONS), right + sum(DILATIONS)
        crop = _cropped(ratio)
        left, right = (left + 2 * ratio - 1 - crop) // ratio, (ratio - 1 + right + crop) // ratio
    return left + edge, right + edge


class ResidualUnit(nn.Module):
    """A dilated convolution of 3 and one of 1, beside a convolution of 1."""

    def __init__(self, width: int, dilation: int, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(dilation),
            norm(nn.Conv1d(width, width, 3, dilation=dilation)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv1d(width, width, 1)),
        )
        self.shortcut = norm(nn.Conv1d(width, width, 1))

    def forward(self, x: Float[Tensor, "batch width time"]) -> Float[Tensor, "batch width time"]:
        return self.shortcut(x) + self.branch(x)


class Vocos(Generator):
    """ConvNeXt blocks at the rate of the frames, and an inverse STFT (Vocos, section 3; ConvNeXt: arXiv:2201.03545).

    Args:
        bands: of the mel spectrogram.
        n_fft: samples of each predicted spectrum; even.
        hop_length: samples from one to the next.
        width: channels of the blocks.
        blocks: how many.
    """

    def __init__(self, bands: int, n_fft: int, hop_length: int, width: int, blocks: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.embedding = nn.Conv1d(bands, width, EDGE_KERNEL, padding=EDGE_KERNEL // 2)
        self.first_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, 1 / blocks) for _ in range(blocks))
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_fft + 2)
        # Half of what the windows overlap is cropped at the start, so that frames stand as in the mel spectrogram.
        self.crop = (n_fft - hop_length) // 2
        frames = (blocks + 1) * (EDGE_KERNEL // 2)
        self.before = frames + (n_fft - 1 - self.crop) // hop_length
        self.after = frames + (self.crop + hop_length - 1) // hop_length
        self.least_frames = 1
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, mel: Mels) -> Audio:
        x = self.first_norm(self.embedding(mel).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        logs, angles = self.head(self.last_norm(x)).float().chunk(2, dim=-1)
        with torch.autocast(mel.device.type, enabled=False):
            # cos and sin of a real number: phases wrap by themselves (Vocos, section 3.2).
            spectrum = torch.polar(logs.clamp(max=LARGEST_LOG).exp(), angles)
            audio = inverse_stft(spectrum, self.hop_length)
            return audio[:, self.crop : self.crop + mel.shape[-1] * self.hop_length]


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution and a perceptron of three times the width, scaled, on top of what comes in.

    Args:
        width: channels.
        scale: initial factor of the branch.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, EDGE_KERNEL, padding=EDGE_KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wider = nn.Linear(width, 3 * width)
        self.narrower = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Float[Tensor, "batch frames width"]) -> Float[Tensor, "batch frames width"]:
        branch = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return x + self.scale * self.narrower(nn.functional.gelu(self.wider(branch)))
