"""Streaming through a model, block by block: the interface of players, and a function that plays one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Blocks = Iterator[Float[np.ndarray, "rows _"]]


@runtime_checkable
class Player(Protocol):
    """One stream through a direction that streams: its output does not depend on where the input is cut into blocks.

    Its memory does not grow. Rows are channels of audio or of an array; columns are samples or frames.
    """

    channels: int
    """Rows of the output."""

    latency: int
    """Columns at the start of the output before the one of the first input; rendering drops them."""

    def push(self, block: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "channels _"]:
        """Process the next columns of the input, any number; returns the columns that are final, perhaps none."""
        ...

    def flush(self) -> Float[np.ndarray, "channels _"]:
        """The rest of the output, after the input's end: in all at least `latency` columns more than the input's."""
        ...


def played(player: Player, blocks: Blocks, output_per_input: int | Fraction = 1) -> Blocks:
    """The output of a player for blocks of input, aligned with the input and as long.

    Args:
        player: at its start.
        blocks: (rows, columns) of any lengths.
        output_per_input: columns of output for a column of input, as Fraction(1, 2048) from samples to latents.
    """
    skip, columns, given = player.latency, 0, 0
    for block in blocks:
        columns += block.shape[1]
        output = player.push(block)
        kept = output[:, skip:]
        skip -= output.shape[1] - kept.shape[1]
        given += kept.shape[1]
        if kept.shape[1]:
            yield kept
    rest = player.flush()[:, skip:]
    wanted = math.ceil(columns * output_per_input) - given
    if wanted > rest.shape[1]:
        raise RuntimeError(f"{type(player).__name__} ends {wanted - rest.shape[1]} columns early; it must flush them")
    if wanted > 0:
        yield rest[:, :wanted]
