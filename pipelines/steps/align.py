"""Line wet up with dry: latency, polarity, gain and clock drift, found through the effect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tonemill.audiotools.errors import AudioError, Filtered, UsageError
from tonemill.pipelines.recipes.step import Step

if TYPE_CHECKING:
    from tonemill.audiotools.alignment.alignment import Alignment
    from tonemill.audiotools.waveform import Sound
    from tonemill.pipelines.recipes.example import Example

CORRECTIONS = ("latency", "polarity", "gain", "drift")
STEADY_PPM = 2.0
"""Clocks this near each other are one clock: over five minutes they part by half a millisecond."""

SILENT_DB = -80.0
"""A peak below this is no recording of anything."""


@dataclass(frozen=True)
class Align(Step):
    version: ClassVar[int] = 3
    oldest: ClassVar[int | None] = 2
    needs_material: ClassVar[bool] = True
    needs_roles: ClassVar[tuple[str, ...]] = ("dry", "wet")
    gives_fields: ClassVar[tuple[str, ...] | None] = (
        "latency_samples",
        "latency_error_samples",
        "latency_ms",
        "polarity",
        "drift_ppm",
        "align_confidence",
        "drift_corrected_ppm",
        "latency_corrected_samples",
        "polarity_corrected",
        "align_gain_db",
        "gain_corrected_db",
        "replicate_esr",
    )

    correct: Annotated[str, "What to put right: any of latency, polarity, gain, drift, with commas; or none."] = (
        "latency,polarity"
    )
    max_latency_ms: Annotated[float, "Look for delays up to this, either way."] = 200.0
    margin_samples: Annotated[int, "Leave the wet so much late, so that it never leads through an effect."] = 1
    min_confidence: Annotated[float, "Refuse a pair that is less surely related, from 0 to 1."] = 0.5
    max_drift_ppm: Annotated[float, "Refuse a pair whose clocks differ more, unless drift is corrected."] = 15.0
    max_clipping: Annotated[float, "Refuse a wet with a larger share of samples clipped in recording."] = 0.02
    max_replicate_esr: Annotated[
        float | None, "Refuse a wet that differs more where the dry repeats itself; reverbs and phasers do."
    ] = None
    min_seconds: Annotated[float, "Refuse a pair that is shorter after lining up."] = 0.25

    def __post_init__(self) -> None:
        unknown = [name for name in self.corrections if name not in CORRECTIONS]
        if unknown:
            raise UsageError(f"--correct is {self.correct!r}; it can be none, or any of {', '.join(CORRECTIONS)}.")
        for flag, value, least in (
            ("--max-latency-ms", self.max_latency_ms, 1.0),
            ("--margin-samples", self.margin_samples, 0),
            ("--max-drift-ppm", self.max_drift_ppm, 0),
            ("--max-clipping", self.max_clipping, 0),
            ("--min-seconds", self.min_seconds, 0),
        ):
            if not least <= value < float("inf"):
                raise UsageError(f"{flag} is {value}; it must be {least:g} or more.")
        if self.max_latency_ms > 5000:
            raise UsageError(f"--max-latency-ms is {self.max_latency_ms:g}; it must be at most 5000.")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"--min-confidence is {self.min_confidence}; it must be from 0 to 1.")

    @property
    def corrections(self) -> tuple[str, ...]:
        return () if self.correct == "none" else tuple(name.strip() for name in self.correct.split(","))

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.alignment.alignment import align
        from tonemill.audiotools.editing.silence import extent

        if set(example.sounds) != {"dry", "wet"}:
            raise AudioError(
                "roles",
                f"it has {' and '.join(sorted(example.sounds)) or 'none'}, not dry and wet; `tonemill pair DRY "
                "WET` makes pairs",
            )
        dry, wet = example.sounds["dry"], example.sounds["wet"]
        for what, of_dry, of_wet, mend in (
            ("sample rate", dry.sample_rate, wet.sample_rate, f"resample --rate {dry.sample_rate}"),
            ("number of channels", dry.channels, wet.channels, "channels mean"),
        ):
            if of_dry != of_wet:
                raise AudioError(
                    "roles",
                    f"the {what} of the dry is {of_dry} and of the wet {of_wet}; put `tonemill {mend}` before align",
                )
        rate = example.sample_rate
        frames = {role: extent(sound)[0] for role, sound in example.sounds.items()}
        if min(frames.values()) < self.min_seconds * rate:
            raise Filtered(
                "too_short", f"it is {min(frames.values()) / rate:.3f} s long, less than {self.min_seconds:g} s"
            )
        self._refuse_clipping(wet)
        found = align(dry, wet, min(frames.values()), self.max_latency_ms)
        about: dict[str, Any] = {
            "latency_samples": round(found.latency_samples, 3),
            "latency_error_samples": round(found.latency_error_samples, 3),
            "latency_ms": round(found.latency_samples / rate * 1000, 4),
            "polarity": found.polarity,
            "drift_ppm": round(found.drift_ppm, 2),
            "align_confidence": round(found.confidence, 3),
        }
        self._refuse_strangers(example, found, about)
        yield self._lined_up(example, found, frames, about)

    def _refuse_clipping(self, wet: Sound) -> None:
        from tonemill.audiotools.editing.levels import measure

        share = measure(wet).clipping_share
        if share > self.max_clipping:
            raise AudioError(
                "clipping",
                f"{share:.1%} of the wet is clipped in the recording, more than --max-clipping {self.max_clipping:g}; "
                "record it again at a lower level",
                clipping_share=share,
            )

    def _refuse_strangers(self, example: Example, found: Alignment, about: dict[str, Any]) -> None:
        from tonemill.audiotools.editing.levels import measure

        if found.confidence < self.min_confidence:
            for role, sound in example.sounds.items():
                peak_db = measure(sound).peak_db
                if peak_db is None or peak_db < SILENT_DB:
                    raise AudioError("silent", f"the {role} is silent, as when a cable is out or a track is muted")
            raise AudioError(
                "unrelated",
                f"at no delay of up to {self.max_latency_ms:g} ms does the wet follow the dry (confidence "
                f"{found.confidence:.2f}). Check that they are recordings of the same playing; if so, raise "
                "--max-latency-ms",
                **about,
            )
        if abs(found.drift_ppm) > self.max_drift_ppm and "drift" not in self.corrections:
            raise AudioError(
                "drift",
                f"the clocks of wet and dry differ by {found.drift_ppm:.1f} ppm, more than --max-drift-ppm "
                f"{self.max_drift_ppm:g}; `tonemill align --correct latency,polarity,drift` corrects it",
                **about,
            )

    def _lined_up(self, example: Example, found: Alignment, frames: dict[str, int], about: dict[str, Any]) -> Example:
        from tonemill.audiotools.alignment.alignment import steady_frames, without_drift
        from tonemill.audiotools.alignment.repeatability import replicate_esr
        from tonemill.audiotools.editing.levels import scaled
        from tonemill.audiotools.editing.silence import part

        rate = example.sample_rate
        sounds = dict(example.sounds)
        if "drift" in self.corrections and abs(found.drift_ppm) > STEADY_PPM:
            sounds["wet"] = without_drift(sounds["wet"], found.drift_ppm)
            frames["wet"] = steady_frames(frames["wet"], found.drift_ppm)
            about["drift_corrected_ppm"] = about["drift_ppm"]
        shift, late = 0, found.latency_samples
        if "latency" in self.corrections:
            # Whole samples, so that every sample stays as it was recorded; and rather late than early.
            early = found.latency_samples - min(found.latency_error_samples, 3.0)
            shift = math.floor(early + 0.12) - self.margin_samples
            about |= {"latency_corrected_samples": shift}
            late -= shift
        first = {"dry": max(0, -shift), "wet": max(0, shift)}
        length = min(frames[role] - first[role] for role in sounds)
        if length < self.min_seconds * rate:
            raise Filtered("too_short", f"{max(0, length) / rate:.3f} s of sound are left after aligning", **about)
        sounds = {role: part(sound, first[role], first[role] + length) for role, sound in sounds.items()}
        if found.polarity < 0 and "polarity" in self.corrections:
            sounds["wet"] = scaled(sounds["wet"], -1.0)
            about["polarity_corrected"] = True
        # Version 2 took the gain of sounds that are a margin apart, and gave it the name that `normalize` adds to.
        name, late = ("align_gain_db", late) if self.version > 2 else ("gain_db", 0.0)
        gain = self._gain(sounds, length, late)
        about[name] = round(20 * math.log10(max(abs(gain), 1e-6)), 3)
        if "gain" in self.corrections and gain:
            sounds["wet"] = scaled(sounds["wet"], 1 / abs(gain))
            about["gain_corrected_db"] = -about[name]
        esr = replicate_esr(sounds["dry"], sounds["wet"], length)
        if esr is not None:
            about["replicate_esr"] = round(esr, 6)
            if self.max_replicate_esr is not None and esr > self.max_replicate_esr:
                raise AudioError(
                    "replicate",
                    f"where the dry repeats itself the wet differs by an ESR of {esr:.3g}, more than "
                    f"--max-replicate-esr {self.max_replicate_esr:g}, as from noise, a moved knob, or an effect "
                    "that changes by itself",
                    **about,
                )
        start_seconds = example.start_seconds + first["dry"] / rate
        return example.with_sounds(sounds, start_seconds=start_seconds).with_fields(about)

    def _gain(self, sounds: dict[str, Sound], length: int, late: float) -> float:
        """From dry to a wet that is so many samples late, or early; 0 if no sample of one has its like in the other."""
        from tonemill.audiotools.alignment.alignment import gain_of
        from tonemill.audiotools.editing.silence import part

        whole = math.floor(late)
        first = {"dry": max(0, -whole), "wet": max(0, whole)}
        shared = length - abs(whole)
        if shared <= 0:
            return 0.0
        dry, wet = (part(sounds[role], first[role], first[role] + shared) for role in ("dry", "wet"))
        return gain_of(dry, wet, late - whole)[0]


STEP = Align
