"""Aliasing against closed forms: nothing of a linear effect, the folded harmonics of a cubic, less when oversampled."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
import scipy.signal

from tonemill.models.effect.aliasing import FREQUENCIES_HZ, WINDOW, aliasing_db, turns_of

RATE = 44_100


def test_a_linear_effect_and_an_offset_do_not_alias() -> None:
    for effect in (lambda x: -0.3 * x, lambda x: x + 0.5, lambda x: scipy.signal.lfilter([1, 0.4], [1, -0.6], x)):
        found = aliasing_db(effect, RATE, 2000)
        assert found is not None and found < -120


def test_a_cubic_folds_its_third_harmonic_where_that_is_above_half_of_the_rate() -> None:
    """x^3 of a sine is 3/4 of it and 1/4 of its third harmonic, which is above 22.05 kHz from 8 kHz on."""
    folded = sum(3 * f > RATE / 2 for f in FREQUENCIES_HZ)
    expected = 10 * np.log10(folded / 16 / (9 * len(FREQUENCIES_HZ) / 16 + (len(FREQUENCIES_HZ) - folded) / 16))
    assert aliasing_db(lambda x: x**3, RATE, 0) == pytest.approx(expected, abs=1e-3)


def test_oversampling_aliases_less() -> None:
    def drive(x: np.ndarray) -> np.ndarray:
        return np.tanh(20 * x)

    def oversampled(x: np.ndarray) -> np.ndarray:
        return scipy.signal.resample_poly(drive(scipy.signal.resample_poly(x, 8, 1)), 1, 8)

    plain, better = aliasing_db(drive, RATE, 2048), aliasing_db(oversampled, RATE, 2048)
    assert plain is not None and better is not None
    assert plain > -20
    assert better < plain - 10


@pytest.mark.parametrize("rate", [8_000, 22_050, RATE, 48_000, 96_000])
def test_no_harmonic_folds_onto_another(rate: int) -> None:
    for frequency_hz in FREQUENCIES_HZ:
        turns = turns_of(frequency_hz, rate)
        assert gcd(turns, WINDOW) == 1
        assert turns * rate / WINDOW == pytest.approx(frequency_hz, abs=rate / WINDOW)


def test_where_no_sine_fits_or_nothing_sounds_there_is_no_figure() -> None:
    assert aliasing_db(lambda x: x, 2_000, 0) is None
    assert aliasing_db(np.zeros_like, RATE, 0) is None
    assert aliasing_db(lambda x: np.full_like(x, np.nan), RATE, 0) is None
