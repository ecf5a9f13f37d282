"""Codes of samples for the autoregressive network: the sample itself, companded, or one of 256 bins with a residual."""

from __future__ import annotations

from math import log
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

MU: Final = 255
BINS: Final = 256


def compress(x: Tensor) -> Tensor:
    """The mu-law of G.711 as a curve: sgn(x) ln(1 + mu |x|) / ln(1 + mu), with mu 255; beyond full scale it is cut."""
    x = x.clamp(-1, 1)
    return x.sign() * torch.log1p(MU * x.abs()) / log(1 + MU)


def expand(code: Tensor) -> Tensor:
    """The inverse of `compress`."""
    return code.sign() * torch.expm1(code.abs() * log(1 + MU)) / MU


class Linear:
    """Samples as they are; the loss is the mean squared error."""

    outputs = 1

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, code: Tensor) -> Tensor:
        return code

    def code(self, output: Tensor) -> Tensor:
        """The code (...) that is fed back, from the network's output (..., outputs)."""
        return output[..., 0]

    def loss(self, output: Tensor, code: Tensor) -> Tensor:
        """The loss of outputs (..., outputs) against the true codes (...)."""
        return (self.code(output) - code).square().mean()


class MuLaw(Linear):
    """Companded samples in and out; an error near silence weighs up to 65,000 times one at full scale, in power."""

    def encode(self, x: Tensor) -> Tensor:
        return compress(x)

    def decode(self, code: Tensor) -> Tensor:
        return expand(code.clamp(-1, 1))


class OneHot(MuLaw):
    """Companded samples in; out come a likelihood for each of 256 bins and a residual within each.

    Bin k is centred on k / 127.5 - 1. The residual of the true bin alone is learned, in units of the bins' distance;
    the code is the centre of the likeliest bin and its residual.
    """

    outputs = 2 * BINS

    def __init__(self, residual_weight: float = 1.0) -> None:
        self.residual_weight = residual_weight

    @staticmethod
    def bin(code: Tensor) -> Tensor:
        return ((code.clamp(-1, 1) + 1) * (BINS - 1) / 2).round().long()

    @staticmethod
    def centre(bin: Tensor) -> Tensor:
        return bin * (2 / (BINS - 1)) - 1.0

    def code(self, output: Tensor) -> Tensor:
        logits, residuals = output.split(BINS, dim=-1)
        bin = logits.argmax(dim=-1, keepdim=True)
        residual = residuals.gather(-1, bin).clamp(-0.5, 0.5)
        return (self.centre(bin) + residual * (2 / (BINS - 1)))[..., 0]

    def loss(self, output: Tensor, code: Tensor) -> Tensor:
        logits, residuals = output.split(BINS, dim=-1)
        bin = self.bin(code)
        entropy = functional.cross_entropy(logits.flatten(0, -2), bin.flatten())
        true = (code - self.centre(bin)) * (BINS - 1) / 2
        residual = residuals.gather(-1, bin[..., None])[..., 0]
        return entropy + self.residual_weight * (residual - true).square().mean()


REPRESENTATIONS: Final = {"linear": Linear, "mulaw": MuLaw, "onehot": OneHot}
