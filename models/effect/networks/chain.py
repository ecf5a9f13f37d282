"""A WaveNet and then a long linear response, learned together: an amp with its cabinet, a pedal into a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Shorter, Signals
from tonemill.models.effect.networks.fir import FIR, FIRConfig
from tonemill.models.effect.networks.wavenet import WaveNet, WaveNetConfig


@dataclass(frozen=True)
class ChainConfig(WaveNetConfig, FIRConfig):
    taps: Annotated[int, "Length of the linear response in samples."] = 2048


class Links:
    """Players in series."""

    def __init__(self, players: list[NetworkPlayer]) -> None:
        self._players = players

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        for player in self._players:
            block = player.push(block)
        return block


class Chain(Network):
    Config: ClassVar[type] = ChainConfig
    learning_rate = 4e-3
    at_once = True

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__()
        self.config = config
        self.wavenet = WaveNet(config, knobs)
        self.fir = FIR(config)

    @property
    def warm_up(self) -> int:
        return self.wavenet.warm_up + self.fir.warm_up

    @property
    def reach(self) -> int:
        return self.warm_up + 1

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        before = self._at_rest(knobs).expand(-1, self.fir.warm_up)
        return self.fir.after_warm_up(torch.cat([before, self.wavenet(dry, knobs)], dim=1), knobs)

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        return self.fir.after_warm_up(self.wavenet.after_warm_up(dry, knobs), knobs)

    def pasts(self) -> list[tuple[int, ...]]:
        return self.wavenet.pasts() + self.fir.pasts()

    def step(self, dry: Signals, knobs: Knobs, pasts: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        driven, first = self.wavenet.step(dry, knobs, pasts[:-1])
        output, second = self.fir.step(driven, knobs, pasts[-1:])
        return output, first + second

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        past = self._at_rest(knobs)[:, :, None].expand(-1, -1, self.fir.warm_up).clone()
        return [*self.wavenet.at_rest(knobs), past]

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        links = Links([self.wavenet.player(knobs), self.fir.player(knobs[:0])])
        links.push(np.zeros(self.fir.warm_up, np.float32))
        return links

    def _at_rest(self, knobs: Knobs) -> Float[Tensor, "batch 1"]:
        """The WaveNet's output on silence: before a file begins, it is the input of the response."""
        return self.wavenet.after_warm_up(knobs.new_zeros(len(knobs), self.wavenet.warm_up + 1), knobs)


NETWORK = Chain
