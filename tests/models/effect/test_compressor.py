"""The compressor's followers and their gradient equal their formula, and it learns a compressor to its gain curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from effect_networks import made, noise

from tonemill.models.effect.losses import BlockLoss, LossConfig
from tonemill.models.effect.network import Network, Pairs, played
from tonemill.models.effect.streaming.ballistics import followed_level

RATE = 8000
DELAY = 3
RATIO, MAKEUP_DB = 4.0, 6.0


def by_hand(level: torch.Tensor, attack: torch.Tensor, release: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    output, now = [], start
    for new in level.unbind(2):
        now = new + torch.where(new > now, attack, release) * (now - new)
        output.append(now)
    return torch.stack(output, 2)


def test_followers_and_their_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    inputs = [torch.rand(2, 3, 50), *(torch.rand(2, 3) for _ in range(3))]
    wanted, gradients = torch.rand(2, 3, 50), []
    for function in (followed_level, by_hand):
        leaves = [one.clone().requires_grad_() for one in inputs]
        output = function(*leaves)
        gradients.append([output, *torch.autograd.grad((wanted * output).sum(), leaves)])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_follower_rises_and_falls_at_its_two_speeds() -> None:
    """63 % of a step after the time constant, and 37 % of it as long after its end as the release time."""
    step = torch.cat([torch.ones(1, 1, 1000), torch.zeros(1, 1, 2000)], dim=2)
    keeps = [torch.full((1, 1), float(np.exp(-1 / samples))) for samples in (20, 300)]
    level = followed_level(step, *keeps, torch.zeros(1, 1))[0, 0]
    assert level[19] == pytest.approx(1 - np.exp(-1), abs=1e-5)
    assert level[999 + 300] == pytest.approx(np.exp(-1), abs=1e-5)


def compressed(dry: np.ndarray, threshold_db: float = -30.0) -> np.ndarray:
    """Peak follower of 1 ms and 20 ms, hard knee; late by `DELAY` and turned over."""
    level, output = 0.0, np.zeros(dry.size)
    for n, x in enumerate(np.concatenate([np.zeros(DELAY), dry[:-DELAY]])):
        keep = np.exp(-1 / (0.001 * RATE)) if abs(x) > level else np.exp(-1 / (0.02 * RATE))
        level = abs(x) + keep * (level - abs(x))
        over_db = max(0.0, 20 * np.log10(max(level, 1e-9)) - threshold_db)
        output[n] = -x * 10 ** ((MAKEUP_DB - over_db * (1 - 1 / RATIO)) / 20)
    return output.astype(np.float32)


def test_it_begins_where_dry_and_wet_are_most_alike() -> None:
    net, dry = made("compressor", tone_taps=9), noise(RATE)
    net.fit([(dry, compressed(dry))])
    expected = np.zeros((2, 9))
    expected[:, DELAY] = -1
    assert np.array_equal(net.responses.detach().numpy(), expected)


def learn(
    net: Network, dry: np.ndarray, wets: dict[float | None, np.ndarray], steps: int, draws: np.random.Generator
) -> None:
    """Train on clips of `wets`, whose keys are the positions of the knob, if there is one."""
    frames, settings = net.warm_up + 1000, list(wets)
    net.train().fit([(dry, wets[settings[0]])])
    optimizer = torch.optim.Adam(net.parameters(), net.learning_rate)
    loss = BlockLoss(LossConfig(mse_weight=0.0, esr_weight=1.0, stft_weight=0.0, pre_emphasis=0.0))

    def update(_: str, total: torch.Tensor) -> None:
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    for step in range(steps):
        chosen = [settings[n] for n in draws.integers(0, len(settings), 8)]
        cuts = [slice(at, at + frames) for at in draws.integers(0, dry.size - frames, 8)]
        stimulus = torch.from_numpy(np.stack([dry[cut] for cut in cuts]))
        wanted = torch.from_numpy(np.stack([wets[one][cut] for one, cut in zip(chosen, cuts, strict=True)]))
        knobs = torch.tensor([[] if one is None else [one] for one in chosen]).reshape(8, -1)
        for group in optimizer.param_groups:
            group["lr"] = net.learning_rate * 0.05 ** (step / steps)
        net.training_step(Pairs(stimulus, wanted, knobs), step + 1, loss, update)


def test_it_learns_a_compressor_to_its_gain_curve() -> None:
    """Held tones from -50 dB to 0: the gain that is played is that of the compressor to 0.7 dB."""
    draws = np.random.default_rng(0)
    levels = np.repeat(10 ** (-draws.uniform(0, 50, 40) / 20), RATE // 4)
    dry = (levels * draws.uniform(-1, 1, levels.size)).astype(np.float32)
    net = made("compressor", burn_in=1000, tone_taps=9)
    learn(net, dry, {None: compressed(dry)}, 300, draws)
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)
    for level_db in range(-50, 1, 5):
        stimulus = (10 ** (level_db / 20) * tone).astype(np.float32)
        true, output = (
            one[RATE // 8 :] for one in (compressed(stimulus), played(net.eval().player(noise(0)), stimulus))
        )
        assert 20 * np.log10(output.std() / true.std()) == pytest.approx(0, abs=0.7), level_db
        assert float(output @ true) > 0.99 * np.linalg.norm(output) * np.linalg.norm(true)


@pytest.mark.slow
def test_a_knob_that_sets_the_threshold_is_learned_and_right_at_settings_in_between() -> None:
    """Learned at thresholds from -45 to -15 dB, 6 dB apart, played at -30: the gain of held tones to a decibel."""
    draws = np.random.default_rng(0)
    levels = np.repeat(10 ** (-draws.uniform(0, 50, 40) / 20), RATE // 4)
    dry = (levels * draws.uniform(-1, 1, levels.size)).astype(np.float32)
    stands = {at: compressed(dry, -30 + 15 * at) for at in np.linspace(-1, 1, 6).tolist()}
    net = made("compressor", 1, burn_in=1000, tone_taps=9)
    learn(net, dry, stands, 1200, draws)
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)
    for level_db in range(-50, 1, 10):
        stimulus = (10 ** (level_db / 20) * tone).astype(np.float32)
        player = net.eval().player(np.zeros(1, np.float32))
        true, output = (one[RATE // 8 :] for one in (compressed(stimulus), played(player, stimulus)))
        assert 20 * np.log10(output.std() / true.std()) == pytest.approx(0, abs=1), level_db
