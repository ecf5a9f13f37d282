"""What a network of the effect model promises: it learns from pairs, hears whole files, and plays as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Update
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.plugins import Plugins

NETWORKS: Final = Plugins(
    kind="network",
    package="tonemill.models.effect.networks",
    folder=Path(__file__).parent / "networks",
    group="tonemill.networks",
    shared=frozenset({"__init__"}),
)

Signals = Float[Tensor, "batch time"]
Shorter = Float[Tensor, "batch _"]
"""Signals without their warm-up."""

Knobs = Float[Tensor, "batch knobs"]

Recorded = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]
"""A whole pair of dry and wet."""


@dataclass(frozen=True)
class Pairs:
    """What is learned from: dry and wet, and where the knobs stood, each from -1 to 1."""

    dry: Signals
    wet: Signals
    knobs: Knobs


@runtime_checkable
class NetworkPlayer(Protocol):
    """One channel through a network as a stream, whose output does not depend on where the input is cut."""

    def push(self, block: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        """The next samples in, as many out."""
        ...


class Network(nn.Module):
    """A network from the dry signal to the wet one.

    A subclass stands in a file of its own in `networks/`, which ends in `NETWORK = ThatClass`. It is causal: what it
    says at a sample hangs on the dry samples up to and with it, and before the start of a file it heard silence.

    Args:
        config: of the type `Config`, or of one that has all its fields.
        knobs: how many numbers beside the dry signal are inputs.
    """

    Config: ClassVar[type]
    """A frozen dataclass; each field has a default and `Annotated[type, "one line of help"]`."""

    learning_rate: ClassVar[float]
    """Adam's, where nobody asks for another."""

    feeds_back: ClassVar[bool] = False
    """It hears its own past output, so `forward` needs the true one."""

    config: Any

    @property
    def warm_up(self) -> int:
        """Samples at the beginning of a training clip that are heard and not scored."""
        raise NotImplementedError

    @property
    def reach(self) -> int | None:
        """Dry samples that one sample of output hangs on, the current one with it; None: all of them."""
        raise NotImplementedError

    def forward(self, dry: Signals, knobs: Knobs, wet: Signals | None = None) -> Signals:
        """Whole files from silence; a network that feeds back predicts each sample from the true past in `wet`."""
        raise NotImplementedError

    def after_warm_up(self, dry: Signals, knobs: Knobs) -> Shorter:
        """What training scores: the output for all but the first `warm_up` samples of clips from the midst of files."""
        return self(dry, knobs)[:, self.warm_up :]

    def training_step(self, pairs: Pairs, step: int, loss: BlockLoss, update: Update) -> dict[str, Tensor]:
        """Learn from one batch of clips; returns named losses."""
        said = self.after_warm_up(pairs.dry, pairs.knobs)
        losses = loss.parts(said, pairs.wet[:, self.warm_up :])
        total = loss.total(losses)
        update("network", total)
        return {name: value.detach() for name, value in {"loss": total, **losses}.items()}

    def fit(self, pairs: Iterable[Recorded]) -> None:
        """Choose first weights by whole pairs of dry and wet, once; they may be left unread."""

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        """One stream, from silence; on the CPU."""
        raise NotImplementedError

    def play_many(
        self,
        signals: Sequence[Float[np.ndarray, "_"]],
        knobs: Sequence[Float[np.ndarray, "knobs"]],
        streams: int,
        segments: int = 1,
    ) -> list[Float[np.ndarray, "_"]]:
        """Whole signals side by side, `streams` at once, or each cut into `segments` that run at once.

        Raises:
            UsageError: one after another is as fast.
        """
        raise UsageError("this network plays one file as fast as many at once: leave --lockstep and --segments out.")

    def pasts(self) -> list[tuple[int, ...]]:
        """Shapes of what `step` keeps from block to block."""
        raise NotImplementedError

    def step(self, dry: Signals, knobs: Knobs, pasts: list[Tensor]) -> tuple[Signals, list[Tensor]]:
        """One block of a stream, in PyTorch's operations alone, for export: what is said, and what is kept."""
        raise NotImplementedError

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        """What is kept after silence, as it stands before a file begins."""
        nothing = [knobs.new_zeros(shape) for shape in self.pasts()]
        return self.step(knobs.new_zeros(1, self.warm_up), knobs, nothing)[1] if self.warm_up else nothing


def first_of(pairs: Iterable[Recorded], most_frames: int) -> Iterator[Recorded]:
    """Pairs until they hold more frames than that."""
    frames = 0
    for dry, wet in pairs:
        yield dry, wet
        frames += dry.size
        if frames > most_frames:
            return


def played(player: NetworkPlayer, dry: Float[np.ndarray, "time"], block: int = 8192) -> Float[np.ndarray, "time"]:
    """A whole signal through a player, in blocks."""
    parts = [player.push(dry[start : start + block]) for start in range(0, dry.size, block)]
    return np.concatenate(parts) if parts else dry


def silence_before(dry: Signals, samples: int) -> Float[Tensor, "batch _"]:
    return torch.nn.functional.pad(dry, (samples, 0))
