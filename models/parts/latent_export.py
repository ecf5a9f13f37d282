"""Generators from latent vectors as ONNX and TorchScript files, each loaded and compared with the model itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from tonemill.models.directions import Export
from tonemill.models.parts.layers import ComposedKernel
from tonemill.models.parts.portable import loaded_script, onnx_bytes, onnx_session, script_bytes, traced

FORMS: Final[Mapping[str, Export]] = {
    "onnx": Export(
        "For programs with ONNX Runtime: latent vectors, and classes where it has some, to clips (needs `pip install "
        "'tonemill[onnx]'`)."
    ),
    "torchscript": Export(
        "The same as TorchScript, for programs that use LibTorch; PyTorch no longer develops the format."
    ),
}


class LatentGraph(nn.Module):
    """Latent vectors (batch, latent_dim), and numbers of classes (batch,) where there are some, to what is exported.

    Args:
        embedding: of the classes, None where there are none.
        dense: from a latent and the class's embedding to the first features.
        start: lays the features out for the layers.
        layers: all others.
        finished: what is exported of their output.
    """

    def __init__(
        self,
        embedding: nn.Module | None,
        dense: nn.Module,
        start: Callable[[Tensor], Tensor],
        layers: nn.Module,
        finished: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.embedding, self.dense, self.layers = embedding, dense, copy.deepcopy(layers)
        for layer in self.layers.modules():
            if isinstance(layer, ComposedKernel):
                layer.make_constant()
        self._start, self._finished = start, finished

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            latent = torch.cat([latent, self.embedding(label)], dim=1)
        return self._finished(self.layers(self._start(self.dense(latent))))


def written(
    graph: LatentGraph, inputs: Mapping[str, Tensor], output: str, form: str, facts: Mapping[str, str]
) -> bytes:
    """A graph as a file of one form, for batches of any size.

    Args:
        graph: in eval mode, on the CPU.
        inputs: a batch of them, by name.
        output: the name of what comes out.
        form: of `FORMS`.
        facts: what a program must know, as the sample rate; an ONNX file holds them.

    Raises:
        UsageError: a package is missing.
    """
    if form == "onnx":
        any_batch = {name: {0: "batch"} for name in (*inputs, output)}
        return onnx_bytes(graph, inputs, (output,), any_batch, facts)
    return script_bytes(traced(graph, tuple(inputs.values())))


def error_db(data: bytes, form: str, inputs: Mapping[str, Tensor], expected: Tensor) -> float:
    """Load a file, run it on a batch, and compare: the RMS of the difference, in dB of the RMS of what is expected.

    Raises:
        UsageError: a package is missing.
    """
    if form == "onnx":
        run: Any = onnx_session(data).run
        (output,) = run(None, {name: x.numpy() for name, x in inputs.items()})
    else:
        with torch.inference_mode():
            output = loaded_script(data)(*inputs.values()).numpy()
    level, difference = (
        float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (expected.numpy(), output - expected.numpy())
    )
    return 20 * math.log10(max(difference, 1e-12) / (level or 1.0))
