"""Versions that decide the bytes of stored audio beside the plan."""

from __future__ import annotations

import platform
from functools import cache


@cache
def environment() -> dict[str, str]:
    """What decides the bytes beside the plan: versions of what decodes, converts and encodes, and the processor."""
    from importlib.metadata import version

    import soundfile

    packages = ("tonemill", "numpy", "soundfile", "soxr", "resampy", "torch")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libsndfile": soundfile.__libsndfile_version__,
        **{name: version(name) for name in packages},
    }
