"""Mel spectrograms as parts of networks, their settings, and the way back to magnitudes.

Two scales of level: decibels of power for classifiers (`DecibelMel`), and the decadic logarithm of magnitudes for what
is turned back into sound (`LogMel`; MelGAN, Kumar et al., 2019, https://arxiv.org/abs/1910.06711).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.mel import mel_filters
from tonemill.models.exchange import CorpusFacts
from tonemill.models.parts.settings import require_least
from tonemill.models.parts.spectra import hann, reflected

WINDOW_SECONDS: Final = 0.023
HOP_SECONDS: Final = 0.00625
FLOOR_DB: Final = -80.0

LOG_FLOOR: Final = 1e-5
"""Least magnitude of a band of `LogMel`, whose logarithm is -5."""


@dataclass(frozen=True)
class MelConfig:
    """The mel settings of a model's config, as plain fields of it; models that lean on a run read them in run.json."""

    n_fft: Annotated[int, "Samples of a transform of the mel spectrogram, and of its window."] = 1024
    hop_length: Annotated[int, "Samples from one frame of the mel spectrogram to the next."] = 160
    mel_bands: Annotated[int, "Bands of the mel spectrogram."] = 64
    low_hz: Annotated[float, "Where the lowest band begins."] = 0.0
    high_hz: Annotated[float | None, "Where the highest band ends; default: half the sample rate."] = None

    def __post_init__(self) -> None:
        require_least(self, n_fft=16, hop_length=1, mel_bands=1, low_hz=0)
        if self.n_fft % 2:
            raise UsageError(f"--n-fft is {self.n_fft}; it must be even, as 1024.")
        if self.hop_length > self.n_fft // 2:
            raise UsageError(
                f"--hop-length is {self.hop_length}; it must be at most half of --n-fft, which is {self.n_fft // 2}."
            )
        if self.high_hz is not None and self.high_hz <= self.low_hz:
            raise UsageError(f"--high-hz is {self.high_hz:g}; it must be above --low-hz, which is {self.low_hz:g}.")

    def check_rate(self, sample_rate: int) -> None:
        """Refuse bands above half the sample rate.

        Raises:
            UsageError: names the flag and the bound.
        """
        if (self.high_hz or self.low_hz) > sample_rate / 2:
            flag, value = ("--high-hz", self.high_hz) if self.high_hz else ("--low-hz", self.low_hz)
            raise UsageError(f"{flag} is {value:g}; at {sample_rate} Hz it must be at most {sample_rate / 2:g}.")


MEL_SETTINGS: Final = ("n_fft", "hop_length", "mel_bands", "low_hz", "high_hz")


def mel_digest(settings: Mapping[str, Any], sample_rate: int) -> str:
    """Twelve digits by which two runs know that they compute one `LogMel`: of its settings and its filters.

    Args:
        settings: those of `MEL_SETTINGS`, by name.
        sample_rate: in hertz.
    """
    chosen = {name: settings[name] for name in MEL_SETTINGS}
    # A band that ends at half the sample rate is the same, written or not.
    chosen["high_hz"] = float(chosen["high_hz"] or sample_rate / 2)
    chosen["low_hz"] = float(chosen["low_hz"])
    return hashlib.sha256(json.dumps([chosen, sample_rate]).encode()).hexdigest()[:12]


def mel_of_parent(corpus: CorpusFacts, setting: str) -> dict[str, Any]:
    """The mel settings of a run that a model leans on.

    Args:
        corpus: to train on, with that run among its parents.
        setting: that names the run.

    Raises:
        CorpusError: the run has another sample rate than the corpus, or no such mel; the message names the mend.
    """
    parent, flag = corpus.parents[setting], setting.replace("_", "-")
    if parent.sample_rate != corpus.sample_rate:
        raise CorpusError(
            f"{corpus.name} holds {corpus.sample_rate} Hz audio, and the {parent.model} of --{flag} works at "
            f"{parent.sample_rate} Hz. Put `tonemill resample --rate {parent.sample_rate}` into the pipe that makes "
            "the corpus."
        )
    if any(parent.config.get(name) is None for name in ("n_fft", "hop_length", "mel_bands")):
        raise CorpusError(
            f"The {parent.model} of --{flag} uses mel spectrograms that no vocoder can turn into sound. Train one "
            f"on the vocoder's mel spectrograms: `tonemill train {parent.model} {corpus.name} --mel-of "
            "runs/vocoder -o runs/ears --steps 1000`."
        )
    return {name: parent.config[name] for name in MEL_SETTINGS}


