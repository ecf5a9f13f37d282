"""Convolutions that compute whole signals or streams of blocks, with explicit state.

A layer's `forward` takes a whole signal; before and after it are zeros. Its `step` takes the next block of a stream and
the state that the block before left, a list of tensors (batch, ...), and gives the next block of output and the next
state. It uses tensor operations only, so that a stream can be exported as a graph. A layer that looks ahead is late in
a stream: sample n of the stream's output is sample n - `delay` of the whole output, and what comes before is to be
dropped. From there on both are equal to rounding, for blocks of any multiple of the stride.

Where one layer is late, the next begins later too. Each layer is given the delay of its input by `aligned`, which
returns the delay of its output; `Chain` and `Residual` do so for what they hold. Before its input begins a layer reads
zeros, as `forward` does, whatever the layers before it made of theirs: a bias, or samples that they looked ahead at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.convolving import block_convolved, convolved, spread

Signal = Float[Tensor, "batch _ _"]
"""(batch, channels, time); a layer may change the last two."""

State = list[Tensor]


def appended(past: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """What a convolution reads, and as much of its end as it must keep."""
    if not past.shape[-1]:
        return new, past
    both = torch.cat([past, new], dim=-1)
    return both, both[..., both.shape[-1] - past.shape[-1] :]


class Streaming(nn.Module):
    """A layer with `forward` and `step`; without state, and without delay of its own, unless a subclass has them.

    Attributes:
        delay: samples of output by which a stream is late, those of its input with them.
        rate: samples of output for one of input, as (numerator, denominator).
    """

    delay: int = 0
    rate: tuple[int, int] = (1, 1)

    def aligned(self, delay: int) -> int:
        """Take the delay of the input, in samples of it; returns that of the output."""
        self.delay = delay
        return delay

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the tensors of the state, without the batch axis; they follow from the alignment."""
        return []

    def at_rest(self, batch: int, like: Tensor) -> State:
        """The state before a stream begins, of the type and on the device of another tensor."""
        return [like.new_zeros(batch, *shape) for shape in self.shapes()]

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        return self(x), []


