"""Every network has the parameters of its publication, the same output in blocks of any size, and is causal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from effect_networks import CASES, lively, made, noise

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.network import NETWORKS, Network, Pairs, played
from tonemill.models.effect.networks.wavenet import PRESETS

# Sections 4.1, 5.1 and 5.3 of the notes that the networks were made from: parameters and receptive fields.
PUBLISHED: list[tuple[str, dict[str, Any], int, int, int | None]] = [
    ("wavenet", {"preset": "standard"}, 0, 13_801, 4093),
    ("wavenet", {"preset": "lite"}, 0, 6_553, 4093),
    ("wavenet", {"preset": "feather"}, 0, 3_025, 4093),
    ("wavenet", {"preset": "nano"}, 0, 841, 4093),
    ("wavenet", {"preset": "a2-full"}, 0, 12_145, 6347),
    ("wavenet", {"preset": "a2-lite"}, 0, 1_870, 6347),
    ("packed", {}, 0, 14_015, 6347),
    ("lstm", {"hidden_size": 24}, 0, 2_665, None),
    ("lstm", {"hidden_size": 16, "skip": True, "learned_state": False}, 0, 1_233, None),
    ("lstm", {"hidden_size": 32, "skip": True, "learned_state": False}, 0, 4_513, None),
    ("lstm", {"hidden_size": 40, "skip": True, "learned_state": False}, 0, 6_921, None),
    ("lstm", {"hidden_size": 64, "skip": True, "learned_state": False}, 0, 17_217, None),
    ("lstm", {"hidden_size": 96, "skip": True, "learned_state": False}, 0, 38_113, None),
    ("lstm", {"hidden_size": 32, "skip": True, "learned_state": False}, 2, 4_769, None),
    ("gru", {"hidden_size": 16}, 0, 929, None),
    ("gru", {"hidden_size": 32}, 0, 3_393, None),
    ("gru", {"hidden_size": 64}, 0, 12_929, None),
    ("tcn", {"blocks": 4, "growth": 10, "kernel_size": 5}, 2, 25_905, 4_445),
    ("tcn", {"blocks": 4, "growth": 10, "kernel_size": 13}, 2, 50_737, 13_333),
    ("tcn", {"blocks": 5, "growth": 10, "kernel_size": 5}, 2, 33_201, 44_445),
    ("tcn", {"blocks": 10, "growth": 2, "kernel_size": 15}, 2, 162_161, 14_323),
    ("tcn", {"blocks": 10, "growth": 2, "kernel_size": 15, "tcn_channels": 16}, 2, 47_345, 14_323),
    ("fir", {"taps": 8192}, 0, 8_192, 8192),
    ("autoregressive", {}, 0, 394_753, None),
]


def forward(net: Network, dry: np.ndarray, knobs: np.ndarray, wet: np.ndarray | None = None) -> np.ndarray:
    pair = (torch.from_numpy(one)[None] for one in (dry, knobs))
    with torch.inference_mode():
        return net(*pair, None if wet is None else torch.from_numpy(wet)[None])[0].numpy()


@pytest.mark.parametrize(("name", "settings", "knobs", "parameters", "receptive_field"), PUBLISHED)
def test_it_has_the_parameters_that_were_published(
    name: str, settings: dict[str, Any], knobs: int, parameters: int, receptive_field: int | None
) -> None:
    net = made(name, knobs, **settings)
    assert sum(one.numel() for one in net.parameters()) == parameters
    assert net.receptive_field == receptive_field


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_blocks_of_any_size_give_what_the_whole_file_gives(name: str, knobs: int) -> None:
    net, dry, positions = lively(name, knobs), noise(5000), np.array([0.3, -0.8], np.float32)[:knobs]
    whole = played(net.player(positions), dry, dry.size)
    assert whole.std() > 1e-3
    for size in (64, 256, 1000):
        assert np.abs(played(net.player(positions), dry, size) - whole).max() <= 1e-6
    first = np.concatenate([net.player(positions).push(dry[:1]), whole[1:2]])
    assert np.abs(first - whole[:2]).max() <= 1e-6
    expected = forward(net, dry, positions, whole if net.feeds_back else None)
    assert np.abs(expected - whole).max() < 2e-5 * max(1.0, float(np.abs(whole).max()))


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_the_output_is_causal(name: str, knobs: int) -> None:
    net, dry, positions = lively(name, knobs), noise(1500), np.zeros(knobs, np.float32)
    other = dry.copy()
    other[900:] = noise(600, 1)
    wet = noise(1500, 2) if net.feeds_back else None
    one, two = forward(net, dry, positions, wet), forward(net, other, positions, wet)
    assert np.abs(one[:900] - two[:900]).max() < 5e-6
    assert abs(float(one[900] - two[900])) > 1e-5, "the current sample is an input"


@pytest.mark.parametrize(
    ("name", "knobs"), [case for case in CASES if case[0] not in ("autoregressive", "compressor", "lstm", "gru")]
)
def test_the_receptive_field_is_as_declared(name: str, knobs: int) -> None:
    net, positions = lively(name, knobs), np.zeros(knobs, np.float32)
    assert net.receptive_field is not None
    dry = noise(net.receptive_field + 50)
    other = dry.copy()
    other[0] += 1
    changed = np.abs(forward(net, dry, positions) - forward(net, other, positions))
    assert changed[net.receptive_field :].max() < 5e-6
    assert changed[: net.receptive_field].max() > 1e-4


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_training_scores_what_is_played(name: str, knobs: int) -> None:
    """The output behind the warm-up of a clip is that of the file it was cut from, wherever memory is finite."""
    net = lively(name, knobs)
    if net.receptive_field is None:
        pytest.skip("its memory has no end")
    dry, positions = noise(net.warm_up + 700), np.full(knobs, 0.5, np.float32)
    with torch.inference_mode():
        clip = net.after_warm_up(torch.from_numpy(dry[200:])[None], torch.from_numpy(positions)[None])[0].numpy()
    assert clip.size == 500
    assert np.abs(clip - forward(net, dry, positions)[-500:]).max() < 1e-5


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_the_step_for_export_is_the_player(name: str, knobs: int) -> None:
    net, dry, positions = lively(name, knobs), noise(900), np.array([0.3, -0.8], np.float32)[:knobs]
    setting = torch.from_numpy(positions)[None]
    output, size = [], 1 if net.feeds_back else 300
    with torch.inference_mode():
        state = net.at_rest(setting)
        for start in range(0, dry.size, size):
            out, state = net.step(torch.from_numpy(dry[start : start + size])[None], setting, state)
            output.append(out[0].numpy())
    whole = played(net.player(positions), dry)
    assert np.abs(np.concatenate(output) - whole).max() < 2e-5 * max(1.0, float(np.abs(whole).max()))


@pytest.mark.parametrize("name", [name for name, knobs in CASES if knobs])
def test_a_knob_changes_the_output(name: str) -> None:
    net, dry = lively(name, 2), noise(800)
    one, two = (played(net.player(np.array([0.1, at], np.float32)), dry) for at in (-1, 1))
    assert np.abs(one - two).max() > 1e-4


@pytest.mark.parametrize("name", NETWORKS.names())
def test_silence_leads_to_the_same_wherever_it_ends(name: str) -> None:
    """A file is taken to be preceded by silence: more of it changes nothing."""
    net, dry = lively(name, 0), noise(400)
    if net.feeds_back:
        pytest.skip("it begins with a past of zeros, and its output on silence is not zero")
    later = played(net.player(np.zeros(0, np.float32)), np.concatenate([np.zeros(8000, np.float32), dry]))
    assert np.abs(later[8000:] - played(net.player(np.zeros(0, np.float32)), dry)).max() < 1e-5


def test_memory_does_not_grow_with_length() -> None:
    for name in NETWORKS.names():
        player = lively(name, 0).player(np.zeros(0, np.float32))
        arrays = [value for value in vars(player).values() if isinstance(value, np.ndarray)]
        before = sum(value.nbytes for value in arrays)
        player.push(noise(20_000))
        arrays = [value for value in vars(player).values() if isinstance(value, np.ndarray)]
        assert sum(value.nbytes for value in arrays) == before


def test_presets_are_all_in_the_table() -> None:
    assert {settings["preset"] for name, settings, *_ in PUBLISHED if name == "wavenet"} == set(PRESETS)


def test_a_response_is_found_by_least_squares_and_a_fir_has_no_knobs() -> None:
    net = made("fir", taps=400)
    response = (np.exp(-np.arange(400) / 60) * np.random.default_rng(3).standard_normal(400)).astype(np.float32)
    dry = noise(30_000)
    net.fit([(dry, np.convolve(dry, response)[: dry.size].astype(np.float32))])
    assert np.abs(net.response.detach().numpy() - response).max() < 1e-3
    with pytest.raises(UsageError, match="--no-conditioning"):
        made("fir", 1)


def test_powers_and_their_responses_are_found_by_least_squares() -> None:
    """A filter behind a cubic with an offset; 20 dB louder than what it learned from, it stays bounded."""
    net, dry = made("polynomial", order=3, taps=100), noise(30_000).clip(-0.5, 0.5)
    response = (np.exp(-np.arange(100) / 20) * np.random.default_rng(3).standard_normal(100)).astype(np.float32)
    wet = np.convolve(0.02 + dry + 0.5 * dry**2 - 0.3 * dry**3, response)[: dry.size].astype(np.float32)
    net.fit([(dry[:20_000], wet[:20_000])])
    output = played(net.player(np.zeros(0, np.float32)), dry)[20_000:]
    assert np.abs(output - wet[20_000:]).max() < 1e-2 * np.abs(wet).max()
    assert np.abs(played(net.player(np.zeros(0, np.float32)), 10 * dry)).max() < 20 * np.abs(wet).max()
    with pytest.raises(UsageError, match="--no-conditioning"):
        made("polynomial", 1)


def test_gradients_of_a_recurrent_network_are_cut_and_its_burn_in_is_not_learned_from() -> None:
    net = made("lstm", hidden_size=4, burn_in=100, truncate=50).train()
    pairs = Pairs(*(torch.from_numpy(noise(300, seed))[None] for seed in (0, 1)), torch.zeros(1, 0))
    stimulus = pairs.dry.clone().requires_grad_()
    net.after_warm_up(stimulus, pairs.knobs)[0, -1].backward()
    assert stimulus.grad is not None
    assert float(stimulus.grad[0, :250].abs().max()) == 0
    assert float(stimulus.grad[0, 250:].abs().max()) > 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tcn", {"kernel_size": 1}),
        ("tcn", {"blocks": 0}),
        ("fir", {"taps": 0}),
        ("lstm", {"hidden_size": 0}),
        ("gru", {"truncate": 0}),
        ("compressor", {"detectors": 0}),
    ],
)
def test_sizes_that_cannot_be_are_refused(name: str, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        NETWORKS.module(name).NETWORK.Config(**wrong)
