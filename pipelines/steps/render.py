"""Render with a trained model: sound from seeds, audio through a model, or what else it can (`render RUN --help`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.models.directions import AUDIO, FIELDS, SEED, NoOptions
from tonemill.pipelines.recipes.step import BatchStep, Estimate, MoreFlags

if TYPE_CHECKING:
    from tonemill.models.directions import Direction
    from tonemill.pipelines.recipes.example import Example
    from tonemill.pipelines.runs.parents import Parent

_BATCH = 16
"""Examples in a batch, where all have one size; those of other sizes are rendered one by one."""


@dataclass(frozen=True)
class Render(BatchStep):
    needs_sound: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    makes_roles: ClassVar[bool] = True

    run: Annotated[str, "The folder that `tonemill train` made, or another program's file that a model reads."]
    checkpoint: Annotated[
        str | None, "last, best, or the number of its step. Default: best where scores were measured, else last."
    ] = None
    direction: Annotated[str, "What to do; `tonemill render RUN --help` lists it. Default: the first.", "--as"] = ""
    batch_size: Annotated[
        int | None, "Examples rendered at once; it decides the last bits. Default: 16 from seeds, 1 from whole files."
    ] = None
    set: Annotated[tuple[str, ...], "A field that the model reads, as drive=0.7 or label=kick; may be repeated."] = ()
    other_rate: Annotated[
        Literal["resample", "refuse"],
        "What to do with audio of another rate than the model's, which is what comes out.",
    ] = "resample"
    keep_audio: Annotated[bool, "Where an array comes out, as latents: keep the sound beside it."] = False
    uses: Annotated[tuple[str, ...], "Where a run is now that the model leans on, as vocoder=runs/vocoder."] = ()
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], "Where to compute; auto takes an accelerator."] = "auto"
    options: Annotated[dict[str, Any], "Of the direction."] = field(default_factory=dict)
    run_uri: Annotated[str, "Where the run is stored."] = ""
    trained_steps: Annotated[int, "The step of the checkpoint."] = 0
    sha256: Annotated[str, "Of the checkpoint's weights."] = ""
    parents: Annotated[dict[str, Any], "Digests of the runs that it leans on."] = field(default_factory=dict)
    parents_uri: Annotated[dict[str, Any], "Where those are stored."] = field(default_factory=dict)
    trained_with: Annotated[dict[str, Any], "Digests of those that only its training needed."] = field(
        default_factory=dict
    )
    needs: Annotated[tuple[str, ...], "What the direction needs: seed, audio, names of arrays."] = (SEED,)
    gives: Annotated[str, "What comes out: audio, fields, or the name of an array."] = AUDIO
    streams: Annotated[bool, "Whether it renders block by block."] = False
    sample_rate: Annotated[int, "Of what it renders, in hertz."] = 1
    output_channels: Annotated[int, "Of what it renders."] = 1
    samples: Annotated[int, "Of each clip that it renders from a seed, or of a training clip."] = 0
    hop: Annotated[int, "Samples of audio per frame of the array that goes in or comes out."] = 0
    together: Annotated[tuple[str, ...], "Options that render whole files at once, where above 1."] = ()
    required: Annotated[tuple[str, ...], "Fields that the model needs beside the input."] = ()
    on_cpu: Annotated[bool, "Whether it computes on the CPU whatever the device."] = False
    rows: Annotated[int, "Channels of the array that goes in; 0 where any number does."] = 0
    channels: Annotated[int, "Channels of the sound that goes in; 0 where any number does."] = 0
    encoders: Annotated[tuple[str, ...], "Digests of the checkpoints whose arrays it can read; none for all."] = ()

    arguments = ("run",)
    in_stores = ("run", "uses")
    hidden = (
        *(
            "options",
            "run_uri",
            "trained_steps",
            "sha256",
            "parents",
            "parents_uri",
            "trained_with",
            "needs",
            "gives",
            "streams",
            "sample_rate",
        ),
        *("output_channels", "samples", "hop", "together", "required", "on_cpu", "rows", "channels", "encoders"),
    )

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size is {self.batch_size}; it must be 1 or more.")

    @classmethod
    def more_flags(cls, words: Sequence[str]) -> MoreFlags | None:
        """The options of the direction that was typed, from run.json; only files of other programs import one."""
        from tonemill.audiotools.errors import TonemillError
        from tonemill.pipelines.runs.directions import chosen, directions_of
        from tonemill.pipelines.runs.files import opened
        from tonemill.pipelines.runs.run import RUN_JSON
        from tonemill.pipelines.storage.paths import place

        def is_run(word: str) -> bool:
            try:
                return not word.startswith("-") and ((place(word) / RUN_JSON).is_file() or place(word).is_file())
            except (TonemillError, OSError):
                return False  # the command itself raises it

        run = next((word for word in words if is_run(word)), None)
        if run is None:
            return MoreFlags(NoOptions, lenient=True)
        name = ""
        for word, following in zip(words, [*words[1:], ""], strict=True):
            flag, equals, value = word.partition("=")
            name = (value if equals else following) if flag == "--as" else name
        try:
            directions = directions_of(opened(place(run)))
            direction = chosen(directions, name, run)
        except TonemillError:
            return MoreFlags(NoOptions, lenient=True)
        lines = [f"--as {one}: {about.help}" for one, about in directions.items()]
        shown = name or next(iter(directions))
        return MoreFlags(direction.options, f"Options of --as {shown}", f"{run} can render:\n\n" + "\n\n".join(lines))

    def settle(self) -> Render:
        """Look up checkpoint and direction now, so that the recipe holds them, whatever is trained later."""
        from tonemill.audiotools.trouble import require_package
        from tonemill.pipelines import config
        from tonemill.pipelines.runs.directions import chosen, directions_of
        from tonemill.pipelines.runs.files import opened
        from tonemill.pipelines.runs.parents import parents_of, trained_with, typed_places
        from tonemill.pipelines.storage.paths import place, readable, to_uri

        require_package("torch", "render")
        folder = place(self.run)
        run = opened(folder)
        directions = directions_of(run)
        direction = chosen(directions, self.direction, self.run)
        name = self.direction or next(iter(directions))
        options: Any = config.build(direction.options, self.options, f"render --as {name}")
        _check_fields(self._given(), direction, self.run)
        checkpoint = run.chosen(self.checkpoint)
        parents = parents_of(run, typed_places(self.uses))
        whole = SEED not in direction.needs and direction.gives != FIELDS and not direction.streams
        samples = _samples(direction, options, run.about["sample_rate"]) or run.about["length"]
        if self.keep_audio and not direction.gives_array:
            arrays = [one for one, about in directions.items() if about.gives_array]
            mend = f"Leave it out, or render with --as {arrays[0]}." if arrays else "Leave it out."
            raise UsageError(
                f"--keep-audio keeps the sound beside an array, but render --as {name} gives {direction.gives}. {mend}"
            )
        return replace(
            self,
            # The folder's own name; where it is stored is for its reader alone.
            run=readable(folder.resolve().name),
            # As recorded when the last one was the default: a best one that is the last is the same.
            checkpoint=self.checkpoint or ("last" if checkpoint.step == run.checkpoint().step else "best"),
            direction="" if name == next(iter(directions)) else name,
            batch_size=self.batch_size or (1 if whole else _BATCH),
            options=config.to_dict(options),
            run_uri=to_uri(folder),
            trained_steps=checkpoint.step,
            sha256=checkpoint.digest,
            uses=(),
            parents={name: parent.checkpoint.digest for name, parent in parents.items()},
            parents_uri={name: to_uri(parent.run.folder) for name, parent in parents.items()},
            trained_with=trained_with(run),
            needs=direction.needs,
            gives=direction.gives,
            streams=direction.streams and not (direction.from_seeds and samples <= direction.batched),
            sample_rate=run.about["sample_rate"],
            output_channels=run.about["channels"],
            samples=samples,
            hop=direction.hop,
            together=direction.together,
            required=tuple(name for name, about in direction.fields.items() if about.required),
            on_cpu=direction.on_cpu,
            rows=direction.rows,
            channels=direction.channels,
            encoders=_encoders(checkpoint.digest, parents) if direction.learned else (),
        )

    def notice(self) -> str:
        """A line that names the checkpoint, if it is the best and not the last; else an empty text."""
        return f"{self.run}: the best checkpoint, of step {self.trained_steps}." if self.checkpoint == "best" else ""

    @property
    def examples_at_once(self) -> int:
        if self._plays_together:
            return int(self.options[self.together[0]])
        return 1 if self.streams else self.batch_size or _BATCH

    @property
    def _plays_together(self) -> bool:
        return any(self.options.get(name, 1) > 1 for name in self.together)

    def apply(self, example: Example) -> Iterator[Example]:
        yield from self.apply_batch([example])

    def apply_batch(self, examples: Sequence[Example]) -> list[Example]:
        """Each example with what the model renders in place of its sound, or with fields beside it."""
        from tonemill.pipelines.rendering.render import loaded_for
        from tonemill.pipelines.rendering.renderer import Renderer

        device = "cpu" if self.on_cpu else self.device
        model, computing = loaded_for(
            self.run_uri, self.trained_steps, self.sha256, device, self.parents, self.parents_uri
        )
        renderer = Renderer(
            model,
            computing,
            self.direction,
            self.options,
            self._given(),
            self.batch_size or _BATCH,
            self.streams,
            f"{self.run}@{self.sha256[:16]}",
            self.keep_audio,
        )
        return renderer.render(examples, self._plays_together)

    def estimate(self, expected: Estimate) -> Estimate:
        if self.gives == FIELDS:
            return expected
        if tuple(self.needs) == (SEED,):
            return Estimate(max(1, expected.clips), self.samples, self.sample_rate, self.output_channels)
        frames = -(-expected.frames * self.sample_rate // expected.sample_rate)
        return expected._replace(frames=frames, sample_rate=self.sample_rate)

    def check(self, example: Example) -> None:
        """Refuse an example that the direction cannot render, before it joins a batch.

        Raises:
            AudioError: roles: it lacks a seed, audio or an array, or its rate is refused; condition: it lacks a field.
        """
        if SEED in self.needs and not isinstance(example.fields.get("seed"), int):
            raise AudioError(
                "roles", f"{self.run} renders from seeds, and the recipe has none; `tonemill seeds 16` makes some"
            )
        if AUDIO in self.needs:
            self._check_sound(example)
        for name in self.needs:
            if name not in (SEED, AUDIO):
                self._check_array(example, name)
        given = {**example.fields, **self._given()}
        missing = [name for name in self.required if given.get(name) is None]
        if missing:
            flags = " ".join(f"--set {name}=VALUE" for name in missing)
            raise AudioError("condition", f"{self.run} needs the field {' and '.join(missing)}; render with {flags}")

    def _check_sound(self, example: Example) -> None:
        role = example.main_role
        if role is None or (self.gives == FIELDS and role != AUDIO):
            roles = " and ".join(example.sounds) or "no sound"
            raise AudioError("roles", f"{self.run} renders from single clips, and this has {roles}")
        sound = example.sounds[role]
        if self.gives != FIELDS and sound.sample_rate != self.sample_rate and self.other_rate == "refuse":
            raise AudioError(
                "roles",
                f"{self.run} reads {sound.sample_rate} Hz audio at {self.sample_rate} Hz; use "
                f"`tonemill resample --rate {self.sample_rate}`, or --other-rate resample",
            )
        if self.channels and sound.channels != self.channels:
            choice = {1: "mean", 2: "stereo"}.get(self.channels)
            mend = f"; use `tonemill channels {choice}`" if choice else ""
            raise AudioError(
                "roles", f"{self.run} reads audio of {self.channels} channels, and this has {sound.channels}{mend}"
            )
        if self.keep_audio and sound.sample_rate != self.sample_rate:
            raise AudioError(
                "roles",
                f"{self.run} encodes {self.sample_rate} Hz audio, and --keep-audio would keep {sound.sample_rate} Hz "
                f"beside it; use `tonemill resample --rate {self.sample_rate}`",
            )

    def _check_array(self, example: Example, name: str) -> None:
        array = example.arrays.get(name)
        if array is None:
            raise AudioError("roles", f"{self.run} renders from the array {name}, and this has {example.holds}")
        if (array.hop or 0, array.sample_rate) != (self.hop, self.sample_rate):
            raise AudioError(
                "roles",
                f"{self.run} renders from {name} of {self.hop} samples a frame at {self.sample_rate} Hz, and this has "
                f"{array.hop} at {array.sample_rate} Hz; encode it with the same run",
            )
        if self.rows and array.channels != self.rows:
            raise AudioError(
                "roles",
                f"{self.run} renders from {name} of {self.rows} channels, and this has {array.channels}; encode it "
                "with the same run",
            )
        encoder = str(example.fields.get("encoded_by", "no run that is noted"))
        if self.encoders and not any(encoder.endswith(f"@{digest[:16]}") for digest in self.encoders):
            raise AudioError(
                "roles",
                f"{self.run} cannot read {name} of {encoder}: only the checkpoint that encoded it can, and this is "
                f"{self.run}@{self.sha256[:16]}, step {self.trained_steps}. Encode it with the same --checkpoint",
            )

    def _given(self) -> dict[str, Any]:
        from tonemill.pipelines.recipes.assignments import assignments

        return assignments(self.set, "--set")


def _check_fields(given: Mapping[str, Any], direction: Direction, owner: str) -> None:
    for name, value in given.items():
        if name not in direction.fields:
            there = f"it reads {', '.join(direction.fields)}" if direction.fields else "it reads none"
            raise UsageError(f"{owner} reads no field {name!r}; {there}.")
        direction.fields[name].check(name, value, owner)


def _encoders(digest: str, parents: Mapping[str, Parent]) -> tuple[str, ...]:
    """Digests of a checkpoint and of those that it leans on."""
    return (digest, *(parent.checkpoint.digest for parent in parents.values()))


def _samples(direction: Direction, options: Any, sample_rate: int) -> int:
    """Length of a clip from a seed."""
    seconds = getattr(options, "seconds", None)
    return direction.samples if seconds is None else round(seconds * sample_rate)


STEP = Render
