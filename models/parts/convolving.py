"""Convolutions of PyTorch's layers by the way that is fastest for their shape: of one tap, and of a few columns."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FEW_COLUMNS: Final = 16
"""Of output, up to which a matrix product is faster than a convolution (measured with 96 to 1536 channels)."""

Signal = Float[Tensor, "batch _ _"]


def convolved(x: Signal, conv: nn.Conv1d, left: int = 0, right: int = 0) -> Signal:
    """What the layer gives of a signal with so many zeros before and after it; below 0, that much less of it."""
    (stride,), (dilation,) = conv.stride, conv.dilation
    equal = left == right >= 0
    x = x if equal else F.pad(x, (left, right))
    if conv.kernel_size == (1,) and x.device.type == "cpu" and not _is_traced():
        # One tap has no dilation. With one thread PyTorch gives convolutions of one tap to a matrix product that
        # takes twice as long as oneDNN on some processors, unless they are dilated.
        dilation = 2
    return F.conv1d(x, conv.weight, conv.bias, stride, left if equal else 0, dilation, conv.groups)


def short_convolved(x: Signal, conv: nn.Conv1d, columns: int) -> Signal:
    """The first columns of what the layer gives, of a block that `is_short`, in the time of reading weights once."""
    (taps,), (stride,), (dilation,), (batch, channels, _) = conv.kernel_size, conv.stride, conv.dilation, x.shape
    last = x.stride(2)
    strides = (x.stride(0), last * stride, x.stride(1), last * dilation)
    gathered = x.as_strided((batch, columns, channels, taps), strides, x.storage_offset())
    if conv.groups == 1:
        return F.linear(gathered.flatten(2), conv.weight.flatten(1), conv.bias).transpose(1, 2)
    groups = gathered.reshape(batch * columns, conv.groups, -1).transpose(0, 1)
    weights = conv.weight.reshape(conv.groups, -1, groups.shape[2]).transpose(1, 2)
    each = (groups @ weights).transpose(0, 1).reshape(batch, columns, -1)
    return (each if conv.bias is None else each + conv.bias).transpose(1, 2)


def spread(x: Signal, conv: nn.ConvTranspose1d) -> Signal:
    """Every input times the kernel, added up, without bias."""
    (taps,), (stride,) = conv.kernel_size, conv.stride
    if taps != 2 * stride or not is_short(x, 1):
        return F.conv_transpose1d(x, conv.weight, None, stride)
    # Kernels of neighbours overlap by half.
    each = (x.transpose(1, 2) @ conv.weight.flatten(1)).unflatten(2, (-1, 2, stride))
    first, second = (each[:, :, :, half].permute(0, 2, 1, 3).flatten(2) for half in (0, 1))
    return F.pad(first, (0, stride)) + F.pad(second, (stride, 0))


def is_short(x: Signal, stride: int) -> bool:
    """Whether weights are most of what a convolution reads; never in a graph, which is for blocks of any length."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or _is_traced():
        return False
    return len(x) * (x.shape[-1] // stride) <= FEW_COLUMNS


def _is_traced() -> bool:
    return torch.jit.is_tracing() or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
