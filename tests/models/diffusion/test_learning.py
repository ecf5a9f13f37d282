"""What is learned: a task in 300 CPU seconds, a kind of sound from eight files, a process and loops in a few steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from autoregressive_noise import OPTIMUM, noise

from benchmarks.diffusion_learning import MEASURES, learned
from benchmarks.diffusion_tuning import tuned
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import Batch, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.model import OPTIMIZER, Diffusion
from tonemill.models.diffusion.settings import DiffusionConfig
from tonemill.models.diffusion.validating import LEVELS

RATE = 16000


@pytest.mark.slow
@pytest.mark.parametrize("task", MEASURES)
def test_a_task_learns_in_300_cpu_seconds(task: str) -> None:
    steps, row = learned(task, 300)
    assert row.holds, f"{task} after {steps} steps: {row}"


@pytest.mark.slow
def test_a_kind_of_sound_is_learned_from_eight_files(tmp_path: Path) -> None:
    """In ten CPU minutes sixty others cost less at every noise level; copies are no more than among those."""
    found = tuned(tmp_path, 400, 200)
    assert found.cpu_seconds < 600
    assert found.holds, found


def trained(config: DiffusionConfig, batches: Iterable[Batch], first: Batch) -> Diffusion:
    """A model fitted to a batch, after a step with each of some."""
    torch.manual_seed(0)
    model = MODEL(config).train()
    model.fit([first])
    optimizer = model.optimizers()[OPTIMIZER]

    def update(_: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for step, batch in enumerate(batches, 1):
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate(OPTIMIZER, step)
        model.training_step(batch, step, update)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("precondition", [False, True])
def test_it_learns_an_ar_process_to_5_percent_of_the_optimum(precondition: bool) -> None:
    """In 400 steps below 0.108, where 0.10298 is the best that can be."""
    reference = {"channels_per_level": (16, 32, 64, 64), "factors": (1, 4, 4, 4), "items": (1, 2, 2, 2)}
    config = DiffusionConfig(
        **reference,
        attentions=(0,) * 4,
        modulation_dim=128,
        length=4096,
        scale=False,
        precondition=precondition,
        sample_rate=RATE,
        channels=1,
    )
    batches = (Batch({"audio": noise(16, 4096, step)}, {}) for step in range(400))
    model = trained(config, batches, Batch({"audio": noise(64, 4096, 10_000)}, {}))
    with torch.no_grad():
        held_out = Batch({"audio": noise(512, 4096, 20_000)}, {})
        loss = float(model.training_step(held_out, 1, lambda _, __: None)["loss"])
    assert OPTIMUM * 0.99 < loss < 0.108


@pytest.mark.slow
def test_a_drum_machine_is_learned_beyond_its_spectrum() -> None:
    """After 160 steps held-out loops cost less than for the best linear denoiser at every noise level."""
    draws, patterns = np.random.default_rng(0), list(PATTERNS.values())

    def drums(first: int, count: int) -> list[torch.Tensor]:
        seeds = range(first, first + count)
        return [
            torch.from_numpy(loop(76 + 37 * seed % 99, 1, RATE, patterns[seed % len(patterns)], seed=seed))
            for seed in seeds
        ]

    loops = drums(0, 300)

    def batch(size: int) -> Batch:
        chosen = [loops[number] for number in draws.integers(len(loops), size=size)]
        places = [int(draws.integers(clip.shape[1] - 16384)) for clip in chosen]
        clips = [clip[:, at : at + 16384] for clip, at in zip(chosen, places, strict=True)]
        return Batch({"audio": torch.stack(clips)}, {})

    config = DiffusionConfig(
        length=16384,
        channels_per_level=(16, 32, 64, 128, 128, 128),
        factors=(1, 4, 4, 4, 2, 2),
        items=(1, 2, 2, 2, 2, 2),
        attentions=(0, 0, 0, 0, 1, 1),
        sample_rate=RATE,
        channels=1,
    )
    model = trained(config, (batch(8) for _ in range(160)), batch(128))
    with torch.no_grad():
        found = model.validate(Request(n, {}, {"audio": one.numpy()}) for n, one in enumerate(drums(1000, 20)))
    assert found is not None
    for level in LEVELS:
        assert found.values[f"loss_at_{level}"] < 0.95 * found.values[f"gaussian_loss_at_{level}"]


@pytest.mark.slow
def test_hits_between_pauses_are_learned_faster_with_the_answer_of_a_pause() -> None:
    """After 200 equal steps the loss on held-out bursts is below .95 of that without at each level, .85 in the mean."""

    def bursts(seed: int, count: int) -> Batch:
        """Noise that begins anywhere and falls by 60 dB in 250 to 1,000 of 4,096 samples."""
        draws = np.random.default_rng(seed)
        after = np.arange(4096) - draws.integers(0, 3072, (count, 1))
        envelope = np.where(after >= 0, 10 ** (-3 * after / draws.uniform(250, 1000, (count, 1))), 0)
        clips = envelope * draws.standard_normal((count, 4096))
        return Batch({"audio": torch.from_numpy(clips[:, None].astype(np.float32))}, {})

    def losses(octaves: int) -> np.ndarray:
        config = DiffusionConfig(
            length=4096,
            channels_per_level=(16, 32, 64, 64),
            factors=(1, 4, 4, 4),
            items=(1, 2, 2, 2),
            attentions=(0,) * 4,
            modulation_dim=128,
            pause_octaves=octaves,
            sample_rate=RATE,
            channels=1,
        )
        model = trained(config, (bursts(step, 16) for step in range(200)), bursts(10_000, 64))
        held_out = bursts(20_000, 32).audio["audio"].numpy()
        with torch.no_grad():
            found = model.validate(Request(n, {}, {"audio": one}) for n, one in enumerate(held_out))
        assert found is not None
        return np.array([found.values[f"loss_at_{level}"] for level in LEVELS])

    ratios = losses(6) / losses(0)
    assert ratios.max() < 0.95 and ratios.mean() < 0.85, ratios
