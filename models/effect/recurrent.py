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

from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Shorter, Signals
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
        super().__init__()
        self.config = config
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
    def reach(self) -> None:
        return None

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        state = self._first(len(dry))
        if self.silence:
            _, state = self._run(dry.new_zeros(len(dry), self.silence), knobs, state)
        return self._run(dry, knobs, state)[0]

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        state = self._first(len(dry))
        if self.config.burn_in:
            with torch.no_grad():
                _, state = self._run(dry[:, : self.config.burn_in], knobs, state)
        parts = []
        for part in dry[:, self.config.burn_in :].split(self.config.truncate, dim=1):
            out, state = self._run(part, knobs, state)
            state = self._detached(state)
            parts.append(out)
        return torch.cat(parts, dim=1)

    def _first(self, batch: int) -> Any:
        shape = (2 if self.kind == "lstm" else 1, self.config.layers, batch, self.config.hidden_size)
        like = self.head.weight
        state = like.new_zeros(shape) if self.start is None else self.start[:, :, None].expand(shape).contiguous()
        return (state[0], state[1]) if self.kind == "lstm" else state[0]

    @staticmethod
    def _detached(state: Any) -> Any:
        return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()

    def _run(self, dry: Signals, knobs: Knobs, state: Any) -> tuple[Signals, Any]:
        x = dry[:, :, None]
        h, state = self.cells(torch.cat([x, knobs[:, None].expand(-1, dry.shape[1], -1)], dim=2), state)
        output: Tensor = self.head(h) + x if self.config.skip else self.head(h)
        return output[:, :, 0], state

    def pasts(self) -> list[tuple[int, ...]]:
        return [(self.config.layers, 1, self.config.hidden_size)] * (2 if self.kind == "lstm" else 1)

    def step(self, dry: Signals, knobs: Knobs, pasts: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        output, state = self._run(dry, knobs, tuple(pasts) if self.kind == "lstm" else pasts[0])
        return output, list(state) if isinstance(state, tuple) else [state]

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        state = self._first(1)
        if self.silence:
            _, state = self._run(knobs.new_zeros(1, self.silence), knobs, state)
        return list(state) if isinstance(state, tuple) else [state]

    @torch.no_grad()
    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        from tonemill.models.effect.streaming.recurrent import Recurring

        named = {name: tensor.detach().float().cpu().numpy() for name, tensor in self.cells.named_parameters()}
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layers = [tuple(named[f"{kind}_l{n}"] for kind in kinds) for n in range(self.config.layers)]
        head = torch.cat([self.head.weight[0], self.head.bias]).float().cpu().numpy()
        state = self._first(1)
        start = torch.stack(state if isinstance(state, tuple) else (state,))[:, :, 0].float().cpu().numpy()
        return Recurring(
            self.kind, layers, knobs.astype(np.float32), head, float(self.config.skip), start, self.silence
        )
