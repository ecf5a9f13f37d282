"""A classifier of short chunks of sound, which labels clips and judges generated ones.

The short-chunk CNN of LoopTest (Hung et al., 2021, https://arxiv.org/abs/2108.01576; after Won et al., 2020,
https://arxiv.org/abs/2006.00751): six blocks of convolution, batch norm and max-pooling over a log-mel spectrogram, the
largest value over time, a dense layer whose 256 numbers are the embedding, and one more for the classes; 2,300,100
parameters for 66 classes. Longer clips are cut into chunks that cover them, whose results are averaged.

With `--mel-of` it reads the mel spectrogram of a vocoder, so that a loop GAN can be judged through its feature maps.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.pictures.confusion import save_confusion_picture
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import FIELDS, Direction, Lean, Score
from tonemill.models.parts.halving import largest_of_four
from tonemill.models.parts.mel import (
    HOP_SECONDS,
    MEL_SETTINGS,
    DecibelMel,
    LogMel,
    MelConfig,
    hop_length_at,
    mel_of_parent,
)
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.settings import settled

WIDTHS: Final = (1, 128, 128, 256, 256, 256, 256)
EMBEDDING: Final = 256
LEAST: Final = 2 ** (len(WIDTHS) - 1)
"""Each block halves bands and frames, so fewer than 64 of either would leave nothing."""

ROW_BLOCK: Final = 16
TAPS: Final = 4
"""Blocks of the network whose output is a feature map for other models."""

TOGETHER: Final = 256
"""Held-out examples per batch of validation."""


@dataclass(frozen=True)
class ClassifierConfig:
    label: Annotated[str | None, "Field with the class of each clip; default: label, else the parent folder."] = None
    labels: Annotated[tuple[str, ...], "The classes; default: all values of the label in the corpus."] = ()
    chunk_seconds: Annotated[float, "Length of the chunks that are classified; 0.4 or more."] = 1.0
    n_mels: Annotated[int, "Bands of the spectrogram, 64 or more."] = 64
    mel_of: Annotated[str | None, "A run of a vocoder, whose mel is read; default: a spectrogram in decibels."] = None
    normalize: Annotated[bool, "Divide each clip by its peak, so that its level is no feature."] = True
    dropout: Annotated[float, "Share of the embedding hidden in training."] = 0.5
    mask: Annotated[float, "Largest share of bands, and of frames, hidden in training."] = 0.15
    learning_rate: Annotated[float, "Of Adam."] = 1e-3
    n_fft: Annotated[int | None, "Samples of a transform; default: those of --mel-of."] = None
    hop_length: Annotated[int | None, "Samples from one frame to the next; default: those of --mel-of."] = None
    mel_bands: Annotated[int | None, "Bands, 64 or more; default: those of --mel-of."] = None
    low_hz: Annotated[float, "Where the lowest band begins; --mel-of decides."] = 0.0
    high_hz: Annotated[float | None, "Where the highest band ends; default: as in --mel-of."] = None
    sample_rate: Annotated[int | None, "Of the audio, in hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Of the audio, which are averaged; default: the corpus's."] = None

    def __post_init__(self) -> None:
        given = [name for name in MEL_SETTINGS[:3] if getattr(self, name) is not None]
        if 0 < len(given) < 3:
            raise UsageError("Give --n-fft, --hop-length and --mel-bands, or take all from a run by --mel-of RUN.")
        if self.n_mels < LEAST:
            raise UsageError(f"--n-mels is {self.n_mels}; it must be at least {LEAST}.")
        if self.mel_bands is not None and self.mel_bands < LEAST:
            raise UsageError(
                f"the mel spectrogram of --mel-of has {self.mel_bands} bands, and a classifier needs {LEAST} or "
                f"more. Train its vocoder with --mel-bands {LEAST}."
            )
        if round(self.chunk_seconds / HOP_SECONDS) < LEAST:
            raise UsageError(f"--chunk-seconds is {self.chunk_seconds}; it must be at least {LEAST * HOP_SECONDS}.")
        for name, most in (("dropout", 1), ("mask", 0.5)):
            if not 0 <= getattr(self, name) < most:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be from 0 up to, not including, {most}.")
        if self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0.")

    def hop(self, sample_rate: int) -> int:
        """Samples from one frame of what it reads to the next."""
        return self.hop_length or hop_length_at(sample_rate)


class Block(nn.Module):
    """Convolution, batch norm, ReLU, and the largest of each two by two: half the bands and half the frames."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Float[Tensor, "batch channels bands frames"]) -> Float[Tensor, "batch out_channels _ _"]:
        if self.training:
            # The largest of four ReLUs is the ReLU of the largest, on a quarter of the numbers.
            return F.relu(F.max_pool2d(self.norm(self.conv(x)), 2, ceil_mode=True))
        # With fixed statistics the norm is a line, and lines of lines are one convolution.
        mean, variance, bias = self.norm.running_mean, self.norm.running_var, self.conv.bias
        assert mean is not None and variance is not None and bias is not None
        scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
        weight = (self.conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x, weight, (bias - mean) * scale + self.norm.bias, padding=1)
        return largest_of_four(x)


