"""One small study for all tests of this folder: three systems, one of them real, 0.25 s loops at two rates."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill

from tonemill.pipelines.survey.study import Study, open_study

SYSTEMS = {"real": 16000, "zebragan": 16000, "quaggagan": 8000}
"""Names that no text of the page holds by chance."""


def write_loops(folder: Path, rate: int, count: int = 8, noise: float = 0.0, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    at = np.arange(rate // 4) / rate
    for number in range(count):
        tone = np.sin(2 * np.pi * (400 + 40 * number) * at) * np.exp(-6 * at) * 10 ** (-(6 + 3 * (number % 3)) / 20)
        soundfile.write(folder / f"loop{number}.wav", tone + noise * rng.standard_normal(len(at)), rate)


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("systems")
    for number, (name, rate) in enumerate(SYSTEMS.items()):
        write_loops(root / name, rate, noise=0.01 * number, seed=number)
    return {name: root / name for name in SYSTEMS}


Make = Callable[..., Study]


@pytest.fixture(scope="session")
def make_study(systems: dict[str, Path], tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make_study("--clips", 4)`: a study in a folder of its own."""

    def make(*words: object) -> Study:
        folder = tmp_path_factory.mktemp("studies") / "study"
        places = [f"{name}={place}" for name, place in systems.items()]
        tonemill("survey", "make", *places, "-o", folder, "-q", *words).done()
        return open_study(folder)

    return make


@pytest.fixture(scope="session")
def study(make_study: Make) -> Study:
    """Only to be read; what is collected for it goes elsewhere."""
    return make_study("--clips", 6, "--seed", 20231205)


def sound_of(study: Study, one: str) -> tuple[np.ndarray, int, bytes]:
    """Samples (time, channels), rate and bytes of a clip."""
    import base64

    text = (study.files.clips / f"{one}.js").read_text()
    assert text.startswith(f'clip("{one}", "') and text.endswith('");\n')
    flac = base64.b64decode(text.split('"')[3])
    samples, rate = soundfile.read(io.BytesIO(flac), always_2d=True)
    return samples, rate, flac
