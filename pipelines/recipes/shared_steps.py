"""What is made of the steps of recipes, once for all recipes in a row that share one list, as those of a stream do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Steps = TypeVar("Steps")
T = TypeVar("T")


def of_steps(make: Callable[[Steps], T]) -> Callable[[Steps], T]:
    """A function that returns its last result where it is given the same list; lists of steps are never changed."""
    last: tuple[Any, Any] = None, None

    def made(steps: Steps) -> T:
        nonlocal last
        known, result = last
        if known is not steps:
            result = make(steps)
            last = steps, result
        return result

    return made
