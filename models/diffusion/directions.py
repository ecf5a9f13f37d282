"""The ways in which a diffusion model renders, by its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tonemill.models.diffusion.conditioning import condition_fields
from tonemill.models.diffusion.options import (
    Continuing,
    Decoding,
    Generating,
    Inpainting,
    Looping,
    Reading,
    Resembling,
    Varying,
)
from tonemill.models.diffusion.settings import DiffusionConfig, LatentConfig
from tonemill.models.diffusion.windows import WHOLE_SECONDS
from tonemill.models.directions import SEED, Direction

MENDING: Final = ("inpaint", "continue")
"""Directions that leave a part of the sound as it is."""


def directions_of(config: DiffusionConfig) -> Mapping[str, Direction]:
    """The directions of a settled config; the first is the default."""
    fields = condition_fields(config)
    sound = config.channels or 0
    reading: dict[str, Any] = {"options": Reading, "fields": fields}
    long = _long(config)
    if config.task == "upsample":
        return {"render": Direction("The upper bands of a sound, added to it.", channels=sound, **reading)}
    if isinstance(config, LatentConfig):
        size: dict[str, Any] = {"fields": fields, "samples": config.length}
        if config.codec is not None:
            return {"render": Direction("Clips from seeds.", (SEED,), options=Generating, **size, **_long(config))}
        more: dict[str, Any] = {"hop": config.hop, "rows": config.rows}
        return {"render": Direction("Latents from seeds.", (SEED,), config.code, Generating, **size, **more)}
    if config.array is not None:
        name, about, hop, rows = config.array
        array: dict[str, Any] = {"hop": hop, "rows": rows}
        decoding = {**reading, "options": Decoding if config.states_levels else Reading}
        return {
            "render": Direction(f"Audio to {about} and back.", channels=sound, **decoding, **long),
            "encode": Direction(f"The array {name} of audio: {about}.", gives=name, channels=sound, **array, **long),
            "decode": Direction(
                f"Audio of {about}, the array {name}.",
                (name,),
                learned=config.task == "autoencode",
                **decoding,
                **array,
                **long,
            ),
        }
    return {
        "render": _making(config, fields),
        "vary": Direction("Another sound like this one.", options=Varying, fields=fields, channels=sound, **long),
        "inpaint": Direction(
            "The sound, in which all but the ranges of --keep is generated again.",
            options=Inpainting,
            fields=fields,
            channels=sound,
        ),
        "continue": Direction(
            "The sound, and a generated continuation of it.", options=Continuing, fields=fields, channels=sound
        ),
    }


def _making(config: DiffusionConfig, fields: Mapping[str, Any]) -> Direction:
    """From seeds, or from the arrays that clips are made for."""
    about: dict[str, Any] = {"fields": fields, "samples": config.length}
    if config.embedding is None:
        return Direction("Clips from seeds.", (SEED,), options=Looping, **about, **_long(config))
    return Direction(
        f"Clips for the array {config.embedding} of examples.",
        (config.embedding,),
        options=Resembling,
        hop=config.embedding_hop or 0,
        rows=config.embedding_rows or 0,
        **about,
    )


def _long(config: DiffusionConfig) -> dict[str, Any]:
    """What is longer than that streams."""
    return {"streams": True, "batched": int(WHOLE_SECONDS * (config.sample_rate or 1))}
