"""Discriminators of waveforms: several networks that look at different scales, periods, or short-time spectra.

Each gives, for each of its networks, a map of scores and the feature maps before it:

    MultiScale   the waveform, and averages of it at lower rates (MelGAN, Kumar et al., 2019,
                 https://arxiv.org/abs/1910.06711, section 2.2)
    MultiPeriod  every p-th sample side by side (HiFi-GAN, Kong et al., 2020, https://arxiv.org/abs/2010.05646,
                 section 2.3)
    MultiSTFT    real and imaginary parts of spectra as two channels (EnCodec, Defossez et al., 2022,
                 https://arxiv.org/abs/2210.13438, section 3.4)

Convolutions are weight-normed; counts in the literature leave the norms' gains out or in, as each class states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Equal stacks, each at half the rate of the one before.

    As set, MelGAN's, 16,924,086 parameters with gains; with `strided_stack` and pools of 2 RAVE's, 17,429,187 without.

    Args:
        stack: makes one of them.
        scales: how many.
        pool: samples that are averaged to halve the rate; even.
    """

    def __init__(self, stack: Callable[[], Stack] | None = None, scales: int = 3, pool: int = 4) -> None:
        super().__init__()
        self.pool = pool
        self.stacks = nn.ModuleList((stack or grouped_stack)() for _ in range(scales))

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for number, stack in enumerate(self.stacks):
            if number:
                edge = (self.pool - 2) // 2
                audio = F.avg_pool1d(audio, self.pool, 2, padding=edge, count_include_pad=False)
            judgements.append(stack(audio))
        return judgements


