"""A stage refuses a stream of which nothing fits its step, and no stream of which something does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes import fitting
from tonemill.pipelines.recipes.fitting import Fitting
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import STEPS

SOURCE: dict[str, Any] = {"uri": "file:///a.wav", "sample_rate": 8000, "channels": 1, "frames": 8000}
ALONE = Recipe("a.wav", {"audio": SOURCE})
PAIR = Recipe("b.wav", {"dry": SOURCE, "wet": SOURCE})


@pytest.mark.parametrize("recipes", [[PAIR], [PAIR, ALONE], [ALONE, PAIR], [ALONE, ALONE, PAIR, ALONE]])
def test_one_recipe_that_fits_is_enough(recipes: list[Recipe]) -> None:
    held = Fitting(STEPS.module("align").STEP())
    passed = [held.take(recipe) for recipe in recipes]
    held.close()
    assert [one for some in passed for one in some] == recipes
    # What may be refused is not written: a sink behind would take it for sound.
    assert not any(passed[: recipes.index(PAIR)])


def test_a_stream_of_which_nothing_fits_is_refused_at_its_end_or_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Fitting(STEPS.module("align").STEP())
    held.take(ALONE)
    with pytest.raises(UsageError, match=r"align needs dry and wet, and 'a.wav' has audio; `tonemill pair DRY WET`"):
        held.close()
    monkeypatch.setattr(fitting, "MOST_UNFIT", 3)
    held = Fitting(STEPS.module("align").STEP())
    held.take(ALONE)
    held.take(ALONE)
    with pytest.raises(UsageError, match="align needs dry and wet"):
        held.take(ALONE)


def test_fields_that_an_earlier_version_gave_may_be_needed() -> None:
    """Version 2 of align wrote the gain as gain_db."""
    condition = STEPS.module("filter").STEP(where="gain_db < 0")
    held = Fitting(condition)
    held.take(replace(PAIR, steps=[{"step": "align", "version": 2}]))
    held.close()
    held = Fitting(condition)
    held.take(replace(PAIR, steps=[{"step": "align"}]))
    with pytest.raises(UsageError, match="filter needs the field 'gain_db'"):
        held.close()
