"""Recipes for generative models: a seed each, a point between two seeds, or a latent vector; and no audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.arrays import read_npy
from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.metadata import check_names

OWN: Final = ("seed", "seed_to", "seed_share", "latent")
"""Fields that say what is rendered."""

MOST_SEED: Final = 2**48 - 1
"""Any JSON reader keeps it exactly."""


def seeds(count: int, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """Recipes without audio, for models that render from seeds; different `seed`s share none.

    Raises:
        UsageError: a field's name is one that tonemill writes itself.
    """
    _check(fields)
    for index in range(count):
        yield Recipe(f"seed-{seed}-{index:06d}", {}, {"seed": _seed(seed, index), **fields})


def interpolated(count: int, steps: int, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """From each of `seeds` to the next in so many equal steps on a great circle; the last seed ends the way.

    Raises:
        UsageError: as `seeds`; or there is one seed.
    """
    if count < 2:
        raise UsageError(
            f"--interpolate needs two seeds or more, and there is {count}: `tonemill seeds 2 --interpolate {steps}`."
        )
    ends = list(seeds(count, seed, fields))
    for start, end in pairwise(ends):
        for step in range(steps):
            way = {"seed_to": end.fields["seed"], "seed_share": step / steps}
            yield Recipe(f"{start.path}-{step:04d}", {}, {**start.fields, **way})
    yield Recipe(f"{ends[-1].path}-0000", {}, ends[-1].fields)


def varied(count: int, around: int, amount: float, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """Neighbours of one seed: each a share of the way to another one.

    Args:
        count: how many.
        around: the seed, as the field `seed` of a clip has it.
        amount: the share: 0 is the seed itself, 1 no more like it than any other.
        seed: another one gives other neighbours.
        fields: of all.

    Raises:
        UsageError: as `seeds`; or seed or amount are out of bounds.
    """
    _check(fields)
    if not 0 <= around <= MOST_SEED:
        raise UsageError(f"--vary is {around}; it must be a seed from 0 to {MOST_SEED}, as the field seed of a clip.")
    if not 0 <= amount <= 1:
        raise UsageError(f"--amount is {amount}; it must be from 0 to 1.")
    for index in range(count):
        way = {"seed_to": _seed(seed, index), "seed_share": amount}
        yield Recipe(f"vary-{around}-{seed}-{index:06d}", {}, {"seed": around, **way, **fields})


def of_latents(file: Path, count: int | None, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """One recipe for each row of an array of latent vectors; a seed of its own decides the rest.

    Args:
        file: `.npy`, float32 (rows, size).
        count: how many of the first rows; None takes all.
        seed: another one gives other noise.
        fields: of all.

    Raises:
        UsageError: as `seeds`; or the file holds no such array, or fewer rows.
    """
    rows = _rows(file)
    if count is not None and count > len(rows):
        raise UsageError(f"{file} holds {len(rows)} latent vectors, and {count} were requested.")
    for recipe, row in zip(seeds(len(rows) if count is None else count, seed, fields), rows, strict=False):
        yield Recipe(recipe.path.replace("seed", "latent", 1), {}, {**recipe.fields, "latent": row})


def _rows(file: Path) -> list[list[float]]:
    try:
        rows: list[list[float]] = read_npy(file.read_bytes(), 1, None).values.tolist()
    except OSError as error:
        raise UsageError(f"--latents {file} cannot be read: {error.strerror}.") from error
    except AudioError as error:
        raise UsageError(
            f"--latents {file} cannot be read: {error}. It must hold a latent vector in each row, as "
            "`numpy.save(file, rows.astype('float32'))` writes it."
        ) from error
    return rows


def _seed(seed: int, index: int) -> int:
    # 48 bits.
    return number_of(f"{seed}:{index}", 6)


def _check(fields: Mapping[str, Any]) -> None:
    check_names(fields)
    for name in OWN:
        if name in fields:
            raise UsageError(
                f"--set {name} would give all recipes the same seed. Leave it out; --seed N draws other seeds."
            )
