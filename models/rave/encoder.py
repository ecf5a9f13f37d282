"""Encoders of the two versions: sub-bands to mean and scale of every latent, and the layers that both sides share.

With C0 = capacity and L latents, per channel of audio M bands, without the gains of weight norms (counts are those of
RAVE's published code):

    first    7 M C0 + sum over stages i of [2 C + 2 C^2 (2 r + 1)] + 5 L 16 C0          C = 2^i C0
    second   7 M C0 + sum over stages of 4 C^2 (n + r) + 6 L 16 C0                      n residual units
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tonemill.models.parts.streaming import Chain, Conv, ConvTranspose, Residual, Streaming
from tonemill.models.rave.settings import RaveConfig


def activation() -> nn.Module:
    return nn.LeakyReLU(0.2)


def convolution(*shape: int, causal: bool, norm: bool, **about: Any) -> Conv:
    """Without bias, and with a weight norm unless it is not wanted."""
    layer = Conv(*shape, bias=False, causal=causal, **about)
    if norm:
        layer.conv = weight_norm(layer.conv)
    return layer


def raised(channels: int, ratio: int, causal: bool, norm: bool) -> ConvTranspose:
    """Half the channels at `ratio` times the rate."""
    layer = ConvTranspose(channels, channels // 2, 2 * ratio, stride=ratio, bias=False, causal=causal)
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
        layers.append(convolution(width, 2 * width, 2 * ratio + 1, stride=ratio, causal=causal, norm=False))
        width *= 2
    # One group gives the means and one the scales.
    layers += [activation(), convolution(width, 2 * config.latent_dim, 5, groups=2, causal=causal, norm=False)]
    return Chain(*layers)


def _second(config: RaveConfig, norm: bool) -> Chain:
    width, causal = config.capacity, config.causal
    layers: list[Streaming | nn.Module] = [_entry(config, norm)]
    for ratio, dilations in zip(config.ratios, config.dilations, strict=True):
        layers += [unit(width, dilation, 1, causal, norm) for dilation in dilations]
        layers += [activation(), convolution(width, 2 * width, 2 * ratio, stride=ratio, causal=causal, norm=norm)]
        width *= 2
    layers += [activation(), convolution(width, 2 * config.latent_dim, 3, causal=causal, norm=norm)]
    return Chain(*layers)


def _entry(config: RaveConfig, norm: bool) -> Conv:
    bands = (config.channels or 1) * config.bands
    return convolution(bands, config.capacity, 7, causal=config.causal, norm=norm)
