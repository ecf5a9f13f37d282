"""Parse arguments of the form NAME=VALUE."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.config import field_value


def assignments(texts: Collection[str], flag: str) -> dict[str, Any]:
    """The values by name; a value that is a number becomes one.

    Raises:
        UsageError: one has no name or no `=`.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{flag} is {text!r}; it must be NAME=VALUE, as in {flag} label=3.")
        values[name] = field_value(value)
    return values
