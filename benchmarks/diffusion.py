"""Train each task of diffusion for some CPU minutes on drum-machine loops, and judge it on held-out ones.

python -m benchmarks.diffusion                                       # tasks of sound, five CPU minutes each
python -m benchmarks.diffusion --tasks plain --cpu-minutes 1 2 --set precondition=false
python -m benchmarks.diffusion --speed                               # of a U-Net of 13,699,588 parameters, a minute

300 loops of `audiotools.synthetic` at 16 kHz to learn from, 20 others held out; one thread; batches of 8 clips of about
a second; the averages are judged.

loss at t    of held-out clips, over that of the exact Gaussian denoiser on the same draws: 1 is filtered noise
level        of six clips from seeds, over that of the corpus, in dB
distance     multi-resolution STFT distance of ten rendered loops from the true ones (transforms of 192 to 1536),
             beside that of 60 rounds of Griffin-Lim from a mel spectrogram of 64 bands
log-spectral of the bands above the old half rate, mean absolute error of the mean spectrum in dB; and without them
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.plain_unet import PlainUNet
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import Batch, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.model import OPTIMIZER, Diffusion
from tonemill.models.diffusion.options import Generating
from tonemill.models.diffusion.settings import VARIANTS, DiffusionConfig, UpsampleConfig
from tonemill.models.diffusion.unet import UNet
from tonemill.models.parts.optimizers import adamw
from tonemill.models.parts.spectra import stft
from tonemill.models.vocoder.model import Vocoder, distance
from tonemill.models.vocoder.settings import VocosConfig
from tonemill.pipelines import config
from tonemill.pipelines.recipes.assignments import assignments

RATE = 16000
SETTINGS: dict[str, Any] = {
    "length": 16384,
    "channels_per_level": (16, 32, 64, 128, 128, 128),
    "factors": (1, 4, 4, 4, 2, 2),
    "items": (1, 2, 2, 2, 2, 2),
    "attentions": (0, 0, 0, 0, 1, 1),
    "sample_rate": RATE,
    "channels": 1,
}
OF_TASK: dict[str, dict[str, Any]] = {
    # 24 ms every 6 ms, which at 48 kHz are the 1024 and 256 samples of the reference.
    "vocode": {"n_fft": 384, "hop_length": 96, "mel_bands": 80},
    "autoencode": {"compression": 128, "latent_dim": 48, "level_bands": 44},
    "latent": {
        "channels_per_level": (64, 128, 128),
        "factors": (1, 2, 2),
        "items": (1, 2, 2),
        "attentions": (0, 1, 1),
        "hop": 128,
        "rows": 48,
    },
}


def drums(first: int, count: int) -> list[Tensor]:
    patterns = list(PATTERNS.values())
    return [
        torch.from_numpy(loop(76 + 37 * seed % 99, 1, RATE, patterns[seed % len(patterns)], seed=seed))
        for seed in range(first, first + count)
    ]


def training(
    task: str, settings: Mapping[str, Any], loops: Sequence[Tensor], minutes: Sequence[float]
) -> Iterator[tuple[float, int, Diffusion]]:
    """A model with averaged weights after each of so many CPU minutes, and its steps; latents in place of loops."""
    values = {"task": task, **SETTINGS, **OF_TASK.get(task, {}), **settings}
    made = config.build(VARIANTS[task], values, "diffusion")
    if made.pause_octaves is None:
        made = replace(made, pause_octaves=made.usual_octaves)
    torch.manual_seed(0)
    model = MODEL(made)
    draws = np.random.default_rng(0)

    length = model.length // (values["hop"] if task == "latent" else 1)

    def batch(size: int) -> Batch:
        chosen = [loops[number] for number in draws.integers(len(loops), size=size)]
        places = [int(draws.integers(clip.shape[1] - length)) for clip in chosen]
        clips = torch.stack([clip[:, at : at + length] for clip, at in zip(chosen, places, strict=True)])
        return Batch({}, {}, {"latents": clips}) if task == "latent" else Batch({"audio": clips}, {})

    model.fit(batch(16) for _ in range(8))
    optimizer, weights = model.optimizers()[OPTIMIZER], list(model.parameters())
    average = [weight.detach().clone() for weight in weights]

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    spent, step = 0.0, 0
    for end in minutes:
        while spent < 60 * end:
            begin, step = time.process_time(), step + 1
            for group in optimizer.param_groups:
                group["lr"] = model.learning_rate(OPTIMIZER, step)
            model.training_step(batch(8), step, update)
            with torch.no_grad():
                for mean, weight in zip(average, weights, strict=True):
                    mean.lerp_(weight, 1 - min(0.999, (1 + step) / (10 + step)))
            spent += time.process_time() - begin
        own = [weight.detach().clone() for weight in weights]
        put(weights, average)
        yield end, step, model.eval()
        put(weights, own)
        model.train()


@torch.no_grad()
def put(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Give weights these values."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


@torch.inference_mode()
def judged(model: Diffusion, held_out: Sequence[Tensor]) -> list[str]:
    """Columns of a row of the table, for a model in eval mode."""
    found = model.validate(Request(n, {}, {"audio": clip.numpy()}) for n, clip in enumerate(held_out))
    assert found is not None
    values = found.values
    ratios = [f"{values[f'loss_at_{t}'] / values[f'gaussian_loss_at_{t}']:.2f}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
    if model.config.task == "plain":
        power = torch.stack([rendered(model, {}, seed).square().mean() for seed in range(6)]).mean()
        return [*ratios, f"level {20 * float((power.sqrt() / model.denoiser.gaussian.deviation).log10()):+.1f} dB"]
    clips = held_out[:10]
    made = [rendered(model, {"audio": clip.numpy()}, number) for number, clip in enumerate(clips)]
    if isinstance(model.config, UpsampleConfig):
        low = [model.task.code(clip[None]) for clip in clips]
        given = [one[0] for one in low if one is not None]
        errors = [upper_error_db(some, clips, model.config.factor) for some in (made, given)]
        return [*ratios, f"log-spectral {errors[0]:.1f} dB, without {errors[1]:.1f} dB"]
    searching = Vocoder(VocosConfig(sample_rate=RATE, channels=1, width=8, blocks=1, discriminators=("stft",)))
    distances = [
        np.mean([float(distance(one, true)) for one, true in zip(some, clips, strict=True)])
        for some in (made, [searching.searched(clip) for clip in clips])
    ]
    return [*ratios, f"distance {distances[0]:.2f}, Griffin-Lim {distances[1]:.2f}"]


def rendered(model: Diffusion, audio: Mapping[str, np.ndarray], seed: int, **chosen: Any) -> Tensor:
    """A clip, with options of the first direction."""
    options = model.directions(model.config)["render"].options(**chosen)
    inputs = model.inputs(Request(seed, {}, audio, {}, "render", options))
    return model.render({name: one[None] for name, one in inputs.items()}, "render", options)[0]


def upper_error_db(found: Sequence[Tensor], true: Sequence[Tensor], factor: int) -> float:
    """Mean absolute error of mean spectra in the bands that the lower rate has not."""
    errors = []
    for pair in zip(found, true, strict=True):
        one, other = (10 * stft(x, 1024, 256).abs().square().mean(-2).clamp(min=1e-10).log10() for x in pair)
        errors.append(float((one - other)[..., 512 // factor :].abs().mean()))
    return float(np.mean(errors))


NARROW: dict[str, Any] = {
    "channels_per_level": (8, 8, 16, 32, 64, 128, 128, 256, 256),
    "factors": (1, 4, 4, 4, 2, 2, 2, 2, 2),
    "items": (1, 2, 2, 2, 2, 2, 2, 4, 4),
    "attentions": (0, 0, 0, 0, 0, 1, 1, 1, 1),
}
"""13,699,588 parameters in stereo: the reference's shape with a quarter of its channels."""


