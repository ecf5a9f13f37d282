"""What adversarial networks for audio share: convolutions that keep time aligned, phase shuffle, initial weights.

Padding is TensorFlow's "same": a layer of stride s turns n samples into n / s (`SameConv1d`; s divides n) or n * s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.parts.convolving import convolved_in_training


class SameConv1d(nn.Conv1d):
    """Convolution from n samples to n / stride.

    Args:
        kernel_size: at least the stride.
    """

    # The last of n / s windows starts at n - s and ends at n - s + k, so k - s zeros are missing, whatever n is.
    # TensorFlow puts the odd one on the right: k=25 with s=4 gives 10 and 11; PyTorch's own `padding` can only
    # give 11 and 11, one sample off, which is fatal for the import of weights.

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias)
        missing = kernel_size - stride
        self.edges = (missing // 2, missing - missing // 2)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch out_channels out_time"]:
        return convolved_in_training(F.pad(x, self.edges), self)


class ComposedKernel(nn.Module):
    """A layer whose kernel is computed from its weight; a writer of ONNX needs one that is a constant."""

    weight: Tensor
    constant: Tensor | None = None

    def composed(self) -> Tensor:
        raise NotImplementedError

    @property
    def kernel(self) -> Tensor:
        return self.composed() if self.constant is None else self.constant

    def make_constant(self) -> None:
        """From now on the kernel is what the weight makes it now."""
        self.constant = self.composed().detach()


class SameConvTranspose1d(ComposedKernel, nn.ConvTranspose1d):
    """Transposed convolution from n samples to n * stride: the adjoint of `SameConv1d`.

    Args:
        kernel_size: at least the stride.
    """

    # Uncropped there are (n - 1) s + k samples. The adjoint of padding by (left, right) is cropping by as much, but
    # PyTorch crops alike on both sides. Where right is left + 1, one more tap of zero in front of the kernel moves
    # everything one sample later, and cropping by `right` on both sides is right: no copy of the result is needed.

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        missing = kernel_size - stride
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.shift, self.crop = missing % 2, missing - missing // 2

    def composed(self) -> Tensor:
        return F.pad(self.weight, (self.shift, 0))

    def forward(  # type: ignore[override]  # a fixed output size replaces PyTorch's `output_size`
        self, x: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch out_channels out_time"]:
        return F.conv_transpose1d(x, self.kernel, self.bias, self.stride, self.crop)


class NearestConv1d(ComposedKernel, nn.ConvTranspose1d):
    """Repeat each sample `stride` times, then convolve with stride 1: from n samples to n * stride.

    Its weight has the layout of a transposed convolution: channels swapped and time reversed against `SameConv1d`.
    """

    # Repeating is a transposed convolution with a box of s ones, and two convolutions in a row are one with the
    # kernels convolved: k + s - 1 taps at the low rate instead of k at the high one. For k=25 and s=4 that is 28
    # multiplications for each 100, with the same parameters and the same result, edges included.

    def composed(self) -> Tensor:
        stride = self.stride[0]
        return torch.stack([F.pad(self.weight, (i, stride - 1 - i)) for i in range(stride)]).sum(0)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch out_channels out_time"]:
        stride = self.stride[0]
        y = F.conv_transpose1d(x, self.kernel, self.bias, stride, (self.kernel_size[0] - 1) // 2)
        return y[..., : x.shape[-1] * stride]


class SameConv2d(nn.Conv2d):
    """`SameConv1d` on both axes, with a square kernel."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        missing = kernel_size - stride
        self.edges = (missing // 2, missing - missing // 2) * 2

    def forward(self, x: Float[Tensor, "batch channels time bins"]) -> Float[Tensor, "batch out_channels t b"]:
        return super().forward(F.pad(x, self.edges))


class SameConvTranspose2d(ComposedKernel, nn.ConvTranspose2d):
    """`SameConvTranspose1d` on both axes, with a square kernel."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        missing = kernel_size - stride
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.shift, self.crop = missing % 2, missing - missing // 2

    def composed(self) -> Tensor:
        return F.pad(self.weight, (self.shift, 0) * 2)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time bins"]
    ) -> Float[Tensor, "batch out_channels t b"]:
        return F.conv_transpose2d(x, self.kernel, self.bias, self.stride, self.crop)


class NearestConv2d(ComposedKernel, nn.ConvTranspose2d):
    """`NearestConv1d` on both axes, with a square kernel."""

    def composed(self) -> Tensor:
        stride = self.stride[0]
        kernel = self.weight
        for pads in (lambda i: (i, stride - 1 - i), lambda i: (0, 0, i, stride - 1 - i)):
            kernel = torch.stack([F.pad(kernel, pads(i)) for i in range(stride)]).sum(0)
        return kernel

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels time bins"]
    ) -> Float[Tensor, "batch out_channels t b"]:
        stride = self.stride[0]
        y = F.conv_transpose2d(x, self.kernel, self.bias, stride, (self.kernel_size[0] - 1) // 2)
        return y[..., : x.shape[-2] * stride, : x.shape[-1] * stride]


def phase_shuffle(
    x: Float[Tensor, "batch channels time"], shift: int | Sequence[int]
) -> Float[Tensor, "batch channels time"]:
    """Delay by `shift` samples (advance, where negative) and fill the gap by reflection without the edge sample.

    Args:
        shift: one for all examples, or one for each; smaller in size than the time axis.
    """
    if not isinstance(shift, int):
        return torch.cat([phase_shuffle(example, s) for example, s in zip(torch.split(x, 1), shift, strict=True)])
    # Slices and `cat` rather than `F.pad(mode="reflect")`, whose gradient is not deterministic on CUDA.
    if shift > 0:
        return torch.cat([x[..., 1 : shift + 1].flip(-1), x[..., :-shift]], dim=-1)
    if shift < 0:
        return torch.cat([x[..., -shift:], x[..., shift - 1 : -1].flip(-1)], dim=-1)
    return x


class PhaseShuffle(nn.Module):
    """Shift by whole samples drawn uniformly from -radius to radius, at each call.

    Args:
        per: "batch" shifts all examples by the same amount, "example" each by its own; channels always together.
    """

    def __init__(self, radius: int, per: Literal["batch", "example"] = "batch") -> None:
        super().__init__()
        self.radius = radius
        self.per = per

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        count = 1 if self.per == "batch" else x.shape[0]
        shifts = torch.randint(-self.radius, self.radius + 1, (count,)).tolist()  # on the CPU: no wait for a GPU
        return phase_shuffle(x, shifts[0] if self.per == "batch" else shifts)


def flatten_channels_last(x: Float[Tensor, "batch channels *shape"]) -> Float[Tensor, "batch features"]:
    """All channels of the first time step, then of the second: TensorFlow's order."""
    return rearrange(x, "batch channels ... -> batch (... channels)")


def glorot_(module: nn.Module) -> None:
    """Give a layer TensorFlow's initial weights: Glorot-uniform kernels, zero biases; for `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.ConvTranspose1d | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Without gradients of a module's own weights, and the work for them; they still flow through it.

    Afterwards each weight learns or not as before: a part that is frozen for good stays so.
    """
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)
