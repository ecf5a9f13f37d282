"""Dilated convolutions in stacks, fed by the dry signal at every layer, as in Neural Amp Modeler; the default.

A layer on h (channels, time) with the dry signal c: a = act(conv(h) + mix(c)); the next layer's h is h + one(a), and a
is added to the head's input. The convolutions are not padded: the input before the start of a file is silence.
https://github.com/sdatkin/neural-amp-modeler
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tonemill.models.effect.feed_forward import FeedForward, WithPast, past_of
from tonemill.models.effect.film import EMBEDDED, FiLM, knob_embedding
from tonemill.models.effect.network import Knobs, NetworkPlayer, Shorter, Signals, as_array


class StackShape(NamedTuple):
    """One stack of layers.

    Args:
        channels: of every layer.
        head: channels that its head gives.
        kernels: taps of each layer.
        dilations: samples between taps, of each layer.
        head_kernel: taps of its head.
        head_bias: whether its head has one.
        slope: of a leaky ReLU below 0; None is tanh.
    """

    channels: int
    head: int
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    head_kernel: int = 1
    head_bias: bool = False
    slope: float | None = None


class Shape(NamedTuple):
    """All stacks, and the factor of the last head's output."""

    stacks: tuple[StackShape, ...]
    head_scale: float


def _two(channels: int, half: int, first: tuple[int, ...], second: tuple[int, ...]) -> Shape:
    return Shape(
        (
            StackShape(channels, half, (3,) * len(first), first),
            StackShape(half, 1, (3,) * len(second), second, head_bias=True),
        ),
        0.02,
    )


def one_stack(channels: int) -> Shape:
    """The shape of the second architecture (A2), with a number of channels."""
    run = (1, 3, 7, 17, 41, 101, 239)
    dilations = (*run, *run, 1, 13, *run)
    kernels = (6,) * 14 + (15, 15) + (6,) * 7
    return Shape((StackShape(channels, 1, kernels, dilations, 16, True, 0.01),), 0.01)


_DOUBLING: Final = tuple(2**n for n in range(10))
_SMALL: Final = _DOUBLING[:7], (*_DOUBLING[7:], *_DOUBLING)
PRESETS: Final[dict[str, Shape]] = {
    "standard": _two(16, 8, _DOUBLING, _DOUBLING),
    "lite": _two(12, 6, *_SMALL),
    "feather": _two(8, 4, *_SMALL),
    "nano": _two(4, 2, *_SMALL),
    "a2-full": one_stack(8),
    "a2-lite": one_stack(3),
}


FEW_CLIPS: Final = {"batch_size": 4}
"""More steps of fewer clips come nearer in the same minutes: ESR .0024 with 4, .0067 with 8, .020 with 16 (docs)."""


@dataclass(frozen=True)
class WaveNetConfig:
    usual_in_minutes: ClassVar = FEW_CLIPS

    preset: Annotated[
        Literal["standard", "lite", "feather", "nano", "a2-full", "a2-lite"],
        "Size: 13801, 6553, 3025, 841, 12145 or 1870 parameters; the two a2 are the newer layout.",
    ] = "standard"
    film: Annotated[
        bool | None, "Knobs set gain and bias of each layer's channels, else they are inputs of it; default: they do."
    ] = None
    film_gain: Annotated[
        Literal["exponential", "linear"] | None,
        "Gains in decibels follow smoothly from the knobs, or gains by pieces of straight lines; default: exponential.",
    ] = None


SHORTEST: Final = 64
"""Samples of a clip that the compiled loops go through at once."""


class Layer(nn.Module):
    def __init__(
        self, shape: StackShape, kernel: int, dilation: int, condition: int, embedded: int, exponential: bool
    ) -> None:
        super().__init__()
        channels = shape.channels
        self.conv = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.mix = nn.Conv1d(condition, channels, 1, bias=False)
        self.one = nn.Conv1d(channels, channels, 1)
        self.film = FiLM(embedded, channels) if embedded else None
        self.exponential = exponential
        self.slope = shape.slope

    def forward(
        self, h: Tensor, condition: Tensor, embedding: Tensor | None, read: int | None
    ) -> tuple[Tensor, Tensor]:
        """The next layer's h, and the last `read` samples of a, for the head; None: of a stream, all of them."""
        if read is not None and self._compiles(h):
            from tonemill.models.effect.compiled_layer import CompiledLayer

            weights = self.folded(condition[:, 1:, 0], embedding)
            one = self.one.weight[:, :, 0], self.one.bias
            after, a, _ = CompiledLayer.apply(
                h, condition[:, 0], *weights, *one, self.conv.dilation[0], read, self.slope
            )
            return after, a
        z = self.conv(h)
        z = z + self.mix(condition[..., -z.shape[-1] :])
        if self.film is not None:
            gain, bias = self.film(embedding)
            z = self._scale(gain)[:, :, None] * z + bias[:, :, None]
        a = torch.tanh(z) if self.slope is None else functional.leaky_relu(z, self.slope)
        return h[..., -a.shape[-1] :] + self.one(a), a if read is None else a[..., -read:]

    def folded(
        self, knobs: Tensor, embedding: Tensor | None
    ) -> tuple[Float[Tensor, "batch out in taps"], Float[Tensor, "batch out"], Float[Tensor, "batch out"]]:
        """Weight and bias of the convolution and weight of the dry signal, for each clip, whose knobs stand still.

        Args:
            knobs: (batch, those that are inputs).
            embedding: of the knobs, with FiLM.
        """
        weight, mix, bias = self.conv.weight, self.mix.weight[:, :, 0], self.conv.bias
        assert bias is not None
        each, dry = bias + knobs @ mix[:, 1:].T, mix[:, 0].expand(len(knobs), -1)
        if self.film is None:
            return weight.expand(len(knobs), -1, -1, -1), each, dry
        gain, shift = self.film(embedding)
        scale = self._scale(gain)
        return scale[:, :, None, None] * weight, scale * each + shift, scale * dry

    def _compiles(self, h: Tensor) -> bool:
        """Whether this is a training that compiled loops compute: on a CPU and in single precision."""
        return (
            torch.is_grad_enabled()
            and (h.device.type, h.dtype) == ("cpu", torch.float32)
            and h.shape[-1] - past_of(self.conv) >= SHORTEST
        )

    def _scale(self, gain: Tensor) -> Tensor:
        return torch.exp(gain) if self.exponential else 1 + gain


