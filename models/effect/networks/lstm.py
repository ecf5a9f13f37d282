"""Long short-term memory, as in Neural Amp Modeler (`--skip` as in Wright et al., DAFx 2019): light, right for amps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tonemill.models.effect.recurrent import Recurrent, RecurrentConfig


class LSTM(Recurrent):
    Config: ClassVar[type] = RecurrentConfig
    learning_rate = 8e-3
    kind = "lstm"

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        # Neural Amp Modeler's: the input gate nearly shut and the forget gate open, in both of PyTorch's biases.
        units = config.hidden_size
        with torch.no_grad():
            for name, tensor in self.cells.named_parameters():
                if name.startswith("bias"):
                    tensor[:units] -= 2
                    tensor[units : 2 * units] += 2


NETWORK = LSTM
