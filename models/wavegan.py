"""WaveGAN: raw-waveform GAN (Donahue et al., 2019, https://arxiv.org/abs/1802.04208).

Layout, padding, initial weights, losses and optimizers are those of https://github.com/chrisdonahue/wavegan. It departs
in taking any power of two as length and any number of channels, also with a post filter; in dividing by the peak of
each clip, not file (a model sees only clips); and in classes, with `--label`: an embedding beside the latent, and a
projection in the discriminator (Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar, Literal
from warnings import warn

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models import layers
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update
from tonemill.models.losses import ADVERSARIAL_LOSSES, gradient_penalty

SEED_TIME = 16  # time steps that the generator starts from and the discriminator ends with
Labels = Int[Tensor, "batch"] | None
ROW_BLOCK = 16


@dataclass(frozen=True)
class WaveGANConfig:
    sample_rate: Annotated[int | None, "Of the audio, in hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Of the audio; default: the corpus's."] = None
    length: Annotated[int, "Samples of a clip: a power of two, such as 16384, 32768 or 65536."] = 16384
    latent_dim: Annotated[int, "Size of the noise vector fed to the generator."] = 100
    dim: Annotated[int, "Channels of the layer next to the audio; deeper layers have multiples of it."] = 64
    kernel_size: Annotated[int, "Samples of each kernel."] = 25
    batch_norm: Annotated[bool, "Normalise batches in both networks."] = False
    upsampling: Annotated[Literal["zeros", "nearest"], "What the generator puts between samples."] = "zeros"
    post_filter: Annotated[int | None, "Samples of a learned filter after the generator; the paper's has 512."] = None
    phase_shuffle: Annotated[int, "Largest shift, in samples, of phase shuffle; 0 turns it off."] = 2
    phase_shuffle_per: Annotated[Literal["batch", "example"], "What shares one shift; the paper's: batch."] = "batch"
    loss: Annotated[Literal["wgan-gp", "wgan", "dcgan", "lsgan"], "Adversarial loss."] = "wgan-gp"
    gradient_penalty_weight: Annotated[float, "Weight of wgan-gp's penalty."] = 10.0
    critic_steps: Annotated[int, "Discriminator updates for each generator update."] = 5
    learning_rate: Annotated[float | None, "Of both optimizers; default: the one the loss was published with."] = None
    normalize: Annotated[bool, "Divide each training clip by its peak (the paper's code: by its file's)."] = True
    label: Annotated[str | None, "Metadata field with the class of each clip; default: no classes."] = None
    labels: Annotated[tuple[str, ...], "The classes; default: all values of the label in the corpus."] = ()
    label_dim: Annotated[int, "Size of a class's embedding in the generator."] = 32
    label_dropout: Annotated[float, "Share of clips trained without their label, to render without one."] = 0.0

    def __post_init__(self) -> None:
        positive = ("sample_rate", "channels", "latent_dim", "dim", "post_filter", "critic_steps", "label_dim")
        # a kernel must reach across the largest stride
        for name, least in {**dict.fromkeys(positive, 1), "kernel_size": 4, "gradient_penalty_weight": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}.")
        if self.length < 4 * SEED_TIME or self.length & (self.length - 1):
            raise UsageError(f"--length is {self.length}; it must be a power of two, at least {4 * SEED_TIME}.")
        if not 0 <= self.phase_shuffle < SEED_TIME:
            raise UsageError(f"--phase-shuffle is {self.phase_shuffle}; it must be from 0 to {SEED_TIME - 1} samples.")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0.")
        if not 0 <= self.label_dropout < 1:
            raise UsageError(f"--label-dropout is {self.label_dropout}; it must be from 0 up to, not including, 1.")
        if self.labels and self.label is None:
            raise UsageError(f"--labels is {', '.join(self.labels)}, but --label does not say which field has them.")


def strides(length: int) -> tuple[int, ...]:
    """Fours, then a two where fours do not make it; `SEED_TIME` times their product is the length."""
    doublings = (length // SEED_TIME).bit_length() - 1
    return (4,) * (doublings // 2) + (2,) * (doublings % 2)


class Generator(nn.Module):
    """Turns a latent vector, and a class, into audio: (batch, latent_dim) to (batch, channels, length)."""

    def __init__(self, config: WaveGANConfig, channels: int) -> None:
        super().__init__()
        steps = strides(config.length)
        # 16d, 8d, 4d, 2d, d and the audio's own for 16384; one more doubling for each further stage
        widths = [config.dim * 2**i for i in reversed(range(len(steps)))] + [channels]
        upsample = {"zeros": layers.SameConvTranspose1d, "nearest": layers.NearestConv1d}[config.upsampling]

        self.embedding = nn.Embedding(len(config.labels) + 1, config.label_dim) if config.labels else None
        self.dense = nn.Linear(config.latent_dim + (config.label_dim if config.labels else 0), SEED_TIME * widths[0])
        stack: list[nn.Module] = []
        for stride, (width, next_width) in zip(steps, pairwise(widths), strict=True):
            if config.batch_norm:
                stack.append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01))
            stack += [nn.ReLU(inplace=True), upsample(width, next_width, config.kernel_size, stride)]
        stack.append(nn.Tanh())
        if config.post_filter is not None:
            stack.append(layers.SameConv1d(channels, channels, config.post_filter, groups=channels, bias=False))
        self.layers = nn.Sequential(*stack)
        self.apply(layers.glorot_)
        if self.embedding is not None:
            nn.init.uniform_(self.embedding.weight, -1, 1)  # as the latent that it stands beside

    def forward(
        self, latent: Float[Tensor, "batch latent_dim"], label: Labels = None
    ) -> Float[Tensor, "batch channels time"]:
        if self.embedding is not None:
            latent = torch.cat([latent, self.embedding(label)], dim=1)
        # The last bits of a matrix product depend on a row's place in a batch that is not whole blocks of rows; those
        # of the convolutions do not (measured with oneDNN on AVX2: 1 to 39, 64, 100 and 128 rows).
        x = self.dense(nn.functional.pad(latent, (0, 0, 0, -len(latent) % ROW_BLOCK)))[: len(latent)]
        return self.layers(rearrange(x, "batch (time width) -> batch width time", time=SEED_TIME))


class Discriminator(nn.Module):
    """Scores audio: (batch, channels, length) to logits (batch), higher for what it takes for real."""

    def __init__(self, config: WaveGANConfig, channels: int) -> None:
        super().__init__()
        steps = strides(config.length)
        widths = [channels] + [config.dim * 2**i for i in range(len(steps))]
        stack: list[nn.Module] = []
        for i, (stride, (width, next_width)) in enumerate(zip(steps, pairwise(widths), strict=True)):
            stack.append(layers.SameConv1d(width, next_width, config.kernel_size, stride))
            if config.batch_norm and i > 0:
                stack.append(nn.BatchNorm1d(next_width, eps=1e-3, track_running_stats=False))
            stack.append(nn.LeakyReLU(0.2))
            if config.phase_shuffle > 0 and i < 4:
                stack.append(layers.PhaseShuffle(config.phase_shuffle, config.phase_shuffle_per))
        self.layers = nn.Sequential(*stack)
        self.dense = nn.Linear(SEED_TIME * widths[-1], 1)
        self.apply(layers.glorot_)
        self.projection = nn.Embedding(len(config.labels) + 1, SEED_TIME * widths[-1]) if config.labels else None
        if self.projection is not None:
            nn.init.zeros_(self.projection.weight)  # the critic starts without an opinion on classes

    def forward(self, x: Float[Tensor, "batch channels time"], label: Labels = None) -> Float[Tensor, "batch"]:
        return self.score(self.layers(x), label)

    def score(self, x: Float[Tensor, "batch width time"], label: Labels = None) -> Float[Tensor, "batch"]:
        features = layers.flatten_time_major(x)
        logits: Tensor = self.dense(features).squeeze(1)
        if self.projection is not None:
            logits = logits + (features * self.projection(label)).sum(dim=1)
        return logits


class WaveGAN(Model):
    Config: ClassVar[type] = WaveGANConfig

    def __init__(self, config: WaveGANConfig) -> None:
        super().__init__()
        self.config = config
        self.loss = ADVERSARIAL_LOSSES[config.loss]
        self.generator = Generator(config, self.channels)
        self.discriminator = Discriminator(config, self.channels)

    @classmethod
    def settle(cls, config: WaveGANConfig, corpus: CorpusFacts) -> WaveGANConfig:
        if "audio" not in corpus.roles:
            raise CorpusError(
                f"{corpus.name} holds {' and '.join(corpus.roles)}, but wavegan learns from single clips. "
                "Make a corpus of them: `tonemill scan FOLDER | tonemill slice --seconds 1 | tonemill shard CORPUS`."
            )
        rate = config.sample_rate
        if rate not in (None, corpus.sample_rate):
            raise CorpusError(
                f"{corpus.name} holds {corpus.sample_rate} Hz audio but {rate} Hz was asked for. Leave --sample-rate "
                f"out, or rebuild it: `tonemill scan FOLDER | tonemill resample --rate {rate} | tonemill shard CORPUS`."
            )
        if config.channels not in (None, corpus.channels):
            raise CorpusError(
                f"{corpus.name} holds audio with {corpus.channels} channel(s) but {config.channels} was asked for. "
                f"Leave --channels out: `tonemill train wavegan {corpus.name}`."
            )
        labels = () if config.label is None else _settle_labels(config.label, config.labels, corpus)
        return replace(config, sample_rate=corpus.sample_rate, channels=corpus.channels, labels=labels)

    @property
    def length(self) -> int:
        return int(self.config.length)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        if self.config.batch_norm and self.loss.penalized:
            warn(
                "--batch-norm ties each score to its whole batch, but wgan-gp's penalty is meant for each clip alone. "
                "Train with --loss dcgan, or without --batch-norm.",
                stacklevel=2,
            )
        rate = self.config.learning_rate or self.loss.learning_rate
        parts = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: self.loss.optimizer(part.parameters(), lr=rate) for name, part in parts.items()}

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        real = batch.audio["audio"]
        if self.config.normalize:
            peak = real.abs().amax(dim=(1, 2), keepdim=True)
            real = real / torch.where(peak > 0, peak, 1)
        label = self._label_of(batch)
        losses = self._discriminator_step(real, label, update)
        if step % self.config.critic_steps == 0:
            with layers.frozen(self.discriminator):
                loss = self.loss.generator(self.discriminator(self._generate(real, label), label).float())
                update("generator", loss)
            losses["generator_loss"] = loss.detach()
        return losses

    def _discriminator_step(self, real: Tensor, label: Labels, update: Update) -> dict[str, Tensor]:
        with torch.no_grad():
            generated = self._generate(real, label)
        real_logits = self.discriminator(real, label).float()
        generated_logits = self.discriminator(generated, label).float()
        loss = self.loss.discriminator(real_logits, generated_logits)
        gap = real_logits.mean() - generated_logits.mean()  # with wgan and wgan-gp: the Wasserstein estimate
        losses = {"critic_gap": gap.detach()}
        if self.loss.penalized:
            alpha = torch.rand(real.shape[0], 1, 1, device=real.device)
            penalty = gradient_penalty(self._critic(label), torch.lerp(real, generated.float(), alpha))
            losses["gradient_penalty"] = penalty.detach()
            loss = loss + self.config.gradient_penalty_weight * penalty
        update("discriminator", loss)
        if self.loss.clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.loss.clip, self.loss.clip)
        return {"discriminator_loss": loss.detach(), **losses}

    def _generate(self, like: Tensor, label: Labels) -> Tensor:
        latent = torch.rand(like.shape[0], self.config.latent_dim, device=like.device) * 2 - 1
        return self.generator(latent, label)

    def _critic(self, label: Labels) -> list[Callable[[Tensor], Tensor]]:
        """The discriminator as `gradient_penalty` takes it: in layers where it is piecewise linear, else whole."""
        if self.config.batch_norm:
            return [partial(self.discriminator, label=label)]
        return [*self.discriminator.layers, partial(self.discriminator.score, label=label)]

    def _label_of(self, batch: Batch) -> Labels:
        """The class of each example; the one after the last stands for "no label"."""
        if self.config.label is None:
            return None
        index = {label: i for i, label in enumerate((*self.config.labels, "None"))}
        indices = [index[str(value)] for value in batch.fields[self.config.label]]
        label = torch.tensor(indices, device=batch.audio["audio"].device)
        dropped = torch.rand(label.shape, device=label.device) < self.config.label_dropout
        return label.masked_fill(dropped, len(self.config.labels))

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        # NumPy draws: torch's generator on the CPU looks at the lower 32 bits of a seed only.
        draws = np.random.Generator(np.random.PCG64(request.seed))
        inputs = {"latent": torch.from_numpy(draws.uniform(-1, 1, self.config.latent_dim).astype(np.float32))}
        labels = self.config.labels
        if labels:
            value = request.fields.get(self.config.label)
            if value is None:  # the class "no label" where it was trained, any class where it was not
                index = len(labels) if self.config.label_dropout > 0 else int(draws.integers(len(labels)))
            elif str(value) in labels:
                index = labels.index(str(value))
            else:
                raise UsageError(f"{self.config.label} is {str(value)!r}, but this model knows {', '.join(labels)}.")
            inputs["label"] = torch.tensor(index)
        return inputs

    @torch.inference_mode()
    def render(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch channels time"]:
        training = self.generator.training
        self.generator.eval()
        try:
            return self.generator(inputs["latent"], inputs.get("label")).float()
        finally:
            self.generator.train(training)


def _settle_labels(label: str, labels: tuple[str, ...], corpus: CorpusFacts) -> tuple[str, ...]:
    values = corpus.values.get(label, ())
    train = f"tonemill train wavegan {corpus.name}"
    if not values:
        known = f"It has {', '.join(corpus.values)}" if corpus.values else "It has none"
        raise CorpusError(f"{corpus.name} has no field {label!r}. {known}. Train with one, or without: `{train}`.")
    if len(values) < 2:
        raise CorpusError(
            f"{label!r} is {values[0]!r} throughout {corpus.name}, but classes need two values. "
            f"Train without --label: `{train}`."
        )
    if labels and not set(values) <= set(labels):
        raise CorpusError(
            f"{corpus.name} has {label} {', '.join(values)}, but --labels knows only {', '.join(labels)}. "
            f"Leave --labels out: `{train} --label {label}`."
        )
    return labels or values


MODEL = WaveGAN
