"""Measure rendering and a training step of the loop GAN against a plain PyTorch build of the published networks.

    python -m benchmarks.loopgan                            # width 128, batch 4: two minutes
    python -m benchmarks.loopgan --width 512 --rounds 3     # the published width: a quarter of an hour on 2 cores
    python -m benchmarks.loopgan --device cuda --width 512 --batch 16 --rounds 10

The plain build has the layout and the counts of pjloop-gan (192 frames of 64 bands): weights modulated for each example
and a grouped convolution, zeros inserted and a blur for each change of resolution, features of VGGish (4.5 million
weights, random here) of both halves of a spectrogram, and MelGAN. Ours is `train loopgan` with the features of a
classifier and Vocos, also of 192 frames for a whole bar. Both take turns in one run.

    render      a loop of 2 s from a latent vector, without gradients
    step        one update of the discriminator and one of the generator; ours generates, and sees through the frozen
                features, once for both, where the plain build does so for each
    ratio       ours over the plain build's, of medians; below 1 is faster
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.models.classifier import Classifier, ClassifierConfig
from tonemill.models.contract import Batch, CorpusFacts, Request, build_model
from tonemill.models.directions import ParentFacts
from tonemill.models.loopgan import MODEL
from tonemill.models.loopgan.generator import EqualLinear, activated
from tonemill.models.loopgan.projection import Heads, Projection
from tonemill.models.loopgan.settings import LoopGANConfig
from tonemill.models.vocoder import MODEL as VOCODER
from tonemill.models.vocoder.generators import MelGAN
from tonemill.models.vocoder.settings import VocosConfig

RATE = 16000


def blurred(x: Tensor, pads: tuple[int, int]) -> Tensor:
    """The outer product of [1, 3, 3, 1], times 4, for each channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device)
    kernel = 4 * torch.outer(taps, taps) / 64
    before, after = pads
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x.flatten(0, 1)[:, None], kernel[None, None]).view(*x.shape[:2], x.shape[2] - 3, x.shape[3] - 3)


