"""RAVE as a model: two phases of training, the turn between them, and audio to latents to audio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import Direction, Export, Score
from tonemill.models.parts import adversarial_losses as losses
from tonemill.models.parts.augment import Augmentation
from tonemill.models.parts.discriminators import Judgement, MultiPeriod, MultiScale, Several, strided_stack
from tonemill.models.parts.layers import frozen
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.settings import settled
from tonemill.models.players import Player
from tonemill.models.rave.codec import Audio, Codec, latency_of
from tonemill.models.rave.distances import spectral_distance
from tonemill.models.rave.export import FORMS, ExportOptions, error_db, written
from tonemill.models.rave.latents import Codes
from tonemill.models.rave.noise import SEEDS
from tonemill.models.rave.options import DecodeOptions, EncodeOptions
from tonemill.models.rave.player import Decoding, Encoding, player_of
from tonemill.models.rave.settings import VARIANTS, RaveConfig
from tonemill.models.rave.stating import stated
from tonemill.models.rave.validation import validated

LATENTS: Final = "latents"
"""The array that `encode` gives and `decode` needs: coordinates along the principal axes (count, frames)."""

FINE_TUNE: Final = "fine tune"


class Rave(Model):
    """The autoencoder, and the discriminators that fine-tune its decoder."""

    Config: ClassVar[type] = RaveConfig
    chooser = "architecture"
    pads_short: ClassVar[bool] = True
    score: ClassVar[Score] = Score("held-out multi-scale spectral distance")
    usual: ClassVar[Mapping[str, Any]] = {
        "batch_size": 8,
        "steps": 2_000_000,
        "checkpoint_every": 10_000,
        "listen_every": 5000,
    }

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.codec = Codec(config)
        self.discriminator = _discriminator(config)
        self.silence_rms = 10 ** (config.silence_floor_db / 20)

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return VARIANTS

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        return settled(config, corpus, "rave")

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        latency = latency_of(config)
        late = [f"{samples} samples ({1000 * samples / config.sample_rate:.1f} ms)" for samples in latency[1:]]
        block = f"late by {{}} and a block of {config.hop_length} where it streams"
        return {
            "forward": Direction(
                f"Audio to latents and back, {block.format(late[1])}.",
                options=EncodeOptions,
                streams=True,
                latency=latency.total,
            ),
            "encode": Direction(
                "Latents of audio, as the array latents.",
                gives=LATENTS,
                options=EncodeOptions,
                streams=True,
                hop=config.hop_length,
                channels=config.channels or 0,
            ),
            "decode": Direction(
                f"Audio of the array latents, {block.format(late[0])}.",
                (LATENTS,),
                options=DecodeOptions,
                streams=True,
                hop=config.hop_length,
                learned=True,
                latency=latency.decoder,
            ),
        }

    @classmethod
    def exports(cls, config: Any) -> Mapping[str, Export]:
        return FORMS

    def about(self) -> dict[str, str]:
        """Phase, latency, cost and speed, and how many latents hold how much of what varies, once they are measured."""
        return stated(self.codec, self.config)

    @property
    def length(self) -> int:
        return int(self.config.length)

    @property
    def augmentation(self) -> Augmentation | None:
        names = tuple(self.config.augment)
        return Augmentation(names, self.sample_rate, self.length) if names else None

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        # The reference has (0.5, 0.9) for both; with them held-out distances of one training go up and down by 3.
        return {
            "codec": adam(self.codec.parameters(), config.learning_rate, (0.9, 0.99)),
            "discriminator": adam(self.discriminator.parameters(), config.discriminator_learning_rate, (0.5, 0.9)),
        }

    def learning_rate(self, optimizer: str, step: int) -> float:
        """Of an optimizer at a step: the codec's rises, and falls linearly until fine tuning begins."""
        config = self.config
        if optimizer == "discriminator":
            return float(config.discriminator_learning_rate)
        fallen = min(1.0, (step - 1) / config.fine_tune_after) if config.fine_tune_after else 0.0
        rate = config.learning_rate + fallen * (config.learning_rate_end - config.learning_rate)
        return float(rate * min(1.0, step / config.learning_rate_warm_up if config.learning_rate_warm_up else 1.0))

    def beta(self, step: int) -> float:
        """The weight of the divergence: from `beta_start` to `beta`, by the same factor each step."""
        config = self.config
        share = min(1.0, step / config.beta_warm_up) if config.beta_warm_up else 1.0
        if not config.beta or share == 1.0:
            return float(config.beta)
        return float(config.beta_start ** (1 - share) * config.beta**share)

    def fine_tunes(self, step: int) -> bool:
        """Whether a step is of the second phase."""
        return bool(self.config.fine_tune_after) and step > self.config.fine_tune_after

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        audio = batch.audio["audio"].float()
        seeds = (batch.draw(torch.rand) * SEEDS).floor()
        frames = audio.shape[-1] // self.config.hop_length
        noise = batch.draw(torch.randn, self.config.latent_dim, frames)
        if self.fine_tunes(step):
            return self._fine_tuning_step(audio, noise, seeds, step, update)
        if step == 1 and self.config.fine_tune_after:
            self._rehearse(audio, noise, seeds)
        bands = self.codec.bands(audio)
        posterior = self.codec.posterior(bands)
        found = self.codec.decoder(posterior.mean + noise * posterior.deviation, seeds)
        parts = self._distances(bands, found, audio, self.codec.synthesis(found))
        parts["divergence"] = posterior.divergence().sum(dim=1).mean()
        loss = self._weighted(parts, step)
        update("codec", loss)
        return {"loss": loss.detach(), **_named(parts)}

    def _fine_tuning_step(
        self, audio: Audio, noise: Codes, seeds: Tensor, step: int, update: Update
    ) -> dict[str, Tensor]:
        """Discriminators at the first of every few steps, else the decoder."""
        bands, codes = self._frozen_codes(audio, noise)
        if (step - 1 - self.config.fine_tune_after) % self.config.discriminator_every == 0:
            with torch.no_grad():
                generated = self.codec.synthesis(self.codec.decoder(codes, seeds))
            loss = losses.hinge_discriminator_loss(*self._judged(*self._aligned(audio, generated)))
            update("discriminator", loss)
            return {"discriminator_loss": loss.detach()}
        parts = self._tuning_parts(bands, codes, audio, seeds)
        loss = self._weighted(parts, step)
        update("codec", loss)
        return {"loss": loss.detach(), **_named(parts)}

    def _frozen_codes(self, audio: Audio, noise: Codes) -> tuple[Tensor, Codes]:
        """Sub-bands and latents by an encoder that learns nothing, statistics of its batches included."""
        self.codec.encoder.eval()
        with torch.no_grad():
            bands = self.codec.bands(audio)
            posterior = self.codec.posterior(bands)
            return bands, posterior.mean + noise * posterior.deviation

    def _tuning_parts(self, bands: Tensor, codes: Codes, audio: Audio, seeds: Tensor) -> dict[str, Tensor]:
        """Losses of the decoder while it is fine-tuned."""
        found = self.codec.decoder(codes, seeds)
        generated = self.codec.synthesis(found)
        parts = self._distances(bands, found, audio, generated)
        with frozen(self.discriminator):
            of_real, of_generated = self._judged(*self._aligned(audio, generated))
        parts["adversarial"] = losses.hinge_generator_loss(of_generated)
        parts["matching"] = losses.feature_matching_loss(
            _matched(of_real, self.config.is_first),
            _matched(of_generated, self.config.is_first),
            relative=not self.config.is_first,
        )
        return parts

    def _rehearse(self, audio: Audio, noise: Codes, seeds: Tensor) -> None:
        """The most that fine tuning needs, without learning: memory that runs out does so now, and not after days."""
        bands, codes = self._frozen_codes(audio, noise)
        self.codec.encoder.train()
        loss = self._weighted(self._tuning_parts(bands, codes, audio, seeds), 1)
        with torch.autocast(audio.device.type, enabled=False):
            torch.autograd.grad(loss, list(self.codec.decoder.parameters()), allow_unused=True)

    def _aligned(self, audio: Audio, generated: Audio) -> tuple[Tensor, Tensor]:
        """Both without the samples by which a causal filter bank is late."""
        lag = self.codec.lag
        return audio[..., : audio.shape[-1] - lag], generated[..., lag:]

    def _distances(self, bands: Tensor, found: Tensor, audio: Audio, generated: Audio) -> dict[str, Tensor]:
        """Of sub-bands, which both sides have at the same place, and of the signal."""
        scales, bank = self.config.scales, self.config.bands
        real, rendered = self._aligned(audio, generated)
        return {
            # A signal spreads over M bands, each of a variance of 1 / M of its own.
            "bands_distance": spectral_distance(found, bands, scales, self.silence_rms / bank**0.5),
            "distance": spectral_distance(rendered, real, scales, self.silence_rms),
        }

    def _judged(self, real: Audio, generated: Audio) -> tuple[list[Judgement], list[Judgement]]:
        """What the discriminators make of both, in one pass; each channel is a signal of its own."""
        both = rearrange(torch.cat([real, generated]), "batch c time -> (batch c) 1 time")
        half = len(both) // 2
        judged = self.discriminator(both)
        halves = [
            [Judgement(one.scores[part], [feature[part] for feature in one.features]) for one in judged]
            for part in (slice(half), slice(half, None))
        ]
        return halves[0], halves[1]

    def _weighted(self, parts: Mapping[str, Tensor], step: int) -> Tensor:
        """The sum of all losses, each with its weight once."""
        weights = {
            "bands_distance": self.config.spectral_weight,
            "distance": self.config.spectral_weight,
            "divergence": self.beta(step),
            "adversarial": self.config.adversarial_weight,
            "matching": self.config.matching_weight,
        }
        return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

    def turns(self) -> Mapping[int, str]:
        return {self.config.fine_tune_after + 1: FINE_TUNE} if self.config.fine_tune_after else {}

    def turn(self, name: str, batches: Iterable[Batch], examples: Iterable[Request]) -> None:
        """Principal axes of the latents of one epoch; the first version's noise begins."""

        def measured() -> Iterator[tuple[Codes, Tensor]]:
            for batch in batches:
                audio = batch.audio["audio"].float()
                framed = rearrange(audio, "batch c (frames hop) -> batch frames (c hop)", hop=self.config.hop_length)
                level = framed.square().mean(dim=2).clamp(min=1e-10).log()
                yield self.codec.posterior(self.codec.bands(audio)).mean, level

        self.codec.axes.fit(measured())
        self.codec.decoder.noise_share.fill_(1.0)

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Distances, latents and bands of held-out audio through means of latents.

        While fine tuning is still to come there is no score: it raises the distance, and the best checkpoint would be
        one of before.
        """
        found = validated(self.codec.plain(), self.config, held_out)
        if found is None or not self.config.fine_tune_after or float(self.codec.axes.fitted):
            return found
        return Validation(None, found.values, found.files)

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"codec": self.codec}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        seed = torch.tensor(float(request.seed % SEEDS))
        if request.direction == "decode":
            self._check_rows(len(request.arrays[LATENTS]))
            return {LATENTS: torch.from_numpy(np.array(request.arrays[LATENTS], np.float32)), "seed": seed}
        self._check_channels(len(request.audio["audio"]))
        return {"audio": torch.from_numpy(np.array(request.audio["audio"], np.float32)), "seed": seed}

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        codec, seeds = self.codec.plain(), inputs["seed"]
        if direction == "decode":
            given = inputs[LATENTS]
            decoding = Decoding(codec, options.temperature, seeds)
            return torch.cat([given.new_zeros(len(given), codec.channels, 0), *decoding.whole(given)], dim=-1)
        audio = inputs["audio"]
        encoding = Encoding(codec, self._count(options), options.temperature, seeds)
        if direction == "encode":
            return torch.cat([audio.new_zeros(len(audio), self._count(options), 0), *encoding.whole(audio)], dim=-1)
        decoding = Decoding(codec, options.temperature, seeds)
        sounds = [sound for codes in encoding.whole(audio) for sound in decoding.push(codes)]
        return torch.cat([audio[..., :0], *sounds, *decoding.flush()], dim=-1)[..., : audio.shape[-1]]

    def player(self, request: Request, channels: int) -> Player:
        seed, codec = float(request.seed % SEEDS), self.codec.plain()
        if request.direction == "decode":
            self._check_rows(channels)
        else:
            self._check_channels(channels)
        return player_of(codec, request.direction, request.options, channels, seed)

    def exported(self, form: str, options: Any, metadata: Mapping[str, Any]) -> bytes:
        return written(self.codec.plain(), form, self._count(options), self.sample_rate)

    def export_error_db(self, form: str, options: Any, data: bytes) -> float:
        return error_db(self.codec.plain(), form, data)

    def _count(self, options: EncodeOptions | ExportOptions) -> int:
        return self.codec.axes.count(options.latents, options.fidelity)

    def _check_rows(self, rows: int) -> None:
        if not 1 <= rows <= self.config.latent_dim:
            raise UsageError(
                f"the array latents has {rows} rows, but this run has {self.config.latent_dim} latents. Encode with "
                "the same run: `tonemill render RUN --as encode`."
            )

    def _check_channels(self, channels: int) -> None:
        if channels % self.channels or not channels:
            raise UsageError(
                f"audio has {channels} channel(s), but this run encodes {self.channels} together. Put "
                f"`tonemill channels {'mean' if self.channels == 1 else 'stereo'}` into the pipe."
            )


def _matched(judged: list[Judgement], is_first: bool) -> list[Judgement]:
    """Feature maps that are compared: in the second version all but the first layer's (RAVE's published code)."""
    return judged if is_first else [one._replace(features=one.features[1:]) for one in judged]


def _named(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in parts.items()}


def _discriminator(config: RaveConfig) -> nn.Module:
    """Of several scales, in the second version of several periods too (RAVE's published code)."""
    widths = tuple(config.capacity * 2**place for place in range(4))
    scales = MultiScale(lambda: strided_stack(widths), pool=2)
    return scales if config.is_first else Several(MultiPeriod(widths=widths), scales)
