"""Play audio through a model that renders from audio: as streams that need not fit in memory, or many files at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.editing.resampling import resample, resample_blocks
from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.audiotools.waveform import Flow, Sound, Waveform
from tonemill.pipelines.recipes.example import Example

if TYPE_CHECKING:
    from tonemill.models.contract import Model, Request
    from tonemill.pipelines.runs.run import Run
    from tonemill.pipelines.steps.render import Render


def assigned(texts: Sequence[str]) -> dict[str, float]:
    """Read `NAME=NUMBER`s.

    Raises:
        UsageError: one is something else.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--set is {text!r}; it must be NAME=NUMBER, as in --set drive=0.7.") from None
    return found


def refuse_settings(settings: Mapping[str, float], run: Run) -> None:
    """Refuse knobs that a run's model does not have, or was never taught so far.

    Raises:
        UsageError: names them, and the range that was learned.
    """
    about = run.model_config
    ranges = {
        name: (low, high)
        for name, low, high in zip(
            about.get("knobs", ()), about.get("knob_low", ()), about.get("knob_high", ()), strict=True
        )
    }
    for name, value in settings.items():
        if name not in ranges:
            there = f"it has {', '.join(ranges)}" if ranges else "it has none"
            raise UsageError(f"{run.folder} has no knob {name!r}; {there}.")
        low, high = ranges[name]
        if not low <= value <= high:
            raise UsageError(f"--set {name}={value:g}: {run.folder} was taught {name} from {low:g} to {high:g}.")


def check(step: Render, example: Example) -> None:
    """Refuse an example that cannot be played.

    Raises:
        AudioError: roles: there is no audio, or its rate is refused; condition: a knob is nowhere said.
    """
    sound = _heard(example)
    if sound.sample_rate != step.sample_rate and step.other_rate == "refuse":
        raise AudioError(
            "roles",
            f"{step.run} plays {step.sample_rate} Hz, not {sound.sample_rate} Hz; use "
            f"`tonemill resample --rate {step.sample_rate}`, or --other-rate resample",
        )
    given = {**example.fields, **assigned(step.set)}
    missing = [
        name for name in step.knobs if isinstance(given.get(name), bool) or not isinstance(given.get(name), int | float)
    ]
    if missing:
        flags = " ".join(f"--set {name}=NUMBER" for name in missing)
        raise AudioError(
            "condition", f"{step.run} needs to know where {' and '.join(missing)} stood; render with {flags}"
        )


def play(step: Render, examples: Sequence[Example]) -> list[Example]:
    """What the model makes of each example; as a Flow if it was one, and if it is not played beside others."""
    from tonemill.models.contract import Request
    from tonemill.pipelines.rendering.render import loaded_for

    # Each sample waits for the one before: a processor is the right device for that.
    model, _ = loaded_for(step.run_uri, step.trained_steps, step.sha256, "cpu")
    requests = [Request(0, {**one.fields, **assigned(step.set)}, {}) for one in examples]
    sounds = [_heard(example) for example in examples]
    if step.lockstep > 1 or step.segments > 1:
        said: list[Sound] = list(_together(step, model, requests, sounds))
    else:
        said = [_streamed(model, request, sound, step.block) for request, sound in zip(requests, sounds, strict=True)]
    return [_told(example, sound, step) for example, sound in zip(examples, said, strict=True)]


def _heard(example: Example) -> Sound:
    for role in ("audio", "dry"):
        if role in example.sounds:
            return example.sounds[role]
    raise AudioError("roles", f"it has {' and '.join(example.sounds) or 'no sound'} and no audio to play")


def _streamed(model: Model, request: Request, sound: Sound, size: int) -> Sound:
    """Each channel through a player of its own, which every reading starts anew."""

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        players = [model.player(request) for _ in range(sound.channels)]
        for block in resample_blocks(sound.blocks(), sound.sample_rate, model.sample_rate):
            for first in range(0, block.shape[1], size):
                rows = [np.ascontiguousarray(row) for row in block[:, first : first + size]]
                yield np.stack([player.push(row) for player, row in zip(players, rows, strict=True)])

    flow = Flow(blocks, model.sample_rate, sound.channels)
    return flow.whole() if isinstance(sound, Waveform) else flow


def _together(step: Render, model: Model, requests: Sequence[Request], sounds: Sequence[Sound]) -> list[Waveform]:
    from dataclasses import replace

    whole = [resample(sound.whole().samples, sound.sample_rate, model.sample_rate) for sound in sounds]
    asked = [replace(request, audio={"audio": samples}) for request, samples in zip(requests, whole, strict=True)]
    return [Waveform(said, model.sample_rate) for said in model.play_together(asked, step.lockstep, step.segments)]


def _told(example: Example, sound: Sound, step: Render) -> Example:
    """The example with its new sound, and what was done to it."""
    settings: dict[str, Any] = dict(assigned(step.set))
    before = _heard(example).sample_rate
    if before != sound.sample_rate:
        settings["sample_rate_from"] = example.fields.get("sample_rate_from", before)
    return example.with_sounds({"audio": sound}, bits=max(16, example.bits)).with_fields(settings)
