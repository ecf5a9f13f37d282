"""Networks of convolutions: layers described once, for clips, whole files and streams.

A convolution reads its input and the samples before it. Where these come from is all that differs: in a clip for
training they are its beginning, so that the output is shorter; in a stream they are the state that the block before
left.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tonemill.models.effect.network import Knobs, Network, Shorter, Signals
from tonemill.models.parts.streaming import appended


class Clip:
    """What layers read of clips: their input as it is, whose first `past` samples are the past."""

    shortens = True

    def __call__(self, x: Tensor, past: int) -> Tensor:
        return x


class Silence(Clip):
    """The same, which keeps the state of a stream that goes on from the end of the clip."""

    def __init__(self) -> None:
        self.state: list[Tensor] = []

    def __call__(self, x: Tensor, past: int) -> Tensor:
        self.state.append(x[..., x.shape[-1] - past :].clone())
        return x


class Block:
    """What layers read of a stream's block: `past` samples before it too, from the state; `state` is the next one."""

    shortens = False

    def __init__(self, before: Iterable[Tensor]) -> None:
        self._before = iter(before)
        self.state: list[Tensor] = []

    def __call__(self, x: Tensor, past: int) -> Tensor:
        both, kept = appended(next(self._before), x)
        self.state.append(kept)
        return both


WithPast = Clip | Block


class FeedForward(Network):
    """A network whose layers read the past of their inputs, and nothing else that was before."""

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        """The output; each layer that reads samples before its input takes that as `with_past(input, samples)`."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> int:
        return self.warm_up + 1

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        return self.after_warm_up(nn.functional.pad(dry, (self.warm_up, 0)), knobs)

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        return self.run(dry, knobs, Clip())

    def step(self, dry: Signals, knobs: Knobs, state: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        block = Block(state)
        return self.run(dry, knobs, block), block.state

    @torch.no_grad()
    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        silence = Silence()
        self.run(knobs.new_zeros(len(knobs), self.receptive_field), knobs, silence)
        return silence.state


def past_of(layer: nn.Conv1d) -> int:
    """Samples before the current one that a convolution reads."""
    return (layer.kernel_size[0] - 1) * layer.dilation[0]
