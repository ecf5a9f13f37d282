"""Change the number of channels: mix them, choose one, spread one, or make a mono clip of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.audiotools.waveform import Sound
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Channels(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("channel", "channels_from", "mix_db")

    policy: Annotated[
        Literal["mean", "left", "right", "loudest", "stereo", "keep", "explode"],
        "Mean of all; the first; the second; the one of highest RMS; mono twice; as they are; a mono clip of each.",
    ]

    arguments = ("policy",)

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.channels import channel_powers, laid_out, picked
        from tonemill.pipelines.steps._mixing import converted

        counts = {role: sound.channels for role, sound in example.sounds.items()}
        most = max(counts.values(), default=1)
        if self.policy == "keep":
            yield example
        elif self.policy in ("mean", "stereo"):
            layout: Literal["mono", "stereo"] = "mono" if self.policy == "mean" else "stereo"
            yield converted(example, lambda sound, noted: laid_out(sound, layout, noted))
        elif most > 1:
            if len(set(counts.values()) - {1}) > 1:
                raise AudioError("roles", f"its roles have {counts} channels; `tonemill channels mean` makes each mono")
            channels = {"left": [0], "right": [1], "explode": list(range(most))}.get(self.policy)
            if channels is None:
                # The first role with several channels decides, or dry and wet could come from different channels.
                first = next(role for role in sorted(counts) if counts[role] == most)
                powers = channel_powers(example.sounds[first])
                channels = [powers.index(max(powers))]
            if self.policy == "explode" and not example.is_clip:
                _read_through(example.sounds)
            for channel in channels:
                sounds = {
                    role: picked(sound, channel) if counts[role] > 1 else sound
                    for role, sound in example.sounds.items()
                }
                # From here on, damage in one channel rejects that channel's clips only.
                is_clip = example.is_clip or self.policy == "explode"
                yield example.converted(sounds, is_clip=is_clip).with_fields({"channel": channel + 1})
        else:
            yield example

    def estimate(self, expected: Estimate) -> Estimate:
        if self.policy == "keep":
            return expected
        if self.policy == "explode":
            return expected._replace(clips=expected.clips * expected.channels, channels=1)
        return expected._replace(channels=2 if self.policy == "stereo" else 1)


def _read_through(sounds: Mapping[str, Sound]) -> None:
    """Decode to the end first, so that damage rejects the source and not single clips."""
    for sound in sounds.values():
        for _ in sound.blocks():
            pass


STEP = Channels
