"""The interface of the effect model's networks: train on pairs, process whole files, and play a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Update
from tonemill.models.directions import Bounds
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.plugins import Plugins

NETWORKS: Final = Plugins(
    kind="network",
    package="tonemill.models.effect.networks",
    folder=Path(__file__).parent / "networks",
    group="tonemill.networks",
    shared=frozenset({"__init__"}),
)

SIZE = Annotated[
    float | None,
    "Of a packed network: from 0 to 1, the member that plays; 0.5 is the smaller one of A2. Default: the largest.",
    Bounds(0, 1),
]
"""The option that chooses a member."""

Signals = Float[Tensor, "batch time"]
Shorter = Float[Tensor, "batch _"]
"""Signals without their warm-up."""

Knobs = Float[Tensor, "batch knobs"]

Recorded = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]
"""A whole pair of dry and wet."""


@dataclass(frozen=True)
class Pairs:
    """Training pairs: dry and wet clips, and the positions of the knobs, each from -1 to 1."""

    dry: Signals
    wet: Signals
    knobs: Knobs


@runtime_checkable
class NetworkPlayer(Protocol):
    """One channel through a network, block by block; the output does not depend on the sizes of the blocks."""

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        """Process the next samples; returns as many."""
        ...


class Network(nn.Module):
    """A network from the dry signal to the wet one.

    Each subclass has a file of its own in `networks/`, which ends in `NETWORK = ThatClass`. It is causal: an output
    sample depends on the current and earlier dry samples, and the input before the start of a file is silence.

    Args:
        config: of the type `Config`, or of a type that has all its fields.
        knobs: the number of knobs, which are inputs beside the dry signal.
    """

    Config: ClassVar[type]
    """A frozen dataclass; each field has a default and `Annotated[type, "one line of help"]`."""

    learning_rate: ClassVar[float]
    """Of Adam, where `--learning-rate` is not given."""

    weight_decay: ClassVar[float] = 0.0
    """Of Adam: this part of the weights is added to their gradients."""

    feeds_back: ClassVar[bool] = False
    """Whether its past output is an input; then `forward` needs the true wet signal."""

    at_once: ClassVar[bool] = False
    """Whether `torch.vmap` computes the losses of several of them at once: without loops over samples and RNNs."""

    takes_knobs: ClassVar[bool] = True
    """Whether knobs can change it; one that is found by least squares is that of one setting."""

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__()
        self.config = config
        if knobs and not self.takes_knobs:
            raise UsageError(
                f"--network {type(self).__name__.lower()} is one linear response, or a set of them, and has no knobs, "
                "but the corpus has pairs at different settings. Select the pairs of one setting, choose another "
                "network, or give --no-conditioning."
            )

    @property
    def members(self) -> Mapping[float, Network]:
        """Networks of which one plays, by the largest size from 0 to 1 at which it does; most are their only one."""
        return {1.0: self}

    def member(self, size: float | None) -> Network:
        """The member that plays at a size; without one the largest.

        Raises:
            UsageError: a size is given, and there is one member.
        """
        members = self.members
        *_, largest = members.values()
        if size is None:
            return largest
        if len(members) == 1:
            raise UsageError(f"--size is {size:g}, but this network has only one size. Leave --size out.")
        return next((one for most, one in members.items() if size <= most), largest)

    @property
    def warm_up(self) -> int:
        """Samples at the beginning of a training clip that are input but not scored."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> int | None:
        """Dry samples, with the current one, that an output sample depends on; None: all."""
        raise NotImplementedError

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        """The output for whole files; a network that feeds back predicts each sample from the true past in `wet`."""
        return self.step(dry, knobs, self.at_rest(knobs))[0]

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        """The output that training scores: for all but the first `warm_up` samples of clips cut out of files."""
        return self(dry, knobs)[:, self.warm_up :]

    def training_step(self, pairs: Pairs, step: int, loss: BlockLoss, update: Update) -> dict[str, Tensor]:
        """Train on one batch of clips; returns losses by name."""
        losses = self.losses(pairs, loss)
        update("network", losses["loss"])
        return {name: value.detach() for name, value in losses.items()}

    def losses(self, pairs: Pairs, loss: BlockLoss) -> dict[str, Tensor]:
        """Losses on one batch of clips by name, with `loss`, which training minimises."""
        parts = loss.parts(self.after_warm_up(pairs.dry, pairs.knobs), pairs.wet[:, self.warm_up :])
        return {"loss": loss.total(parts), **parts}

    def fit(self, pairs: Iterable[Recorded]) -> None:
        """Set first weights from whole pairs of dry and wet, once, before training; `pairs` may stay unread."""

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        """A player at the start of a file, on the CPU."""
        raise NotImplementedError

    def play_batch(
        self,
        signals: Sequence[Float[np.ndarray, "_"]],
        knobs: Sequence[Float[np.ndarray, "knobs"]],
        streams: int,
        segments: int = 1,
    ) -> list[Float[np.ndarray, "_"]]:
        """Process whole signals, `streams` of them at once, or each cut into `segments` that run at once.

        Raises:
            UsageError: this network gains no speed by it.
        """
        raise UsageError(
            "this network processes one file as fast as several at once, so --lockstep and --segments would gain "
            "nothing: leave them out."
        )

    def step(self, dry: Signals, knobs: Knobs, state: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        """One block of a stream, in PyTorch's operations alone, for export: the output and the next state."""
        raise NotImplementedError

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        """The state after silence, with which a file begins, for each row of knobs."""
        raise NotImplementedError

    def row(self, knobs: Float[np.ndarray, "knobs"]) -> Knobs:
        """Positions of a player's knobs as a batch of one, where the weights are."""
        return torch.tensor(knobs, dtype=torch.float32, device=next(self.parameters()).device)[None]


def first_of(pairs: Iterable[Recorded], most_frames: int) -> Iterator[Recorded]:
    """The first pairs, until they hold more than `most_frames` samples."""
    frames = 0
    for dry, wet in pairs:
        yield dry, wet
        frames += dry.size
        if frames > most_frames:
            return


def played(player: NetworkPlayer, dry: Float[np.ndarray, "time"], block: int = 8192) -> Float[np.ndarray, "time"]:
    """The output of a player for a whole signal, which it gets in blocks."""
    parts = [player.push(dry[start : start + block]) for start in range(0, dry.size, block)]
    return np.concatenate(parts) if parts else dry


def as_array(tensor: Tensor) -> Float[np.ndarray, "..."]:
    """Numbers of a tensor, in float32, for compiled loops and files."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
