"""One layer of a WaveNet and its gradients as compiled loops, for training on a CPU.

PyTorch's convolutions of 3 to 16 channels spend their time around the arithmetic, most of it on the gradients of
weights. Here a tile of time goes through the whole layer in registers, and gradients of weights are sums of products of
rows, several rows at once. Clips of a batch are computed by as many threads as PyTorch has.

With z[o, t] = bias[o] + mix[o] x[t] + sum of weight[o, i, k] h[i, t + k d], a layer is a = act(z) and h' = h + one a.
Its gradients, for those of h' and a (which the network's head reads):

    dz = act'(z) (da + one^T dh')        act'(z) follows from a: 1 - a^2 of tanh, and the sign of a of a leaky ReLU
    dh[i, t] = dh'[i, t] + sum of weight[o, i, k] dz[o, t - k d]
    dweight[o, i, k] = sum of dz[o, t] h[i, t + k d], done[c, j] = sum of dh'[c, t] a[j, t]
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tonemill.models.effect.streaming.kernels import (
    LANES,
    ROWS,
    TILE,
    add_convolution,
    add_row_product,
    add_row_products,
    compiled,
    tanh,
)

CHUNK: Final = 1024
"""Samples of time after which the next rows are multiplied, so that they stay in the cache."""


@compiled
def _span(begin: int, time: int) -> tuple[int, int]:
    """Where the samples that are computed at once begin, and their number: whole tiles, and a last one up to the end.

    The last tile reaches back into samples that are there already, and makes them again as they are.
    """
    whole = time - time % TILE
    return (begin, min(CHUNK, whole - begin)) if begin < whole else (time - TILE, TILE)


@compiled
def _forward(
    h: Any, x: Any, weight: Any, bias: Any, mix: Any, one: Any, one_bias: Any, dilation: int, slope: Any, a: Any,
    after: Any,
) -> None:  # fmt: skip
    """Of a clip: h (channels, time) and x (its length) to a and h' (channels, time - past); slope 2 is tanh."""
    channels, time = a.shape
    kernel, past = weight.shape[1], h.shape[1] - time
    late, fresh = x.size - time, 0
    while fresh < time:
        begin, count = _span(fresh, time)
        end = begin + count
        for c in range(channels):
            row, dry = a[c, begin:end], x[late + begin : late + end]
            for i in range(count):
                row[i] = bias[c] + mix[c] * dry[i]
        for start in range(begin, end, TILE):
            add_convolution(
                h, start, h.shape[1], channels, dilation, weight, 0, kernel * channels, a, start, time, channels
            )
        for c in range(channels):
            row, into, under = a[c, begin:end], after[c, begin:end], h[c, past + begin : past + end]
            if slope > 1:
                for i in range(count):
                    row[i] = tanh(row[i])
            else:
                for i in range(count):
                    row[i] = row[i] if row[i] > 0 else slope * row[i]
            for i in range(count):
                into[i] = under[i] + one_bias[c]
        for start in range(begin, end, TILE):
            add_convolution(a, start, time, channels, 0, one, 0, channels, after, start, time, channels)
        fresh = end


@compiled
def _row_products(
    x: Any, x_at: int, y: Any, y_at: int, count: int, sums: Any, at: int, apart: int, apart_y: int
) -> None:
    """sums[o, i] += products of row o of x and row i of y, lane by lane, of `count` samples from x_at and y_at on.

    Args:
        x: (channels, _).
        y: (others, _).
        sums: flat; those of o and i begin at `at` + o * apart + i * apart_y and are LANES numbers.
    """
    channels, others, whole = x.shape[0], y.shape[0], count // LANES
    rows = ROWS if channels % ROWS == 0 and others % ROWS == 0 else 1
    for o in range(0, channels, rows):
        for i in range(0, others, rows):
            here, x_here, y_here = at + o * apart + i * apart_y, o * x.shape[1] + x_at, i * y.shape[1] + y_at
            if whole and rows == ROWS:
                add_row_products(x, x_here, x.shape[1], y, y_here, y.shape[1], whole, sums, here, apart, apart_y)
            elif whole:
                add_row_product(x, x_here, x.shape[1], y, y_here, y.shape[1], whole, sums, here, apart, apart_y)
    for t in range(whole * LANES, count):
        for o in range(channels):
            for i in range(others):
                sums[at + o * apart + i * apart_y + t % LANES] += x[o, x_at + t] * y[i, y_at + t]


