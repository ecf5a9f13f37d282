"""How well a model does while it trains: clips and their distance to real ones, and what it does with held-out ones."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.mel import mel_distance, mel_spread
from tonemill.audiotools.pictures.effects import save_curve_picture
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request, Validation
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.rendering.render import render
from tonemill.pipelines.runs.checkpoints import State, rendering_weights
from tonemill.pipelines.runs.metric_log import Metrics
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.storage import commit
from tonemill.pipelines.training.loader import Batches, examples_of

REFERENCE_CLIPS = 64
"""Real clips that rendered ones are held against."""


class Listener:
    """Renders the same seeds, or tries the same held-out examples, again and again.

    Args:
        folder: of the run.
        corpus: where real clips come from; held-out ones, if it has any.
        settings: how many clips.
        model: to listen to.
        metrics: where distances are written.
    """

    def __init__(self, folder: Path, corpus: Corpus, settings: TrainConfig, model: Model, metrics: Metrics) -> None:
        self._folder = folder / "clips"
        self._settings = settings
        self._metrics = metrics
        self._corpus = corpus
        self._split = "valid" if "valid" in corpus.about["splits"] else settings.split
        # A model that learns from arrays alone has no sound to be compared with.
        self._compares = model.renders_from == "seeds" and bool(model.roles)
        if self._compares:
            self._remember_real(model)

    def listen(self, state: State, device: torch.device) -> float | None:
        """Leave clips, pictures and figures; returns a score, the smaller the better, if all of it is finite."""
        model = state.model
        with _averaged(state):
            model.eval()
            if self._compares:
                return self._compare(model, state.step, device)
            with torch.inference_mode():
                held_out = examples_of(self._corpus, self._split, model.roles, model.arrays)
                return self._enter(model.validate(held_out), state.step)

    def _remember_real(self, model: Model) -> None:
        examples = min(REFERENCE_CLIPS, self._corpus.about["splits"].get(self._split, {}).get("examples", 1))
        reference = Batches(self._corpus, self._split, model.roles, model.length, examples, self._settings.seed).batch(
            0
        )
        self._real = [clip.numpy() for clip in reference.audio[model.roles[0]]]
        self._fields = [
            dict(zip(reference.fields, values, strict=True)) for values in zip(*reference.fields.values(), strict=True)
        ]
        if not (self._folder / "real").exists():
            self._leave("real", self._real[: self._settings.listen_clips], model.sample_rate)

    def _compare(self, model: Model, step: int, device: torch.device) -> float | None:
        """Render from seeds, and measure the distance to real clips in dB."""
        requests = [
            Request(seed, self._fields[seed % len(self._fields)] if self._fields else {}, {})
            for seed in range(max(self._settings.listen_clips, REFERENCE_CLIPS // 2))
        ]
        batch_size = min(len(requests), self._settings.batch_size)
        clips = [one.samples for one in render(model, requests, batch_size, device)]
        if not all(np.isfinite(clip).all() for clip in clips):
            return None
        distance = mel_distance(clips, self._real, model.sample_rate)
        spread = mel_spread(clips, model.sample_rate)
        self._metrics.add(step, {"mel_distance_db": float(distance), "mel_spread_db": float(spread)})
        self._leave(f"{step:08d}", clips[: self._settings.listen_clips], model.sample_rate)
        return float(distance)

    def _enter(self, found: Validation | None, step: int) -> float | None:
        """Write down what a model found on held-out examples."""
        if found is None:
            return None
        self._metrics.add(step, {"validated_on": self._split, **found.values})
        with commit.pending(self._folder / f"{step:08d}" / "training.png") as file:
            picture = io.BytesIO()
            save_curve_picture(picture, self._metrics.lines(), ["loss", *list(found.values)[:3]])
            file.write(picture.getvalue())
        for name, content in found.files.items():
            with commit.pending(self._folder / f"{step:08d}" / name) as file:
                file.write(content)
        return found.score if math.isfinite(found.score) else None

    def _leave(self, name: str, clips: list[np.ndarray], sample_rate: int) -> None:
        folder = self._folder / name
        for number, clip in enumerate(clips):
            with commit.pending(folder / f"{number:02d}.wav") as file:
                file.write(encode(Waveform(clip, sample_rate), "wav", 16).data)
        with commit.pending(folder / "spectrograms.png") as file:
            picture = io.BytesIO()
            save_spectrogram_picture(picture, clips, sample_rate)
            file.write(picture.getvalue())


@contextmanager
def _averaged(state: State) -> Iterator[None]:
    """Hold the averaged weights in the model, if there are any, and put its own back afterwards."""
    own = rendering_weights(state.model) if state.average else {}
    kept = {name: tensor.clone() for name, tensor in own.items()}
    try:
        for name, tensor in own.items():
            tensor.copy_(state.average[name])
        yield
    finally:
        for name, tensor in own.items():
            tensor.copy_(kept[name])
