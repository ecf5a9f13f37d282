"""Change the sample rate of sound: one function, two engines, one rule for the length.

The length rule is `resampled_length`. Both engines are linear-phase with their delay taken out: sample 0 of the output
stands where sample 0 of the input stood, and beyond either end the signal counts as silence.

Three tiers of quality. Figures are the worst of 48 to 44.1, 44.1 to 48 and 44.1 to 16 kHz in benchmarks/resampling.py:
aliases are what is left of tones above the new Nyquist, images what pass-band tones leave beside themselves, pass band
the level at 0.8 and 0.9 of Nyquist, speed the seconds of mono sound per second of CPU time:

    ==========  ===================  =========  =========  ====================  =======
    quality     engine               aliases    images     pass band             speed
    ==========  ===================  =========  =========  ====================  =======
    best        soxr VHQ             -154 dB    -150 dB    -0.003,  -0.006 dB    1700
    high        soxr HQ              -132 dB    -131 dB    -0.003,  -0.008 dB    2500
    fast        soxr MQ              -109 dB    -109 dB    -0.11,   -0.21 dB     2700
    best, high  resampy kaiser_best   -89 dB     -87 dB     0.001,  -2.2 dB        30
    fast        resampy kaiser_fast   -63 dB     -60 dB    -0.46,  -13.9 dB       120
    ==========  ===================  =========  =========  ====================  =======

"high" is the default: below the noise of 16 bits by 30 dB, and what "fast" drops buys a tenth in speed. Resampy has two
stock filters, so two tiers share one. It steps through its filter table in whole numbers, `int(scale * num_table)`,
which bends the filter wherever that product is not whole: hence its aliases, which are under -120 dB (best) where the
rate is halved. It is here to reproduce work that was done with it. Between rates that share no divisor (44100, 44099)
soxr interpolates its filter, and its images rise to -121 dB.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, gcd
from typing import Any, Final, Literal

import numpy as np

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.shapes import Float32

Engine = Literal["soxr", "resampy"]
Quality = Literal["best", "high", "fast"]

RECIPES: Final[dict[Engine, dict[Quality, str]]] = {
    "soxr": {"best": "VHQ", "high": "HQ", "fast": "MQ"},
    "resampy": {"best": "kaiser_best", "high": "kaiser_best", "fast": "kaiser_fast"},
}
"""What each engine calls the filter of a tier."""

_BLOCK_FRAMES: Final = 65536
"""Soxr is a fifth faster on blocks of this size than on a minute at once: they stay in the cache."""

_RESAMPY_MAX_RATIO: Final = 256
"""Its coarser table holds 512 points per zero crossing; a step of less than two of them is no filter any more."""


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """Frames at `to_rate` that cover `frames` at `from_rate`: ceil(frames * to_rate / from_rate), exactly.

    Raises:
        UsageError: a rate is below 1 Hz.
    """
    _check_rates(from_rate, to_rate)
    return -(-frames * to_rate // from_rate)


def resample(
    samples: Float32[np.ndarray, "channels time"],
    from_rate: int,
    to_rate: int,
    engine: Engine = "soxr",
    quality: Quality = "high",
) -> Float32[np.ndarray, "channels new_time"]:
    """Resample a whole signal.

    Args:
        samples: (channels, time), float32.
        from_rate: the rate of `samples`, in hertz.
        to_rate: the rate wished for, in hertz; where it equals `from_rate` the input itself comes back.
        engine: "soxr", or "resampy" with its stock filters.
        quality: see the table at the top of this module.

    Returns:
        (channels, resampled_length(time, from_rate, to_rate)), float32; bit for bit the concatenation of
        `resample_blocks`. Peaks may rise above those of the input, and above full scale.

    Raises:
        UsageError: a rate is below 1 Hz, or the engine is resampy and the rate is lowered by more than 256.
    """
    if from_rate == to_rate:
        _check_rates(from_rate, to_rate)
        return samples
    starts = range(0, samples.shape[1], _BLOCK_FRAMES)
    blocks = (samples[:, start : start + _BLOCK_FRAMES] for start in starts)
    parts = list(resample_blocks(blocks, from_rate, to_rate, engine=engine, quality=quality))
    return np.concatenate(parts, axis=1) if parts else np.zeros((samples.shape[0], 0), np.float32)


def resample_blocks(
    blocks: Iterator[Float32[np.ndarray, "channels _"]],
    from_rate: int,
    to_rate: int,
    *,
    engine: Engine = "soxr",
    quality: Quality = "high",
) -> Iterator[Float32[np.ndarray, "channels _"]]:
    """Resample a signal that arrives in blocks, in constant memory.

    Args:
        blocks: arrays (channels, time), float32, of any lengths; where they are cut changes no bit of the result.
        from_rate, to_rate, engine, quality: as for `resample`.

    Returns:
        Blocks (channels, time) of other lengths, none empty, that together hold `resampled_length` frames.

    Raises:
        UsageError: as for `resample`; raised by the call itself, before the first block is read.
    """
    _check_rates(from_rate, to_rate)
    if from_rate == to_rate:
        return blocks
    if engine == "soxr":
        return _soxr_blocks(blocks, from_rate, to_rate, RECIPES["soxr"][quality])
    if from_rate > _RESAMPY_MAX_RATIO * to_rate:
        raise UsageError(
            f"resampy cannot go from {from_rate} Hz to {to_rate} Hz: it lowers a rate by {_RESAMPY_MAX_RATIO} times at "
            f"most. Use the engine soxr, or a rate of at least {ceil(from_rate / _RESAMPY_MAX_RATIO)} Hz."
        )
    return _resampy_blocks(blocks, from_rate, to_rate, RECIPES["resampy"][quality])


def _check_rates(*rates: int) -> None:
    for rate in rates:
        if rate < 1:
            raise UsageError(f"a sample rate of {rate} Hz makes no sound; it must be 1 Hz or more, such as 44100.")


def _soxr_blocks(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int, recipe: str) -> Iterator[np.ndarray]:
    """Soxr's bits do not depend on how its input is cut; the tests hold it to that."""
    import soxr

    # One mono stream per channel: a quarter faster than interleaving for one stream of many channels.
    streams: list[Any] = []
    frames_in = frames_out = 0
    for block in blocks:
        streams = streams or [soxr.ResampleStream(from_rate, to_rate, 1, "float32", recipe) for _ in block]
        frames_in += block.shape[1]
        part = np.stack([s.resample_chunk(np.ascontiguousarray(row)) for s, row in zip(streams, block, strict=True)])
        frames_out += part.shape[1]
        if part.shape[1]:
            yield part
    # Soxr rounds the length to nearest; enough silence to reach the ceiling gives that last frame its true value.
    silence = np.zeros(2 * from_rate // to_rate + 2, np.float32)
    missing = resampled_length(frames_in, from_rate, to_rate) - frames_out
    if missing:
        yield np.stack([s.resample_chunk(silence, last=True)[:missing] for s in streams])


def _resampy_blocks(
    blocks: Iterator[np.ndarray], from_rate: int, to_rate: int, filter_name: str
) -> Iterator[np.ndarray]:
    """Render on a fixed grid of pieces, each with as much sound around it as the filter reaches.

    Every `from_rate / gcd` frames in and `to_rate / gcd` frames out the two rates meet on one instant. Pieces and the
    sound before them are whole numbers of such units, so that resampy, which counts time from the start of its input,
    puts every frame where it would in the whole signal.
    """
    import resampy

    unit_in, unit_out = from_rate // gcd(from_rate, to_rate), to_rate // gcd(from_rate, to_rate)
    reach = 64 * ceil(max(1, from_rate / to_rate))  # kaiser_best reaches 50 zero crossings, and up to 3 % more
    units_before = ceil(reach / unit_in)
    piece_units = max(ceil(_BLOCK_FRAMES / unit_in), 4 * units_before)

    pieces = _recut(blocks, piece_units * unit_in)
    piece = next(pieces, None)
    before = None if piece is None else piece[:, :0]
    while piece is not None and before is not None:
        following = next(pieces, None)
        after = np.zeros((piece.shape[0], reach), np.float32) if following is None else following[:, :reach]
        around = np.concatenate([before, piece, after], axis=1)
        skip = before.shape[1] // unit_in * unit_out
        length = resampled_length(piece.shape[1], from_rate, to_rate)
        yield resampy.resample(around, from_rate, to_rate, filter=filter_name)[:, skip : skip + length]
        before = piece[:, -units_before * unit_in :]
        piece = following


def _recut(blocks: Iterator[np.ndarray], frames: int) -> Iterator[np.ndarray]:
    """Blocks of any lengths as blocks of exactly `frames`, the last one shorter, none empty."""
    held: list[np.ndarray] = []
    room = frames
    for block in blocks:
        while block.shape[1] >= room:
            yield np.concatenate([*held, block[:, :room]], axis=1)
            held, block, room = [], block[:, room:], frames
        held.append(block)
        room -= block.shape[1]
    if room < frames:
        yield np.concatenate(held, axis=1)
