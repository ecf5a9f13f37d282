"""Refuse settings below their bounds, in words that name the flag."""

from __future__ import annotations

from tonemill.audiotools.errors import UsageError


def require_least(settings: object, **least: int) -> None:
    """Hold settings against the least that each may be; one that is None is left to its default.

    Raises:
        UsageError: names the flag and the bound.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and value < bound:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be at least {bound}.")
