"""Exported files: .nam files load back bit-equal; ONNX and TorchScript give the player's output."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from effect_networks import CASES, SMALL, lively, made, noise

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.export import forms, graph, nam
from tonemill.models.effect.export.loudness import INPUT_DB, measured
from tonemill.models.effect.network import Network, played

NAM: list[Any] = [
    pytest.param("wavenet", {"preset": "standard"}, 13_802, marks=pytest.mark.slow),
    ("wavenet", {"preset": "nano"}, 842),
    ("wavenet", {"preset": "a2-lite"}, 1_871),
    ("lstm", {"hidden_size": 3}, 70),
    ("lstm", {"hidden_size": 8, "layers": 2}, 905),
    ("fir", {"taps": 300}, 300),
]
"""The network, its settings, and how many numbers a file of it holds (the notes' section 4.4)."""


def stirred(name: str, settings: dict[str, Any]) -> Network:
    """With weights such as training leaves: none is a round number."""
    net = made(name, **settings)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def player_output(net: Network, dry: np.ndarray) -> np.ndarray:
    return played(net.player(np.zeros(0, np.float32)), dry)


@pytest.mark.parametrize(("name", "settings", "numbers"), NAM)
def test_a_nam_file_loads_back_bit_equal_and_gives_the_same(name: str, settings: dict[str, Any], numbers: int) -> None:
    net, dry = stirred(name, settings), noise(6000)
    data = nam.written(net, 44_100, {"name": "test"})
    content = json.loads(data)
    assert len(content["weights"]) == numbers
    again = nam.read(data)
    assert again.sample_rate == 44_100
    assert {key: value for key, value in again.metadata.items() if key not in ("loudness", "gain")} == {"name": "test"}
    assert json.loads(nam.written(again.network, 44_100, {}))["weights"] == content["weights"]
    assert np.abs(player_output(again.network, dry) - player_output(net, dry)).max() < 1e-5


def test_the_order_of_weights_in_a_nam_file_is_the_published_one() -> None:
    """Read the list by hand, without the reader, and run the network that it describes."""
    net, dry = stirred("wavenet", {"preset": "nano"}), noise(5000)
    content = json.loads(nam.written(net, 48_000, {}))
    numbers = iter(content["weights"])

    def take(*shape: int) -> np.ndarray:
        return np.array([next(numbers) for _ in range(int(np.prod(shape)))]).reshape(shape)

    def convolved(x: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
        taps = weight.shape[2]
        padded = np.pad(x, ((0, 0), ((taps - 1) * dilation, 0)))
        parts = (weight[:, :, k] @ padded[:, k * dilation : k * dilation + x.shape[1]] for k in range(taps))
        return np.sum(list(parts), axis=0)

    stimulus = np.concatenate([np.zeros(4092), dry])[None]
    x, head = stimulus, None
    for layer in content["config"]["layers"]:
        channels, kernel, outputs = layer["channels"], layer["kernel_size"], layer["head_size"]
        h = take(channels, layer["input_size"]) @ x
        for dilation in layer["dilations"]:
            z = convolved(h, take(channels, channels, kernel), dilation) + take(channels, 1)
            z = z + take(channels, 1) @ stimulus
            a = np.tanh(z)
            head = a if head is None else head + a
            h = h + take(channels, channels) @ a + take(channels, 1)
        head = take(outputs, channels) @ head
        if layer["head_bias"]:
            head = head + take(outputs, 1)
        x = h
    assert head is not None
    output = next(numbers) * head[0, 4092:]
    assert next(numbers, None) is None
    assert np.abs(output - player_output(net, dry)).max() < 1e-5


@pytest.mark.parametrize(
    ("effect", "loudness", "gain"),
    [
        (lambda dry: dry, INPUT_DB, 0.0),
        (lambda dry: -0.5 * dry, INPUT_DB - 6.02, 0.0),
        (lambda dry: 0.1 * np.sign(dry), -20.0, 1.0),
        # |x|^(1/2) has half the range in dB.
        (lambda dry: np.sign(dry) * np.sqrt(np.abs(dry)), None, 0.5),
    ],
)
def test_loudness_and_gain_are_those_of_closed_forms(effect: Any, loudness: float | None, gain: float) -> None:
    found = measured(effect, 48_000)
    assert found.gain == pytest.approx(gain, abs=1e-3)
    assert loudness is None or found.loudness == pytest.approx(loudness, abs=0.01)


def test_players_find_loudness_gain_and_strict_json_in_a_nam_file() -> None:
    net = made("fir", taps=4)
    with torch.no_grad():
        net.response.copy_(torch.tensor([0.5, 0, 0, 0]))
    data = nam.written(net, 48_000, {"training": {"esr": math.nan}, "gain": 0.9})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metadata = json.loads(data, parse_constant=refuse)["metadata"]
    assert metadata["training"] == {"esr": None}
    assert metadata["loudness"] == pytest.approx(INPUT_DB - 6.02, abs=0.01)
    assert metadata["gain"] == pytest.approx(0, abs=1e-3)
    with torch.no_grad():
        net.response[0] = math.nan
    with pytest.raises(UsageError, match="not finite"):
        nam.written(net, 48_000, {})


@pytest.mark.parametrize("name", ["autoregressive", "tcn", "gru", "chain"])
def test_what_a_nam_file_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--format onnx"):
        nam.written(lively(name, 0), 44_100, {})
    for other, knobs, settings in (("wavenet", 1, {}), ("lstm", 0, {"skip": True})):
        with pytest.raises(UsageError, match="--format onnx"):
            nam.written(made(other, knobs, **settings), 44_100, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": [1.0] * 300}, "it holds 300 weights"),
        ({"weights": "none"}, "as a .nam file"),
        ({"weights": [None] * 842}, "as a .nam file"),
        ({"architecture": "ConvNet"}, "ConvNet"),
        ({"config": {}}, "it has no field 'layers'"),
        ({"config": None}, "the form of one of its fields is not known here"),
        ({"sample_rate": "fast"}, "as a .nam file"),
    ],
)
def test_a_nam_file_that_is_wrong_is_refused(change: dict[str, Any], words: str) -> None:
    content = json.loads(nam.written(made("wavenet", preset="nano"), 44_100, {}))
    with pytest.raises(UsageError, match=words):
        nam.read(json.dumps({**content, **change}).encode())
    pages = dict.fromkeys(
        (b"", b"\xff\xfe", b"<html>", b"PK\x03\x04\x9c"), "it is no JSON in UTF-8. It was cut, or is a page"
    )
    for data, fault in {**pages, b"[]": "its JSON has no fields", b"3": "its JSON has no fields"}.items():
        with pytest.raises(UsageError, match=rf"as a \.nam file: {fault}"):
            nam.read(data)


@pytest.mark.parametrize("change", [{"metadata": None}, {"metadata": ["x"]}, {"metadata": "x"}, {"sample_rate": -1}])
def test_players_null_and_unknown_are_none(change: dict[str, Any]) -> None:
    """Other programs write null for no metadata, and -1 for a rate that they do not know."""
    content = json.loads(nam.written(made("fir", taps=9), nam.UNSTATED_RATE, {"name": "x"}))
    data = json.dumps({**content, **change}).encode()
    amp = nam.read(data)
    assert amp.sample_rate == nam.UNSTATED_RATE
    assert dict(amp.metadata) == ({} if "metadata" in change else content["metadata"])
    assert ("name" in nam.stated(amp.metadata)) == ("metadata" not in change)
    assert nam.stated({"name": [1], "gear_make": None, "loudness": math.inf, "tone_type": " "}) == {}
    assert json.loads(forms.converted(data, "nam", forms.NamOptions(name="y")))["metadata"]["name"] == "y"


def parts_of(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a file is; of a list its first."""
    inside = content.items() if isinstance(content, dict) else enumerate(content[:1]) if content else ()
    for key, value in inside:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from parts_of(value, (*place, key))


WRONG: list[Any] = [None, -1, 0, 1.5, 10**12, 10**400, math.inf, math.nan, "x", "", [], {}, [1, 2], {"type": 1}]


@pytest.mark.parametrize("name", ["wavenet", "packed", "lstm", "fir"])
def test_a_nam_file_with_one_wrong_value_is_refused_in_words_or_plays(name: str) -> None:
    """Sizes that no memory holds too, before any memory is taken."""
    whole = nam.written(made(name, **SMALL[name] if name != "wavenet" else {"preset": "nano"}), 48_000, {})
    changes = list(product((one for one in parts_of(json.loads(whole)) if "metadata" not in one), WRONG))
    refused = 0
    for place, wrong in random.Random(0).sample(changes, min(len(changes), 80)):
        content = json.loads(whole)
        holder = content
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = wrong
        try:
            again = nam.read(json.dumps(content).encode())
        except UsageError:
            refused += 1
        else:
            assert 1 <= again.sample_rate <= nam.MOST_RATE
            assert np.isfinite(played(again.network.player(np.zeros(0, np.float32)), noise(10))).all()
    assert refused > 30


def test_an_lstm_of_a_nam_file_becomes_onnx_and_torchscript() -> None:
    """Its state at rest is a part of the file, and so a parameter here."""
    pytest.importorskip("onnxruntime")
    net = stirred("lstm", {"hidden_size": 3})
    data = nam.written(net, 48_000, {})
    for form, export in forms.FORMS.items():
        written = forms.converted(data, form, export.options())
        assert forms.error_db(nam.read(data).network, 0, 48_000, form, written) < -90


SOME = {("wavenet", 0), ("lstm", 2), ("autoregressive", 0), ("autoregressive", 2)}
ALL = [case if case in SOME else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]


def blocks(name: str, dry: np.ndarray, knobs: int) -> list[np.ndarray]:
    """One sample at a time for a network that feeds back, and uneven blocks for others.

    The state that stands in a file is at rest with all knobs in the middle; silence brings it to where they stand.
    """
    silence = [np.zeros(6500, np.float32)] if knobs else []
    return [*dry[:50, None]] if name == "autoregressive" else [*silence, *np.split(dry, [64, 65, 600])]


@pytest.mark.parametrize(("name", "knobs"), ALL)
def test_onnx_gives_what_the_player_gives(name: str, knobs: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    net, dry, positions = lively(name, knobs), noise(900), np.array([0.3, -0.8], np.float32)[:knobs]
    data = graph.onnx_bytes(net, knobs, 44_100)
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["sample_rate"] == "44100"
    output, state = [], {}
    for block in blocks(name, dry, knobs):
        setting = {"knobs": positions[None]} if knobs else {}
        wet, after = session.run(["wet", "state_after"], {"dry": block[None], **setting, **state})
        state = {"state": after}
        output.append(wet[0])
    whole = np.concatenate(output)[-dry.size :]
    played_here = played(net.player(positions), dry)[: whole.size]
    assert np.abs(whole - played_here).max() < 2e-5 * max(1.0, float(np.abs(played_here).max()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("name", "knobs"), ALL)
def test_torchscript_gives_what_the_player_gives(name: str, knobs: int) -> None:
    net, dry, positions = lively(name, knobs), noise(900), np.array([0.3, -0.8], np.float32)[:knobs]
    loaded = torch.jit.load(io.BytesIO(graph.torchscript_bytes(net, knobs)))
    output, state = [], loaded.rest
    with torch.inference_mode():
        for block in blocks(name, dry, knobs):
            setting = (torch.from_numpy(positions)[None],) if knobs else ()
            wet, state = loaded(torch.from_numpy(block)[None], *setting, state)
            output.append(wet[0].numpy())
    whole = np.concatenate(output)[-dry.size :]
    played_here = played(net.player(positions), dry)[: whole.size]
    assert np.abs(whole - played_here).max() < 2e-5 * max(1.0, float(np.abs(played_here).max()))
