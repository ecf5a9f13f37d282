"""The autoencoder: published sizes, streams that are the whole file, latency that can be measured."""

from __future__ import annotations

import copy
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from small_rave import TINY

from tonemill.models.rave.codec import Codec, latency_of
from tonemill.models.rave.latents import Posterior
from tonemill.models.rave.model import Rave
from tonemill.models.rave.player import DecodePlayer, EncodePlayer, Encoding, ForwardPlayer
from tonemill.models.rave.settings import VARIANTS, RaveConfig

CASES = [(name, causal) for name in VARIANTS for causal in ((True,) if name == "live" else (False, True))]


@cache
def codec(name: str, causal: bool, channels: int = 1) -> Codec:
    """Small, with statistics and a level that make each branch audible."""
    torch.manual_seed(0)
    one = Codec(VARIANTS[name](causal=causal, channels=channels, **TINY))
    for module in one.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    one.decoder.noise_share.fill_(1.0)
    plain = one.eval().plain()
    if plain.decoder.noise is not None:
        # The noise of first weights is 70 dB below full scale.
        for parameter in plain.decoder.noise.parameters():
            parameter.mul_(1.9)
    return plain


def sizes(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "with_gains", "without"),
    [
        ("v1", (4_834_176, 12_778_193), (4_834_176, 12_769_472)),
        ("v2", (16_056_928, 15_479_072), (16_046_592, 15_467_520)),
        ("v2-small", (3_945_904, 3_816_608), (3_940_608, 3_810_816)),
    ],
)
def test_counts_are_the_published_ones_to_the_unit(
    name: str, with_gains: tuple[int, int], without: tuple[int, int]
) -> None:
    """RAVE's published code."""
    with torch.device("meta"):
        for norm, counts in ((True, with_gains), (False, without)):
            one = Codec(VARIANTS[name](), norm)
            assert (sizes(one.encoder), sizes(one.decoder)) == counts


