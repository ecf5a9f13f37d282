"""Run the autoregressive network sample by sample: one stream through a compiled loop, many streams in lock-step.

One stream needs each sample before the next, so every weight is read once per sample: 1.6 MB at the default size, more
than a second-level cache holds, and the bandwidth of the third level limits the speed. So the weights are laid out in
the order in which they are read, and the part of the first layer that reads the dry signal alone is one matrix product
for many samples. Many streams share one reading of the weights; there the matrix product limits the speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from tonemill.models.effect.streaming.kernels import TILE, add_product, compiled

BLOCK: Final = 2048
"""Samples whose dry part is computed at once, and steps that the buffer of the lock-step holds."""

CHUNK: Final = 16
"""Samples for which the first layer's sums over older outputs are computed with one reading of its weights."""

LINE: Final = 64
"""Bytes of a cache line."""

Layer = tuple[np.ndarray, np.ndarray]
"""Weight (outputs, inputs) and bias (outputs) of one linear layer."""

# erf(z) = z P(z^2) / Q(z^2) for |z| <= 3.95, beyond which erf is 1 to float32's last bit: least squares on 4000
# Chebyshev nodes, reweighted until the largest errors were level, at 1.8e-8 in float64; 3.6e-7 as float32 computes it.
_P: Final = tuple(
    np.float32(c) for c in (1.1283790062, 0.1940352225, 0.0532070036, 3.917300967e-3, 2.876008e-4, 2.0117515755e-6)
)
_Q: Final = tuple(
    np.float32(c) for c in (1.0, 0.5052907261, 0.115590565, 0.0152706655, 1.1981979134e-3, 3.7839815714e-5)
)
_P0, _P1, _P2, _P3, _P4, _P5 = _P
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5 = _Q
_EDGE: Final = np.float32(3.95)
_HALF: Final = np.float32(0.5)
_ROOT_HALF: Final = np.float32(0.5**0.5)


@compiled
def _gelu(x: np.float32) -> np.float32:
    """x/2 (1 + erf(x / sqrt 2)), the exact form and not the one with tanh."""
    z = min(max(x * _ROOT_HALF, -_EDGE), _EDGE)
    t = z * z
    p = ((((_P5 * t + _P4) * t + _P3) * t + _P2) * t + _P1) * t + _P0
    q = ((((_Q5 * t + _Q4) * t + _Q3) * t + _Q2) * t + _Q1) * t + _Q0
    return x * (_HALF + _HALF * z * (p / q))


