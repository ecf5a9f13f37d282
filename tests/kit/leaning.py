"""A small model of another package that leans on a run: it renders the run's clips at a level that it learns."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

LEANING = '''"""Clips of another run, at another level."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Model


@dataclass(frozen=True)
class LeaningConfig:
    voice: Annotated[str | None, "A run that renders from seeds."] = None
    length: Annotated[int, "Samples of a clip; default: the voice's."] = 0
    sample_rate: Annotated[int, "Of the corpus."] = 0
    channels: Annotated[int, "Of the corpus."] = 1


class Leaning(Model):
    Config = LeaningConfig
    uses = {"voice": "render"}

    def __init__(self, config, parents):
        super().__init__(parents)
        self.config = config
        self.level = torch.nn.Parameter(torch.ones(()))

    @classmethod
    def settle(cls, config, corpus):
        if "voice" not in corpus.parents:
            raise CorpusError("leaning needs --voice RUN.")
        voice = corpus.parents["voice"]
        length = voice.directions["render"].samples
        return replace(config, length=length, sample_rate=voice.sample_rate, channels=voice.channels)

    @property
    def length(self):
        return self.config.length

    def optimizers(self):
        return {"level": torch.optim.SGD(self.parameters(), lr=0.1)}

    def training_step(self, batch, step, update):
        loss = (self.level - batch.audio["audio"].std()).square()
        update("level", loss)
        return {"loss": loss.detach()}

    def inputs(self, request):
        return self.parents["voice"].inputs(replace(request, direction="", options=None))

    def render(self, inputs: Mapping[str, torch.Tensor], direction: str, options: Any):
        return self.level * self.parents["voice"].render(inputs, "render", None)


MODEL = Leaning
'''


def install(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package with the model `leaning` on the path, as if it were installed."""
    package = site / "leaning_package"
    package.mkdir(parents=True)
    (package / "leaning.py").write_text(LEANING)
    about = site / "leaning_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leaning-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tonemill.models]\nleaning = leaning_package.leaning\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
