"""Bring audio to a peak, RMS or loudness: before `slice` the whole file, after it each clip; nothing clips unsaid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tonemill.audiotools.errors import AudioError, Filtered, UsageError
from tonemill.pipelines.recipes.step import Step
from tonemill.pipelines.steps._levels import LEVEL_FIELDS

if TYPE_CHECKING:
    from tonemill.audiotools.editing.levels import Levels
    from tonemill.pipelines.recipes.example import Example

_ROUNDING_DB = 2e-6
"""Four times what a product of float32 may be off by."""

_SMALLEST_DB = 1e-4


@dataclass(frozen=True)
class Normalize(Step):
    needs_material: ClassVar[bool] = True
    gives_fields: ClassVar[tuple[str, ...] | None] = (*LEVEL_FIELDS, "gain_db", "gain_limited", "gain_limited_by")

    peak_db: Annotated[float | None, "Largest sample to reach, in dB of full scale, as -1; not the true peak."] = None
    rms_db: Annotated[float | None, "RMS to reach, in dB of full scale; a full-scale sine has -3.01."] = None
    lufs: Annotated[float | None, "Integrated loudness to reach, as -23 (ITU-R BS.1770-4)."] = None
    max_gain_db: Annotated[float, "Never amplify by more, so that noise is not blown up."] = 40.0
    ceiling_db: Annotated[float, "No sample may come above this by the gain, in dB of full scale."] = 0.0
    on_clip: Annotated[
        Literal["limit", "reject", "allow"], "A gain that leads above the ceiling: lower it, reject, or allow it."
    ] = "limit"
    on_silence: Annotated[Literal["keep", "drop"], "What has no level: keep it as it is, or leave it out."] = "keep"
    roles: Annotated[Literal["together", "each"], "One gain for all roles, set by the loudest, or one for each."] = (
        "together"
    )

    def __post_init__(self) -> None:
        targets = {"--peak-db": self.peak_db, "--rms-db": self.rms_db, "--lufs": self.lufs}
        given = [flag for flag, value in targets.items() if value is not None]
        if len(given) != 1:
            raise UsageError("normalize needs one of --peak-db, --rms-db and --lufs, as in --peak-db -1.")
        for flag, value in (*targets.items(), ("--ceiling-db", self.ceiling_db)):
            if value is not None and not -200 <= value <= 0:
                raise UsageError(f"{flag} is {value}; it must be from -200 to 0, as in {flag} -1.")
        if not 0 <= self.max_gain_db <= 200:
            raise UsageError(f"--max-gain-db is {self.max_gain_db}; it must be from 0 to 200, as in --max-gain-db 40.")

    def apply(self, example: Example) -> Iterator[Example]:
        from tonemill.audiotools.editing.levels import amplified
        from tonemill.pipelines.steps._levels import as_fields, levels_of

        levels = levels_of(example, loudness=self.lufs is not None)
        groups = [list(levels)] if self.roles == "together" else [[role] for role in levels]
        gains: dict[str, float] = {}
        fields: dict[str, Any] = {}
        for group in groups:
            gain_db, limit = self._gain({role: levels[role] for role in group})
            gains |= dict.fromkeys(group, gain_db)
            fields |= self._gain_fields(example, group, gain_db, limit)
        sounds = {
            role: amplified(sound, gains[role]) if gains[role] else sound for role, sound in example.sounds.items()
        }
        yield example.with_sounds(sounds).with_fields({**as_fields(example, levels, gains), **fields})

    def _gain(self, levels: Mapping[str, Levels]) -> tuple[float, str]:
        """(common gain of the sounds in dB, its limit: "silence", "max_gain", "ceiling", or "" for none).

        Raises:
            AudioError: clipping: the peak would exceed the ceiling, and `on_clip` is "reject".
            Filtered: silent: there is no level to measure, and `on_silence` is "drop".
        """
        target = next(value for value in (self.peak_db, self.rms_db, self.lufs) if value is not None)
        level = max((db for db in map(self._level, levels.values()) if db is not None), default=None)
        peak_db = max((one.peak_db for one in levels.values() if one.peak_db is not None), default=None)
        if level is None or peak_db is None:
            if self.on_silence == "drop":
                raise Filtered("silent", f"it is silent, and no gain brings it to {target:g} {self._unit}")
            return 0.0, "silence"
        gain, limit = target - level, ""
        if gain > self.max_gain_db:
            gain, limit = self.max_gain_db, "max_gain"
        headroom = self.ceiling_db - peak_db
        if self.on_clip != "allow" and gain > headroom - _ROUNDING_DB:
            # A target equal to the ceiling is missed by _ROUNDING_DB, which is inaudible and not reported as a limit.
            above = gain > headroom + _ROUNDING_DB
            if above and self.on_clip == "reject":
                raise AudioError(
                    "clipping",
                    f"a gain of {gain:+.2f} dB to {target:g} {self._unit} would lift its peak to "
                    f"{peak_db + gain:+.2f} dB, above {self.ceiling_db:g}; --on-clip limit uses a lower gain "
                    "instead",
                )
            gain, limit = headroom - _ROUNDING_DB, "ceiling" if above else limit
        # Rounded down, so that the field is the very gain applied and never leads above the ceiling.
        return (math.floor(gain * 1e4) / 1e4 if abs(gain) > _SMALLEST_DB else 0.0), limit

    def _level(self, levels: Levels) -> float | None:
        if self.lufs is not None:
            return levels.loudness.lufs if levels.loudness else None
        return levels.peak_db if self.peak_db is not None else levels.rms_db

    @property
    def _unit(self) -> str:
        return "LUFS" if self.lufs is not None else "dB peak" if self.peak_db is not None else "dB RMS"

    def _gain_fields(self, example: Example, group: list[str], gain_db: float, limit: str) -> dict[str, Any]:
        """Fields of the gain and its limit; the gains of several `normalize` steps are added."""
        names = [""] if self.roles == "together" else [example.name_for(role, "") for role in group]
        fields: dict[str, Any] = {}
        for prefix in names:
            before = example.fields.get(f"{prefix}gain_db", 0.0)
            total = gain_db + before if isinstance(before, int | float) else gain_db
            fields |= {f"{prefix}gain_db": round(total, 4), f"{prefix}gain_limited": bool(limit)}
            if limit:
                fields[f"{prefix}gain_limited_by"] = limit
        return fields


STEP = Normalize
