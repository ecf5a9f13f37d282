"""Types that training, rendering and models exchange: facts of a corpus, batches, requests, validations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tonemill.audiotools.arrays import in_words
from tonemill.models.directions import ParentFacts


class Range(NamedTuple):
    """The values of a numeric metadata field over a corpus.

    Args:
        low: the least value.
        high: the largest one.
        missing: examples that have none.
    """

    low: float
    high: float
    missing: int


class ArrayFacts(NamedTuple):
    """Properties common to all arrays of one name.

    Args:
        channels: of each.
        hop: samples of audio per frame; None where frames are no instants of it.
    """

    channels: int
    hop: int | None


@dataclass(frozen=True)
class CorpusFacts:
    """Facts of a corpus that `Model.settle` reads before the first step.

    Args:
        name: the corpus as the person named it, for messages.
        roles: the waveforms of each example, as `("audio",)` or `("dry", "wet")`; none where arrays stand in for them.
        sample_rate: in hertz, the same for all examples; of arrays alone that of the audio that they belong to.
        channels: of the waveforms, the same for all examples; 0 where there are none.
        values: for each metadata field that is text or a whole number, its distinct values, sorted.
        given: the values of each numeric metadata field that came with the sources, from a name or a table, and was not
            measured by a step.
        arrays: those that every example has, by name.
        parents: the runs that the model uses, by the setting that names each.
        texts: for each metadata field of text, how many examples have none.
        examples: how many there are.
        numbers: as `given`, for every numeric metadata field.
        spelt: for each metadata field of text whose every value writes a number, as `1.50`, the values.
    """

    name: str
    roles: tuple[str, ...]
    sample_rate: int
    channels: int
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: Mapping[str, Range] = field(default_factory=dict)
    arrays: Mapping[str, ArrayFacts] = field(default_factory=dict)
    parents: Mapping[str, ParentFacts] = field(default_factory=dict)
    texts: Mapping[str, int] = field(default_factory=dict)
    examples: int = 0
    numbers: Mapping[str, Range] = field(default_factory=dict)
    spelt: Mapping[str, Range] = field(default_factory=dict)

    @property
    def holds(self) -> str:
        """The waveforms or arrays of an example, in words."""
        return in_words(self.roles, self.arrays)


@dataclass(frozen=True)
class Batch:
    """Examples stacked for one training step.

    Args:
        audio: for each role, (batch, channels, time), float32.
        fields: for each metadata field, one value per example.
        arrays: for each array, (batch, channels, frames), float32; they start at the same instants as the audio.
        first: the place of its first example in the step's whole batch.
        whole: examples of the step's whole batch; None where this is all of it.
    """

    audio: Mapping[str, Tensor]
    fields: Mapping[str, list[Any]]
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    first: int = 0
    whole: int | None = None

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda x: x.to(device, non_blocking=True))

    def copy(self) -> Batch:
        """A batch in memory of its own."""
        return self._each(torch.clone)

    def pin_memory(self) -> Batch:
        """A copy in pinned memory, from which `to` copies while the device computes; a `DataLoader` calls it."""
        return self._each(lambda x: x.pin_memory())

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """The batch whose consecutive parts these are."""
        audio = {name: torch.cat([one.audio[name] for one in parts]) for name in parts[0].audio}
        fields = {name: [value for one in parts for value in one.fields[name]] for name in parts[0].fields}
        arrays = {name: torch.cat([one.arrays[name] for one in parts]) for name in parts[0].arrays}
        return cls(audio, fields, arrays, parts[0].first, parts[0].whole)

    @property
    def device(self) -> torch.device:
        return next(iter({**self.audio, **self.arrays}.values())).device

    def __len__(self) -> int:
        """Examples in it."""
        return len(next(iter({**self.audio, **self.arrays}.values())))

    def split(self, parts: int) -> list[Batch]:
        """Equal parts of it, in order; their number divides its examples."""
        size = len(self) // parts
        return [self._part(number * size, size) for number in range(parts)]

    def draw(self, draw: Callable[..., Tensor], *shape: int) -> Tensor:
        """Random numbers for its examples: drawn for the whole batch of the step, of which its own are returned.

        So a batch that is split over parts or processes gets the numbers that it gets in one piece.

        Args:
            draw: as `torch.rand` or `torch.randn`.
            shape: of one example's numbers.

        Returns:
            numbers (examples, *shape) on the batch's device.
        """
        drawn = draw(self.whole or len(self), *shape, device=self.device)
        return drawn[self.first : self.first + len(self)]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        audio, arrays = ({name: change(x) for name, x in one.items()} for one in (self.audio, self.arrays))
        return replace(self, audio=audio, arrays=arrays)

    def _part(self, start: int, size: int) -> Batch:
        part = slice(start, start + size)
        audio, arrays = ({name: x[part] for name, x in one.items()} for one in (self.audio, self.arrays))
        fields = {name: values[part] for name, values in self.fields.items()}
        return Batch(audio, fields, arrays, self.first + start, self.whole or len(self))


@runtime_checkable
class Update(Protocol):
    """One optimizer update, given by the training loop: backward, step, and gradients back to zero."""

    def __call__(self, optimizer: str, loss: Tensor) -> None: ...


@runtime_checkable
class UpdateAtOnce(Protocol):
    """One optimizer update of several models that share no weights: one backward, and each one's step."""

    def __call__(self, optimizer: str, losses: Sequence[Tensor]) -> None: ...


