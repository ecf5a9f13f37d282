"""An example: waveforms by role and what is known about them, as it passes from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Sound, Waveform


@dataclass(frozen=True)
class Example:
    """One record on its way through the steps.

    Args:
        sounds: by role; a Flow until a step cuts it.
        fields: metadata; a step may add to it.
        bits: per sample, enough to keep what the source holds.
        start_seconds: where it starts in its source.
        is_clip: a step cut it out of its source, so what befalls it does not befall the source.
    """

    sounds: Mapping[str, Sound]
    fields: Mapping[str, Any] = field(default_factory=dict)
    bits: int = 16
    start_seconds: float = 0.0
    is_clip: bool = False

    @property
    def sample_rate(self) -> int:
        """Of all roles.

        Raises:
            AudioError: roles: they differ, or there are none.
        """
        rates = {sound.sample_rate for sound in self.sounds.values()}
        if len(rates) != 1:
            raise AudioError("roles", f"its roles have {' and '.join(map(str, sorted(rates))) or 'no'} Hz")
        return rates.pop()

    def with_sounds(self, sounds: Mapping[str, Sound], **changes: Any) -> Example:
        return replace(self, sounds=sounds, **changes)

    def waveforms(self) -> dict[str, Waveform]:
        """Every role, read whole."""
        return {role: sound.whole() for role, sound in self.sounds.items()}
