"""The prior: it learns a process whose law is known, goes on like it, and streams what it renders."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.directions import Direction, ParentFacts
from tonemill.models.exchange import ArrayFacts
from tonemill.models.prior.generation import Generation, Place
from tonemill.models.prior.linear import LinearFrames
from tonemill.models.prior.model import Prior
from tonemill.models.prior.network import FrameDensity
from tonemill.models.prior.settings import PriorConfig, PriorOptions
from tonemill.models.rave.model import Rave
from tonemill.models.rave.settings import VARIANTS

HOP, RATE = 800, 16000
FRAMES_PER_SECOND = RATE // HOP
SMALL: dict[str, Any] = {
    "width": 32,
    "frame_width": 32,
    "mixture": 4,
    "receptive_seconds": 1.0,
    "dropout": 0.0,
    "learning_rate": 2e-3,
    "learning_rate_warm_up": 20,
}

# The process: a sign that is kept with a probability of 0.95, seen in noise; an AR(1); their product in noise.
KEPT, SPREAD, MEMORY, DRIVE = 0.95, 0.2, 0.9, 0.3


def process(seed: int, frames: int) -> np.ndarray:
    """(3, frames) of the process, from its stationary law on."""
    draws = np.random.default_rng(seed)
    x = np.zeros((3, frames), np.float32)
    sign, slow = draws.choice((-1.0, 1.0)), DRIVE / math.sqrt(1 - MEMORY**2) * draws.standard_normal()
    for frame in range(frames):
        sign = sign if draws.random() < KEPT else -sign
        slow = MEMORY * slow + DRIVE * draws.standard_normal()
        x[0, frame] = sign + SPREAD * draws.standard_normal()
        x[1, frame] = slow
        sign = math.copysign(1.0, x[0, frame])
        x[2, frame] = slow * sign + SPREAD * draws.standard_normal()
    return x


def normal(x: np.ndarray, mean: Any, deviation: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def true_nats(x: np.ndarray) -> float:
    """Of frames after the first, for each coordinate, by the law."""
    sign = np.sign(x[0])
    first = KEPT * normal(x[0, 1:], sign[:-1], SPREAD) + (1 - KEPT) * normal(x[0, 1:], -sign[:-1], SPREAD)
    second = normal(x[1, 1:], MEMORY * x[1, :-1], DRIVE)
    third = normal(x[2, 1:], x[1, 1:] * sign[1:], SPREAD)
    return float(np.mean(np.log(first) + np.log(second) + np.log(third)) / 3)


def facts(**more: Any) -> CorpusFacts:
    return CorpusFacts("corpora/latents", (), RATE, 0, arrays={"latents": ArrayFacts(3, HOP)}, **more)


def batch(model: Prior, number: int, examples: int = 16) -> Batch:
    frames = model.length // HOP
    clips = [process(1000 * number + place, frames) for place in range(examples)]
    return Batch({}, {}, {"latents": torch.from_numpy(np.stack(clips))})


def trained(steps: int, **changes: Any) -> Prior:
    torch.manual_seed(0)
    model = Prior(Prior.settle(PriorConfig(**{**SMALL, **changes}), facts()), {})
    model.fit(batch(model, 10**6 + number) for number in range(8))
    optimizer = model.optimizers()["prior"]

    def update(name: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate("prior", step)
        model.train().training_step(batch(model, step), step, update)
    return model.eval()


@cache
def learned() -> Prior:
    return trained(140)


def places(count: int) -> list[Place]:
    return [Place(seed) for seed in range(count)]


def held_out(number: int = 6, frames: int = 300) -> list[Request]:
    return [Request(seed, {}, {}, {"latents": process(10**8 + seed, frames)}) for seed in range(number)]


def nats(model: Prior) -> dict[str, float]:
    with torch.inference_mode():
        found = model.validate(held_out())
    assert found is not None and found.score == -found.values["held_out_nats"]
    return dict(found.values)


def test_it_learns_the_law_and_not_only_its_linear_part() -> None:
    """0.1 nat above both linear models, and within 0.2 of the law itself, which nothing exceeds."""
    model = learned()
    found = nats(model)
    assert found["above_autoregression_nats"] > 0.1
    assert found["above_independence_nats"] > 0.1
    # Of normalised frames the density is that of frames times their deviations.
    law = np.mean([true_nats(one.arrays["latents"]) for one in held_out()])
    law += float(model.frames.linear.deviation.log().mean())
    assert law - 0.2 < found["held_out_nats"] < law + 0.03


def test_after_15_seconds_it_goes_on_like_the_corpus() -> None:
    """Spread and lag-1 correlation within 20 percent."""
    with torch.inference_mode():
        generated = Generation(learned().frames, places(32), 1.0).frames(25 * FRAMES_PER_SECOND)
    late = generated[..., 15 * FRAMES_PER_SECOND :].numpy()
    true = np.stack([process(seed, 10 * FRAMES_PER_SECOND) for seed in range(2000, 2064)])
    for (spread, correlation), (true_spread, true_correlation) in zip(moments(late), moments(true), strict=True):
        assert spread == pytest.approx(true_spread, rel=0.2)
        assert correlation == pytest.approx(true_correlation, rel=0.2)


def moments(frames: np.ndarray) -> list[tuple[float, float]]:
    """Of each row: deviation, and correlation with the frame before."""
    found = []
    for row in frames.transpose(1, 0, 2):
        centred = row - row.mean()
        found.append((float(row.std()), float((centred[:, 1:] * centred[:, :-1]).mean() / row.var())))
    return found


def test_first_weights_are_about_as_good_as_the_linear_model() -> None:
    model = trained(0)
    assert nats(model)["above_autoregression_nats"] == pytest.approx(0, abs=0.02)


def test_linear_models_have_their_closed_forms() -> None:
    """Of z' = A z + L e the fit finds A and L L^T, and the likelihood is that of normal distributions."""
    draws = np.random.default_rng(0)
    transition = np.array([[0.9, 0.0], [0.4, 0.5]])
    root = np.array([[0.5, 0.0], [-0.3, 0.2]])
    z, rows = np.zeros(2), []
    for _ in range(20_000):
        z = transition @ z + root @ draws.standard_normal(2)
        rows.append(z)
    frames = torch.tensor(np.array(rows), dtype=torch.float32)[None]
    model = LinearFrames(2)
    model.fit([frames])
    scale = model.deviation.double().numpy()
    found = model.transition.double().numpy() * scale[:, None] / scale
    np.testing.assert_allclose(found, transition, atol=0.03)
    whole = model.next_root.double().numpy() * scale[:, None]
    np.testing.assert_allclose(whole @ whole.T, root @ root.T, atol=0.01)
    nats = model.likelihood(model.normalized(frames)).autoregressive.mean()
    entropy = (2 * (0.5 + 0.5 * math.log(2 * math.pi)) + math.log(root[0, 0] * root[1, 1] / scale.prod())) / 2
    assert float(nats) == pytest.approx(-entropy, abs=0.02)


