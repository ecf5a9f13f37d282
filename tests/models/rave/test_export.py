"""Exported files: a host that calls as nn~ does, the sound of the run, and nothing that raises in a block."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Tonemill
from making import QUIET, shard_folder
from small_rave import TINY

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.portable import loaded_script, onnx_session, script_bytes
from tonemill.models.rave.export import FORMS, ExportOptions
from tonemill.models.rave.model import Rave
from tonemill.models.rave.settings import VARIANTS
from tonemill.pipelines.config import to_dict
from tonemill.pipelines.runs.directions import exports_of
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training.loop import train

RATIOS = {"v1": (4, 4, 4, 1)}


@cache
def model(name: str, channels: int = 1) -> Rave:
    """With axes, and each branch audible."""
    torch.manual_seed(0)
    one = Rave(VARIANTS[name](channels=channels, ratios=RATIOS.get(name, (2, 2, 2, 1)), **TINY)).eval()
    codec = one.codec
    codec.decoder.noise_share.fill_(1.0)
    codec.axes.basis.copy_(torch.linalg.qr(torch.randn(4, 4)).Q)
    codec.axes.mean.copy_(0.1 * torch.randn(4))
    codec.axes.fitted.fill_(1.0)
    return one


@cache
def exported(name: str, form: str = "nn-tilde", channels: int = 1) -> bytes:
    return model(name, channels).exported(form, ExportOptions(latents=3), {})


class Host:
    """Calls a module as nn~ does: whole blocks, one sample in `in_ratio` of each inlet, attributes by name."""

    def __init__(self, data: bytes) -> None:
        self.module = loaded_script(data)
        self.params = {name: getattr(self.module, f"{name}_params").tolist() for name in self.module.get_methods()}

    def block(self, name: str, sound: torch.Tensor) -> torch.Tensor:
        """(batch, inlets, samples) to (batch, outlets, samples), each frame of the output repeated."""
        channels, ratio, outlets, output_ratio = self.params[name]
        assert sound.shape[1] == channels
        given = sound.unflatten(2, (-1, ratio))[..., -1]
        with torch.inference_mode():
            found = getattr(self.module, name)(given)
        assert found.dtype == torch.float32
        assert found.shape == (len(sound), outlets, sound.shape[2] // output_ratio)
        return found.repeat_interleave(output_ratio, dim=2)


QUICK = (("v2", "nn-tilde"), ("v2", "onnx"))
CASES = [
    pytest.param(name, form, marks=() if (name, form) in QUICK else pytest.mark.slow)
    for name in VARIANTS
    for form in FORMS
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_file_gives_the_sound_of_the_run(name: str, form: str) -> None:
    assert model(name).export_error_db(form, None, exported(name, form)) < -90


@pytest.mark.slow
def test_a_file_of_another_run_is_noticed() -> None:
    with torch.no_grad():
        loaded = loaded_script(exported("v2"))
        for parameter in loaded.parameters():
            parameter.mul_(1.01)
    assert model("v2").export_error_db("nn-tilde", None, script_bytes(loaded)) > -60


@pytest.mark.parametrize(
    ("name", "channels"),
    [("v2", 1), pytest.param("v1", 2, marks=pytest.mark.slow), pytest.param("live", 1, marks=pytest.mark.slow)],
)
def test_a_host_registers_every_method(name: str, channels: int) -> None:
    host, hop = Host(exported(name, channels=channels)), model(name).codec.hop_length
    assert host.params == {
        "encode": [channels, 1, 3, hop],
        "decode": [3, hop, channels, 1],
        "forward": [channels, 1, channels, 1],
    }
    for method, (inlets, _, outlets, _) in host.params.items():
        for batch in (1, 4):
            assert torch.isfinite(host.block(method, torch.zeros(batch, inlets, 8192))).all()
        for which, count in (("input", inlets), ("output", outlets)):
            labels = getattr(host.module, f"{method}_{which}_labels")
            assert len(set(labels)) == count
    assert host.module.sr == 16000


@pytest.mark.slow
def test_attributes_are_lists_and_reset_begins_again() -> None:
    host, one = Host(exported("v2")), model("v2")
    for name, kind in (("reset", 0), ("latency", 1)):
        assert name in host.module.get_attributes()
        assert getattr(host.module, f"{name}_params").tolist() == [kind]
        assert isinstance(getattr(host.module, f"get_{name}")(), tuple | list)
    assert list(host.module.get_latency()) == [one.codec.latency.total]
    assert host.module.set_latency(7) == 0 and list(host.module.get_latency()) == [one.codec.latency.total]
    sound = torch.randn(1, 1, 16384, generator=torch.Generator().manual_seed(1))
    first, second = host.block("forward", sound), host.block("forward", sound)
    assert host.module.set_reset(True) == 0
    torch.testing.assert_close(host.block("forward", sound), first, atol=1e-6, rtol=0)
    assert float((first - second).abs().max()) > 1e-4


@pytest.mark.slow
def test_encode_and_decode_patched_together_are_forward() -> None:
    """Of a causal run, whose latents are not late."""
    host = Host(exported("live"))
    sound = 0.1 * torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(2))
    blocks = sound.split(2048, dim=2)
    patched = torch.cat([host.block("decode", host.block("encode", block)) for block in blocks], dim=2)
    torch.testing.assert_close(patched, torch.cat([host.block("forward", block) for block in blocks], dim=2))


@pytest.mark.parametrize("name", ["v2", pytest.param("live", marks=pytest.mark.slow)])
def test_nothing_that_a_host_does_raises_or_stays(name: str) -> None:
    """Wrong rows, lengths and batches, and numbers that are not finite; and clean input sounds again afterwards."""
    host, one = Host(exported(name)), model(name)
    hop = one.codec.hop_length
    with torch.inference_mode():
        for batch, rows, samples in (
            (1, 0, hop),
            (1, 5, hop),
            (3, 1, hop + 1),
            (1, 1, hop - 1),
            (2, 1, 0),
            (0, 1, hop),
        ):
            assert host.module.forward(torch.ones(batch, rows, samples)).shape == (batch, 1, samples)
            assert host.module.encode(torch.ones(batch, rows, samples)).shape == (batch, 3, samples // hop)
            frames = samples // hop
            assert host.module.decode(torch.ones(batch, rows, frames)).shape == (batch, 1, frames * hop)
        for bad in (float("nan"), float("inf"), -float("inf")):
            for method, rows, columns in (("forward", 1, hop), ("encode", 1, hop), ("decode", 3, 2)):
                assert torch.isfinite(getattr(host.module, method)(torch.full((1, rows, columns), bad))).all()
        host.module.set_reset(True)
        assert torch.isfinite(host.module.forward(torch.ones(1, 1, 4 * hop))).all()


def test_weights_are_stored_once() -> None:
    """Although the decoder stands in the file twice, for latents that are late and for those that are not."""
    one = model("v2")
    numbers = sum(tensor.numel() for tensor in one.codec.plain().state_dict().values())
    host = Host(exported("v2"))
    numbers += sum(
        getattr(host.module, f"{name}_{what}").numel() for name in ("encode", "decode") for what in ("rest", "state")
    )
    with zipfile.ZipFile(io.BytesIO(exported("v2"))) as file:
        stored = sum(
            info.file_size for info in file.infolist() if "/data/" in info.filename or "/constants/" in info.filename
        )
    assert stored < 1.6 * 4 * numbers


@pytest.mark.slow
def test_an_onnx_file_states_its_facts_and_begins_at_rest_where_no_state_is_given() -> None:
    session, one = onnx_session(exported("v1", "onnx")), model("v1")
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["latency"] == str(one.codec.latency.total) and facts["latents"] == "3"
    assert (facts["sample_rate"], facts["block"]) == ("16000", str(one.codec.hop_length))
    sound = (0.1 * np.random.default_rng(3).standard_normal((1, 1, 8 * one.codec.hop_length))).astype(np.float32)
    whole, _ = session.run(None, {"audio": sound})
    half = sound.shape[2] // 2
    first, state = session.run(None, {"audio": sound[..., :half]})
    second, _ = session.run(None, {"audio": sound[..., half:], "state": state})
    np.testing.assert_allclose(np.concatenate([first, second], axis=2), whole, atol=1e-5)


@pytest.mark.parametrize("recorded", [{}, {"onnx": {"help": "For programs.", "options": []}}])
def test_a_run_from_before_there_were_exports_has_their_options(recorded: dict[str, Any]) -> None:
    """Its run.json records none, or fewer: a run of an earlier version takes every option of today."""
    about = {"model": "rave", "model_config": to_dict(model("v2").config), "exports": recorded}
    found = exports_of(Run(Path("run"), about))
    assert {name: one.options for name, one in found.items()} == {name: one.options for name, one in FORMS.items()}


@pytest.mark.slow
def test_frames_that_fit_no_block_of_a_host_are_refused_with_the_mend() -> None:
    torch.manual_seed(0)
    one = Rave(VARIANTS["v2"](channels=1, **{**TINY, "ratios": (3, 2, 1, 1), "length": 9600})).eval()
    with pytest.raises(UsageError, match="--format onnx"):
        one.exported("nn-tilde", ExportOptions(), {})
    data = one.exported("onnx", ExportOptions(), {})
    assert one.export_error_db("onnx", None, data) < -90


@pytest.mark.slow
def test_the_command_exports_a_run_in_both_forms(tonemill: Tonemill, tmp_path: Path) -> None:
    """A trained run, through `tonemill export`: what a host plays of one file, ONNX Runtime gives of the other."""
    (tmp_path / "raw").mkdir()
    sound = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / "raw/noise_1.wav", sound, 16000)
    corpus = shard_folder(tmp_path / "raw", tmp_path / "corpus", pattern="{kind}_{take}", steps=(), valid=0.0)
    few = {name: value for name, value in TINY.items() if name != "sample_rate"}
    config = VARIANTS["live"](**few, fine_tune_after=2)
    settings = TrainConfig(steps=3, batch_size=1, device="cpu", listen_every=100, checkpoint_every=100, listen_clips=1)
    run = train("rave", config, settings, corpus, tmp_path / "run", QUIET).run.folder
    for form, name in (("nn-tilde", "voice.ts"), ("onnx", "voice.onnx")):
        tonemill("export", run, "-o", tmp_path / name, "--format", form, "--latents", 2).done()
    host = Host((tmp_path / "voice.ts").read_bytes())
    assert host.params["encode"] == [1, 1, 2, 128]
    audio = torch.from_numpy(sound[:8192].astype(np.float32))[None, None]
    played = torch.cat([host.block("forward", block) for block in audio.split(2048, dim=2)], dim=2).numpy()
    session = onnx_session((tmp_path / "voice.onnx").read_bytes())
    rendered, _ = session.run(None, {"audio": audio.numpy()})
    latency = int(session.get_modelmeta().custom_metadata_map["latency"])
    assert list(host.module.get_latency()) == [latency]
    error, level = (np.square(one[..., latency:]).mean() for one in (played - rendered, rendered))
    assert 10 * np.log10(error / level) < -90
    more = ("-o", tmp_path / "more.ts", "--format", "nn-tilde", "--latents", 9)
    tonemill("export", run, *more).refused(2, "this run has 4")
