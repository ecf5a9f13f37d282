"""Level followers with separate attack and release, as in the detectors of compressors, and a compressor's player.

    e[n] = a[n] + k (e[n - 1] - a[n]),  k = attack where a[n] > e[n - 1], else release

the branching smooth detector of Giannoulis, Massberg and Reiss (Digital dynamic range compressor design, JAES 2012).
PyTorch would compute it one sample at a time, so it and its gradient run in compiled loops, on the CPU.
"""

from __future__ import annotations

import warnings
from functools import cache
from inspect import unwrap
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tonemill.models.effect.streaming.kernels import compiled

Levels = Float[Tensor, "batch detectors time"]
Speeds = Float[Tensor, "batch detectors"]


@compiled
def _follow(level: Any, attack: Any, release: Any, start: Any, output: Any) -> None:
    for b in range(level.shape[0]):
        for d in range(level.shape[1]):
            now = np.float64(start[b, d])
            for n in range(level.shape[2]):
                new = np.float64(level[b, d, n])
                now = new + (attack[b, d] if new > now else release[b, d]) * (now - new)
                output[b, d, n] = now


@compiled
def _return(
    level: Any, attack: Any, release: Any, start: Any, output: Any, wanted: Any, of_level: Any, of: Any
) -> None:
    """Gradients, from the last sample to the first; `of` is (attack, release and start, batch, detectors)."""
    for b in range(level.shape[0]):
        for d in range(level.shape[1]):
            back = 0.0
            for n in range(level.shape[2] - 1, -1, -1):
                back += wanted[b, d, n]
                before = output[b, d, n - 1] if n else start[b, d]
                new = level[b, d, n]
                rises = new > before
                keep = attack[b, d] if rises else release[b, d]
                of_level[b, d, n] = (1 - keep) * back
                of[0 if rises else 1, b, d] += back * (before - new)
                back *= keep
            of[2, b, d] = back


class _Follow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, attack: Tensor, release: Tensor, start: Tensor) -> Tensor:
        inputs = [_array(one) for one in (level, attack, release, start)]
        output = np.empty_like(inputs[0])
        _follow(*inputs, output)
        ctx.kept, ctx.where = (*inputs, output), level.device
        return torch.from_numpy(output).to(level.device)

    @staticmethod
    def backward(ctx: Any, *wanted: Any) -> Any:
        level, attack = ctx.kept[:2]
        of_level, of_rest = np.empty_like(level), np.zeros((3, *attack.shape))
        _return(*ctx.kept, _array(wanted[0]), of_level, of_rest)
        return tuple(torch.from_numpy(one.astype(np.float32)).to(ctx.where) for one in (of_level, *of_rest))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def followed_level(level: Levels, attack: Speeds, release: Speeds, start: Speeds) -> Levels:
    """The followers' values after `start`; attack and release are the shares kept from sample to sample."""
    if torch.jit.is_tracing():
        return _scripted()(level, attack, release, start)
    return _Follow.apply(level, attack, release, start)


def _sample_by_sample(level: Tensor, attack: Tensor, release: Tensor, start: Tensor) -> Tensor:
    output, now = [], start
    for n in range(level.shape[2]):
        new = level[:, :, n]
        now = new + torch.where(new > now, attack, release) * (now - new)
        output.append(now)
    return torch.stack(output, dim=2)


@cache
def _scripted() -> Any:
    """`_sample_by_sample` as a script, whose loop exported graphs keep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(unwrap(_sample_by_sample))  # without the type checks that tests wrap around it


@compiled
def _play(
    tone: Any, side: Any, keep: Any, state: Any, powers: Any, first: Any, second: Any, last: Any, slope: Any,
    dry: Any, y: Any, z: Any, one: Any, two: Any,
) -> None:  # fmt: skip
    """Fill y with the output for dry, which begins `tone.size - 1` samples early.

    The last column of `first` and `second` (units, inputs + 1), and of `last` (units + 1), is the bias.
    z (detectors), one and two (units) keep the layers' inputs.
    """
    taps, detectors, units = tone.size, state.size, first.shape[0]
    for t in range(y.size):
        direct = level = np.float32(0)
        for i in range(taps):
            direct += tone[taps - 1 - i] * dry[t + i]
            level += side[taps - 1 - i] * dry[t + i]
        for d in range(detectors):
            new = np.float64(abs(level)) ** powers[d]
            state[d] = new + keep[0 if new > state[d] else 1, d] * (state[d] - new)
            z[d] = loudness(state[d], powers[d])
        for u in range(units):
            total = first[u, detectors]
            for d in range(detectors):
                total += first[u, d] * z[d]
            one[u] = total if total > 0 else slope * total
        for u in range(units):
            total = second[u, units]
            for v in range(units):
                total += second[u, v] * one[v]
            two[u] = total if total > 0 else slope * total
        total = last[units]
        for u in range(units):
            total += last[u] * two[u]
        y[t] = np.float32(np.exp(total)) * direct


@compiled
def loudness(level: Any, power: Any) -> Any:
    return np.float32(np.log(level + 1e-5**power) / (4 * power) + 1)


class CompressorPlayer:
    """The compressor's player: two short responses, followers of the second's output, and a curve from levels to gain.

    Args:
        tone, side: responses of one length, of the output's path and of the followers' path.
        keep: the share of its level that each follower keeps from sample to sample, for attack and release.
        powers: of the level that each follower tracks: 1 is its peak, 2 its power.
        first, second, last: layers of the curve, each with its bias as last column.
        slope: of the first two layers' units below 0.
    """

    def __init__(
        self,
        tone: Float32[np.ndarray, "taps"],
        side: Float32[np.ndarray, "taps"],
        keep: Float32[np.ndarray, "2 detectors"],
        powers: Float32[np.ndarray, "detectors"],
        first: Float32[np.ndarray, "units detectors_and_one"],
        second: Float32[np.ndarray, "units units_and_one"],
        last: Float32[np.ndarray, "units_and_one"],
        slope: float,
    ) -> None:
        self._weights = tone, side, keep
        self._curve = powers, first, second, last, np.float32(slope)
        self._state = np.zeros(powers.size)
        self._past = np.zeros(tone.size - 1, np.float32)
        self._layers = [np.empty(size, np.float32) for size in (powers.size, len(first), len(first))]

    def push(self, block: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
        dry, output = np.concatenate([self._past, block]), np.empty_like(block)
        _play(*self._weights, self._state, *self._curve, dry, output, *self._layers)
        self._past = dry[dry.size - self._past.size :]
        return output
