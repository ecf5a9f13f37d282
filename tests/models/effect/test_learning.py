"""Feed-forward networks learn a distortion from noise of many levels, aligned to the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from effect_networks import CASES, lively, made, noise

from benchmarks.plucks import esr
from tonemill.models.effect.losses import BlockLoss, LossConfig
from tonemill.models.effect.network import Pairs, played

NONE = np.zeros(0, np.float32)


def music(frames: int, seed: int) -> np.ndarray:
    """Noise below a tenth of the rate, at a level that changes by up to 20 dB."""
    draws = np.random.default_rng(seed)
    levels = np.interp(np.arange(frames), np.arange(0, frames, 1000), 10 ** -draws.uniform(0, 1, -(-frames // 1000)))
    smooth = np.convolve(draws.standard_normal(frames), np.hanning(12) / 4, "same")
    return (0.4 * levels * smooth).astype(np.float32)


@pytest.mark.slow
def test_a_wavenet_learns_a_distortion_and_would_be_worse_a_sample_late_or_early() -> None:
    net, dry, held = made("wavenet", preset="standard").train(), music(100_000, 0), music(20_000, 1)
    wet, target = np.tanh(5 * dry), np.tanh(5 * held)
    optimizer, loss = torch.optim.Adam(net.parameters(), net.learning_rate), BlockLoss(LossConfig(stft_weight=0.0))
    draws, frames = np.random.default_rng(2), net.warm_up + 2048

    def update(_: str, total: torch.Tensor) -> None:
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    for step in range(150):
        starts = draws.integers(0, dry.size - frames, 4)
        clips = (torch.from_numpy(np.stack([one[at : at + frames] for at in starts])) for one in (dry, wet))
        for group in optimizer.param_groups:
            group["lr"] = net.learning_rate * 0.05 ** (step / 150)
        net.training_step(Pairs(*clips, torch.zeros(4, 0)), step + 1, loss, update)
    output = played(net.eval().player(NONE), held)
    found = esr(target, output)
    assert found < 0.01
    assert min(esr(target[1:], output[:-1]), esr(target[:-1], output[1:])) > 5 * found


@pytest.mark.parametrize("name", [name for name, knobs in CASES if not knobs and name != "autoregressive"])
def test_what_is_20_db_too_loud_stays_in_bounds_and_is_forgotten(name: str) -> None:
    """After 130,000 samples of silence the output equals that of a player without the loud input."""
    net, dry = lively(name, 0), noise(3000)
    loud = played(net.player(NONE), 10 * dry)
    assert np.isfinite(loud).all()
    assert np.abs(loud).max() <= 1000 * max(1.0, float(np.abs(played(net.player(NONE), dry)).max()))
    rest = np.zeros(130_000, np.float32)
    after = played(net.player(NONE), np.concatenate([10 * dry, rest, dry / 10]))[-dry.size :]
    assert np.abs(after - played(net.player(NONE), dry / 10)).max() < 1e-5
