"""What adversarial models share: their settings, classes, the order of updates, and the latent that a seed draws.

WaveGAN and SpecGAN (Donahue et al., 2019, https://arxiv.org/abs/1802.04208) differ in what they look at and in their
layers; everything else about their training is here, once. Beside the paper: classes, with `--label`, as an embedding
beside the latent and a projection in the discriminator (Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal
from warnings import warn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import SEED, Direction, Export, RequestField
from tonemill.models.parts import latent_export, layers
from tonemill.models.parts.adversarial_losses import ADVERSARIAL_LOSSES, gradient_penalty
from tonemill.models.parts.circular import turned
from tonemill.models.parts.labels import drawn_classes, requested_class, settled_labels
from tonemill.models.parts.seeded import drawn_latent
from tonemill.models.parts.settings import require_least, settled

Labels = Int[Tensor, "batch"] | None
ROW_BLOCK = 16
HELD_OUT = 64
"""Held-out clips that the critic scores."""


@dataclass(frozen=True)
class AdversarialConfig:
    sample_rate: Annotated[int | None, "Of the audio, in hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Of the audio; default: the corpus's."] = None
    length: Annotated[int, "Samples of a clip."] = 16384
    latent_dim: Annotated[int, "Size of the noise vector fed to the generator."] = 100
    dim: Annotated[int, "Channels of the layer next to the audio; deeper layers have multiples of it."] = 64
    kernel_size: Annotated[int, "Width of each kernel."] = 25
    batch_norm: Annotated[bool, "Normalise batches in both networks."] = False
    upsampling: Annotated[Literal["zeros", "nearest"], "What the generator puts between samples."] = "zeros"
    loss: Annotated[Literal["wgan-gp", "wgan", "dcgan", "lsgan"], "Adversarial loss."] = "wgan-gp"
    gradient_penalty_weight: Annotated[float, "Weight of wgan-gp's penalty."] = 10.0
    critic_steps: Annotated[int, "Discriminator updates for each generator update."] = 5
    learning_rate: Annotated[float | None, "Of both optimizers; default: the one the loss was published with."] = None
    normalize: Annotated[bool, "Divide each training clip by its peak (the paper's code: by its file's)."] = True
    loop: Annotated[bool, "Clips are loops of --length: time is a circle, and clips are rotated."] = False
    label: Annotated[str | None, "Metadata field with the class of each clip; default: no classes."] = None
    labels: Annotated[tuple[str, ...], "The classes; default: all values of the label in the corpus."] = ()
    label_dim: Annotated[int, "Size of a class's embedding in the generator."] = 32
    label_dropout: Annotated[float, "Share of clips trained without their label, to render without one."] = 0.0

    def __post_init__(self) -> None:
        positive = ("sample_rate", "channels", "latent_dim", "dim", "critic_steps", "label_dim")
        # a kernel must reach across the largest stride
        require_least(self, **dict.fromkeys(positive, 1), kernel_size=4, gradient_penalty_weight=0)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0.")
        if not 0 <= self.label_dropout < 1:
            raise UsageError(f"--label-dropout is {self.label_dropout}; it must be from 0 up to, not including, 1.")
        if self.labels and self.label is None:
            raise UsageError(
                f"--labels is {', '.join(self.labels)}, but --label is not given: it names the field that holds them."
            )


class LatentGenerator(nn.Module):
    """Turns a latent vector, and a class, into what the critic judges.

    A subclass puts its stages into `stack` and defines in `start` how the first features are laid out.

    Args:
        config: has the sizes of latent and class.
        features: how many numbers the first stage starts from.
        stack: the stages.
    """

    def __init__(self, config: AdversarialConfig, features: int, stack: list[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(config.labels) + 1, config.label_dim) if config.labels else None
        self.dense = nn.Linear(config.latent_dim + (config.label_dim if config.labels else 0), features)
        self.layers = nn.Sequential(*stack)
        self.apply(layers.glorot_)
        if self.embedding is not None:
            nn.init.uniform_(self.embedding.weight, -1, 1)  # as the latent that it stands beside

    def forward(
        self, latent: Float[Tensor, "batch latent_dim"], label: Labels = None
    ) -> Float[Tensor, "batch channels *shape"]:
        if self.embedding is not None:
            latent = torch.cat([latent, self.embedding(label)], dim=1)
        # The last bits of a matrix product depend on a row's place in a batch that is not whole blocks of rows; those
        # of the convolutions do not (measured with oneDNN on AVX2: 1 to 39, 64, 100 and 128 rows).
        x = self.dense(nn.functional.pad(latent, (0, 0, 0, -len(latent) % ROW_BLOCK)))[: len(latent)]
        return self.layers(self.start(x))

    def start(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width *shape"]:
        raise NotImplementedError


class Critic(nn.Module):
    """Scores real and generated examples: logits (batch), higher for what it takes for real.

    Args:
        config: has the classes.
        features: how many numbers the last stage leaves.
        stack: the stages, each piecewise linear.
    """

    def __init__(self, config: AdversarialConfig, features: int, stack: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*stack)
        self.dense = nn.Linear(features, 1)
        self.apply(layers.glorot_)
        self.projection = nn.Embedding(len(config.labels) + 1, features) if config.labels else None
        if self.projection is not None:
            nn.init.zeros_(self.projection.weight)  # the critic starts without an opinion on classes

    def forward(self, x: Float[Tensor, "batch channels *shape"], label: Labels = None) -> Float[Tensor, "batch"]:
        return self.score(self.layers(x), label)

    def score(self, x: Float[Tensor, "batch width *shape"], label: Labels = None) -> Float[Tensor, "batch"]:
        features = layers.flatten_channels_last(x)
        logits: Tensor = self.dense(features).squeeze(1)
        if self.projection is not None:
            logits = logits + (features * self.projection(label)).sum(dim=1)
        return logits


class Adversarial(Model):
    """A generator against a critic; a subclass makes the two and defines their input."""

    generator: LatentGenerator
    discriminator: Critic
    exported_as: ClassVar[str] = "audio"
    """The name of what an exported file gives."""

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config
        self.loss = ADVERSARIAL_LOSSES[config.loss]

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        name = cls.__module__.rpartition(".")[2]
        config = settled(config, corpus, name)
        if config.label is None:
            return replace(config, labels=())
        train = f"tonemill train {name} {corpus.name} -o RUN --minutes 60"
        return replace(config, labels=settled_labels(config.label, config.labels, corpus, train))

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        fields = {config.label: RequestField(choices=config.labels)} if config.label else {}
        return {"render": Direction("Clips from seeds.", (SEED,), fields=fields, samples=config.length)}

    @property
    def length(self) -> int:
        return int(self.config.length)

    def check_examples(self, examples: Iterable[Request]) -> None:
        if not self.config.loop:
            return
        for example in examples:
            samples = example.audio["audio"].shape[1]
            if samples != self.length:
                beats = max(1, round(2 * self.length / self.sample_rate))
                bars = f"--bars {beats // 4}" if beats % 4 == 0 else f"--bars 1 --beats-per-bar {beats}"
                tempo = 60 * beats * self.sample_rate / self.length
                raise CorpusError(
                    f"A training example has {samples} samples, but --loop needs loops of exactly --length "
                    f"{self.length} samples. Make a corpus of such loops: `tonemill scan FOLDER | tonemill "
                    f"resample --rate {self.sample_rate} | tonemill loops {bars} --target-bpm {tempo:.8g} | "
                    "tonemill shard CORPUS`; or train without --loop."
                )

    def seen(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels *shape"]:
        """What generator and critic work on, of clips; without gradients."""
        raise NotImplementedError

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        if self.config.batch_norm and self.loss.penalized:
            warn(
                "--batch-norm does not work with --loss wgan-gp: its gradient penalty is defined for one clip, "
                "and batch normalisation mixes all clips of a batch. Train with --loss dcgan, or without "
                "--batch-norm.",
                stacklevel=2,
            )
        rate = self.config.learning_rate or self.loss.learning_rate
        parts = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: self.loss.optimizer(part.parameters(), lr=rate) for name, part in parts.items()}

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        with torch.no_grad():
            audio = batch.audio["audio"]
            if self.config.loop:
                audio = turned(audio, batch.draw(torch.rand), 2)
            real = self.seen(self.normalized(audio))
        label = self._label_of(batch)
        losses = self._discriminator_step(batch, real, label, update)
        if step % self.config.critic_steps == 0:
            with layers.frozen(self.discriminator):
                loss = self.loss.generator(self.discriminator(self._generate(batch, label), label).float())
                update("generator", loss)
            losses["generator_loss"] = loss.detach()
        return losses

    def normalized(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        """Clips with a peak of 1, unless `--no-normalize`; silence stays."""
        if not self.config.normalize:
            return audio
        peak = audio.abs().amax(dim=(1, 2), keepdim=True)
        return audio / torch.where(peak > 0, peak, 1)

    def _discriminator_step(self, batch: Batch, real: Tensor, label: Labels, update: Update) -> dict[str, Tensor]:
        with torch.no_grad():
            generated = self._generate(batch, label)
        real_logits = self.discriminator(real, label).float()
        generated_logits = self.discriminator(generated, label).float()
        loss = self.loss.discriminator(real_logits, generated_logits)
        gap = real_logits.mean() - generated_logits.mean()  # with wgan and wgan-gp: the Wasserstein estimate
        losses = {"critic_gap": gap.detach()}
        if self.loss.penalized:
            alpha = batch.draw(torch.rand, *[1] * (real.ndim - 1))
            penalty = gradient_penalty(self._critic(label), torch.lerp(real, generated.float(), alpha))
            losses["gradient_penalty"] = penalty.detach()
            loss = loss + self.config.gradient_penalty_weight * penalty
        update("discriminator", loss)
        if self.loss.clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.loss.clip, self.loss.clip)
        return {"discriminator_loss": loss.detach(), **losses}

    def _generate(self, batch: Batch, label: Labels) -> Tensor:
        return self.generator(batch.draw(torch.rand, self.config.latent_dim) * 2 - 1, label)

    def _critic(self, label: Labels) -> list[Callable[[Tensor], Tensor]]:
        """The discriminator as `gradient_penalty` takes it: in layers where it is piecewise linear, else whole."""
        if self.config.batch_norm:
            return [partial(self.discriminator, label=label)]
        return [*self.discriminator.layers, partial(self.discriminator.score, label=label)]

    def _label_of(self, batch: Batch) -> Labels:
        """The class of each example; the one after the last stands for "no label"."""
        if self.config.label is None:
            return None
        return drawn_classes(batch, self.config.label, self.config.labels, self.config.label_dropout)

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Mean logits of the critic for held-out clips, and for generated ones of the same labels.

        Held-out clips that score as low as generated ones show a critic that remembers its training clips. The score is
        left to the distance between clips.
        """
        device = next(self.parameters()).device
        some = [one for one in islice(held_out, HELD_OUT) if one.audio["audio"].shape[1] >= self.length]
        if not some:
            return None
        audio = np.stack([one.audio["audio"][:, : self.length] for one in some])
        real = self.seen(self.normalized(torch.from_numpy(audio).to(device)))
        inputs = [self.inputs(one) for one in some]
        stacked = {name: torch.stack([one[name] for one in inputs]).to(device) for name in inputs[0]}
        logits = {"held_out": real, "generated": self.generated(stacked)}
        label = stacked.get("label")
        return Validation(
            None, {f"critic_{name}": float(self.discriminator(x, label).float().mean()) for name, x in logits.items()}
        )

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        config = self.config

        # NumPy draws: torch's generator on the CPU looks at the lower 32 bits of a seed only.
        def uniform(draws: np.random.Generator) -> np.ndarray:
            return draws.uniform(-1, 1, config.latent_dim)

        def generator(seed: int) -> np.random.Generator:
            return np.random.Generator(np.random.PCG64(seed))

        latent = drawn_latent(request, lambda seed: uniform(generator(seed)))
        inputs = {"latent": torch.from_numpy(latent.astype(np.float32))}
        if config.labels:
            draws = generator(request.seed)
            uniform(draws)  # the class is drawn after the latent
            inputs["label"] = requested_class(request, config.label, config.labels, config.label_dropout, draws)
        return inputs

    @classmethod
    def exports(cls, config: Any) -> Mapping[str, Export]:
        return latent_export.FORMS

    @property
    def export_facts(self) -> Mapping[str, str]:
        """What a program must know that runs an exported file."""
        return {"sample_rate": str(self.sample_rate), "labels": json.dumps(list(self.config.labels))}

    def finished(self, output: Float[Tensor, "batch channels *shape"]) -> Float[Tensor, "batch channels *_"]:
        """What an exported file gives, of the generator's output: `exported_as`."""
        return output

    def exported(self, form: str, options: Any, metadata: Mapping[str, Any]) -> bytes:
        one = self.generator.eval()
        graph = latent_export.LatentGraph(one.embedding, one.dense, one.start, one.layers, self.finished)
        return latent_export.written(graph.eval(), self._examples(2), self.exported_as, form, self.export_facts)

    @torch.inference_mode()
    def export_error_db(self, form: str, options: Any, data: bytes) -> float:
        inputs = self._examples(3)
        return latent_export.error_db(data, form, inputs, self.finished(self.generated(inputs)))

    def _examples(self, count: int) -> dict[str, Tensor]:
        """Latents, and classes, of the first seeds."""
        config = self.config
        fields = {config.label: config.labels[0]} if config.labels else {}
        each = [self.inputs(Request(seed, fields, {})) for seed in range(count)]
        return {name: torch.stack([one[name] for one in each]) for name in ("latent", "label") if name in each[0]}

    def generated(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch channels *shape"]:
        """What the generator makes of rendering inputs, in evaluation mode."""
        training = self.generator.training
        self.generator.eval()
        try:
            return self.generator(inputs["latent"], inputs.get("label")).float()
        finally:
            self.generator.train(training)