def test_innovations_of_a_frame_are_undone_by_the_next_frame() -> None:
    model = learned().frames.linear
    frames = model.normalized(torch.from_numpy(process(5, 50).T.copy())[None])
    innovations, _ = model.innovations(frames)
    again = [model.next_frame(innovations[:, 0], None)]
    for place in range(1, 50):
        again.append(model.next_frame(innovations[:, place], frames[:, place - 1]))
    inside = ((frames > model.low) & (frames < model.high)).all()
    assert inside
    torch.testing.assert_close(torch.stack(again, dim=1), frames, atol=1e-4, rtol=0)


def test_a_density_of_coordinates_sums_to_one_and_is_what_is_drawn() -> None:
    """In two dimensions: on a grid, and by the mean of draws."""
    torch.manual_seed(1)
    density = FrameDensity(4, 2, 8, 3)
    torch.nn.init.normal_(density.heads, std=0.5)
    context = torch.randn(1, 4)
    line = torch.linspace(-8, 8, 321)
    grid = torch.cartesian_prod(line, line)
    with torch.inference_mode():
        logs = density.log_likelihood(context[:, None].expand(len(grid), 1, 4), grid[:, None])[:, 0].sum(dim=1)
        mass = logs.exp() * float(line[1] - line[0]) ** 2
        draws = np.random.default_rng(0)
        choices, noise = draws.random((20_000, 2)), draws.standard_normal((20_000, 2))
        found = density.drawn(
            context.expand(20_000, 4), 1.0, torch.tensor(choices).float(), torch.tensor(noise).float()
        )
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)
    mean = (mass[:, None] * grid).sum(dim=0)
    torch.testing.assert_close(found.mean(dim=0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(
        found.std(dim=0), (mass[:, None] * (grid - mean).square()).sum(0).sqrt(), atol=0.05, rtol=0
    )


def test_a_frame_depends_on_those_before_it_alone_and_no_further_back_than_stated() -> None:
    """By the gradient: of the likelihood of one frame to all frames."""
    model = trained(0, width=8, stacks=1)
    frames = torch.from_numpy(process(7, 60).T.copy())[None].requires_grad_()
    model.frames.log_likelihood(frames)[0, 50].sum().backward()
    assert frames.grad is not None
    reached = frames.grad[0].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert reached[0] == 50 - model.config.receptive_field and reached[-1] == 50


def test_long_recordings_are_measured_in_pieces_to_the_same_likelihood() -> None:
    model = learned().frames
    frames = torch.from_numpy(process(8, 600).T.copy())[None]
    with torch.inference_mode():
        whole = model.log_likelihood(frames)
        normalized = torch.nn.functional.pad(model.linear.normalized(frames).transpose(1, 2), (0, 0, 0, 1), value=1.0)
        context = model.context(torch.nn.functional.pad(normalized[..., :-1], (1, 0))).transpose(1, 2)
        innovations, logs = model.linear.innovations(model.linear.normalized(frames))
        expected = model.density.log_likelihood(context, innovations) - logs[:, None] / 3
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)


def test_frames_that_do_not_vary_are_no_live_rows_and_cost_nothing() -> None:
    model = LinearFrames(3)
    frames = torch.from_numpy(process(9, 400)).T[None] * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 5.0])
    model.fit([frames])
    assert model.live.tolist() == [1.0, 1.0, 0.0]
    assert bool((model.denormalized(model.normalized(frames))[..., 2] == 5).all())
    assert torch.isfinite(model.likelihood(model.normalized(frames)).autoregressive).all()


