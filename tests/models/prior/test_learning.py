"""A prior learns latents of a RAVE that was trained for a minute, all by the commands that people type."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Tonemill, table

from tonemill.pipelines.corpus.corpus import array_of, open_corpus

FRAMES_PER_SECOND = 31.25
CODEC = (
    *("--architecture", "v2-small", "--capacity", 4, "--latent-dim", 8, "--length", 16896, "--batch-size", 4),
    *("--steps", 120, "--fine-tune-after", 0, "--augment", "phase", "--listen-every", 1000),
)
PRIOR = (
    *("--width", 32, "--frame-width", 32, "--mixture", 4, "--receptive-seconds", 0.8, "--dropout", 0),
    *("--length", 16896, "--learning-rate", 0.002, "--learning-rate-warm-up", 20, "--batch-size", 16, "--steps", 300),
)


@pytest.mark.slow
def test_real_latents_are_learned_beyond_linear_models_and_gone_on_with(
    tonemill: Tonemill, piped: Tonemill, tmp_path: Path
) -> None:
    """0.1 nat for each live coordinate above an AR(1) and a normal distribution of frames, on held-out loops.

    After 15 s each coordinate's spread and lag-1 correlation are within 20 % of the corpus's, a small correlation
    within 0.15.
    """
    raw, loops, latents, made = (tmp_path / name for name in ("raw", "loops", "latents", "made"))
    tonemill("drums", raw, "--hits", 1, "--loops", 96, "-q").done()
    stream = piped(["scan", raw / "loops", "-q"], ["resample", "--rate", 16000, "--channels", "mono"])
    tonemill("shard", loops, "-q", stdin=stream).done()
    tonemill("train", "rave", loops, "-o", tmp_path / "voice", *CODEC, "-q").done()
    stream = piped(["open", loops], ["render", tmp_path / "voice", "--as", "encode"])
    tonemill("shard", latents, "--valid", 0.2, "-q", stdin=stream).done()
    tonemill("train", "prior", latents, "-o", tmp_path / "prior", *PRIOR, "-q").done()
    lines = [json.loads(line) for line in (tmp_path / "prior" / "metrics.jsonl").read_text().splitlines()]
    found = next(line for line in reversed(lines) if "above_autoregression_nats" in line)
    assert found["above_autoregression_nats"] > 0.1
    assert found["above_independence_nats"] > 0.1

    stream = piped(["seeds", 32], ["render", tmp_path / "prior", "--seconds", 25])
    tonemill("shard", made, "-q", stdin=stream).done()
    late = [one[:, round(15 * FRAMES_PER_SECOND) :] for one in arrays(made)]
    (spread, correlation), (true_spread, true_correlation) = moments(late), moments(arrays(latents))
    np.testing.assert_allclose(spread, true_spread, rtol=0.2)
    assert (np.abs(correlation - true_correlation) < np.maximum(0.2 * np.abs(true_correlation), 0.15)).all()


def arrays(folder: Path) -> list[np.ndarray]:
    corpus = open_corpus(folder)
    return [array_of(corpus.folder, row, "latents") for row in table(folder / "index.parquet")]


def moments(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of each coordinate: deviation, and correlation with the frame before."""
    whole = np.concatenate(clips, axis=1, dtype=np.float64)
    mean, variance = whole.mean(axis=1, keepdims=True), whole.var(axis=1)
    products = np.concatenate([(clip - mean)[:, 1:] * (clip - mean)[:, :-1] for clip in clips], axis=1)
    return np.sqrt(variance), products.mean(axis=1) / variance