def speed(samples: int = 2**16, sample_rate: int = 48000) -> list[str]:
    """CPU seconds of a training step and of a call, batch 1, stereo, beside PyTorch's own layers and optimizer.

    The least of several that take turns, in one thread, and the load of the machine.
    """
    shape = DiffusionConfig(**NARROW, positions="none", zero_init=False).shape(2, 0, ())
    x, level = torch.randn(1, 2, samples), torch.rand(1)
    works: dict[str, Callable[[], object]] = {}
    for name, net in (("ours", UNet(shape)), ("plain", PlainUNet(shape))):
        assert sum(parameter.numel() for parameter in net.parameters()) == 13_699_588
        works[f"{name} call"] = _call(net, x, level)
        works[f"{name} training step"] = _step(net, x, level, torch.optim.AdamW(net.parameters(), 1e-4))
        if name == "ours":
            ours = adamw(net.parameters(), 1e-4, (0.95, 0.999), 1e-6, 1e-2)
            works[f"{name} training step"] = _step(net, x, level, ours)
            works["bf16 call"] = _call(net, x, level, torch.bfloat16)
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(7):
        for name, work in works.items():
            begin = time.process_time()
            work()
            # The first of each fills caches.
            spent[name] += [time.process_time() - begin] if turn else []
    least = {name: min(values) for name, values in spent.items()}
    whole, half = (samples / sample_rate / least[name] for name in ("ours call", "bf16 call"))
    units = "with" if torch.cpu._is_amx_tile_supported() else "without"
    return [
        *(
            f"{what}: {least[f'ours {what}']:.3f} s, of PyTorch's own layers {least[f'plain {what}']:.3f} s: "
            f"{least[f'ours {what}'] / least[f'plain {what}']:.2f}"
            for what in ("training step", "call")
        ),
        f"{whole / 10:.1f} x real time with 10 steps, {whole / 4:.1f} with 4",
        f"in bf16, on a CPU {units} matrix units, {half / 10:.1f} and {half / 4:.1f}",
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
    ]


