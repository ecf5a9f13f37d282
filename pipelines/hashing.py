"""A number that a text decides, the same on any machine: for seeds, places and orders that no run may change."""

from __future__ import annotations

import hashlib


def number_of(text: str, size: int = 8) -> int:
    """The first bytes of the SHA-256 of a text, the highest first.

    Args:
        text: names of files in it may hold bytes that are no UTF-8, as Python's surrogates.
        size: bytes, so that the number is below 256 ** size.
    """
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:size], "big")
