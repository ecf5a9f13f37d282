"""What ends a training: its limits, a signal, a score that no longer improves, or a step that goes wrong."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from tonemill.audiotools.errors import RunError
from tonemill.pipelines.runs import checkpoints
from tonemill.pipelines.runs.run import RUN_JSON, Run, TrainConfig, open_run

OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Parts of the texts of PyTorch's RuntimeError when a CPU, an MPS device or a CUDA library runs out of memory."""

TWICE_SECONDS: Final = 1.0
"""Two signals that come within this are one wish."""


def finished(step: int, seconds: float, settings: TrainConfig) -> bool:
    return (settings.steps is not None and step >= settings.steps) or (
        settings.minutes is not None and seconds >= settings.minutes * 60
    )


def is_tired(since_best: int, settings: TrainConfig) -> bool:
    """Whether so many scores in a row were no better than the best."""
    return settings.patience is not None and since_best >= settings.patience


def refuse_runaway(values: Mapping[str, float], step: int, run: Run) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise RunError(f"{' and '.join(bad)} is NaN or infinite at step {step}. {checkpoints.way_out(run.folder)}")


@contextmanager
def within_memory(folder: Path, settings: TrainConfig) -> Iterator[None]:
    """Say what needs less memory, where there is not enough.

    Raises:
        RunError: there was not. The step is lost; checkpoints are whole whenever it happens.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            words in str(error) for words in OUT_OF_MEMORY
        ):
            raise
        size = settings.batch_size
        mend = f"--batch-size {size // 2}" if size > 1 else "a smaller --length or model, or --precision bf16"
        text = f"There is not enough memory for --batch-size {size}. Try {mend}"
        saved = open_run(folder).checkpoints() if (folder / RUN_JSON).exists() else []
        if saved:
            text += (
                f" in a new run: --init-from {folder} starts it from the weights of step {saved[-1].step}, the last "
                "that was saved"
            )
        raise RunError(f"{text}.") from error


class Clock:
    """Seconds of training, those of earlier calls included."""

    def __init__(self, earlier: float) -> None:
        self._start = time.monotonic() - earlier

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


class Interrupted(KeyboardInterrupt):
    """A signal came while training waited for a batch."""


class Signals(list[int]):
    """Those of Ctrl-C and SIGTERM that came."""

    def __init__(self) -> None:
        super().__init__()
        self._waits = False

    @contextmanager
    def ending_a_wait(self) -> Iterator[None]:
        """Between two steps: the first signal need not wait for what may take a store minutes.

        Raises:
            Interrupted: a signal came.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def note(self, number: int) -> None:
        """Add one that came just now."""
        self.append(number)
        if self._waits:
            self._waits = False
            raise Interrupted


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Signals that are to end a training after its step; a second Ctrl-C interrupts at once.

    `timeout` sends its signal to a command and then to the command's group, so one wish to stop may come twice.
    """
    caught = Signals()
    first = 0.0

    def note(number: int, _: object) -> None:
        nonlocal first
        if caught and number == signal.SIGINT and time.monotonic() > first + TWICE_SECONDS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        caught.note(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
