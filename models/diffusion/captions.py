"""An encoder of captions that learns along with the U-Net: bytes to tokens, so there is no vocabulary to download."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.attention import Attention, Tokens, affine, normalized

BYTE_VALUES: Final = 256
HEADS: Final = 4
WIDENING: Final = 4
"""Channels within a feed-forward block over those around it, as in Vaswani et al., 2017, table 1."""


def caption_bytes(text: str | None, length: int) -> Int[np.ndarray, "length"]:
    """The first bytes of a caption in UTF-8, each plus 1, and 0 after its end; of None all are 0."""
    values = np.zeros(length, np.int64)
    encoded = (text or "").encode()[:length]
    values[: len(encoded)] = np.frombuffer(encoded, np.uint8).astype(np.int64) + 1
    return values


class CaptionEncoder(nn.Module):
    """A transformer over the bytes of captions (https://arxiv.org/abs/1706.03762), with norms before each part.

    A token at the start is always there; of an empty caption it is the only one that can be found.

    Args:
        length: bytes of a caption.
        dim: channels of a token.
        blocks: of self-attention and a feed-forward block.
    """

    def __init__(self, length: int, dim: int, blocks: int) -> None:
        super().__init__()
        self.values = nn.Embedding(BYTE_VALUES + 1, dim)
        self.places = nn.Parameter(0.02 * torch.randn(dim, length + 1))
        self.start = nn.Parameter(0.02 * torch.randn(dim))
        # Rotary positions turn pairs of channels.
        head_dim = 2 * max(1, dim // (2 * HEADS))
        self.attentions = nn.ModuleList(Attention(dim, HEADS, head_dim, "rotary") for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(blocks + 1))
        self.widening = nn.ModuleList(nn.Conv1d(dim, WIDENING * dim, 1) for _ in range(blocks))
        self.narrowing = nn.ModuleList(nn.Conv1d(WIDENING * dim, dim, 1) for _ in range(blocks))

    def forward(self, rows: Int[Tensor, "batch length"]) -> tuple[Tokens, Bool[Tensor, "batch tokens"]]:
        """Tokens of captions and which of them are there.

        Args:
            rows: of `caption_bytes`.
        """
        start = self.start[:, None].expand(len(rows), -1, 1)
        x = torch.cat([start, self.values(rows).transpose(1, 2)], dim=2) + self.places
        visible = F.pad(rows > 0, (1, 0), value=True)
        for number, attention in enumerate(self.attentions):
            x = attention(x, visible=visible)
            inner = self.widening[number](self._normed(x, number))
            x = x + self.narrowing[number](F.gelu(inner))
        return self._normed(x, len(self.attentions)), visible

    def _normed(self, x: Float[Tensor, "batch dim tokens"], number: int) -> Float[Tensor, "batch dim tokens"]:
        norm = self.norms[number]
        assert isinstance(norm, nn.LayerNorm)
        return affine(normalized(x, norm.eps), norm)
