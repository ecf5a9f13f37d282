"""The vocoder as a model: training by spectra and discriminators, copy synthesis, and validation beside Griffin-Lim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar, Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import Direction, Score
from tonemill.models.parts import adversarial_losses as losses
from tonemill.models.parts.discriminators import MultiPeriod, MultiScale, MultiSTFT, Several, grouped_stack
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.layers import frozen
from tonemill.models.parts.mel import LogMel
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.settings import settled
from tonemill.models.parts.spectra import multi_resolution_distance, quarter_hops
from tonemill.models.vocoder.generators import Audio, Generator, MelGAN, Mels, Vocos
from tonemill.models.vocoder.player import FramePlayer, VocoderPlayer, latency_of, rendered_samples
from tonemill.models.vocoder.settings import VARIANTS, VocoderConfig

LOSS_RESOLUTIONS: Final = quarter_hops(128, 256, 512, 1024, 2048)
HELD_OUT_RESOLUTIONS: Final = quarter_hops(192, 384, 768, 1536)
"""Of the distance that validation reports: other sizes than what is trained by."""

LEAST_RMS: Final = 0.01
"""A training clip below -40 dB of full scale weighs in the relative distance as if it had this level."""

MEL: Final = "mel"
"""The array that `encode` gives and `decode` needs: (channels * bands, frames), all bands of a channel together."""

GRIFFIN_LIM_ROUNDS: Final = 60
CLIPS: Final = 4
"""So many held-out examples are written to listen to."""


class Vocoder(Model):
    """A generator of audio from mel spectrograms, and the discriminators that train it.

    Other models call `mel` and `audio`: the mel spectrograms that it learned from, and the way back.
    """

    Config: ClassVar[type] = VocoderConfig
    chooser = "generator"
    pads_short: ClassVar[bool] = True
    score: ClassVar[Score] = Score("multi-resolution STFT distance")
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 4, "steps": 100_000, "ema": 0.998}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config, self.sample_rate)
        self.generator = _generator(config)
        self.discriminator = Several(*(_discriminator(name, config) for name in config.discriminators))

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return VARIANTS

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        config.check_rate(corpus.sample_rate)
        high_hz = corpus.sample_rate / 2 if config.high_hz is None else config.high_hz
        return settled(config, corpus, "vocoder", high_hz=high_hz)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        mel: dict[str, Any] = {"hop": config.hop_length, "rows": config.mel_bands * config.channels}
        return {
            "render": Direction("Audio to its mel spectrogram and back.", streams=True, latency=_latency(config)),
            "encode": Direction("The log-mel spectrogram of audio, stored as the array mel.", gives=MEL, **mel),
            "decode": Direction("Audio from a log-mel spectrogram, the array mel.", (MEL,), streams=True, **mel),
        }

    @property
    def length(self) -> int:
        return int(self.config.length)

    def mel(self, audio: Audio) -> Mels:
        """The log-mel spectrogram (batch, bands, time // hop_length) that the generator reads."""
        return self.log_mel(audio)

    def audio(self, mel: Mels) -> Audio:
        """Audio (batch, frames * hop_length) of log-mel spectrograms.

        Raises:
            UsageError: there are too few frames.
        """
        if mel.shape[-1] < self.generator.least_frames:
            raise UsageError(
                f"a mel spectrogram has {mel.shape[-1]} frames, but the {self.config.generator} generator takes at "
                f"least {self.generator.least_frames}."
            )
        return self.generator(mel)

    def copied(self, audio: Audio) -> Audio:
        """Copy synthesis: to mel and back, of any length."""
        samples = rendered_samples(audio.shape[-1], self.log_mel, self.generator)
        return self.audio(self.mel(F.pad(audio, (0, samples - audio.shape[-1]))))[:, : audio.shape[-1]]

    def searched(self, audio: Audio, rounds: int = GRIFFIN_LIM_ROUNDS) -> Audio:
        """The same mel spectrogram turned into audio by Griffin-Lim, to compare with."""
        samples = rendered_samples(audio.shape[-1], self.log_mel, self.generator)
        magnitudes = self.log_mel.magnitudes(self.mel(F.pad(audio, (0, samples - audio.shape[-1]))))
        sound = griffin_lim(magnitudes, None, self.log_mel.hop_length, rounds)
        return sound[:, self.log_mel.edge_before :][:, : audio.shape[-1]]

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        return {
            "generator": adam(self.generator.parameters(), config.learning_rate, (0.8, 0.99)),
            "discriminator": adam(self.discriminator.parameters(), config.discriminator_learning_rate, (0.5, 0.9)),
        }

    def learning_rate(self, optimizer: str, step: int) -> float:
        """Of an optimizer at a step: the generator's falls by the same factor each step, to a tenth."""
        config = self.config
        if optimizer == "discriminator":
            return float(config.discriminator_learning_rate)
        return float(
            config.learning_rate * 0.1 ** min(1.0, (step - 1) / config.decay_steps if config.decay_steps else 0)
        )

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config = self.config
        real = rearrange(batch.audio["audio"], "batch channels time -> (batch channels) time").float()
        real = real[:, : real.shape[1] // config.hop_length * config.hop_length]
        if config.level_augment_db:
            real = real * 10 ** (
                -config.level_augment_db / 20 * batch.draw(torch.rand, self.channels).flatten()[:, None]
            )
        with torch.no_grad():
            mel = self.mel(real)
        generated = self.generator(mel)
        found = {}
        adversarial = step > config.adversarial_after
        if adversarial:
            found["discriminator_loss"] = self._judge(real, generated.detach(), update)
        parts = self._distances(real, generated, mel)
        if adversarial:
            parts |= self._judged(real, generated)
        weights = {
            "mel": config.mel_weight,
            "stft": config.stft_weight,
            "adversarial": config.adversarial_weight,
            "matching": config.matching_weight,
        }
        loss = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
        update("generator", loss)
        found |= {f"{name}_loss": value.detach() for name, value in parts.items()}
        return {"generator_loss": loss.detach(), **found}

    def _distances(self, real: Audio, generated: Audio, mel: Mels) -> dict[str, Tensor]:
        """Each spectral loss that has a weight."""
        found = {}
        if self.config.mel_weight:
            found["mel"] = (self.mel(generated) - mel).abs().mean()
        if self.config.stft_weight:
            found["stft"] = multi_resolution_distance(generated, real, LOSS_RESOLUTIONS, "reflection", LEAST_RMS)
        return found

    def _judge(self, real: Audio, generated: Audio, update: Update) -> Tensor:
        """An update of the discriminators."""
        loss = losses.hinge_discriminator_loss(
            self.discriminator(real[:, None]), self.discriminator(generated[:, None])
        )
        update("discriminator", loss)
        return loss.detach()

    def _judged(self, real: Audio, generated: Audio) -> dict[str, Tensor]:
        """What the discriminators give the generator to learn by."""
        with torch.no_grad():
            of_real = self.discriminator(real[:, None])
        with frozen(self.discriminator):
            of_generated = self.discriminator(generated[:, None])
        return {
            "adversarial": losses.hinge_generator_loss(of_generated),
            "matching": losses.feature_matching_loss(of_real, of_generated),
        }

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Distances of copy synthesis and of Griffin-Lim from held-out audio; None where none of it has sound."""
        ours: list[float] = []
        theirs: list[float] = []
        files = {}
        for number, audio in zip(count(), self._some(held_out), strict=False):
            sounds = {"generator": self.copied(audio), "griffin_lim": self.searched(audio)}
            for found, sound in zip((ours, theirs), sounds.values(), strict=True):
                found.append(float(distance(sound, audio)))
            if number < CLIPS:
                for name, sound in {"real": audio, **sounds}.items():
                    clip = Waveform(sound.clamp(-1, 1).cpu().numpy(), self.sample_rate)
                    files[f"{number}_{name}.wav"] = encode(clip, "wav", 16).data
        if not ours:
            return None
        values = {
            "stft_distance": float(np.mean(ours)),
            "griffin_lim_distance": float(np.mean(theirs)),
            "validated_examples": float(len(ours)),
        }
        return Validation(values["stft_distance"], values, files)

    def _some(self, held_out: Iterable[Request]) -> Iterator[Float[Tensor, "channels time"]]:
        """Held-out audio until there is enough; an example without sound is left out."""
        left = self.config.validate_seconds * self.sample_rate or float("inf")
        for request in held_out:
            audio = torch.from_numpy(np.array(request.audio["audio"], np.float32)).to(self.log_mel.filters.device)
            if audio.abs().amax() > 0:
                yield audio[:, : int(min(left, audio.shape[1]))]
                left -= audio.shape[1]
            if left <= 0:
                return

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        if request.direction == "decode":
            return {MEL: torch.from_numpy(np.array(request.arrays[MEL], np.float32))}
        return {"audio": torch.from_numpy(np.array(request.audio["audio"], np.float32))}

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        if direction == "decode":
            mel = rearrange(
                inputs[MEL], "batch (c bands) frames -> (batch c) bands frames", bands=self.config.mel_bands
            )
            return rearrange(self.audio(mel), "(batch c) time -> batch c time", batch=len(inputs[MEL]))
        audio = inputs["audio"]
        flat = rearrange(audio, "batch channels time -> (batch channels) time")
        if direction == "encode":
            samples = rendered_samples(flat.shape[1], self.log_mel, self.generator)
            frames = -(-flat.shape[1] // self.log_mel.hop_length)
            mel = self.mel(F.pad(flat, (0, samples - flat.shape[1])))[..., :frames]
            return rearrange(mel, "(batch c) bands frames -> batch (c bands) frames", batch=len(audio))
        return self.copied(flat).reshape(audio.shape)

    def player(self, request: Request, channels: int) -> VocoderPlayer | FramePlayer:
        if request.direction == "decode":
            return FramePlayer(self.log_mel, self.generator, channels // int(self.config.mel_bands))
        return VocoderPlayer(self.log_mel, self.generator, channels)


def _generator(config: Any) -> Generator:
    if config.generator == "vocos":
        return Vocos(config.mel_bands, config.n_fft, config.hop_length, config.width, config.blocks)
    return MelGAN(config.mel_bands, config.ratios, config.width)


@lru_cache
def _latency(config: Any) -> int:
    """Of a stream of copy synthesis, in samples, without weights."""
    with torch.device("meta"):
        return latency_of(LogMel(config, config.sample_rate), _generator(config))


def _discriminator(name: str, config: VocoderConfig) -> nn.Module:
    share = config.discriminator_widths
    if name == "multiscale":
        # Layers have groups of four channels.
        return MultiScale(lambda: grouped_stack(4 * round(4 * share), 4 * round(256 * share)))
    if name == "multiperiod":
        return MultiPeriod(widths=[round(width * share) for width in (96, 192, 384, 768)])
    return MultiSTFT(width=round(32 * share))


def distance(found: Audio, true: Audio) -> Float[Tensor, ""]:
    """The multi-resolution STFT distance by which vocoders are compared: at sizes that no loss of theirs uses."""
    shortest = max(resolution.n_fft for resolution in HELD_OUT_RESOLUTIONS)
    missing = max(0, shortest - true.shape[-1])
    return multi_resolution_distance(F.pad(found, (0, missing)), F.pad(true, (0, missing)), HELD_OUT_RESOLUTIONS)
