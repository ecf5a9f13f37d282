"""WaveGAN: raw-waveform GAN (Donahue et al., 2019, https://arxiv.org/abs/1802.04208).

Layout, padding, initial weights, losses and optimizers are those of https://github.com/chrisdonahue/wavegan. It departs
in taking any power of two as length and any number of channels, also with a post filter; in dividing by the peak of
each clip, not file (a model sees only clips); and in classes, with `--label` (see adversarial.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts import layers
from tonemill.models.parts.adversarial import Adversarial, AdversarialConfig, Critic, LatentGenerator
from tonemill.models.parts.circular import Circular, Turn
from tonemill.models.parts.settings import require_least

SEED_TIME = 16  # time steps that the generator starts from and the discriminator ends with


@dataclass(frozen=True)
class WaveGANConfig(AdversarialConfig):
    length: Annotated[int, "Samples of a clip: a power of two, such as 16384, 32768 or 65536."] = 16384
    post_filter: Annotated[
        int | None, "Samples of a learned filter after the generator, 512 in the paper; default: no filter."
    ] = None
    phase_shuffle: Annotated[int, "Largest shift, in samples, of phase shuffle; 0 turns it off."] = 2
    phase_shuffle_per: Annotated[Literal["batch", "example"], "What shares one shift; the paper's: batch."] = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, post_filter=1)
        if self.length < 4 * SEED_TIME or self.length & (self.length - 1):
            raise UsageError(f"--length is {self.length}; it must be a power of two, at least {4 * SEED_TIME}.")
        if not 0 <= self.phase_shuffle < SEED_TIME:
            raise UsageError(f"--phase-shuffle is {self.phase_shuffle}; it must be from 0 to {SEED_TIME - 1} samples.")


def strides(length: int) -> tuple[int, ...]:
    """Fours, then a two where fours do not make it; `SEED_TIME` times their product is the length."""
    doublings = (length // SEED_TIME).bit_length() - 1
    return (4,) * (doublings // 2) + (2,) * (doublings % 2)


class Generator(LatentGenerator):
    """Latent vectors (batch, latent_dim) to audio (batch, channels, length)."""

    def __init__(self, config: WaveGANConfig, channels: int) -> None:
        steps = strides(config.length)
        # 16d, 8d, 4d, 2d, d and the audio's own for 16384; one more doubling for each further stage
        widths = [config.dim * 2**i for i in reversed(range(len(steps)))] + [channels]
        upsample = {"zeros": layers.SameConvTranspose1d, "nearest": layers.NearestConv1d}[config.upsampling]
        stack: list[nn.Module] = []
        for stride, (width, next_width) in zip(steps, pairwise(widths), strict=True):
            if config.batch_norm:
                stack.append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.01))
            raised: nn.Module = upsample(width, next_width, config.kernel_size, stride)
            if config.loop:
                raised = Circular(raised, config.kernel_size + stride, raised=stride)
            stack += [nn.ReLU(inplace=True), raised]
        stack.append(nn.Tanh())
        if config.post_filter is not None:
            after: nn.Module = layers.SameConv1d(channels, channels, config.post_filter, groups=channels, bias=False)
            stack.append(Circular(after, config.post_filter) if config.loop else after)
        super().__init__(config, SEED_TIME * widths[0], stack)

    def start(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width time"]:
        # With whole operations of torch, so that exported files take batches of any size.
        return x.unflatten(1, (SEED_TIME, -1)).transpose(1, 2)


class Discriminator(Critic):
    """Audio (batch, channels, length) to logits (batch)."""

    def __init__(self, config: WaveGANConfig, channels: int) -> None:
        steps = strides(config.length)
        widths = [channels] + [config.dim * 2**i for i in range(len(steps))]
        stack: list[nn.Module] = []
        for i, (stride, (width, next_width)) in enumerate(zip(steps, pairwise(widths), strict=True)):
            halved = layers.SameConv1d(width, next_width, config.kernel_size, stride)
            stack.append(Circular(halved, config.kernel_size, stride=stride) if config.loop else halved)
            if config.batch_norm and i > 0:
                stack.append(nn.BatchNorm1d(next_width, eps=1e-3, track_running_stats=False))
            stack.append(nn.LeakyReLU(0.2))
            if config.phase_shuffle > 0 and i < 4:
                shuffle = Turn if config.loop else layers.PhaseShuffle
                stack.append(shuffle(config.phase_shuffle, config.phase_shuffle_per))
        super().__init__(config, SEED_TIME * widths[-1], stack)


class WaveGAN(Adversarial):
    Config: ClassVar[type] = WaveGANConfig

    def __init__(self, config: WaveGANConfig) -> None:
        super().__init__(config)
        self.generator = Generator(config, self.channels)
        self.discriminator = Discriminator(config, self.channels)

    def seen(self, audio: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        return audio

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch channels time"]:
        return self.generated(inputs)


MODEL = WaveGAN
