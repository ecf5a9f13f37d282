"""The one-dimensional U-Net of audio-diffusion-pytorch (Schneider et al., 2023, https://arxiv.org/abs/2301.11757).

A level goes down by a strided convolution, through items, into the next level, through items again, and up by repeated
samples and a convolution; its input is added to that. Features of the noise level, and of a class, scale and shift the
channels of each item, and weigh what comes from below. Parameter counts are those of the reference, to the unit.

Beside the reference: any length, by silence at the end; one product of the features for each level; first weights
with which the outermost level gives zeros; rotary positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.diffusion.attention import Attention, Positions, Tokens, normalized

Signal = Float[Tensor, "batch _ _"]
Vectors = Float[Tensor, "batch modulation_dim"]

FREQUENCIES: Final = 128
GROUPS: Final = 8
ROW_BLOCK: Final = 16
"""The last bits of a matrix product depend on a row's place in a batch that is not whole blocks of rows."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a U-Net; lists have an entry for each level, outermost first.

    Args:
        in_channels: of the noisy clip and what is appended to it.
        out_channels: of what is predicted.
        channels: of each level.
        factors: by which each lowers the rate.
        items: pairs of residual block and modulation, on the way down and again on the way up.
        attentions: in each item.
        heads: of an attention.
        head_dim: channels of a head.
        modulation_dim: size of the features of the noise level.
        positions: in attention.
        injected: channels of a context that each item of a level reads, by level.
        cross_attentions: in each item, to tokens; empty where there are none.
        token_dim: channels of a token.
        zero_init: the outermost level gives zeros at first, and not its input.
    """

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    factors: tuple[int, ...]
    items: tuple[int, ...]
    attentions: tuple[int, ...]
    heads: int = 4
    head_dim: int = 32
    modulation_dim: int = 256
    positions: Positions = "none"
    injected: tuple[int, ...] = ()
    cross_attentions: tuple[int, ...] = ()
    token_dim: int = 0
    zero_init: bool = False

    @property
    def ratio(self) -> int:
        """Samples for one instant of the deepest level."""
        return math.prod(self.factors)

    def missing(self, time: int) -> int:
        """Samples after so many, so that the deepest level has whole instants, and two: norms need more than one."""
        return max(2 * self.ratio - time, -time % self.ratio)

    def nearest(self, time: int) -> int:
        """The nearest number of samples of which nothing is missing, as loops must have it."""
        return self.ratio * max(2, round(time / self.ratio))


@dataclass(frozen=True)
class Context:
    """What a U-Net reads beside a noisy clip, the same at each noise level.

    Args:
        features: added to those of the noise level.
        tokens: that cross-attention searches.
        visible: which of them may be found, at least one of each item.
        injected: a signal at the rate of the levels that read one; what is missing at its end is silence.
        circular: the end of a clip is followed by its start, as in a loop, and not by silence.
    """

    features: Vectors | None = None
    tokens: Tokens | None = None
    visible: Bool[Tensor, "batch tokens"] | None = None
    injected: Signal | None = None
    circular: bool = False


NOTHING: Final = Context()


class NoiseLevel(nn.Module):
    """Features of a level: Fourier features with learned frequencies, and three layers of which two share weights."""

    def __init__(self, modulation_dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(FREQUENCIES))
        self.first = nn.Linear(2 * FREQUENCIES + 1, modulation_dim)
        self.twice = nn.Linear(modulation_dim, modulation_dim)

    def forward(self, level: Float[Tensor, "batch"]) -> Vectors:
        turns = 2 * math.pi * level[:, None] * self.frequencies
        features = F.gelu(self.first(torch.cat([level[:, None], turns.sin(), turns.cos()], dim=1)))
        return F.gelu(self.twice(F.gelu(self.twice(features))))


class Residual(nn.Module):
    """x + convolutions of x, each after a group norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = math.gcd(GROUPS, channels)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Signal, circular: bool = False) -> Signal:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            assert isinstance(conv, nn.Conv1d)
            y = convolved(conv, F.silu(norm(y)), circular)
        return x + y


def convolved(conv: nn.Conv1d, x: Signal, circular: bool) -> Signal:
    """A convolution of three taps with what follows each end: silence, or the other end."""
    return F.conv1d(F.pad(x, (1, 1), "circular"), conv.weight, conv.bias) if circular else conv(x)


