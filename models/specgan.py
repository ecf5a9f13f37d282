"""SpecGAN: a GAN of log-magnitude spectrograms, inverted by Griffin-Lim (Donahue et al., 2019, https://arxiv.org/abs/1802.04208).

Representation, layout, padding, initial weights and losses are those of https://github.com/chrisdonahue/wavegan. It
departs in inverting with a true inverse STFT and momentum (`--inversion reference --griffin-lim-iterations 16` is the
original's, whose overlap-add modulates the sound every 128 samples), in any length of whole 4096 samples, in any number
of channels, and in classes, with `--label` (see adversarial.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Batch, Request
from tonemill.models.parts import layers
from tonemill.models.parts.adversarial import Adversarial, AdversarialConfig, Critic, LatentGenerator
from tonemill.models.parts.circular import Circular
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.seeded import around_circle, drawn
from tonemill.models.parts.settings import require_least
from tonemill.models.parts.spectra import BandStatistics, stft

N_FFT = 256
HOP_LENGTH = 128
FRAMES_TO_SEED = 32
"""The spectrogram's frames per frame of the first features: five stages of stride 2, on both axes."""
LOG_FLOOR = 1e-6
CLIP_DEVIATIONS = 3


@dataclass(frozen=True)
class SpecGANConfig(AdversarialConfig):
    length: Annotated[int, "Samples of a clip: a multiple of 4096; the paper's is 16384."] = 16384
    kernel_size: Annotated[int, "Width of each square kernel."] = 5
    griffin_lim_iterations: Annotated[int, "Rounds of phase search for each rendered clip."] = 60
    griffin_lim_momentum: Annotated[float, "How far each round overshoots; 0 is the original algorithm."] = 0.99
    inversion: Annotated[Literal["true", "reference"], "A true inverse STFT, or the paper's code's."] = "true"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, griffin_lim_iterations=0)
        least = FRAMES_TO_SEED * HOP_LENGTH
        if self.length < 1 or self.length % least:
            fitting = -(-max(self.length, 1) // least) * least
            raise UsageError(
                f"--length is {self.length} samples; it must be a multiple of {least}. Try --length {fitting}."
            )
        if not 0 <= self.griffin_lim_momentum < 1:
            raise UsageError(f"--griffin-lim-momentum is {self.griffin_lim_momentum}; it must be from 0 up to 1.")


class LogSpectrogram(BandStatistics):
    """Clips to spectrograms and back: log magnitudes, normalised per bin, clipped to three standard deviations.

    Its buffers are the statistics of the corpus. The spectrograms leave the Nyquist bin out; the inverse sets it to the
    corpus's mean.

    Args:
        loop: treat clips as circular: the end is followed by the beginning, not by silence.
    """

    def __init__(self, loop: bool = False) -> None:
        super().__init__(N_FFT // 2 + 1, least_deviation=LOG_FLOOR)
        self.loop = loop

    def logs(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels frames bins"]:
        """ln(magnitude + 1e-6), a frame for each 128 samples."""
        more = N_FFT - HOP_LENGTH
        whole = torch.cat([audio, audio[..., :more]], dim=-1) if self.loop else F.pad(audio, (0, more))
        return (stft(whole, N_FFT, HOP_LENGTH).abs() + LOG_FLOOR).log()

    def fit(self, clips: Iterable[Float[Tensor, "_ _ _"]]) -> None:
        """Learn the statistics from clips (batch, channels, time)."""
        self.fit_frames(self.logs(audio) for audio in clips)

    def forward(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels frames 128"]:
        return (self.normalized(self.logs(audio)) / CLIP_DEVIATIONS)[..., :-1].clamp(-1, 1)

    def magnitudes(
        self, normalized: Float[Tensor, "batch channels frames 128"]
    ) -> Float[Tensor, "batch channels frames bins"]:
        return self.denormalized(F.pad(normalized, (0, 1)) * CLIP_DEVIATIONS).exp()


class Generator(LatentGenerator):
    """Latent vectors (batch, latent_dim) to normalised spectrograms (batch, channels, frames, 128)."""

    def __init__(self, config: SpecGANConfig, channels: int) -> None:
        self.seed_frames = config.length // HOP_LENGTH // FRAMES_TO_SEED
        widths = [config.dim * 2**i for i in (4, 3, 2, 1, 0)] + [channels]
        upsample = {"zeros": layers.SameConvTranspose2d, "nearest": layers.NearestConv2d}[config.upsampling]
        stack: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            if config.batch_norm:
                stack.append(nn.BatchNorm2d(width, eps=1e-3, momentum=0.01))
            raised: nn.Module = upsample(width, next_width, config.kernel_size, 2)
            if config.loop:
                raised = Circular(raised, config.kernel_size + 2, raised=2)
            stack += [nn.ReLU(inplace=True), raised]
        stack.append(nn.Tanh())
        super().__init__(config, self.seed_frames * 4 * widths[0], stack)

    def start(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width frames bins"]:
        # With whole operations of torch, so that exported files take batches of any size.
        return x.unflatten(1, (self.seed_frames, 4, -1)).permute(0, 3, 1, 2)


class Discriminator(Critic):
    """Normalised spectrograms (batch, channels, frames, 128) to logits (batch)."""

    def __init__(self, config: SpecGANConfig, channels: int) -> None:
        widths = [channels] + [config.dim * 2**i for i in range(5)]
        stack: list[nn.Module] = []
        for i, (width, next_width) in enumerate(pairwise(widths)):
            halved = layers.SameConv2d(width, next_width, config.kernel_size, 2)
            stack.append(Circular(halved, config.kernel_size, stride=2) if config.loop else halved)
            if config.batch_norm and i > 0:
                stack.append(nn.BatchNorm2d(next_width, eps=1e-3, track_running_stats=False))
            stack.append(nn.LeakyReLU(0.2))
        super().__init__(config, config.length // HOP_LENGTH // FRAMES_TO_SEED * 4 * widths[-1], stack)


class SpecGAN(Adversarial):
    Config: ClassVar[type] = SpecGANConfig
    exported_as: ClassVar[str] = "magnitudes"

    def __init__(self, config: SpecGANConfig) -> None:
        super().__init__(config)
        self.spectrogram = LogSpectrogram(config.loop)
        self.generator = Generator(config, self.channels)
        self.discriminator = Discriminator(config, self.channels)

    def fit(self, batches: Iterable[Batch]) -> None:
        self.spectrogram.fit(self.normalized(batch.audio["audio"]) for batch in batches)

    def seen(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels frames 128"]:
        return self.spectrogram(audio)

    def finished(
        self, output: Float[Tensor, "batch channels frames 128"]
    ) -> Float[Tensor, "batch channels frames bins"]:
        """Magnitudes, whose phases the program that runs a file has to find, as Griffin and Lim's algorithm does."""
        return self.spectrogram.magnitudes(output)

    @property
    def export_facts(self) -> Mapping[str, str]:
        return {**super().export_facts, "n_fft": str(N_FFT), "hop_length": str(HOP_LENGTH), "window": "hann"}

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {**super().rendering_parts(), "spectrogram": self.spectrogram}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        inputs = super().inputs(request)
        # A stream of its own, so that the number of latents drawn does not move it.
        shape = (self.channels, self.length // HOP_LENGTH, N_FFT // 2 + 1)

        def phases(seed: int) -> np.ndarray:
            return np.random.Generator(np.random.PCG64([seed, 1])).uniform(-np.pi, np.pi, shape)

        inputs["phase"] = torch.from_numpy(drawn(request, phases, around_circle).astype(np.float32))
        return inputs

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch channels time"]:
        config = self.config
        magnitudes = self.finished(self.generated(inputs))
        # The original starts from zero phase and has no momentum.
        original = config.inversion == "reference"
        phase = None if original else inputs["phase"]
        momentum = 0.0 if original else config.griffin_lim_momentum
        if config.loop:
            # Invert three repetitions and keep the middle one, so that the seam is inside the inverted signal.
            magnitudes = magnitudes.repeat(1, 1, 3, 1)
            phase = None if phase is None else phase.repeat(1, 1, 3, 1)
        audio = griffin_lim(magnitudes, phase, HOP_LENGTH, config.griffin_lim_iterations, momentum, config.inversion)
        first = config.length if config.loop else 0
        return audio[..., first : first + config.length]


MODEL = SpecGAN
