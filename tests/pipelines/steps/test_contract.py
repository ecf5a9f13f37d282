"""What every step promises, ours and those of other packages that are installed: docs/contracts.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from contracts import given

from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.reject_reasons import REASONS
from tonemill.audiotools.waveform import Flow, Sound
from tonemill.pipelines import config
from tonemill.pipelines.recipes.example import Example, Refusal
from tonemill.pipelines.recipes.recipe import RESERVED
from tonemill.pipelines.recipes.step import STEPS, BatchStep, Step, load_step

RATE = 16_000
SETTINGS: dict[str, dict[str, Any]] = {
    "channels": {"policy": "mean"},
    "duplicate": {"of": "x"},
    "fade": {"in_ms": 5.0, "out_ms": 20.0},
    "filter": {"min_seconds": 0.1},
    "loops": {"bpm": "120"},
    "normalize": {"peak_db": -1.0},
    "resample": {"rate": 11_025},
    "slice": {"samples": 4000, "short": "pad"},
    "within": {"end_seconds": 0.5},
}
"""Of steps whose settings have no default, or whose default shows little; a new step adds its own."""

NAMES = STEPS.names()


def bursts(channels: int, delay: int = 0, seed: int = 0) -> np.ndarray:
    """Two seconds of four decaying bursts of noise a second, (channels, time)."""
    time = np.arange(2 * RATE)
    noise = np.random.default_rng(seed).standard_normal((channels, 2 * RATE))
    return np.roll((0.3 * noise * np.exp(-(time % (RATE // 4)) / 400)).astype(np.float32), delay, axis=1)


KINDS: dict[str, dict[str, np.ndarray]] = {
    "mono": {"audio": bursts(1)},
    "stereo": {"audio": bursts(2)},
    "a pair": {"dry": bursts(1), "wet": 0.5 * bursts(1, delay=37)},
    "silence": {"audio": np.zeros((1, RATE), np.float32)},
    "one frame": {"audio": np.full((2, 1), 0.5, np.float32)},
}


def cut(samples: np.ndarray, frames: int) -> Flow:
    """Sound that comes in blocks of so many frames, which may not be written to."""
    samples = samples.copy()
    samples.flags.writeable = False

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, samples.shape[1], frames):
            yield samples[:, start : start + frames]

    return Flow(blocks, RATE, samples.shape[0])


def step_of(name: str) -> Step:
    step = STEPS.module(name).STEP
    values = {**SETTINGS.get(name, {}), **given("steps", name)}
    missing = [one.flag for one in config.settings(step) if one.required and one.name not in values]
    if missing or issubclass(step, BatchStep):
        pytest.skip(f"{name} needs {' '.join(missing) or 'a run'}: see docs/contracts.md")
    return load_step({**values, "step": name})


def outcomes(step: Step, sounds: dict[str, Sound]) -> list[Any]:
    """What comes of an example: fields and samples by role, or the reason of a refusal."""
    found: list[Any] = []
    try:
        for made in step.apply(Example(sounds, {"label": "kick"})):
            if isinstance(made, Refusal):
                found.append(made.error.reason)
                continue
            assert isinstance(made, Example)
            assert not RESERVED & made.fields.keys()
            if step.gives_fields is not None:
                known = {f"{role}{name}" for name in step.gives_fields for role in ("", "dry_", "wet_")}
                assert made.fields.keys() - {"label"} <= known, "a step declares every field that it may add"
            json.dumps(dict(made.fields), allow_nan=False)
            assert made.sample_rate > 0
            found.append((dict(made.fields), {role: read(sound) for role, sound in made.sounds.items()}))
    except AudioError as error:
        found.append(error.reason)
    assert all(one in REASONS for one in found if isinstance(one, str))
    return found


def read(sound: Sound) -> np.ndarray:
    blocks = list(sound.blocks())
    for block in blocks:
        assert block.dtype == np.float32
        assert block.ndim == 2 and block.shape[0] == sound.channels
        assert np.isfinite(block).all()
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((sound.channels, 0), np.float32)


def require_alike(one: list[Any], other: list[Any], peak: float) -> None:
    """The same outcomes, samples no further apart than `peak`, and numbers in fields no further than six digits."""
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        if isinstance(left, str) or isinstance(right, str):
            assert left == right
            continue
        assert {
            key: pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value
            for key, value in left[0].items()
        } == right[0]
        assert left[1].keys() == right[1].keys()
        for role in left[1]:
            assert left[1][role].shape == right[1][role].shape
            assert not left[1][role].size or abs(left[1][role] - right[1][role]).max() <= peak


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_gives_examples_or_reasons_and_the_same_ones_again(name: str, kind: str) -> None:
    step = step_of(name)
    sounds = KINDS[kind]
    first = outcomes(step, {role: cut(one, 4096) for role, one in sounds.items()})
    again = outcomes(step, {role: cut(one, 4096) for role, one in sounds.items()})
    require_alike(first, again, peak=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_where_blocks_are_cut_does_not_matter(name: str) -> None:
    step = step_of(name)
    sounds = KINDS["a pair" if name == "align" else "stereo"]
    large = outcomes(step, {role: cut(one, 1 << 20) for role, one in sounds.items()})
    small = outcomes(step, {role: cut(one, 997) for role, one in sounds.items()})
    require_alike(large, small, peak=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_back_the_step(name: str) -> None:
    step = step_of(name)
    assert load_step(json.loads(json.dumps(step.to_json()))) == step
