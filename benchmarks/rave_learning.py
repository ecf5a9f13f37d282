"""How fast RAVE learns loops: its held-out distance over the first steps of phase 1, for several seeds.

    python -m benchmarks.rave_learning LOOPS --held-out OTHERS -o docs/images/rave-learning
    python -m benchmarks.rave_learning LOOPS --steps 5 --every 5 --seeds 1      # to see what a step takes

`v2-small`, batches of 4 clips of 65,536 samples at 44.1 kHz, mono, cut at random from all files of LOOPS (weighted by
their length) and augmented as in training; one thread. Held out are the files of another folder, or nine loops of the
drum machine. Each is rendered through means of latents.

distance   spectral distance at five scales (2048 to 128) from the held-out audio, mean over its files; beside it that
           of noise with the mean spectrum and the level of the training loops

OUTPUT-curve.png shows the distances, OUTPUT-spectra.png held-out loops and what the last seed makes of them. Of the
same loops OUTPUT-held-out-0.flac and so on are clips, OUTPUT-rendered-0.flac what the last seed makes of each.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import Batch
from tonemill.models.rave.distances import spectral_distance
from tonemill.models.rave.model import Rave
from tonemill.models.rave.settings import VARIANTS
from tonemill.models.rave.validation import reconstructed

RATE: Final = 44_100
LENGTH: Final = 65_536
EXAMPLES: Final = 4
SPECTRUM: Final = 2048
SHOWN: Final = 3
"""Held-out loops of which there are pictures and clips."""

CLIP_SECONDS: Final = 4
ENDINGS: Final = (".wav", ".flac", ".aiff", ".aif", ".ogg")


def read(folder: Path) -> list[Tensor]:
    """All sound files of a folder, (1, time) each, mono at 44.1 kHz; those shorter than a clip are repeated."""
    import soundfile

    clips = []
    for path in sorted(one for one in folder.rglob("*") if one.suffix.lower() in ENDINGS):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = resample(np.ascontiguousarray(samples.mean(axis=1)[None]), rate, RATE)
        clips.append(torch.from_numpy(np.tile(mono, (1, -(-LENGTH // mono.shape[1])))))
    if not clips:
        raise SystemExit(f"{folder} holds no sound files ({', '.join(ENDINGS)}).")
    return clips


def drum_machine() -> list[Tensor]:
    patterns = list(PATTERNS.values())
    return [
        torch.from_numpy(loop(90 + 7 * n, 2, RATE, patterns[n % len(patterns)], seed=1000 + n)).mean(0, keepdim=True)
        for n in range(9)
    ]


def training(clips: Sequence[Tensor], seed: int, steps: int, every: int) -> Iterator[tuple[int, float, Rave]]:
    """The step, the CPU seconds so far, and the model in eval mode: at first, and after each so many steps."""
    torch.manual_seed(seed)
    model = Rave(VARIANTS["v2-small"](length=LENGTH, sample_rate=RATE, channels=1, fine_tune_after=0))
    optimizer, draws = model.optimizers()["codec"], np.random.default_rng(seed)
    lengths = np.array([clip.shape[1] for clip in clips], np.float64)

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    spent = 0.0
    yield 0, spent, model.eval()
    for step in range(1, steps + 1):
        begin = time.process_time()
        cut = []
        for number in draws.choice(len(clips), size=EXAMPLES, p=lengths / lengths.sum()):
            place = int(draws.integers(clips[number].shape[1] - LENGTH + 1))
            clip = clips[number][:, place : place + LENGTH].numpy()
            augmented = clip if model.augmentation is None else model.augmentation({"audio": clip}, draws)["audio"]
            cut.append(torch.from_numpy(augmented))
        optimizer.param_groups[0]["lr"] = model.learning_rate("codec", step)
        torch.manual_seed(1_000_003 * seed + step)
        model.train().training_step(Batch({"audio": torch.stack(cut)}, {}), step, update)
        spent += time.process_time() - begin
        if step % every == 0:
            yield step, spent, model.eval()


@torch.inference_mode()
def rendered(model: Rave, held_out: Sequence[Tensor]) -> list[Tensor]:
    codec = model.codec.plain()
    return [reconstructed(codec, clip)[0] for clip in held_out]


def distance(model: Rave, found: Sequence[Tensor], held_out: Sequence[Tensor]) -> float:
    scales, floor = model.config.scales, model.silence_rms
    with torch.inference_mode():
        each = [float(spectral_distance(x[None], y[None], scales, floor)) for x, y in zip(found, held_out, strict=True)]
    return float(np.mean(each))


def noise_like(clips: Sequence[Tensor], held_out: Sequence[Tensor]) -> list[Tensor]:
    """Noise with the mean power spectrum of the clips, one for each held-out loop and as long."""
    window = torch.hann_window(SPECTRUM)
    frames = torch.cat([clip[0].unfold(0, SPECTRUM, SPECTRUM // 2) for clip in clips])
    power = torch.fft.rfft(frames * window).abs().square().mean(0) / window.square().sum()
    made = []
    for number, clip in enumerate(held_out):
        draws = np.random.default_rng(number).standard_normal(clip.shape[1])
        spectrum = np.fft.rfft(draws)
        places = np.linspace(0, len(power) - 1, len(spectrum))
        shape = np.sqrt(np.interp(places, np.arange(len(power)), power.numpy()))
        made.append(torch.from_numpy(np.fft.irfft(spectrum * shape, clip.shape[1]).astype(np.float32))[None])
    return made


def save_curve(path: Path, curves: Sequence[dict[int, float]], baseline: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for seed, curve in enumerate(curves):
        axes.plot(list(curve), list(curve.values()), marker="o", label=f"seed {seed}")
    axes.axhline(baseline, color="gray", linestyle="--", label="noise of the mean spectrum")
    axes.set(xlabel="step", ylabel="held-out distance")
    axes.legend()
    figure.savefig(path, dpi=100)


def save_clips(output: Path, held_out: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    """The beginning of each held-out loop, and of what was rendered of it, in 16 bits; a pair has one gain."""
    import soundfile

    for number, pair in enumerate(zip(held_out, found, strict=True)):
        clips = [one[0, : CLIP_SECONDS * RATE].numpy() for one in pair]
        gain = 1 / max(1.0, *(float(np.abs(clip).max(initial=0)) for clip in clips))
        for name, clip in zip(("held-out", "rendered"), clips, strict=True):
            soundfile.write(f"{output}-{name}-{number}.flac", gain * clip, RATE, subtype="PCM_16")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("loops", type=Path)
    parser.add_argument("--held-out", type=Path, help="a folder of other loops; default: nine of the drum machine")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100, help="steps between two distances")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="the beginning of the pictures' names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = read(options.loops)
    held_out = read(options.held_out) if options.held_out else drum_machine()
    curves: list[dict[int, float]] = []
    found: list[Tensor] = []
    baseline = None
    for seed in range(options.seeds):
        curves.append({})
        for step, spent, model in training(clips, seed, options.steps, options.every):
            if baseline is None:
                baseline = distance(model, noise_like(clips, held_out), held_out)
                print(f"noise of the mean spectrum: {baseline:.2f} over {len(held_out)} held-out loops", flush=True)
            found = rendered(model, held_out)
            curves[-1][step] = distance(model, found, held_out)
            each = f", {spent / step:.2f} CPU s a step" if step else ""
            print(f"seed {seed}, step {step}: {curves[-1][step]:.2f}{each}", flush=True)
    late = [curve[step] for curve in curves for step in sorted(curve)[-2:]]
    print(f"mean of the last two over {len(curves)} seeds: {np.mean(late):.2f}")
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.output and baseline is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        save_curve(Path(f"{options.output}-curve.png"), curves, baseline)
        pairs = [one for pair in zip(held_out[:SHOWN], found[:SHOWN], strict=True) for one in pair]
        titles = [f"held out {n // 2}" if n % 2 == 0 else f"rendered {n // 2}" for n in range(len(pairs))]
        shown = [one[:, : CLIP_SECONDS * RATE].clamp(-1, 1).numpy() for one in pairs]
        save_spectrogram_picture(Path(f"{options.output}-spectra.png"), shown, RATE, titles, columns=2)
        save_clips(options.output, held_out[:SHOWN], found[:SHOWN])


if __name__ == "__main__":
    main()
