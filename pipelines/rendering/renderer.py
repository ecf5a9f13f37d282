"""Render examples in one direction of a model: put the output in place of their sound, or beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32

from tonemill.audiotools.arrays import Array
from tonemill.audiotools.waveform import Flow, Sound, Waveform
from tonemill.models.contract import Model, Request
from tonemill.models.directions import AUDIO, FIELDS, Direction
from tonemill.models.players import played
from tonemill.pipelines import config
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.rendering.playback import played_frames, streamed, together
from tonemill.pipelines.rendering.render import at_rate, describe, render
from tonemill.pipelines.runs.directions import chosen

FRAMES: Final = 64
"""Of an array that are rendered at a time, where the direction streams."""


@dataclass(frozen=True)
class Renderer:
    """One direction of a model, with its options.

    Args:
        model: in eval mode, on its device.
        device: of the model.
        name: of the direction; empty for the first.
        options: of the direction, by name.
        fields: that take the place of an example's own.
        batch_size: requests rendered at once.
        streams: render block by block.
        run: what the output is noted to come from, as `ears@0123456789abcdef`.
        keep_audio: an array that comes out stands beside the sound, and not in its place.
    """

    model: Model
    device: torch.device
    name: str
    options: Mapping[str, Any]
    fields: Mapping[str, Any]
    batch_size: int
    streams: bool
    run: str
    keep_audio: bool = False

    def render(self, examples: Sequence[Example], whole: bool) -> list[Example]:
        """Render each example.

        Args:
            examples: that the direction can render.
            whole: where it streams, play them side by side, each whole in memory.
        """
        if self._direction.gives == FIELDS:
            return self._described(examples)
        if self.streams and not whole:
            return [self._streamed(example) for example in examples]
        if self.streams:
            requests = [self._request(example, {}, {}) for example in examples]
            outputs = together(
                self.model, requests, [example.sounds[example.main_role or AUDIO] for example in examples]
            )
            return [self._with_sound(example, output) for example, output in zip(examples, outputs, strict=True)]
        requests = [self._request(example, self._audio(example), self._arrays(example)) for example in examples]
        rendered = render(self.model, requests, self.batch_size, self.device)
        return [self._with_output(example, output) for example, output in zip(examples, rendered, strict=True)]

    @property
    def _direction(self) -> Direction:
        return chosen(self.model.directions(self.model.config), self.name, type(self.model).__name__)

    def _described(self, examples: Sequence[Example]) -> list[Example]:
        """The same sounds, with the fields that the model gives, and which model that was."""
        requests = [self._request(example, self._audio(example), self._arrays(example)) for example in examples]
        described = describe(self.model, requests, self.batch_size, self.device)
        return [
            example.with_fields({"judge": self.run, **fields})
            for example, fields in zip(examples, described, strict=True)
        ]

    def _streamed(self, example: Example) -> Example:
        """The example with the model's output, block by block; a Flow of a Flow, of an array or of a seed."""
        request, array = self._request(example, {}, {}), self._direction.needs_array
        hop = self._direction.hop
        if self._direction.from_seeds and self._direction.gives_array:
            return self._with_output(example, np.concatenate(list(self.model.stream(request)), axis=1))
        if self._direction.from_seeds:
            flow = Flow(lambda: self.model.stream(request), self.model.sample_rate, self.model.channels)
            return self._with_sound(example, flow)
        if self._direction.gives_array:
            frames = played_frames(self.model, request, example.sounds[example.main_role or AUDIO], hop)
            return self._with_output(example, frames)
        if array is None:
            sound = example.sounds[example.main_role or AUDIO]
            return self._with_sound(example, streamed(self.model, request, sound, self._direction.batched))
        values = example.arrays[array].values

        def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
            parts = (values[:, first : first + FRAMES] for first in range(0, values.shape[1], FRAMES))
            yield from played(self.model.player(request, values.shape[0]), parts, hop)

        flow = Flow(blocks, self.model.sample_rate, self.model.channels)
        brief = values.shape[1] * hop <= self._direction.batched
        return self._with_sound(example, flow.whole() if brief else flow)

    def _request(self, example: Example, audio: Mapping[str, Any], arrays: Mapping[str, Any]) -> Request:
        options: Any = config.build(self._direction.options, self.options, "render")
        fields = {**example.fields, **self._given()}
        return Request(example.fields.get("seed", 0), fields, audio, arrays, self.name, options)

    def _given(self) -> dict[str, Any]:
        """The fields that were set, numbers as they are in a corpus."""
        numbers = {name for name, about in self._direction.fields.items() if about.low is not None}
        return {name: float(value) if name in numbers else value for name, value in self.fields.items()}

    def _audio(self, example: Example) -> dict[str, Any]:
        """The sound that a whole render reads, at the model's rate."""
        role = example.main_role if AUDIO in self._direction.needs else None
        return {} if role is None else {AUDIO: at_rate(example.sounds[role].whole(), self.model.sample_rate).samples}

    def _arrays(self, example: Example) -> dict[str, Any]:
        name = self._direction.needs_array
        return {} if name is None else {name: example.arrays[name].values}

    def _with_output(self, example: Example, output: np.ndarray) -> Example:
        """The example with audio, or with an array that notes which model encoded it."""
        if not self._direction.gives_array:
            return self._with_sound(example, Waveform(output, self.model.sample_rate))
        array = Array(np.ascontiguousarray(output), self.model.sample_rate, self._direction.hop or None)
        arrays = {**(example.arrays if self.keep_audio else {}), self._direction.gives: array}
        return example.with_arrays(arrays, self.keep_audio).with_fields({**self._given(), "encoded_by": self.run})

    def _with_sound(self, example: Example, after: Sound) -> Example:
        """The example with the model's output in place of its audio, and how that was made."""
        fields = self._given()
        role = example.main_role if AUDIO in self._direction.needs else None
        before = example.sounds[role].sample_rate if role is not None else after.sample_rate
        if before != after.sample_rate:
            fields["sample_rate_from"] = example.fields.get("sample_rate_from", before)
        fields |= self._direction.states
        return example.with_sounds({AUDIO: after}, bits=max(16, example.bits)).with_fields(fields)
