"""A step or a model of another package is one file and one entry point, and completes like our own."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest
import soundfile
from conftest import Tonemill, write_wav

from tonemill.audiotools.errors import UsageError
from tonemill.models.plugins import Plugins
from tonemill.pipelines.recipes.step import STEPS

INVERT = '''"""Turn the polarity of audio round."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tonemill.pipelines.recipes.step import Step


@dataclass(frozen=True)
class Invert(Step):
    gain: Annotated[float, "Factor beside the sign."] = 1.0

    def apply(self, example) -> Iterator:
        from tonemill.audiotools.waveform import Waveform

        whole = {role: sound.whole() for role, sound in example.sounds.items()}
        yield example.with_sounds({r: Waveform(-self.gain * w.samples, w.sample_rate) for r, w in whole.items()})


STEP = Invert
'''


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one step."""
    package = tmp_path / "site" / "invert_package"
    package.mkdir(parents=True)
    (package / "invert.py").write_text(INVERT)
    about = tmp_path / "site" / "invert_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: invert-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tonemill.steps]\ninvert = invert_package.invert\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return tmp_path


def test_a_foreign_step_is_a_stage_like_any_other(foreign: Path, tonemill: Tonemill) -> None:
    assert "invert" in STEPS.names()
    assert STEPS.summary("invert") == "Turn the polarity of audio round."
    assert "Factor beside the sign" in tonemill("invert", "--help").done().out.decode()
    wav = write_wav(foreign / "a.wav")
    stream = tonemill("invert", "--gain", 0.5, stdin=tonemill("scan", wav).out).done().out
    assert b'{"step":"invert","version":1,"gain":0.5}' in stream
    tonemill("write", foreign / "out", stdin=stream).done()
    before, after = soundfile.read(wav)[0], soundfile.read(foreign / "out" / "a.wav")[0]
    assert abs(after + 0.5 * before).max() <= 2**-15


def test_an_unknown_step_is_reported_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no step named 'reverb'\. There are: .*resample"):
        STEPS.module("reverb")


def test_an_entry_point_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("mine", "some.other", "tonemill.steps")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    plugins = Plugins("step", "tonemill.pipelines.steps", STEPS.folder, "tonemill.steps")
    with pytest.raises(UsageError, match="must also be 'mine'"):
        plugins.module("mine")


@pytest.mark.parametrize(("words", "expected"), [("tonemill re", "resample"), ("tonemill train wav", "wavegan")])
def test_the_shell_completes_names(words: str, expected: str, environment: dict[str, str]) -> None:
    given = {
        **environment,
        "_TONEMILL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    ended = subprocess.run(["tonemill"], env=given, capture_output=True, text=True, timeout=30)
    assert expected in ended.stdout.split()
