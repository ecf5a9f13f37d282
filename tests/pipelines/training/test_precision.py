"""Half precision on a processor without matrix units is remarked on, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tonemill.pipelines.training.precision import remark_on

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "units", "remarked"),
    [
        ("bf16", {}, True),
        ("bf16", {"amx_bf16": False, "avx512_bf16": True}, True),
        ("bf16", {"amx_bf16": True}, False),
        ("fp16", {"amx_bf16": True}, True),
        ("fp32", {}, False),
    ],
)
def test_of_a_cpu(monkeypatch: pytest.MonkeyPatch, precision: Any, units: dict[str, bool], remarked: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    text = remark_on(precision, CPU)
    assert (text is not None) is remarked
    assert text is None or f"no fast instructions for {precision}" in text


@pytest.mark.parametrize(("capability", "remarked"), [((7, 5), {"bf16"}), ((6, 1), {"bf16", "fp16"}), ((9, 0), set())])
def test_of_an_accelerator(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], remarked: set[str]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = {precision for precision in ("fp32", "bf16", "fp16") if remark_on(precision, CUDA) is not None}  # type: ignore[arg-type]
    assert found == remarked
    assert remark_on("bf16", torch.device("mps")) is None
