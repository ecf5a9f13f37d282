"""What a request's seed draws, a point on the way to what another seed draws, or a latent vector that it brings along.

A request between two seeds has the fields `seed_to` and `seed_share`: 0 is its own seed, 1 the other. `tonemill seeds`
writes them with --interpolate and --vary, and `latent` with --latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float

from tonemill.audiotools.errors import UsageError
from tonemill.models.exchange import Request

SEED_TO: Final = "seed_to"
SEED_SHARE: Final = "seed_share"
LATENT: Final = "latent"

Numbers = Float[np.ndarray, "*_"]
Draw = Callable[[int], Numbers]


def drawn(request: Request, draw: Draw, way: Callable[[Numbers, Numbers, float], Numbers] | None = None) -> Numbers:
    """What is drawn for a request.

    Args:
        request: with its seed, and the other one where it stands between two.
        draw: numbers of a seed.
        way: from one seed's numbers to the other's, by a share; left out, `spherical`.

    Raises:
        UsageError: as `other_seed`.
    """
    other, share = other_seed(request)
    first = draw(request.seed)
    return first if share == 0 else (way or spherical)(first, draw(other), share)


def other_seed(request: Request) -> tuple[int, float]:
    """The seed on the way to which a request stands, and the share of the way; its own seed, and 0, where none does.

    Raises:
        UsageError: the other seed or the share cannot be used.
    """
    other, share = request.fields.get(SEED_TO), request.fields.get(SEED_SHARE)
    if other is None:
        return request.seed, 0.0
    if not isinstance(other, int) or isinstance(other, bool) or other < 0:
        raise UsageError(f"{SEED_TO} is {other!r}; it must be a seed, a whole number of at least 0.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UsageError(
            f"The field {SEED_SHARE} is {share!r}; it must be from 0 to 1. It states how far a clip is between the "
            f"fields seed and {SEED_TO}."
        )
    return other, float(share)


def drawn_latent(request: Request, draw: Draw) -> Float[np.ndarray, "size"]:
    """The latent vector of a request: the one in its field `latent`, or what its seed draws.

    Raises:
        UsageError: the field holds no vector of that size, or `drawn` refuses the seeds.
    """
    given = given_latent(request)
    if given is None:
        return drawn(request, draw)
    size = len(draw(request.seed))
    if len(given) != size:
        raise UsageError(f"{LATENT} holds {len(given)} numbers, and this model takes {size}.")
    return given


def given_latent(request: Request) -> Float[np.ndarray, "_"] | None:
    """The vector in a request's field `latent`; None where it has none, or a plain value of that name.

    Raises:
        UsageError: it holds something else than numbers.
    """
    given = request.fields.get(LATENT)
    if not isinstance(given, list | tuple):
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in given):
        raise UsageError(f"{LATENT} is {str(given)[:40]}...; it must hold finite numbers.")
    return np.asarray(given, np.float64)


def spherical(first: Numbers, other: Numbers, share: float) -> Numbers:
    """A point on the great circle from one array to another; its length goes evenly from one's to the other's.

    Spherical linear interpolation (Shoemake, 1985, "Animating rotation with quaternion curves", section 3.3).
    Arrays of many normal numbers have almost one length, which a straight line between them would not keep.
    """
    lengths = [float(np.linalg.norm(one)) for one in (first, other)]
    if min(lengths) == 0:
        return first + share * (other - first)
    one, two = first / lengths[0], other / lengths[1]
    angle = math.acos(float(np.clip((one * two).sum(), -1, 1)))
    length = lengths[0] + share * (lengths[1] - lengths[0])
    if math.sin(angle) < 1e-6:
        return length * one
    return length * (math.sin((1 - share) * angle) * one + math.sin(share * angle) * two) / math.sin(angle)


def around_circle(first: Numbers, other: Numbers, share: float) -> Numbers:
    """Angles on the shorter way from one array of angles to another, in radians."""
    return first + share * ((other - first + math.pi) % (2 * math.pi) - math.pi)
