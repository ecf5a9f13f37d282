"""Each reason against training has pairs that fail by it, a plain message, and can be overridden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.effect.checks import refuse_doubtful
from tonemill.models.effect.model import Effect
from tonemill.models.effect.settings import DOUBTS, EffectConfig, config_of_network
from tonemill.models.exchange import CorpusFacts, Range, Request

RATE = 22050
NANO = config_of_network("wavenet")(preset="nano")
FACTS = CorpusFacts("corpora/pedal", ("dry", "wet"), RATE, 1)


def played(seconds: float, seed: int = 0, rest: float = 0.1) -> np.ndarray:
    """Bursts of coloured noise that die away, two a second, with rests."""
    draws = np.random.default_rng(seed)
    note = RATE // 2
    signal = np.zeros((int(seconds * 2), note))
    signal[:, : int(note * (1 - rest))] = draws.standard_normal((len(signal), int(note * (1 - rest))))
    signal *= np.exp(-6 * np.arange(note) / note) * draws.uniform(0.2, 1, (len(signal), 1))
    coloured = np.convolve(signal.ravel(), 0.8 ** np.arange(30), "full")[: signal.size]
    return (0.2 * coloured / np.abs(coloured).max()).astype(np.float32)


def checked(
    effect: Callable[[np.ndarray], np.ndarray], dry: np.ndarray | None = None, allow: tuple[str, ...] = ()
) -> None:
    dry = played(8) if dry is None else dry
    wet = effect(dry.astype(np.float64)).astype(np.float32)
    refuse_doubtful([Request(0, {}, {"dry": dry[None], "wet": wet[None]})], RATE, allow)


def resting() -> np.ndarray:
    """Two seconds of every four."""
    return np.concatenate([played(2), np.zeros(2 * RATE, np.float32)] * 2)


def late(dry: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(37), np.tanh(5 * dry)[:-37]])


def hissing(dry: np.ndarray) -> np.ndarray:
    return dry + 0.02 * np.random.default_rng(9).standard_normal(dry.size)


def offset(dry: np.ndarray) -> np.ndarray:
    return np.tanh(5 * dry) + 0.05


def overdriven_interface(dry: np.ndarray) -> np.ndarray:
    return np.clip(20 * dry, -1, 1)


FAILING: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, str]] = {
    "latency": (late, played(8), "late by 3[67].. samples"),
    "clipping": (overdriven_interface, played(8), "too loud"),
    "short": (np.tanh, played(3), "too little"),
    "silence": (np.zeros_like, played(8), "a cable is out"),
    "noise": (hissing, resting(), "hum or hiss"),
    "offset": (offset, resting(), r"constant offset \(DC\), at -\d+ dB"),
}


@pytest.mark.parametrize("effect", [np.tanh, lambda dry: 0.3 * np.tanh(30 * dry), lambda dry: -0.7 * dry])
def test_good_pairs_pass(effect: Callable[[np.ndarray], np.ndarray]) -> None:
    checked(effect)


@pytest.mark.parametrize("doubt", FAILING)
def test_each_doubt_is_reported_and_can_be_overridden(doubt: str) -> None:
    effect, dry, words = FAILING[doubt]
    with pytest.raises(CorpusError, match=words) as raised:
        checked(effect, dry)
    assert f"  {doubt}: " in str(raised.value)
    assert f"--allow {doubt}" in str(raised.value)
    checked(effect, dry, (doubt,))


def test_a_dry_that_hardly_plays_is_silence_too() -> None:
    dry = np.concatenate([played(1), np.zeros(9 * RATE, np.float32)])
    with pytest.raises(CorpusError, match=r"plays in 0\.\d of 10\.0 s only"):
        checked(np.tanh, dry)
    checked(np.tanh, dry, allow=("silence",))


def test_all_that_is_found_is_reported_at_once() -> None:
    with pytest.raises(CorpusError) as raised:
        checked(overdriven_interface, played(3))
    assert "--allow clipping --allow short" in str(raised.value)


def test_what_follows_from_the_corpus_alone() -> None:
    with pytest.raises(CorpusError, match="tonemill channels"):
        Effect.settle(EffectConfig(), replace(FACTS, channels=2))
    assert Effect.settle(EffectConfig(allow=("stereo",)), replace(FACTS, channels=2)).channels == 2
    several = replace(FACTS, values={"effect": ("fuzz", "phaser")})
    with pytest.raises(CorpusError, match=r"2 effects \(fuzz, phaser\)"):
        Effect.settle(EffectConfig(), several)
    Effect.settle(EffectConfig(allow=("effects",)), several)
    with pytest.raises(CorpusError, match="tonemill pair DRY WET"):
        Effect.settle(EffectConfig(), replace(FACTS, roles=("audio",)))
    with pytest.raises(CorpusError, match="tonemill resample --rate 48000"):
        Effect.settle(EffectConfig(sample_rate=48000), FACTS)
    assert {*FAILING, "stereo", "effects"} == set(DOUBTS)
    with pytest.raises(UsageError, match="--allow is 'hum'"):
        EffectConfig(allow=("hum",))


def test_knobs_are_the_numbers_that_came_with_the_pairs_and_vary() -> None:
    given = {"drive": Range(0.0, 10.0, 0), "tone": Range(0.2, 0.8, 0), "take": Range(3.0, 3.0, 0)}
    settled = Effect.settle(EffectConfig(), replace(FACTS, given=given))
    assert settled.knobs == ("drive", "tone")
    assert (settled.knob_low, settled.knob_high) == ((0.0, 0.2), (10.0, 0.8))
    one = Effect(replace(NANO, **{name: getattr(settled, name) for name in ("knobs", "knob_low", "knob_high")}))
    assert one.knob_positions({"drive": 10, "tone": 0.5}) == pytest.approx([1, 0])
    with pytest.raises(UsageError, match=r"--set tone=0\.5"):
        one.knob_positions({"drive": 1.0})
    assert Effect.settle(EffectConfig(knobs=("tone",)), replace(FACTS, given=given)).knobs == ("tone",)
    spelt = replace(FACTS, given=given, spelt={"gain": Range(1.0, 9.0, 0)})
    assert "gain" not in Effect.settle(EffectConfig(), spelt).knobs
    assert Effect.settle(EffectConfig(knobs=("gain",)), spelt).knob_high == (9.0,)
    assert one.knob_positions({"drive": "10.0", "tone": "0.50"}) == pytest.approx([1, 0])
    assert Effect.settle(EffectConfig(conditioning=False), replace(FACTS, given=given)).knobs == ()
    with pytest.raises(CorpusError, match="cannot be learned"):
        Effect.settle(EffectConfig(knobs=("take",)), replace(FACTS, given=given))
    with pytest.raises(CorpusError, match="no numbers named 'gain'"):
        Effect.settle(EffectConfig(knobs=("gain",)), replace(FACTS, given=given))
    words = replace(FACTS, given=given, texts={"gain": 0}, values={"gain": ("1,5", "high")})
    with pytest.raises(CorpusError, match=r"'gain' is text in .* \('1,5', 'high'\), and a knob is a number, as 1\.5"):
        Effect.settle(EffectConfig(knobs=("gain",)), words)
    with pytest.raises(UsageError, match="--no-conditioning makes no knobs, and --knobs names some"):
        Effect.settle(EffectConfig(conditioning=False, knobs=("tone",)), replace(FACTS, given=given))
    with pytest.raises(CorpusError, match=r"4 examples .* have no value for the knob 'drive'"):
        Effect.settle(EffectConfig(), replace(FACTS, given={"drive": Range(0.0, 1.0, 4)}))
