"""Render examples in one direction of a model: put the output in place of their sound, or fields beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tonemill.audiotools.waveform import Sound, Waveform
from tonemill.models.contract import Model, Request
from tonemill.models.directions import AUDIO, FIELDS, Direction
from tonemill.pipelines import config
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.rendering.playback import streamed, together
from tonemill.pipelines.rendering.render import at_rate, describe, render
from tonemill.pipelines.runs.directions import chosen


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
        judge: what fields are noted under, as `ears@0123456789abcdef`.
    """

    model: Model
    device: torch.device
    name: str
    options: Mapping[str, Any]
    fields: Mapping[str, Any]
    batch_size: int
    judge: str

    def render(self, examples: Sequence[Example], whole: bool) -> list[Example]:
        """Render each example.

        Args:
            examples: that the direction can render.
            whole: a direction that streams plays them side by side, each whole in memory.
        """
        if self._direction.gives == FIELDS:
            return self._described(examples)
        if self._direction.streams:
            return self._played(examples, whole)
        requests = [self._request(example, self._audio(example)) for example in examples]
        outputs = render(self.model, requests, self.batch_size, self.device)
        return [self._with_output(example, output) for example, output in zip(examples, outputs, strict=True)]

    @property
    def _direction(self) -> Direction:
        return chosen(self.model.directions(self.model.config), self.name, type(self.model).__name__)

    def _described(self, examples: Sequence[Example]) -> list[Example]:
        """The same sounds, with the fields that the model gives, and which model that was."""
        requests = [self._request(example, self._audio(example)) for example in examples]
        described = describe(self.model, requests, self.batch_size, self.device)
        return [
            example.with_fields({"judge": self.judge, **fields})
            for example, fields in zip(examples, described, strict=True)
        ]

    def _played(self, examples: Sequence[Example], whole: bool) -> list[Example]:
        """Each example with the model's output; a Flow stays one, unless several are played at once."""
        requests = [self._request(example, {}) for example in examples]
        inputs = [example.sounds[example.main_role or AUDIO] for example in examples]
        outputs: list[Sound]
        if whole:
            outputs = list(together(self.model, requests, inputs))
        else:
            outputs = [streamed(self.model, request, sound) for request, sound in zip(requests, inputs, strict=True)]
        return [self._with_sound(example, output) for example, output in zip(examples, outputs, strict=True)]

    def _request(self, example: Example, audio: Mapping[str, Any]) -> Request:
        options: Any = config.build(self._direction.options, self.options, "render")
        fields = {**example.fields, **self._given()}
        return Request(example.fields.get("seed", 0), fields, audio, self.name, options)

    def _given(self) -> dict[str, Any]:
        """The fields that were set, numbers as they are in a corpus."""
        numbers = {name for name, about in self._direction.fields.items() if about.low is not None}
        return {name: float(value) if name in numbers else value for name, value in self.fields.items()}

    def _audio(self, example: Example) -> dict[str, Any]:
        """The sound that a whole render reads, at the model's rate."""
        role = example.main_role if AUDIO in self._direction.needs else None
        return {} if role is None else {AUDIO: at_rate(example.sounds[role].whole(), self.model.sample_rate).samples}

    def _with_output(self, example: Example, output: np.ndarray) -> Example:
        return self._with_sound(example, Waveform(output, self.model.sample_rate))

    def _with_sound(self, example: Example, after: Sound) -> Example:
        """The example with the model's output in place of its audio, and how that was made."""
        fields = self._given()
        role = example.main_role if AUDIO in self._direction.needs else None
        before = example.sounds[role].sample_rate if role is not None else after.sample_rate
        if before != after.sample_rate:
            fields["sample_rate_from"] = example.fields.get("sample_rate_from", before)
        return example.with_sounds({AUDIO: after}, bits=max(16, example.bits)).with_fields(fields)
