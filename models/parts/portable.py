"""A stream's step as a graph that other programs run: its state as one row of numbers, ONNX, and TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError

Row = Float[Tensor, "batch numbers"]


class StateRow:
    """All tensors of a state side by side, as one row for each of the batch.

    Args:
        shapes: of the tensors, without the batch axis; those of no size have no place in the row, for writers of graphs
            stumble over them.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = list(shapes)
        self.sizes = [size for shape in shapes if (size := torch.Size(shape).numel())]

    def packed(self, state: Sequence[Tensor]) -> Row:
        return torch.cat([one.flatten(1) for one in state if one.numel()], dim=1)

    def unpacked(self, row: Row) -> list[Tensor]:
        parts = iter(row.split(self.sizes, dim=1))
        return [
            next(parts).unflatten(1, shape) if torch.Size(shape).numel() else row.new_zeros(row.shape[0], *shape)
            for shape in self.shapes
        ]


def onnx_bytes(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    properties: Mapping[str, str],
    opset: int = 17,
) -> bytes:
    """The ONNX file of a graph; its input `state`, where it has one, is what it is here where it is left out.

    Args:
        graph: in eval mode, on the CPU.
        inputs: by name.
        outputs: names.
        dynamic: for each input and output of any length, the name of that axis.
        properties: of the file, as its sample rate.
        opset: version of the operators.

    Raises:
        UsageError: the packages for it are not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise UsageError(f"ONNX needs the package {error.name}: pip install 'tonemill[onnx]'.") from error
    rest = inputs["state"].clone() if "state" in inputs else None
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # The older of torch's two writers: the newer one fixes the length of what an LSTM or GRU reads (torch 2.13).
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]  # its annotation names a path, and it takes a file
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=opset,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    if rest is not None:
        model.graph.initializer.append(numpy_helper.from_array(rest.numpy(), "state"))
    for key, value in {**properties, "made_by": "tonemill"}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def onnx_session(data: bytes, threads: int = 0) -> Any:
    """A session of ONNX Runtime that runs a file on the CPU.

    Args:
        threads: 0 for one on each core.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "An exported ONNX file is tested before it is written, for which ONNX Runtime is missing: pip install "
            "'tonemill[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    # It warns of each input that has a default, as the state.
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def traced(graph: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """A graph as TorchScript; torch deprecates the format, and this is the one place that uses it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = torch.jit.trace(graph, tuple(inputs), check_trace=False)
        # Files hold no functions that a graph calls, as those of `convolving`.
        torch._C._jit_pass_inline(found.graph)
        return found


def script_bytes(module: Any) -> bytes:
    """The file of a TorchScript module."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def loaded_script(data: bytes) -> Any:
    """A TorchScript module of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(io.BytesIO(data))
