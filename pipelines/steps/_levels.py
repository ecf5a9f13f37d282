"""Measure the levels of an example's sounds and make fields of them, for `measure`, `filter` and `normalize`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tonemill.audiotools.editing.levels import Levels
    from tonemill.pipelines.recipes.example import Example

LEVEL_FIELDS: Final = ("loudness_lufs", "loudness_gated", "rms_db", "silence_share", "clipping_share", "dc_offset")
"""Names of the fields of a measured sound."""


def levels_of(example: Example, silence_db: float = -60.0, loudness: bool = False) -> dict[str, Levels]:
    """The levels of every role; each is read once.

    Raises:
        AudioError: roles: it has no sound; and whatever reading finds.
    """
    from tonemill.audiotools.editing.levels import measure
    from tonemill.audiotools.errors import AudioError

    if not example.sounds:
        raise AudioError("roles", "it has no sound to measure; `tonemill render RUN` makes sound from a seed")

    return {role: measure(sound, silence_db, loudness) for role, sound in example.sounds.items()}


def as_fields(
    example: Example, levels: Mapping[str, Levels], gain_db: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Measured levels as fields.

    Args:
        example: whose roles were measured.
        levels: by role.
        gain_db: by role: the gain that was applied after the measurement. With it, only levels are returned: silence,
            clipping and offset after a gain are unknown.
    """
    fields: dict[str, Any] = {}
    for role, one in levels.items():
        gain = (gain_db or {}).get(role, 0.0)
        found: dict[str, Any] = {"rms_db": _shifted(one.rms_db, gain)}
        if one.loudness:
            found |= {"loudness_lufs": _shifted(one.loudness.lufs, gain), "loudness_gated": one.loudness.gated}
        if gain_db is None:
            found |= {
                "silence_share": round(one.silence_share, 6),
                "clipping_share": round(one.clipping_share, 6),
                "dc_offset": round(one.dc_offset, 6),
            }
        fields |= {example.name_for(role, name): value for name, value in found.items()}
    return fields


def _shifted(db: float | None, gain_db: float) -> float | None:
    return None if db is None else round(db + gain_db, 3)
