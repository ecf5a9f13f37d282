"""An example: waveforms by role and what is known about them, as it passes from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from tonemill.audiotools.arrays import Array, in_words
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Sound, Waveform
from tonemill.pipelines.recipes.recipe import PLAIN_NAME

MEASURED: Final = (
    *("loudness_lufs", "loudness_gated", "rms_db", "silence_share", "clipping_share", "dc_offset"),
    *("judge", "predicted", "predicted_confidence", "probabilities", "embedding"),
)
"""Fields that tell of a sound as it was when it was measured, alone or after the name of a role."""


@dataclass(frozen=True)
class Example:
    """One record on its way through the steps.

    Args:
        sounds: by role; a Flow until a step cuts it.
        fields: metadata; a step may add to it.
        bits: per sample, enough to keep what the source holds.
        start_seconds: where it starts in its source.
        is_clip: a step cut it out of its source, so a reject concerns this clip and not the source.
        path: of its source, under the root that was scanned.
        places: the source's files by role, for steps that read tags; never stored.
        arrays: by name, of the sounds as they are, or in place of them.
        notes: what a step finds while its sounds flow, and can state only once they were read; the index takes it.
    """

    sounds: Mapping[str, Sound]
    fields: Mapping[str, Any] = field(default_factory=dict)
    bits: int = 16
    start_seconds: float = 0.0
    is_clip: bool = False
    path: str = ""
    places: Mapping[str, Path] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def sample_rate(self) -> int:
        """The common sample rate, in hertz, of all roles and arrays.

        Raises:
            AudioError: roles: they differ, or there are none.
        """
        rates = {sound.sample_rate for sound in self.sounds.values()}
        rates |= {array.sample_rate for array in self.arrays.values()}
        if len(rates) != 1:
            raise AudioError("roles", f"its roles have {' and '.join(map(str, sorted(rates))) or 'no'} Hz")
        return rates.pop()

    @property
    def main_role(self) -> str | None:
        """The role that a model renders from: audio, else dry; None where there is neither."""
        return next((role for role in ("audio", "dry") if role in self.sounds), None)

    def with_sounds(self, sounds: Mapping[str, Sound], **changes: Any) -> Example:
        """The same record with other sounds, without the fields that were measured on the old sounds.

        The old arrays are dropped too, unless `changes` has new ones.
        """
        fields = changes.pop("fields", self.fields)
        stale = {name for what in MEASURED for name in (what, *(f"{role}_{what}" for role in self.sounds))}
        kept = {
            name: value
            for name, value in fields.items()
            if name not in stale or (name, value) not in self.fields.items()
        }
        return replace(self, sounds=sounds, fields=kept, **{"arrays": {}, **changes})

    def with_arrays(self, arrays: Mapping[str, Array], keep_sounds: bool) -> Example:
        """The same record with more arrays, beside its sounds or in place of them.

        Args:
            arrays: by name; one that is there already is replaced.
            keep_sounds: the sounds stay.

        Raises:
            AudioError: roles: a name is no plain one, as latents, or it is that of a role.
        """
        for name in arrays:
            if not PLAIN_NAME.fullmatch(name) or name in self.sounds:
                raise AudioError(
                    "roles", f"an array cannot be named {name!r}; a name is plain, as latents, and no role's"
                )
        return replace(self, sounds=self.sounds if keep_sounds else {}, arrays={**self.arrays, **arrays})

    @property
    def samples(self) -> int | None:
        """Length of its arrays in samples, for an example without sounds; None if no array has a hop."""
        return min((one.samples for one in self.arrays.values() if one.samples is not None), default=None)

    @property
    def holds(self) -> str:
        """Its roles and arrays in words."""
        return in_words(self.sounds, self.arrays, "no sound")

    def converted(self, sounds: Mapping[str, Sound], **changes: Any) -> Example:
        """The same record with sounds of other channels, or another rate, and fields that say what was there before."""
        before: dict[str, Any] = {}
        for role, sound in self.sounds.items():
            if sounds[role].channels != sound.channels:
                before[self.name_for(role, "channels_from")] = sound.channels
            if sounds[role].sample_rate != sound.sample_rate:
                before[self.name_for(role, "sample_rate_from")] = sound.sample_rate
        # The first change recorded the source's value; later ones keep it.
        return self.with_sounds(sounds, **changes).with_fields(
            {name: self.fields.get(name, value) for name, value in before.items()}
        )

    def with_fields(self, fields: Mapping[str, Any]) -> Example:
        """The same record with more fields."""
        return replace(self, fields={**self.fields, **fields})

    def name_for(self, role: str, name: str) -> str:
        """The field name for one role: `name` if there is only one role, else with the role in front: `wet_rms_db`."""
        return name if len(self.sounds) == 1 else f"{role}_{name}"

    def waveforms(self) -> dict[str, Waveform]:
        """Every role, read whole."""
        return {role: sound.whole() for role, sound in self.sounds.items()}


class Refusal(NamedTuple):
    """A clip that a step cut and then refused: it goes no further, and the other clips of its source do."""

    example: Example
    error: AudioError
