"""Play feed-forward networks as a stream: a list of operations on rows of samples, run by one compiled loop.

Every row keeps as much of its past as its convolutions read, so nothing is computed twice, whatever the size of the
blocks. `TILE` adjacent samples go through all operations at once, so that each weight is read once for all of them.
Each sample is computed alone, so the sizes of blocks change no bit of the output.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from tonemill.models.effect.streaming.kernels import TILE, add_convolution, add_product, compiled, tanh

CONVOLVE: Final = 0
TANH: Final = 1
LEAK: Final = 2
ADD: Final = 3

Weights = Float32[np.ndarray, "..."]


@compiled
def _play(
    operations: Any,
    weights: Any,
    memory: Any,
    places: Any,
    spans: Any,
    counts: Any,
    pasts: Any,
    now: Any,
    x: Any,
    y: Any,
) -> None:
    """Run x through all operations into y.

    Row r of buffer b begins at memory[places[b] + r * spans[b]]; its current sample is at now[b], after pasts[b] kept
    samples. Operations are (kind, source, target, base, kernel, dilation, offset of weights, offset of biases).
    """
    for start in range(0, x.size, TILE):
        size = min(TILE, x.size - start)
        for b in range(now.size):
            if now[b] + TILE > spans[b]:
                past = pasts[b]
                for r in range(counts[b]):
                    begin = places[b] + r * spans[b]
                    for i in range(past):
                        memory[begin + i] = memory[begin + now[b] - past + i]
                now[b] = past
        for i in range(TILE):
            memory[places[0] + now[0] + i] = x[start + i] if i < size else np.float32(0)
        for o in range(operations.shape[0]):
            kind, source, target, base = operations[o, 0], operations[o, 1], operations[o, 2], operations[o, 3]
            kernel, dilation, w, biases = operations[o, 4], operations[o, 5], operations[o, 6], operations[o, 7]
            into, span = places[target] + now[target], spans[target]
            if kind == CONVOLVE:
                inputs, outputs, reading = counts[source], counts[target], places[source] + now[source]
                for c in range(outputs):
                    first = into + c * span
                    bias, filled = weights[biases + c], memory[first : first + TILE]
                    if base < 0:
                        for i in range(TILE):
                            filled[i] = bias
                    else:
                        below = places[base] + now[base] + c * spans[base]
                        under = memory[below : below + TILE]
                        for i in range(TILE):
                            filled[i] = under[i] + bias
                add_convolution(
                    memory, reading - (kernel - 1) * dilation, spans[source], inputs, dilation, weights, w,
                    kernel * inputs, memory, into, span, outputs,
                )  # fmt: skip
            elif kind == TANH:
                for c in range(counts[target]):
                    row = memory[into + c * span : into + c * span + TILE]
                    for i in range(TILE):
                        row[i] = tanh(row[i])
            elif kind == LEAK:
                for c in range(counts[target]):
                    slope, row = weights[w + c], memory[into + c * span : into + c * span + TILE]
                    for i in range(TILE):
                        row[i] = row[i] if row[i] > 0 else slope * row[i]
            else:
                reading = places[source] + now[source]
                for c in range(counts[target]):
                    at = reading + c * spans[source]
                    add_product(memory, at, 0, weights, w + c, 1, 1, memory, into + c * span)
        last = now.size - 1
        for i in range(size):
            y[start + i] = memory[places[last] + now[last] + i]
        for b in range(now.size):
            now[b] += size


class Program:
    """Operations on buffers of rows; buffer 0 is the dry signal, and the last buffer is the output."""

    def __init__(self) -> None:
        self._operations: list[tuple[int, ...]] = []
        self._weights: list[np.ndarray] = []
        self._size = 0
        self.counts: list[int] = []
        self.pasts: list[int] = []
        self.buffer(1)

    def buffer(self, rows: int) -> int:
        """Add a buffer and return its number; convolutions that read it decide how much of its past is kept."""
        self.counts.append(rows)
        self.pasts.append(0)
        return len(self.counts) - 1

    def convolve(
        self, source: int, target: int, weight: Weights, bias: Weights | None, dilation: int = 1, base: int = -1
    ) -> None:
        """target = bias + weight * source, causally, + `base`, which may be the target; weight is (out, in, tap)."""
        outputs, _, kernel = weight.shape
        self.pasts[source] = max(self.pasts[source], (kernel - 1) * dilation)
        at = self._stored(np.ascontiguousarray(weight.transpose(0, 2, 1)))
        biases = self._stored(np.zeros(outputs, np.float32) if bias is None else bias)
        self._operations.append((CONVOLVE, source, target, base, kernel, dilation, at, biases))

    def tanh(self, target: int) -> None:
        self._operations.append((TANH, 0, target, -1, 0, 0, 0, 0))

    def leak(self, target: int, slopes: Weights) -> None:
        """Multiply samples below 0 by a slope for each row."""
        self._operations.append((LEAK, 0, target, -1, 0, 0, self._stored(slopes), 0))

    def add(self, source: int, target: int, gains: Weights) -> None:
        """target += source, row by row, each with its gain."""
        self._operations.append((ADD, source, target, -1, 0, 0, self._stored(gains), 0))

    def start(self, silence: int) -> ProgramPlayer:
        """A player in the state after `silence` samples of silence."""
        return ProgramPlayer(self, np.array(self._operations, np.int64), np.concatenate(self._weights), silence)

    def _stored(self, values: np.ndarray) -> int:
        at = self._size
        self._weights.append(np.ascontiguousarray(values, np.float32).ravel())
        self._size += values.size
        return at


class ProgramPlayer:
    """The player of a program."""

    def __init__(self, program: Program, operations: np.ndarray, weights: np.ndarray, silence: int) -> None:
        self._operations, self._weights = operations, weights
        self._counts = np.array(program.counts, np.int64)
        self._pasts = np.array(program.pasts, np.int64)
        # A full row's past is moved to the front. With room for twice the past, each sample is moved once on average.
        self._spans = np.where(self._pasts > 0, 2 * self._pasts + 4 * TILE, TILE)
        sizes = self._counts * self._spans
        self._places = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._memory = np.zeros(int(sizes.sum()) + TILE, np.float32)
        self._now = self._pasts.copy()
        for first in range(0, silence, 1 << 16):
            self.push(np.zeros(min(1 << 16, silence - first), np.float32))

    def push(self, block: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
        output = np.empty_like(block)
        _play(
            self._operations, self._weights, self._memory, self._places, self._spans, self._counts, self._pasts,
            self._now, np.ascontiguousarray(block), output,
        )  # fmt: skip
        return output
