"""Noise and back: identities, schedules, and samplers against the exact denoiser of a Gaussian signal."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch

from tonemill.models.diffusion.noising import (
    Draws,
    Objective,
    Schedule,
    draw_levels,
    level_of,
    mix_at,
    mix_of,
    ratio_of,
    schedule_of,
)
from tonemill.models.diffusion.samplers import Denoiser, Sampler, sampled
from tonemill.models.exchange import Batch

OBJECTIVES = get_args(Objective)
DEVIATIONS = torch.tensor([0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0], dtype=torch.float64)[:, None, None]
TABLE = {
    3: (0.035, 0.086, 0.169, 0.317, 0.571, 0.650),
    5: (0.061, 0.151, 0.289, 0.497, 0.727, 0.778),
    10: (0.125, 0.297, 0.511, 0.716, 0.856, 0.883),
    20: (0.244, 0.514, 0.723, 0.850, 0.926, 0.940),
    50: (0.515, 0.776, 0.882, 0.938, 0.970, 0.976),
    100: (0.726, 0.883, 0.940, 0.968, 0.985, 0.988),
    500: (0.940, 0.976, 0.988, 0.994, 0.997, 0.998),
}
"""Of deviations .02 .05 .1 .2 .5 1 what so many linear steps of DDIM leave, by the closed form."""


def exact(objective: Objective, deviation: torch.Tensor) -> Denoiser:
    """The expected slope of white Gaussian clips, in float64."""

    def denoiser(x: torch.Tensor, level: float) -> torch.Tensor:
        mix = mix_of(objective, level)
        variance = mix.signal**2 * deviation**2 + mix.noise**2
        return (mix.signal * mix.signal_slope * deviation**2 + mix.noise * mix.noise_slope) / variance * x

    return denoiser


def made(objective: Objective, schedule: Schedule, sampler: Sampler, steps: int) -> torch.Tensor:
    """Of each deviation the share that comes out of noise."""
    levels = schedule_of(schedule, objective, steps)
    noise = torch.ones_like(DEVIATIONS) * math.hypot(*mix_of(objective, levels[0])[:2])
    return (sampled(exact(objective, DEVIATIONS), noise, levels, objective, sampler) / DEVIATIONS).flatten()


def error_db(objective: Objective, schedule: Schedule, sampler: Sampler, steps: int) -> torch.Tensor:
    return 20 * made(objective, schedule, sampler, steps).abs().log10().abs()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_mix_is_taken_apart_again(objective: Objective) -> None:
    clean, noise = torch.randn(2, 5, 1, 64, dtype=torch.float64)
    mix = mix_at(objective, torch.rand(5, dtype=torch.float64))
    x, slope = mix.mixed(clean, noise), mix.slope(clean, noise)
    torch.testing.assert_close(mix.clean_of(x, slope), clean)
    torch.testing.assert_close(mix.noise_of(x, slope), noise)
    determinant = mix.signal * mix.noise_slope - mix.signal_slope * mix.noise
    torch.testing.assert_close(determinant, torch.ones_like(determinant))
    if objective == "v":
        torch.testing.assert_close(mix.signal**2 + mix.noise**2, torch.ones_like(determinant))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_slope_is_the_derivative_of_the_mix(objective: Objective) -> None:
    """By the angle for v, by the level for a flow."""
    pace = math.pi / 2 if objective == "v" else 1.0
    low, here, high = (mix_of(objective, 0.3 + moved) for moved in (-1e-5, 0, 1e-5))
    assert (high.signal - low.signal) / 2e-5 == pytest.approx(pace * here.signal_slope)
    assert (high.noise - low.noise) / 2e-5 == pytest.approx(pace * here.noise_slope)


@pytest.mark.parametrize("steps", TABLE)
def test_linear_ddim_makes_what_the_table_has(steps: int) -> None:
    found = made("v", "linear", "ddim", steps)[[0, 2, 4, 5, 7, 9]]
    np.testing.assert_allclose(found, TABLE[steps], atol=6e-4)


def test_a_step_of_ddim_is_a_rotation() -> None:
    """x cos(d) - v sin(d) for an angle d from one level to the next."""
    x, v = torch.randn(2, 3, 1, 16, dtype=torch.float64)
    found = sampled(lambda _, __: v, x, [0.8, 0.5], "v", "ddim")
    angle = 0.3 * math.pi / 2
    torch.testing.assert_close(found, math.cos(angle) * x - math.sin(angle) * v)


def test_euler_is_ddim_for_a_flow() -> None:
    x = torch.randn(10, 1, 16, dtype=torch.float64)
    levels = schedule_of("linear", "flow", 7)
    found = [sampled(exact("flow", DEVIATIONS), x, levels, "flow", one) for one in ("ddim", "euler")]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("steps", "expected"), [(10, (0.71, 0.93, 1.05, 1.07, 0.95)), (20, (1.02, 1.09, 1.07, 1.02, 0.98))]
)
def test_2m_on_the_squared_schedule_makes_what_was_derived(steps: int, expected: tuple[float, ...]) -> None:
    """audio-diffusion-pytorch's published code, for .02 .05 .1 .3 1."""
    np.testing.assert_allclose(made("v", "squared", "2m", steps)[[0, 2, 4, 6, 9]], expected, atol=0.006)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ten_steps_of_2m_are_within_a_decibel_in_every_band(objective: Objective) -> None:
    """And 8 within 1.5 dB; 10 are nowhere farther off than 50 steps of linear DDIM by more than 0.3 dB."""
    assert error_db(objective, "tan", "2m", 10).max() < 0.35
    assert error_db(objective, "tan", "2m", 8).max() < 0.6
    assert (error_db(objective, "tan", "2m", 10) - error_db(objective, "linear", "ddim", 50)).max() < 0.3


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("euler", 1), ("2m", 2)])
def test_half_the_step_leaves_the_error_of_its_order(sampler: Sampler, order: int) -> None:
    """Between two levels at which nothing is singular, against the exact solution, whose deviation is known."""
    deviation, ends = torch.tensor(0.5, dtype=torch.float64), (0.7, 0.2)
    start, end = (math.hypot(mix_of("v", one).signal * 0.5, mix_of("v", one).noise) for one in ends)
    errors = []
    for steps in (64, 128, 256):
        ratios = np.geomspace(*(ratio_of("v", one) for one in ends), steps + 1)
        levels = [level_of("v", ratio) for ratio in ratios]
        x = torch.full((1, 1, 1), start, dtype=torch.float64)
        errors.append(abs(float(sampled(exact("v", deviation), x, levels, "v", sampler)) - end))
    for before, after in itertools.pairwise(errors):
        assert math.log2(before / after) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("start", [1.0, 0.4, 0.001])
def test_a_schedule_falls_to_zero_in_so_many_steps(
    objective: Objective, schedule: Schedule, steps: int, start: float
) -> None:
    levels = schedule_of(schedule, objective, steps, start)
    assert len(levels) == steps + 1 and levels[-1] == 0
    assert levels[0] <= start + 1e-12
    assert all(one > other for one, other in itertools.pairwise(levels)) or start == 0.001
    assert schedule_of(schedule, objective, steps, 0.0) == [0.0]


@pytest.mark.parametrize("draws", get_args(Draws))
def test_levels_are_spread_and_do_not_depend_on_how_a_batch_is_split(draws: Draws) -> None:
    batch = Batch({"audio": torch.zeros(64, 1, 8)}, {})
    torch.manual_seed(3)
    whole = draw_levels(batch, draws)
    assert whole.min() > 0 and whole.max() < 1
    assert float(whole.mean()) == pytest.approx(0.5, abs=0.15 if draws == "uniform" else 0.02)
    if draws == "stratified":
        assert torch.equal((whole * 64).floor(), torch.arange(64.0))
    parts = []
    for part in batch.split(4):
        torch.manual_seed(3)
        parts.append(draw_levels(part, draws))
    torch.testing.assert_close(torch.cat(parts), whole)
