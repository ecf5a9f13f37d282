"""What a model promises: the one class that training and rendering know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.exchange import Batch, CorpusFacts, Request, Validation
from tonemill.models.plugins import MODELS


@runtime_checkable
class Update(Protocol):
    """One optimizer update, given by the training loop: backward, step, and gradients back to zero."""

    def __call__(self, optimizer: str, loss: Tensor) -> None: ...


@runtime_checkable
class Player(Protocol):
    """Audio to audio as a stream: what it says does not hang on how the stream is cut, and its memory does not grow."""

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        """The next samples in, as many out."""
        ...


class Model(nn.Module):
    """A network that can be trained on a corpus and rendered with.

    A subclass is built from its config alone, so a checkpoint needs no corpus to be loaded. It must not keep
    random state of its own: the loop seeds torch from the run's seed and the step's number before each step.
    """

    Config: ClassVar[type]
    """A frozen dataclass; each field has a default and `Annotated[type, "one line of help"]`."""

    chooser: ClassVar[str] = ""
    """The setting that decides which others there are, as the kind of network; empty where none does."""

    usual: ClassVar[Mapping[str, Any]] = {}
    """Settings of the training loop that suit it better than the loop's own defaults."""

    exports: ClassVar[tuple[str, ...]] = ()
    """Forms that `exported` can write it in."""

    renders_from: ClassVar[Literal["seeds", "audio"]] = "seeds"

    makes: ClassVar[Literal["audio", "fields"]] = "audio"
    """What comes of rendering: sound, by `render`, or fields beside a sound that stays as it is, by `describe`."""

    pads_short: ClassVar[bool] = False
    """Whether training clips shorter than `length` are lengthened by silence, and not refused."""

    least_batch: ClassVar[int] = 1
    """Examples that a training batch must hold, as 2 where layers divide by what its examples differ by."""

    config: Any

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        """For each value of the `chooser` the dataclass of all settings that it has: those of `Config` and its own."""
        return {}

    @classmethod
    def config_of(cls, values: Mapping[str, Any]) -> type:
        """The dataclass that settings of these values belong to.

        Raises:
            UsageError: the chooser has a value that there is none for.
        """
        if not cls.chooser:
            return cls.Config
        chosen = values.get(cls.chooser, getattr(cls.Config, cls.chooser))
        variants = cls.variants()
        if chosen not in variants:
            flag = cls.chooser.replace("_", "-")
            raise UsageError(f"--{flag} is {chosen!r}; it must be one of {', '.join(variants)}.")
        return variants[chosen]

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
        """Samples of audio of each example in a training batch; an array has `length // hop` frames of it."""
        raise NotImplementedError

    @property
    def roles(self) -> tuple[str, ...]:
        """The waveforms it reads in training; none where it learns from arrays alone."""
        return ("audio",)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that it reads in training."""
        return ()

    def check_examples(self, examples: Iterable[Request]) -> None:
        """Look at all training examples, whole, before the first step of a new run; they may be left unread.

        Raises:
            CorpusError: nothing good would come of training on them; the message names the mend.
        """

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn statistics of the corpus once, before the first step; they belong in buffers."""

    def fit_examples(self, examples: Iterable[Request]) -> None:
        """The same from all training examples, whole; they may be left unread."""

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
            held_out: each example of the validation split once, whole, with the waveforms of `roles` and the `arrays`;
                of the training split, where the corpus holds none out. It may be left unread.

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

    def player(self, request: Request) -> Player:
        """What a model that renders from audio plays one channel of it with; the request holds fields, and no audio.

        Raises:
            UsageError: a field of the request is missing or cannot be used.
        """
        raise NotImplementedError

    def play_together(
        self, requests: Sequence[Request], streams: int, segments: int = 1
    ) -> list[Float[np.ndarray, "channels _"]]:
        """Play whole files side by side, where that is faster than one after another; `audio` holds each one's.

        Args:
            requests: with the audio in the role `audio`.
            streams: how many run at once; what comes of one does not hang on the others.
            segments: into how many each file is cut, so that they run at once too.

        Raises:
            UsageError: it plays one file as fast.
        """
        raise NotImplementedError

    def exported(self, form: str, metadata: Mapping[str, Any]) -> bytes:
        """The trained model as a file for other programs.

        Args:
            form: one of `exports`.
            metadata: what the file may say of itself.

        Raises:
            UsageError: the form cannot hold this model, or a package for it is missing.
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
