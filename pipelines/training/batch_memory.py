"""Memory for the tensors of batches; a loader process uses the same few shared tensors again and again.

A tensor in new shared memory faults in each of its pages, which takes a fifth of the time of decoding what it holds.
"""

from __future__ import annotations

from itertools import cycle
from typing import Final

import numpy as np
import torch
from torch.utils.data import get_worker_info

AHEAD: Final = 2
"""Batches that each loader process makes ahead of those that training takes."""

AHEAD_OF_PARTS: Final = 4
"""The same where a loader process makes a part of each batch."""

SLOTS: Final = AHEAD_OF_PARTS + 2
"""Tensors of one name that take turns in a loader process.

A loader process begins its batch number m when its batch m - AHEAD was taken. Training copies what it takes before it
takes the next one. So all up to number m - AHEAD - 1 were copied, and of those that take turns, the one that comes next
holds an older one.
"""


class BatchMemory:
    """Tensors of batches."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, tuple[int, ...]], cycle[torch.Tensor]] = {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor to be filled; in a loader process one that was used some batches ago."""
        if get_worker_info() is None:
            return torch.empty(shape)
        if (name, shape) not in self._slots:
            self._slots[name, shape] = cycle([torch.empty(shape).share_memory_() for _ in range(SLOTS)])
        return next(self._slots[name, shape])


class Stacks:
    """Tensors of so many rows, which are put in one by one: kept until all are there, each would take new memory."""

    def __init__(self, rows: int, memory: BatchMemory) -> None:
        self._rows, self._memory = rows, memory
        self.tensors: dict[str, torch.Tensor] = {}

    def put(self, name: str, row: int, values: np.ndarray) -> None:
        """Put the values of one example into their row.

        Raises:
            ValueError: they have another shape than those of another example.
        """
        if name not in self.tensors:
            self.tensors[name] = self._memory.tensor(name, (self._rows, *values.shape))
        stack = self.tensors[name].numpy()
        if values.shape != stack.shape[1:]:
            raise ValueError(
                f"{name} has the shape {values.shape} in one example and {stack.shape[1:]} in another, so they fit "
                "in no batch."
            )
        stack[row] = values
