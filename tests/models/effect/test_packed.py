"""Packed networks: members learn as they would alone, one of a size plays, and containers in .nam files hold all."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from effect_networks import made, noise

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import Bounds
from tonemill.models.effect.export import nam
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.model import Effect
from tonemill.models.effect.network import Network, Pairs, played
from tonemill.models.effect.networks.packed import Packed, PackedConfig
from tonemill.models.effect.networks.wavenet import WaveNet, WaveNetConfig
from tonemill.models.effect.settings import config_of_network
from tonemill.models.exchange import Request

NOTHING = np.zeros(0, np.float32)


def stirred(net: Network) -> Network:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def container(*models: tuple[float, Network], rate: int | None = 48_000) -> dict[str, Any]:
    inner = [{"max_value": size, "model": json.loads(nam.written(one, 44_100, {"name": "in"}))} for size, one in models]
    config = {"submodels": inner}
    return {"version": "0.7.0", "architecture": "SlimmableContainer", "config": config, "weights": []} | (
        {"sample_rate": rate} if rate else {}
    )


def sized(*sizes: float) -> dict[str, Any]:
    return {"config": container(*((size, made("fir", taps=9)) for size in sizes))["config"]}


def test_each_member_gets_the_gradients_that_it_gets_alone() -> None:
    packed = stirred(made("packed"))
    assert isinstance(packed, Packed)
    assert [sum(one.numel() for one in part.parameters()) for part in packed.parts] == [1_870, 12_145]
    clips = torch.from_numpy(np.stack([noise(packed.warm_up + 512, seed) for seed in range(2)]))
    pairs = Pairs(clips, torch.tanh(4 * clips), torch.zeros(2, 0))
    loss = BlockLoss(config_of_network("packed")())
    assert loss.config.stft_weight == 5e-4
    losses = packed.training_step(pairs, 1, loss, lambda _, total: total.backward())
    # The 1x1 of the last layer leads nowhere.
    learned = [[one for one in part.parameters() if one.grad is not None] for part in packed.parts]
    together = [[one.grad.clone() for one in part] for part in learned]
    packed.zero_grad()
    for number, part in enumerate(packed.parts):
        loss(part.after_warm_up(pairs.dry, pairs.knobs), pairs.wet[:, part.warm_up :]).backward()
        for one, grad in zip(learned[number], together[number], strict=True):
            assert torch.allclose(one.grad, grad, rtol=1e-4, atol=1e-8)
    assert float(losses["loss"]) == pytest.approx(float(losses["loss_0.5"] + losses["loss_1"]))


def test_a_container_holds_every_member_and_a_size_chooses_one() -> None:
    packed, dry = stirred(made("packed", members=(2, 3))), noise(1500)
    content = json.loads(nam.written(packed, 48_000, {"name": "two"}))
    assert (content["version"], content["architecture"], content["weights"]) == ("0.7.0", "SlimmableContainer", [])
    assert [one["max_value"] for one in content["config"]["submodels"]] == [0.5, 1.0]
    assert {one["model"]["version"] for one in content["config"]["submodels"]} == {"0.7.0"}
    model = Effect.loaded(json.dumps(content).encode())
    assert (model.sample_rate, model.channels, model.network.config.members) == (48_000, 1, (2, 3))
    small, large = (played(part.player(NOTHING), dry) for part in packed.members.values())
    assert np.abs(small - large).max() > 1e-3
    direction = model.directions(model.config)["render"]
    for size, expected in ((None, large), (0.0, small), (0.5, small), (0.51, large), (1.0, large)):
        request = Request(0, {}, {}, options=direction.options(size=size))
        assert np.abs(model.player(request, 1).push(dry[None])[0] - expected).max() < 1e-6
        # One member alone is a plain file.
        alone = model.exported("nam", model.exports(None)["nam"].options(size=1.0 if size is None else size), METADATA)
        again = nam.read(alone).network
        assert isinstance(again, WaveNet)
        assert np.abs(played(again.player(NOTHING), dry) - expected).max() < 1e-6
    with pytest.raises(UsageError, match=r"--size is 0\.5, but this network has only one size"):
        made("fir").member(0.5)
    with pytest.raises(UsageError, match=r"--size is 1\.5"):
        Bounds(0, 1).check("--size", 1.5)


METADATA = {"name": "two", "steps": 3, "score": 0.1}


def test_containers_of_other_programs_are_read_whatever_their_members_are() -> None:
    lstm, net, dry = stirred(made("lstm", hidden_size=3)), stirred(made("wavenet", preset="nano")), noise(600)
    content = container((1.0, net), (0.3, lstm), rate=None)
    for one in content["config"]["submodels"]:
        del one["model"]["version"]
    amp = nam.read(json.dumps(content).encode())
    assert (amp.sample_rate, amp.metadata["name"], list(amp.network.members)) == (44_100, "in", [0.3, 1.0])
    for size, one in ((0.3, lstm), (1.0, net)):
        again = played(amp.network.member(size).player(NOTHING), dry)
        assert np.abs(again - played(one.player(NOTHING), dry)).max() < 1e-5
    model = Effect.loaded(json.dumps(content).encode())
    assert "LSTM" in model.about()["network up to size 0.3"]
    assert model.about()["flags of train effect"].startswith("no settings make")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"submodels": []}}, "a container of models and holds none"),
        ({"config": {}}, "as a .nam file"),
        ({"config": {"submodels": [{"max_value": 1.0}]}}, "as a .nam file"),
        ({"config": {"submodels": [{"max_value": "most", "model": {}}]}}, "as a .nam file"),
        (sized(0.5, 0.5), r"sizes of its models \(max_value\) are not distinct: 0\.5"),
        (sized(math.nan, 1.0), "not distinct: nan"),
        ({"sample_rate": 48_000}, r"several sample rates: \[44100, 48000\]"),
    ],
)
def test_a_container_that_is_wrong_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        nam.read(json.dumps({**container((1.0, made("fir", taps=9)), rate=None), **change}).encode())


def test_a_container_within_one_plays_its_largest() -> None:
    (small, middle, large), dry = (stirred(made("fir", taps=taps)) for taps in (5, 9, 12)), noise(100)
    content = container((0.5, large), (1.0, large), rate=None)
    content["config"]["submodels"][0]["model"] = container((0.4, small), (1.0, middle), rate=None)
    members = nam.read(json.dumps(content).encode()).network.members
    for size, one in ((0.5, middle), (1.0, large)):
        expected = played(one.player(NOTHING), dry)
        np.testing.assert_allclose(played(members[size].player(NOTHING), dry), expected, atol=1e-6)


@pytest.mark.parametrize("version", ["0.5.0", "0.5.1", "0.5.4", "0.6.1", "0.7.0", None])
def test_every_version_since_0_5_0_is_read(version: str | None) -> None:
    content = json.loads(nam.written(made("fir", taps=9), 48_000, {}))
    assert nam.read(json.dumps({**content, "version": version}).encode()).sample_rate == 48_000


@pytest.mark.parametrize("version", ["0.4.9", "0.8.0", "1.0", "new", 7])
def test_an_unknown_version_is_refused_by_name(version: Any) -> None:
    content = json.loads(nam.written(made("fir", taps=9), 48_000, {}))
    with pytest.raises(UsageError, match=rf"of version {version}, and 0\.5\.0 to 0\.7 can be read"):
        nam.read(json.dumps({**content, "version": version}).encode())


def test_members_ascend() -> None:
    for members in ((), (8, 3), (3, 3), (0, 4)):
        with pytest.raises(UsageError, match="--members"):
            PackedConfig(members=members)
    assert config_of_network("packed")().members == (3, 8)
    assert WaveNetConfig().preset == "standard"
