"""Settings of a RAVE that is small enough for quick tests."""

from __future__ import annotations

from typing import Any, Final

TINY: Final[dict[str, Any]] = {
    "latent_dim": 4,
    "capacity": 4,
    "filter_taps": 8,
    "attenuation_db": 40.0,
    "scales": (256, 64),
    "length": 4096,
    "sample_rate": 16000,
}