@compiled
def _run(
    dry_part: Any, direct: Any, level: Any, wet: Any, first: Any, first_bias: Any, hidden: Any, biases: Any,
    head: Any, head_bias: Any, limit: Any, x: Any, y: Any, out: Any,
) -> None:  # fmt: skip
    """Fill wet[past:] in order; wet[:past] holds the earlier outputs.

    Shapes: dry_part (time, width), direct (time) is added to the output, level (time) divides the first layer's sums
    and multiplies an output of 1 number, wet (past + time), first (tiles, past, TILE), hidden
    (layers, tiles, width, TILE), biases (layers, width), head (tiles, width, TILE) or (1, 1, width). Sums
    are kept in x and y, (width), and in out, of the head's size.
    """
    width, past = dry_part.shape[1], wet.size - dry_part.shape[0]
    for t in range(dry_part.shape[0]):
        # The sums over the outputs up to here are computed for the next CHUNK samples with one reading of the weights;
        # each sample then adds the outputs since.
        since = t % CHUNK
        if since == 0:
            for tile in range(width // TILE):
                for ahead in range(min(CHUNK, past, dry_part.shape[0] - t)):
                    add_product(first[tile], 0, TILE, wet, t + ahead, 1, past - ahead, dry_part[t + ahead], tile * TILE)
        for i in range(width):
            x[i] = dry_part[t, i]
        since = min(since, past)
        if since > 0:
            for tile in range(width // TILE):
                add_product(first[tile, past - since :], 0, TILE, wet, t + past - since, 1, since, x, tile * TILE)
        share = np.float32(1) / level[t]
        for i in range(width):
            x[i] = _gelu(share * x[i] + first_bias[i])
        for layer in range(hidden.shape[0]):
            for i in range(width):
                y[i] = biases[layer, i]
            for tile in range(width // TILE):
                add_product(hidden[layer, tile], 0, TILE, x, 0, 1, width, y, tile * TILE)
            for i in range(width):
                x[i] = _gelu(y[i])
        if head_bias.size == 1:
            total = head_bias[0]
            for i in range(width):
                total += head[0, 0, i] * x[i]
            total = level[t] * total + direct[t]
        else:
            for i in range(out.size):
                out[i] = head_bias[i]
            for tile in range(out.size // TILE):
                add_product(head[tile], 0, TILE, x, 0, 1, width, out, tile * TILE)
            best = 0
            for i in range(1, out.size // 2):
                if out[i] > out[best]:
                    best = i
            total = _from_bin(best, out[out.size // 2 + best], out.size // 2)
        wet[t + past] = min(max(total, -limit), limit)


@compiled
def _from_bin(best: int, residual: np.float32, bins: int) -> np.float32:
    """The centre of a bin plus the residual, as `representations.OneHot` defines them."""
    residual = min(max(residual, -_HALF), _HALF)
    return np.float32((np.float32(best) + residual) / np.float32(0.5 * (bins - 1)) - np.float32(1))


@compiled
def _activate(rows: Any, bias: Any) -> None:
    """GELU in place of (rows, streams), after a bias for each row."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[i, j] = _gelu(rows[i, j] + bias[i])


class Loop:
    """A trained network, laid out for running.

    Args:
        layers: first to last; the first reads `context` dry samples and then `context - 1` wet ones, each oldest
            first. The last gives 1 number, or twice as many as there are bins: their logits and their residuals.
        context: dry samples in a window.
        limit: outputs are clipped to this magnitude.
        skip: add the current dry sample to an output of 1 number.
        quietest: the windows are divided, and an output of 1 number multiplied, by the RMS of the dry window, with
            this power added; None: no scaling.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        context: int,
        limit: float,
        skip: bool = False,
        quietest: float | None = None,
    ) -> None:
        self.context, self.limit, self.skip, self.quietest = context, np.float32(limit), np.float32(skip), quietest
        self.layers = [(np.ascontiguousarray(w, np.float32), np.ascontiguousarray(b, np.float32)) for w, b in layers]
        (first, bias), *hidden, (head, head_bias) = self.layers
        width = -(-len(first) // TILE) * TILE  # a unit whose weights are 0 gives 0
        first, bias = _padded(first, (width, first.shape[1])), _padded(bias, (width,))
        self._dry_weights, self._first_bias = np.ascontiguousarray(first[:, :context].T), bias
        self._first = _tiled(first[:, context:])
        square = [(_padded(w, (width, width)), _padded(b, (width,))) for w, b in hidden]
        tiles = [_tiled(w) for w, _ in square]
        self._hidden = _aligned(np.stack(tiles)) if square else np.empty((0, 1, 1, TILE), np.float32)
        self._biases = np.stack([b for _, b in square]) if square else np.empty((0, width), np.float32)
        head = _padded(head, (len(head), width))
        self._head = head[None] if len(head) == 1 else _tiled(head)
        self._head_bias = head_bias

    def stream(self, dry: Float32[np.ndarray, "seen"], wet: Float32[np.ndarray, "past"]) -> Float32[np.ndarray, "time"]:
        """Run one stream strictly in order.

        Args:
            dry: `context - 1` earlier samples and then the input, in the network's representation.
            wet: the `context - 1` earlier outputs.

        Returns:
            an output for each sample of `dry` after the first `context - 1`.
        """
        past, width = self.context - 1, self._biases.shape[1]
        scratch = [np.empty(size, np.float32) for size in (width, width, self._head_bias.size)]
        result = np.concatenate([wet, np.zeros(dry.size - past, np.float32)]).astype(np.float32)
        for start in range(0, dry.size - past, BLOCK):
            seen = dry[start : start + BLOCK + past]
            windows = np.lib.stride_tricks.sliding_window_view(seen, self.context)
            dry_part = windows @ self._dry_weights
            _run(
                dry_part, self.skip * seen[past:], self._levels(seen), result[start : start + len(dry_part) + past],
                self._first, self._first_bias, self._hidden, self._biases, self._head, self._head_bias, self.limit,
                *scratch,
            )  # fmt: skip
        return result[past:]

    def lockstep(
        self, dry: Float32[np.ndarray, "streams seen"], wet: Float32[np.ndarray, "streams past"]
    ) -> Float32[np.ndarray, "streams time"]:
        """Run streams of one length side by side: `stream` for each, to the last bits of float32.

        Dry and wet alternate in one buffer (2 * time, streams), so that a window of both is a block of it:
        d[t-m+1], w[t-m+1], ..., d[t-1], w[t-1], d[t].
        """
        streams, past = dry.shape[0], self.context - 1
        total = dry.shape[1] - past
        (first, bias), *hidden, (head, head_bias) = self.layers
        turns = np.empty_like(first)
        turns[:, 0::2], turns[:, 1::2] = first[:, : self.context], first[:, self.context :]
        buffer = np.empty((2 * (past + min(BLOCK, total)), streams), np.float32)
        buffer[1 : 2 * past : 2] = wet.T
        x, y = (np.empty((len(bias), streams), np.float32) for _ in range(2))
        out = np.empty((len(head_bias), streams), np.float32)
        result = np.empty((streams, total), np.float32)
        for start in range(0, total, BLOCK):
            steps = min(BLOCK, total - start)
            seen = dry[:, start : start + past + steps]
            buffer[0 : 2 * (past + steps) : 2] = seen.T
            level = np.ascontiguousarray(self._levels(seen).T)
            for t in range(steps):
                np.matmul(turns, buffer[2 * t : 2 * (t + past) + 1], out=x)
                if self.quietest is not None:
                    x /= level[t]
                _activate(x, bias)
                for weight, hidden_bias in hidden:
                    np.matmul(weight, x, out=y)
                    _activate(y, hidden_bias)
                    x, y = y, x
                np.matmul(head, x, out=out)
                out += head_bias[:, None]
                output = _best(out) if len(out) > 1 else level[t] * out[0] + self.skip * buffer[2 * (t + past)]
                np.clip(output, -self.limit, self.limit, out=buffer[2 * (t + past) + 1])
            result[:, start : start + steps] = buffer[2 * past + 1 : 2 * (past + steps) : 2].T
            buffer[1 : 2 * past : 2] = buffer[2 * steps + 1 : 2 * (steps + past) : 2].copy()
        return result

    def _levels(self, dry: np.ndarray) -> np.ndarray:
        """The RMS of each window, from dry (..., past + time): (..., time)."""
        if self.quietest is None:
            return np.ones((*dry.shape[:-1], dry.shape[-1] - self.context + 1), np.float32)
        power = np.zeros((*dry.shape[:-1], dry.shape[-1] + 1))
        np.cumsum(np.square(dry, dtype=np.float64), axis=-1, out=power[..., 1:])
        mean = (power[..., self.context :] - power[..., : -self.context]) / self.context
        return np.sqrt(mean + self.quietest**2).astype(np.float32)


def _best(out: np.ndarray) -> np.ndarray:
    """The likeliest bin of each stream, with its residual: (2 bins, streams) to (streams)."""
    bins = len(out) // 2
    best = out[:bins].argmax(axis=0)
    residual = np.clip(out[bins + best, np.arange(out.shape[1])], -0.5, 0.5)
    return ((best + residual) / (0.5 * (bins - 1)) - 1).astype(np.float32)


def _padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros(shape, np.float32)
    result[tuple(slice(size) for size in values.shape)] = values
    return result


def _tiled(weight: np.ndarray) -> np.ndarray:
    """(outputs, inputs) to (tiles, inputs, TILE), in the order of reading."""
    tiles = weight.reshape(len(weight) // TILE, TILE, weight.shape[1])
    return _aligned(tiles.transpose(0, 2, 1))


def _aligned(values: np.ndarray) -> np.ndarray:
    """A copy whose data begin at a cache line.

    NumPy puts large arrays 16 bytes after the start of a page, so that every second vector of 32 bytes crosses two
    lines of 64: 7 % slower (best of 80 alternating runs). Huge pages make no further difference.
    """
    room = np.empty(values.size + LINE // 4, np.float32)
    start = -room.ctypes.data % LINE // 4
    result = room[start : start + values.size].reshape(values.shape)
    result[...] = values
    return result
