"""A WaveNet and then a long linear response, learned together: an amp with its cabinet, a pedal into a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float

from tonemill.models.effect.feed_forward import FeedForward, WithPast
from tonemill.models.effect.network import Knobs, NetworkPlayer, Shorter, Signals
from tonemill.models.effect.networks.fir import FIR, FIRConfig
from tonemill.models.effect.networks.wavenet import WaveNet, WaveNetConfig


@dataclass(frozen=True)
class ChainConfig(WaveNetConfig, FIRConfig):
    taps: Annotated[int, "Length of the linear response in samples."] = 2048


class SeriesPlayer:
    """Players in series."""

    def __init__(self, players: list[NetworkPlayer]) -> None:
        self._players = players

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        for player in self._players:
            block = player.push(block)
        return block


class Chain(FeedForward):
    Config: ClassVar[type] = ChainConfig
    learning_rate = 4e-3
    at_once = True

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.wavenet = WaveNet(config, knobs)
        self.fir = FIR(config)

    @property
    def warm_up(self) -> int:
        return self.wavenet.warm_up + self.fir.warm_up

    def run(self, dry: Signals, knobs: Knobs, with_past: WithPast) -> Shorter:
        return self.fir.run(self.wavenet.run(dry, knobs, with_past), knobs, with_past)

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        player = SeriesPlayer([self.wavenet.player(knobs), self.fir.player(knobs[:0])])
        player.push(np.zeros(self.fir.warm_up, np.float32))
        return player


NETWORK = Chain
