"""Does each task of diffusion learn what it must? A row for each, of held-out loops, beside a baseline.

    python -m benchmarks.diffusion_learning                            # all, 300 CPU seconds a training: 40 CPU minutes
    python -m benchmarks.diffusion_learning vocode plain --cpu-seconds 60
    python -m benchmarks.diffusion_learning reference --steps 0 200 400 # 3 CPU s a step with the reference's settings

plain       loss of held-out drum-machine loops over that of the exact Gaussian denoiser, at the worst noise level
upsample    error of the bands above 2 kHz, dB, over that of interpolation; and what is left of the bands below, dB
vocode      multi-resolution STFT distance, less that of Griffin-Lim of the same mel spectrogram
autoencode  the same, less that of Griffin-Lim of a mel spectrogram of 6,400 numbers a second (its own are 6,000)
latent      as plain, of the latents of an autoencoder that was trained for a fifth of the time
steps       kernel distance of clips of ten steps from held-out ones, less that of the same seeds with fifty
reference   v-loss of held-out loops (--held-out, or nine of the drum machine), learned from those of --loops, with
            audio-diffusion-pytorch's settings and with ours

Intervals are of 95 % over loops. `benchmarks.diffusion` has corpora and settings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.diffusion import RATE, drums, put, rendered, training, upper_error_db
from tonemill.audiotools.codecs.files import read
from tonemill.audiotools.comparison.confidence import Interval, mean
from tonemill.audiotools.comparison.kernel_distance import Gaussian, distance, median_distance, sums
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.mel import mel_spectrogram_db
from tonemill.models.contract import Batch, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.model import OPTIMIZER, Diffusion
from tonemill.models.diffusion.noising import mix_at
from tonemill.models.diffusion.settings import PAUSES, DiffusionConfig, UpsampleConfig
from tonemill.models.diffusion.validating import LEVELS
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.mel import LogMel, MelConfig
from tonemill.models.parts.spectra import stft
from tonemill.models.vocoder.model import distance as stft_distance

LOOPS: Final = Path("../shared/audio/loops")
GRIFFIN_LIM_ROUNDS: Final = 60
SHORTEST: Final = 32768
"""Samples of a clip of the reference's run."""


class Row(NamedTuple):
    """What a task reached.

    Args:
        measure: in words.
        found: what must be below the bar.
        bar: as 1 for a ratio to the baseline.
        more: in words.
        holds: the whole interval is below the bar, and what else must hold does.
    """

    measure: str
    found: Interval
    bar: float
    more: str
    holds: bool


def learned(task: str, cpu_seconds: float) -> tuple[int, Row]:
    """Train a task for so many CPU seconds; the steps, and what it reached."""
    loops, held_out = drums(0, 300), drums(1000, 20)
    if task == "latent":
        *_, (_, _, codec) = training("autoencode", {}, loops, [cpu_seconds / 300])
        with torch.inference_mode():
            loops, held_out = (
                [codec.render({"audio": x[None]}, "encode", None)[0] for x in some] for some in (loops, held_out)
            )
        loops, held_out = ([x.clone() for x in some] for some in (loops, held_out))
        cpu_seconds *= 0.8
    *_, (_, steps, model) = training("plain" if task == "steps" else task, {}, loops, [cpu_seconds / 60])
    with torch.inference_mode():
        return steps, MEASURES[task](model.eval(), held_out)


def _beyond_the_spectrum(model: Diffusion, held_out: Sequence[Tensor]) -> Row:
    """Losses over those of the exact Gaussian denoiser."""
    name = "latents" if model.config.task == "latent" else "audio"
    ratios = []
    for clip in held_out:
        found = model.validate(
            [Request(0, {}, *(({}, {name: clip.numpy()}) if name == "latents" else ({name: clip.numpy()}, {})))]
        )
        assert found is not None
        ratios.append([found.values[f"loss_at_{t}"] / found.values[f"gaussian_loss_at_{t}"] for t in LEVELS])
    intervals = [mean(np.array(values)) for values in zip(*ratios, strict=True)]
    worst = max(intervals, key=lambda one: one.high or 0)
    more = ", ".join(f"{one.value:.2f} at {t}" for t, one in zip(LEVELS, intervals, strict=True))
    return Row("loss over the Gaussian's, worst level", worst, 1, more, _below(worst, 1))


def _upper_bands(model: Diffusion, held_out: Sequence[Tensor]) -> Row:
    assert isinstance(model.config, UpsampleConfig)
    factor, ratios, left = model.config.factor, [], []
    for number, clip in enumerate(held_out):
        low = model.task.code(clip[None])
        assert low is not None
        made = rendered(model, {"audio": low[0].numpy()}, number)
        errors = [upper_error_db([one], [clip], factor) for one in (made, low[0])]
        ratios.append(errors[0] / errors[1])
        # Of the bands up to .8 of the old half rate.
        kept = [
            stft(one, 1024, 256)[..., : int(0.8 * 512 / factor)].abs().square().sum() for one in (made - clip, clip)
        ]
        left.append(float(10 * (kept[0] / kept[1]).log10()))
    found, worst = mean(np.array(ratios)), max(left)
    holds = _below(found, 0.5) and worst < -40
    return Row("error above 2 kHz over interpolation's", found, 0.5, f"bands below: {worst:.0f} dB at worst", holds)


