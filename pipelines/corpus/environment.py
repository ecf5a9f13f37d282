"""Versions that decide the bytes of stored audio beside the plan."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from functools import cache
from typing import Final

ALWAYS: Final = ("tonemill", "numpy", "soundfile", "soxr", "resampy")
"""Packages whose versions stand in every sidecar; those that a step names in its `packages` stand beside them."""


def environment(packages: Collection[str] = ()) -> dict[str, str]:
    """What decides the bytes beside the plan: versions of what decodes, converts and encodes, and the processor.

    Args:
        packages: that the steps of a shard use beside those of all; one that is not installed is left out.
    """
    return dict(_environment(tuple(sorted(packages))))


@cache
def _environment(packages: tuple[str, ...]) -> dict[str, str]:
    import soundfile

    versions = {name: _version(name) for name in (*ALWAYS, *packages)}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libsndfile": soundfile.__libsndfile_version__,
        **{name: version for name, version in versions.items() if version},
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def beside(environments: Collection[Mapping[str, str]]) -> set[str]:
    """Packages that some of these environments name beside those of all."""
    known = environment().keys()
    return {name for one in environments for name in one if name not in known}


def other_versions(then: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs between two environments, as `numpy 2.1.0 (here 2.2.6)`.

    What only one of them names is no difference: sidecars of before name torch also where nothing was rendered.

    Args:
        then: of a sidecar.
        here: of this machine, with the packages that the shard uses.
    """
    names = [name for name in then if name in here and then[name] != here[name]]
    return [f"{name} {then[name]} (here {here[name]})" for name in names]
