"""Versions that decide the bytes of stored audio beside the plan."""

from __future__ import annotations

import platform
from collections.abc import Mapping
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


def other_versions(then: Mapping[str, str], here: Mapping[str, str] | None = None) -> list[str]:
    """What differs between two environments, as `numpy 2.1.0 (here 2.2.6)`; `here` is this machine's by default."""
    here = environment() if here is None else here
    names = [name for name in then if then[name] != here.get(name)]
    return [f"{name} {then[name]} (here {here.get(name)})" for name in names]