@compiled
def _backward(
    h: Any, dry: Any, a: Any, weight: Any, one: Any, dilation: int, slope: Any, d_after: Any, d_a: Any, dz: Any,
    dh: Any, d_weight: Any, d_one: Any, d_rows: Any,
) -> None:  # fmt: skip
    """Of a clip: `dry` is x and ones, `weight` (in, taps, out), `one` transposed, d_a of the last samples of a.

    dz, which is filled, has `past` zeros on both sides.
    """
    channels, time = a.shape
    kernel, past = weight.shape[1], h.shape[1] - time
    late, wide, unread, fresh = dry.shape[1] - time, dz.shape[1], time - d_a.shape[1], 0
    while fresh < time:
        begin, count = _span(fresh, time)
        end = begin + count
        for c in range(channels):
            row, silent = dz[c, past + begin : past + end], min(max(unread - begin, 0), count)
            given = d_a[c, begin + silent - unread : end - unread]
            for i in range(silent):
                row[i] = np.float32(0)
            for i in range(silent, count):
                row[i] = given[i - silent]
        for start in range(begin, end, TILE):
            add_convolution(d_after, start, time, channels, 0, one, 0, channels, dz, past + start, wide, channels)
        for c in range(channels):
            row, done = dz[c, past + begin : past + end], a[c, begin:end]
            if slope > 1:
                for i in range(count):
                    row[i] *= np.float32(1) - done[i] * done[i]
            else:
                for i in range(count):
                    row[i] = row[i] if done[i] > 0 else slope * row[i]
        for k in range(kernel):
            _row_products(
                dz, past + fresh, h, fresh + k * dilation, end - fresh, d_weight, k * LANES, channels * kernel * LANES,
                kernel * LANES,
            )  # fmt: skip
        _row_products(d_after, fresh, a, fresh, end - fresh, d_one, 0, channels * LANES, LANES)
        _row_products(dz, past + fresh, dry, late + fresh, end - fresh, d_rows, 0, 2 * LANES, LANES)
        _row_products(d_after, fresh, dry, late + fresh, end - fresh, d_rows, 2 * channels * LANES, 2 * LANES, LANES)
        fresh = end
    fresh = 0
    while fresh < h.shape[1]:
        begin, count = _span(fresh, h.shape[1])
        end, silent = begin + count, min(max(past - begin, 0), count)
        for c in range(channels):
            row, above = dh[c, begin:end], d_after[c, begin + silent - past : end - past]
            for i in range(silent):
                row[i] = np.float32(0)
            for i in range(silent, count):
                row[i] = above[i - silent]
        for start in range(begin, end, TILE):
            add_convolution(
                dz, past + start, wide, channels, -dilation, weight, 0, kernel * channels, dh, start, h.shape[1],
                channels,
            )  # fmt: skip
        fresh = end


class CompiledLayer(torch.autograd.Function):
    """h (batch, channels, time) and x (batch, its time) to h', the last samples of a, and all of a, without gradient.

    h' and a are (batch, channels, time - past), and of a `read` samples are read by the network's head.

    `apply` takes h, x, weight (batch, out, in, taps), bias and mix (batch, out), which follow each clip's knobs, one
    (out, in), its bias, the dilation, `read`, and the slope of a leaky ReLU or None for tanh. x has no gradient.
    """

    @staticmethod
    def forward(
        h: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, one: Tensor, one_bias: Tensor, dilation: int,
        read: int, slope: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        time = h.shape[2] - (weight.shape[3] - 1) * dilation
        a = torch.empty(h.shape[0], h.shape[1], time)
        after = torch.empty_like(a)
        each = [_array(tensor) for tensor in (h, x, weight.transpose(2, 3), bias, mix)]
        across, shared = _array(one), _array(one_bias)
        outputs = a.numpy(), after.numpy()

        def work(clip: int) -> None:
            given = [array[clip] for array in each]
            _forward(*given, across, shared, dilation, _slope(slope), outputs[0][clip], outputs[1][clip])

        _each(work, len(h))
        return after, a[:, :, time - read :].clone(), a

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        h, x, weight, _, _, one, _, ctx.dilation, _, ctx.slope = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, x, weight, one, output[2])

    @staticmethod
    def backward(ctx: Any, d_after: Tensor | None, d_a: Tensor, _: None) -> Any:
        h, x, weight, one, a = (_array(one) for one in ctx.saved_tensors)
        batch, channels, time = a.shape
        kernel, past = weight.shape[3], h.shape[2] - time
        taps, across = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), np.ascontiguousarray(one.T)
        dry = np.stack([x, np.ones_like(x)], axis=1)
        d_afters, d_as = np.zeros_like(a) if d_after is None else _array(d_after), _array(d_a)
        dh = torch.empty(batch, channels, h.shape[2])
        dhs = dh.numpy()
        d_weight = np.zeros((batch, channels, channels, kernel, LANES), np.float32)
        d_one = np.zeros((batch, channels, channels, LANES), np.float32)
        d_rows = np.zeros((batch, 2, channels, 2, LANES), np.float32)

        def work(clip: int) -> None:
            dz = np.zeros((channels, time + 2 * past), np.float32)
            _backward(
                h[clip], dry[clip], a[clip], taps[clip], across, ctx.dilation, _slope(ctx.slope), d_afters[clip],
                d_as[clip], dz, dhs[clip], *(sums[clip].reshape(-1) for sums in (d_weight, d_one, d_rows)),
            )  # fmt: skip

        _each(work, batch)
        weights, ones, rows = (torch.from_numpy(sums.sum(axis=-1)) for sums in (d_weight, d_one, d_rows))
        # Nothing reads h' of the last layer, so its `one` has no gradient, and an optimizer no state of it.
        of_one = (None, None) if d_after is None else (ones.sum(0), rows[:, 1, :, 1].sum(0))
        return dh, None, weights, rows[:, 0, :, 1], rows[:, 0, :, 0], *of_one, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Several networks at once: one after another, so that each is what it is alone."""

        def of(network: int) -> list[Any]:
            return [
                value if dim is None else value.select(dim, network) for value, dim in zip(inputs, in_dims, strict=True)
            ]

        found = [CompiledLayer.apply(*of(network)) for network in range(info.batch_size)]
        return tuple(torch.stack(one) for one in zip(*found, strict=True)), (0, 0, 0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _slope(slope: float | None) -> np.float32:
    return np.float32(2 if slope is None else slope)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


def _each(work: Callable[[int], None], clips: int) -> None:
    """Run a clip's work for each of a batch, by as many threads as PyTorch has."""
    threads = min(torch.get_num_threads(), clips)
    if threads == 1:
        for clip in range(clips):
            work(clip)
    else:
        list(_threads(threads).map(work, range(clips)))