class ShortChunkCNN(nn.Module):
    """Decibels (batch, n_mels, frames) to the embedding before its last normalisation, and from there to classes."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1)
        self.blocks = nn.ModuleList(Block(width, next_width) for width, next_width in pairwise(WIDTHS))
        self.dense = nn.Linear(WIDTHS[-1], EMBEDDING)
        self.dense_norm = nn.BatchNorm1d(EMBEDDING)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(EMBEDDING, classes)

    def embed(self, spectrograms: Float[Tensor, "batch n_mels frames"]) -> Float[Tensor, "batch 256"]:
        x = self.maps(spectrograms)[-1]
        return F.relu(self.dense_norm(self.dense(x.amax(dim=(2, 3)))))

    def maps(
        self, spectrograms: Float[Tensor, "batch n_mels frames"], blocks: int | None = None
    ) -> list[Float[Tensor, "batch _ _ _"]]:
        """The output of each of the first blocks; each has half the bands and frames of the one before."""
        x = self.input_norm(spectrograms.unsqueeze(1)).contiguous(memory_format=torch.channels_last)
        found = []
        for block in self.blocks[:blocks]:
            x = block(x)
            found.append(x)
        return found

    def forward(self, spectrograms: Float[Tensor, "batch n_mels frames"]) -> Float[Tensor, "batch classes"]:
        return self.classes(self.dropout(self.embed(spectrograms)))


class Classifier(Model):
    Config: ClassVar[type] = ClassifierConfig
    pads_short: ClassVar[bool] = True
    score: ClassVar[Score] = Score("cross-entropy", "nats")
    least_batch: ClassVar[int] = 2  # the embedding is normalised over the batch
    uses: ClassVar[Mapping[str, str | Lean]] = {"mel_of": Lean("decode", training_only=True)}

    def __init__(self, config: ClassifierConfig, parents: Mapping[str, Model] | None = None) -> None:
        super().__init__(parents)
        self.config = config
        if config.n_fft is None:
            self.spectrogram: DecibelMel | LogMel = DecibelMel(self.sample_rate, config.n_mels)
        else:
            mel: Any = {name: getattr(config, name) for name in MEL_SETTINGS}
            self.spectrogram = LogMel(MelConfig(**mel), self.sample_rate)
        self.network = ShortChunkCNN(len(config.labels), config.dropout)

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        config = settled(config, corpus, "classifier")
        if "mel_of" in corpus.parents:
            config = replace(config, **mel_of_parent(corpus, "mel_of"))
        if round(config.chunk_seconds * corpus.sample_rate / config.hop(corpus.sample_rate)) < LEAST:
            least = LEAST * config.hop(corpus.sample_rate) / corpus.sample_rate
            raise UsageError(f"--chunk-seconds is {config.chunk_seconds}; with this mel it must be at least {least:g}.")
        label = config.label or ("label" if "label" in corpus.values else "folder")
        values = corpus.values.get(label, ())
        if len(values) < 2:
            found = f"{label!r} is {values[0]!r} in every example of" if values else f"There is no field {label!r} in"
            others = [name for name, several in corpus.values.items() if len(several) > 1]
            known = f", or take another field: --label {' or '.join(others)}" if others else ""
            raise CorpusError(
                f"{found} {corpus.name}, and a classifier needs two different classes. Read them from file names, as "
                "`tonemill scan FOLDER --fields '{label}_{take}' | ... | tonemill shard OTHER` does of names such as "
                f"snare_03.wav{known}."
            )
        unknown = sorted(set(values) - set(config.labels)) if config.labels else []
        if unknown:
            raise CorpusError(f"{corpus.name} has {label} {', '.join(unknown)}, not in --labels. Leave --labels out.")
        return replace(config, label=label, labels=config.labels or values)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        return {"describe": Direction("The class of each clip, its probabilities and an embedding.", gives=FIELDS)}

    @property
    def length(self) -> int:
        if self.config.n_fft is None:
            return round(self.config.chunk_seconds / HOP_SECONDS) * hop_length_at(self.sample_rate)
        return round(self.config.chunk_seconds * self.sample_rate / self.config.hop_length) * int(
            self.config.hop_length
        )

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Channels of each of the maps that `taps` gives."""
        return WIDTHS[1 : TAPS + 1]

    def taps(self, mel: Float[Tensor, "batch bands frames"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Feature maps of log-mel spectrograms at four scales, the finest first, with fixed statistics.

        Args:
            mel: as the `LogMel` of `--mel-of` computes them.
        """
        return self.network.maps(mel, TAPS)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": adam(self.network.parameters(), lr=self.config.learning_rate)}

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        mono = batch.audio["audio"].mean(dim=1)
        if self.config.normalize:
            peak = mono.abs().amax(dim=1, keepdim=True)
            mono = mono / torch.where(peak > 0, peak, 1)
        logits = self.network(self._masked(self.spectrogram(mono), batch)).float()
        index = {label: i for i, label in enumerate(self.config.labels)}
        # A clip without a label is not trained on.
        wanted = torch.tensor([index.get(str(v), -1) for v in batch.fields[self.config.label]], device=logits.device)
        known = wanted >= 0
        each = F.cross_entropy(logits, wanted.clamp(min=0), reduction="none")
        loss = (each * known).sum() / known.sum().clamp(min=1)
        update("network", loss)
        right = ((logits.argmax(dim=1) == wanted) & known).sum() / known.sum().clamp(min=1)
        return {"cross_entropy_loss": loss.detach(), "training_accuracy": right.detach()}

    def _masked(
        self, spectrograms: Float[Tensor, "batch n_mels frames"], batch: Batch
    ) -> Float[Tensor, "batch n_mels frames"]:
        """Hide a run of bands and a run of frames of each, at their mean (Park et al., 2019, arXiv:1904.08779)."""
        if not self.config.mask:
            return spectrograms
        level = spectrograms.mean(dim=(1, 2), keepdim=True)
        for axis in (1, 2):
            size = spectrograms.shape[axis]
            width = batch.draw(torch.rand, 1, 1) * self.config.mask * size
            first = batch.draw(torch.rand, 1, 1) * (size - width)
            place = torch.arange(size, device=level.device).view([1, size, 1] if axis == 1 else [1, 1, size])
            spectrograms = torch.where((place >= first) & (place < first + width), level, spectrograms)
        return spectrograms

    def describe(self, requests: Sequence[Request], batch_size: int) -> list[dict[str, Any]]:
        found = []
        for probabilities, embedding in self._labelled(requests, batch_size):
            best = int(probabilities.argmax())
            found.append(
                {
                    "predicted": self.config.labels[best],
                    "predicted_confidence": round(float(probabilities[best]), 6),
                    "probabilities": np.round(probabilities.astype(np.float64), 6).tolist(),
                    "embedding": np.round(embedding.astype(np.float64), 5).tolist(),
                }
            )
        return found

    def _labelled(
        self, requests: Sequence[Request], batch_size: int
    ) -> Iterator[tuple[Float32[np.ndarray, "classes"], Float32[np.ndarray, "256"]]]:
        """Probabilities and embedding of each clip: means over its chunks."""
        device = self.spectrogram.filters.device
        owners, waiting, probabilities, embeddings = [], [], [], []
        for number, request in enumerate(requests):
            chunks = self._chunks(request.audio["audio"])
            owners += [number] * len(chunks)
            waiting += list(chunks)
        for begin in range(0, len(waiting), batch_size):
            some = waiting[begin : begin + batch_size]
            # Rows of a matrix product agree to the last bit in whole blocks only.
            rows = math.ceil(batch_size / ROW_BLOCK) * ROW_BLOCK
            stacked = np.zeros((rows, self.length), np.float32)
            stacked[: len(some)] = some
            embedded = self.network.embed(self.spectrogram(torch.from_numpy(stacked).to(device)))
            probabilities.append(self.network.classes(embedded).float().softmax(dim=1)[: len(some)].cpu().numpy())
            embeddings.append(embedded[: len(some)].float().cpu().numpy())
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        counts = np.bincount(owners)[:, None].astype(np.float32)
        yield from zip(
            np.add.reduceat(np.concatenate(probabilities), first) / counts,
            np.add.reduceat(np.concatenate(embeddings), first) / counts,
            strict=True,
        )

    def _chunks(self, audio: Float[np.ndarray, "channels time"]) -> Float32[np.ndarray, "chunks length"]:
        """As many chunks as cover a clip, evenly spread over it; a short clip is one, padded with silence."""
        mono = audio.mean(axis=0, dtype=np.float32)
        if self.config.normalize:
            peak = float(np.abs(mono).max(initial=0))
            mono = mono / np.float32(peak) if peak > 0 else mono
        mono = np.pad(mono, (0, max(0, self.length - len(mono))))
        starts = np.linspace(0, len(mono) - self.length, math.ceil(len(mono) / self.length)).round().astype(int)
        return np.stack([mono[start : start + self.length] for start in starts])

    def validate(self, held_out: Iterable[Request]) -> Validation:
        labels, label = self.config.labels, self.config.label
        counts, loss, others = np.zeros((len(labels), len(labels)), int), 0.0, 0
        remaining = iter(held_out)
        while some := list(islice(remaining, TOGETHER)):
            for request, (probabilities, _) in zip(some, self._labelled(some, 64), strict=True):
                value = request.fields.get(label)
                if value is None or str(value) not in labels:
                    others += 1
                    continue
                wanted = labels.index(str(value))
                counts[wanted, int(probabilities.argmax())] += 1
                loss -= math.log(max(float(probabilities[wanted]), 1e-12))
        examples = int(counts.sum())
        right = confidence.share(int(np.trace(counts)), examples)
        values = {"accuracy": right.value, "accuracy_low": right.low, "accuracy_high": right.high}
        found = {name: value for name, value in values.items() if value is not None}
        if examples:
            found["cross_entropy"] = loss / examples
            of_class = counts.sum(axis=1)
            found["balanced_accuracy"] = float((np.diag(counts)[of_class > 0] / of_class[of_class > 0]).mean())
        about = {"label": label, "labels": labels, "rows": "true", "columns": "predicted", "counts": counts.tolist()}
        picture = io.BytesIO()
        save_confusion_picture(picture, counts, labels)
        files = {
            "confusion.json": json.dumps({**about, "examples": examples, "left_out": others, **found}).encode(),
            "confusion.png": picture.getvalue(),
        }
        return Validation(found.get("cross_entropy", math.nan), {**found, "validated_examples": float(examples)}, files)


MODEL = Classifier
