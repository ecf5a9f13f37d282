"""Take excerpts, in mono, out of a sound that need not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.waveform import Sound


def collect(sound: Sound, spans: Sequence[tuple[int, int]]) -> list[Float32[np.ndarray, "time"]]:
    """Excerpts in mono, in the order of `spans`; samples before the start or after the end of the sound are 0.

    Mono is the mean of all channels, or the loudest channel if they cancel each other.

    Args:
        sound: read once, to the end of the last span.
        spans: first frame and the one after the last; they may overlap, and begin before 0.
    """
    excerpts = [np.zeros((sound.channels, stop - start), np.float32) for start, stop in spans]
    last = max((stop for _, stop in spans), default=0)
    position = 0
    for block in sound.blocks():
        end = position + block.shape[1]
        for (start, stop), excerpt in zip(spans, excerpts, strict=True):
            low, high = max(start, position), min(stop, end)
            if low < high:
                excerpt[:, low - start : high - start] = block[:, low - position : high - position]
        position = end
        if position >= last:
            break
    if sound.channels == 1:
        return [excerpt[0] for excerpt in excerpts]
    powers = np.sum([np.einsum("ct,ct->c", excerpt, excerpt, dtype=np.float64) for excerpt in excerpts], axis=0)
    means = [excerpt.mean(axis=0) for excerpt in excerpts]
    if sum(float(mean @ mean) for mean in means) >= 0.05 * powers.max():
        return means
    return [excerpt[int(powers.argmax())] for excerpt in excerpts]