def test_silence_of_equal_frames_has_a_finite_density() -> None:
    model = Prior(Prior.settle(PriorConfig(**SMALL), facts()), {})
    frames = torch.full((4, 3, model.length // HOP), 0.25)
    model.fit([Batch({}, {}, {"latents": frames})])
    losses = []

    def update(name: str, loss: torch.Tensor) -> None:
        loss.backward()
        losses.append(float(loss.detach()))

    model.training_step(Batch({}, {}, {"latents": frames}), 1, update)
    assert math.isfinite(losses[0])
    assert all(one.grad is None or torch.isfinite(one.grad).all() for one in model.parameters())


def test_at_temperature_0_every_seed_gives_the_same_and_a_low_one_varies_less() -> None:
    model = learned().frames

    def spread(temperature: float) -> float:
        with torch.inference_mode():
            return float(Generation(model, places(8), temperature).frames(40).std(dim=0).mean())

    assert spread(0.0) == 0
    assert spread(0.5) < spread(1.0)


def test_a_way_between_two_seeds_begins_and_ends_at_them_and_keeps_the_law() -> None:
    """`tonemill seeds --interpolate` and --vary: half way frames are near neither end, and spread as all others do."""
    model = learned()

    def frames(count: int = 200, **fields: Any) -> torch.Tensor:
        inputs = {name: one[None] for name, one in model.inputs(Request(5, fields, {})).items()}
        return model.render(inputs, "render", PriorOptions(seconds=count * HOP / RATE))[0]

    own, other = (
        frames(),
        model.render(
            {name: one[None] for name, one in model.inputs(Request(9, {}, {})).items()},
            "render",
            PriorOptions(seconds=200 * HOP / RATE),
        )[0],
    )
    assert torch.equal(frames(seed_to=9, seed_share=0), own)
    torch.testing.assert_close(frames(20, seed_to=9, seed_share=1), other[:, :20], atol=1e-3, rtol=0)
    near = (frames(2, seed_to=9, seed_share=0.02) - own[:, :2]).abs().max()
    assert 0 < float(near) < float((frames(2, seed_to=9, seed_share=0.5) - own[:, :2]).abs().max())
    with torch.inference_mode():
        half = Generation(model.frames, [Place(seed, 100 + seed, 0.5) for seed in range(32)], 1.0).frames(200)
        alone = Generation(model.frames, places(32), 1.0).frames(200)
    for (spread, correlation), (own_spread, own_correlation) in zip(
        moments(half.numpy()), moments(alone.numpy()), strict=True
    ):
        assert spread == pytest.approx(own_spread, rel=0.15)
        assert correlation == pytest.approx(own_correlation, rel=0.15)
    with pytest.raises(UsageError, match="from 0 to 1"):
        model.inputs(Request(5, {"seed_to": 9, "seed_share": 2}, {}))


@cache
def with_codec() -> Prior:
    """A prior of first weights, and a small RAVE."""
    torch.manual_seed(0)
    tiny = {"latent_dim": 4, "capacity": 4, "filter_taps": 8, "attenuation_db": 40.0, "scales": (128,), "length": 2048}
    codec = Rave(VARIANTS["live"](sample_rate=RATE, channels=1, **tiny)).eval()
    arrays = {"latents": ArrayFacts(3, codec.config.hop_length)}
    config = replace(PriorConfig(**{**SMALL, "receptive_seconds": 0.1}), codec="runs/voice", channels=1)
    settled = replace(
        config,
        array="latents",
        rows=3,
        hop=arrays["latents"].hop,
        sample_rate=RATE,
        length=20 * codec.config.hop_length,
    )
    return Prior(settled, {"codec": codec}).eval()


def test_a_stream_from_a_seed_is_what_is_rendered_whole() -> None:
    model = with_codec()
    options = PriorOptions(seconds=0.3)
    with torch.inference_mode():
        inputs = [model.inputs(Request(seed, {}, {})) for seed in (3, 4)]
        whole = model.render(
            {name: torch.stack([one[name] for one in inputs]) for name in inputs[0]}, "render", options
        )
    assert whole.shape == (2, 1, 4800)
    for seconds in (0.3, 1.1):
        # The second one is longer than a block; near its end the first one's decoder looks ahead at silence.
        options = PriorOptions(seconds=seconds)
        samples = np.concatenate(list(model.stream(Request(3, {}, {}, options=options))), axis=1)
        assert samples.shape == (1, round(seconds * RATE))
        np.testing.assert_allclose(samples[:, :4500], whole[0, :, :4500], atol=1e-5)
    assert float((whole[0] - whole[1]).abs().max()) > 1e-3


def test_latents_that_do_not_fit_are_refused_with_the_mend() -> None:
    encode = "tonemill render RUN --as encode"
    with pytest.raises(CorpusError, match=encode):
        Prior.settle(PriorConfig(), CorpusFacts("corpora/voice", ("audio",), RATE, 1))
    with pytest.raises(CorpusError, match="--rows is 8"):
        Prior.settle(PriorConfig(rows=8), facts())
    with pytest.raises(CorpusError, match="Set --length to 1600"):
        Prior.settle(PriorConfig(length=900), facts())
    with pytest.raises(UsageError, match="--dropout is 1"):
        PriorConfig(dropout=1.0)


def test_latents_of_another_codec_are_refused_by_digest() -> None:
    directions = {"encode": Direction("", gives="latents", hop=HOP), "decode": Direction("", ("latents",), hop=HOP)}
    codec = ParentFacts("rave", {}, RATE, 1, directions, "ab" * 32)
    config = PriorConfig(codec="runs/voice")
    own = facts(parents={"codec": codec}, values={"encoded_by": ("voice@" + "ab" * 8,)})
    assert Prior.settle(config, own).channels == 1
    with pytest.raises(CorpusError, match="tonemill render runs/voice --as encode"):
        Prior.settle(config, replace(own, values={"encoded_by": ("voice@" + "cd" * 8,)}))


@pytest.mark.parametrize(("rate", "hop"), [(48000, 2048), (44100, 512), (44100, 128), (16000, 800), (16000, 160_000)])
def test_the_receptive_field_is_about_what_is_set(rate: int, hop: int) -> None:
    """By less than a doubling, or as little as two stacks have."""
    config = PriorConfig(sample_rate=rate, hop=hop)
    wanted = config.receptive_seconds * rate / hop
    assert config.receptive_field == 5 or wanted / 1.5 < config.receptive_field < wanted * 1.5
    assert 1 + 2 * sum(config.dilations) == config.receptive_field
