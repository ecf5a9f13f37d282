"""Neural Amp Modeler's second architecture (A2, 2026): a small and a large WaveNet, trained together; one plays.

Both learn from the same batches, each by its own loss, and share no weights. A player takes the largest member that its
processor can bear: the first one whose size is as large as the wanted one. A .nam file with several models is read as
such a network too, whatever its members are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Pairs, Shorter, Signals
from tonemill.models.effect.networks.wavenet import FEW_CLIPS, WaveNet, WaveNetConfig, one_stack


@dataclass(frozen=True)
class PackedConfig:
    usual_in_minutes: ClassVar = FEW_CLIPS

    members: Annotated[tuple[int, ...], "Channels of each member, ascending."] = (3, 8)
    stft_weight: Annotated[float, "Of the multi-resolution STFT distance, pre-emphasised."] = 5e-4

    def __post_init__(self) -> None:
        if not self.members or self.members[0] < 1 or sorted(set(self.members)) != list(self.members):
            raise UsageError(
                f"--members is {', '.join(map(str, self.members))}; it must be the numbers of channels of the "
                "networks of different size, ascending, as --members 3 --members 8."
            )


class Packed(Network):
    Config: ClassVar[type] = PackedConfig
    learning_rate = 4e-3
    at_once = True
    weight_decay = 3.17e-7

    def __init__(self, config: Any, knobs: int = 0, members: Mapping[float, Network] | None = None) -> None:
        """The WaveNets of a config, or other members, by the largest size from 0 to 1 at which each plays."""
        super().__init__(config, knobs)
        if members is None:
            count = len(config.members)
            shapes = (one_stack(channels) for channels in config.members)
            members = {
                (number + 1) / count: WaveNet(WaveNetConfig(), knobs, shape) for number, shape in enumerate(shapes)
            }
        self.sizes = tuple(members)
        self.parts: Any = nn.ModuleList(members.values())

    @property
    def members(self) -> dict[float, Network]:
        return dict(zip(self.sizes, self.parts, strict=True))

    @property
    def largest(self) -> Network:
        return self.member(None)

    @property
    def warm_up(self) -> int:
        return max(part.warm_up for part in self.parts)

    @property
    def receptive_field(self) -> int | None:
        return self.largest.receptive_field

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        output: Signals = self.largest(dry, knobs, wet)
        return output

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        return self._scored(self.largest, dry, knobs)

    def losses(self, pairs: Pairs, loss: BlockLoss) -> dict[str, Tensor]:
        wet = pairs.wet[:, self.warm_up :]
        totals = {
            f"loss_{size:g}": loss(self._scored(part, pairs.dry, pairs.knobs), wet)
            for size, part in self.members.items()
        }
        return {"loss": sum(totals.values(), start=wet.new_zeros(())), **totals}

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        return self.largest.player(knobs)

    def step(self, dry: Signals, knobs: Knobs, state: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        return self.largest.step(dry, knobs, state)

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        return self.largest.at_rest(knobs)

    def _scored(self, part: Network, dry: Signals, knobs: Knobs) -> Shorter:
        return part.after_warm_up(dry[:, self.warm_up - part.warm_up :], knobs)


NETWORK = Packed
