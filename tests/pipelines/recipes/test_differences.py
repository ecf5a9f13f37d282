"""How two recipes differ, in words: each parameter by its name, and nothing for the place of a file."""

from __future__ import annotations

from typing import Any

import pytest

from tonemill.pipelines.recipes.differences import differences
from tonemill.pipelines.recipes.recipe import Recipe

SLICE = {"step": "slice", "version": 1, "seconds": 2.0, "short": "pad"}
SOURCE = {"uri": "file:///a/1.wav", "sha256": "a" * 64, "bytes": 10, "frames": 100, "modified_ns": 1}
OTHER = {**SOURCE, "sha256": "b" * 64, "bytes": 12}
OLD = Recipe("1.wav", {"audio": SOURCE}, {"label": "kick"}, [SLICE])


def new(**changes: Any) -> Recipe:
    same: dict[str, Any] = {"sources": {"audio": SOURCE}, "fields": {"label": "kick"}, "steps": [SLICE]}
    return Recipe("1.wav", **{**same, **changes})


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (new(), []),
        (new(sources={"audio": {**SOURCE, "uri": "file:///b/1.wav", "modified_ns": 9}}), []),
        (new(sources={"audio": OTHER}), ["source audio: other content (aaaaaaaa -> bbbbbbbb)"]),
        (new(sources={"dry": SOURCE}), ["source audio is gone", "source dry is new"]),
        (new(fields={"label": "snare", "take": 2}), ["field label 'kick' -> 'snare'", "field take None -> 2"]),
        (new(steps=[{**SLICE, "seconds": 1.0}]), ["slice seconds 2.0 -> 1.0"]),
        (new(steps=[{**SLICE, "seconds": 2}]), ["slice seconds 2.0 -> 2"]),
        (new(steps=[]), ["steps slice -> none"]),
        (new(start=5), ["start 0 -> 5"]),
    ],
)  # fmt: skip
def test_each_difference_has_its_name(recipe: Recipe, words: list[str]) -> None:
    assert differences(OLD, recipe) == words
