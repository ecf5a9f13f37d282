"""The network of the prior: the context of a frame from those before it, and the density of a frame in its context.

Of a frame's coordinates e_1 ... e_n the d-th has a mixture of K normal distributions, whose weights, means and
deviations are affine functions of hidden units (RNADE; Uria et al., 2013, equations 5 to 9)

    h_d = silu(W c + sum over j < d of u_j e_j)

with the context c in place of their constant.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.streaming import Chain, Conv, Residual, Signal
from tonemill.models.prior.settings import KERNEL, PriorConfig

LEAST_DEVIATION: Final = 0.01
"""Of a component, in deviations of the linear model: frames that recur exactly would have an infinite density."""

Known = Float[Tensor, "*batch rows"]


class Gate(nn.Module):
    """tanh of one half of the channels times the sigmoid of the other (van den Oord et al., 2016, equation 2)."""

    def forward(self, x: Signal) -> Signal:
        signal, gate = x.chunk(2, dim=1)
        return torch.tanh(signal) * torch.sigmoid(gate)


def context_network(config: PriorConfig) -> Chain:
    """(batch, rows + 1, frames) to (batch, width, frames), each frame of those up to it.

    The last row is 1 where there is a frame, and 0 before the first.
    """
    width = config.width
    layers: list[nn.Module] = [Conv((config.rows or 1) + 1, width, 1, causal=True)]
    for dilation in config.dilations:
        layers.append(
            Residual(
                width,
                Chain(Conv(width, 2 * width, KERNEL, dilation=dilation, causal=True), Gate(), Conv(width, width, 1)),
            )
        )
    return Chain(*layers, nn.SiLU(), nn.Dropout(config.dropout))


class FrameDensity(nn.Module):
    """The density of a frame in its context.

    Args:
        context: channels of the context.
        rows: coordinates of a frame.
        width: hidden units.
        mixture: components of each coordinate.
    """

    def __init__(self, context: int, rows: int, width: int, mixture: int) -> None:
        super().__init__()
        self.rows, self.mixture = rows, mixture
        self.first = nn.Linear(context, width)
        self.passed = nn.Parameter(torch.randn(rows, width) / math.sqrt(rows * width))
        self.heads = nn.Parameter(0.1 * torch.randn(rows, width, 3 * mixture) / math.sqrt(width))
        # Near a standard normal distribution, which makes the linear model.
        start = torch.zeros(3, mixture)
        start[1] = torch.linspace(-0.5, 0.5, mixture) if mixture > 1 else 0.0
        start[2] = math.log(math.expm1(0.95))
        self.offsets = nn.Parameter(start.flatten().expand(rows, -1).clone())

    def log_likelihood(
        self, context: Float[Tensor, "batch time channels"], frames: Float[Tensor, "batch time rows"]
    ) -> Float[Tensor, "batch time rows"]:
        """Of each coordinate given the context and the coordinates before it, in nats."""
        adds = frames[..., None] * self.passed
        hidden = F.silu(self.first(context)[:, :, None] + adds.cumsum(dim=2) - adds)
        weights, means, deviations = self._components(torch.einsum("btrh,rhk->btrk", hidden, self.heads) + self.offsets)
        distance = (frames[..., None] - means) / deviations
        logs = weights - deviations.log() - 0.5 * distance.square() - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(logs, dim=-1)

    def drawn(
        self,
        context: Float[Tensor, "batch channels"],
        temperature: float,
        choices: Float[Tensor, "batch rows"],
        noise: Float[Tensor, "batch rows"],
    ) -> Float[Tensor, "batch rows"]:
        """A frame, one coordinate after another.

        Args:
            context: of the frame.
            temperature: deviations are multiplied by it, and log weights divided; 0 takes the likeliest component's
                mean.
            choices: uniform in [0, 1): which component.
            noise: standard normal: where in it.
        """
        given = self.first(context)
        found = []
        for row in range(self.rows):
            hidden = F.silu(given)
            weights, means, deviations = self._components(hidden @ self.heads[row] + self.offsets[row])
            if temperature:
                shares = torch.softmax(weights / temperature, dim=-1).cumsum(dim=-1)
                # The last share is 1 but for rounding.
                chosen = (shares[:, :-1] <= choices[:, row : row + 1]).sum(dim=-1, keepdim=True)
            else:
                chosen = (weights - deviations.log()).argmax(dim=-1, keepdim=True)
            value = means.gather(1, chosen)[:, 0] + temperature * deviations.gather(1, chosen)[:, 0] * noise[:, row]
            found.append(value)
            given = given + value[:, None] * self.passed[row]
        return torch.stack(found, dim=1)

    def _components(self, outputs: Float[Tensor, "*batch _"]) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and deviations, (..., mixture) each."""
        weights, means, scales = outputs.unflatten(-1, (3, self.mixture)).unbind(dim=-2)
        return torch.log_softmax(weights, dim=-1), means, LEAST_DEVIATION + F.softplus(scales)
