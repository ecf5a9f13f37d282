"""Both phases of training: schedules, weights that act once, aligned signals, a frozen encoder, and the turn."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_rave import TINY

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.rave.model import Rave
from tonemill.models.rave.options import EncodeOptions
from tonemill.models.rave.settings import VARIANTS, RaveConfig

SMALL: dict[str, Any] = {**TINY, "fine_tune_after": 10, "channels": 1}


def made(name: str = "v1", **changes: Any) -> Rave:
    torch.manual_seed(0)
    return Rave(VARIANTS[name](**{**SMALL, **changes}))


def batch(examples: int = 2, length: int = 4096) -> Batch:
    draws = torch.Generator().manual_seed(1)
    return Batch({"audio": 0.1 * torch.randn(examples, 1, length, generator=draws)}, {})


def losses(model: Rave, step: int, learn: bool = False) -> tuple[dict[str, float], list[tuple[str, torch.Tensor]]]:
    """What a step gives, and the losses that it updates by."""
    updated: list[tuple[str, torch.Tensor]] = []
    optimizers = model.optimizers()

    def update(name: str, loss: torch.Tensor) -> None:
        updated.append((name, loss.detach()))
        optimizers[name].zero_grad()
        loss.backward()
        if learn:
            optimizers[name].step()

    torch.manual_seed(step)
    found = model.train().training_step(batch(), step, update)
    return {name: float(value) for name, value in found.items()}, updated


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_half_precision_trains_on_the_same_losses(name: str) -> None:
    """In both phases to 2 %, for the filter bank, latents and spectra stay in float32."""
    for step in (2, 11, 12):
        full = losses(made(name, beta_warm_up=0), step)[0]
        with torch.autocast("cpu", torch.bfloat16):
            half = losses(made(name, beta_warm_up=0), step, learn=True)[0]
        assert half == pytest.approx(full, rel=0.02, abs=0.02)


def test_beta_rises_by_the_same_factor_each_step() -> None:
    """RAVE's published code."""
    model = Rave(RaveConfig(**{**SMALL, "length": 4096}))
    for step, beta in ((1, 1.00054e-6), (1000, 1.7177e-6), (10_000, 2.23607e-4), (20_000, 5e-2), (10**6, 5e-2)):
        assert model.beta(step) == pytest.approx(beta, rel=1e-4)
    assert made("v1").beta(1) == 0.1


def test_learning_rates_are_those_of_the_reference_after_a_warm_up() -> None:
    """RAVE's published code: 1e-3, 7.75e-4, 5.5e-4, 1e-4."""
    model = made("v2", fine_tune_after=1_000_000)
    for step, rate in ((250_001, 7.75e-4), (500_001, 5.5e-4), (1_000_001, 1e-4), (2_000_000, 1e-4), (10, 1e-4)):
        assert model.learning_rate("codec", step) == pytest.approx(rate, rel=1e-4)
        assert model.learning_rate("discriminator", step) == 1e-4
    assert made("v2", fine_tune_after=0).learning_rate("codec", 10**7) == 1e-3


