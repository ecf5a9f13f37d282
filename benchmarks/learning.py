"""Measure how near a trained model's clips are to real ones that it never saw, beside real ones it did see and noise.

    python -m benchmarks.learning runs/kicks corpora/kicks -o docs/images/kicks.png

Distance: mean over mel bands of the absolute difference between mean log-mel spectra, in dB. Spread: mean over bands of
the standard deviation across clips, in dB; a model that renders one clip for every seed has almost none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from tonemill.audiotools.mel import mel_distance, mel_spread
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.models.contract import Request
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.rendering.render import render
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.training.loader import Batches

RENDERED = 64


def real_clips(corpus: Corpus, split: str, length: int) -> list[np.ndarray]:
    """Every clip of a split, once."""
    examples = corpus.about["splits"][split]["examples"]
    return [clip.numpy() for clip in Batches(corpus, split, ("audio",), length, examples).batch(0).audio["audio"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--picture", type=Path)
    parser.add_argument("--checkpoint", default="last")
    options = parser.parse_args()
    run, corpus = open_run(options.run), open_corpus(options.corpus)
    checkpoint = run.checkpoint(options.checkpoint)
    device = torch.device("cpu")
    model = load_for_rendering(run, checkpoint, device)
    rate = model.sample_rate
    held_out = real_clips(corpus, "valid", model.length)
    seen = real_clips(corpus, "train", model.length)
    rendered = render(model, [Request(seed, {}, {}) for seed in range(RENDERED)], 16, device)
    rng = np.random.default_rng(0)
    level = np.sqrt(np.mean(np.square(np.concatenate(seen))))
    noise = [(rng.standard_normal(seen[0].shape) * level).astype(np.float32) for _ in range(RENDERED)]
    minutes = checkpoint.state["seconds"] / 60
    print(f"{options.run} at step {checkpoint.step}, after {minutes:.1f} minutes of training\n")
    print(f"| clips | how many | distance to {len(held_out)} held-out real clips, dB | spread, dB |")
    print("|---|--:|--:|--:|")
    rows = (("held-out real", held_out), ("real, trained on", seen), ("rendered", rendered), ("white noise", noise))
    for name, clips in rows:
        distance = "" if clips is held_out else f"{mel_distance(clips, held_out, rate):.1f}"
        print(f"| {name} | {len(clips)} | {distance} | {mel_spread(clips, rate):.1f} |")
    if options.picture:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        titles = [f"real {n}" for n in range(4)] + [f"rendered {n}" for n in range(4)]
        save_spectrogram_picture(options.picture, [*held_out[:4], *rendered[:4]], rate, titles)


if __name__ == "__main__":
    main()
