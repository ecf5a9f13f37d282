"""Account for the seconds of a source that were read: stored, left behind, rejected or filtered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.recipe import Recipe

Span = tuple[float, float]
"""From and to, in seconds of the source."""

PART = "within"
"""The step that says which part of its source a recipe is of."""


def of_source(
    recipe: Recipe,
    decoded: Mapping[str, int],
    kept: Sequence[Mapping[str, Any]],
    refused: Iterable[tuple[str, Example]],
    outcome: str,
) -> dict[str, float]:
    """Seconds of a source by what became of them; they add up to those that were read.

    A second that several clips hold counts once: as stored, if it is in one that was; else as rejected, else as
    filtered. What is in no clip was left behind.

    Args:
        recipe: of the source.
        decoded: samples per channel by role, of those that were decoded to their end.
        kept: rows of the index of its examples.
        refused: `rejected` or `filtered`, and the clip, of each that was not stored.
        outcome: what became of the source as a whole: `kept`, `rejected` or `filtered`.
    """
    whole = _whole(recipe, decoded)
    read = _measure([whole])
    if outcome != "kept":
        return {"read": read, outcome: read}
    spans: dict[str, list[Span]] = {"stored": [_span_of(row) for row in kept], "rejected": [], "filtered": []}
    for kind, example in refused:
        if (span := _extent(example)) is not None:
            spans[kind].append(span)
    found: dict[str, float] = {"read": read}
    before, so_far = 0.0, list[Span]()
    for kind, some in spans.items():
        so_far += [(max(whole[0], first), min(whole[1], end)) for first, end in some]
        together = _measure(so_far)
        found[kind], before = together - before, together
    return {**found, "left_behind": read - before}


def decoded_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Samples that were decoded of each role of a source, where rows of the index say that others were declared."""
    row = rows[0] if rows else {}
    ends = {name: name.removesuffix("decoded_samples").rstrip("_") for name in row if name.endswith("decoded_samples")}
    return {role or "audio": row[name] for name, role in ends.items() if row[name] is not None}


def _whole(recipe: Recipe, decoded: Mapping[str, int]) -> Span:
    """What a recipe reads of its source; a pair counts once, and nothing of a source without a header."""
    begins, lengths = [], []
    for role, source in (recipe.sounds or recipe.arrays).items():
        rate = source.get("sample_rate")
        per_frame = 1 if recipe.sounds else source.get("hop") or 0
        frames = (source.get("frames") or 0) * per_frame
        left = max(0, frames - recipe.start)
        left = decoded.get(role, left if recipe.frames is None else min(left, recipe.frames))
        if rate:
            begins.append(recipe.start / rate)
            lengths.append(left / rate)
    first = min(begins, default=0.0)
    end = first + min(lengths, default=0.0)
    for step in recipe.steps:
        if step["step"] == PART:
            first, end = max(first, step["start_seconds"]), min(end, step["end_seconds"] or end)
    return first, end


def _span_of(row: Mapping[str, Any]) -> Span:
    padded = row.get("padded_samples") or 0
    seconds = (row["samples"] - padded) / row["sample_rate"]
    ratio = row.get("stretch_ratio")
    return row["start_seconds"], row["start_seconds"] + seconds * (ratio if isinstance(ratio, int | float) else 1)


def _extent(example: Example) -> Span | None:
    """Where a clip was in its source; None for a sound that was never cut."""
    clips = [sound for sound in example.sounds.values() if isinstance(sound, Waveform)]
    if not clips:
        return None
    padded = example.fields.get("padded_samples", 0) if example.is_clip else 0
    frames = max(clip.samples.shape[1] for clip in clips) - (padded if isinstance(padded, int) else 0)
    return example.start_seconds, example.start_seconds + frames / clips[0].sample_rate


def _measure(spans: Iterable[Span]) -> float:
    """The length of spans together, where they overlap counted once."""
    total, reached = 0.0, float("-inf")
    for first, end in sorted(spans):
        total += max(0.0, end - max(first, reached))
        reached = max(reached, end)
    return total
