"""Settings of the autoregressive network: its size, the representation of samples, and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.settings import require_least


@dataclass(frozen=True)
class AutoregressiveConfig:
    context: Annotated[int, "Dry samples in a window, the current one last; of its own output it has one less."] = 128
    width: Annotated[int, "Units of each hidden layer."] = 256
    depth: Annotated[int, "Hidden layers."] = 6
    init: Annotated[Literal["torch", "seed"], "First weights: PyTorch's, or normal of variance 1 / width."] = "torch"
    representation: Annotated[
        Literal["linear", "mulaw", "onehot"], "Samples as they are, companded, or in 256 bins with a residual."
    ] = "linear"
    skip: Annotated[bool, "Add the current dry sample to the output, so that the network learns the difference."] = (
        False
    )
    relative_level: Annotated[
        bool, "Scale input and output by the RMS of the dry window: for effects that treat soft as loud."
    ] = False
    residual_weight: Annotated[float, "Of the residual's error beside the cross-entropy of onehot."] = 1.0
    windows: Annotated[int, "Places per training step, spread over the clips of a batch."] = 1024
    history_noise: Annotated[float, "Noise on the past output in training, as a share of its RMS."] = 0.1
    noise_floor: Annotated[float, "Noise on the past output whatever its level, RMS; full scale is 1."] = 1e-4
    scheduled_sampling: Annotated[float, "Share of windows trained after the network's own output, at the end."] = 0.0
    sampling_ramp: Annotated[int, "Steps in which that share rises from 0."] = 1000
    sampling_steps: Annotated[int, "Newest samples of the past that are then the network's own."] = 16
    unroll: Annotated[int, "Samples to run in closed loop, with gradients, for losses on blocks; 0: none."] = 0
    unroll_streams: Annotated[int, "How many places are unrolled per step."] = 16
    limit: Annotated[float, "Outputs that are fed back are clipped to this magnitude; 0: no limit."] = 0.0

    def __post_init__(self) -> None:
        require_least(
            self, context=1, width=1, depth=1, windows=1, sampling_ramp=1, sampling_steps=1, unroll_streams=1, unroll=0,
            history_noise=0, noise_floor=0, limit=0, residual_weight=0,
        )  # fmt: skip
        if not 0 <= self.scheduled_sampling <= 1:
            raise UsageError(f"--scheduled-sampling is {self.scheduled_sampling}; it must be from 0 to 1.")
        if (self.unroll or self.skip) and self.representation == "onehot":
            raise UsageError(
                "--unroll and --skip need a network whose output is a sample; use --representation linear or mulaw."
            )
        if self.relative_level and self.representation != "linear":
            raise UsageError("--relative-level scales samples, which only --representation linear allows.")


QUIETEST: Final = 1e-4
"""The least RMS that `relative_level` divides windows by; full scale is 1."""
