"""Measure a training step and generation of our WaveGAN against a plain eager PyTorch loop of the same net.

    python -m benchmarks.wavegan                            # dim 16, batch 16: about a minute
    python -m benchmarks.wavegan --dim 64 --batch 64        # the paper's net: 10 minutes on 2 cores
    python -m benchmarks.wavegan --device cuda --dim 64 --batch 64 --precision bf16 --rounds 20

The plain net is written out below, with PyTorch's own symmetric padding, phase shuffle by indexing and the textbook
WGAN-GP step. A training step is one update of the discriminator and one of the generator on noise of 16384 samples.
Both take turns; clips rendered is a batch from latents, without gradients, as `render` does it.

    s/step, clips/s  medians by the wall clock; CPU s is user and system time of all threads
    ratio            ours against the plain loop's, of seconds: below 1 is faster
    peak             accelerator memory at the end of a step, above what was there before both nets (CUDA only)
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tonemill.models.contract import Batch, load_model

LENGTH, LATENT = 16384, 100


class PlainGenerator(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.d, self.dense = d, nn.Linear(LATENT, 256 * d)
        widths = [16 * d, 8 * d, 4 * d, 2 * d, d, 1]
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(a, b, 25, 4, padding=11, output_padding=1) for a, b in itertools.pairwise(widths)
        )

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(-1, 16 * self.d, 16)
        for layer in self.up:
            x = layer(torch.relu(x))
        return torch.tanh(x)


class PlainDiscriminator(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        widths = [1, d, 2 * d, 4 * d, 8 * d, 16 * d]
        self.down = nn.ModuleList(nn.Conv1d(a, b, 25, 4, padding=11) for a, b in itertools.pairwise(widths))
        self.dense = nn.Linear(256 * d, 1)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.down):
            x = nn.functional.leaky_relu(layer(x), 0.2)
            if number < 4:
                x = self.shuffled(x, int(torch.randint(-2, 3, ())))
        return self.dense(x.flatten(1)).squeeze(1)

    @staticmethod
    def shuffled(x: Tensor, shift: int) -> Tensor:
        """Whole samples, filled by reflection."""
        if shift > 0:
            return nn.functional.pad(x, (shift, 0), mode="reflect")[..., : x.shape[-1]]
        return nn.functional.pad(x, (0, -shift), mode="reflect")[..., -shift:] if shift else x


class Plain:
    """The loop as one would first write it."""

    def __init__(self, dim: int, device: torch.device, autocast: Callable[[], Any]) -> None:
        self.g, self.d = PlainGenerator(dim).to(device), PlainDiscriminator(dim).to(device)
        self.opt_g = torch.optim.Adam(self.g.parameters(), 1e-4, (0.5, 0.9))
        self.opt_d = torch.optim.Adam(self.d.parameters(), 1e-4, (0.5, 0.9))
        self.device, self.autocast = device, autocast

    def latent(self, count: int) -> Tensor:
        return torch.rand(count, LATENT, device=self.device) * 2 - 1

    def step(self, real: Tensor) -> None:
        with self.autocast():
            fake = self.g(self.latent(len(real))).detach()
            loss = self.d(fake).mean() - self.d(real).mean()
            alpha = torch.rand(len(real), 1, 1, device=self.device)
        mixed = (real + alpha * (fake.float() - real)).requires_grad_()
        (gradient,) = torch.autograd.grad(self.d(mixed).sum(), mixed, create_graph=True)
        loss = loss + 10 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        self.opt_d.zero_grad()
        loss.backward()
        self.opt_d.step()
        with self.autocast():
            loss = -self.d(self.g(self.latent(len(real)))).mean()
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()

    @torch.inference_mode()
    def clips(self, count: int) -> None:
        self.g(self.latent(count)).cpu()


class Ours:
    """`tonemill train` and `render` without corpus, checkpoints and metrics."""

    def __init__(self, dim: int, device: torch.device, autocast: Callable[[], Any]) -> None:
        model = load_model("wavegan")
        self.model = model(model.Config(sample_rate=16000, channels=1, dim=dim, critic_steps=1)).to(device)
        self.optimizers, self.device, self.autocast = self.model.optimizers(), device, autocast

    def update(self, optimizer: str, loss: Tensor) -> None:
        self.optimizers[optimizer].zero_grad()
        loss.backward()
        self.optimizers[optimizer].step()

    def step(self, real: Tensor) -> None:
        with self.autocast():
            self.model.training_step(Batch({"audio": real}, {}), 1, self.update)

    def clips(self, count: int) -> None:
        self.model.render({"latent": torch.rand(count, LATENT, device=self.device) * 2 - 1}, "render", None).cpu()


def timed(work: Callable[[], None], device: torch.device) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and peak MB of the accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
    return time.perf_counter() - wall, time.process_time() - cpu, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each (default 5)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of training")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    autocast: Callable[[], Any] = (lambda: torch.autocast(device.type, dtype)) if dtype else nullcontext
    real = torch.rand(options.batch, 1, LENGTH, device=device) - 0.5
    contenders = {"tonemill": Ours(options.dim, device, autocast), "plain": Plain(options.dim, device, autocast)}
    parameters = [sum(p.numel() for p in part.parameters()) for part in (contenders["plain"].g, contenders["plain"].d)]
    assert sum(parameters) == sum(p.numel() for p in contenders["tonemill"].model.parameters())

    taken: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for turn in range(options.rounds + 1):
        for name, net in contenders.items():
            for what, work in (("step", lambda: net.step(real)), ("clips", lambda: net.clips(options.batch))):  # noqa: B023
                one = timed(work, device)
                if turn:  # the first chooses kernels
                    taken.setdefault((what, name), []).append(one)
    medians = {key: [statistics.median(side) for side in zip(*some, strict=True)] for key, some in taken.items()}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, {options.precision}, dim {options.dim}, batch {options.batch}\n")
    print("| | wall | per second | CPU, s | ratio, wall | ratio, CPU | peak, MB |\n|---|--:|--:|--:|--:|--:|--:|")
    for what, count, unit in (("step", 1, "steps"), ("clips", options.batch, "clips")):
        plain = medians[what, "plain"]
        for name in contenders:
            wall, cpu, peak = medians[what, name]
            label = "D and G update" if what == "step" else f"{count} clips rendered"
            numbers = f"{wall:.3f} s | {count / wall:.3g} {unit} | {cpu:.2f} | {wall / plain[0]:.2f}"
            print(f"| {label}, {name} | {numbers} | {cpu / plain[1]:.2f} | {f'{peak:,.0f}' if peak else ''} |")


if __name__ == "__main__":
    main()