def grouped_stack(width: int = 16, widest: int = 1024) -> Stack:
    """MelGAN's: four strided convolutions with groups of 4 channels between plain ones."""
    layers: list[nn.Module] = [nn.Sequential(nn.ReflectionPad1d(7), weight_norm(nn.Conv1d(1, width, 15)))]
    for _ in range(4):
        wider = min(4 * width, widest)
        layers.append(weight_norm(nn.Conv1d(width, wider, 41, 4, 20, groups=max(1, width // 4))))
        width = wider
    wider = min(2 * width, widest)
    layers += [weight_norm(nn.Conv1d(width, wider, 5, padding=2)), weight_norm(nn.Conv1d(wider, 1, 3, padding=1))]
    return Stack(layers)


def strided_stack(widths: Sequence[int] = (96, 192, 384, 768)) -> Stack:
    """RAVE's: strided convolutions of 15 samples, features before the activation, no norm on the last layer."""
    strided = [weight_norm(nn.Conv1d(width, wider, 15, 4, 7)) for width, wider in pairwise((1, *widths))]
    return Stack([*strided, nn.Conv1d(widths[-1], 1, 1)], before_activation=True)


class MultiPeriod(nn.Module):
    """A stack for each period; the waveform is padded with zeros to a multiple of it.

    As set, RAVE's second version, 9,690,245 parameters without gains.

    Args:
        periods: in samples.
        widths: channels of the layers.
        strides: of the layers, along time.
        last_kernel: width of the layer that gives the scores; odd.
        slope: of the leaky ReLU.
        before_activation: see `Stack`.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        widths: Sequence[int] = (96, 192, 384, 768),
        strides: Sequence[int] = (4, 4, 4, 4),
        last_kernel: int = 1,
        slope: float = 0.2,
        before_activation: bool = True,
    ) -> None:
        super().__init__()
        self.periods = tuple(periods)

        def stack() -> Stack:
            layers = [
                weight_norm(nn.Conv2d(width, wider, (5, 1), (stride, 1), (2, 0)))
                for (width, wider), stride in zip(pairwise((1, *widths)), strides, strict=True)
            ]
            last = weight_norm(nn.Conv2d(widths[-1], 1, (last_kernel, 1), padding=(last_kernel // 2, 0)))
            return Stack([*layers, last], slope, before_activation)

        self.stacks = nn.ModuleList(stack() for _ in periods)

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for period, stack in zip(self.periods, self.stacks, strict=True):
            padded = F.pad(audio, (0, -audio.shape[-1] % period))
            folded = rearrange(padded, "batch one (time period) -> batch one time period", period=period)
            judgements.append(stack(folded))
        return judgements


class Bands(nn.Module):
    """Convolutions over a map (frames, bins) of each band of a spectrum, and one for the scores over all of them.

    Kernels are 3 frames by 9 bins, with a stride of 2 along bins.

    Args:
        edges: where the bands begin and end, as shares of the bins.
        width: channels of every layer.
        dilations: along frames, of the strided layers.
        slope: of the leaky ReLU.
    """

    def __init__(self, edges: Sequence[float], width: int, dilations: Sequence[int], slope: float) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.stacks = nn.ModuleList(
            Stack(
                [
                    weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4))),
                    *(
                        weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), (dilation, 4), (dilation, 1)))
                        for dilation in dilations
                    ),
                    weight_norm(nn.Conv2d(width, width, 3, padding=1)),
                    nn.Identity(),
                ],
                slope,
            )
            for _ in pairwise(edges)
        )
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, spectrum: Float[Tensor, "batch 2 frames bins"]) -> Judgement:
        places = [round(edge * spectrum.shape[-1]) for edge in self.edges]
        found = [
            stack(spectrum[..., low:high]) for (low, high), stack in zip(pairwise(places), self.stacks, strict=True)
        ]
        features = [feature for one in found for feature in one.features]
        return Judgement(self.last(torch.cat([one.scores for one in found], dim=-1)), features)


class MultiSTFT(nn.Module):
    """A network for each resolution, over the real and the imaginary part of the spectrum.

    Spectra are divided by the root of the window's energy: noise of variance 1 has bins of variance 1 at every size.
    As set, EnCodec's; `descript` makes the Descript codec's.

    Args:
        resolutions: of the spectra; clips are longer than half of each transform.
        width, edges, dilations, slope: see `Bands`.
    """

    def __init__(
        self,
        resolutions: Sequence[Resolution] = quarter_hops(4096, 2048, 1024, 512, 256),
        width: int = 32,
        edges: Sequence[float] = (0.0, 1.0),
        dilations: Sequence[int] = (1, 2, 4),
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.resolutions = tuple(resolutions)
        self.networks = nn.ModuleList(Bands(edges, width, dilations, slope) for _ in self.resolutions)

    def forward(self, audio: Waveforms) -> list[Judgement]:
        judgements = []
        for resolution, network in zip(self.resolutions, self.networks, strict=True):
            with torch.autocast(audio.device.type, enabled=False):
                # The energy of a periodic Hann window is 3/8 of its length.
                scale = (0.375 * (resolution.window_length or resolution.n_fft)) ** -0.5
                spectrum = scale * stft(audio[:, 0].float(), *resolution, edges="reflection")
                parts = torch.stack([spectrum.real, spectrum.imag], dim=1)
            judgements.append(network(parts))
        return judgements


def descript(width: int = 32) -> Several:
    """The Descript codec's (Kumar et al., 2023, https://arxiv.org/abs/2306.06546, section 3.4): periods and spectra.

    42,503,752 parameters without gains at a width of 32.
    """
    widths = (width, 4 * width, 16 * width, 32 * width, 32 * width)
    periods = MultiPeriod(widths=widths, strides=(3, 3, 3, 3, 1), last_kernel=3, slope=0.1, before_activation=False)
    edges = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    return Several(periods, MultiSTFT(quarter_hops(2048, 1024, 512), width, edges, (1, 1, 1), slope=0.1))


class Several(nn.Module):
    """Discriminators side by side."""

    def __init__(self, *discriminators: nn.Module) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, audio: Waveforms) -> list[Judgement]:
        return [judgement for one in self.discriminators for judgement in one(audio)]
