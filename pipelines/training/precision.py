"""The type of most of a training's arithmetic, and whether a processor has units for it."""

from __future__ import annotations

from typing import Final, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

TYPES: Final[dict[Precision, torch.dtype]] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Of autocast; float32 needs none."""

AMX: Final[dict[Precision, str]] = {"bf16": "amx_bf16", "fp16": "amx_fp16"}
"""What `torch.cpu.get_capabilities` calls the matrix units of a CPU."""


def remark_on(precision: Precision, device: torch.device) -> str | None:
    """A sentence where half precision gains nothing, because a processor has no matrix units for it; else None."""
    if precision not in TYPES or device.type not in ("cpu", "cuda"):
        return None
    if device.type == "cuda":
        # Tensor cores for fp16 came with compute capability 7.0, for bf16 with 8.0.
        has_units, what = (
            torch.cuda.get_device_capability(device) >= (8 if precision == "bf16" else 7, 0),
            "accelerator",
        )
    else:
        has_units, what = bool(torch.cpu.get_capabilities().get(AMX[precision], False)), "processor"
    if has_units:
        return None
    return (
        f"--precision {precision}: this {what} has no fast instructions for {precision}, so steps may take longer "
        "than with --precision fp32."
    )
