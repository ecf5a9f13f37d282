"""Convert sounds to another layout, and note large losses of a mix to mono, for `channels` and `resample`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tonemill.audiotools.waveform import Sound
    from tonemill.pipelines.recipes.example import Example

LOSS: Final = "mix_db"
"""The field that states the level of a mono mix, in dB of its loudest channel."""

MUCH_DB: Final = -5.0
"""Unrelated channels of one level lose 3 dB, and that is no loss; a silent one of two costs 6."""


def converted(example: Example, convert: Callable[[Sound, Callable[[float], None]], Sound]) -> Example:
    """The example with each of its sounds converted.

    Where a mix lost more than `MUCH_DB`, `mix_db` states it: in the fields of a clip, and in the notes of what flows.

    Args:
        example: any.
        convert: makes the other sound, and calls the function that it gets with the loss of a mix in dB.
    """
    from tonemill.audiotools.waveform import Flow

    sounds: dict[str, Sound] = {}
    fields: dict[str, Any] = {}
    for role, sound in example.sounds.items():
        known = example.notes if isinstance(sound, Flow) else fields
        name = example.name_for(role, LOSS)

        def note(loss_db: float, known: dict[str, Any] = known, name: str = name) -> None:
            if loss_db < MUCH_DB:
                known[name] = round(loss_db, 1)

        sounds[role] = convert(sound, note)
    return example.converted(sounds).with_fields(fields)
