"""FiLM: knobs set a gain and a bias of each channel of a layer (Perez et al., 2018, https://arxiv.org/abs/1709.07871)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

EMBEDDED = 32
"""Numbers that knobs are embedded into."""


class FiLM(nn.Module):
    """Gain and bias of each channel, from the embedded knobs, or learned constants without knobs.

    Args:
        embedded: numbers of the embedding; 0 without knobs.
        channels: of the layer.
    """

    def __init__(self, embedded: int, channels: int) -> None:
        super().__init__()
        self.adaptor = nn.Linear(embedded, 2 * channels) if embedded else None
        if self.adaptor is None:
            self.steady = nn.Parameter(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(
        self, embedding: Float[Tensor, "batch embedded"] | None
    ) -> tuple[Float[Tensor, "_ channels"], Float[Tensor, "_ channels"]]:
        both = self.steady[None] if self.adaptor is None else self.adaptor(embedding)
        gain, bias = both.chunk(2, dim=1)
        return gain, bias


def knob_embedding(knobs: int, smooth: bool = False) -> nn.Sequential | None:
    """A perceptron from knobs (batch, knobs) to their embedding (batch, 32); None without knobs.

    What a smooth one learns from few settings bends gently between them, where ReLUs have corners at places of their
    own.
    """
    if not knobs:
        return None
    bend = nn.SiLU if smooth else nn.ReLU
    layers = [nn.Linear(knobs, 16), bend(), nn.Linear(16, EMBEDDED), bend(), nn.Linear(EMBEDDED, EMBEDDED)]
    return nn.Sequential(*layers) if smooth else nn.Sequential(*layers, bend())
