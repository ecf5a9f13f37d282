"""A way of rendering: which inputs it needs, what comes out, and its options; read from run.json, without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tonemill.audiotools.errors import UsageError

SEED: Final = "seed"
AUDIO: Final = "audio"
FIELDS: Final = "fields"


_NUMBER: Final = re.compile(r"\s*[-+]?[0-9]{1,300}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?\s*")


def as_number(value: Any) -> Any:
    """The number that a text writes, as of a table whose cells are not written the same way again; else the value."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


class Bounds(NamedTuple):
    """The least and the largest value of a number, as a third part of its annotation.

    steps: Annotated[int, "Rounds of sampling.", Bounds(1)] = 10
    """

    low: float
    high: float = float("inf")

    def check(self, flag: str, value: int | float) -> None:
        """Refuse a number outside.

        Raises:
            UsageError: names the flag, the value and the bounds.
        """
        if not self.low <= value <= self.high:
            if self.low == -float("inf"):
                raise UsageError(f"{flag} is {value}; it must be at most {self.high:g}.")
            upper = f" and at most {self.high:g}" if self.high < float("inf") else ""
            raise UsageError(f"{flag} is {value}; it must be at least {self.low:g}{upper}.")


class RequestField(NamedTuple):
    """A metadata field that a direction reads from a request.

    Args:
        low: the least number that was in the training corpus; None for text.
        high: the largest one.
        choices: the texts that were in the training corpus; empty for any text.
        required: a request without it is refused.
    """

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False

    def check(self, name: str, value: Any, owner: str) -> None:
        """Refuse a value that was not in the training corpus.

        Raises:
            UsageError: names the range, or the texts.
        """
        if self.low is not None and self.high is not None:
            value = as_number(value)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not self.low <= value <= self.high:
                shown = f"{value:g}" if is_number else repr(value)
                raise UsageError(
                    f"--set {name}={shown}: {owner} was trained on {name} from {self.low:g} to {self.high:g}."
                )
        elif self.choices and str(value) not in self.choices:
            raise UsageError(f"--set {name}={value}: {owner} was trained on {name} {', '.join(self.choices)}.")


@dataclass(frozen=True)
class NoOptions:
    """A direction without options of its own."""


@dataclass(frozen=True)
class Direction:
    """One way in which a trained model renders, as `encode`.

    Args:
        help: one line.
        needs: what a request must hold: `seed`, `audio`, names of arrays.
        gives: `audio`; `fields`, beside a sound that stays as it is; or the name of the array that replaces the sound.
        options: a frozen dataclass as a model's config. An option named `seconds` that is not None decides the length
            of a clip from a seed.
        fields: by name, the metadata that it reads.
        streams: `Model.player`, or from seeds alone `Model.stream`, renders it block by block, in bounded memory; else
            `Model.render` takes whole clips.
        batched: samples of the longest clip that is rendered whole although others stream; from seeds, in batches.
        samples: of a clip that is rendered from a seed, where no option decides it.
        hop: samples of audio per frame, of the array that goes in or comes out; 0 where its frames are no instants.
        rows: channels of the array that goes in; 0 where any number does.
        learned: only the checkpoint that encoded the array can read it, or a model whose parent that checkpoint is.
        channels: of the sound that goes in; 0 where any number does.
        latency: of its player, in columns of the output.
        together: options that, above 1, render whole files at once by `Model.play_batch`; the first is the number
            of files.
        on_cpu: it always computes on the CPU, as a network that needs its own last sample for the next.
        states: fields that every rendered example has, as the tempo of loops.
        bound_db: two devices differ by less, in dB of the louder one's RMS.
    """

    help: str
    needs: tuple[str, ...] = (AUDIO,)
    gives: str = AUDIO
    options: type = NoOptions
    fields: Mapping[str, RequestField] = field(default_factory=dict)
    streams: bool = False
    batched: int = 0
    samples: int = 0
    hop: int = 0
    rows: int = 0
    learned: bool = False
    channels: int = 0
    latency: int = 0
    together: tuple[str, ...] = ()
    on_cpu: bool = False
    bound_db: float = -80.0
    states: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_array(self) -> str | None:
        """The array that it renders from, as `latents`."""
        return next((name for name in self.needs if name not in (SEED, AUDIO)), None)

    @property
    def from_seeds(self) -> bool:
        """Whether it needs a seed and nothing else."""
        return self.needs == (SEED,)

    @property
    def gives_array(self) -> bool:
        """Whether an array comes out, and neither sound nor fields."""
        return self.gives not in (AUDIO, FIELDS)


class Score(NamedTuple):
    """The score by which the checkpoints of a run are compared; less is better.

    Args:
        name: as `cross-entropy`.
        unit: as dB; empty where it has none.
    """

    name: str
    unit: str = ""

    def in_words(self, value: float) -> str:
        """A value in four digits, with the unit."""
        return f"{value:.4g} {self.unit}".rstrip()


class Lean(NamedTuple):
    """A setting that names a parent run: the values it may have, and when that run is needed.

    Args:
        direction: which the run must have.
        words: values of the setting that name no run, as `none`.
        training_only: a render does without the run.
    """

    direction: str
    words: tuple[str, ...] = ()
    training_only: bool = False


@dataclass(frozen=True)
class ParentFacts:
    """A run that another run uses, as a vocoder.

    Args:
        model: its name.
        config: the settings of its model, by name.
        sample_rate: of what it renders, in hertz.
        channels: of what it renders.
        directions: in which it renders, by name.
        digest: of its checkpoint's weights; arrays that it encoded name the first 16 digits in the field `encoded_by`.
    """

    model: str
    config: Mapping[str, Any]
    sample_rate: int
    channels: int
    directions: Mapping[str, Direction]
    digest: str = ""


@dataclass(frozen=True)
class Export:
    """A kind of file that a trained model can be written to, as ONNX.

    Args:
        help: which programs read it, in one line.
        options: a frozen dataclass as a model's config.
    """

    help: str
    options: type = NoOptions
