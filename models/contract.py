"""`Model`: the interface of every model, and the only class of models that training and rendering use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import SEED, Direction, Export, Lean, Score
from tonemill.models.exchange import Augment, Batch, CorpusFacts, Request, Update, Validation
from tonemill.models.players import Player
from tonemill.models.plugins import MODELS


class Model(nn.Module):
    """A network that can be trained on a corpus and rendered with.

    A subclass is built from its config (and its parents, if it `uses` some), so that loading a checkpoint needs no
    corpus. It must not keep random state of its own: before each step the loop seeds torch from the run's seed and the
    step.
    """

    Config: ClassVar[type]
    """A frozen dataclass; each field has a default and `Annotated[type, "one line of help"]`."""

    chooser: ClassVar[str] = ""
    """The setting that decides which other settings exist, as `network`; empty if no setting does."""

    implied: ClassVar[Mapping[str, str]] = {}
    """Settings that choose where the chooser was not typed: for each the chooser's value."""

    retired: ClassVar[Mapping[str, str]] = {}
    """Settings that runs of an earlier version have in `Config`, and where each is now: `train`, or empty."""

    kept: ClassVar[tuple[str, ...]] = ()
    """Settings that `settle` chooses for a new run where they are None; a run that goes on keeps its own."""

    usual: ClassVar[Mapping[str, Any]] = {}
    """Settings of the training loop that suit it better; `usual_in_minutes` of a `Config`: for minutes on a CPU."""

    score: ClassVar[Score] = Score("distance to real clips", "dB")
    """The score that `validate` returns; where it returns None, rendered clips are compared with real ones."""

    uses: ClassVar[Mapping[str, str | Lean]] = {}
    """For each setting that names a parent run, as `vocoder`: the direction that the parent must have, or a `Lean`.

    A model with parents takes them as a second argument and passes them on to `Model`. They are in `self.parents`: in
    eval mode, without gradients, on the model's device, and not part of its weights.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """Suffixes of other programs' files that `converted` and `loaded` take, as `.nam`."""

    pads_short: ClassVar[bool] = False
    """Whether training clips shorter than `length` are lengthened by silence, and not refused."""

    least_batch: ClassVar[int] = 1
    """The smallest training batch, as 2 where a layer normalises over the batch."""

    config: Any

    def __init__(self, parents: Mapping[str, Model] | None = None) -> None:
        super().__init__()
        # In a dictionary they are no modules of this one: the weights of other runs are not saved again.
        self.parents = dict(parents or {})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        """Move parents along, as `to` moves parameters."""
        for parent in self.parents.values():
            parent._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        """For each value of the `chooser`, a dataclass of all its settings: those of `Config` and its own."""
        return {}

    @classmethod
    def config_of(cls, values: Mapping[str, Any]) -> type:
        """The dataclass that settings of these values belong to.

        Raises:
            UsageError: the chooser's value has no dataclass.
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
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        """The ways in which a model of a settled config renders, by name, the default first; run.json records them."""
        return {"render": Direction("Clips from seeds.", (SEED,), samples=int(config.length))}

    @classmethod
    def exports(cls, config: Any) -> Mapping[str, Export]:
        """The kinds of files that `exported` writes, the default first; `converted` writes those of the config None."""
        return {}

    @classmethod
    def current(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that a run of any version holds, without those that are retired."""
        return {name: value for name, value in values.items() if name not in cls.retired}

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        """Fill in the fields that the corpus decides, and refuse a corpus that does not fit.

        Raises:
            CorpusError: roles, rate or labels do not fit; the message names the command that mends it.
        """
        raise NotImplementedError

    @classmethod
    def remarks(cls, config: Any, corpus: CorpusFacts) -> list[str]:
        """Sentences printed before training, as how many examples of the corpus lack a field."""
        return []

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
    def augmentation(self) -> Augment | None:
        """Random changes of its training clips, made where they are read; None makes none."""
        return None

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
            CorpusError: a model trained on them would be poor; the message names the command that mends it.
        """

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn statistics of the corpus once, before the first step; they belong in buffers."""

    def fit_examples(self, examples: Iterable[Request]) -> None:
        """Learn statistics from all training examples, whole; they may be left unread."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Make the optimizers that `training_step` names."""
        raise NotImplementedError

    def learning_rate(self, optimizer: str, step: int) -> float | None:
        """The learning rate of an optimizer at a step, counted from 1; None leaves what the optimizer was made with."""
        return None

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        """Learn from one batch; call `update` in the order the model needs.

        With `--accumulate` it is called for each part of a batch, and each optimizer steps after the last part. So of a
        GAN whose discriminator is updated first, the generator's loss of all parts but the last is measured with the
        discriminator from before.

        Args:
            batch: on the model's device. Random draws for each example are made with `batch.draw`.
            step: counted from 1, so parts that update at different rates go by it.

        Returns:
            named losses, scalars without gradients; means over the batch.
        """
        raise NotImplementedError

    def turns(self) -> Mapping[int, str]:
        """Names of one-time changes before given steps, as `{200001: "freeze"}`."""
        return {}

    def turn(self, name: str, batches: Iterable[Batch], examples: Iterable[Request]) -> None:
        """Make a change of `turns`: statistics of the corpus into buffers, or new weights; a checkpoint follows.

        Args:
            name: of the turn.
            batches: of one epoch, on the model's device; they may be left unread, as `examples`: all, whole.
        """
        raise NotImplementedError

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Try the model, which is in eval mode, on examples that it does not learn from.

        Args:
            held_out: each example of the validation split once, whole, with the waveforms of `roles` and the `arrays`;
                of the training split, where the corpus holds none out. It may be left unread.

        Returns:
            None if the model has no validation of its own; rendered clips are then compared with real ones.
        """
        return None

    def rendering_parts(self) -> dict[str, nn.Module]:
        """The parts that rendering uses, by name: these are averaged by `--ema` and are all a render loads."""
        return {"model": self}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        """The input of `render` for one request, without a batch axis and on the CPU.

        Raises:
            UsageError: a field of the request cannot be used, as a label the model was not trained on.
        """
        raise NotImplementedError

    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        """Render a batch of stacked inputs; each item's output depends on its own inputs alone.

        Args:
            inputs: what `inputs` returned for each request, stacked, on the model's device.
            direction: of all requests; empty for the first.
            options: of that direction.

        Returns:
            audio (batch, channels, time), or an array (batch, channels, frames), as the direction gives.
        """
        raise NotImplementedError

    def player(self, request: Request, channels: int) -> Player:
        """Begin a stream, for a direction that streams.

        Args:
            request: with seed, fields, direction and options, and without audio or arrays.
            channels: rows of each block.

        Raises:
            UsageError: a field of the request is missing or cannot be used, or the channels do not fit.
        """
        raise NotImplementedError

    def stream(self, request: Request) -> Iterator[Float[np.ndarray, "channels _"]]:
        """Begin a clip from a seed, for a direction from seeds that streams.

        Args:
            request: with seed, fields, direction and options.

        Returns:
            blocks of any lengths, in all as many samples, or frames of an array, as the options or the direction state.
        """
        raise NotImplementedError

    def play_batch(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "channels _"]]:
        """Render whole files side by side, where that is faster than one after another.

        Args:
            requests: with whole audio; their options are the same.

        Raises:
            UsageError: one file alone renders as fast.
        """
        raise NotImplementedError

    def exported(self, form: str, options: Any, metadata: Mapping[str, Any]) -> bytes:
        """The trained model as a file for other programs.

        Args:
            form: one of `exports`.
            options: of that form.
            metadata: `name` of the run, `steps` trained, and `score`, or None, of the checkpoint.

        Raises:
            UsageError: the form cannot hold this model, or a package for it is missing.
        """
        raise NotImplementedError

    def export_error_db(self, form: str, options: Any, data: bytes) -> float:
        """Load a file that was exported with these options again: the RMS of its output less this model's own, in dB.

        Raises:
            UsageError: the package that reads the form is missing.
        """
        raise NotImplementedError

    @classmethod
    def converted(cls, data: bytes, form: str, options: Any) -> bytes:
        """A file of another program, of a suffix in `reads`, written as another form.

        Raises:
            UsageError: the file cannot be read, or the form cannot hold it.
        """
        raise NotImplementedError

    @classmethod
    def loaded(cls, data: bytes) -> Model:
        """The model in a file of a suffix in `reads`, in eval mode; a `UsageError` where it cannot be read."""
        raise NotImplementedError

    def about(self) -> Mapping[str, str]:
        """Facts of a trained model for `tonemill inspect`, by name, as its phase or its latency."""
        return {}

    def describe(self, requests: Sequence[Request], batch_size: int) -> list[dict[str, Any]]:
        """The fields of a direction that gives fields, in eval mode: a dict for each sound, of that sound alone.

        A judge for `tonemill evaluate` gives at least `embedding`, a list of numbers; where it has classes, also
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


def build_model(model_class: type[Model], config: Any, parents: Mapping[str, Model]) -> Model:
    """A model of a settled config with first weights, and its parents without gradients."""
    for parent in parents.values():
        parent.requires_grad_(False).eval()
    # Only a class with `uses` takes the second argument.
    make: Any = model_class
    model: Model = make(config, parents) if model_class.uses else make(config)
    return model
