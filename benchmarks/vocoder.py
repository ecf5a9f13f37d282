"""Train both generators of the vocoder for 15 CPU minutes, and compare them with Griffin-Lim on held-out loops.

tonemill drums train --hits 1 --loops 400 --seed 11      # and: drums held --hits 1 --loops 50 --seed 12
mkdir loops; mv train/loops loops/train; mv held/loops loops/held
tonemill scan loops | tonemill channels mean | tonemill resample --rate 16000 |
    tonemill shard corpora/loops --valid-where '"held" in path'
python -m benchmarks.vocoder corpora/loops               # half an hour of CPU time
python -m benchmarks.vocoder corpora/loops --generators vocos --cpu-minutes 1 2 --set learning_rate=0.001

distance     multi-resolution STFT distance from the held-out audio (transforms of 192, 384, 768 and 1536 samples,
             none of which the losses take), mean over examples; the interval is two standard errors
nearer       share of examples on which it is below Griffin-Lim's (60 rounds from the same mel spectrogram)
x real time  audio seconds over CPU seconds, one thread, whole files
latency      of the stream; training time is user and system time of all threads
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tonemill.models.contract import Request
from tonemill.models.vocoder import MODEL
from tonemill.models.vocoder.model import distance
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.runs.checkpoints import State, rendering_weights
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.updater import Updater


def training(
    settings: dict[str, Any], corpus: Corpus, minutes: Sequence[float], batch_size: int, precision: str
) -> Iterator[tuple[float, int, Any]]:
    """A vocoder with averaged weights after each of so many CPU minutes, and its steps."""
    wanted = config.build(MODEL.config_of(settings), settings, "vocoder")
    torch.manual_seed(0)
    model = MODEL(MODEL.settle(wanted, facts_of(corpus)))
    state = State(model, model.optimizers(), MODEL.usual["ema"])
    update = Updater(state.optimizers, torch.device("cpu"), state.scaler)
    batches = iter(Batches(corpus, "train", model.roles, model.length, batch_size, pad=True))
    spent = 0.0
    for end in minutes:
        while spent < 60 * end:
            begin = time.process_time()
            step = state.step + 1
            torch.manual_seed(step)
            batch = next(batches)
            update.begin(model, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                losses = model.training_step(batch, step, update)
            update.end()
            state.advance()
            spent += time.process_time() - begin
        values = ", ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
        print(f"{settings['generator']}, {spent:.0f} CPU s, step {state.step}: {values}", flush=True)
        averaged = MODEL(model.config).eval()
        for name, weight in rendering_weights(averaged).items():
            weight.copy_(state.average[name])
        yield end, state.step, averaged


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--generators", nargs="+", default=list(MODEL.variants()))
    parser.add_argument("--cpu-minutes", nargs="+", type=float, default=[1.0, 5.0, 15.0], help="of training, rising")
    parser.add_argument("--batch", type=int, default=MODEL.usual["batch_size"])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of training")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings of the model")
    parser.add_argument("-o", "--output", type=Path, help="a folder for the weights")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    others = {name: json.loads(value) for name, value in (one.split("=", 1) for one in options.set)}
    requests = examples_of(corpus, "valid", ("audio",))
    held_out = [torch.from_numpy(np.array(one.audio["audio"], np.float32)) for one in requests]
    baseline = None
    rows = []
    for generator in options.generators:
        settings = {"generator": generator, **others}
        for minutes, steps, model in training(settings, corpus, options.cpu_minutes, options.batch, options.precision):
            if options.output:
                options.output.mkdir(parents=True, exist_ok=True)
                weights = {name: value.contiguous() for name, value in model.generator.state_dict().items()}
                save_file(weights, options.output / f"{generator}-{minutes:g}.safetensors")
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            if baseline is None:
                baseline, speed = measured(model.searched, held_out, model.sample_rate)
                rows.append(row("Griffin-Lim, 60 rounds", "", "", "", baseline, None, speed, ""))
            found, speed = measured(model.copied, held_out, model.sample_rate)
            torch.set_num_threads(threads)
            latency = 1000 * model.player(Request(0, {}, {}), 1).latency / model.sample_rate
            count = sum(parameter.numel() for parameter in model.generator.parameters())
            shown = f"{count:,}", f"{minutes:g}", f"{steps:,}"
            rows.append(row(generator, *shown, found, baseline, speed, f"{latency:.0f} ms"))
            print(rows[-1], flush=True)
    print(f"\n{len(held_out)} held-out examples, batch {options.batch}, {options.precision}\n")
    print("| | parameters | CPU minutes | steps | distance | nearer | x real time | latency |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", *rows, sep="\n")


def row(
    name: str,
    count: str,
    minutes: str,
    steps: str,
    found: np.ndarray,
    baseline: np.ndarray | None,
    speed: float,
    latency: str,
) -> str:
    error = 2 * found.std(ddof=1) / len(found) ** 0.5
    nearer = "" if baseline is None else f"{(found < baseline).mean():.0%}"
    shown = f"{found.mean():.3f} ± {error:.3f} | {nearer} | {speed:.0f}"
    return f"| {name} | {count} | {minutes} | {steps} | {shown} | {latency} |"


def measured(render: Callable[[Tensor], Tensor], clips: list[Tensor], rate: int) -> tuple[np.ndarray, float]:
    """The distance of each rendered clip, and audio seconds over CPU seconds."""
    distances, spent = [], 0.0
    with torch.inference_mode():
        render(clips[0])  # the first chooses kernels
        for clip in clips:
            begin = time.process_time()
            sound = render(clip)
            spent += time.process_time() - begin
            distances.append(float(distance(sound, clip)))
    return np.array(distances), sum(clip.shape[1] for clip in clips) / rate / spent


if __name__ == "__main__":
    main()
