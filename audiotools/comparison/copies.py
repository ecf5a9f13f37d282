"""Decide whether two sounds are copies of one recording: the same but for gain, delay, polarity and coding noise.

The spectra of two hits of one drum machine are as alike as those of a recording and its MP3, but the differences are
not. Coding adds noise, unrelated to the sound, which changes no band's level. Between two hits some bands differ in
level or phase and stay coherent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.comparison.fingerprint import LATER, RATE, WINDOW, Fingerprint, spectra

LAG_SECONDS: Final = 0.5
"""How far copies may be shifted against each other."""

MIN_SHARED: Final = 0.82
"""Share of the sound, weighted by level, that must be the same in both."""

MIN_SHARED_ANYWHERE: Final = 0.5
"""The same in each quarter of a second: a loop with another fill in one bar is another loop."""

MAX_EXCESS_DB: Final = 0.09
"""Level and phase may differ by so much more than coding noise explains."""

MAX_EXCESS_ANYWHERE_DB: Final = 0.6

_CELL: Final = 4
_PLACE: Final = 8
_EDGES_HZ: Final = np.array([40.0, *np.geomspace(250, RATE / 2, 20)])
_COHERENT: Final = 0.9
_DB_PER_RADIAN: Final = 20 / np.log(10)


@dataclass(frozen=True)
class Likeness:
    """How two sounds compare once laid over each other.

    Args:
        shared: how much of the sound is the same, up to 1; weighted by level above a floor 40 dB below the loudest.
        shared_anywhere: the least of it in a quarter of a second.
        excess_db: by how much level and phase differ beyond what noise of the measured size explains, on average.
        excess_anywhere_db: the most of it in a quarter of a second.
        lag_seconds: how much later the second sound comes.
    """

    shared: float
    shared_anywhere: float
    excess_db: float
    excess_anywhere_db: float
    lag_seconds: float

    @property
    def is_copy(self) -> bool:
        return (
            self.shared >= MIN_SHARED
            and self.shared_anywhere >= MIN_SHARED_ANYWHERE
            and self.excess_db <= MAX_EXCESS_DB
            and self.excess_anywhere_db <= MAX_EXCESS_ANYWHERE_DB
        )


def lengths_fit(a_seconds: float, b_seconds: float) -> bool:
    """Whether two sounding lengths may be copies': 0.1 s at either end may be missing, but no more than a tenth."""
    longer = max(a_seconds, b_seconds)
    return bool(abs(a_seconds - b_seconds) <= 0.03 + min(0.2, 0.1 * longer))


