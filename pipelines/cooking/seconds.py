"""Divide the seconds of a source that were read into stored, left behind, rejected and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.recipe import Recipe

Span = tuple[float, float]
"""Start and end in seconds of the source."""

PART = "within"
"""The step that limits a recipe to a part of its source."""


def of_source(
    recipe: Recipe,
    decoded: Mapping[str, int],
    kept: Sequence[Mapping[str, Any]],
    refused: Iterable[tuple[str, Example]],
    outcome: str,
) -> dict[str, float]:
    """Seconds `read` of a source, and `stored`, `rejected`, `filtered` and `left_behind`, which add up to `read`.

    A second in several clips counts once: as stored if one of them was stored, else as rejected, else as filtered. A
    second in no clip is left behind. A source that was rejected or filtered whole has only `read` and that outcome.

    Args:
        recipe: of the source.
        decoded: samples per channel by role, for roles that were decoded to their end.
        kept: index rows of the source's examples.
        refused: `rejected` or `filtered`, and the clip, for each clip that was not stored.
        outcome: of the source as a whole: `kept`, `rejected` or `filtered`.
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
    """Decoded samples by role, from the index rows of a source; only roles whose declared length differs."""
    row = rows[0] if rows else {}
    ends = {name: name.removesuffix("decoded_samples").rstrip("_") for name in row if name.endswith("decoded_samples")}
    return {role or "audio": row[name] for name, role in ends.items() if row[name] is not None}


def _whole(recipe: Recipe, decoded: Mapping[str, int]) -> Span:
    """The span that a recipe reads of its source. A pair counts once; a source of unknown length has 0 s."""
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
    """The span of a clip in its source; None for a sound that is not in memory, so was never cut."""
    clips = [sound for sound in example.sounds.values() if isinstance(sound, Waveform)]
    if not clips:
        return None
    padded = example.fields.get("padded_samples", 0) if example.is_clip else 0
    frames = max(clip.samples.shape[1] for clip in clips) - (padded if isinstance(padded, int) else 0)
    return example.start_seconds, example.start_seconds + frames / clips[0].sample_rate


def _measure(spans: Iterable[Span]) -> float:
    """The length of the union of spans, in seconds."""
    total, reached = 0.0, float("-inf")
    for first, end in sorted(spans):
        total += max(0.0, end - max(first, reached))
        reached = max(reached, end)
    return total
