"""Adversarial losses, each with the optimizer it was published with, and the gradient penalty.

    loss      discriminator                        generator       optimizer
    wgan-gp   E[D(g)] - E[D(x)] + penalty          -E[D(g)]        Adam 1e-4, betas 0.5, 0.9
    wgan      E[D(g)] - E[D(x)], weights clipped   -E[D(g)]        RMSprop 5e-5
    dcgan     (BCE(D(g), 0) + BCE(D(x), 1)) / 2    BCE(D(g), 1)    Adam 2e-4, betas 0.5, 0.999
    lsgan     (E[(D(x)-1)^2] + E[D(g)^2]) / 2      E[(D(g)-1)^2]   RMSprop 1e-4

D gives logits; x is real and g generated. Settings as in https://github.com/chrisdonahue/wavegan. For discriminators of
several networks (discriminators.py), hinge losses and feature matching:

    discriminator   sum over networks of E[max(0, 1 - D(x))] + E[max(0, 1 + D(g))]
    generator       sum over networks of -E[D(g)]
    matching        mean over networks and layers of E|f(x) - f(g)|, relative to E|f(x)| where wanted
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.discriminators import Judgement
from tonemill.models.parts.optimizers import adam

Logits = Float[Tensor, "batch"]
Scalar = Float[Tensor, ""]


def wasserstein_discriminator_loss(real: Logits, generated: Logits) -> Scalar:
    return generated.mean() - real.mean()


def wasserstein_generator_loss(generated: Logits) -> Scalar:
    return -generated.mean()


def cross_entropy_discriminator_loss(real: Logits, generated: Logits) -> Scalar:
    # BCE of a logit against 1 is softplus(-logit), against 0 softplus(logit)
    return (F.softplus(generated).mean() + F.softplus(-real).mean()) / 2


def cross_entropy_generator_loss(generated: Logits) -> Scalar:
    return F.softplus(-generated).mean()


def least_squares_discriminator_loss(real: Logits, generated: Logits) -> Scalar:
    return ((real - 1).square().mean() + generated.square().mean()) / 2


def least_squares_generator_loss(generated: Logits) -> Scalar:
    return (generated - 1).square().mean()


def hinge_discriminator_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Scalar:
    losses = [
        F.relu(1 - x.scores.float()).mean() + F.relu(1 + g.scores.float()).mean()
        for x, g in zip(real, generated, strict=True)
    ]
    return torch.stack(losses).sum()


def hinge_generator_loss(generated: Sequence[Judgement]) -> Scalar:
    return torch.stack([-g.scores.float().mean() for g in generated]).sum()


def feature_matching_loss(real: Sequence[Judgement], generated: Sequence[Judgement], relative: bool = False) -> Scalar:
    """Mean distance of feature maps, over networks and their layers; no gradient reaches the maps of the real ones."""
    losses = []
    for x, g in zip(real, generated, strict=True):
        layers = []
        for true, found in zip(x.features, g.features, strict=True):
            target = true.detach().float()
            distance = (target - found.float()).abs().mean()
            layers.append(distance / target.abs().mean().clamp(min=1e-8) if relative else distance)
        losses.append(torch.stack(layers).mean())
    return torch.stack(losses).mean()


def gradient_penalty(
    layers: Sequence[Callable[[Tensor], Tensor]], points: Float[Tensor, "batch channels *shape"]
) -> Scalar:
    """Mean of (norm - 1)^2, where norm is that of the critic's gradient at each point, over all else.

    The norm is in float32 whatever the precision around it: a squared norm of 16384 small numbers is lost in half
    precision. The critic computes in bfloat16 where autocast does so, and in float32 otherwise: its gradients are too
    small for float16, whose losses are scaled only after this.

    Args:
        layers: the critic, one layer after the other. They are differentiated one by one, which is right where
            each is linear, or piecewise linear, in its input; a critic that is not (batch norm) goes in as one.
    """
    # WGAN-GP's cost is the gradient of this gradient. Autograd would send it through the forward pass as well,
    # where it is zero: the curvature of a piecewise linear critic. Cutting the pass between layers leaves that out
    # (a third of the penalty's time). Each cut must lie between a convolution and its activation, too.
    device = points.device.type
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.bfloat16
    with torch.autocast(device, torch.bfloat16, enabled=half):
        passes = []
        y = points.float()
        for layer in layers:
            x = y.detach().requires_grad_()
            y = layer(x)
            passes.append((x, y))
        gradient = torch.ones_like(y)
        for x, y in reversed(passes):
            (gradient,) = torch.autograd.grad(y, x, gradient, create_graph=True)
        # Without 1e-12 a gradient of 0 has none itself.
        norm = (gradient.float().flatten(1).square().sum(dim=1) + 1e-12).sqrt()
        return (norm - 1).square().mean()


class TensorFlowRMSprop(torch.optim.Optimizer):
    """RMSprop as in TensorFlow 1: eps inside the root, and the average of squared gradients starts at 1.

    PyTorch starts it at 0, which makes the first steps about three times the learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, decay: float = 0.9, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean_square"] = torch.ones_like(parameter)
                mean_square = state["mean_square"].lerp_(parameter.grad.square(), 1 - group["decay"])
                parameter.addcdiv_(parameter.grad, (mean_square + group["eps"]).sqrt(), value=-group["lr"])
        return loss


@dataclass(frozen=True)
class AdversarialLoss:
    """A row of the table above.

    Args:
        optimizer: makes one from parameters and `lr`.
        clip: every weight of the discriminator is kept within this of 0.
    """

    discriminator: Callable[[Logits, Logits], Scalar]
    generator: Callable[[Logits], Scalar]
    optimizer: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    penalized: bool = False
    clip: float | None = None


_WASSERSTEIN: Final = (wasserstein_discriminator_loss, wasserstein_generator_loss)
_CROSS_ENTROPY: Final = (cross_entropy_discriminator_loss, cross_entropy_generator_loss)
_LEAST_SQUARES: Final = (least_squares_discriminator_loss, least_squares_generator_loss)


def _adam(beta1: float, beta2: float) -> Callable[..., Any]:
    return partial(adam, betas=(beta1, beta2), eps=1e-8)


ADVERSARIAL_LOSSES: Final[dict[str, AdversarialLoss]] = {
    "wgan-gp": AdversarialLoss(*_WASSERSTEIN, _adam(0.5, 0.9), 1e-4, penalized=True),
    "wgan": AdversarialLoss(*_WASSERSTEIN, TensorFlowRMSprop, 5e-5, clip=0.01),
    "dcgan": AdversarialLoss(*_CROSS_ENTROPY, _adam(0.5, 0.999), 2e-4),
    "lsgan": AdversarialLoss(*_LEAST_SQUARES, TensorFlowRMSprop, 1e-4),
}
