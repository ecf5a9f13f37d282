"""Attention over all instants of a level of a U-Net, or to the tokens of a condition; rotary positions or none."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

Positions = Literal["rotary", "none"]
SPAN: Final = 16.0
"""Places of a whole clip, and of all tokens: the fastest pairs tell parts of a sixteenth apart."""

Features = Float[Tensor, "batch channels time"]
Tokens = Float[Tensor, "batch token_dim tokens"]


def normalized(x: Features, eps: float) -> Features:
    """Mean 0 and variance 1 over the channels of each instant."""
    # Two means run along time; `torch.var_mean` goes from channel to channel and takes a third of a U-Net's time.
    centred = x - x.mean(dim=1, keepdim=True)
    return centred * (centred.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class Attention(nn.Module):
    """x + attention(x), with separate norms for what searches and what is searched: itself, or tokens.

    Products are convolutions of one tap: their rounding does not depend on an item's place in a batch.

    Args:
        channels: of the features.
        heads: how many.
        head_dim: channels of each.
        positions: `rotary` turns pairs of channels by angles that grow with time (Su et al., 2021,
            https://arxiv.org/abs/2104.09864, section 3.2), and where tokens are searched with the share of the clip
            and of the tokens that is over; with `none` only the convolutions around it see an order.
        token_dim: channels of tokens that are searched in place of the features; 0 where there are none.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, positions: Positions, token_dim: int = 0) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        searched = token_dim or channels
        self.query_norm, self.key_norm = nn.LayerNorm(channels), nn.LayerNorm(searched)
        self.query = nn.Conv1d(channels, heads * head_dim, 1, bias=False)
        self.key_value = nn.Conv1d(searched, 2 * heads * head_dim, 1, bias=False)
        self.output = nn.Conv1d(heads * head_dim, channels, 1, bias=False)

    def forward(
        self,
        x: Features,
        tokens: Tokens | None = None,
        visible: Bool[Tensor, "batch tokens"] | None = None,
        circular: bool = False,
    ) -> Features:
        """The features, and what they find.

        Args:
            x: features.
            tokens: that are searched, where it was made for them.
            visible: of what is searched that which may be found, at least one of each item; None for all.
            circular: time is a circle; then tokens have no places.
        """
        plain = normalized(x, self.query_norm.eps)
        searched = plain if tokens is None else normalized(tokens, self.key_norm.eps)
        query = self.query(affine(plain, self.query_norm))
        key, value = self.key_value(affine(searched, self.key_norm)).chunk(2, dim=1)
        query, key, value = (
            rearrange(one, "batch (heads dim) time -> batch heads time dim", heads=self.heads).contiguous()
            for one in (query, key, value)
        )
        if self.positions == "rotary" and tokens is None:
            query, key = rotated(query, circular), rotated(key, circular)
        elif self.positions == "rotary" and not circular:
            query, key = turned(query, _places(query, None)), turned(key, _places(key, visible))
        mask = None if visible is None else visible[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, mask)
        return x + self.output(rearrange(found, "batch heads time dim -> batch (heads dim) time"))


def rotated(x: Float[Tensor, "batch heads time dim"], circular: bool = False) -> Float[Tensor, "batch heads time dim"]:
    """Each pair of channels turned by time / 10000^(2 k / dim), for the k-th of dim / 2 pairs.

    On a circle each pair makes the nearest number of whole turns, so that positions depend on distance along it alone.
    """
    time, dim = x.shape[-2:]
    pace = _paces(dim, x.device)
    if circular:
        turn = 2 * math.pi / time
        pace = (pace / turn).round() * turn
    return _turned(x, torch.arange(time, device=x.device)[:, None] * pace)


def turned(
    x: Float[Tensor, "batch heads time dim"], places: Float[Tensor, "_ time"]
) -> Float[Tensor, "batch heads time dim"]:
    """Pairs of channels turned by the place of each instant, a number of any size."""
    return _turned(x, (places[..., None] * _paces(x.shape[-1], x.device))[:, None])


def _places(
    x: Float[Tensor, "batch heads time dim"], visible: Bool[Tensor, "batch time"] | None
) -> Float[Tensor, "_ time"]:
    """From 0 to `SPAN` over what is there."""
    time = x.shape[-2]
    there = torch.tensor([time], device=x.device) if visible is None else visible.sum(dim=1)
    return (torch.arange(time, device=x.device) + 0.5) * (SPAN / there[:, None])


def _paces(dim: int, device: torch.device) -> Float[Tensor, "pairs"]:
    return 10000.0 ** -(torch.arange(dim // 2, device=device) / (dim // 2))


def _turned(
    x: Float[Tensor, "batch heads time dim"], angle: Float[Tensor, "*_ time pairs"]
) -> Float[Tensor, "batch heads time dim"]:
    first, second = x.chunk(2, dim=-1)
    sine, cosine = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def affine(x: Features, norm: nn.LayerNorm) -> Features:
    """The scales and shifts of a norm, of features that have mean 0 and variance 1 already."""
    return x * norm.weight[:, None] + norm.bias[:, None]
