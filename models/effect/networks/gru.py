"""Gated recurrent units with the dry signal added, as in Wright et al. (2020): the lightest that still remembers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from tonemill.models.effect.recurrent import Recurrent, RecurrentConfig


@dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    hidden_size: Annotated[int, "Units of each layer."] = 16
    skip: Annotated[bool, "Add the dry signal to the output, so that the network learns the difference."] = True
    learned_state: Annotated[bool, "Make the state that clips start from a parameter, which --burn-in 0 learns."] = (
        False
    )


class GRU(Recurrent):
    Config: ClassVar[type] = GRUConfig
    learning_rate = 5e-3
    kind = "gru"


NETWORK = GRU