@runtime_checkable
class TrainsAtOnce(Protocol):
    """The class of a model, several of which can learn at once where that is faster than one after another."""

    @classmethod
    def trains_at_once(cls, config: Any) -> bool:
        """Whether models of a settled config can."""
        ...

    @classmethod
    def training_steps(
        cls, models: Sequence[Any], batches: Sequence[Batch], step: int, update: UpdateAtOnce
    ) -> list[dict[str, Tensor]]:
        """Learn from one batch each: each model what `training_step` alone would teach it.

        Args:
            models: of this class and of one shape.
            batches: of each model, of the same size, on the models' device.
            step: of all, counted from 1. Torch's generator is seeded once, for each model draws the same numbers.
            update: of all of them.

        Returns:
            the named losses of each model, scalars without gradients.

        Raises:
            UsageError: their shapes differ.
        """
        ...


class Measured(NamedTuple):
    """A candidate after its share of the time.

    Args:
        score: of its best checkpoint, the smaller the better.
        figures: of `search_figures`.
    """

    score: float
    figures: Mapping[str, float]


@runtime_checkable
class Paced(Protocol):
    """The class of a model with settings that follow from how many steps a training has."""

    @classmethod
    def paced(cls, config: Any, steps: int | None) -> Any:
        """A config for a training of about so many steps, or with the usual pace; what is set stays as it is."""
        ...


@runtime_checkable
class Searchable(Protocol):
    """The class of a model with several candidates for one task, of which a search keeps the best."""

    @classmethod
    def candidates(cls, config: Any, corpus: CorpusFacts, stated: Collection[str] = ()) -> Mapping[str, Any]:
        """Configs to try, by names that can be folders.

        Args:
            config: of what they share, not settled.
            corpus: on which they are tried.
            stated: settings of it that were chosen; others that have their default may have another in a candidate.
        """
        ...

    def search_figures(self) -> Mapping[str, float]:
        """Figures of a trained model by headings of a table, as `x real time`; measured here and now."""
        ...

    @classmethod
    def chosen(cls, candidates: Mapping[str, Measured]) -> tuple[str, str]:
        """The name of the best one, and a sentence that gives the reason."""
        ...


@runtime_checkable
class Augment(Protocol):
    """Random changes of the clips of an example, where they are read; it can be pickled."""

    @property
    def read_length(self) -> int:
        """Samples of each clip that it needs."""
        ...

    def __call__(
        self, audio: Mapping[str, Float32[np.ndarray, "_ _"]], draws: np.random.Generator
    ) -> Mapping[str, Float32[np.ndarray, "_ _"]]:
        """Clips by role (channels, read_length) to clips of a training batch's length."""
        ...


@dataclass(frozen=True)
class Request:
    """One example to render.

    Args:
        seed: decides everything random about it.
        fields: its metadata, as `{"label": "3"}`.
        audio: its waveforms by role, (channels, time); empty where a direction needs none.
        arrays: its arrays by name, (channels, frames).
        direction: in which the model renders; empty for its first.
        options: of the direction, an object of its dataclass.
    """

    seed: int
    fields: Mapping[str, Any]
    audio: Mapping[str, Float[np.ndarray, "channels time"]]
    arrays: Mapping[str, Float[np.ndarray, "_ _"]] = field(default_factory=dict)
    direction: str = ""
    options: Any = None


@dataclass(frozen=True)
class Validation:
    """The result of validating a model on held-out examples.

    Args:
        score: by which the best checkpoint is chosen, the smaller the better; None leaves it to the distance between
            clips and real ones.
        values: by name, for `metrics.jsonl`.
        files: content by file name, as pictures, tables and clips that a person looks at.
        words: the result in a clause, as `ESR 0.0084 over 26.0 s of pairs, very close`; empty for none.
    """

    score: float | None
    values: Mapping[str, float]
    files: Mapping[str, bytes] = field(default_factory=dict)
    words: str = ""