class MelBands(nn.Module):
    """Clips (batch, time) to the size of each band (batch, bands, time // hop_length), linear.

    Frame k is centred on the middle of the samples from k * hop_length on.

    Args:
        filters: (bins, bands).
        window: (n_fft).
        hop_length: samples from one frame to the next.
        mirrored: before and after a clip stand its mirror images, and not silence; clips are longer than `edge`.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, filters: Float[Tensor, "bins bands"], window: Float[Tensor, "n_fft"], hop_length: int, mirrored: bool
    ) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.mirrored = len(window), hop_length, mirrored
        # Both follow from the settings, so no checkpoint need hold them.
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @property
    def edge_before(self) -> int:
        """Samples that the window of the first frame reaches beyond a clip's start."""
        return (self.n_fft - self.hop_length) // 2

    @property
    def edge(self) -> int:
        """Samples that the window of the last frame reaches beyond a clip's end; one more where the sum is odd."""
        return self.n_fft - self.hop_length - self.edge_before

    def padded(self, clips: Float[Tensor, "batch time"]) -> Float[Tensor, "batch _"]:
        """With what stands before and after a clip."""
        both = (self.edge_before, self.edge)
        return reflected(clips, both) if self.mirrored else F.pad(clips, both)

    def spectra(self, padded: Float[Tensor, "batch time"]) -> Float[Tensor, "batch frames bins"]:
        """Magnitudes of the frames that lie wholly inside."""
        return torch.fft.rfft(padded.unfold(-1, self.n_fft, self.hop_length) * self.window).abs()


class DecibelMel(MelBands):
    """Clips (batch, time) to decibels (batch, n_mels, time // hop_length); a full-scale sine has some more than 0 dB.

    Windows of 23 ms every 6.25 ms, at any sample rate; padded with zeros to a power of two of at least `8 * n_mels`, so
    that no band stays empty at a low rate.

    Args:
        sample_rate: in hertz.
        n_mels: bands on Slaney's scale, triangles of height 1, from 0 Hz to the Nyquist frequency.
    """

    def __init__(self, sample_rate: int, n_mels: int) -> None:
        width = max(16, round(WINDOW_SECONDS * sample_rate))
        n_fft = 1 << (max(width, 8 * n_mels) - 1).bit_length()
        window = hann(n_fft, width, torch.device("cpu"))
        filters = torch.from_numpy(mel_filters(sample_rate, n_fft, n_mels)).T.contiguous()
        super().__init__(filters, 2 * window / window.sum(), hop_length_at(sample_rate), mirrored=False)

    def forward(self, clips: Float[Tensor, "batch time"]) -> Float[Tensor, "batch n_mels frames"]:
        with torch.autocast(clips.device.type, enabled=False):
            power = self.spectra(self.padded(clips.float())).square() @ self.filters
            # The floor is cut in decibels: of its own power some processors' logarithm gives -80.00001.
            levels = 10 * power.clamp(min=10 ** (FLOOR_DB / 10 - 1)).log10()
            return levels.clamp(min=FLOOR_DB).transpose(1, 2)


def hop_length_at(sample_rate: int) -> int:
    """Samples from one frame of `DecibelMel` to the next."""
    return max(1, round(HOP_SECONDS * sample_rate))


class LogMel(MelBands):
    """Clips (batch, time) to log10 of mel magnitudes (batch, bands, time // hop_length), at least -5.

    Bands are on Slaney's scale, triangles of area 1; before and after a clip stand its mirror images, of
    (n_fft - hop_length) / 2 samples (MelGAN, section 2.1 of the paper and the published code).

    Args:
        config: the mel settings.
        sample_rate: in hertz.
    """

    def __init__(self, config: MelConfig, sample_rate: int) -> None:
        config.check_rate(sample_rate)
        filters = mel_filters(
            sample_rate, config.n_fft, config.mel_bands, low_hz=config.low_hz, high_hz=config.high_hz, area=True
        )
        window = hann(config.n_fft, None, torch.device("cpu"))
        super().__init__(torch.from_numpy(filters).T.contiguous(), window.clone(), config.hop_length, mirrored=True)

    def forward(self, clips: Float[Tensor, "batch time"]) -> Float[Tensor, "batch bands frames"]:
        return self.of_padded(self.padded(clips))

    def of_padded(self, padded: Float[Tensor, "batch time"]) -> Float[Tensor, "batch bands frames"]:
        """Of the frames that lie wholly inside, as a stream has them."""
        with torch.autocast(padded.device.type, enabled=False):
            bands = self.spectra(padded.float()) @ self.filters
            return bands.clamp(min=LOG_FLOOR).log10().transpose(1, 2)

    @property
    def loudest(self) -> Float[Tensor, "bands 1"]:
        """The largest value of each band for samples within -1 to 1: no bin exceeds the sum of the window."""
        return (self.window.sum() * self.filters.sum(dim=0)).clamp(min=LOG_FLOOR).log10()[:, None]

    def magnitudes(
        self, mel: Float[Tensor, "batch bands frames"], rounds: int = 100
    ) -> Float[Tensor, "batch frames bins"]:
        """Non-negative magnitudes of least squared error in the bands: the way back, for Griffin-Lim.

        Starts from the least-norm solution without its negative parts, and descends by projected gradients with
        Nesterov's momentum (Beck and Teboulle, 2009, "FISTA", section 4).

        Args:
            mel: as `forward` gives it.
            rounds: steps of the descent.
        """
        bands = (10 ** mel.float()).transpose(1, 2)
        found = (bands @ torch.linalg.pinv(self.filters)).clamp(min=0)
        step = 1 / torch.linalg.matrix_norm(self.filters, 2).square()
        ahead, pace = found, 1.0
        for _ in range(rounds):
            before = found
            found = (ahead - step * (ahead @ self.filters - bands) @ self.filters.T).clamp(min=0)
            following = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            ahead, pace = found + (pace - 1) / following * (found - before), following
        return found
