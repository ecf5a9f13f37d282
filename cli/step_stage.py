"""The loop of every step stage: read a stream, append the step to each recipe, write the stream."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tonemill.cli.console import stdin, stdout, tell
from tonemill.cli.options import parameters
from tonemill.pipelines import config
from tonemill.pipelines.recipes.fitting import Fitting
from tonemill.pipelines.recipes.recipe_stream import RecipeReader, write_failure, write_recipe, write_trailer
from tonemill.pipelines.recipes.shared_steps import of_steps
from tonemill.pipelines.recipes.step import MoreFlags, Step, step_name


def step_stage(step: type[Step], more: MoreFlags | None = None) -> Callable[..., None]:
    """The command of a step: its fields are the flags, checked before the first recipe is read.

    Args:
        step: its class.
        more: flags that depend on what was typed.
    """
    extra = parameters(more.settings, unset=True, panel=more.panel) if more is not None else []

    def stage(**values: Any) -> None:
        name = step_name(step)
        if more is not None:
            typed = {one.name: values.pop(one.name) for one in extra}
            values["options"] = {key: value for key, value in typed.items() if value not in (None, [])}
        settled = config.build(step, values, name).settle()
        record = settled.to_json()
        if notice := settled.notice():
            tell(notice)
        reader, out, fitting = RecipeReader(stdin(name)), stdout(), Fitting(settled)

        @of_steps
        def longer(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [*steps, record]

        for recipe in reader:
            for one in fitting.take(recipe):
                write_recipe(replace(one, steps=longer(one.steps)), out)
        fitting.close()
        if reader.fits:
            # Write a trailer only after a complete stream: after a cut one it would hide the cut.
            write_trailer(reader.recipes, out, reader.lacks)
        elif reader.failed is not None:
            write_failure(reader.failed, out)

    own = parameters(step, step.arguments, step.hidden)
    stage.in_stores = step.in_stores  # type: ignore[attr-defined]
    stage.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
    return stage
