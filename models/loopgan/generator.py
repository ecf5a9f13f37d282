"""StyleGAN2's generator on mel spectrograms (Karras et al., 2020, https://arxiv.org/abs/1912.04958), circular in time.

Feature maps are (batch, channels, time, bands). With circular time a map goes on at its beginning where it ends, so the
output is a loop: rotating the deepest map by one frame rotates the output by 2 ** stages frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.circular import around
from tonemill.models.parts.halving import smoothed
from tonemill.models.parts.winograd import convolved_3x3

Maps = Float[Tensor, "batch channels time bands"]
Other = Float[Tensor, "batch _ _ _"]
"""Maps of other sizes."""
Styles = Float[Tensor, "batch style"]
Noise = Float[Tensor, "batch 1 _ _"]

Convolve = Callable[[Tensor, Tensor], Tensor]

Bias = Float[Tensor, "outputs"]

SLOPE: Final = 0.2
GAIN: Final = math.sqrt(2)
"""Of the leaky ReLU; the gain keeps the variance of N(0, 1)."""

TIME: Final = 2
"""The axis of time in a map."""

_AROUND: Final = 1
"""Frames of a map beyond its ends that reach into its upsampled ends."""


class Shape(NamedTuple):
    """Sizes of a generator.

    Args:
        frames: of the deepest map, in time.
        bands: of the deepest map.
        stages: each doubles both.
        channels: of every map.
        latent: numbers of a latent vector.
        style: numbers of a style.
        mapping_layers: from latent to style.
        circular: time is a circle.
        condition: numbers that say what a loop is made to be, beside its latent vector.
    """

    frames: int
    bands: int
    stages: int
    channels: int
    latent: int
    style: int
    mapping_layers: int
    circular: bool
    condition: int = 0

    @property
    def styles(self) -> int:
        """Styles that one map takes: each layer has its own, and a stage's output shares that of the next layer."""
        return 2 * self.stages + 2

    def noise_shapes(self) -> list[tuple[int, int]]:
        """(time, bands) of the noise of each styled convolution."""
        sizes = [(self.frames << stage, self.bands << stage) for stage in range(self.stages + 1)]
        return [sizes[0], *(size for size in sizes[1:] for _ in range(2))]


