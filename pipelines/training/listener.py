"""How well a model does while it trains: clips and pictures, their distance to real ones, and held-out figures."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.mel import mel_distance, mel_spread
from tonemill.audiotools.pictures.curves import save_curve_picture
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request, Validation
from tonemill.models.directions import AUDIO, SEED, Direction
from tonemill.models.players import played
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.rendering.render import render
from tonemill.pipelines.runs.checkpoints import State, rendering_weights
from tonemill.pipelines.runs.metric_log import Metrics
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.storage import commit
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.shard_cache import cache_of

REFERENCE_CLIPS: Final = 64
"""Real clips that rendered ones are compared with."""

LONGEST_SECONDS: Final = 10.0
"""Of a held-out recording that is rendered, its first ones."""

FREE_SECONDS: Final = 60.0
"""Time that listening may take whatever its share."""

Clip = Float32[np.ndarray, "channels _"]


class Listener:
    """Renders the same seeds, or the same held-out examples, again and again.

    Args:
        folder: of the run.
        corpus: where real clips come from; held-out ones, if it has any.
        settings: how many clips, and how often.
        model: to listen to.
        metrics: where figures are written, also for TensorBoard.
        say: prints a line.
    """

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        settings: TrainConfig,
        model: Model,
        metrics: Metrics,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder / "clips"
        self._settings = settings
        self._metrics = metrics
        self._say = say
        self._corpus = corpus
        held_out = "valid" in corpus.about["splits"] and settings.overfit is None
        self._split = "valid" if held_out else settings.split
        self._most = settings.overfit
        self._tars = cache_of(corpus, settings)
        self._direction = next(iter(model.directions(model.config).values()))
        self._real: list[Clip] = []
        self._fields: list[dict[str, object]] = []
        self._begun, self._spent, self._longest = time.monotonic(), 0.0, 0.0
        # A model that learns from arrays alone has no sound to be compared with.
        self._has_sound = bool(model.roles)
        if self._renders_seeds and self._has_sound:
            self._remember_real(model)

    def is_due(self, step: int) -> bool:
        """Whether to listen at a step: a set may be left out, so that listening keeps to its share of the time."""
        if step % self._settings.listen_every:
            return False
        passed = time.monotonic() - self._begun
        return self._spent + self._longest <= max(FREE_SECONDS, self._settings.listen_share * passed)

    def listen(self, state: State, device: torch.device) -> float | None:
        """Leave clips, pictures and figures.

        Returns:
            a score, the smaller the better; None where there is none, or a clip is not finite.
        """
        begun = time.monotonic()
        model = state.model
        try:
            with _averaged(state), torch.inference_mode():
                model.eval()
                examples = examples_of(self._corpus, self._split, model.roles, model.arrays, self._most, self._tars)
                found = model.validate(examples)
                if found is not None:
                    self._enter(found, state.step)
                distance = self._compare(model, state.step, device, found)
        finally:
            self._longest = max(self._longest, time.monotonic() - begun)
            self._spent += time.monotonic() - begun
        score = found.score if found is not None and found.score is not None else distance
        return score if score is not None and math.isfinite(score) else None

    @property
    def _renders_seeds(self) -> bool:
        return self._direction.from_seeds and self._direction.gives == AUDIO

    def _compare(self, model: Model, step: int, device: torch.device, found: Validation | None) -> float | None:
        """Render clips, and measure their distance to real ones in dB; None where there is none."""
        if self._renders_seeds:
            clips, real = self._from_seeds(model, device), self._real
        elif self._has_sound and _renders_audio(self._direction) and not _has_clips(found):
            clips, real = self._from_held_out(model, device)
        else:
            return None
        if not clips or not all(np.isfinite(clip).all() for clip in clips):
            return None
        if not self._has_sound:
            self._leave(f"{step:08d}", clips, model.sample_rate, step)
            return None
        if self._renders_seeds:
            values = {"mel_distance_db": float(mel_distance(clips, real, model.sample_rate))}
            if len(clips) > 1:
                values["mel_spread_db"] = float(mel_spread(clips, model.sample_rate))
        else:
            pairs = zip(clips, real, strict=True)
            each = [float(mel_distance([clip], [true], model.sample_rate)) for clip, true in pairs]
            values = {"mel_distance_db": float(np.mean(each))}
            if not (self._folder / "real").exists():
                self._leave("real", real, model.sample_rate, step)
        self._metrics.add(step, {"compared_with": self._split, **values})
        self._leave(f"{step:08d}", clips, model.sample_rate, step)
        return values["mel_distance_db"]

    def _remember_real(self, model: Model) -> None:
        there = self._corpus.about["splits"].get(self._split, {}).get("examples", 1)
        examples = min(REFERENCE_CLIPS, there, self._most or there)
        seed = self._settings.seed
        batches = Batches(
            self._corpus,
            self._split,
            model.roles,
            model.length,
            examples,
            seed,
            pad=model.pads_short,
            most=self._most,
            tars=self._tars,
        )
        reference = batches.batch(0)
        self._real = [clip.numpy() for clip in reference.audio[model.roles[0]]]
        self._fields = [
            dict(zip(reference.fields, values, strict=True)) for values in zip(*reference.fields.values(), strict=True)
        ]
        if not (self._folder / "real").exists():
            self._leave("real", self._real[: self._settings.listen_clips], model.sample_rate, 0)

    def _from_seeds(self, model: Model, device: torch.device) -> list[Clip]:
        """Clips of the first seeds, with the fields of real examples."""
        options = self._direction.options()
        requests = [
            Request(seed, self._fields[seed % len(self._fields)] if self._fields else {}, {}, options=options)
            for seed in range(self._settings.listen_clips)
        ]
        return render(model, requests, min(len(requests), self._settings.batch_size), device)

    def _from_held_out(self, model: Model, device: torch.device) -> tuple[list[Clip], list[Clip]]:
        """The first held-out examples through the model, and what they should be."""
        clips, real = [], []
        most = round(LONGEST_SECONDS * model.sample_rate)
        examples = examples_of(self._corpus, self._split, model.roles, most=self._most, tars=self._tars)
        for example in islice(examples, self._settings.listen_clips):
            source = example.audio[AUDIO if AUDIO in example.audio else "dry"][:, :most]
            target = example.audio["wet" if "wet" in example.audio else AUDIO][:, :most]
            options = self._direction.options()
            request = Request(example.seed, example.fields, {AUDIO: source}, options=options)
            if self._direction.streams:
                player = model.player(replace(request, audio={}), len(source))
                parts = list(played(player, iter([source])))
                output = np.concatenate(parts, axis=1) if parts else source[:, :0]
            else:
                (output,) = render(model, [request], 1, device)
            clips.append(output[:, : target.shape[1]])
            real.append(target[:, : output.shape[1]])
        return clips, real

    def _enter(self, found: Validation, step: int) -> None:
        """Write down what a model found on held-out examples."""
        self._metrics.add(step, {"validated_on": self._split, **found.values})
        held_out = self._split == "valid"
        of = (
            "held out" if held_out else (f"of the split {self._split} that it is trained on, because none are held out")
        )
        words = f"Step {step}: {found.words} ({of})." if found.words else ""
        if words:
            self._say(words)
        picture = io.BytesIO()
        save_curve_picture(picture, self._metrics.lines(), ["loss", *list(found.values)[:3]])
        for name, content in {"training.png": picture.getvalue(), **found.files}.items():
            with commit.pending(self._folder / f"{step:08d}" / name) as file:
                if words and name.endswith(".md"):
                    file.write(f"{words}\n\n".encode())
                file.write(content)
            if name.endswith(".png"):
                self._metrics.add_picture(f"held out/{name.removesuffix('.png')}", content, step)

    def _leave(self, name: str, clips: Sequence[Clip], sample_rate: int, step: int) -> None:
        folder = self._folder / name
        for number, samples in enumerate(clips):
            with commit.pending(folder / f"{number:02d}.wav") as file:
                file.write(encode(Waveform(samples, sample_rate), "wav", 16).data)
        picture = io.BytesIO()
        save_spectrogram_picture(picture, clips, sample_rate)
        with commit.pending(folder / "spectrograms.png") as file:
            file.write(picture.getvalue())
        kind = "real" if name == "real" else "rendered"
        self._metrics.add_picture(f"{kind}/spectrograms", picture.getvalue(), step)
        self._metrics.add_clips(kind, clips, sample_rate, step)


def _renders_audio(direction: Direction) -> bool:
    return direction.gives == AUDIO and AUDIO in direction.needs and set(direction.needs) <= {AUDIO, SEED}


def _has_clips(found: Validation | None) -> bool:
    """Whether a model left clips of its own."""
    return found is not None and any(name.endswith(".wav") for name in found.files)


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