def test_counts_of_live_and_of_stereo_are_the_closed_forms() -> None:
    config = VARIANTS["live"]()
    with torch.device("meta"):
        live, stereo, mono = Codec(config, False), Codec(RaveConfig(channels=2), False), Codec(RaveConfig(), False)
    width, latents, wide = 32, 128, 16 * 32
    stages = [(width * 2**place, ratio) for place, ratio in enumerate(config.ratios)]
    encoder = 7 * 16 * width + sum(2 * c + 2 * c * c * (2 * r + 1) for c, r in stages) + 5 * latents * wide
    falling = [(wide // 2**place, ratio) for place, ratio in enumerate(config.ratios)]
    decoder = (
        7 * latents * wide + sum(c * c * r + 4 * 6 * (c // 2) ** 2 for c, r in falling) + 7 * 16 * width + 3 * width
    )
    assert (sizes(live.encoder), sizes(live.decoder)) == (encoder, decoder)
    assert sizes(stereo.encoder) - sizes(mono.encoder) == 7 * 16 * 96
    assert sizes(stereo.decoder) - sizes(mono.decoder) == 7 * 96 * 32


def test_counts_of_discriminators_are_the_published_ones() -> None:
    """RAVE's published code, without the gains of weight norms."""
    with torch.device("meta"):
        for name, count in (("v1", 7_748_739), ("v2", 27_119_432), ("v2-small", 6_785_960)):
            parameters = Rave(VARIANTS[name](sample_rate=44100)).discriminator.named_parameters()
            assert sum(tensor.numel() for key, tensor in parameters if not key.endswith("original0")) == count


@pytest.mark.parametrize(
    ("name", "causal", "channels"), [*((*case, 1) for case in CASES), ("v1", False, 2), ("v2", False, 2)]
)
def test_a_stream_is_the_whole_file_wherever_it_is_cut(name: str, causal: bool, channels: int) -> None:
    """To 1e-5 of full scale, or of what is louder: encoder, decoder and noise, in random blocks and in equal ones."""
    one = codec(name, causal, channels)
    hop, frames = one.hop_length, 8 if one.hop_length > 1000 else 24
    draws = np.random.default_rng(1)
    audio = (0.3 * draws.standard_normal((channels, frames * hop - 77))).astype(np.float32)
    silence = one.latency.total // hop * hop + 2 * hop
    padded = torch.from_numpy(np.pad(audio, ((0, 0), (0, silence + 77))))[None]
    with torch.inference_mode():
        mean = one.posterior(one.bands(padded)).mean
        # What the encoder looks ahead at beyond the end is silence; the decoder reads no frames there.
        codes = mean[..., :frames]
        quiet = torch.nn.functional.pad(codes, (0, silence // hop))
        whole = one.synthesis(one.decoder(quiet))[..., one.lag :][..., : audio.shape[1]]
    peak = float(whole.abs().max())
    assert peak > 0.03
    for cuts in (np.sort(draws.integers(0, audio.shape[1], 5)), *(range(n, audio.shape[1], n) for n in (128, 2048))):
        player = ForwardPlayer(one, channels, one.config.latent_dim, 0.0, 0.0)
        blocks = np.split(audio, cuts, axis=1)
        stream = np.concatenate([*(player.push(block) for block in blocks), player.flush()], axis=1)
        sounding = stream[:, player.latency :][:, : audio.shape[1]]
        np.testing.assert_allclose(sounding, whole[0].numpy(), atol=1e-5 * max(1.0, peak))
        assert not stream[:, : player.latency].any()


@pytest.mark.parametrize(("name", "causal"), [("v2", False), ("live", True)])
def test_short_blocks_that_repeat_are_the_same_as_torchscript(
    name: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-5 of full scale, or of what is louder; and a block of another length after them."""
    one, streams = codec(name, causal), []
    hop = one.hop_length
    audio = (0.3 * np.random.default_rng(1).standard_normal((1, 12 * hop))).astype(np.float32)
    for after in (3, 1000):
        monkeypatch.setattr("tonemill.models.rave.codec.TRACED_AFTER", after)
        player = ForwardPlayer(one, 1, one.config.latent_dim, 0.0, 0.0)
        pieces = [player.push(block) for block in np.split(audio[:, : 10 * hop], 10, axis=1)]
        assert (player._encoding._blocks._step._graph is None) == (after == 1000)
        streams.append(np.concatenate([*pieces, player.push(audio[:, 10 * hop :]), player.flush()], axis=1))
    np.testing.assert_allclose(*streams, atol=1e-5 * max(1.0, float(np.abs(streams[1]).max())))


def test_memory_of_a_stream_of_latents_does_not_grow_with_the_sound() -> None:
    """Of two minutes it holds as much as of half a one, to 1 %."""
    block, peaks = (0.3 * np.random.default_rng(3).standard_normal((1, 50_000))).astype(np.float32), []
    for blocks in (10, 40):
        player = EncodePlayer(codec("v1", False), 4, 0.0, 0.0)
        tracemalloc.start()
        frames = sum(player.push(block).shape[1] for _ in range(blocks)) + player.flush().shape[1]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert frames == -(-blocks * 50_000 // 2048)
    assert peaks[1] < 1.01 * peaks[0] < 10 * block.nbytes


@pytest.mark.parametrize(("name", "causal"), CASES)
@pytest.mark.parametrize("branch", ["waveform", "noise"])
def test_each_branch_of_a_decoder_streams_to_60_db_below_itself(name: str, causal: bool, branch: str) -> None:
    """With the others silent, behind an encoder that is late by a frame.

    A branch that is late by an odd number of sub-band frames more than the filter bank takes it for would have the
    wrong sign in odd bands: +3 dB. One that is a frame earlier than the others would be as far off.
    """
    one = copy.deepcopy(codec(name, causal))
    if branch == "noise":
        if one.decoder.noise is None:
            pytest.skip("it has no noise branch")
        # tanh of 0; the loudness beside it stays.
        next(one.decoder.heads[0].parameters()).zero_()
    else:
        one.decoder.noise_share.zero_()
    hop, frames = one.hop_length, 12 if one.hop_length > 1000 else 32
    codes = torch.randn(1, 4, frames, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        whole = one.synthesis(one.decoder(codes))
        delay = one.synthesis.aligned(one.decoder.aligned(1))
        state = one.decoder_at_rest(1, whole, torch.zeros(1))
        rest = -(-delay // hop)
        sounds = []
        for block in torch.nn.functional.pad(codes, (1, rest)).split(3, dim=-1):
            sound, state = one.decode_step(block, state)
            sounds.append(sound)
    stream = torch.cat(sounds, dim=-1)[..., delay : delay + whole.shape[-1]]
    # Near the end the whole reads zeros behind the last frame inside its layers, and a stream what they make of them.
    inside = slice(0, frames * hop - codec(name, causal).latency.decoder)
    error_db = 10 * float(((stream - whole)[..., inside].square().mean() / whole[..., inside].square().mean()).log10())
    assert error_db < -60


@pytest.mark.parametrize(("name", "causal"), CASES)
def test_latency_is_what_cross_correlation_finds(name: str, causal: bool) -> None:
    """Between what comes out block by block and the whole file; and as many samples come out as went in.

    It is what run.json, `render --help` and `inspect` state.
    """
    one = codec(name, causal)
    audio = (0.3 * np.random.default_rng(2).standard_normal((1, 24 * one.hop_length))).astype(np.float32)
    player = ForwardPlayer(one, 1, one.config.latent_dim, 0.0, 0.0)
    outputs, received = [], 0
    for start in range(0, audio.shape[1], 2 * one.hop_length):
        outputs.append(player.push(audio[:, start : start + 2 * one.hop_length]))
        received += 2 * one.hop_length
        assert sum(output.shape[1] for output in outputs) >= received
    stream = np.concatenate([*outputs, player.flush()], axis=1)[0]
    with torch.inference_mode():
        padded = torch.nn.functional.pad(torch.from_numpy(audio)[None], (0, 8 * one.hop_length))
        whole = one.synthesis(one.decoder(one.posterior(one.bands(padded)).mean))[0, 0, one.lag :].numpy()
    size = 2 ** int(np.ceil(np.log2(len(stream) + len(whole))))
    correlation = np.fft.irfft(np.fft.rfft(stream, size) * np.fft.rfft(whole[: audio.shape[1]], size).conj())
    assert int(correlation.argmax()) == one.latency.total == latency_of(one.config).total
    direction = Rave.directions(one.config)["forward"]
    assert direction.latency == one.latency.total and f"{one.latency.total} samples" in direction.help


@pytest.mark.parametrize(
    ("name", "causal", "field"),
    [
        ("v1", False, (28271, 26223)),
        ("v2", False, (27183, 26495)),
        ("v2-small", False, (11695, 10111)),
        ("v2", True, (51615, 15)),
        ("live", True, (22863, 143)),
    ],
)
def test_receptive_fields_are_those_that_are_documented(name: str, causal: bool, field: tuple[int, int]) -> None:
    """Samples before and after one that it depends on, by the gradient; widths change nothing.

    With a shorter filter bank those of RAVE's published v2 are 27,117 and 26,428, causal 51,497 and 0; BRAVE's 517 ms
    are 22,800 samples.
    """
    small = {"latent_dim": 2, "capacity": 2, "sample_rate": 44100, "channels": 1}
    torch.manual_seed(0)
    one = Codec(VARIANTS[name](causal=causal, **small)).eval().plain()
    x = torch.randn(1, 1, 131072, requires_grad=True)
    place = 65536
    one.synthesis(one.decoder(one.posterior(one.bands(x)).mean))[0, 0, place + one.lag].backward()
    reached = x.grad[0, 0].nonzero()[:, 0]
    assert (place - int(reached[0]), int(reached[-1]) - place) == field


def test_live_is_late_by_less_than_10_ms_with_its_block() -> None:
    latency, config = latency_of(VARIANTS["live"](sample_rate=44100)), VARIANTS["live"]()
    assert latency.encoder == 0
    assert (latency.total + config.hop_length) / 44100 < 0.010


def test_a_causal_codec_is_late_by_its_filter_bank_alone() -> None:
    for name in ("v1", "v2", "v2-small"):
        assert latency_of(VARIANTS[name](causal=True, sample_rate=44100)).total == 31 * 16


@pytest.mark.parametrize("name", ["v1", "v2-small"])
def test_noise_is_a_function_of_seed_and_place(name: str) -> None:
    one = codec(name, False)
    codes = np.random.default_rng(3).standard_normal((4, 12)).astype(np.float32)

    def sound(seed: float, sizes: list[int]) -> np.ndarray:
        player = DecodePlayer(one, 0.0, seed)
        blocks = np.split(codes, np.cumsum(sizes), axis=1)
        stream = np.concatenate([*(player.push(block) for block in blocks), player.flush()], axis=1)
        return stream[:, player.latency :]

    whole = sound(5.0, [])
    np.testing.assert_allclose(sound(5.0, [1, 4, 2]), whole, atol=1e-5 * max(1.0, float(np.abs(whole).max())))
    assert np.abs(whole - sound(6.0, [])).max() > 3e-4


def test_latents_at_a_temperature_are_the_same_for_any_cut() -> None:
    one = codec("v2", False)
    audio = torch.randn(1, 1, 9000, generator=torch.Generator().manual_seed(4))

    def codes(pieces: list[torch.Tensor], seed: float) -> torch.Tensor:
        encoding = Encoding(one, 4, 1.0, torch.tensor([seed]))
        with torch.inference_mode():
            return torch.cat(
                [*(found for piece in pieces for found in encoding.push(piece)), *encoding.flush()], dim=-1
            )

    whole = codes([audio], 1.0)
    assert whole.shape == (1, 4, 5)
    torch.testing.assert_close(codes(list(audio.split(700, dim=-1)), 1.0), whole, atol=1e-5, rtol=0)
    assert float((codes([audio], 2.0) - whole).abs().max()) > 0.1


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_first_weights_keep_the_level_of_a_recording_from_audio_to_audio(name: str) -> None:
    """Means are as loud as the noise that is drawn around them, within 6 dB, and sub-bands come back within 12 dB."""
    torch.manual_seed(0)
    codec = Codec(VARIANTS[name](sample_rate=44100, channels=1, latent_dim=64, capacity=32)).train()
    bands = 0.05 * torch.randn(2, 16, 8192)
    with torch.no_grad():
        found = codec.posterior(bands)
        sound = codec.decoder(found.mean)

    def decibels(x: torch.Tensor, reference: torch.Tensor) -> float:
        return 10 * float(torch.log10(x.square().mean() / reference.square().mean()))

    assert abs(decibels(found.mean, found.deviation)) < 6
    assert abs(decibels(sound, bands)) < 12


def test_divergence_of_zeros_is_the_stated_one() -> None:
    """RAVE's published code: 27.306105 for 128 latents."""
    posterior = Posterior.of(torch.zeros(1, 256, 3))
    assert float(posterior.divergence().sum(dim=1).mean()) == pytest.approx(27.306105, abs=1e-4)


def test_weights_without_norms_give_the_same_sound() -> None:
    torch.manual_seed(1)
    one = Codec(replace(VARIANTS["v2"](**TINY), channels=1)).eval()
    x = torch.randn(1, 1, 4096)
    with torch.inference_mode():
        both = [each.decoder(each.posterior(each.bands(x)).mean) for each in (one, one.plain())]
    torch.testing.assert_close(*both, atol=1e-6, rtol=0)
