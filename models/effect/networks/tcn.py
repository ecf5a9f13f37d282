"""Dilated convolutions with FiLM, whose dilation grows fast: for compressors (micro-TCN, Steinmetz and Reiss, 2021).

A block: convolution without bias, batch normalisation without its own gain, gain and bias by the knobs (FiLM; learned
constants where there are no knobs), PReLU for each channel, and the block's input added with a gain for each channel.
https://github.com/csteinmetz1/micro-tcn; but here the newest sample is not dropped, so that nothing is a sample late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.effect.feed_forward import FeedForward, WithPast, past_of
from tonemill.models.effect.film import EMBEDDED, FiLM, knob_embedding
from tonemill.models.effect.network import Knobs, NetworkPlayer, Shorter, Signals, as_array
from tonemill.models.parts.settings import require_least


@dataclass(frozen=True)
class TCNConfig:
    blocks: Annotated[int, "Of a convolution each."] = 4
    growth: Annotated[int, "Factor of the dilation from block to block."] = 10
    kernel_size: Annotated[int, "Taps of each convolution; 4 blocks of growth 10 and 13 taps cover 13333 samples."] = 13
    tcn_channels: Annotated[int, "Of each block."] = 32
    norm: Annotated[
        Literal["batch", "none"], "Normalisation before the FiLM; with none the convolution has a bias."
    ] = "batch"

    def __post_init__(self) -> None:
        require_least(self, blocks=1, growth=1, kernel_size=2, tcn_channels=1)


class Block(nn.Module):
    def __init__(self, inputs: int, config: TCNConfig, dilation: int, embedded: int) -> None:
        super().__init__()
        channels = config.tcn_channels
        normed = config.norm == "batch"
        self.conv: Any = nn.Conv1d(inputs, channels, config.kernel_size, dilation=dilation, bias=not normed)
        self.norm: Any = nn.BatchNorm1d(channels, affine=False) if normed else None
        self.film = FiLM(embedded, channels)
        self.act = nn.PReLU(channels)
        self.res = nn.Conv1d(inputs, channels, 1, groups=inputs, bias=False)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        gain, bias = self.film(embedding)
        y = self.act(y * gain[:, :, None] + bias[:, :, None])
        return y + self.res(x[..., -y.shape[-1] :])

    def folded(self, embedding: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of one convolution equal to convolution, normalisation and FiLM in eval mode."""
        gain, bias = (part[0] for part in self.film(embedding))
        if self.norm is None:
            return as_array(self.conv.weight * gain[:, None, None]), as_array(self.conv.bias * gain + bias)
        scale = gain / (self.norm.running_var + self.norm.eps).sqrt()
        return as_array(self.conv.weight * scale[:, None, None]), as_array(bias - self.norm.running_mean * scale)


class TCN(FeedForward):
    Config: ClassVar[type] = TCNConfig
    learning_rate = 1e-3
    at_once = True

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.embed = knob_embedding(knobs)
        embedded = EMBEDDED if knobs else 0
        widths = [1] + [config.tcn_channels] * config.blocks
        self.blocks: Any = nn.ModuleList(
            Block(widths[n], config, config.growth**n, embedded) for n in range(config.blocks)
        )
        self.output: Any = nn.Conv1d(config.tcn_channels, 1, 1)

    @property
    def warm_up(self) -> int:
        return sum(past_of(block.conv) for block in self.blocks)

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        embedding = None if self.embed is None else self.embed(knobs)
        x = dry[:, None]
        for block in self.blocks:
            x = block(with_past(x, past_of(block.conv)), embedding)
        return torch.tanh(self.output(x))[:, 0]

    @torch.no_grad()
    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.program import Program

        embedding = None if self.embed is None else self.embed(self.row(knobs))
        program, x = Program(), 0
        for block in self.blocks:
            y = program.buffer(self.config.tcn_channels)
            weight, bias = block.folded(embedding)
            program.convolve(x, y, weight, bias, block.conv.dilation[0])
            program.leak(y, as_array(block.act.weight))
            gains = as_array(block.res.weight[:, 0, 0])
            if x == 0:
                program.convolve(x, y, gains[:, None, None], None, base=y)
            else:
                program.add(x, y, gains)
            x = y
        out = program.buffer(1)
        program.convolve(x, out, as_array(self.output.weight), as_array(self.output.bias))
        program.tanh(out)
        return program.start(self.warm_up)


NETWORK = TCN