class EqualLinear(nn.Module):
    """A dense layer whose weights are drawn from N(0, 1) and scaled when they are used.

    Args:
        inputs: numbers in.
        outputs: numbers out.
        bias: its first value.
        rate: weights and bias learn so much more slowly than others: they are stored divided by it.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Mapping(nn.Module):
    """Latent vectors to styles: dense layers at a hundredth of the learning rate (section 4.1 of StyleGAN).

    A condition is brought to as many numbers as the latent vector has, and stands beside it, each of mean square 1
    (Karras et al., 2020, https://arxiv.org/abs/2006.06676, appendix C).
    """

    def __init__(self, latent: int, style: int, layers: int, condition: int = 0) -> None:
        super().__init__()
        self.condition = EqualLinear(condition, latent) if condition else None
        sizes = [2 * latent if condition else latent] + [style] * layers
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=0.01) for a, b in pairwise(sizes))

    def forward(
        self, latent: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Styles:
        x = _of_square_1(latent)
        if self.condition is not None:
            x = torch.cat([x, _of_square_1(self.condition(condition))], dim=1)
        for layer in self.layers:
            x = activated(layer(x))
        return x


def _of_square_1(x: Float[Tensor, "batch _"]) -> Float[Tensor, "batch _"]:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU with a gain that keeps the variance of N(0, 1)."""
    return F.leaky_relu(x, SLOPE) * GAIN


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, and whose output is brought back to unit variance.

    Scaling activations in place of weights gives the same numbers with one convolution for the whole batch (section 2.2
    of the paper: demodulation divides by the norm of the scaled weights).

    Args:
        channels: in.
        outputs: channels out.
        style: numbers of a style.
        size: of the kernel.
        demodulate: bring the output back to unit variance.
        circular: time is a circle.
    """

    def __init__(
        self, channels: int, outputs: int, style: int, size: int = 3, demodulate: bool = True, circular: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, channels, size, size))
        self.modulation = EqualLinear(style, channels, bias=1.0)
        self.scale = 1 / math.sqrt(channels * size * size)
        self.demodulate, self.circular = demodulate, circular

    def forward(self, x: Maps, style: Styles, bias: Bias, gain: float = 1.0) -> Other:
        """With a bias, and a gain of both."""
        return self._scaled(self.convolved, x, style, bias * gain, gain)

    def upsampled(self, x: Maps, style: Styles, bias: Bias, gain: float = 1.0) -> Other:
        """Twice the frames and the bands, with a bias, and a gain of both."""
        return self._scaled(self._raised, x, style, bias * gain, gain)

    def convolved(self, x: Maps, weight: Tensor) -> Tensor:
        if weight.shape[-1] == 1:
            return F.conv2d(x, weight)
        return convolved_3x3(around(x, 1, TIME), weight, (0, 1)) if self.circular else convolved_3x3(x, weight)

    def _raised(self, x: Maps, weight: Tensor) -> Tensor:
        wide = around(x, _AROUND, TIME) if self.circular else x
        raised = F.conv_transpose2d(wide, weight.transpose(0, 1), stride=2)
        if not self.circular:
            return filtered(raised, (1, 1))
        # Frames of what is around are in place of zeros, but for one at each end that reaches no frame of the circle.
        return smoothed(F.pad(raised, (1, 1, 1 - 2 * _AROUND, 1 - 2 * _AROUND)), gain=4.0)

    def _scaled(self, convolve: Convolve, x: Maps, style: Styles, bias: Bias, gain: float) -> Tensor:
        factors, bias = self.modulation(style), bias[:, None, None]
        out = convolve(x * factors[:, :, None, None], self.weight * (self.scale * gain))
        if not self.demodulate:
            return out + bias
        squares = (self.weight * self.scale).square().sum(dim=(2, 3))
        return torch.addcmul(bias, out, (factors.square() @ squares.T + 1e-8).rsqrt()[:, :, None, None])


def filtered(x: Maps, padding: tuple[int, int]) -> Other:
    """The binomial filter along both axes, with a gain of 4, for maps of which three in four values were inserted."""
    before, after = padding
    return smoothed(F.pad(x, (before, after, before, after)), gain=4.0)


def doubled(x: Maps, circular: bool) -> Other:
    """A map of twice the frames and bands: zeros inserted and filtered."""
    frames = x.shape[2]
    wide = around(x, _AROUND, TIME) if circular else x
    batch, channels, time, bands = wide.shape
    spread = wide.new_zeros(batch, channels, 2 * time, 2 * bands)
    spread[:, :, ::2, ::2] = wide
    out = filtered(spread, (2, 1))
    return out[:, :, 2 * _AROUND : 2 * (_AROUND + frames)] if circular else out


class StyledConv(nn.Module):
    """A modulated convolution, noise of a learned strength, a bias, and the activation."""

    def __init__(self, shape: Shape, raises: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(shape.channels, shape.channels, shape.style, circular=shape.circular)
        self.strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(shape.channels))
        self.raises = raises

    def forward(self, x: Maps, style: Styles, noise: Noise) -> Other:
        convolved = self.conv.upsampled if self.raises else self.conv
        # What `activated` gives of the sum, in as few passes over the map.
        x = convolved(x, style, self.bias, GAIN)
        return F.leaky_relu_(x.add_(self.strength * GAIN * noise), SLOPE)


class ToMel(nn.Module):
    """What a stage adds to the mel spectrogram."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv = ModulatedConv(shape.channels, 1, shape.style, size=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1))
        self.circular = shape.circular

    def forward(self, x: Maps, style: Styles, below: Other | None) -> Other:
        out = self.conv(x, style, self.bias)
        return out if below is None else out + doubled(below, self.circular)


class Generator(nn.Module):
    """Latent vectors to normalised mel spectrograms (batch, 1, time, bands).

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.mapping = Mapping(shape.latent, shape.style, shape.mapping_layers, shape.condition)
        self.constant = nn.Parameter(torch.randn(1, shape.channels, shape.frames, shape.bands))
        self.first = StyledConv(shape, raises=False)
        self.first_mel = ToMel(shape)
        self.convs = nn.ModuleList(StyledConv(shape, raises) for _ in range(shape.stages) for raises in (True, False))
        self.mels = nn.ModuleList(ToMel(shape) for _ in range(shape.stages))

    def forward(self, styles: Float[Tensor, "batch layers style"], noise: Sequence[Noise], rotation: int = 0) -> Other:
        """Synthesis.

        Args:
            styles: of each layer, `shape.styles` of them.
            noise: of each styled convolution, as `shape.noise_shapes`.
            rotation: frames by which the deepest map is rotated in time.
        """
        x = self.constant.roll(rotation, dims=2).expand(len(styles), -1, -1, -1)
        x = self.first(x, styles[:, 0], noise[0])
        mel = self.first_mel(x, styles[:, 1], None)
        for stage, to_mel in enumerate(self.mels):
            for half in (0, 1):
                layer = 2 * stage + half
                x = self.convs[layer](x, styles[:, layer + 1], noise[layer + 1])
            mel = to_mel(x, styles[:, 2 * stage + 3], mel)
        return mel

    def broadcast(self, style: Styles) -> Float[Tensor, "batch layers style"]:
        """One style for all layers."""
        return style[:, None].expand(-1, self.shape.styles, -1)


def mixed(first: Styles, second: Styles, layers: int, crossover: Float[Tensor, "batch"]) -> Tensor:
    """Styles of each layer: the first up to a crossover, and the second from there on (style mixing).

    Args:
        first: (batch, style).
        second: (batch, style).
        layers: of the generator.
        crossover: layer at which each example changes over; `layers` for never.
    """
    later = torch.arange(layers, device=first.device) >= crossover[:, None]
    return torch.where(later[:, :, None], second[:, None], first[:, None])


def crossovers(
    places: Float[Tensor, "batch"], chances: Float[Tensor, "batch"], layers: int, share: float
) -> Float[Tensor, "batch"]:
    """The layer at which each example changes over, for `mixed`: any but the first for a share, and never for others.

    Args:
        places: drawn from 0 to 1.
        chances: drawn from 0 to 1.
        layers: of the generator.
        share: of examples that change over.
    """
    some = 1 + (places * (layers - 1)).floor()
    return torch.where(chances < share, some, torch.full_like(some, layers))


def truncated(style: Styles, mean: Float[Tensor, "*_ style"], psi: float) -> Styles:
    """Styles drawn towards their mean: 1 leaves them, 0 makes all of them the mean (StyleGAN, appendix B)."""
    return mean + psi * (style - mean)