class Pointwise(Streaming):
    """A layer that takes each sample alone, as an activation."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Signal) -> Signal:
        return self.layer(x)


class Delay(Streaming):
    """Nothing to a whole signal, and so many samples to a stream, as for an even delay."""

    def __init__(self, channels: int, samples: int) -> None:
        super().__init__()
        self.channels, self.samples = channels, samples

    def aligned(self, delay: int) -> int:
        self.delay = delay + self.samples
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.channels, self.samples)] if self.samples else []

    def forward(self, x: Signal) -> Signal:
        return x

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        if not state:
            return x, state
        both, past = appended(state[0], x)
        return both[..., : x.shape[-1]], [past]


class Conv(Streaming):
    """Convolution, also strided, from n samples to n / stride; causal, or centred on its kernel.

    Output m sums inputs m * stride - left + k * dilation; `left` is the whole reach of the kernel where it is causal,
    and half of it, rounded down, where it is not.

    Args:
        kernel_size: with its dilation it spans at least the stride.
        skips: it may span less, and leave samples out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
        skips: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups, bias=bias
        )
        self.span = (kernel_size - 1) * dilation + 1
        if self.span < stride and not skips:
            raise UsageError(f"a kernel that spans {self.span} samples skips some at a stride of {stride}.")
        self.stride = stride
        self.left = self.span - 1 if causal else (self.span - 1) // 2
        self.rate = (1, stride)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        # Output j of the stream is output j - D. It needs inputs up to (j - D) s - left + span - 1, which stand
        # `delay` later in the stream, and block j ends with sample (j + 1) s - 1: D s >= span - left - s + delay.
        self.input_delay = delay
        # A kernel that skips samples keeps none of the past, and a whole block is the least that it can wait for.
        self.delay = max(0, -(-(max(self.span - self.stride, 0) - self.left + delay) // self.stride))
        self.past = self.left - delay + self.delay * self.stride
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.conv.in_channels, self.past), *counter(self.input_delay)]

    def forward(self, x: Signal) -> Signal:
        _refuse_parts(x, self.stride)
        return convolved(x, self.conv, self.left, self.span - self.stride - self.left)

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        _refuse_parts(x, self.stride)
        x, counted = begun(x, state[1:], self.input_delay)
        both, past = appended(state[0], x)
        return block_convolved(both, self.conv, x.shape[-1] // self.stride), [past, *counted]


class ConvTranspose(Streaming):
    """Transposed convolution from n samples to n * stride; causal, or centred on its kernel.

    Input m reaches outputs m * stride - crop + k; `crop` is 0 where it is causal, else half of what the kernel is
    longer than the stride, rounded up or down.

    Args:
        kernel_size: at least the stride.
        crop_up: round the crop up, as MelGAN does, and not down.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int,
        bias: bool = True,
        causal: bool = False,
        crop_up: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size < stride:
            raise UsageError(f"a kernel of {kernel_size} samples leaves gaps at a stride of {stride}.")
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.stride, self.overlap = stride, kernel_size - stride
        self.crop = 0 if causal else (self.overlap + crop_up) // 2
        self.rate = (stride, 1)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        self.input_delay = delay
        self.delay = self.crop + delay * self.stride
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.conv.out_channels, self.overlap), *counter(self.input_delay)]

    def forward(self, x: Signal) -> Signal:
        if self.overlap == 2 * self.crop:
            return F.conv_transpose1d(x, self.conv.weight, self.conv.bias, self.stride, self.crop)
        return self._biased(spread(x, self.conv)[..., self.crop : self.crop + x.shape[-1] * self.stride])

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        x, counted = begun(x, state[1:], self.input_delay)
        ready = x.shape[-1] * self.stride
        sound = spread(x, self.conv) + F.pad(state[0], (0, ready))
        return self._biased(sound[..., :ready]), [sound[..., ready:], *counted]

    def _biased(self, x: Signal) -> Signal:
        return x if self.conv.bias is None else x + self.conv.bias[:, None]


class Chain(Streaming):
    """Layers one after another; what is no `Streaming` layer is `Pointwise`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_streaming(one) for one in layers)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        ups = downs = 1
        for layer in _listed(self.layers):
            delay = layer.aligned(delay)
            ups, downs = ups * layer.rate[0], downs * layer.rate[1]
        shared = math.gcd(ups, downs)
        self.delay, self.rate = delay, (ups // shared, downs // shared)
        self.counts = _counts(_listed(self.layers))
        return delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [shape for layer in _listed(self.layers) for shape in layer.shapes()]

    def forward(self, x: Signal) -> Signal:
        for layer in self.layers:
            x = layer(x)
        return x

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        kept: State = []
        layers = _listed(self.layers)
        for layer, own in zip(layers, _shared_out(self.counts, state), strict=True):
            x, after = layer.step(x, own)
            kept += after
        return x, kept


class Residual(Streaming):
    """Branches side by side, added up; in a stream the earlier ones wait for the latest.

    Args:
        channels: of what the branches give.
        branches: of one rate; without a second one the input itself is added.

    Raises:
        UsageError: their rates differ.
    """

    def __init__(self, channels: int, *branches: nn.Module) -> None:
        super().__init__()
        several = branches if len(branches) > 1 else (*branches, nn.Identity())
        self.branches = nn.ModuleList(_streaming(branch) for branch in several)
        self.waits = nn.ModuleList(Delay(channels, 0) for _ in several)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        branches = _listed(self.branches)
        delays = [branch.aligned(delay) for branch in branches]
        rates = {branch.rate for branch in branches}
        if len(rates) > 1:
            shown = ", ".join(f"{ups / downs:g}" for ups, downs in sorted(rates))
            raise UsageError(f"branches of rates {shown} cannot be added.")
        for wait, one in zip(self.waits, delays, strict=True):
            assert isinstance(wait, Delay)
            wait.samples = max(delays) - one
            wait.aligned(one)
        self.delay, self.rate = max(delays), branches[0].rate
        self.counts = _counts(self._parts())
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [shape for one in self._parts() for shape in one.shapes()]

    def forward(self, x: Signal) -> Signal:
        return reduce(torch.add, [branch(x) for branch in self.branches])

    def step(self, x: Signal, state: State) -> tuple[Signal, State]:
        parts = self._parts()
        owned = _shared_out(self.counts, state)
        sounds, kept = [], []
        for place in range(0, len(parts), 2):
            sound, after = parts[place].step(x, owned[place])
            sound, waiting = parts[place + 1].step(sound, owned[place + 1])
            sounds.append(sound)
            kept += after + waiting
        return reduce(torch.add, sounds), kept

    def _parts(self) -> list[Streaming]:
        """Each branch, and its wait after it."""
        pairs = zip(_listed(self.branches), _listed(self.waits), strict=True)
        return [one for pair in pairs for one in pair]


def counter(delay: int) -> list[tuple[int, ...]]:
    """The shape of a count of samples, where there are some to leave out."""
    return [(1,)] if delay else []


def begun(x: Signal, counted: State, delay: int) -> tuple[Signal, State]:
    """A block with zeros for what came before the input began, and the count of samples up to then."""
    if not counted:
        return x, counted
    (count,) = counted
    place = count[:, :, None] + torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
    # The count stays at the delay: above 2^24 a float would count no further.
    return torch.where(place >= delay, x, 0), [(count + x.shape[-1]).clamp(max=delay)]


def _streaming(layer: nn.Module) -> Streaming:
    return layer if isinstance(layer, Streaming) else Pointwise(layer)


def _listed(layers: nn.ModuleList) -> list[Streaming]:
    return [cast(Streaming, layer) for layer in layers]


def _counts(layers: Sequence[Streaming]) -> list[int]:
    """Tensors in the state of each, which follow from the alignment: to count them at each step would take longer."""
    return [len(layer.shapes()) for layer in layers]


def _shared_out(counts: Sequence[int], state: State) -> list[State]:
    """To each layer its own part of a state."""
    ends = list(accumulate(counts))
    return [state[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _refuse_parts(x: Signal, stride: int) -> None:
    if x.shape[-1] % stride:
        raise UsageError(f"{x.shape[-1]} samples are no multiple of the stride, which is {stride}.")
