"""Discriminators of waveforms: several networks that look at different scales, periods, or short-time spectra.

Each gives, for each of its networks, a map of scores and the feature maps before it:

    MultiScale   the waveform, and averages of it at lower rates (MelGAN, Kumar et al., 2019,
                 https://arxiv.org/abs/1910.06711, section 2.2)
    MultiPeriod  every p-th sample side by side (HiFi-GAN, Kong et al., 2020, https://arxiv.org/abs/2010.05646,
                 section 2.3)
    MultiSTFT    real and imaginary parts of spectra as two channels (EnCodec, Defossez et al., 2022,
                 https://arxiv.org/abs/2210.13438, section 3.4)

Convolutions are weight-normed; counts in the literature leave the norms' gains out or in, as each class says.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tonemill.models.parts.spectra import Resolution, quarter_hops, stft

Waveforms = Float[Tensor, "batch 1 time"]


class Judgement(NamedTuple):
    """Of one network: a map of scores, higher for what it takes for real, and its feature maps, first to last."""

    scores: Tensor
    features: list[Tensor]


class Stack(nn.Module):
    """Convolutions in a row, with a leaky ReLU after each but the last.

    Args:
        layers: the last gives the map of scores.
        slope: of the leaky ReLU where its input is negative.
        before_activation: whether feature maps are taken before the ReLU, as RAVE does, or after it.
    """

    def __init__(self, layers: Sequence[nn.Module], slope: float = 0.2, before_activation: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.slope = slope
        self.before_activation = before_activation

    def forward(self, x: Float[Tensor, "batch channels *shape"]) -> Judgement:
        features = []
        *hidden, last = self.layers
        for layer in hidden:
            made = layer(x)
            x = F.leaky_relu(made, self.slope)
            features.append(made if self.before_activation else x)
        return Judgement(last(x), features)


class MultiScale(nn.Module):
    """MelGAN's: three equal stacks, each at half the rate of the one before; 16,924,086 parameters, gains included."""

    def __init__(self, scales: int = 3, width: int = 16, widest: int = 1024, strides: Sequence[int] = (4,) * 4) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(_scale_stack(width, widest, strides) for _ in range(scales))

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for number, stack in enumerate(self.stacks):
            if number:
                audio = F.avg_pool1d(audio, 4, 2, padding=1, count_include_pad=False)
            judgements.append(stack(audio))
        return judgements


def _scale_stack(width: int, widest: int, strides: Sequence[int]) -> Stack:
    first = nn.Sequential(nn.ReflectionPad1d(7), weight_norm(nn.Conv1d(1, width, 15)))
    layers: list[nn.Module] = [first]
    for stride in strides:
        wider = min(width * stride, widest)
        kernel = 10 * stride + 1
        layers.append(weight_norm(nn.Conv1d(width, wider, kernel, stride, kernel // 2, groups=max(1, width // 4))))
        width = wider
    wider = min(2 * width, widest)
    layers += [weight_norm(nn.Conv1d(width, wider, 5, padding=2)), weight_norm(nn.Conv1d(wider, 1, 3, padding=1))]
    return Stack(layers)


class MultiPeriod(nn.Module):
    """A stack for each period; the waveform is padded with zeros to a multiple of it.

    As set, RAVE's second version: 9,690,245 parameters without gains, features before the activation.

    Args:
        periods: in samples.
        widths: channels of the layers.
        stride: of each layer, along time.
        last_kernel: width of the layer that gives the scores.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        widths: Sequence[int] = (96, 192, 384, 768),
        stride: int = 4,
        last_kernel: int = 1,
        before_activation: bool = True,
    ) -> None:
        super().__init__()
        self.periods = tuple(periods)
        self.stacks = nn.ModuleList(
            Stack(
                [
                    *(
                        weight_norm(nn.Conv2d(width, wider, (5, 1), (stride, 1), (2, 0)))
                        for width, wider in pairwise((1, *widths))
                    ),
                    weight_norm(nn.Conv2d(widths[-1], 1, (last_kernel, 1), padding=(last_kernel // 2, 0))),
                ],
                before_activation=before_activation,
            )
            for _ in periods
        )

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for period, stack in zip(self.periods, self.stacks, strict=True):
            padded = F.pad(audio, (0, -audio.shape[-1] % period))
            folded = rearrange(padded, "batch one (time period) -> batch one time period", period=period)
            judgements.append(stack(folded))
        return judgements


class MultiSTFT(nn.Module):
    """A stack for each resolution, over maps (frames, bins) of the real and the imaginary part.

    Kernels are 3 frames by 9 bins, with a stride of 2 along bins and dilations 1, 2, 4 along frames; spectra are
    divided by the root of the window's energy, so that noise of variance 1 has bins of variance 1 at every size.

    Args:
        resolutions: of the spectra; clips are longer than half of each transform.
        width: channels of every layer.
    """

    def __init__(
        self, resolutions: Sequence[Resolution] = quarter_hops(4096, 2048, 1024, 512, 256), width: int = 32
    ) -> None:
        super().__init__()
        self.resolutions = tuple(resolutions)
        self.stacks = nn.ModuleList(
            Stack(
                [
                    weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4))),
                    *(
                        weight_norm(
                            nn.Conv2d(width, width, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1))
                        )
                        for dilation in (1, 2, 4)
                    ),
                    weight_norm(nn.Conv2d(width, width, 3, padding=1)),
                    weight_norm(nn.Conv2d(width, 1, 3, padding=1)),
                ]
            )
            for _ in self.resolutions
        )

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for resolution, stack in zip(self.resolutions, self.stacks, strict=True):
            with torch.autocast(audio.device.type, enabled=False):
                # The energy of a periodic Hann window is 3/8 of its length.
                scale = (0.375 * (resolution.window_length or resolution.n_fft)) ** -0.5
                spectrum = scale * stft(audio[:, 0].float(), *resolution, edges="reflection")
                parts = torch.stack([spectrum.real, spectrum.imag], dim=1)
            judgements.append(stack(parts))
        return judgements


class Several(nn.Module):
    """Discriminators side by side."""

    def __init__(self, *discriminators: nn.Module) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, audio: Waveforms) -> list[Judgement]:
        return [judgement for one in self.discriminators for judgement in one(audio)]
