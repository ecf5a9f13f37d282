"""What training, rendering and a model hand each other: facts of a corpus, batches, requests, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.directions import ParentFacts


class Range(NamedTuple):
    """What a numeric metadata field holds.

    Args:
        low: the least value.
        high: the largest one.
        missing: examples that have none.
    """

    low: float
    high: float
    missing: int


@dataclass(frozen=True)
class CorpusFacts:
    """What a corpus tells a model before the first step.

    Args:
        name: the corpus as the person named it, for messages.
        roles: the waveforms of each example, as `("audio",)` or `("dry", "wet")`.
        sample_rate: in hertz, the same for all examples.
        channels: the same for all examples.
        values: for each metadata field that is text or a whole number, its distinct values, sorted.
        given: for each numeric metadata field that came with the sources, from a name or a table, and was not measured
            by a step, what it holds.
        parents: the runs that the model leans on, by the setting that names each.
    """

    name: str
    roles: tuple[str, ...]
    sample_rate: int
    channels: int
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: Mapping[str, Range] = field(default_factory=dict)
    parents: Mapping[str, ParentFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Examples stacked for one training step.

    Args:
        audio: for each role, (batch, channels, time), float32.
        fields: for each metadata field, one value per example.
    """

    audio: Mapping[str, Tensor]
    fields: Mapping[str, list[Any]]

    def to(self, device: torch.device) -> Batch:
        return Batch({role: x.to(device, non_blocking=True) for role, x in self.audio.items()}, self.fields)

    def pin_memory(self) -> Batch:
        """The same in pinned memory, from which `to` copies while the device computes; a `DataLoader` asks for it."""
        return Batch({role: x.pin_memory() for role, x in self.audio.items()}, self.fields)


@dataclass(frozen=True)
class Request:
    """One example to render.

    Args:
        seed: decides everything random about it.
        fields: its metadata, as `{"label": "3"}`.
        audio: its waveforms by role, (channels, time); empty where a direction needs none.
        direction: in which the model renders; empty for its first.
        options: of the direction, an object of its dataclass.
    """

    seed: int
    fields: Mapping[str, Any]
    audio: Mapping[str, Float[np.ndarray, "channels time"]]
    direction: str = ""
    options: Any = None


@dataclass(frozen=True)
class Validation:
    """What a model did with held-out examples.

    Args:
        score: by which the best checkpoint is chosen, the smaller the better.
        values: by name, for `metrics.jsonl`.
        files: content by file name, as pictures, tables and clips that a person looks at.
    """

    score: float
    values: Mapping[str, float]
    files: Mapping[str, bytes] = field(default_factory=dict)
