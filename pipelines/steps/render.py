"""Render audio with a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.pipelines.recipes.step import BatchStep, Estimate
from tonemill.pipelines.rendering.knobs import assigned, refuse_settings

if TYPE_CHECKING:
    import torch

    from tonemill.audiotools.waveform import Sound
    from tonemill.models.contract import Model, Request
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Render(BatchStep):
    needs_sound: ClassVar[bool] = False

    run: Annotated[str, "The folder that `tonemill train` made."]
    checkpoint: Annotated[str, "last, best, or the number of its step."] = "last"
    batch_size: Annotated[int, "Examples rendered at once; it decides the last bits of the sound."] = 16
    set: Annotated[tuple[str, ...], "Where a knob of the model stands, as drive=0.7; may be repeated."] = ()
    other_rate: Annotated[
        Literal["resample", "refuse"],
        "What to do with audio of another rate than the model's, which is what comes out.",
    ] = "resample"
    lockstep: Annotated[
        int, "Files that a network which hears its own output plays at once, each whole in memory; 1: streams."
    ] = 1
    segments: Annotated[
        int, "Cut each file into so many overlapping segments that such a network plays at once; 1: in order."
    ] = 1
    block: Annotated[int, "Samples of audio played at a time; it changes nothing of what is said."] = 8192
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], "Where to compute; auto takes an accelerator."] = "auto"
    run_uri: Annotated[str, "Where the run lies."] = ""
    trained_steps: Annotated[int, "The step of the checkpoint."] = 0
    sha256: Annotated[str, "Of the checkpoint's weights."] = ""
    renders_from: Annotated[Literal["seeds", "audio"], "What the model needs."] = "seeds"
    makes: Annotated[Literal["audio", "fields"], "Sound, or fields beside a sound that stays as it is."] = "audio"
    sample_rate: Annotated[int, "Of what it renders, in hertz."] = 1
    output_channels: Annotated[int, "Of what it renders."] = 1
    samples: Annotated[int, "Of each clip that it renders from a seed."] = 0
    knobs: Annotated[tuple[str, ...], "Of the model: numbers that it needs beside the audio."] = ()

    arguments = ("run",)
    hidden = (
        "run_uri",
        "trained_steps",
        "sha256",
        "renders_from",
        "makes",
        "sample_rate",
        "output_channels",
        "samples",
        "knobs",
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"--batch-size is {self.batch_size}; it must be 1 or more.")
        for name in ("lockstep", "segments", "block"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be 1 or more.")

    def settle(self) -> Render:
        """Look up the checkpoint now, so that the recipe says which one, whatever is trained later."""
        from pathlib import Path

        from tonemill.pipelines.runs.run import open_run
        from tonemill.pipelines.storage.paths import readable, to_uri

        run = open_run(Path(self.run))
        knobs = tuple(run.model_config.get("knobs") or ())
        refuse_settings(assigned(self.set), run)
        checkpoint = run.checkpoint(self.checkpoint)
        return replace(
            self,
            # The folder's own name; where it lies is nobody's business but the reader's.
            run=readable(Path(self.run).resolve().name),
            run_uri=to_uri(self.run),
            trained_steps=checkpoint.step,
            sha256=checkpoint.digest,
            renders_from=run.about["renders_from"],
            makes=run.about.get("makes", "audio"),
            sample_rate=run.about["sample_rate"],
            output_channels=run.about["channels"],
            samples=run.about["length"],
            knobs=knobs,
        )

    @property
    def examples_at_once(self) -> int:
        return self.lockstep if self.plays else self.batch_size

    @property
    def plays(self) -> bool:
        """Whether sounds go through the model, as through an effect."""
        return self.renders_from == "audio" and self.makes == "audio"

    def apply_batch(self, examples: Sequence[Example]) -> list[Example]:
        from tonemill.pipelines.rendering.render import loaded_for, render

        if self.plays:
            return self._played(examples)
        model, device = loaded_for(self.run_uri, self.trained_steps, self.sha256, self.device)
        if self.makes == "fields":
            return self._described(examples, model, device)
        waveforms = render(model, [self._request(example) for example in examples], self.batch_size, device)
        return [
            example.with_sounds({"audio": waveform}, bits=max(16, example.bits))
            for example, waveform in zip(examples, waveforms, strict=True)
        ]

    def apply(self, example: Example) -> Iterator[Example]:
        yield from self.apply_batch([example])

    def _described(self, examples: Sequence[Example], model: Model, device: torch.device) -> list[Example]:
        """The same sounds, with what the model says of them, and which model that was."""
        from tonemill.models.contract import Request
        from tonemill.pipelines.rendering.render import describe, heard_at

        requests = []
        for example in examples:
            waveform = heard_at(example.sounds["audio"].whole(), self.sample_rate)
            requests.append(Request(0, example.fields, {"audio": waveform.samples}))
        judge = {"judge": f"{self.run}@{self.sha256[:16]}"}
        return [
            example.with_fields({**judge, **fields})
            for example, fields in zip(examples, describe(model, requests, self.batch_size, device), strict=True)
        ]

    def estimate(self, expected: Estimate) -> Estimate:
        if self.makes == "fields":
            return expected
        if self.renders_from == "audio":
            frames = -(-expected.frames * self.sample_rate // expected.sample_rate)
            return expected._replace(frames=frames, sample_rate=self.sample_rate)
        return Estimate(max(1, expected.clips), self.samples, self.sample_rate, self.output_channels)

    def check(self, example: Example) -> None:
        """Refuse an example that the model cannot render, before it joins a batch.

        Raises:
            AudioError: roles: it has no seed, or no audio of the model's rate; a model that labels takes any rate.
        """
        if self.renders_from == "seeds" and not isinstance(example.fields.get("seed"), int):
            raise AudioError("roles", f"{self.run} renders from seeds; make recipes with `tonemill seeds`")
        if self.makes == "fields":
            if "audio" not in example.sounds:
                roles = " and ".join(example.sounds) or "no sound"
                raise AudioError("roles", f"{self.run} labels single clips, and this has {roles}")
            return
        if self.plays:
            self._check_input(example)

    def _check_input(self, example: Example) -> None:
        """Refuse audio of another rate, where that is asked for, and an example without the model's knobs."""
        sound = _input(example)
        if sound.sample_rate != self.sample_rate and self.other_rate == "refuse":
            raise AudioError(
                "roles",
                f"{self.run} plays {self.sample_rate} Hz, not {sound.sample_rate} Hz; use "
                f"`tonemill resample --rate {self.sample_rate}`, or --other-rate resample",
            )
        given = self._fields(example)
        missing = [
            name
            for name in self.knobs
            if isinstance(given.get(name), bool) or not isinstance(given.get(name), int | float)
        ]
        if missing:
            flags = " ".join(f"--set {name}=NUMBER" for name in missing)
            raise AudioError(
                "condition", f"{self.run} needs to know where {' and '.join(missing)} stood; render with {flags}"
            )

    def _played(self, examples: Sequence[Example]) -> list[Example]:
        """Each example with the model's output; a Flow stays one, unless several are played at once."""
        from tonemill.models.contract import Request
        from tonemill.pipelines.rendering.playback import streamed, together
        from tonemill.pipelines.rendering.render import loaded_for

        # Each sample waits for the one before: a processor is the right device for that.
        model, _ = loaded_for(self.run_uri, self.trained_steps, self.sha256, "cpu")
        requests = [Request(0, self._fields(example), {}) for example in examples]
        inputs = [_input(example) for example in examples]
        outputs: list[Sound]
        if self.lockstep > 1 or self.segments > 1:
            outputs = list(together(model, requests, inputs, self.lockstep, self.segments))
        else:
            outputs = [
                streamed(model, request, sound, self.block) for request, sound in zip(requests, inputs, strict=True)
            ]
        return [
            self._with_output(example, before, after)
            for example, before, after in zip(examples, inputs, outputs, strict=True)
        ]

    def _with_output(self, example: Example, before: Sound, after: Sound) -> Example:
        """The example with the model's output in place of its audio, and how that was made."""
        fields: dict[str, Any] = dict(assigned(self.set))
        if before.sample_rate != after.sample_rate:
            fields["sample_rate_from"] = example.fields.get("sample_rate_from", before.sample_rate)
        return example.with_sounds({"audio": after}, bits=max(16, example.bits)).with_fields(fields)

    def _fields(self, example: Example) -> dict[str, Any]:
        return {**example.fields, **assigned(self.set)}

    def _request(self, example: Example) -> Request:
        from tonemill.models.contract import Request

        audio = {role: waveform.samples for role, waveform in example.waveforms().items()}
        arrays = {name: array.values for name, array in example.arrays.items()}
        return Request(example.fields.get("seed", 0), example.fields, audio, arrays)


def _input(example: Example) -> Sound:
    """The sound that goes into the model."""
    for role in ("audio", "dry"):
        if role in example.sounds:
            return example.sounds[role]
    raise AudioError("roles", f"it has {' and '.join(example.sounds) or 'no sound'} and no audio to play")


STEP = Render
