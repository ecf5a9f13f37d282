"""Measure how fast the autoregressive network runs: one stream in order, many in lock-step, one file in segments.

    OMP_NUM_THREADS=1 python -m benchmarks.autoregressive      # a minute of one core

The seed's size (394,753 parameters, 0.395 million multiply-adds a sample) with random weights, one thread. CPU time,
best of several short runs, because other work on a machine takes bandwidth from its caches.

    samples/s    stream-samples a second; 44,100 is real time
    GB/s         weights read: all of them once a sample in order, less what one reading serves 16 or more samples
    of peak      multiply-adds against the fastest float32 matrix product found (NumPy's, PyTorch's; sizes 256 to 1024)
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tonemill.models.effect.networks.autoregressive.network import Autoregressive
from tonemill.models.effect.networks.autoregressive.settings import AutoregressiveConfig


def best(call: Callable[[], object], rounds: int = 8) -> float:
    """CPU seconds of the fastest of several calls, after one that warms up."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def peak() -> float:
    """Floating-point operations a second of the fastest matrix product."""
    found = []
    for size in (256, 512, 1024):
        a, b = (np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) for _ in range(2))
        out = np.empty_like(a)
        tensors = [torch.from_numpy(one) for one in (a, b, out)]
        count = 2 * 1024**3 // size**3
        for call in (
            lambda a=a, b=b, out=out: np.matmul(a, b, out=out),
            lambda t=tensors: torch.mm(t[0], t[1], out=t[2]),
        ):
            found.append(2 * size**3 * count / best(lambda call=call, count=count: [call() for _ in range(count)]))
    return max(found)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Autoregressive(AutoregressiveConfig()).eval()
    draws = np.random.default_rng(0)
    operations = 2 * sum(layer.weight.numel() for layer in net.layers)
    fastest = peak()
    print(
        f"fastest matrix product: {fastest / 1e9:.1f} GFLOP/s, or {fastest / operations:,.0f} samples/s of this network"
    )
    start = time.perf_counter()
    runner = net.runner()
    runner.run(np.zeros(10, np.float32))
    print(f"first sample, compiling: {time.perf_counter() - start:.1f} s\n")
    print("| how | samples/s | x real time | GB/s | of peak |")
    print("|---|--:|--:|--:|--:|")

    def row(how: str, samples: int, seconds: float, gigabytes: str = "") -> None:
        speed = samples / seconds
        share = speed * operations / fastest
        print(f"| {how} | {speed:,.0f} | {speed / 44100:.2f} | {gigabytes} | {share:.0%} |", flush=True)

    dry = (0.2 * draws.standard_normal(20_000)).astype(np.float32)
    sequential = nn.Sequential(*[part for layer in net.layers for part in (layer, nn.GELU())][:-1])
    with torch.inference_mode():
        window = torch.zeros(1, 255)
        seconds = best(lambda: [sequential(window) for _ in range(500)])
    row("Python loop over PyTorch, without the shift registers", 500, seconds)
    seconds = best(lambda: runner.run(dry))
    hidden = sum(layer.weight.numel() * 4 for layer in list(net.layers)[1:])
    row("one stream, in order", dry.size, seconds, f"{hidden * dry.size / seconds / 1e9:.0f}")
    for streams in (16, 64, 256, 512):
        many = np.broadcast_to(dry[:64], (streams, 64)).astype(np.float32)
        row(f"{streams} streams in lock-step", many.size, best(lambda many=many: runner.run_many(many)))
    file = (0.2 * draws.standard_normal(20 * 44100)).astype(np.float32)
    for segments, warm_up in ((64, 1024), (256, 512), (256, 1024)):
        seconds = best(lambda n=segments, w=warm_up: runner.run_segments(file, n, w), 1)
        row(f"a file of 20 s in {segments} segments, warm-up {warm_up}", file.size, seconds)


if __name__ == "__main__":
    main()