@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize(
    ("weight", "parts", "step"),
    [
        ("spectral_weight", ("distance", "bands_distance"), 2),
        ("beta", ("divergence",), 2),
        ("adversarial_weight", ("adversarial",), 12),
        ("matching_weight", ("matching",), 12),
        ("spectral_weight", ("distance", "bands_distance"), 12),
    ],
)
def test_a_weight_that_is_doubled_counts_its_term_twice(
    name: str, weight: str, parts: tuple[str, ...], step: int
) -> None:
    """Once in the sum: of a weight that acts twice, as in the reference, it would be four times."""
    once = made(name, beta_warm_up=0)
    twice = made(name, beta_warm_up=0, **{weight: 2 * getattr(once.config, weight)})
    (first, [(_, loss)]), (_, [(_, more)]) = losses(once, step), losses(twice, step)
    term = getattr(once.config, weight) * sum(first[part] for part in parts)
    assert float(more - loss) == pytest.approx(term, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_signals_are_compared_at_the_same_sample(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a decoder that is perfect the filter bank's error is left, under -60 dB; a sample off it would be 3 dB."""
    model = made("v2", causal=causal, filter_taps=32, attenuation_db=80.0)
    audio = batch().audio["audio"]
    bands = model.codec.bands(audio)
    generated = model.codec.synthesis(bands)
    compared = []
    monkeypatch.setattr(
        "tonemill.models.rave.model.spectral_distance",
        lambda found, true, *_: compared.append((found, true)) or found.sum(),
    )
    model._distances(bands, bands, audio, generated)
    assert torch.equal(*compared[0])
    found, true = (one[..., 600:-600] for one in compared[1])
    for shift, least_db, most_db in ((0, -999, -60), (1, -10, 99)):
        error = (true - found.roll(shift, dims=-1))[..., 1:].square().mean() / true.square().mean()
        assert least_db < 10 * float(error.log10()) < most_db


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_fine_tuning_leaves_the_encoder_as_it_was(name: str) -> None:
    """To the bit, statistics of its batches included; the decoder and the discriminators learn in turn."""
    model = made(name)
    before = copy.deepcopy(model.codec.encoder.state_dict())
    decoder = copy.deepcopy(model.codec.decoder.state_dict())
    order = []
    for step in range(11, 19):
        found, [(optimizer, _)] = losses(model, step, learn=True)
        order.append(optimizer)
        # What a step of the discriminators does not need it does not compute.
        assert ("distance" in found) is (optimizer == "codec")
    every = model.config.discriminator_every
    assert order == ["discriminator" if place % every == 0 else "codec" for place in range(8)]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.codec.encoder.state_dict().items())
    assert any(not torch.equal(tensor, decoder[key]) for key, tensor in model.codec.decoder.state_dict().items())


def test_the_rehearsal_of_fine_tuning_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed = []
    real = Rave._rehearse
    monkeypatch.setattr(Rave, "_rehearse", lambda *args: rehearsed.append(1) or real(*args))
    with_it, without = made("v1"), made("v1", fine_tune_after=0)
    found = [losses(model, 1, learn=True)[0] for model in (with_it, without)]
    assert rehearsed == [1]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    for key, tensor in without.state_dict().items():
        torch.testing.assert_close(with_it.state_dict()[key], tensor, atol=1e-6, rtol=0)


def test_the_turn_measures_latents_once_and_begins_the_noise() -> None:
    model = made("v1")
    assert model.turns() == {11: "fine tune"} and not made("v1", fine_tune_after=0).turns()
    assert float(model.codec.decoder.noise_share) == 0
    with torch.no_grad():
        model.eval().turn("fine tune", [batch(), batch(3)], [])
    axes = model.codec.axes
    assert float(axes.fitted) == float(model.codec.decoder.noise_share) == 1
    assert float(axes.fidelity[-1]) == pytest.approx(1)
    with torch.no_grad():
        mean = model.codec.posterior(model.codec.bands(batch().audio["audio"])).mean
    torch.testing.assert_close(axes.codes(axes.coordinates(mean, 4), 0.0, torch.zeros(2), 0), mean, atol=1e-4, rtol=0)


def test_latents_are_exactly_as_many_as_wished_and_decode_gives_the_sound_back() -> None:
    model = made("v2")
    audio = batch().audio["audio"][0].numpy()
    with torch.no_grad():
        model.eval().turn("fine tune", [batch()], [])

    def render(direction: str, given: dict[str, np.ndarray], options: Any) -> np.ndarray:
        sounds = {} if direction == "decode" else given
        arrays = given if direction == "decode" else {}
        request = Request(0, {}, sounds, arrays, direction, options)
        inputs = {name: tensor[None] for name, tensor in model.inputs(request).items()}
        return model.render(inputs, direction, options)[0].numpy()

    for count in (1, 3, 4):
        latents = render("encode", {"audio": audio}, EncodeOptions(latents=count))
        assert latents.shape == (count, 2)
        forward = render("forward", {"audio": audio}, EncodeOptions(latents=count))
        decoded = render("decode", {"latents": latents}, model.directions(model.config)["decode"].options())
        np.testing.assert_allclose(decoded, forward, atol=1e-5)
    with pytest.raises(UsageError, match="has 5 rows, but this run has 4 latents"):
        render("decode", {"latents": np.zeros((5, 3), np.float32)}, None)


def test_validation_shows_distance_latents_and_octaves_and_scores_the_last_phase() -> None:
    model = made("v1").eval()
    held_out = [Request(0, {}, {"audio": batch(length=9000).audio["audio"][0].numpy()})]
    with torch.inference_mode():
        before = model.validate(held_out)
        assert before is not None and before.score is None
        model.turn("fine tune", [batch()], [])
        after = model.validate(held_out)
    assert after is not None and after.score == after.values["held_out_distance"]
    assert {"live_latents", "latents_for_0.95", "error_db_to_8000_hz", "error_db_to_125_hz"} <= set(after.values)
    assert {"0_real.wav", "0_rendered.wav", "spectrograms.png", "latents.tsv"} == set(after.files)
    with torch.inference_mode():
        assert model.validate([Request(0, {}, {"audio": np.zeros((1, 9000), np.float32)})]) is None
    assert made("v1", fine_tune_after=0).turns() == {}


def test_silence_trains_without_a_nan() -> None:
    for name in VARIANTS:
        model = made(name, fine_tune_after=1)
        optimizers = model.optimizers()

        def update(optimizer: str, loss: torch.Tensor, optimizers: Any = optimizers) -> None:
            optimizers[optimizer].zero_grad()
            loss.backward()
            optimizers[optimizer].step()

        for step in (1, 2, 3):
            model.train().training_step(Batch({"audio": torch.zeros(1, 1, 4096)}, {}), step, update)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_settings_that_do_not_fit_are_refused_with_the_mend() -> None:
    for changes, words in (
        ({"length": 5000}, "Try --length 6144"),
        ({"length": 2048}, "at least 2064"),
        ({"ratios": (3, 3, 1, 1)}, "one of them even"),
        ({"bands": 12}, "a power of two"),
        ({"augment": ("echo",)}, "it must be of"),
        ({"filter_taps": 6}, "a multiple of 4"),
        ({"scales": (10,)}, "a multiple of 4"),
        ({"discriminator_every": 1}, "at least 2"),
        ({"learning_rate": 0.0}, "above 0"),
    ):
        with pytest.raises(UsageError, match=words):
            RaveConfig(**{**SMALL, **changes})
    with pytest.raises(UsageError, match="noise branch of v2-small"):
        VARIANTS["v2-small"](**{**SMALL, "ratios": (2, 2, 1, 1)})
    facts = CorpusFacts("corpora/dry", ("dry", "wet"), 44100, 1)
    with pytest.raises(CorpusError, match="rave learns from single clips"):
        Rave.settle(RaveConfig(), facts)
    model = Rave(replace(RaveConfig(**SMALL), channels=2))
    with pytest.raises(UsageError, match="tonemill channels stereo"):
        model.player(Request(0, {}, {}, options=EncodeOptions()), 1)


@pytest.mark.slow
def test_300_steps_on_a_drum_machine_bring_the_distance_below_12() -> None:
    """From about 21, on two loops that are held out; a minute on one core. These two have no digital silence."""
    rate, length, patterns = 22050, 32768, list(PATTERNS.values())
    clips = [torch.from_numpy(loop(100 + 5 * n, 2, rate, patterns[n % len(patterns)], seed=n)) for n in range(10)]
    torch.manual_seed(0)
    few = {"latent_dim": 16, "capacity": 8, "learning_rate_warm_up": 20, "fine_tune_after": 0}
    model = Rave(VARIANTS["v2-small"](length=length, sample_rate=rate, channels=1, **few))
    optimizer = model.optimizers()["codec"]

    def distance() -> float:
        with torch.inference_mode():
            found = model.eval().validate(Request(0, {}, {"audio": clip.numpy()}) for clip in clips[8:])
        assert found is not None and found.score is not None
        return found.score

    def update(_: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert distance() > 18
    draws = np.random.default_rng(0)
    for step in range(1, 301):
        chosen = [clips[n] for n in draws.integers(8, size=4)]
        places = [int(draws.integers(clip.shape[1] - length)) for clip in chosen]
        cut = [clip[:, at : at + length].numpy() for clip, at in zip(chosen, places, strict=True)]
        audio = torch.stack([torch.from_numpy(model.augmentation({"audio": one}, draws)["audio"]) for one in cut])
        optimizer.param_groups[0]["lr"] = model.learning_rate("codec", step)
        model.train().training_step(Batch({"audio": audio}, {}), step, update)
    assert distance() < 12
