"""The base class of steps, and the conversion of a recipe's steps to objects of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.models import earlier
from tonemill.models.plugins import Plugins
from tonemill.pipelines import config
from tonemill.pipelines.recipes.shared_steps import of_steps

if TYPE_CHECKING:
    from tonemill.pipelines.recipes.example import Example, Refusal

STEPS = Plugins(
    kind="step",
    package="tonemill.pipelines.steps",
    folder=Path(__file__).parent.parent / "steps",
    group="tonemill.steps",
    shared=frozenset({"__init__"}),
)


class Estimate(NamedTuple):
    """The expected examples of one recipe, computed from headers.

    Args:
        clips: number of examples.
        frames: samples per channel of each.
        sample_rate: in hertz.
        channels: of each.
    """

    clips: int
    frames: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.clips * self.frames / self.sample_rate


class MoreFlags(NamedTuple):
    """Flags of a step that depend on what else was typed.

    Args:
        settings: a dataclass; what is typed for its fields goes into the step's field `options`.
        panel: the heading under which help shows them.
        help: text after that of the step.
        lenient: nothing could be looked up, so flags that are not known are passed over: `settle` then raises.
    """

    settings: type
    panel: str = ""
    help: str = ""
    lenient: bool = False


class Step:
    """A function from examples to examples with frozen, validated parameters.

    A subclass is a frozen dataclass in a file of its own, which ends in `STEP = ThatClass`. Its fields become
    flags and keys of the recipe. Its module is imported for `--help`, so import large packages inside `apply`.
    """

    version: ClassVar[int] = 1
    """Raise it when the same parameters no longer give the same output. A step of a recipe has the recipe's version."""

    oldest: ClassVar[int | None] = None
    """The earliest version that it still cooks, each with the output of then; None for `version` alone."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages whose versions affect the output; sidecars record them."""

    arguments: ClassVar[tuple[str, ...]] = ()
    """Fields that are typed without a flag."""

    in_stores: ClassVar[tuple[str, ...]] = ()
    """Fields that may be places in object stores; a command refuses them elsewhere."""

    hidden: ClassVar[tuple[str, ...]] = ()
    """Fields that `settle` sets; they are keys of the recipe but no flags."""

    needs_sound: ClassVar[bool] = True
    """Whether an example that has arrays and no sound is refused before `apply`.

    A step that changes sounds drops their arrays, for `Example.with_sounds` does; one that changes fields passes them.
    """

    needs_material: ClassVar[bool] = False
    """Whether nothing can come of an example without sound or arrays, as of a seed: the stage refuses the stream."""

    needs_roles: ClassVar[tuple[str, ...]] = ()
    """Roles without which nothing can come of an example: the stage refuses the stream."""

    makes_roles: ClassVar[bool] = False
    """Whether other roles or arrays may come out than went in, or nothing at all."""

    gives_fields: ClassVar[tuple[str, ...] | None] = None
    """Every field that it may add, without the name of a role; None where that is not known before it is applied."""

    @property
    def none_fields(self) -> Mapping[str, Any]:
        """Fields that it gives to some examples only, with what stands for none of it in the others."""
        return {}

    @classmethod
    def more_flags(cls, words: Sequence[str]) -> MoreFlags | None:
        """Flags beside those of the fields, for what was typed after the step's name; None where there are none."""
        return None

    def needs_fields(self) -> frozenset[str]:
        """Fields of which at least one recipe must have each, or a step before must give it."""
        return frozenset()

    def settle(self) -> Step:
        """Called once where the step is typed: check what needs more than the fields, fill in hidden ones."""
        return self

    def notice(self) -> str:
        """A line that the command prints for the user, after `settle`; empty for none."""
        return ""

    def apply(self, example: Example) -> Iterator[Example | Refusal]:
        """Yield zero, one or many examples for one; in place of a clip that it cut and refuses, a `Refusal`.

        Raises:
            AudioError: this one cannot be used; it becomes a row of the rejects.
        """
        raise NotImplementedError

    def estimate(self, expected: Estimate) -> Estimate:
        """The expected output of the step for an expected input, by arithmetic only."""
        return expected

    def to_json(self) -> dict[str, Any]:
        return {"step": step_name(type(self)), "version": self.version, **config.to_dict(self)}


class BatchStep(Step):
    """A step that is much faster on many examples at once; it gets `batch_size` of them, fewer at the end."""

    @property
    def examples_at_once(self) -> int:
        raise NotImplementedError

    def check(self, example: Example) -> None:
        """Refuse one before it joins a batch, so that it does not spoil the others.

        Raises:
            AudioError: it cannot be used.
        """

    def apply_batch(self, examples: Sequence[Example]) -> list[Example]:
        """One example for each, in order; what comes of one must not depend on the others."""
        raise NotImplementedError


def refuse_soundless(step: Step, example: Example) -> None:
    """Refuse arrays without a sound where a step works on sound.

    Raises:
        AudioError: roles: it has arrays alone.
    """
    if step.needs_sound and example.arrays and not example.sounds:
        name = step_name(type(step))
        raise AudioError(
            "roles",
            f"{name} works on sound, and this has {example.holds}; put {name} before the `tonemill render` that "
            "makes the arrays, or give that one --keep-audio",
        )


def step_name(step: type[Step]) -> str:
    """The name a step is typed by: its module's."""
    return step.__module__.rsplit(".", 1)[-1]


def load_step(record: dict[str, Any], to_cook: bool = True) -> Step:
    """Make the step that a recipe describes.

    Args:
        record: of the step.
        to_cook: without it a step of an earlier version is made as well, as for a saved stream that is inspected.

    Raises:
        UsageError: no such step, a parameter is unknown or does not fit, or the version is another.
    """
    record = earlier.as_today(record) if earlier.is_earlier(record) else record
    name = record["step"]
    step: type[Step] = STEPS.module(name).STEP
    version = record.get("version", step.version)
    still = (step.oldest or step.version) <= version <= step.version
    if version > step.version or (to_cook and not still):
        raise UsageError(
            f"A recipe asks for version {version} of {name} and this tonemill has version {step.version}, which gives "
            "other output. Install the tonemill that wrote the recipe, or write it again."
        )
    parameters = {key: value for key, value in record.items() if key not in ("step", "version")}
    made = config.build(step, parameters, name)
    if still and version != step.version:
        object.__setattr__(made, "version", version)
    return made


def packages_of(recipes: Iterable[Sequence[Mapping[str, Any]]]) -> set[str]:
    """Packages that the steps of some recipes name.

    Args:
        recipes: the steps of each.
    """
    return {package for steps in recipes for step in load_steps(steps) for package in step.packages}


def load_steps(records: Sequence[Mapping[str, Any]], to_cook: bool = True) -> tuple[Step, ...]:
    """The steps of a recipe, made and checked once for all recipes that share them; arguments as of `load_step`.

    Raises:
        UsageError: as `load_step`.
    """
    return _loaded(_text_of(records), to_cook)


@of_steps
def _text_of(records: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(records)


@lru_cache(maxsize=256)
def _loaded(text: str, to_cook: bool) -> tuple[Step, ...]:
    return tuple(load_step(record, to_cook) for record in json.loads(text))