class Item(nn.Module):
    """A residual block, scale and shift by the features, a signal where there is one, and attention."""

    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        channels, heads = shape.channels[level], (shape.heads, shape.head_dim)
        injected = shape.injected[level] if shape.injected else 0
        crossing = shape.cross_attentions[level] if shape.cross_attentions else 0
        self.residual = Residual(channels)
        self.inject = nn.Conv1d(channels + injected, channels, 1) if injected else None
        self.attentions = nn.ModuleList(
            Attention(channels, *heads, shape.positions) for _ in range(shape.attentions[level])
        )
        self.cross_attentions = nn.ModuleList(
            Attention(channels, *heads, shape.positions, shape.token_dim) for _ in range(crossing)
        )

    def forward(self, x: Signal, scale: Signal, shift: Signal, context: Context) -> Signal:
        x = torch.addcmul(shift, normalized(self.residual(x, context.circular), 1e-6), 1 + scale)
        if self.inject is not None:
            assert context.injected is not None
            injected = F.pad(context.injected, (0, x.shape[-1] - context.injected.shape[-1]))
            x = x + self.inject(torch.cat([x, injected], dim=1))
        for attention in self.attentions:
            x = attention(x, circular=context.circular)
        for attention in self.cross_attentions:
            x = attention(x, context.tokens, context.visible)
        return x


class Level(nn.Module):
    """One level, without those below it."""

    def __init__(self, shape: Shape, number: int) -> None:
        super().__init__()
        outermost = number == 0
        before = shape.in_channels if outermost else shape.channels[number - 1]
        after = shape.out_channels if outermost else before
        channels, items = shape.channels[number], shape.items[number]
        self.factor, self.adds_input = shape.factors[number], not (outermost and shape.zero_init)
        self.adapter = nn.Conv1d(before, after, 1) if before != after else nn.Identity()
        self.down = nn.Conv1d(before, channels, self.factor, self.factor)
        self.before = nn.ModuleList(Item(shape, number) for _ in range(items))
        self.after = nn.ModuleList(Item(shape, number) for _ in range(items))
        self.up = nn.Conv1d(channels, after, 3, padding=1)
        # One product gives scale and shift of each item, and the weights of what comes from below.
        self.sizes = [channels] * (4 * items) + [after]
        self.features = nn.Linear(shape.modulation_dim, sum(self.sizes))
        if outermost and shape.zero_init:
            for layer in (self.up, self.adapter):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
            self.adds_input = before != after

    def modulation(self, activated: Vectors) -> list[Signal]:
        """Scales, shifts and weights of the level for features after their SiLU."""
        return list(self.features(activated)[..., None].split(self.sizes, dim=1))

    def lowered(self, x: Signal, modulation: Sequence[Signal], context: Context) -> Signal:
        """Down, and through the first items."""
        x = self.down(x)
        for number, item in enumerate(self.before):
            x = item(x, modulation[2 * number], modulation[2 * number + 1], context)
        return x

    def raised(self, x: Signal, skipped: Signal, modulation: Sequence[Signal], context: Context) -> Signal:
        """Through the second items, up, and added to what came in."""
        for number, item in enumerate(self.after, len(self.before)):
            x = item(x, modulation[2 * number], modulation[2 * number + 1], context)
        x = convolved(self.up, x.repeat_interleave(self.factor, dim=-1) if self.factor > 1 else x, context.circular)
        return torch.addcmul(self.adapter(skipped), modulation[-1], x) if self.adds_input else modulation[-1] * x


class UNet(nn.Module):
    """Predicts something of a noisy signal, for its noise level.

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.noise_level = NoiseLevel(shape.modulation_dim)
        self.levels = nn.ModuleList(Level(shape, number) for number in range(len(shape.channels)))

    def forward(
        self,
        x: Signal,
        level: Float[Tensor, "batch"],
        context: Context = NOTHING,
    ) -> Signal:
        """What is predicted, as long as the input.

        Args:
            x: noisy clips, and what is appended to them.
            level: of each item, from 0 to 1.
            context: what else it reads. A circular clip is whole instants of the deepest level, at least two.
        """
        time = x.shape[-1]
        x = F.pad(x, (0, self.shape.missing(time)))
        rows = F.pad(level, (0, -len(level) % ROW_BLOCK))
        vectors = self.noise_level(rows)
        if context.features is not None:
            vectors = vectors + F.pad(context.features, (0, 0, 0, len(rows) - len(level)))
        activated = F.silu(vectors)
        skipped, modulations = [], []
        for part in self.levels:
            assert isinstance(part, Level)
            modulations.append([one[: len(level)] for one in part.modulation(activated)])
            skipped.append(x)
            x = part.lowered(x, modulations[-1], context)
        for part in reversed(self.levels):
            assert isinstance(part, Level)
            x = part.raised(x, skipped.pop(), modulations.pop(), context)
        return x[..., :time]
