"""The base of the LSTM and GRU networks: state warm-up, truncated gradients, and streaming.

Training clips are cut out of files: the first `burn_in` samples settle the state, without gradients, and after them
gradients are cut every `truncate` samples (Wright et al., DAFx 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Shorter, Signals, as_array
from tonemill.models.parts.settings import require_least

SILENCE: Final = 48_000
"""Samples of silence that are run before a file, so that the state is at rest at its start."""


@dataclass(frozen=True)
class RecurrentConfig:
    hidden_size: Annotated[int, "Units of each layer."] = 24
    layers: Annotated[int, "One upon another."] = 1
    skip: Annotated[bool, "Add the dry signal to the output, so that the network learns the difference."] = False
    learned_state: Annotated[bool, "Make the state that clips start from a parameter, which --burn-in 0 learns."] = True
    burn_in: Annotated[int, "Samples of a clip that only settle the state, and are not scored."] = 4096
    truncate: Annotated[int, "Samples after which gradients are cut."] = 1024

    def __post_init__(self) -> None:
        require_least(self, hidden_size=1, layers=1, burn_in=0, truncate=1)


class Recurrent(Network):
    """A network on PyTorch's LSTM or GRU."""

    kind: ClassVar[Literal["lstm", "gru"]]

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.silence = SILENCE
        make = {"lstm": nn.LSTM, "gru": nn.GRU}[self.kind]
        self.cells = make(1 + knobs, config.hidden_size, config.layers, batch_first=True)
        self.head = nn.Linear(config.hidden_size, 1)
        states = 2 if self.kind == "lstm" else 1
        self.start = (
            nn.Parameter(torch.zeros(states, config.layers, config.hidden_size)) if config.learned_state else None
        )

    @property
    def warm_up(self) -> int:
        return int(self.config.burn_in)

    @property
    def receptive_field(self) -> None:
        return None

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        state = self._first(len(dry))
        if self.config.burn_in:
            with torch.no_grad():
                _, state = self.step(dry[:, : self.config.burn_in], knobs, state)
        parts = []
        for part in dry[:, self.config.burn_in :].split(self.config.truncate, dim=1):
            out, state = self.step(part, knobs, state)
            state = [one.detach() for one in state]
            parts.append(out)
        return torch.cat(parts, dim=1)

    def step(self, dry: Signals, knobs: Knobs, state: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        x = dry[:, :, None]
        inputs = torch.cat([x, knobs[:, None].expand(-1, dry.shape[1], -1)], dim=2)
        h, after = self.cells(inputs, tuple(state) if self.kind == "lstm" else state[0])
        output: Tensor = self.head(h) + x if self.config.skip else self.head(h)
        return output[:, :, 0], list(after) if self.kind == "lstm" else [after]

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        state = self._first(len(knobs))
        return self.step(knobs.new_zeros(len(knobs), self.silence), knobs, state)[1] if self.silence else state

    def _first(self, batch: int) -> list[Tensor]:
        """The state that clips start from: (layers, batch, units) of the units, and for an LSTM of the cells."""
        shape = (2 if self.kind == "lstm" else 1, self.config.layers, batch, self.config.hidden_size)
        if self.start is None:
            return list(self.head.weight.new_zeros(shape))
        return list(self.start[:, :, None].expand(shape).contiguous())

    @torch.no_grad()
    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.recurrent import RecurrentPlayer

        named = {name: as_array(tensor) for name, tensor in self.cells.named_parameters()}
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layers: Any = [tuple(named[f"{kind}_l{n}"] for kind in kinds) for n in range(self.config.layers)]
        head = as_array(torch.cat([self.head.weight[0], self.head.bias]))
        start = as_array(torch.stack(self._first(1))[:, :, 0])
        return RecurrentPlayer(
            self.kind, layers, knobs.astype(np.float32), head, float(self.config.skip), start, self.silence
        )
