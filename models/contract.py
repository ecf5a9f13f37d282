"""What a model promises: the one class that training and rendering know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.plugins import MODELS


@dataclass(frozen=True)
class CorpusFacts:
    """What a corpus tells a model before the first step.

    Args:
        name: the corpus as the person named it, for messages.
        roles: the waveforms of each example, as `("audio",)` or `("dry", "wet")`.
        sample_rate: in hertz, the same for all examples.
        channels: the same for all examples.
        values: for each metadata field that is text or a whole number, its distinct values, sorted.
    """

    name: str
    roles: tuple[str, ...]
    sample_rate: int
    channels: int
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Request:
    """One example to render.

    Args:
        seed: decides everything random about it.
        fields: its metadata, as `{"label": "3"}`.
        audio: its waveforms by role, (channels, time); empty for a model that renders from seeds.
    """

    seed: int
    fields: Mapping[str, Any]
    audio: Mapping[str, Float[np.ndarray, "channels time"]]


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


@runtime_checkable
class Update(Protocol):
    """One optimizer update, given by the training loop: backward, step, and gradients back to zero."""

    def __call__(self, optimizer: str, loss: Tensor) -> None: ...


class Model(nn.Module):
    """A network that can be trained on a corpus and rendered with.

    A subclass is built from its config alone, so a checkpoint needs no corpus to be loaded. It must not keep
    random state of its own: the loop seeds torch from the run's seed and the step's number before each step.
    """

    Config: ClassVar[type]
    """A frozen dataclass; each field has a default and `Annotated[type, "one line of help"]`."""

    renders_from: ClassVar[Literal["seeds", "audio"]] = "seeds"

    makes: ClassVar[Literal["audio", "fields"]] = "audio"
    """What comes of rendering: sound, by `render`, or fields beside a sound that stays as it is, by `describe`."""

    pads_short: ClassVar[bool] = False
    """Whether training clips shorter than `length` are lengthened by silence, and not refused."""

    config: Any

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        """Fill in the fields that the corpus decides, and refuse a corpus that cannot serve.

        Raises:
            CorpusError: roles, rate or labels do not fit; the message names the mend.
        """
        raise NotImplementedError

    @property
    def sample_rate(self) -> int:
        """Of what it reads and renders, in hertz."""
        return int(self.config.sample_rate)

    @property
    def channels(self) -> int:
        return int(self.config.channels)

    @property
    def length(self) -> int:
        """Samples of each example in a training batch."""
        raise NotImplementedError

    @property
    def roles(self) -> tuple[str, ...]:
        """The waveforms it reads in training."""
        return ("audio",)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn statistics of the corpus once, before the first step; they belong in buffers."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Make the optimizers that `training_step` names."""
        raise NotImplementedError

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        """Learn from one batch; call `update` as often and in the order the model needs.

        Args:
            batch: on the model's device.
            step: counted from 1, so parts that update at different rates go by it.

        Returns:
            named losses, scalars without gradients.
        """
        raise NotImplementedError

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Try the model, which is in eval mode, on examples that it does not learn from.

        Args:
            held_out: each example of the validation split once, whole, with the waveforms of `roles`; of the training
                split, where the corpus holds none out. It may be left unread.

        Returns:
            None where nothing is to be compared, as with a model that renders from seeds.
        """
        return None

    def rendering_parts(self) -> dict[str, nn.Module]:
        """The parts that `render` uses, by name: these are averaged by `--ema` and are all a render loads."""
        return {"model": self}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        """What `render` needs for one request, without a batch axis and on the CPU.

        Raises:
            UsageError: a field of the request cannot be used, as a label the model was not trained on.
        """
        raise NotImplementedError

    def render(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch channels time"]:
        """Render a batch of stacked inputs; each item's samples depend on its own inputs alone."""
        raise NotImplementedError

    def describe(self, requests: Sequence[Request], batch_size: int) -> list[dict[str, Any]]:
        """What a model that makes fields says of sounds, in eval mode: a dict for each, of its own sound alone.

        A judge for `tonemill evaluate` says at least `embedding`, a list of numbers; where it knows classes, also
        `probabilities`, in the order of `config.labels`, and `predicted`.

        Args:
            requests: their audio has the model's rate, and any length and number of channels.
            batch_size: how much it computes at once; padded, for another size would choose other kernels.
        """
        raise NotImplementedError


def load_model(name: str) -> type[Model]:
    """The class of a model.

    Raises:
        UsageError: there is no such model.
    """
    model: type[Model] = MODELS.module(name).MODEL
    return model
