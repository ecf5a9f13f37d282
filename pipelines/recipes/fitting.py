"""Check, when a stage starts and without reading sound, that a step can process the recipes it gets."""

from __future__ import annotations

from typing import Final

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.conditions import unknown_name
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.recipes.step import STEPS, Step, load_steps, step_name

MOST_UNFIT: Final = 1000
"""Recipes at the beginning of a stream that may all be of a kind that a step cannot work on."""


class Fitting:
    """Holds a stream's recipes against what a step needs.

    Args:
        step: that is to be appended.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._recipes = 0
        self._needed = step.needs_fields()
        self._fields: set[str] = set()
        self._is_open = False
        self._fits = False
        self._held: list[Recipe] = []
        self._unfit: UsageError | None = None

    def take(self, recipe: Recipe) -> list[Recipe]:
        """Check the next recipe: one that the step can work on is enough, for the others are rejected one by one.

        Returns:
            The recipes that may be passed on now: none before one fits, then all that were held back.

        Raises:
            UsageError: the step cannot work on any of the first `MOST_UNFIT`.
        """
        self._recipes += 1
        if not self._fits:
            try:
                self._check_roles(recipe)
                self._fits = True
            except UsageError as error:
                self._unfit = self._unfit or error
                if self._recipes == MOST_UNFIT:
                    raise self._unfit from None
        self._note_fields(recipe)
        self._held.append(recipe)
        if not self._fits:
            return []
        ready, self._held = self._held, []
        return ready

    def _note_fields(self, recipe: Recipe) -> None:
        if self._needed <= self._fields or self._is_open:
            return
        self._fields |= recipe.fields.keys()
        before = load_steps(recipe.steps)
        # What an earlier version gave is written nowhere.
        self._is_open = any(step.gives_fields is None or step.version != type(step).version for step in before)
        prefixes = {"", *(f"{role}_" for role in recipe.sources)}
        for step in (*before, self._step):
            self._fields |= {f"{prefix}{name}" for name in step.gives_fields or () for prefix in prefixes}

    def close(self) -> None:
        """Check all recipes together, after the last one.

        Raises:
            UsageError: the step cannot work on any of them, or needs a field that is in none and that no step before
                gives.
        """
        if self._unfit is not None and not self._fits:
            raise self._unfit
        missing = sorted(self._needed - self._fields)
        if self._is_open or not self._recipes or not missing:
            return
        name, given = missing[0], _givers(missing[0])
        if given:
            raise UsageError(
                f"{step_name(type(self._step))} needs the field {name!r}, and no command before it writes that "
                f"field. `tonemill {given[0]}` does: put it before `tonemill {step_name(type(self._step))}`."
            )
        words = unknown_name(name, self._fields, in_condition=hasattr(self._step, "where"))
        raise UsageError(f"{step_name(type(self._step))} cannot work: {words}")

    def _check_roles(self, recipe: Recipe) -> None:
        roles, arrays = {*recipe.sounds}, {*recipe.arrays}
        if any(step.makes_roles for step in load_steps(recipe.steps)):
            return
        name, wanted = step_name(type(self._step)), self._step.needs_roles
        holds = " and ".join(sorted(roles | arrays)) or "none"
        if not roles and not arrays and self._step.needs_material:
            raise UsageError(
                f"{name} works on sound, and {recipe.path!r} has none: it is a seed. Put `tonemill render RUN` before "
                "it."
            )
        if arrays and not roles and self._step.needs_sound:
            raise UsageError(
                f"{name} works on sound, and {recipe.path!r} has {holds} only. Put it before the `tonemill render` "
                "that makes the arrays, or give that one --keep-audio."
            )
        if wanted and not set(wanted) <= roles:
            raise UsageError(
                f"{name} needs {' and '.join(wanted)}, and {recipe.path!r} has {holds}; `tonemill pair DRY WET` makes "
                "pairs."
            )


def _givers(field: str) -> list[str]:
    """Names of steps that come with tonemill and give a field."""
    return [name for name in sorted(STEPS.own()) if field in (STEPS.module(name).STEP.gives_fields or ())]
