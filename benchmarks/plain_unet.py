"""The U-Net of diffusion written with PyTorch's own layers and nothing else, to compare its speed with.

The same layers and parameters as `models.diffusion.unet` without positions; norms over channels by `nn.LayerNorm`, a
`nn.Linear` for the scale and shift of each item, attention by softmax, repeated samples by `nn.Upsample`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tonemill.models.diffusion.unet import FREQUENCIES, GROUPS, Shape


class PlainAttention(nn.Module):
    def __init__(self, channels: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.query = nn.Linear(channels, heads * head_dim, bias=False)
        self.key_value = nn.Linear(channels, 2 * heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2)
        query = self.query(self.norms[0](rows)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = (
            one.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for one in self.key_value(self.norms[1](rows)).chunk(2, dim=2)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(dim=3)
        return x + self.output((weights @ value).transpose(1, 2).flatten(2)).transpose(1, 2)


class PlainItem(nn.Module):
    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        channels = shape.channels[level]
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.modulation_dim, 2 * channels))
        self.attentions = nn.ModuleList(
            PlainAttention(channels, shape.heads, shape.head_dim) for _ in range(shape.attentions[level])
        )

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(nn.functional.silu(norm(y)))
        scale, shift = self.modulation(features)[..., None].chunk(2, dim=1)
        x = self.norm((x + y).transpose(1, 2)).transpose(1, 2) * (1 + scale) + shift
        for attention in self.attentions:
            x = attention(x)
        return x


class PlainLevel(nn.Module):
    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        before = shape.channels[level - 1] if level else shape.in_channels
        after, channels = (before if level else shape.out_channels), shape.channels[level]
        factor = shape.factors[level]
        self.adapter = nn.Conv1d(before, after, 1) if before != after else nn.Identity()
        self.down = nn.Conv1d(before, channels, factor, factor)
        self.before = nn.ModuleList(PlainItem(shape, level) for _ in range(shape.items[level]))
        self.below = PlainLevel(shape, level + 1) if level + 1 < len(shape.channels) else None
        self.after = nn.ModuleList(PlainItem(shape, level) for _ in range(shape.items[level]))
        self.up = nn.Sequential(nn.Upsample(scale_factor=factor), nn.Conv1d(channels, after, 3, padding=1))
        self.weight = nn.Sequential(nn.SiLU(), nn.Linear(shape.modulation_dim, after))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        y = self.down(x)
        for item in self.before:
            y = item(y, features)
        if self.below is not None:
            y = self.below(y, features)
        for item in self.after:
            y = item(y, features)
        return self.adapter(x) + self.weight(features)[..., None] * self.up(y)


class PlainUNet(nn.Module):
    """Takes lengths that its factors divide.

    Args:
        shape: its sizes, without positions, injected signals and tokens.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(FREQUENCIES))
        self.first = nn.Linear(2 * FREQUENCIES + 1, shape.modulation_dim)
        self.twice = nn.Linear(shape.modulation_dim, shape.modulation_dim)
        self.outermost = PlainLevel(shape, 0)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        turns = 2 * math.pi * level[:, None] * self.frequencies
        features = nn.functional.gelu(self.first(torch.cat([level[:, None], turns.sin(), turns.cos()], dim=1)))
        for _ in range(2):
            features = nn.functional.gelu(self.twice(features))
        found: Tensor = self.outermost(x, features)
        return found