class PlainModulated(nn.Module):
    """A convolution whose weights are scaled for each example."""

    def __init__(self, channels: int, outputs: int, style: int, size: int, raises: bool, demodulate: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, channels, size, size))
        self.modulation = EqualLinear(style, channels, bias=1.0)
        self.raises, self.demodulate, self.size = raises, demodulate, size

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        _, outputs, _, size, _ = self.weight.shape
        weight = self.weight / math.sqrt(channels * size * size) * self.modulation(style).view(batch, 1, channels, 1, 1)
        if self.demodulate:
            weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = x.reshape(1, batch * channels, height, width)
        if self.raises:
            weight = weight.transpose(1, 2).reshape(batch * channels, outputs, size, size)
            x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
            return blurred(x.view(batch, outputs, *x.shape[2:]), (1, 1))
        x = F.conv2d(x, weight.view(batch * outputs, channels, size, size), padding=size // 2, groups=batch)
        return x.view(batch, outputs, *x.shape[2:])


class PlainGenerator(nn.Module):
    """z (batch, 32) to mels (batch, 1, 192, 64)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [32] + [64] * 6
        self.mapping = nn.ModuleList(EqualLinear(a, b, rate=0.01) for a, b in itertools.pairwise(sizes))
        self.constant = nn.Parameter(torch.randn(1, width, 12, 4))
        raises = [False] + [True, False] * 4
        self.convs = nn.ModuleList(PlainModulated(width, width, 64, 3, one, True) for one in raises)
        self.mels = nn.ModuleList(PlainModulated(width, 1, 64, 1, False, False) for _ in range(5))

    def forward(self, z: Tensor) -> Tensor:
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = activated(layer(w))
        x, mel = self.constant.expand(len(z), -1, -1, -1), None
        for number, conv in enumerate(self.convs):
            x = conv(x, w)
            x = activated(x + 0.0 * torch.randn_like(x[:, :1]))
            if number % 2 == 0:
                added = self.mels[number // 2](x, w)
                if mel is not None:
                    spread = mel.new_zeros(len(mel), 1, 2 * mel.shape[2], 2 * mel.shape[3])
                    spread[:, :, ::2, ::2] = mel
                    added = added + blurred(spread, (2, 1))
                mel = added
        assert mel is not None
        return mel


class PlainDiscriminator(nn.Module):
    """VGGish taps of two halves, mixed, joined, and judged by four heads."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in widths).requires_grad_(False)
        self.projection = Projection((64, 128, 256, 512))
        self.heads = Heads(self.projection.widths)

    def forward(self, mel: Tensor) -> Tensor:
        halves = [self._mixed(self._taps(half)) for half in mel.split(96, dim=2)]
        joined = [torch.cat(both, dim=3) for both in zip(*halves, strict=True)]
        return torch.cat([head(x) for head, x in zip(self.heads.heads, joined, strict=True)], dim=1)

    def _mixed(self, maps: list[Tensor]) -> list[Tensor]:
        """The layers of our projection in the published order: resolution is doubled first, and then channels mixed."""
        mixed: list[Tensor] = []
        for scale, x in reversed(list(enumerate(maps))):
            x = self.projection.across_channels[scale](x)
            x = F.interpolate(x + mixed[0] if mixed else x, scale_factor=2.0, mode="bilinear", align_corners=True)
            mixed.insert(0, self.projection.across_scales[scale](x))
        return mixed

    def _taps(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, conv in enumerate(self.convs):
            x = torch.relu(conv(x))
            if number in (0, 1, 3, 5):
                x = F.max_pool2d(x, 2)
                found.append(x)
        return found


def plain_step(generator: nn.Module, discriminator: nn.Module, mel: Tensor) -> Callable[[], None]:
    """One update of each, by the hinge loss."""
    parts = [[one for one in part.parameters() if one.requires_grad] for part in (generator, discriminator)]
    optimizers = [torch.optim.Adam(part, 2e-3, (0.0, 0.99)) for part in parts]

    def step() -> None:
        with torch.no_grad():
            fake = generator(torch.randn(len(mel), 32, device=mel.device))
        loss = F.relu(1 - discriminator(mel)).mean() + F.relu(1 + discriminator(fake)).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        for one in parts[1]:
            one.requires_grad_(False)
        optimizers[0].zero_grad()
        (-discriminator(generator(torch.randn(len(mel), 32, device=mel.device))).mean()).backward()
        optimizers[0].step()
        for one in parts[1]:
            one.requires_grad_(True)

    return step


def ours(width: int, device: torch.device) -> Any:
    """A loop GAN of that width, on a classifier and a vocoder with random weights."""
    facts = CorpusFacts("loops", ("audio",), RATE, 1, {"kit": ("a", "b")})
    vocoder_config = VOCODER.settle(VocosConfig(), facts)
    mel: dict[str, Any] = {name: getattr(vocoder_config, name) for name in ("n_fft", "hop_length", "mel_bands")}
    mel |= {"low_hz": 0.0, "high_hz": vocoder_config.high_hz}
    ears = Classifier(ClassifierConfig(label="kit", labels=("a", "b"), sample_rate=RATE, channels=1, **mel))
    parents = {name: ParentFacts(name, mel, RATE, 1, {}) for name in ("vocoder", "features")}
    leaning = CorpusFacts("loops", ("audio",), RATE, 1, parents=parents)
    config = MODEL.settle(LoopGANConfig(width=width, features="runs/ears", vocoder="runs/vocoder"), leaning)
    return build_model(MODEL, config, {"vocoder": VOCODER(vocoder_config), "features": ears}).to(device)


def our_step(model: Any, batch: Batch) -> Callable[[], None]:
    optimizers, count = model.optimizers(), itertools.count(1)

    def update(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    def step() -> None:
        model.train().training_step(batch, next(count), update)

    return step


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds: of the clock on an accelerator, and else of all of this process's threads, for a machine may be busy."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begin = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def measured(width: int, batch: int, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Seconds of both builds, which take turns, for a render and a step."""
    torch.manual_seed(0)
    generator, discriminator = PlainGenerator(width).to(device), PlainDiscriminator().to(device)
    melgan = MelGAN(64, (5, 4, 4, 2), 512).to(device).eval()
    model = ours(width, device)
    audio = 0.1 * torch.randn(batch, 1, model.length, device=device)
    model.fit([Batch({"audio": audio}, {})])
    requests = [model.inputs(Request(seed, {}, {})) for seed in range(batch)]
    inputs = {name: torch.stack([one[name] for one in requests]).to(device) for name in requests[0]}
    mel = torch.randn(batch, 1, 192, 64, device=device)

    @torch.inference_mode()
    def plain_render() -> Tensor:
        made = generator(torch.randn(batch, 32, device=device))
        return melgan(made[:, 0].transpose(1, 2))

    works = {
        "render": (plain_render, lambda: model.render(inputs)),
        "step": (plain_step(generator, discriminator, mel), our_step(model, Batch({"audio": audio}, {}))),
    }
    rows = []
    for name, pair in works.items():
        for one in pair:
            one()
        taken = [[timed(one, device) for one in pair] for _ in range(rounds)]
        plain, own = (statistics.median(times) for times in zip(*taken, strict=True))
        rows.append({"what": name, "plain_seconds": plain, "our_seconds": own, "ratio": own / plain})
    return rows


def loopgan(device: torch.device, small: bool) -> list[dict[str, Any]]:
    """The part of `accelerator`: rendering and a step, held against the plain build of the published networks.

    Args:
        device: to measure on.
        small: in seconds on a CPU, at an eighth of the published width.
    """
    width, batch, rounds = (64, 4, 3) if small else (512, 16, 10)
    rows = measured(width, batch, rounds, device)
    return [{"part": "loopgan", "width": width, "batch": batch, **row} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"width {options.width}, batch {options.batch}, {device.type}, {torch.get_num_threads()} threads\n")
    print("| | plain, s | ours, s | ratio |\n|---|--:|--:|--:|")
    for row in measured(options.width, options.batch, options.rounds, device):
        print(f"| {row['what']} | {row['plain_seconds']:.3f} | {row['our_seconds']:.3f} | {row['ratio']:.2f} |")


if __name__ == "__main__":
    main()
