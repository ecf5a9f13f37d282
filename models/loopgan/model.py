"""The loop GAN as a model: loops to mel spectrograms and back, its training, and loops from seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import SEED, Direction
from tonemill.models.loopgan.features import RandomFeatures
from tonemill.models.loopgan.generator import Generator, mixed, path_lengths, truncated
from tonemill.models.loopgan.plain_discriminator import PlainDiscriminator
from tonemill.models.loopgan.projection import Heads, Projection
from tonemill.models.loopgan.settings import LoopGANConfig, LoopOptions
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.layers import frozen
from tonemill.models.parts.mel import LogMel
from tonemill.models.parts.settings import settled
from tonemill.models.parts.spectra import BandStatistics

Clips = Float[Tensor, "batch time"]
Mel = Float[Tensor, "_ 1 frames bands"]

R1_EVERY: Final = 16
PATH_EVERY: Final = 4
"""Steps between the costly penalties, which weigh as much more (section 4 of StyleGAN2)."""

PATH_DECAY: Final = 0.01
MEAN_STYLES: Final = 4096
"""Latent vectors whose mean style truncation draws to."""

TILES: Final = 3
"""A loop is turned into audio three times in a row, of which the middle is kept: the seam lies inside."""

HELD_OUT: Final = 64
MEL_SETTINGS: Final = ("n_fft", "hop_length", "mel_bands", "low_hz", "high_hz")
LOOPS_PIPE: Final = (
    "`tonemill scan FOLDER | tonemill loops --bars {bars} --target-bpm {bpm:g} | tonemill resample --rate 16000 "
    "--channels mono | tonemill shard CORPUS`"
)


class Projected(nn.Module):
    """Mel spectrograms to the logits of heads that see mixed features of a frozen network."""

    def __init__(self, config: LoopGANConfig) -> None:
        super().__init__()
        self.features = RandomFeatures(config.feature_width, config.layout == "circular")
        self.projection = Projection(self.features.widths)
        self.heads = Heads(self.projection.widths)

    def forward(self, mel: Mel) -> Float[Tensor, "batch logits"]:
        return self.heads(self.projection(self.features(mel)))


class LoopGAN(Model):
    Config: ClassVar[type] = LoopGANConfig
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "ema": 0.998}
    uses: ClassVar[Mapping[str, str]] = {"vocoder": "decode"}
    least_batch: ClassVar[int] = 2  # heads normalise over a batch

    path_mean: Tensor

    def __init__(self, config: LoopGANConfig, parents: Mapping[str, Model]) -> None:
        super().__init__(parents)
        self.config = config
        shape = config.shape(self.sample_rate)
        self.log_mel = LogMel(config, self.sample_rate)
        self.statistics = BandStatistics(config.mel_bands, least_deviation=1e-2)
        self.generator = Generator(shape)
        if config.discriminator == "projected":
            self.discriminator: nn.Module = Projected(config)
        else:
            frames = config.frames(self.sample_rate)
            width = config.discriminator_width
            self.discriminator = PlainDiscriminator(frames, config.mel_bands, width, circular=shape.circular)
        self.register_buffer("path_mean", torch.zeros(()))

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        pipe = LOOPS_PIPE.format(bars=config.bars, bpm=config.bpm)
        config = settled(config, corpus, "loopgan", material="loops", pipe=pipe)
        if corpus.channels != 1:
            raise CorpusError(
                f"{corpus.name} holds {corpus.channels} channels, and a loop GAN makes one. Put `tonemill channels "
                "mean` into the pipe that makes it."
            )
        vocoder = corpus.parents.get("vocoder")
        if vocoder is not None:
            if vocoder.sample_rate != corpus.sample_rate:
                raise CorpusError(
                    f"{corpus.name} holds {corpus.sample_rate} Hz audio and the vocoder renders {vocoder.sample_rate} "
                    f"Hz. Put `tonemill resample --rate {vocoder.sample_rate}` into the pipe that makes the corpus."
                )
            config = replace(config, **{name: vocoder.config[name] for name in MEL_SETTINGS})
        config.check_rate(corpus.sample_rate)
        plain = config.discriminator == "plain"
        return replace(
            config,
            r1_weight=(10.0 if plain else 0.0) if config.r1_weight is None else config.r1_weight,
            path_weight=(2.0 if plain else 0.0) if config.path_weight is None else config.path_weight,
        )

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        about = f"Loops from seeds: {config.bars} bars at {config.bpm:g} BPM."
        return {"render": Direction(about, (SEED,), options=LoopOptions, samples=config.samples(config.sample_rate))}

    @property
    def length(self) -> int:
        return int(self.config.samples(self.sample_rate))

    def check_examples(self, examples: Iterable[Request]) -> None:
        pipe = LOOPS_PIPE.format(bars=self.config.bars, bpm=self.config.bpm)
        for example in examples:
            samples = example.audio["audio"].shape[1]
            if samples != self.length:
                raise CorpusError(
                    f"A training example has {samples} samples, and {self.config.bars} bars at {self.config.bpm:g} BPM "
                    f"are {self.length}. Set --bars and --bpm to those of the corpus, or make it with {pipe}."
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
        return {name: torch.optim.Adam(part, self.config.learning_rate, (0.0, 0.99)) for name, part in parts.items()}

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config = self.config
        with torch.no_grad():
            real = self.mel(batch.audio["audio"][:, 0])
            if config.shift and self.generator.shape.circular:
                real = rotated(real, batch.draw(torch.rand))
            fake = self._generated(batch)[0]
        real_logits, fake_logits = self.discriminator(real).float(), self.discriminator(fake).float()
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
            penalty = gradient_square(self.discriminator, real)
            found["r1_penalty"] = penalty.detach()
            loss = loss + R1_EVERY * config.r1_weight / 2 * penalty
        update("discriminator", loss)
        with frozen(self.discriminator):
            found |= self._generator_step(batch, step, update)
        return found

    def _generator_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config = self.config
        fake, styles = self._generated(batch)
        logits = self.discriminator(fake).float()
        loss = -logits.mean() if config.loss == "hinge" else F.softplus(-logits).mean()
        found = {"generator_loss": loss.detach()}
        if config.path_weight and step % PATH_EVERY == 0:
            lengths = path_lengths(fake, styles)
            with torch.no_grad():
                self.path_mean.lerp_(lengths.mean(), PATH_DECAY)
            penalty = (lengths - self.path_mean).square().mean()
            found["path_length"] = lengths.mean().detach()
            loss = loss + PATH_EVERY * config.path_weight * penalty
        update("generator", loss)
        return found

    def _generated(self, batch: Batch) -> tuple[Mel, Tensor]:
        """Mel spectrograms of random latent vectors, some of them with two styles, and the styles of each layer."""
        generator, config = self.generator, self.config
        first, second = (generator.mapping(batch.draw(torch.randn, config.latent)) for _ in range(2))
        layers = generator.shape.styles
        crossover = 1 + (batch.draw(torch.rand) * (layers - 1)).floor()
        crossover = torch.where(batch.draw(torch.rand) < config.mixing, crossover, torch.full_like(crossover, layers))
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
        real, fake = self.discriminator(self.mel(audio)), self.discriminator(self._from_inputs(stacked, 1.0))
        return Validation(
            None,
            {
                "held_out_taken_for_real": float((real > 0).float().mean()),
                "generated_taken_for_real": float((fake > 0).float().mean()),
            },
        )

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "statistics": self.statistics}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        draws = np.random.Generator(np.random.PCG64(request.seed))
        inputs = {"latent": draws.standard_normal(self.config.latent)}
        # Streams of their own, so that another layout does not move the latent vector.
        for layer, size in enumerate(self.generator.shape.noise_shapes()):
            inputs[f"noise_{layer}"] = np.random.default_rng([request.seed, layer]).standard_normal((1, *size))
        if "vocoder" not in self.parents:
            shape = (TILES * self.config.frames(self.sample_rate), self.config.n_fft // 2 + 1)
            inputs["phase"] = np.random.default_rng([request.seed, 1000]).uniform(-np.pi, np.pi, shape)
        return {name: torch.from_numpy(value.astype(np.float32)) for name, value in inputs.items()}

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch 1 time"]:
        mel = self._from_inputs(inputs, (options or LoopOptions()).truncation)
        logs = self.statistics.denormalized(mel[:, 0]).transpose(1, 2).repeat(1, 1, TILES)
        audio = self._sound(logs, inputs.get("phase"))
        middle = audio.shape[1] // TILES
        loop = resampled(audio[:, middle : 2 * middle], self.length)
        return loop[:, None] / loop.abs().amax(dim=1).clamp(min=1)[:, None, None]

    def _from_inputs(self, inputs: Mapping[str, Tensor], truncation: float) -> Mel:
        generator = self.generator
        style = generator.mapping(inputs["latent"])
        if truncation != 1:
            many = np.random.default_rng(0).standard_normal((MEAN_STYLES, self.config.latent)).astype(np.float32)
            mean = generator.mapping(torch.from_numpy(many).to(style.device)).mean(dim=0)
            style = truncated(style, mean, truncation)
        noise = [inputs[f"noise_{layer}"] for layer in range(len(generator.shape.noise_shapes()))]
        return generator(generator.broadcast(style), noise)

    def _sound(self, logs: Float[Tensor, "batch bands frames"], phase: Tensor | None) -> Float[Tensor, "batch _"]:
        """Audio of log-mel spectrograms, frames * hop_length samples."""
        vocoder: Any = self.parents.get("vocoder")
        if vocoder is not None:
            return vocoder.audio(logs)
        hop = self.log_mel.hop_length
        magnitudes = self.log_mel.magnitudes(logs)
        sound = griffin_lim(magnitudes, phase, hop, self.config.griffin_lim_rounds)
        return sound[:, self.log_mel.edge_before :][:, : logs.shape[2] * hop]


def resampled(loops: Clips, samples: int) -> Float[Tensor, "batch _"]:
    """Loops of another number of samples: exact for signals that go on where they end, by their Fourier series.

    A loop of L samples has the period L; its harmonics below both half rates stay, so nothing is lost at a joint.
    """
    length = loops.shape[1]
    if length == samples:
        return loops
    kept = min(length, samples) // 2
    spectrum = torch.fft.rfft(loops)[:, : kept + 1].clone()
    if min(length, samples) % 2 == 0:
        # The bin at half the lower rate stands for two, of which the longer signal has both.
        spectrum[:, kept] = spectrum[:, kept].real * (0.5 if samples > length else 1.0)
    return torch.fft.irfft(spectrum, n=samples) * (samples / length)


def rotated(mel: Mel, turns: Float[Tensor, "batch"]) -> Mel:
    """Each spectrogram rotated in time by a share of its length."""
    frames = mel.shape[2]
    first = (turns * frames).long()
    place = (torch.arange(frames, device=mel.device) + first[:, None]) % frames
    return mel.gather(2, place[:, None, :, None].expand_as(mel))


def gradient_square(discriminator: nn.Module, real: Mel) -> Float[Tensor, ""]:
    """The mean squared norm of the discriminator's gradient at real examples (Mescheder et al., 2018, R1)."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
