"""Between two seeds: on a great circle, exact at both ends, and in every model that renders from seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Request
from tonemill.models.parts.seeded import around_circle, drawn, drawn_latent, given_latent, spherical


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(512)


def request(**fields: Any) -> Request:
    return Request(1, fields, {})


def test_a_point_on_the_circle_keeps_length_and_angle() -> None:
    one, two = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        np.testing.assert_allclose(spherical(one, two, share), [3 * math.cos(angle), 3 * math.sin(angle)], atol=1e-12)
    assert np.linalg.norm(spherical(one, 2 * two, 0.5)) == pytest.approx(4.5)
    np.testing.assert_allclose(spherical(one, one, 0.3), one)
    np.testing.assert_allclose(spherical(np.zeros(2), two, 0.5), [0, 1.5])


def test_a_neighbour_is_as_loud_as_any_and_nearer() -> None:
    """A straight line half-way between two seeds would be 3 dB too soft."""
    here = drawn(request(), normal)
    near, half = (drawn(request(seed_to=2, seed_share=share), normal) for share in (0.2, 0.5))
    for one in (near, half):
        assert 20 * math.log10(np.linalg.norm(one) / np.linalg.norm(here)) == pytest.approx(0, abs=0.5)
    cosine = near @ here / np.linalg.norm(near) / np.linalg.norm(here)
    assert cosine == pytest.approx(math.cos(0.2 * math.pi / 2), abs=0.03)
    assert np.array_equal(drawn(request(seed_to=2, seed_share=0), normal), here)
    np.testing.assert_allclose(drawn(request(seed_to=2, seed_share=1), normal), normal(2), atol=1e-9)


def test_angles_take_the_shorter_way() -> None:
    found = around_circle(np.array([3.0, -3.0, 0.0]), np.array([-3.0, 3.0, 1.0]), 0.5)
    np.testing.assert_allclose(np.cos(found), [-1, -1, math.cos(0.5)], atol=1e-12)


def test_a_latent_is_taken_as_it_is_and_a_plain_value_of_that_name_is_none() -> None:
    given = list(range(512))
    assert drawn_latent(request(latent=given), normal).tolist() == given
    assert given_latent(request(latent="heat")) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed_to": "x", "seed_share": 0.5}, "seed_to is 'x'"),
        ({"seed_to": 2}, "seed_share is None"),
        ({"seed_to": 2, "seed_share": 1.5}, "from 0 to 1"),
        ({"latent": [1.0, 2.0]}, "2 numbers, and this model takes 512"),
        ({"latent": [1.0, None]}, "finite numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drawn_latent(request(**fields), normal)
