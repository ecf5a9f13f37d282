"""Run an autoregressive network over signals: in order, as a stream of blocks, or cut into overlapping segments."""

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
"""Samples at the start of a segment whose output is discarded."""

Layer = tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "_"]]
"""Weight, (outputs, inputs), and bias, (outputs,)."""


class Runner:
    """A network laid out for running; each method starts from silence unless a past is given.

    Args:
        layers: of the network, in order.
        config: of the network.
        representation: of the samples in the network's input and output.
        code_limit: the bound of the output codes that are fed back.
        knobs: positions of the knobs; None for all at 0.
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
        # Constant knobs are a part of the bias.
        weight, bias = layers[0]
        seen = 2 * config.context - 1
        positions = np.zeros(weight.shape[1] - seen, np.float32) if knobs is None else knobs.astype(np.float32)
        layers[0] = weight[:, :seen], bias + weight[:, seen:] @ positions
        quietest = QUIETEST if config.relative_level else None
        self.loop = Loop(layers, config.context, code_limit, config.skip, quietest)

    def run(self, dry: Signal, dry_past: Past | None = None, wet_past: Past | None = None) -> Signal:
        """Run one signal strictly in order.

        Args:
            dry: the input.
            dry_past: the samples before `dry`, `past` of them or more.
            wet_past: the outputs before `dry`; other values force the network's start.
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
        """Run signals of one length in lock-step, each from silence or from a past of `past` samples, as in `run`."""
        silence = np.zeros((len(dry), self.past), np.float32)
        seen = np.concatenate([silence if dry_past is None else dry_past, dry], axis=1)
        before = silence if wet_past is None else wet_past
        return self._decoded(self.loop.lockstep(self._encoded(seen), self._encoded(before)))

    def run_segments(self, dry: Signal, segments: int = 256, warm_up: int = WARM_UP) -> Signal:
        """Run one signal, cut into segments that run in lock-step.

        Each segment but the first begins from silence, `warm_up` samples early, and the output of these samples is
        discarded. The result equals that of `run` for an effect whose output depends on no older outputs. For an
        effect that keeps a phase, as an oscillator, it differs.
        """
        length = ceil(dry.size / segments)
        places = np.arange(segments) * length
        starts = np.maximum(places - warm_up, 0)
        padded = np.pad(dry, (self.past, length * segments + warm_up - dry.size))
        cut = np.lib.stride_tricks.sliding_window_view(padded, self.past + warm_up + length)[starts]
        codes = self.loop.lockstep(self._encoded(cut), np.zeros((segments, self.past), np.float32))
        kept = np.take_along_axis(codes, (places - starts)[:, None] + np.arange(length), axis=1)
        return self._decoded(kept).reshape(-1)[: dry.size]

    def stream(self) -> Stream:
        return Stream(self)

    def _before(self, signal: Past | None) -> Past:
        if signal is None:
            return np.zeros(self.past, np.float32)
        if signal.size < self.past:
            raise ValueError(f"the past has {signal.size} samples; the network needs {self.past}")
        return signal[signal.size - self.past :]

    def _encoded(self, signal: np.ndarray) -> np.ndarray:
        return self.representation.encode(torch.tensor(signal)).numpy()

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return self.representation.decode(torch.from_numpy(codes)).numpy()


class Stream:
    """A signal in blocks of any size; their outputs together equal that of one `run`."""

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
