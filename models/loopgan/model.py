"""The loop GAN as a model: loops to mel spectrograms and back, its training, and loops from seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import SEED, Direction, Lean
from tonemill.models.loopgan import conditions
from tonemill.models.loopgan.augmenting import Augmenting
from tonemill.models.loopgan.circle import resampled
from tonemill.models.loopgan.discriminator import discriminator_of
from tonemill.models.loopgan.generator import Generator, crossovers, mixed, truncated
from tonemill.models.loopgan.penalties import gradient_square, path_lengths
from tonemill.models.loopgan.settings import NONE, RANDOM, LoopGANConfig, LoopOptions, settled_loops
from tonemill.models.parts.circular import turned
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.layers import frozen
from tonemill.models.parts.mel import LogMel
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.seeded import around_circle, drawn, drawn_latent
from tonemill.models.parts.spectra import BandStatistics

Clips = Float[Tensor, "batch time"]
Mel = Float[Tensor, "_ 1 frames bands"]
Logits = Float[Tensor, "batch logits"]

R1_EVERY: Final = 16
PATH_EVERY: Final = 4
"""Steps between the costly penalties, which weigh as much more (section 4 of StyleGAN2)."""

PATH_DECAY: Final = 0.01
MEAN_STYLES: Final = 4096
"""Latent vectors whose mean style truncation draws to."""

TILES: Final = 3
"""A loop is turned into audio three times in a row, of which the middle is kept: the seam is inside."""

HELD_OUT: Final = 64


class LoopGAN(Model):
    Config: ClassVar[type] = LoopGANConfig
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "ema": 0.998}
    uses: ClassVar[Mapping[str, str | Lean]] = {
        "vocoder": "decode",
        "features": Lean("describe", (RANDOM, NONE), training_only=True),
    }
    retired: ClassVar[Mapping[str, str]] = {"discriminator": ""}
    least_batch: ClassVar[int] = 2  # heads normalise over a batch

    path_mean: Tensor

    def __init__(self, config: LoopGANConfig, parents: Mapping[str, Model]) -> None:
        super().__init__(parents)
        self.config = config
        shape = config.shape(self.sample_rate)
        self.log_mel = LogMel(config, self.sample_rate)
        self.statistics = BandStatistics(config.mel_bands, least_deviation=1e-2)
        self.generator = Generator(shape)
        self.discriminator = discriminator_of(config, self.sample_rate, self.statistics, self.parents)
        self.augmenting = Augmenting() if config.augment == "adaptive" else None
        self.register_buffer("path_mean", torch.zeros(()))

    @classmethod
    def current(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        if "discriminator" not in values:
            return dict(values)
        features = {"projected": RANDOM, "plain": NONE}[values["discriminator"]]
        # As a version before trained.
        return {**super().current(values), "features": features, "augment": "none"}

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        return conditions.settled_conditions(settled_loops(config, corpus), corpus)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        about = f"Loops from seeds: {config.bars} bars at {config.bpm:g} BPM."
        fields, samples = conditions.request_fields(config), config.samples(config.sample_rate)
        tempo = {"tempo_bpm": config.bpm, "beats": 4 * config.bars, "beats_per_bar": 4}
        # Rounds of Griffin-Lim amplify roundings.
        bound_db = -70.0 if config.vocoder is None else -80.0
        return {
            "render": Direction(
                about,
                (SEED,),
                options=LoopOptions,
                fields=fields,
                samples=samples,
                states=tempo,
                bound_db=bound_db,
            )
        }

    @property
    def length(self) -> int:
        return int(self.config.samples(self.sample_rate))

    def check_examples(self, examples: Iterable[Request]) -> None:
        for example in examples:
            samples = example.audio["audio"].shape[1]
            if samples != self.length:
                raise CorpusError(
                    f"A training example has {samples} samples, and {self.config.bars} bars at {self.config.bpm:g} BPM "
                    f"are {self.length}. Set --bars and --bpm to those of the corpus, or make it with "
                    f"{self.config.pipe}."
                )

    def fit(self, batches: Iterable[Batch]) -> None:
        self.statistics.fit_frames(self._mel(batch.audio["audio"][:, 0]) for batch in batches)

    def mel(self, audio: Clips) -> Mel:
        """Normalised log-mel spectrograms of loops."""
        return self.statistics.normalized(self._mel(audio))[:, None]

    def _mel(self, audio: Clips) -> Float[Tensor, "batch frames bands"]:
        """Log-mel spectrograms of loops, each divided by its peak."""
        audio = audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        frames, hop = self.config.frames(self.sample_rate), self.log_mel.hop_length
        if self.config.layout == "pjloop":
            return self.log_mel(audio).transpose(1, 2)[:, :frames]
        loop = resampled(audio.float(), frames * hop)
        before = self.log_mel.edge_before
        around = F.pad(loop[:, None], (before, self.log_mel.n_fft - hop - before), mode="circular")[:, 0]
        return self.log_mel.of_padded(around).transpose(1, 2)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        learned = [one for one in self.discriminator.parameters() if one.requires_grad]
        parts = {"generator": list(self.generator.parameters()), "discriminator": learned}
        return {name: adam(part, self.config.learning_rate, (0.0, 0.99)) for name, part in parts.items()}

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        """Both networks learn from the same generated loops, which are made, and seen by frozen features, once."""
        config, condition = self.config, conditions.of_batch(self.config, batch)
        discriminator: Any = self.discriminator
        fake, styles = self._generated(batch, condition)
        fake_seen = discriminator.seen(self._augmented(fake, batch))
        with torch.no_grad():
            real = self.mel(batch.audio["audio"][:, 0])
            if config.shift and self.generator.shape.circular:
                real = turned(real, batch.draw(torch.rand), 2)
            real = self._augmented(real, batch)
            real_seen = discriminator.seen(real)
        real_logits = discriminator.judged(real_seen, condition).float()
        fake_logits = discriminator.judged([one.detach() for one in fake_seen], condition).float()
        if config.loss == "hinge":
            loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        else:
            loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        found = {
            "real_logits": real_logits.mean().detach(),
            "fake_logits": fake_logits.mean().detach(),
            "discriminator_loss": loss.detach(),
        }
        if config.r1_weight and step % R1_EVERY == 0:
            penalty = gradient_square(partial(discriminator, condition=condition), real)
            found["r1_penalty"] = penalty.detach()
            loss = loss + R1_EVERY * config.r1_weight / 2 * penalty
        update("discriminator", loss)
        if self.augmenting is not None:
            self.augmenting.adapt(real_logits)
            found["augmented_share"] = self.augmenting.share.clone()
        with frozen(discriminator):
            logits = discriminator.judged(fake_seen, condition).float()
            found |= self._generator_step(logits, fake, styles, batch, step, update)
        return found

    def _generator_step(
        self, logits: Logits, fake: Mel, styles: Tensor, batch: Batch, step: int, update: Update
    ) -> dict[str, Tensor]:
        config = self.config
        loss = -logits.mean() if config.loss == "hinge" else F.softplus(-logits).mean()
        found = {"generator_loss": loss.detach()}
        if config.path_weight and step % PATH_EVERY == 0:
            lengths = path_lengths(fake, styles, batch.draw(torch.randn, *fake.shape[1:]))
            with torch.no_grad():
                self.path_mean.lerp_(lengths.mean(), PATH_DECAY)
            penalty = (lengths - self.path_mean).square().mean()
            found["path_length"] = lengths.mean().detach()
            loss = loss + PATH_EVERY * config.path_weight * penalty
        update("generator", loss)
        return found

    def _augmented(self, mel: Mel, batch: Batch) -> Mel:
        return mel if self.augmenting is None else self.augmenting(mel, batch)

    def _generated(self, batch: Batch, condition: Tensor | None) -> tuple[Mel, Tensor]:
        """Mel spectrograms of random latent vectors, some of them with two styles, and the styles of each layer."""
        generator, config = self.generator, self.config
        latents = torch.cat([batch.draw(torch.randn, config.latent) for _ in range(2)])
        both = None if condition is None else condition.repeat(2, 1)
        first, second = generator.mapping(latents, both).chunk(2)
        layers = generator.shape.styles
        crossover = crossovers(batch.draw(torch.rand), batch.draw(torch.rand), layers, config.mixing)
        styles = mixed(first, second, layers, crossover)
        noise = [batch.draw(torch.randn, 1, *size) for size in generator.shape.noise_shapes()]
        return generator(styles, noise), styles

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Share of logits of held-out loops, and of generated ones, on their right side; the score is that of clips."""
        some = [one for one in islice(held_out, HELD_OUT) if one.audio["audio"].shape[1] == self.length]
        if not some:
            return None
        device = self.path_mean.device
        audio = torch.from_numpy(np.stack([one.audio["audio"][0] for one in some])).to(device)
        inputs = [self.inputs(one) for one in some]
        stacked = {name: torch.stack([one[name] for one in inputs]).to(device) for name in inputs[0]}
        shown = {"held_out": self.mel(audio), "generated": self._from_inputs(stacked, 1.0)}
        logits = {name: self.discriminator(mel, stacked.get("condition")) for name, mel in shown.items()}
        return Validation(
            None, {f"{name}_taken_for_real": float((one > 0).float().mean()) for name, one in logits.items()}
        )

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "statistics": self.statistics}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        config = self.config

        def normal(stream: int, *shape: int) -> Any:
            # Streams of their own, so that another layout does not move the latent vector.
            return drawn(request, lambda seed: np.random.default_rng([seed, stream]).standard_normal(shape))

        inputs = {"latent": drawn_latent(request, lambda seed: _generator(seed).standard_normal(config.latent))}
        condition = conditions.of_request(config, request)
        if condition is not None:
            inputs["condition"] = condition
        for layer, size in enumerate(self.generator.shape.noise_shapes()):
            inputs[f"noise_{layer}"] = normal(layer, 1, *size)
        if "vocoder" not in self.parents:
            shape = (self._tiles * config.frames(self.sample_rate), config.n_fft // 2 + 1)
            inputs["phase"] = drawn(
                request, lambda seed: np.random.default_rng([seed, 1000]).uniform(-np.pi, np.pi, shape), around_circle
            )
        return {name: torch.from_numpy(value.astype(np.float32)) for name, value in inputs.items()}

    @property
    def _tiles(self) -> int:
        return TILES if self.generator.shape.circular else 1

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch 1 time"]:
        mel = self._from_inputs(inputs, (options or LoopOptions()).truncation)
        # A young generator gives values whose powers of ten overflow; no sound within full scale has them.
        logs = self.statistics.denormalized(mel[:, 0]).transpose(1, 2).minimum(self.log_mel.loudest)
        logs = logs.repeat(1, 1, self._tiles)
        audio = self._sound(logs, inputs.get("phase"))
        if self.generator.shape.circular:
            once = audio.shape[1] // self._tiles
            loop = resampled(audio[:, once : 2 * once], self.length)
        else:
            # The published layout ends before the loop does.
            loop = F.pad(audio, (0, self.length - audio.shape[1]))
        return loop[:, None] / loop.abs().amax(dim=1).clamp(min=1)[:, None, None]

    def _from_inputs(self, inputs: Mapping[str, Tensor], truncation: float) -> Mel:
        generator, condition = self.generator, inputs.get("condition")
        style = generator.mapping(inputs["latent"], condition)
        if truncation != 1:
            style = truncated(style, self._mean_style(condition), truncation)
        noise = [inputs[f"noise_{layer}"] for layer in range(len(generator.shape.noise_shapes()))]
        return generator(generator.broadcast(style), noise)

    def _mean_style(self, condition: Tensor | None) -> Float[Tensor, "_ style"]:
        """The mean of many styles; with conditions that of each example's own, so that truncation keeps them."""
        mapping, device = self.generator.mapping, self.path_mean.device
        many = _generator(0).standard_normal((MEAN_STYLES, self.config.latent)).astype(np.float32)
        latents = torch.from_numpy(many).to(device)
        if condition is None:
            return mapping(latents).mean(dim=0, keepdim=True)
        return torch.stack([mapping(latents, one.expand(MEAN_STYLES, -1)).mean(dim=0) for one in condition])

    def _sound(self, logs: Float[Tensor, "batch bands frames"], phase: Tensor | None) -> Float[Tensor, "batch _"]:
        """Audio of log-mel spectrograms, frames * hop_length samples."""
        vocoder: Any = self.parents.get("vocoder")
        if vocoder is not None:
            return vocoder.audio(logs)
        hop = self.log_mel.hop_length
        magnitudes = self.log_mel.magnitudes(logs)
        sound = griffin_lim(magnitudes, phase, hop, self.config.griffin_lim_rounds)
        return sound[:, self.log_mel.edge_before :][:, : logs.shape[2] * hop]


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