def are_copies(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two sounds are copies of one recording; the order does not matter."""
    if a.pcm_digest == b.pcm_digest:
        return True
    if a.is_silent or b.is_silent or not lengths_fit(a.sounding_seconds, b.sounding_seconds):
        return False
    if b.pcm_digest < a.pcm_digest:
        a, b = b, a
    top_hz = 0.9 * min(a.bandwidth_hz, b.bandwidth_hz)
    pairs = [pair for pair in zip(a.pieces(), b.pieces(), strict=False) if min(map(len, pair)) > WINDOW // 8]
    starts = [piece[:LATER] for piece in pairs[0]] if pairs else []
    if (
        starts
        and len(pairs[0][0]) > 2 * LATER
        and all(_energy(start) > 0.05 * _energy(piece) for start, piece in zip(starts, pairs[0], strict=True))
    ):
        # Most pairs part in the first ten seconds; a minute takes eight times as long.
        pairs.insert(0, (starts[0], starts[1]))
    return all(likeness(one, other, top_hz).is_copy for one, other in pairs)


def _energy(samples: Float32[np.ndarray, "time"]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def likeness(a: Float32[np.ndarray, "a_time"], b: Float32[np.ndarray, "b_time"], top_hz: float) -> Likeness:
    """Lay `b` over `a` where they fit best and compare them cell by cell: 20 bands, a thirtieth of a second each.

    Args:
        a, b: samples at `RATE`.
        top_hz: the highest frequency that is compared.
    """
    size = _fast_size(a.size + b.size)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    a_spectrum, b_spectrum = (np.where(hertz <= top_hz, np.fft.rfft(x, size), 0) for x in (a, b))
    correlation = np.fft.irfft(a_spectrum * b_spectrum.conj(), size)
    reach = round(LAG_SECONDS * RATE)
    lag, height = _peak(correlation, min(reach, b.size), min(reach, a.size))
    a_energy, b_energy = (float(np.sum(np.abs(x) ** 2)) for x in (a_spectrum, b_spectrum))
    if a_energy <= 0 or b_energy <= 0:
        return Likeness(0.0, 0.0, 0.0, 0.0, 0.0)
    gain = np.sign(height) * np.sqrt(a_energy / b_energy)
    laid = np.fft.irfft(b_spectrum * gain * np.exp(-2j * np.pi * hertz * lag / RATE), size)
    reference = np.fft.irfft(a_spectrum, size)
    # Where one has ended or not begun yet there is nothing to compare; `lengths_fit` has looked at that.
    first, last = max(0, round(lag)), min(a.size, b.size + round(lag))
    if last - first < WINDOW // 8:
        return Likeness(0.0, 0.0, 0.0, 0.0, -lag / RATE)
    return _compared(spectra(reference[first:last]), spectra(laid[first:last]), top_hz, -lag / RATE)


def _compared(a: Any, b: Any, top_hz: float, lag_seconds: float) -> Likeness:
    a_power, b_power, cross = (
        _cells(np.abs(a) ** 2, top_hz),
        _cells(np.abs(b) ** 2, top_hz),
        _cells(a * b.conj(), top_hz),
    )
    louder = np.maximum(a_power, b_power)
    floor = louder.sum(axis=0).max() * 1e-4 / len(louder) + 1e-30
    weight = 10 * np.log10(louder / floor + 1) * (louder > 10 * floor)
    shared = 2 * cross.real / (a_power + b_power + 1e-30)
    coherence = np.minimum(1, np.abs(cross) / np.sqrt((a_power + 1e-30) * (b_power + 1e-30)))
    level = 10 * np.log10((a_power + 0.01 * floor) / (b_power + 0.01 * floor))
    off_db = np.hypot(level, _DB_PER_RADIAN * np.angle(cross))
    # Noise of power 1/coherence^2 - 1 moves level and phase by about its root; twice that is the rule of two sigmas.
    noise_db = _DB_PER_RADIAN * np.sqrt(1 - coherence**2) / np.maximum(coherence, 1e-6)
    excess = np.maximum(0, off_db - 2 * noise_db - 0.2)
    sure = weight * (coherence**2 > _COHERENT)
    places = range(0, weight.shape[1], _PLACE)
    enough = 0.3 * weight.sum() / max(1, len(places))
    shares, excesses = [1.0], [0.0]
    for place in places:
        here = np.s_[:, place : place + _PLACE]
        if weight[here].sum() >= enough:
            shares.append(float((shared[here] * weight[here]).sum() / weight[here].sum()))
            excesses.append(float((excess[here] * sure[here]).sum() / weight[here].sum()))
    return Likeness(
        float((shared * weight).sum() / weight.sum()),
        min(shares),
        float((excess * sure).sum() / max(sure.sum(), 1e-30)),
        max(excesses),
        lag_seconds,
    )


def _cells(frames: Any, top_hz: float) -> Any:
    """Sum frames (time, bins) into cells (bands, time)."""
    count = -(-len(frames) // _CELL)
    padded = np.pad(frames, ((0, count * _CELL - len(frames)), (0, 0)))
    summed = padded.reshape(count, _CELL, -1).sum(axis=1, dtype=np.result_type(frames, np.float64))
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    bands = [(hertz >= low) & (hertz < high) for low, high in pairwise(_EDGES_HZ) if low < top_hz]
    return np.stack([summed[:, band].sum(axis=1) for band in bands if band.any()])


def _peak(correlation: Any, behind: int, ahead: int) -> tuple[float, float]:
    """Lag and height of the highest peak of either sign, between samples: by sinc interpolation around the top."""
    around = correlation[np.arange(-behind, ahead + 1)]
    top = int(np.argmax(np.abs(around)))
    near = np.arange(max(0, top - 36), min(around.size, top + 37))
    # The next swing of a bright sound may be higher between samples than this one is at a sample.
    fine = top + np.arange(-64, 65) / 16
    values = np.sinc(fine[:, None] - near[None]) @ around[near]
    best = int(np.clip(np.argmax(np.abs(values)), 1, fine.size - 2))
    before, height, after = values[best - 1 : best + 2]
    bend = before - 2 * height + after
    shift = 0.5 * (before - after) / bend if bend else 0.0
    return float(fine[best] + np.clip(shift, -1, 1) / 16 - behind), float(height)


def _fast_size(size: int) -> int:
    """The least even product of 2, 3 and 5 that is not below `size`."""
    sizes = [
        2**two * 3**three * 5**five
        for three in range(8)
        for five in range(4)
        for two in [max(1, int(np.ceil(np.log2(size / (3**three * 5**five)))))]
    ]
    return min(one for one in sizes if one >= size)
