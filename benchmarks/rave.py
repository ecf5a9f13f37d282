"""Measure how fast RAVE encodes and decodes, streams and trains, beside plain PyTorch layers in the same run.

python -m benchmarks.rave                    # on one thread; minutes
python -m benchmarks.rave --device cuda
python -m benchmarks.rave --small            # seconds, to see that it runs

All take turns; each figure is the least of several, in CPU time on a CPU and in wall time elsewhere.

x real time      131,072 samples at 48 kHz to latents and back, first weights, weight norms fused on both sides
of a product     multiplications a second of that, over those of a product of two 2048 x 2048 matrices
streamed block   2048 samples (128 with `live`), the mean of eight in a row: through a player, and on a
                 CPU through the exported files, as nn~ and ONNX Runtime play them; the plain model has no stream
training step    phase 1, 131,072 samples a clip: forward, losses, backward, Adam; the plain one computes what the
                 reference does
bf16             autocast, where the processor has units for it
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain_rave import PlainRave, Version
from tonemill.models.contract import Batch
from tonemill.models.parts.portable import loaded_script, onnx_session
from tonemill.models.rave.codec import TRACED_AFTER, Codec
from tonemill.models.rave.cost import cost_of
from tonemill.models.rave.export import written
from tonemill.models.rave.model import Rave
from tonemill.models.rave.player import ForwardPlayer
from tonemill.models.rave.settings import VARIANTS

RATE: Final = 48_000
SAMPLES: Final = 131_072
VERSIONS: Final[tuple[Version, ...]] = ("v1", "v2")
BLOCKS: Final = {"v1": 2048, "v2": 2048, "v2-small": 2048, "live": 128}
MATRIX: Final = 2048
IN_A_ROW: Final = 8
"""Blocks of a stream, which read the same weights one after another."""

HEADER: Final = "| what | ours | plain | ratio | wanted |\n|---|--:|--:|--:|--:|"

Work = Callable[[], object]


def rave(device: torch.device, small: bool = False) -> list[str]:
    """Rows of a table, under `HEADER`.

    Args:
        device: to measure on.
        small: shorter clips and fewer turns, to see that it runs.
    """
    samples, turns = (32_768, 2) if small else (SAMPLES, 8)
    halves = _has_halves(device)
    works: dict[str, Work] = {"product": _product(device)}
    with torch.inference_mode():
        for version in VERSIONS:
            audio = 0.1 * torch.randn(1, 1, samples, device=device)
            ours, plain = _codec(version, device), PlainRave(version).fused().to(device)
            works |= {f"{version} forward": _forward(ours, audio), f"plain {version} forward": _call(plain, audio)}
            if halves:
                works[f"{version} forward bf16"] = _in_halves(works[f"{version} forward"], device)
        for name, block in BLOCKS.items():
            works[f"{name} block"] = _block(_codec(name, device), block)
            if device.type == "cpu":
                works[f"{name} block by nn~"] = _host_block(_codec(name, device), block)
                works[f"{name} block by ONNX Runtime"] = _onnx_block(_codec(name, device), block)
            if halves:
                works[f"{name} block bf16"] = _in_halves(_block(_codec(name, device), block), device)
        found = _least(works, device, turns)
    steps: dict[str, Work] = {}
    for version in VERSIONS:
        steps |= {
            f"{version} step": _step(version, device, samples),
            f"plain {version} step": _plain_step(version, device, samples),
        }
    found |= _least(steps, device, 2 if small else 4)
    return _rows(found, samples, halves)


def _rows(found: Mapping[str, float], samples: int, halves: bool) -> list[str]:
    rows = []
    product = MATRIX**3 / found["product"]
    for version, wanted in zip(VERSIONS, (25, 15), strict=True):
        ours, plain = (samples / RATE / found[f"{one}{version} forward"] for one in ("", "plain "))
        goal = f"{wanted} x, 1.15 of plain"
        rows.append(f"| {version} | {ours:.1f} x real time | {plain:.1f} x | {ours / plain:.2f} | {goal} |")
        share = sum(cost_of(VARIANTS[version](sample_rate=RATE, channels=1))) * RATE * ours / product
        rows.append(f"| {version}, of a product ({product / 1e9:.0f} billion a second) | {share:.2f} | | | 0.65 |")
        if halves:
            faster = found[f"{version} forward"] / found[f"{version} forward bf16"]
            rows.append(f"| {version} in bf16 | {faster * ours:.1f} x real time | | {faster:.2f} of fp32 | 1.8 |")
    for name, block in BLOCKS.items():
        for kind, factor in (("", 1.0), (" by nn~", 1.0), (" by ONNX Runtime", 1.0), (" bf16", 0.5)):
            if f"{name} block{kind}" in found:
                goal = f"{factor * (14 if block == 2048 else 1.4):g} ms"
                spent = 1000 * found[f"{name} block{kind}"] / IN_A_ROW
                rows.append(f"| {name}, a block of {block}{kind} | {spent:.1f} ms | | | {goal} |")
    for version in VERSIONS:
        ours, plain = found[f"{version} step"], found[f"plain {version} step"]
        rows.append(f"| {version}, training step | {ours:.2f} s | {plain:.2f} s | {ours / plain:.2f} | 0.8 |")
    return rows


def _codec(name: str, device: torch.device) -> Codec:
    torch.manual_seed(0)
    codec = Codec(VARIANTS[name](sample_rate=RATE, channels=1)).eval().to(device)
    codec.decoder.noise_share.fill_(1.0)
    return codec.plain()


def _forward(codec: Codec, audio: Tensor) -> Work:
    return lambda: codec.synthesis(codec.decoder(codec.posterior(codec.bands(audio)).mean))


def _call(plain: PlainRave, audio: Tensor) -> Work:
    return lambda: plain(audio)


def _block(codec: Codec, samples: int) -> Work:
    player = ForwardPlayer(codec, 1, len(codec.axes.mean), 0.0, 0.0)
    block = (0.1 * np.random.default_rng(0).standard_normal((1, samples))).astype(np.float32)
    # Until latents have come through, less is computed; and blocks that repeat become TorchScript.
    for _ in range(2 * TRACED_AFTER + player.latency // samples):
        player.push(block)
    return _in_a_row(lambda: player.push(block))


def _host_block(codec: Codec, samples: int) -> Work:
    played = loaded_script(written(codec, "nn-tilde", 8, RATE))
    block = 0.1 * torch.randn(1, 1, samples)
    return _in_a_row(lambda: played.forward(block))


def _onnx_block(codec: Codec, samples: int) -> Work:
    session = onnx_session(written(codec, "onnx", 8, RATE), threads=1)
    state = {"audio": (0.1 * np.random.default_rng(0).standard_normal((1, 1, samples))).astype(np.float32)}

    def play() -> object:
        rendered, state["state"] = session.run(["rendered", "state_after"], state)
        return rendered

    for _ in range(2 * TRACED_AFTER):
        play()
    return _in_a_row(play)


def _in_a_row(play: Work) -> Work:
    return lambda: [play() for _ in range(IN_A_ROW)]


def _step(version: str, device: torch.device, samples: int) -> Work:
    model = Rave(VARIANTS[version](sample_rate=RATE, channels=1, length=samples, fine_tune_after=0)).to(device).train()
    optimizer = model.optimizers()["codec"]
    batch = Batch({"audio": 0.1 * torch.randn(1, 1, samples, device=device)}, {})

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return lambda: model.training_step(batch, 100, update)


def _plain_step(version: Version, device: torch.device, samples: int) -> Work:
    model = PlainRave(version).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, (0.5, 0.9))
    audio = 0.1 * torch.randn(1, 1, samples, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(audio, 0.05).backward()
        optimizer.step()

    return step


def _product(device: torch.device) -> Work:
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    return lambda: matrix @ matrix


def _in_halves(work: Work, device: torch.device) -> Work:
    def halved() -> object:
        with torch.autocast(device.type, torch.bfloat16):
            return work()

    return halved


def _has_halves(device: torch.device) -> bool:
    """Whether there are matrix units for bf16: with CUDA, or AMX of a CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def _least(works: Mapping[str, Work], device: torch.device, turns: int) -> dict[str, float]:
    """Seconds of each; all take turns."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            _wait(device)
            begin = clock()
            work()
            _wait(device)
            # The first of each fills caches.
            spent[name] += [clock() - begin] if turn else []
    return {name: min(values) for name, values in spent.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="Only to see that it runs.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER, *rave(torch.device(options.device), options.small), sep="\n")
    print(f"\nload of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
