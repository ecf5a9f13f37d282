"""Encoders of the two versions: sub-bands to mean and scale of every latent, and the layers that both sides share.

With C0 = capacity and L latents, per channel of audio M bands, without the gains of weight norms (counts are those of
RAVE's published code):

    first    7 M C0 + sum over stages i of [2 C + 2 C^2 (2 r + 1)] + 5 L 16 C0          C = 2^i C0
    second   7 M C0 + sum over stages of 4 C^2 (n + r) + 6 L 16 C0                      n residual units
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tonemill.models.parts.streaming import Chain, Conv, ConvTranspose, Residual, Streaming
from tonemill.models.rave.settings import RaveConfig

SLOPE: Final = 0.2
"""Of an activation, below 0."""

KEPT: Final = math.sqrt(2 / (1 + SLOPE**2))
"""The gain of first weights that makes up for the level an activation takes (He et al., 2015, section 2.2)."""

OF_MEANS: Final = 20.0
"""The gain of the first weights of means, beside `KEPT`: deviations begin at ln 2, and sub-bands of a recording have a
level of about 0.05. With PyTorch's first weights means are at 0.0003, and a decoder begins with noise alone.
"""


def activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE)


def convolution(*shape: int, causal: bool, norm: bool, gain: float | Tensor | None = None, **about: Any) -> Conv:
    """Without bias, and with a weight norm unless it is not wanted.

    Args:
        gain: of the first weights: root mean square of outputs over that of inputs, where these are not correlated;
            one for all outputs, or (outputs, 1, 1). Default: PyTorch's, 1 / sqrt(3).
    """
    layer = Conv(*shape, bias=False, causal=causal, **about)
    if gain is not None:
        _amplify(layer.conv.weight, math.sqrt(3) * gain)
    if norm:
        layer.conv = weight_norm(layer.conv)
    return layer


def raised(channels: int, ratio: int, causal: bool, norm: bool) -> ConvTranspose:
    """Half the channels at `ratio` times the rate, after an activation whose level it makes up for."""
    layer = ConvTranspose(channels, channels // 2, 2 * ratio, stride=ratio, bias=False, causal=causal)
    # PyTorch's variance is 1 / (3 n) with n = channels / 2 x 2 ratio; an output sums 2 x channels products.
    _amplify(layer.conv.weight, math.sqrt(1.5 * ratio) * KEPT)
    if norm:
        layer.conv = weight_norm(layer.conv)
    return layer


def unit(channels: int, dilation: int, last_kernel: int, causal: bool, norm: bool) -> Residual:
    """Two convolutions beside the identity; the second has one tap in the second version, three in the first."""
    return Residual(
        channels,
        Chain(
            activation(),
            convolution(channels, channels, 3, dilation=dilation, causal=causal, norm=norm),
            activation(),
            convolution(channels, channels, last_kernel, causal=causal, norm=norm),
        ),
    )


class Norm(nn.BatchNorm1d):
    """Batch normalisation; with fixed statistics a product and a sum, which are fast in any layout of short blocks."""

    def forward(self, x: Float[Tensor, "batch channels frames"]) -> Float[Tensor, "batch channels frames"]:
        if self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return torch.addcmul((self.bias - self.running_mean * scale)[:, None], x, scale[:, None])


def encoder(config: RaveConfig, norm: bool = True) -> Chain:
    """(batch, channels * bands, frames) to (batch, 2 * latents, fewer frames): all means, then all scales.

    Args:
        norm: whether the second version has its weight norms.
    """
    return _first(config) if config.is_first else _second(config, norm)


def _first(config: RaveConfig) -> Chain:
    width, causal = config.capacity, config.causal
    layers: list[nn.Module] = [_entry(config, norm=False)]
    for ratio in config.ratios:
        layers += [Norm(width), activation()]
        layers.append(convolution(width, 2 * width, 2 * ratio + 1, stride=ratio, causal=causal, norm=False, gain=KEPT))
        width *= 2
    # One group gives the means and one the scales.
    outputs = 2 * config.latent_dim
    layers += [activation(), convolution(width, outputs, 5, groups=2, causal=causal, norm=False, gain=KEPT)]
    return Chain(*layers)


def _second(config: RaveConfig, norm: bool) -> Chain:
    width, causal = config.capacity, config.causal
    layers: list[Streaming | nn.Module] = [_entry(config, norm)]
    for ratio, dilations in zip(config.ratios, config.dilations, strict=True):
        layers += [unit(width, dilation, 1, causal, norm) for dilation in dilations]
        strided = convolution(width, 2 * width, 2 * ratio, stride=ratio, causal=causal, norm=norm, gain=KEPT)
        layers += [activation(), strided]
        width *= 2
    gain = KEPT * torch.tensor([OF_MEANS, 1.0]).repeat_interleave(config.latent_dim)[:, None, None]
    layers += [activation(), convolution(width, len(gain), 3, causal=causal, norm=norm, gain=gain)]
    return Chain(*layers)


def _entry(config: RaveConfig, norm: bool) -> Conv:
    bands = (config.channels or 1) * config.bands
    return convolution(bands, config.capacity, 7, causal=config.causal, norm=norm, gain=1.0)


@torch.no_grad()
def _amplify(weight: Tensor, gain: float | Tensor) -> None:
    weight.mul_(gain)