def _nearer_than_griffin_lim(model: Diffusion, held_out: Sequence[Tensor]) -> Row:
    own = model.config.task == "vocode"
    log_mel = model.task.log_mel if own else LogMel(MelConfig(), RATE)
    pairs = []
    for number, clip in enumerate(held_out):
        clips = (rendered(model, {"audio": clip.numpy()}, number), searched(clip, log_mel))
        pairs.append([float(stft_distance(one, clip)) for one in clips])
    ours, theirs = np.array(pairs).T
    found = mean(ours - theirs)
    more = f"{ours.mean():.3f}, Griffin-Lim {theirs.mean():.3f}"
    return Row("STFT distance less Griffin-Lim's", found, 0, more, _below(found, 0))


def searched(clip: Tensor, log_mel: LogMel) -> Tensor:
    """A clip's mel spectrogram turned into sound by Griffin-Lim."""
    hop, first = log_mel.hop_length, log_mel.edge_before
    padded = torch.nn.functional.pad(clip, (0, -clip.shape[1] % hop))
    sound = griffin_lim(log_mel.magnitudes(log_mel(padded)), None, hop, GRIFFIN_LIM_ROUNDS)
    return sound[:, first : first + clip.shape[1]]


def _few_steps(model: Diffusion, held_out: Sequence[Tensor], count: int = 64) -> Row:
    """Ten steps beside fifty of the same seeds, by distances to clips of loops that neither was trained on."""
    length = model.length
    real = [clip[:, :length] for clip in drums(2000, 2 * count)]
    vectors = _vectors(real)
    kernel, place = [Gaussian(median_distance(vectors))], np.arange(len(vectors))
    within = sums(vectors, vectors, place, place, kernel)[0]
    intervals = []
    for steps in (10, 50):
        clips = [rendered(model, {}, seed, steps=steps) for seed in range(count)]
        made, numbers = _vectors(clips), np.arange(count)
        own = sums(made, made, numbers, numbers, kernel)[0]
        intervals.append(distance(own, within, sums(made, vectors, numbers, place, kernel)[0], count))
    ten, fifty = intervals
    assert ten.low is not None and ten.high is not None and fifty.low is not None and fifty.high is not None
    more = f"fifty steps {_shown(fifty)}"
    return Row("kernel distance with ten steps", ten, fifty.high, more, ten.low <= fifty.high and fifty.low <= ten.high)


def _vectors(clips: Sequence[Tensor]) -> np.ndarray:
    """Mean and deviation of each of 32 mel bands, in dB."""
    mels = [mel_spectrogram_db(clip.numpy(), RATE, n_mels=32)[0] for clip in clips]
    return np.stack([np.concatenate([mel.mean(axis=1), mel.std(axis=1)]) for mel in mels])


MEASURES: Final[dict[str, Callable[[Diffusion, Sequence[Tensor]], Row]]] = {
    "plain": _beyond_the_spectrum,
    "upsample": _upper_bands,
    "vocode": _nearer_than_griffin_lim,
    "autoencode": _nearer_than_griffin_lim,
    "latent": _beyond_the_spectrum,
    "steps": _few_steps,
}


def _below(found: Interval, bar: float) -> bool:
    return found.high is not None and found.high < bar


