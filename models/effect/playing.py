"""Play audio through a trained network: the options of the `render` direction, and one stream per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from tonemill.models.directions import Bounds, Direction, RequestField
from tonemill.models.effect.network import SIZE, NetworkPlayer


@dataclass(frozen=True)
class PlayOptions:
    lockstep: Annotated[
        int,
        "Files that a network with feedback plays at once, each whole in memory; 1 plays one after another.",
        Bounds(1),
    ] = 1
    segments: Annotated[
        int,
        "Cut each file into so many overlapping segments, which a network with feedback plays at once; 1: in order.",
        Bounds(1),
    ] = 1
    block: Annotated[int, "Samples of audio played at a time; the output does not depend on it.", Bounds(1)] = 8192


@dataclass(frozen=True)
class PackedPlayOptions(PlayOptions):
    size: SIZE = None


class ChannelPlayers:
    """A stream of several channels, each through a network of its own.

    Args:
        players: of each channel.
        block: samples that a network gets at a time.
    """

    latency = 0

    def __init__(self, players: Sequence[NetworkPlayer], block: int) -> None:
        self._players = players
        self._block = block
        self.channels = len(players)

    def push(self, block: Float[np.ndarray, "channels time"]) -> Float[np.ndarray, "channels time"]:
        """As many samples out as in."""
        parts = [np.zeros((self.channels, 0), np.float32)]
        for first in range(0, block.shape[1], self._block):
            rows = [np.ascontiguousarray(row) for row in block[:, first : first + self._block]]
            parts.append(np.stack([player.push(row) for player, row in zip(self._players, rows, strict=True)]))
        return np.concatenate(parts, axis=1)

    def flush(self) -> Float[np.ndarray, "channels 0"]:
        return np.zeros((self.channels, 0), np.float32)


def direction_of(config: Any) -> Direction:
    """Audio through the network; its fields are the knobs, which must be set within the range of the corpus."""
    fields = {
        name: RequestField(low, high, required=True)
        for name, low, high in zip(config.knobs, config.knob_low, config.knob_high, strict=True)
    }
    return Direction(
        "Audio through the effect, channel by channel.",
        options=PackedPlayOptions if config.network == "packed" else PlayOptions,
        fields=fields,
        streams=True,
        together=("lockstep", "segments"),
        on_cpu=True,
    )
