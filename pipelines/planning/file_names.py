"""Name files after their sources, so that no name leaves the folder and no two are the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from tonemill.audiotools.codecs.encoding import CONTAINERS
from tonemill.audiotools.codecs.files import is_audio

LONGEST: Final = 180
"""Bytes of a folder's or file's name, which leaves room for a number, a role and a suffix within 255."""

# Of both sets of ASCII and Latin-1, what breaks lines, and what turns the direction of writing.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORBIDDEN: Final = re.compile(r'[<>:"|?*\\]')
"""What Windows and exFAT take in no name; folders of audio go from one system to another."""

_DEVICE: Final = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(?=\.|$)", re.IGNORECASE)
"""What is a device there, with any suffix."""

_ODD: Final = re.compile(
    "|".join(
        [
            _CONTROLS.pattern,
            _FORBIDDEN.pattern,
            r"(?:^|/)(?:[./]|$|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?=[./]|$))",
            r"[. ](?:/|$)",
        ]
    ),
    re.IGNORECASE,
)
"""In a path of ASCII that is no longer than a name may be: what `_safe` would change."""

_NUMBERED: Final = re.compile(r"(.*)-\d+", re.DOTALL)


def plain_name(path: str) -> str:
    """A path without suffix, fit for any folder; several may have it."""
    return _safe(os.path.splitext(path)[0] if is_audio(path) else path)  # noqa: PTH122


def file_names(paths: Mapping[str, str]) -> dict[str, str]:
    """For each key a path without suffix, fit for any folder and unlike every other, numbered clips included.

    Args:
        paths: of sources under their roots, by key. They may come from anyone's plan.

    Returns:
        `kicks/01` for `kicks/01.wav`; where two sources would share that, `kicks/01.wav` and `kicks/01.flac`; where
        they still would, as `A/01.wav` and `a/01.wav` on many disks, the names without suffix with their keys.
    """
    stems = {key: plain_name(path) for key, path in paths.items()}
    counts = Counter(name.casefold() for name in stems.values())
    names = {key: stem if counts[stem.casefold()] == 1 else _safe(paths[key]) for key, stem in stems.items()}
    counts = Counter(name.casefold() for name in names.values())
    folders = {str(parent).casefold() for name in names.values() for parent in PurePosixPath(name).parents}

    def is_taken(name: str) -> bool:
        folded = name.casefold()
        # `kick-0001` may be a source's own name or the second clip of `kick`; `kick.wav` a file or a folder.
        numbered = _NUMBERED.fullmatch(folded)
        return (
            counts[folded] > 1
            or (numbered is not None and numbered[1] in counts)
            or any(f"{folded}.{container}" in folders for container in CONTAINERS)
        )

    return {key: f"{stems[key]}~{key}" if is_taken(name) else name for key, name in names.items()}


def _safe(path: str) -> str:
    """A relative path that any system takes: no `..`, no control characters, no leading dots, no part too long."""
    if len(path) <= LONGEST and path.isascii() and not _ODD.search(path):
        return path
    parts = [_FORBIDDEN.sub("_", _CONTROLS.sub("_", part)) for part in path.split("/") if part not in ("", ".", "..")]
    kept = [_DEVICE.sub(r"\1_", part.lstrip(".").encode()[:LONGEST].decode(errors="ignore")) for part in parts]
    # A dot or a blank at the end is dropped there.
    return "/".join(re.sub(r"[. ]$", "_", part) or "_" for part in kept) or "_"
