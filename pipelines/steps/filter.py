"""Leave out what is too short, long, quiet, loud, silent, clipped or off zero, or whose fields do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tonemill.audiotools.errors import Filtered, UsageError
from tonemill.pipelines.recipes.step import Step
from tonemill.pipelines.steps._levels import LEVEL_FIELDS

if TYPE_CHECKING:
    from tonemill.audiotools.editing.levels import Levels
    from tonemill.pipelines.recipes.example import Example


@dataclass(frozen=True)
class Filter(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = LEVEL_FIELDS

    min_seconds: Annotated[float | None, "Shortest."] = None
    max_seconds: Annotated[float | None, "Longest."] = None
    min_peak_db: Annotated[float | None, "Lowest peak, in dB of full scale."] = None
    max_peak_db: Annotated[float | None, "Highest peak, in dB of full scale; 0 leaves out what would be clipped."] = (
        None
    )
    min_loudness_lufs: Annotated[float | None, "Lowest loudness; silence has none and goes."] = None
    max_loudness_lufs: Annotated[float | None, "Highest loudness."] = None
    max_silence: Annotated[float | None, "Largest share of silence, from 0 to 1."] = None
    silence_db: Annotated[float, "10 ms whose peak is under this are silence, in dB of full scale."] = -60.0
    max_clipping: Annotated[
        float | None, "Largest share of samples in runs of 3 or more at full scale, from 0 to 1."
    ] = None
    max_dc: Annotated[float | None, "Largest distance of a channel's mean from zero, full scale being 1."] = None
    where: Annotated[str | None, "A condition on fields and what is measured, as 'peak_db - rms_db > 6'."] = None

    def __post_init__(self) -> None:
        limits = {name: value for name, value in vars(self).items() if name != "silence_db" and value is not None}
        if not limits:
            raise UsageError(
                "filter needs a limit or a condition, as in --min-seconds 0.1 or --where 'label == \"kick\"'."
            )
        for name, value in limits.items():
            low, high = (0, 1) if name in ("max_silence", "max_clipping", "max_dc") else (-1e9, 1e9)
            if name != "where" and not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be from {low:g} to {high:g}.")
        if not -200 <= self.silence_db <= 0:
            raise UsageError(f"--silence-db is {self.silence_db}; it must be from -200 to 0, as in --silence-db -60.")
        if self.where is not None:
            from tonemill.pipelines.recipes.conditions import condition

            condition(self.where, "--where")

    def needs_fields(self) -> frozenset[str]:
        if self.where is None:
            return frozenset()
        from tonemill.pipelines.recipes.conditions import condition

        names = condition(self.where, "--where").names
        return frozenset(name for name in names - set(_SEEN) if not name.endswith("peak_db"))

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.pipelines.steps._levels import as_fields, levels_of

        words = set(re.findall(r"\w+", self.where or ""))
        loudness = (
            self.min_loudness_lufs is not None
            or self.max_loudness_lufs is not None
            or any(word.endswith(("loudness_lufs", "loudness_gated")) for word in words)
        )
        levels = levels_of(example, self.silence_db, loudness)
        for role, one in levels.items():
            prefix = "" if len(levels) == 1 else f"{role}: "
            for limit in self._limits(one):
                limit.check(prefix)
        measured = as_fields(example, levels)
        self._check_condition(example, levels, measured)
        yield example.with_fields(measured)

    def _limits(self, levels: Levels) -> tuple[_Limits, ...]:
        lufs = levels.loudness.lufs if levels.loudness else None
        none = float("-inf")
        return (
            _Limits("seconds", levels.frames / levels.sample_rate, " s", self.min_seconds, self.max_seconds),
            _Limits(
                "peak_db", none if levels.peak_db is None else levels.peak_db, " dB", self.min_peak_db, self.max_peak_db
            ),
            _Limits(
                "loudness_lufs", none if lufs is None else lufs, " LUFS", self.min_loudness_lufs, self.max_loudness_lufs
            ),
            _Limits("silence", levels.silence_share, "", None, self.max_silence),
            _Limits("clipping", levels.clipping_share, "", None, self.max_clipping),
            _Limits("dc", levels.dc_offset, "", None, self.max_dc),
        )

    def _check_condition(self, example: Example, levels: Mapping[str, Levels], measured: Mapping[str, Any]) -> None:
        if self.where is None:
            return
        from tonemill.pipelines.recipes.conditions import condition, unknown_name

        first = next(iter(levels.values()))
        known = {
            **example.fields,
            "sample_rate": first.sample_rate,
            "channels": max(sound.channels for sound in example.sounds.values()),
            "start_seconds": example.start_seconds,
            "seconds": first.frames / first.sample_rate,
            "samples": first.frames,
            **{example.name_for(role, "peak_db"): one.peak_db for role, one in levels.items()},
            **measured,
        }
        if not (test := condition(self.where, "--where"))(known):
            if unknown := sorted(test.names - known.keys()):
                raise Filtered("condition", f"it does not fit {self.where!r}: {unknown_name(unknown[0], known)}")
            named = sorted(set(re.findall(r"[^\W\d]\w*", self.where)) & known.keys())
            values = ", ".join(f"{name} is {known[name]!r}" for name in named)
            raise Filtered("condition", f"it does not fit {self.where!r}" + (f": {values}" if values else ""))


_SEEN = ("sample_rate", "channels", "start_seconds", "seconds", "samples")
"""Names that a condition may use beside the fields of an example."""

_REASONS = {
    "seconds": ("length", "too_short", "too_long"),
    "peak_db": ("peak", "too_quiet", "too_loud"),
    "loudness_lufs": ("loudness", "too_quiet", "too_loud"),
    "silence": ("share of silence", "", "silent"),
    "clipping": ("share of clipped samples", "", "clipping"),
    "dc": ("mean", "", "dc_offset"),
}
"""By limit: the name of the measured value, the reject reason below the limit, the reject reason above it."""


@dataclass(frozen=True)
class _Limits:
    """A measured value and its allowed range."""

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None

    def check(self, prefix: str) -> None:
        """Raises: Filtered, with the value and the limit."""
        flag = self.name.replace("_", "-")
        name, below, above = _REASONS[self.name]
        what = f"{prefix}its {name} is {self.value:.4g}{self.unit}"
        if self.low is not None and self.value < self.low:
            raise Filtered(below, f"{what}, below --min-{flag} {self.low:g}")
        if self.high is not None and self.value > self.high:
            raise Filtered(above, f"{what}, above --max-{flag} {self.high:g}")


STEP = Filter