def _shown(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


REFERENCE: Final[dict[str, Any]] = {
    "precondition": False,
    "zero_init": False,
    "positions": "none",
    "levels": "uniform",
    "learning_rate": 1e-4,
    "weight_decay": 1e-2,
    "warm_up": 0,
}
"""Of audio-diffusion-pytorch with PyTorch's AdamW, beside the widths, which are our defaults."""

PUBLISHED: Final = {
    0: (1.96, 1.94, 1.93, 1.93, 1.93),
    200: (0.89, 0.53, 0.32, 0.29, 0.56),
    400: (0.73, 0.35, 0.25, 0.27, 0.50),
}
"""Of the reference itself, after so many steps, at `LEVELS`."""


def real_loops(folder: Path) -> list[Tensor]:
    """Loops of a folder by name, mono at 16 kHz."""
    sounds = [read(path).whole() for path in sorted(folder.glob("*.flac"))]
    if not sounds:
        raise SystemExit(f"{folder} holds no .flac files.")
    return [
        torch.from_numpy(resample(one.samples.mean(axis=0, keepdims=True), one.sample_rate, RATE)) for one in sounds
    ]


def scaled(loop: Tensor) -> Tensor:
    """A loop of unit variance, repeated where it is shorter than a clip."""
    return loop.repeat(1, -(-(SHORTEST + 1) // loop.shape[1])) / loop.std()


def reference(
    folder: Path, others: Path | None, steps: Sequence[int], ours: bool
) -> Iterator[tuple[int, list[float], float]]:
    """Losses at `LEVELS` on held-out loops after so many steps of the reference's batches, and CPU seconds of a step.

    Args:
        folder: of loops.
        others: a folder of those that are held out; None for nine loops of the drum machine.
        steps: ascending.
        ours: our default settings, with averages and limited gradients, and not the reference's.
    """
    loops, held_out = (
        [scaled(one) for one in some] for some in (real_loops(folder), real_loops(others) if others else drums(1000, 9))
    )
    torch.manual_seed(0)
    settings = {"pause_octaves": PAUSES["plain"]} if ours else REFERENCE
    model = MODEL(DiffusionConfig(length=SHORTEST, sample_rate=RATE, channels=1, **settings))
    assert ours or sum(weight.numel() for weight in model.denoiser.unet.parameters()) == 10_124_690
    draws = np.random.default_rng(0)

    def batch(size: int) -> Batch:
        chosen = [loops[number] for number in draws.integers(len(loops), size=size)]
        places = [int(draws.integers(clip.shape[1] - SHORTEST)) for clip in chosen]
        clips = [clip[:, at : at + SHORTEST] for clip, at in zip(chosen, places, strict=True)]
        return Batch({"audio": torch.stack(clips)}, {})

    model.fit(batch(8) for _ in range(8))
    optimizer, weights = model.optimizers()[OPTIMIZER], list(model.parameters())
    if not ours:
        # PyTorch's own settings, but for the rate.
        optimizer = torch.optim.AdamW(weights, 1e-4)
    average = [weight.detach().clone() for weight in weights]

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if ours:
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    spent, step = 0.0, 0
    for end in steps:
        while step < end:
            begin, step = time.process_time(), step + 1
            for group in optimizer.param_groups:
                group["lr"] = model.learning_rate(OPTIMIZER, step)
            model.training_step(batch(8), step, update)
            with torch.no_grad():
                for one, weight in zip(average, weights, strict=True):
                    one.lerp_(weight, 1 - min(0.9999, (1 + step) / (10 + step)) if ours else 1.0)
            spent += time.process_time() - begin
        own = [weight.detach().clone() for weight in weights]
        put(weights, average)
        losses = _losses(model.eval(), held_out)
        put(weights, own)
        model.train()
        yield end, losses, spent / max(1, step)


@torch.no_grad()
def _losses(model: Diffusion, loops: Sequence[Tensor]) -> list[float]:
    """Losses of v in the loops' own units, which both settings share."""
    level = torch.tensor(LEVELS)
    losses = []
    for number, loop in enumerate(loops):
        clean = loop[:, :SHORTEST].expand(len(LEVELS), -1, -1)
        noise = torch.from_numpy(np.random.default_rng(number).standard_normal(clean.shape, np.float32))
        mix = mix_at("v", level)
        found = model.denoiser(mix.mixed(clean, noise), level, model.denoiser.seen({}, model.task.seen(None)))
        losses.append((found - mix.slope(clean, noise)).square().mean(dim=(1, 2)))
    return torch.stack(losses).mean(dim=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [*MEASURES, "reference"]
    parser.add_argument("tasks", nargs="*", help=f"{', '.join(names)}; all if none is given")
    parser.add_argument("--cpu-seconds", type=float, default=300, help="of a training")
    parser.add_argument("--steps", nargs="*", type=int, default=[0, 200, 400], help="of the reference")
    parser.add_argument("--loops", type=Path, default=LOOPS, help="of the reference")
    parser.add_argument("--held-out", type=Path, help="a folder of loops that the reference row does not learn from")
    args = parser.parse_args()
    if unknown := set(args.tasks) - set(names):
        parser.error(f"there is no task {', '.join(sorted(unknown))}")
    args.tasks = args.tasks or names
    torch.set_num_threads(1)
    tasks = [name for name in args.tasks if name != "reference"]
    if tasks:
        print(
            "| task | CPU s | steps | measure | found | below | | holds |\n|---|--:|--:|---|---|--:|---|---|",
            flush=True,
        )
    for task in tasks:
        steps, row = learned(task, args.cpu_seconds)
        cells = (
            task,
            f"{args.cpu_seconds:g}",
            f"{steps:,}",
            row.measure,
            _shown(row.found),
            f"{row.bar:.3g}",
            row.more,
        )
        print(f"| {' | '.join([*cells, 'yes' if row.holds else 'no'])} |", flush=True)
    if "reference" not in args.tasks:
        return
    print(f"| settings | steps | {' | '.join(map(str, LEVELS))} | CPU s a step |\n|---|--:|{'--:|' * 6}")
    for steps, losses in PUBLISHED.items():
        print(f"| reference, measured before | {steps} | {' | '.join(f'{one:.2f}' for one in losses)} | |")
    for ours in (False, True):
        for steps, values, seconds in reference(args.loops, args.held_out, args.steps, ours):
            name = "ours" if ours else "the reference's"
            print(f"| {name} | {steps} | {' | '.join(f'{x:.2f}' for x in values)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
