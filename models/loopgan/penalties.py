"""Penalties on gradients that steady the training: of the discriminator at real loops, and of path lengths."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "batch _ _ _"]


def gradient_square(discriminator: Callable[[Tensor], Tensor], real: Maps) -> Float[Tensor, ""]:
    """The mean squared norm of the discriminator's gradient at real examples (Mescheder et al., 2018, R1)."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(mel: Maps, styles: Float[Tensor, "batch layers style"], noise: Maps) -> Float[Tensor, "batch"]:
    """How far a small change of a style moves the output, in a random direction (StyleGAN2, section 3.2).

    Args:
        mel: generated from the styles, with gradients.
        styles: of each layer.
        noise: from N(0, 1), of the shape of the output: the direction.
    """
    scale = 1 / math.sqrt(mel.shape[2] * mel.shape[3])
    (gradient,) = torch.autograd.grad((mel * noise * scale).sum(), styles, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
