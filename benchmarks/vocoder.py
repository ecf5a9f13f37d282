"""Train both generators of the vocoder for so many CPU minutes, and compare them with Griffin-Lim on held-out loops.

tonemill drums train --hits 1 --loops 400 --seed 11      # and: drums held --hits 1 --loops 50 --seed 12
mkdir loops; mv train/loops loops/train; mv held/loops loops/held
tonemill scan loops | tonemill channels mean | tonemill resample --rate 16000 |
    tonemill shard corpora/loops --valid-where '"held" in path'
python -m benchmarks.vocoder corpora/loops               # half an hour of CPU time
python -m benchmarks.vocoder corpora/loops --generators vocos --cpu-minutes 2 --set learning_rate=0.001

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
from collections.abc import Callable
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
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader import Batches, examples_of


def trained(
    settings: dict[str, Any], corpus: Corpus, minutes: float, batch_size: int, precision: str
) -> tuple[Any, int]:
    """A vocoder after so many CPU minutes, and its steps."""
    wanted = config.build(MODEL.config_of(settings), settings, "vocoder")
    torch.manual_seed(0)
    model = MODEL(MODEL.settle(wanted, facts_of(corpus)))
    optimizers = model.optimizers()

    def update(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[name].step()

    average = [parameter.detach().clone() for parameter in model.generator.parameters()]
    batches = iter(Batches(corpus, "train", model.roles, model.length, batch_size, pad=True))
    begin, step, shown = time.process_time(), 0, 0.0
    while (spent := time.process_time() - begin) < 60 * minutes:
        step += 1
        torch.manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            losses = model.training_step(next(batches), step, update)
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.generator.parameters()), 1 - MODEL.usual["ema"])
        if spent >= shown:
            shown += 60 * minutes / 10
            values = ", ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
            print(f"{settings['generator']}, {spent:.0f} CPU s, step {step}: {values}", flush=True)
    with torch.no_grad():
        for parameter, value in zip(model.generator.parameters(), average, strict=True):
            parameter.copy_(value)
    return model.eval(), step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--generators", nargs="+", default=list(MODEL.variants()))
    parser.add_argument("--cpu-minutes", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=MODEL.usual["batch_size"])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of training")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings of the model")
    parser.add_argument("-o", "--output", type=Path, help="a folder for the weights")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    others = {name: json.loads(value) for name, value in (one.split("=", 1) for one in options.set)}
    held_out: list[Tensor] = []
    rows = []
    for generator in options.generators:
        model, steps = trained(
            {"generator": generator, **others}, corpus, options.cpu_minutes, options.batch, options.precision
        )
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            weights = {name: value.contiguous() for name, value in model.generator.state_dict().items()}
            save_file(weights, options.output / f"{generator}.safetensors")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        if not held_out:
            requests = examples_of(corpus, "valid", model.roles)
            held_out = [torch.from_numpy(np.array(one.audio["audio"], np.float32)) for one in requests]
            searched, speed = measured(model.searched, held_out, model.sample_rate)
            rows.append(("Griffin-Lim, 60 rounds", "", "", searched, speed, ""))
        found, speed = measured(model.copied, held_out, model.sample_rate)
        latency = model.player(Request(0, {}, {}), 1).latency / model.sample_rate
        count = sum(parameter.numel() for parameter in model.generator.parameters())
        rows.append((generator, f"{count:,}", f"{steps:,}", found, speed, f"{1000 * latency:.0f} ms"))
        torch.set_num_threads(threads)
    baseline = rows[0][3]
    print(f"\n{len(held_out)} held-out examples, {options.cpu_minutes:g} CPU minutes, batch {options.batch}\n")
    print("| | parameters | steps | distance | nearer | x real time | latency |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, count, steps, found, speed, latency in rows:
        error = 2 * found.std(ddof=1) / len(found) ** 0.5
        nearer = f"{(found < baseline).mean():.0%}" if found is not baseline else ""
        shown = f"{found.mean():.3f} ± {error:.3f} | {nearer} | {speed:.0f}"
        print(f"| {name} | {count} | {steps} | {shown} | {latency} |")


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
