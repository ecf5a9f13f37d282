"""The loop GAN: published counts to the unit, circular time, exact length, and penalties in closed form."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Shell, Tonemill
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.rhythm.tempo_tags import tempo_of_tags
from tonemill.audiotools.synthetic import loop
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.loopgan.circle import resampled
from tonemill.models.loopgan.features import RandomFeatures
from tonemill.models.loopgan.generator import (
    Generator,
    ModulatedConv,
    Shape,
    crossovers,
    doubled,
    mixed,
    truncated,
)
from tonemill.models.loopgan.model import LoopGAN
from tonemill.models.loopgan.penalties import gradient_square, path_lengths
from tonemill.models.loopgan.plain_discriminator import PlainDiscriminator, Residual
from tonemill.models.loopgan.projection import Heads, Projection, with_deviation
from tonemill.models.loopgan.settings import LoopGANConfig, LoopOptions
from tonemill.models.parts.circular import turned

SMALL = Shape(4, 1, 4, 8, 8, 8, 2, True)
TINY: dict[str, object] = {"bpm": 400.0, "n_fft": 512, "mel_bands": 16, "width": 4, "feature_width": 4}
TINY |= {"griffin_lim_rounds": 2, "discriminator_width": 8}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def made(**settings: object) -> LoopGAN:
    torch.manual_seed(0)
    facts = CorpusFacts("loops", ("audio",), 16000, 1)
    return LoopGAN(LoopGAN.settle(LoopGANConfig(**{**TINY, **settings}), facts), {})  # type: ignore[arg-type]


def silent(shape: Shape, examples: int) -> list[Tensor]:
    return [torch.zeros(examples, 1, *size) for size in shape.noise_shapes()]


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (Shape(12, 4, 4, 512, 32, 64, 6, False), 21_754_254),
        (Shape(20, 5, 4, 512, 512, 512, 8, False), 27_070_478),
        (Shape(80, 5, 4, 512, 512, 512, 8, False), 27_224_078),
    ],
)
def test_generators_have_the_published_counts(shape: Shape, parameters: int) -> None:
    with torch.device("meta"):
        assert count(Generator(shape)) == parameters


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [((64, 128, 256, 512), 525_760), ((64, 64, 128, 128), 288_192), ((128, 128, 256, 256), 398_784)],
)
def test_projections_have_the_published_counts_and_never_learn(channels: tuple[int, ...], parameters: int) -> None:
    projection = Projection(channels)
    assert count(projection) == parameters
    assert not any(one.requires_grad for one in projection.parameters())
    maps = [torch.randn(2, width, 48 >> n, 32 >> n) for n, width in enumerate(channels)]
    sizes = [(64, 96, 64), (64, 48, 32), (128, 24, 16), (256, 12, 8)]
    assert [tuple(one.shape[1:]) for one in projection(maps)] == sizes


@pytest.mark.parametrize("circular", [False, True])
def test_mixing_before_doubling_is_mixing_after_it(circular: bool) -> None:
    projection, deepest = Projection((3,), base=5, circular=circular), torch.randn(2, 3, 8, 6)
    doubled = projection._doubled(projection.across_channels[0](deepest))
    torch.testing.assert_close(projection([deepest])[0], projection.across_scales[0](doubled), atol=1e-5, rtol=1e-5)


def test_heads_and_plain_discriminators_have_the_published_counts() -> None:
    heads = Heads([64, 64, 128, 256])
    assert [count(head) for head in heads.heads] == [190_864, 186_064, 177_040, 142_608]
    maps = [torch.randn(4, width, 96 >> n, 128 >> n) for n, width in enumerate((64, 64, 128, 256))]
    assert heads(maps).shape == (4, 60)
    with torch.device("meta"):
        assert count(PlainDiscriminator(320, 80)) == 48_507_905
        assert count(PlainDiscriminator(1280, 80)) == 127_151_105


def test_rotating_the_deepest_map_rotates_the_loop() -> None:
    torch.manual_seed(1)
    generator = Generator(SMALL)
    styles = generator.broadcast(generator.mapping(torch.randn(2, 8)))
    mel = generator(styles, silent(SMALL, 2))
    assert mel.shape == (2, 1, 64, 16)
    for frames in (1, 3):
        turned = generator(styles, silent(SMALL, 2), rotation=frames)
        torch.testing.assert_close(turned, mel.roll(16 * frames, dims=2), atol=1e-4, rtol=1e-4)


def test_far_from_the_ends_circular_time_changes_nothing() -> None:
    torch.manual_seed(1)
    wide = SMALL._replace(frames=12)
    loop, line = Generator(wide), Generator(wide._replace(circular=False))
    line.load_state_dict(loop.state_dict())
    styles = loop.broadcast(loop.mapping(torch.randn(1, 8)))
    both = [one(styles, silent(wide, 1)) for one in (loop, line)]
    torch.testing.assert_close(both[0][:, :, 80:112], both[1][:, :, 80:112], atol=1e-4, rtol=1e-4)
    assert (both[0] - both[1]).abs().max() > 0.1


def test_scaling_activations_is_scaling_weights() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(6, 5, 4)
    x, style, bias = torch.randn(3, 6, 7, 8), torch.randn(3, 4), torch.randn(5)
    factors = layer.modulation(style)
    for example in range(3):
        weight = layer.weight * layer.scale * factors[example][None, :, None, None]
        weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        expected = 2 * (F.conv2d(x[example : example + 1], weight, padding=1) + bias[:, None, None])
        torch.testing.assert_close(layer(x, style, bias, 2.0)[example : example + 1], expected, atol=1e-5, rtol=1e-5)


def test_white_maps_stay_of_unit_variance_and_constant_ones_constant() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(32, 32, 4, circular=True)
    out = layer(torch.randn(8, 32, 24, 24), torch.randn(8, 4), torch.zeros(32))
    assert out[..., 1:-1].var().item() == pytest.approx(1, abs=0.05)
    assert doubled(torch.ones(1, 2, 8, 8), circular=True)[:, :, :, 2:-2].sub(1).abs().max() < 1e-6


def test_styles_change_from_their_crossover_on_and_truncation_draws_them_together() -> None:
    first, second = torch.zeros(3, 4), torch.ones(3, 4)
    styles = mixed(first, second, 10, torch.tensor([3.0, 10.0, 1.0]))
    assert styles[..., 0].sum(dim=1).tolist() == [7, 0, 9]
    torch.manual_seed(0)
    drawn = crossovers(torch.rand(20_000), torch.rand(20_000), 10, 0.9)
    shares = torch.bincount(drawn.long(), minlength=11) / len(drawn)
    assert shares[0] == 0 and shares[1:].sub(0.1).abs().max() < 0.01, "each of nine layers, and never"
    mean = torch.full((4,), 5.0)
    assert torch.equal(truncated(second, mean, 0.0), mean.expand(3, 4))
    assert torch.equal(truncated(second, mean, 1.0), second)


def test_a_loop_is_resampled_by_its_series() -> None:
    """Harmonics below both half rates keep level and phase, to -120 dB, also around the joint."""
    for length, other in ((9600, 10240), (10240, 9600), (9599, 10240), (10240, 9601)):
        times, new = (np.arange(n) / n for n in (length, other))
        loop = np.stack([np.sin(2 * np.pi * (k * times + 0.1)) for k in (1, 7, 4000)])
        expected = np.stack([np.sin(2 * np.pi * (k * new + 0.1)) for k in (1, 7, 4000)])
        found = resampled(torch.from_numpy(loop), other).numpy()
        assert np.abs(found - expected).max() < 1e-6
        back = resampled(torch.from_numpy(found), length).numpy()
        assert np.abs(back - loop).max() < 1e-6


def test_rotation_moves_each_loop_by_its_own_share() -> None:
    mel = torch.arange(8.0).view(1, 1, 8, 1).expand(2, 1, 8, 3).contiguous()
    moved = turned(mel, torch.tensor([0.0, 0.26]), 2)
    assert torch.equal(moved[0], mel[0])
    assert moved[1, 0, :, 0].tolist() == [2, 3, 4, 5, 6, 7, 0, 1]


def test_penalties_of_linear_networks_are_closed_forms() -> None:
    weight = torch.randn(12)
    linear = nn.Linear(12, 1)
    with torch.no_grad():
        linear.weight.copy_(weight)
    critic = nn.Sequential(nn.Flatten(), linear)
    assert gradient_square(critic, torch.randn(5, 1, 4, 3)).item() == pytest.approx(
        weight.square().sum().item(), rel=1e-5
    )
    styles = torch.randn(400, 2, 6, requires_grad=True)
    # Each layer's style scaled by 3 is an output value: every direction moves it by 3.
    mel = 3 * styles.reshape(400, 1, 4, 3)
    lengths = path_lengths(mel, styles, torch.randn_like(mel))
    assert lengths.square().mean().item() == pytest.approx(9 * 6 / 12, rel=0.1)


def test_the_last_channel_is_how_much_a_group_varies() -> None:
    same = with_deviation(torch.ones(4, 3, 2, 2))
    assert same[:, -1].max() == pytest.approx(1e-4, abs=1e-5)
    spread = with_deviation(torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2))
    torch.testing.assert_close(spread[:, -1], torch.ones(2, 2, 2))
    assert with_deviation(torch.randn(6, 3, 2, 2)).shape == (6, 4, 2, 2), "six are two groups of three"


def test_circular_discriminators_see_a_rotation_as_one() -> None:
    torch.manual_seed(0)
    block, maps = Residual(8, circular=True), torch.randn(2, 8, 32, 8)
    torch.testing.assert_close(block(maps.roll(2, dims=2)), block(maps).roll(1, dims=2), atol=1e-5, rtol=1e-5)
    features = RandomFeatures(8, circular=True)
    mel = torch.randn(2, 1, 64, 16)
    for n, (one, other) in enumerate(zip(features(mel.roll(16, dims=2)), features(mel), strict=True)):
        torch.testing.assert_close(one, other.roll(8 >> n, dims=2), atol=1e-5, rtol=1e-5)


def test_projected_logits_turn_with_the_loop() -> None:
    torch.manual_seed(0)
    features = RandomFeatures(8, circular=True)
    projection = Projection(features.widths, circular=True)
    heads, mel = Heads(projection.widths, circular=True).eval(), torch.randn(2, 1, 64, 16)
    turned, straight = (projection(features(one)) for one in (mel.roll(16, dims=2), mel))
    for head, one, other in zip(heads.heads, turned, straight, strict=True):
        found, logits = (head(x).view(2, 4, -1) for x in (one, other))
        # Those of new heads are small.
        assert (found - logits.roll(1, dims=1)).abs().max() < 1e-2 * logits.std()


@pytest.mark.parametrize(("bpm", "rate"), [(120.0, 16000), (93.0, 16000), (174.0, 44100)])
def test_a_rendered_loop_has_its_length_to_the_sample(bpm: float, rate: int) -> None:
    config = dataclasses.replace(LoopGANConfig(**{**TINY, "bpm": bpm}), sample_rate=rate)  # type: ignore[arg-type]
    samples = round(240 / bpm * rate)
    assert config.samples(rate) == samples
    assert config.frames(rate) % 16 == 0
    assert abs(config.frames(rate) * config.hop_length / samples - 1) < 8 * 160 / samples + 1e-9
    model = LoopGAN(LoopGAN.settle(config, CorpusFacts("loops", ("audio",), rate, 1)), {})
    inputs = {name: x[None] for name, x in model.inputs(Request(1, {}, {})).items()}
    audio = model.render(inputs)
    assert audio.shape == (1, 1, samples)
    assert audio[..., -round(0.08 * rate) :].abs().max() > 1e-3 * audio.abs().max()


def test_the_mel_of_a_rotated_loop_is_the_rotated_mel() -> None:
    model = made()
    frames, hop = model.config.frames(16000), 160
    loop = resampled(torch.randn(1, frames * hop) * 0.1, model.length)
    turned = resampled(resampled(loop, frames * hop).roll(3 * hop, dims=1), model.length)
    # In bels, of bands that are not near the floor.
    torch.testing.assert_close(model.mel(turned), model.mel(loop).roll(3, dims=2), atol=2e-2, rtol=0)


def test_statistics_are_0_and_1_after_the_fit_and_truncation_0_makes_all_loops_one() -> None:
    model = made()
    batch = Batch({"audio": 0.1 * torch.randn(8, 1, model.length)}, {})
    model.fit([batch])
    mel = model.mel(batch.audio["audio"][:, 0])
    assert mel.mean(dim=(0, 1, 2)).abs().max() < 1e-3
    assert (mel.std(dim=(0, 1, 2), correction=0) - 1).abs().max() < 1e-3
    inputs = [model.inputs(Request(seed, {}, {})) for seed in (1, 2)]
    stacked = {
        name: torch.stack([inputs[0][name] if name != "latent" else one[name] for one in inputs]) for name in inputs[0]
    }
    with torch.no_grad():
        one, two = model.render(stacked, "", LoopOptions(truncation=0.0))
        assert torch.allclose(one, two, atol=1e-4)
        assert not torch.allclose(*model.render(stacked), atol=1e-2)


@pytest.mark.parametrize("features", ["random", "none"])
def test_frozen_parts_stay_and_others_learn(features: str) -> None:
    model = made(features=features)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizers = model.optimizers()

    def update(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    found = {}
    for step in (15, 16):
        batch = Batch({"audio": 0.1 * torch.randn(4, 1, model.length)}, {})
        found |= model.train().training_step(batch, step, update)
    assert all(math.isfinite(float(one)) for one in found.values())
    assert {"r1_penalty", "path_length"} <= found.keys() or features == "random"
    after = model.state_dict()
    for name, tensor in before.items():
        still = name.startswith(("discriminator.features", "discriminator.projection", "log_mel", "statistics"))
        if still:
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["generator.constant"], after["generator.constant"])
    found = model.eval().validate([Request(0, {}, {"audio": np.zeros((1, model.length), np.float32)})])
    assert found is not None
    assert set(found.values) == {"held_out_taken_for_real", "generated_taken_for_real"}
    assert all(0 <= share <= 1 for share in found.values.values())


def test_the_published_layout_ends_before_the_loop_and_plays_at_its_speed() -> None:
    """192 frames are 1.92 s; stretched to 2 s they would be 70 cents flat."""
    facts = CorpusFacts("loops", ("audio",), 16000, 1)
    settings = {**TINY, "bpm": 120.0, "layout": "pjloop", "width": 2, "griffin_lim_rounds": 0}
    model = LoopGAN(LoopGAN.settle(LoopGANConfig(**settings), facts), {})  # type: ignore[arg-type]
    inputs = {name: x[None] for name, x in model.inputs(Request(1, {}, {})).items()}
    audio = model.render(inputs)
    assert audio.shape == (1, 1, 32000)
    assert audio[..., 30720:].abs().max() == 0
    assert audio[..., :30720].abs().max() > 0
    with pytest.raises(UsageError, match="2 s at 16000 Hz"):
        LoopGAN.settle(LoopGANConfig(layout="pjloop", bpm=100.0), facts)


def test_settings_of_a_version_before_are_read() -> None:
    before = {"discriminator": "plain", "bpm": 100.0}
    assert LoopGAN.current(before) == {"features": "none", "augment": "none", "bpm": 100.0}
    assert LoopGAN.current({"discriminator": "projected"})["features"] == "random"


def test_other_corpora_are_refused_with_the_pipe_that_makes_one() -> None:
    with pytest.raises(CorpusError, match="channels mean"):
        LoopGAN.settle(LoopGANConfig(), CorpusFacts("loops", ("audio",), 16000, 2))
    with pytest.raises(UsageError, match="multiple of 16"):
        LoopGANConfig(mel_bands=60)
    model = made()
    wrong = Request(0, {}, {"audio": np.zeros((1, model.length + 7), np.float32)})
    right = Request(0, {}, {"audio": np.zeros((1, model.length), np.float32)})
    model.check_examples([right, right])
    with pytest.raises(CorpusError, match="tonemill loops --bars 1 --target-bpm 400"):
        model.check_examples([right, wrong])


@pytest.mark.slow
def test_fewer_loops_than_a_batch_are_enough_and_the_recommended_pipe_makes_a_loop_of_an_odd_tempo(
    tonemill: Tonemill, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        Path("raw").mkdir(exist_ok=True)
        soundfile.write(f"raw/{number}.wav", loop(120, 1, 44100, seed=number)[0], 44100)
    stream = tonemill("loops", "--bpm", 120, stdin=tonemill("scan", "raw", "-q").done().out).done().out
    tonemill("shard", "corpus", "-q", stdin=tonemill("resample", "--rate", 8000, stdin=stream).done().out).done()
    small = ("--width", 4, "--feature-width", 4, "--griffin-lim-rounds", 0, "--listen-clips", 1, "-q")
    small += ("--steps", 1, "--batch-size", 4)
    tonemill("train", "loopgan", "corpus", "-o", "run", *small).done()
    tonemill("write", "out", "-q", stdin=tonemill("render", "run", stdin=tonemill("seeds", 1).out).done().out).done()
    (written,) = Path("out").glob("*.wav")
    assert soundfile.info(written).frames == 16000
    assert tempo_of_tags(written) == 120
    # At 97 BPM a loop that is whole at 44.1 kHz is one sample short at 16 kHz.
    refused = tonemill("train", "loopgan", "corpus", "-o", "other", "--bpm", 97, *small)
    refused.refused(1, "has 16000 samples", "are 19794", "--target-bpm 97")
    recommended = re.findall("`(tonemill scan .*?)`", refused.err)[0]
    shell(recommended.replace("FOLDER", "raw").replace("CORPUS", "fitting")).done()
    tonemill("train", "loopgan", "fitting", "-o", "other", "--bpm", 97, *small).done()


def test_a_generator_that_overflows_renders_finite_loops_within_full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made().eval()
    inputs = {name: value[None] for name, value in model.inputs(Request(1, {}, {})).items()}
    given = model._from_inputs
    for factor in (1e3, 1e6):
        monkeypatch.setattr(model, "_from_inputs", lambda *words, factor=factor: factor * given(*words))
        loop = model.render(inputs)
        assert torch.isfinite(loop).all() and 0 < float(loop.abs().max()) <= 1