class Stack(nn.Module):
    def __init__(
        self, shape: StackShape, inputs: int, condition: int, embedded: int, exponential: bool = False
    ) -> None:
        super().__init__()
        self.shape = shape
        self.rechannel = nn.Conv1d(inputs, shape.channels, 1, bias=False)
        self.layers: Any = nn.ModuleList(
            Layer(shape, kernel, dilation, condition, embedded, exponential)
            for kernel, dilation in zip(shape.kernels, shape.dilations, strict=True)
        )
        self.head = nn.Conv1d(shape.channels, shape.head, shape.head_kernel, bias=shape.head_bias)

    @property
    def past(self) -> int:
        """The receptive field without the current sample."""
        return sum(past_of(layer.conv) for layer in self.layers) + past_of(self.head)

    def forward(
        self, x: Tensor, condition: Tensor, head: Tensor | None, embedding: Tensor | None, with_past: WithPast
    ) -> tuple[Tensor, Tensor]:
        h = self.rechannel(x)
        read = x.shape[-1] - self.past + past_of(self.head) if with_past.shortens else None
        if head is not None and read is not None:
            head = head[..., -read:]
        for layer in self.layers:
            h, a = layer(with_past(h, past_of(layer.conv)), condition, embedding, read)
            head = a if head is None else head + a
        assert head is not None
        return h, self.head(with_past(head, past_of(self.head)))


class WaveNet(FeedForward):
    Config: ClassVar[type] = WaveNetConfig
    learning_rate = 4e-3
    at_once = True

    def __init__(self, config: Any, knobs: int = 0, shape: Shape | None = None) -> None:
        """The preset's shape, or another."""
        super().__init__(config, knobs)
        self.shape = shape or PRESETS[config.preset]
        self.knobs = knobs
        film = bool(knobs and config.film)
        exponential = film and config.film_gain != "linear"
        self.embed = knob_embedding(knobs, exponential) if film else None
        inputs = [1, *(stack.channels for stack in self.shape.stacks)]
        condition, embedded = (1, EMBEDDED) if film else (1 + knobs, 0)
        self.stacks: Any = nn.ModuleList(
            Stack(shape, width, condition, embedded, exponential)
            for shape, width in zip(self.shape.stacks, inputs, strict=False)
        )

    @property
    def warm_up(self) -> int:
        return sum(stack.past for stack in self.stacks)

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        # The compiled loops are for float32, and there take less time than PyTorch's layers in bf16.
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            x, head = dry[:, None], None
            condition, embedding = self._conditions(dry, knobs)
            for stack in self.stacks:
                x, head = stack(x, condition, head, embedding, with_past)
        assert head is not None
        return self.shape.head_scale * head[:, 0]

    def _conditions(self, dry: Signals, knobs: Knobs) -> tuple[Tensor, Tensor | None]:
        """What each layer reads beside the layer before it, and the embedding of the knobs, with FiLM."""
        x = dry[:, None]
        if self.embed is not None:
            return x, self.embed(knobs)
        return torch.cat([x, knobs[:, :, None].expand(-1, -1, dry.shape[1])], dim=1), None

    @torch.no_grad()
    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.program import Program

        program, embedding, positions = Program(), None, self.row(knobs)
        if self.embed is not None:
            embedding, positions = self.embed(positions), positions[:, :0]
        x, head = 0, -1
        previous: Any = None
        for number, stack in enumerate(self.stacks):
            last = number == len(self.stacks) - 1
            h, summed = program.buffer(stack.shape.channels), program.buffer(stack.shape.channels)
            program.convolve(x, h, as_array(stack.rechannel.weight), None)
            if head < 0:
                program.convolve(0, summed, np.zeros((stack.shape.channels, 1, 1), np.float32), None)
            else:
                program.convolve(head, summed, as_array(previous.head.weight), _bias(previous.head))
            for layer in stack.layers:
                a, after = program.buffer(stack.shape.channels), program.buffer(stack.shape.channels)
                weight, shift, mix = (as_array(one[0]) for one in layer.folded(positions, embedding))
                program.convolve(h, a, weight, shift, layer.conv.dilation[0])
                program.convolve(0, a, mix[:, None, None], None, base=a)
                program.tanh(a) if layer.slope is None else program.leak(
                    a, np.full(stack.shape.channels, layer.slope, np.float32)
                )
                program.add(a, summed, np.ones(stack.shape.channels, np.float32))
                if not (last and layer is stack.layers[-1]):
                    program.convolve(a, after, as_array(layer.one.weight), as_array(layer.one.bias), base=h)
                h = after
            x, head, previous = h, summed, stack
        out, scale = program.buffer(1), np.float32(self.shape.head_scale)
        bias = _bias(previous.head)
        program.convolve(head, out, scale * as_array(previous.head.weight), None if bias is None else scale * bias)
        return program.start(self.warm_up)


def _bias(layer: nn.Conv1d) -> np.ndarray | None:
    return None if layer.bias is None else as_array(layer.bias)


NETWORK = WaveNet
