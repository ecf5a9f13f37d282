"""What each step does with arrays: it passes them, cuts them as the sound is cut, drops them, or refuses by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tonemill.audiotools.arrays import Array
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.recipes.example import Example, Refusal
from tonemill.pipelines.recipes.step import STEPS, BatchStep, load_step, refuse_soundless, step_name

RATE, HOP, FRAMES = 16_000, 250, 128
TIME = np.arange(HOP * FRAMES)
NOISE = np.random.default_rng(0).standard_normal((2, TIME.size))
SOUND = (0.3 * NOISE * np.exp(-(TIME % 4000) / 400)).astype(np.float32)
LATENTS = Array(np.arange(3 * FRAMES, dtype=np.float32).reshape(3, FRAMES), RATE, HOP)
EMBEDDING = Array(np.ones((8, 1), np.float32), RATE)

STANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "align": ("drops", {}),
    "channels": ("drops", {"policy": "mean"}),
    "dc": ("drops", {}),
    "duplicate": ("leaves out", {"of": "x"}),
    "fade": ("drops", {"out_ms": 20.0}),
    "filter": ("passes", {"min_seconds": 0.1}),
    "loops": ("drops", {"bpm": "120"}),
    "measure": ("passes", {}),
    "normalize": ("drops", {"peak_db": -1.0}),
    "render": ("is for models", {}),
    "resample": ("drops", {"rate": 8000}),
    "slice": ("cuts", {"samples": 4 * HOP}),
    "within": ("drops", {"end_seconds": 0.05}),
    "trim": ("drops", {}),
}
"""A new step takes a stand here."""


def with_arrays(name: str, keep_sounds: bool) -> Example:
    sounds = {"dry": Waveform(SOUND[:1], RATE), "wet": Waveform(0.5 * SOUND[:1], RATE)}
    if name != "align":
        sounds = {"audio": Waveform(SOUND, RATE)}
    return Example(sounds).with_arrays({"latents": LATENTS, "embedding": EMBEDDING}, keep_sounds=keep_sounds)


def outcomes(name: str, example: Example, **settings: Any) -> Iterator[Example]:
    """What cooking does with a step."""
    step = load_step({**STANDS[name][1], **settings, "step": name})
    refuse_soundless(step, example)
    for made in step.apply(example):
        if isinstance(made, Refusal):
            raise made.error
        yield made


@pytest.mark.parametrize("name", STEPS.names())
def test_a_step_has_a_stand_on_arrays(name: str) -> None:
    step = STEPS.module(name).STEP
    if not step.__module__.startswith("tonemill."):
        pytest.skip("a step of another package drops or passes them, and refuses arrays alone by default")
    stand = STANDS[name][0]
    if issubclass(step, BatchStep):
        assert stand == "is for models"
        return
    alone = with_arrays(name, keep_sounds=False)
    if stand == "leaves out":
        with pytest.raises(AudioError):
            list(outcomes(name, alone))
        return
    made = list(outcomes(name, with_arrays(name, keep_sounds=True)))
    assert made
    if stand == "passes":
        assert all(one.arrays["latents"] is LATENTS and one.arrays["embedding"] is EMBEDDING for one in made)
    elif stand == "drops":
        assert not any(one.arrays for one in made)
    else:
        assert all(one.arrays.keys() == {"latents"} for one in made), "an embedding is of the whole"
        joined = np.concatenate([one.arrays["latents"].values for one in made], axis=1)
        assert np.array_equal(joined, LATENTS.values)
        return
    with pytest.raises(AudioError, match=f"{name} works on sound.*array latents") as caught:
        list(outcomes(name, alone))
    assert caught.value.reason == "roles"


@pytest.mark.parametrize("keep_sounds", [True, False])
def test_a_clip_and_its_frames_are_of_the_same_instants(keep_sounds: bool) -> None:
    for clip in outcomes("slice", with_arrays("slice", keep_sounds), samples=2 * HOP, hop_seconds=HOP / RATE):
        first = round(clip.start_seconds * RATE) // HOP
        assert np.array_equal(clip.arrays["latents"].values, LATENTS.values[:, first : first + 2])
        assert clip.sounds.keys() == ({"audio"} if keep_sounds else set())
        assert clip.sample_rate == RATE
    assert first == FRAMES - 2


def test_clips_that_would_cut_a_frame_or_lack_some_are_refused_with_a_mend() -> None:
    example = with_arrays("slice", keep_sounds=True)
    for settings, mend in (
        ({"samples": 999}, "--samples 1000"),
        ({"samples": 1000, "hop_seconds": 0.001}, "multiples"),
        ({"samples": 48 * HOP, "tail": "pad"}, "--tail drop"),
    ):
        with pytest.raises(AudioError, match=mend):
            list(outcomes("slice", example, **settings))
    kept = list(outcomes("slice", example, samples=48 * HOP, tail="keep"))
    assert [one.arrays["latents"].frames for one in kept] == [48, 48, 32]
    vector = Example({}, arrays={"embedding": EMBEDDING})
    with pytest.raises(AudioError, match="array embedding"):
        list(outcomes("slice", vector))


def test_an_array_has_a_plain_name_of_its_own() -> None:
    example = with_arrays("slice", keep_sounds=True)
    for name in ("audio", "Latents", "a.b", "../x", ""):
        with pytest.raises(AudioError, match="named"):
            example.with_arrays({name: LATENTS}, keep_sounds=True)
    replaced = example.with_arrays({"latents": EMBEDDING}, keep_sounds=False)
    assert replaced.arrays["latents"] is EMBEDDING and not replaced.sounds
    assert replaced.samples is None and replaced.sample_rate == RATE
    other = example.with_arrays({"slow": Array(LATENTS.values, 8000, HOP)}, keep_sounds=True)
    with pytest.raises(AudioError, match="8000 and 16000"):
        _ = other.sample_rate


def test_names_of_steps_are_those_of_the_table() -> None:
    ours = {step_name(STEPS.module(name).STEP) for name in STEPS.names()}
    assert STANDS.keys() <= ours
