"""A run's numbers: a line of JSON per logged step, and the same for TensorBoard."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tonemill.pipelines.runs.metric_lines import METRICS, encoded, read_lines
from tonemill.pipelines.storage import commit

MOST_CLIPS: Final = 4
"""Clips of a set that TensorBoard keeps."""


class Metrics:
    """Collects losses and writes their means.

    Args:
        folder: of the run.
        step: where training goes on; lines after it are from steps that were lost, and go.
        say: prints a line.
    """

    def __init__(self, folder: Path, step: int, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self._path = folder / METRICS
        kept = [record for record in read_lines(self._path) if record["step"] <= step]
        with commit.pending(self._path) as file:
            file.writelines(encoded(record) for record in kept)
        self._collected: dict[str, list[Tensor]] = defaultdict(list)
        self._last: dict[str, float] = {}
        self._board: Any = None
        with self._board_may_fail():
            with _hidden("boto3", "fsspec"):
                from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def collect(self, losses: Mapping[str, Tensor]) -> None:
        """Note a step's losses, without waiting for the device to finish computing them."""
        for name, value in losses.items():
            self._collected[name].append(value.detach())

    def write(self, step: int, seconds: float) -> Mapping[str, float]:
        """Write the means since the last line."""
        if not self._collected:
            return {}
        self._last = {name: float(torch.stack(values).float().mean()) for name, values in self._collected.items()}
        self._collected.clear()
        self.add(step, {"seconds": round(seconds, 3), **self._last})
        return self._last

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line of its own."""
        with self._path.open("ab") as file:
            file.write(encoded({"step": step, **values}))
        with self._board_may_fail() as board:
            for name, value in values.items():
                if isinstance(value, float) and board is not None:
                    board.add_scalar(name, value, step)

    def add_picture(self, name: str, png: bytes, step: int) -> None:
        """Show a picture in TensorBoard."""
        with self._board_may_fail() as board:
            if board is not None:
                from tensorboard.compat.proto.summary_pb2 import Summary

                # `add_image` takes pixels, and would compress them again.
                image = Summary.Image(colorspace=3, encoded_image_string=png)
                image.width, image.height = (int.from_bytes(png[place : place + 4]) for place in (16, 20))
                board.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def add_clips(
        self, name: str, clips: Sequence[Float32[np.ndarray, "channels _"]], sample_rate: int, step: int
    ) -> None:
        """Let TensorBoard play the first clips, their channels mixed."""
        with self._board_may_fail() as board:
            for number, clip in enumerate(clips[:MOST_CLIPS] if board is not None else ()):
                mono = np.clip(clip.mean(axis=0, keepdims=True), -1, 1)
                board.add_audio(f"{name}/{number:02d}", torch.from_numpy(mono), step, sample_rate)

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far, those of earlier calls included."""
        return read_lines(self._path)

    def line(self) -> str:
        """The last means, for the progress bar; without those of single optimizers, which have a slash."""
        return "  ".join(f"{name} {value:.3g}" for name, value in self._last.items() if "/" not in name)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        with self._board_may_fail() as board:
            if board is not None:
                board.close()

    @contextmanager
    def _board_may_fail(self) -> Iterator[Any]:
        """The writer for TensorBoard, or None; when it fails, training goes on without it."""
        try:
            yield self._board
        except Exception as error:
            # A package may fail in any way; what is written for it is in metrics.jsonl and clips/ too.
            self._board = None
            self._say(
                f"TensorBoard cannot be written ({type(error).__name__}: {error}); training goes on without it. "
                "`tonemill doctor` shows what is installed."
            )


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Let no import find some modules: TensorBoard imports those of stores, and a run is on this machine."""
    new = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]
