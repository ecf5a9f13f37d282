"""Convert audio to another sample rate and number of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.step import Estimate, Step

if TYPE_CHECKING:
    from tonemill.audiotools.waveform import Sound
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Resample(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = ("channels_from", "sample_rate_from", "mix_db")

    rate: Annotated[int, "Sample rate to convert to, in hertz."]
    channels: Annotated[Literal["keep", "mono", "stereo"], "Mono is the mean of all channels."] = "keep"
    engine: Annotated[Literal["soxr", "resampy"], "Who converts; soxr is some 60 times faster."] = "soxr"
    quality: Annotated[Literal["best", "high", "fast"], "Filter; docs/resampling.md has each measured."] = "high"

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= 1_536_000:
            raise UsageError(f"--rate is {self.rate} Hz; it must be from 1 to 1536000, as in --rate 44100.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.pipelines.steps._mixing import converted

        yield converted(example, self._converted)

    def estimate(self, expected: Estimate) -> Estimate:
        frames = -(-expected.frames * self.rate // expected.sample_rate)
        channels = {"keep": expected.channels, "mono": 1, "stereo": 2}[self.channels]
        return expected._replace(frames=frames, sample_rate=self.rate, channels=channels)

    def _converted(self, sound: Sound, noted: Callable[[float], None]) -> Sound:
        from tonemill.audiotools.editing.channels import mixed_blocks, mixed_channels
        from tonemill.audiotools.editing.resampling import resample_blocks
        from tonemill.audiotools.waveform import Flow, Waveform

        channels = mixed_channels(sound.channels, self.channels)

        def converted_blocks() -> Iterator:  # type: ignore[type-arg]
            blocks = mixed_blocks(sound, self.channels, noted)
            return resample_blocks(blocks, sound.sample_rate, self.rate, engine=self.engine, quality=self.quality)

        flow = Flow(converted_blocks, self.rate, channels)
        return flow.whole() if isinstance(sound, Waveform) else flow


STEP = Resample
