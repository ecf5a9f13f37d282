"""Running an autoregressive network over signals: in order, as a stream of blocks, or cut into overlapping segments."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32

from tonemill.models.effect.networks.autoregressive.settings import QUIETEST, AutoregressiveConfig
from tonemill.models.effect.representations import Linear
from tonemill.models.effect.streaming.autoregressive import Loop

Signal = Float32[np.ndarray, "time"]
Past = Float32[np.ndarray, "_"]

WARM_UP: Final = 2048
"""Samples that a segment runs before it is heard."""

Layer = tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "_"]]
"""Weight, (outputs, inputs), and bias, (outputs,)."""


class Runner:
    """A network with its weights laid out once; each method starts from silence unless it is given a past.

    Args:
        layers: of the network, the first one first.
        config: of the network.
        representation: in which the network sees and gives samples.
        code_limit: the largest code that the network may read of its own output.
        knobs: where each knob stands; None for all at 0.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        config: AutoregressiveConfig,
        representation: Linear,
        code_limit: float,
        knobs: Float32[np.ndarray, "knobs"] | None = None,
    ) -> None:
        self.representation = representation
        self.past = config.context - 1
        layers = list(layers)
        # Knobs that stand still are a part of the bias.
        weight, bias = layers[0]
        seen = 2 * config.context - 1
        turned = np.zeros(weight.shape[1] - seen, np.float32) if knobs is None else knobs.astype(np.float32)
        layers[0] = weight[:, :seen], bias + weight[:, seen:] @ turned
        quietest = QUIETEST if config.relative_level else None
        self.loop = Loop(layers, config.context, code_limit, config.skip, quietest)

    def run(self, dry: Signal, dry_past: Past | None = None, wet_past: Past | None = None) -> Signal:
        """Strictly in order.

        Args:
            dry: what to run over.
            dry_past: the samples before it, `past` of them or more.
            wet_past: the outputs before it, or what they shall be taken to have been (a forced start).
        """
        before_dry, before_wet = self._before(dry_past), self._before(wet_past)
        return self._decoded(
            self.loop.stream(self._encoded(np.concatenate([before_dry, dry])), self._encoded(before_wet))
        )

    def run_many(
        self,
        dry: Float32[np.ndarray, "streams time"],
        dry_past: Float32[np.ndarray, "streams past"] | None = None,
        wet_past: Float32[np.ndarray, "streams past"] | None = None,
    ) -> Float32[np.ndarray, "streams time"]:
        """Signals of one length in lock-step, each from silence or from a past of `past` samples, as in `run`."""
        silence = np.zeros((len(dry), self.past), np.float32)
        seen = np.concatenate([silence if dry_past is None else dry_past, dry], axis=1)
        heard = silence if wet_past is None else wet_past
        return self._decoded(self.loop.lockstep(self._encoded(seen), self._encoded(heard)))

    def run_segments(self, dry: Signal, segments: int = 256, warm_up: int = WARM_UP) -> Signal:
        """One signal cut into segments that run in lock-step.

        Each segment but the first begins from silence, `warm_up` samples early, and what it says until its place is
        thrown away. For an effect whose output does not hang on older outputs than that it is what `run` gives; for
        one that keeps a phase, as an oscillator, it is not.
        """
        length = ceil(dry.size / segments)
        places = np.arange(segments) * length
        starts = np.maximum(places - warm_up, 0)
        padded = np.pad(dry, (self.past, length * segments + warm_up - dry.size))
        cut = np.lib.stride_tricks.sliding_window_view(padded, self.past + warm_up + length)[starts]
        codes = self.loop.lockstep(self._encoded(cut), np.zeros((segments, self.past), np.float32))
        heard = np.take_along_axis(codes, (places - starts)[:, None] + np.arange(length), axis=1)
        return self._decoded(heard).reshape(-1)[: dry.size]

    def stream(self) -> Stream:
        return Stream(self)

    def _before(self, signal: Past | None) -> Past:
        if signal is None:
            return np.zeros(self.past, np.float32)
        if signal.size < self.past:
            raise ValueError(f"{signal.size} samples came before, and the network sees {self.past}")
        return signal[signal.size - self.past :]

    def _encoded(self, signal: np.ndarray) -> np.ndarray:
        return self.representation.encode(torch.tensor(signal)).numpy()

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return self.representation.decode(torch.from_numpy(codes)).numpy()


class Stream:
    """A signal that comes in blocks of any size; together they give what one `run` gives."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._dry = np.zeros(runner.past, np.float32)
        self._wet = np.zeros(runner.past, np.float32)

    def push(self, block: Signal) -> Signal:
        if not block.size:
            return block
        wet = self._runner.run(block, self._dry, self._wet)
        self._dry = np.concatenate([self._dry, block])[block.size :]
        self._wet = np.concatenate([self._wet, wet])[block.size :]
        return wet
