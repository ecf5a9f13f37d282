"""Run LSTM and GRU sample by sample through a compiled loop: one stream, in constant memory.

Each layer's matrix is stored input by input, so that a sample adds one row of all gates for each input and each unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from tonemill.models.effect.streaming.kernels import TILE, add_product, compiled, sigmoid, tanh

Layer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Weights and biases as in PyTorch: weights of the input, of the state, then the bias of each."""


@compiled
def _run(
    lstm: Any, weights: Any, biases: Any, inputs: Any, operands: Any, cells: Any, head: Any, skip: Any, x: Any, y: Any,
    gates: Any,
) -> None:  # fmt: skip
    """Fill y with the output for x.

    Shapes: weights (layers, 2 units, width), biases (layers, width), inputs (layers), operands (layers, 2 units) with
    the inputs right before the state, cells (layers, units), head (units + 1) with its bias last. Width is four gates:
    of the LSTM input, forget, cell, output; of the GRU reset, update, and the candidate's part of input and of state.
    They are kept in gates (width).
    """
    layers, units, width = cells.shape[0], cells.shape[1], biases.shape[1]
    for t in range(x.size):
        for layer in range(layers):
            first = units - inputs[layer]
            if layer == 0:
                operands[0, first] = x[t]
            else:
                for i in range(units):
                    operands[layer, i] = operands[layer - 1, units + i]
            for i in range(width):
                gates[i] = biases[layer, i]
            for tile in range(width // TILE):
                at = tile * TILE
                add_product(
                    weights[layer, first:], at, width, operands[layer], first, 1, inputs[layer] + units, gates, at
                )
            state, cell = operands[layer, units:], cells[layer]
            one, two = gates[:units], gates[units : 2 * units]
            three, four = gates[2 * units : 3 * units], gates[3 * units : 4 * units]
            if lstm:
                for i in range(units):
                    cell[i] = sigmoid(two[i]) * cell[i] + sigmoid(one[i]) * tanh(three[i])
                    state[i] = sigmoid(four[i]) * tanh(cell[i])
            else:
                for i in range(units):
                    kept = sigmoid(two[i])
                    state[i] = kept * state[i] + (np.float32(1) - kept) * tanh(three[i] + sigmoid(one[i]) * four[i])
        total = head[units] + skip * x[t]
        for i in range(units):
            total += head[i] * operands[layers - 1, units + i]
        y[t] = total


class RecurrentPlayer:
    """The player of a recurrent network.

    Args:
        kind: of the layers.
        layers: first to last.
        knobs: constant inputs of the first layer beside the dry signal.
        head: weights from the units to the output, then the bias.
        skip: the gain of the dry signal in the output.
        state: (layers, units) of each layer at the start, and for the LSTM the cells' after it.
        silence: samples of silence to run before the start.
    """

    def __init__(
        self,
        kind: Literal["lstm", "gru"],
        layers: Sequence[Layer],
        knobs: Float32[np.ndarray, "knobs"],
        head: Float32[np.ndarray, "units_and_one"],
        skip: float,
        state: Float32[np.ndarray, "states layers units"],
        silence: int,
    ) -> None:
        self._lstm, units = kind == "lstm", head.size - 1
        width = -(-4 * units // TILE) * TILE
        self._weights = np.zeros((len(layers), 2 * units, width), np.float32)
        self._biases = np.zeros((len(layers), width), np.float32)
        self._inputs = np.array([1] + [units] * (len(layers) - 1), np.int64)
        for number, (of_input, of_state, input_bias, state_bias) in enumerate(layers):
            if number == 0 and knobs.size:
                input_bias = input_bias + of_input[:, 1:] @ knobs
            of_input = of_input[:, : self._inputs[number]]
            if not self._lstm:  # the candidate's two parts are gates of their own
                none = np.zeros_like(of_state[:units])
                of_input = np.concatenate([of_input, np.zeros_like(of_input[:units])])
                of_state = np.concatenate([of_state[: 2 * units], none, of_state[2 * units :]])
                input_bias = np.concatenate([input_bias, np.zeros(units, np.float32)])
                state_bias = np.concatenate([state_bias[: 2 * units], none[:, 0], state_bias[2 * units :]])
            self._weights[number, units - self._inputs[number] : units, : 4 * units] = of_input.T
            self._weights[number, units:, : 4 * units] = of_state.T
            self._biases[number, : 4 * units] = input_bias + state_bias
        self._head, self._skip = head.astype(np.float32), np.float32(skip)
        self._operands = np.zeros((len(layers), 2 * units), np.float32)
        self._operands[:, units:] = state[0]
        self._cells = np.ascontiguousarray(state[-1], np.float32).copy()
        self.push(np.zeros(silence, np.float32))

    @property
    def state(self) -> Float32[np.ndarray, "states layers units"]:
        """The current state of the units, and for an LSTM of the cells."""
        units = self._operands[:, self._operands.shape[1] // 2 :]
        return np.stack([units, self._cells] if self._lstm else [units])

    def push(self, block: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
        output = np.empty_like(block)
        _run(
            self._lstm, self._weights, self._biases, self._inputs, self._operands, self._cells, self._head, self._skip,
            np.ascontiguousarray(block), output, np.empty_like(self._biases[0]),
        )  # fmt: skip
        return output
