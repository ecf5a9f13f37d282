"""Convolutions of PyTorch's layers by the way that is fastest for their shape: of one tap, and of a few columns."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FEW_COLUMNS: Final = 16
"""Of output, up to which a matrix product is faster than a convolution (measured with 96 to 1536 channels)."""

Signal = Float[Tensor, "batch _ _"]
Count = Any
"""An int; sizes are tensors while a graph is traced."""


def convolved(x: Signal, conv: nn.Conv1d, left: int = 0, right: int = 0) -> Signal:
    """What the layer gives of a signal with so many zeros before and after it; below 0, that much less of it."""
    (stride,), (dilation,) = conv.stride, conv.dilation
    equal = left == right >= 0
    x = x if equal else F.pad(x, (left, right))
    if conv.kernel_size == (1,) and x.device.type == "cpu" and not is_traced():
        # One tap has no dilation. With one thread PyTorch gives convolutions of one tap to a matrix product that
        # takes twice as long as oneDNN on some processors, unless they are dilated.
        dilation = 2
    return F.conv1d(x, conv.weight, conv.bias, stride, left if equal else 0, dilation, conv.groups)


def convolved_in_training(x: Signal, conv: nn.Conv1d) -> Signal:
    """What the layer gives; of few columns, as a product of windows of the signal and the weights.

    With gradients a convolution then takes 1.6 to 2.5 times as long as the product (25 taps, 16 columns, 128 channels
    to 256 up to 512 to 1024, batches of 8 to 64, one core with AVX-512).
    """
    (taps,), (stride,) = conv.kernel_size, conv.stride
    is_few = torch.is_grad_enabled() and x.device.type == "cpu" and not is_traced()
    if not is_few or conv.groups > 1 or conv.dilation != (1,) or (x.shape[-1] - taps) // stride >= FEW_COLUMNS:
        return F.conv1d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    windows = x.unfold(2, taps, stride).transpose(1, 2).flatten(2)
    return F.linear(windows, conv.weight.flatten(1), conv.bias).transpose(1, 2)


def block_convolved(x: Signal, conv: nn.Conv1d, columns: Count) -> Signal:
    """The first columns of what the layer gives of a block of a stream.

    Weights are most of what a convolution of few columns reads: a matrix product then reads them once.
    """
    (stride,), (dilation,) = conv.stride, conv.dilation
    if not is_short(x, columns) and not _is_scripted(x):
        return convolved(x, conv)[..., :columns]
    count = torch.as_tensor(columns)
    found: Signal = _script().convolved(x, conv.weight, conv.bias, stride, dilation, conv.groups, count)
    return found


def spread(x: Signal, conv: nn.ConvTranspose1d) -> Signal:
    """Every input times the kernel, added up, without bias."""
    (taps,), (stride,) = conv.kernel_size, conv.stride
    if taps != 2 * stride or not (is_short(x, x.shape[-1]) or _is_scripted(x)):
        return F.conv_transpose1d(x, conv.weight, None, stride)
    found: Signal = _script().spread(x, conv.weight, stride)
    return found


def is_short(x: Signal, columns: Count) -> bool:
    """Whether weights are most of what a convolution to so many columns reads; never in a graph of operations."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or is_traced():
        return False
    return len(x) * columns <= FEW_COLUMNS


def is_traced() -> bool:
    """Whether a graph of operations is made, which holds for other sizes too."""
    return torch.jit.is_tracing() or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


def _is_scripted(x: Signal) -> bool:
    """Whether TorchScript is made, whose graph is for blocks of any length and chooses by their length."""
    return torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export() and x.device.type == "cpu"


SCRIPT: Final = f"""
def convolved(
    x: Tensor, weight: Tensor, bias: Optional[Tensor], stride: int, dilation: int, groups: int, count: Tensor
) -> Tensor:
    batch, taps, columns = x.size(0), weight.size(2), int(count)
    if batch * columns > {FEW_COLUMNS}:
        return torch.conv1d(x, weight, bias, [stride], [0], [dilation], groups)[:, :, :columns]
    last = x.stride(2)
    strides = [x.stride(0), last * stride, x.stride(1), last * dilation]
    gathered = x.as_strided([batch, columns, x.size(1), taps], strides, x.storage_offset())
    if groups == 1:
        return torch.nn.functional.linear(gathered.flatten(2), weight.flatten(1), bias).transpose(1, 2)
    inputs, outputs = weight.size(1) * taps, weight.size(0)
    by_group = gathered.reshape([batch * columns, groups, inputs]).transpose(0, 1)
    weights = weight.reshape([groups, outputs // groups, inputs]).transpose(1, 2)
    each = torch.matmul(by_group, weights).transpose(0, 1).reshape([batch, columns, outputs])
    return (each if bias is None else each + bias).transpose(1, 2)

def spread(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if x.size(0) * x.size(2) > {FEW_COLUMNS}:
        return torch.conv_transpose1d(x, weight, None, [stride])
    each = torch.matmul(x.transpose(1, 2), weight.flatten(1)).unflatten(2, [-1, 2, stride])
    first = each.select(3, 0).permute(0, 2, 1, 3).flatten(2)
    second = each.select(3, 1).permute(0, 2, 1, 3).flatten(2)
    return torch.nn.functional.pad(first, [0, stride]) + torch.nn.functional.pad(second, [stride, 0])
"""
"""`block_convolved` and `spread` of few columns. TorchScript that is made of them chooses by the length of a block.

A text, for which no hook of Python's imports matters.
"""


@cache
def _script() -> Any:
    with warnings.catch_warnings():
        # torch deprecates the format, which nn~ still reads.
        warnings.simplefilter("ignore")
        return torch.jit.CompilationUnit(SCRIPT)