def _step(net: nn.Module, x: Tensor, level: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    def step() -> None:
        optimizer.zero_grad()
        (net(x, level) - x).square().mean().backward()
        optimizer.step()

    return step


def _call(net: nn.Module, x: Tensor, level: Tensor, precision: torch.dtype = torch.float32) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
            found: Tensor = net(x, level)
        return found

    return call


def diffusion(device: torch.device, small: bool) -> list[tuple[str, float, str]]:
    """How fast clips of 1.4 s at 48 kHz in stereo are rendered and learned from, of 13.7 M parameters.

    Args:
        device: to compute on.
        small: two clips of 2,048 samples in place of 64 of 65,536, to try the benchmark itself.

    Returns:
        for each row what was measured, the number and its unit.
    """
    size, length = (2, 2048) if small else (64, 2**16)
    settings = {**NARROW, "factors": (1, 4, 4, 4, 2, 2, 1, 1, 1)} if small else NARROW
    torch.manual_seed(0)
    model = MODEL(DiffusionConfig(**settings, length=length, sample_rate=48000, channels=2))
    audio = 0.1 * torch.randn(size, 2, length)
    model.fit([Batch({"audio": audio}, {})])
    model, batch = model.to(device), Batch({"audio": audio.to(device)}, {})
    seeds, options = {"seed": torch.arange(2 * size).reshape(size, 2).to(device)}, Generating(steps=10)
    optimizer, rows = model.optimizers()[OPTIMIZER], []

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    works: dict[str, Callable[[], object]] = {
        "rendered with 10 steps": lambda: model.eval().render(seeds, "render", options),
        "learned from": lambda: model.train().training_step(batch, 1, update),
    }
    for name, work in works.items():
        for precision in (torch.float32, torch.bfloat16):
            seconds = []
            for _ in range(3):
                begin = time.perf_counter()
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    work()
                if device.type != "cpu":
                    torch.accelerator.synchronize()
                seconds.append(time.perf_counter() - begin)
            words = f"diffusion, batch of {size}, {str(precision).removeprefix('torch.')}, {name}"
            rows.append((words, size * length / 48000 / min(seconds), "x real time"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    tasks = [name for name in VARIANTS if name != "latent"]
    parser.add_argument("--tasks", nargs="*", default=tasks, choices=tasks)
    parser.add_argument("--cpu-minutes", nargs="*", type=float, default=[1, 5])
    parser.add_argument("--set", nargs="*", default=[], help="Settings, as learning_rate=0.001.")
    parser.add_argument("--speed", action="store_true", help="Only how fast the network is.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.speed:
        print("\n".join(speed()))
        return
    loops, held_out = drums(0, 300), drums(1000, 20)
    settings = {
        name: value == "true" if value in ("true", "false") else value
        for name, value in assignments(tuple(args.set), "--set").items()
    }
    print("| task | CPU minutes | steps | .1 | .3 | .5 | .7 | .9 | |\n|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for task in args.tasks:
        for minutes, step, model in training(task, settings, loops, args.cpu_minutes):
            print(f"| {' | '.join([task, f'{minutes:g}', f'{step:,}', *judged(model, held_out)])} |", flush=True)


if __name__ == "__main__":
    main()
