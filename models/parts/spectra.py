"""Short-time spectra of signals, back to the signal, and distances between two of them at several resolutions.

Frames are weighted by a periodic Hann window. The distances, with magnitudes X (found) and Y (true):

    linear      mean |X - Y|
    logarithm   mean |ln X - ln Y|
    relative    ||X - Y|| / ||Y|| of each clip, mean over clips: spectral convergence (Arik et al., 2019,
                https://arxiv.org/abs/1808.06719, section 3.2); squared in RAVE (Caillon and Esling, 2021)

The ratio is of each clip, because one over the batch would mix clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, reduce
from typing import Final, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

Inverse = Literal["true", "reference"]
Edges = Literal["none", "silence", "reflection"]
Magnitudes = Float[Tensor, "batch frames bins"]

LEAST_WEIGHT: Final = 1e-2
"""At the very edges one window reaches almost nothing; what is inconsistent there must not be amplified."""


class Resolution(NamedTuple):
    """How a short-time spectrum is taken.

    Args:
        n_fft: samples of a transform.
        hop_length: samples from one frame to the next.
        window_length: samples of the window, which stands in the middle of a transform; None: `n_fft`.
    """

    n_fft: int
    hop_length: int
    window_length: int | None = None


def quarter_hops(*sizes: int) -> tuple[Resolution, ...]:
    """Resolutions of these transforms, with a hop of a quarter of each."""
    return tuple(Resolution(size, size // 4) for size in sizes)


@cache
def hann(n_fft: int, window_length: int | None, device: torch.device) -> Float[Tensor, "n_fft"]:
    """A periodic Hann window, with zeros on both sides up to the length of the transform."""
    length = window_length or n_fft
    before = (n_fft - length) // 2
    # Outside of inference mode, for the cache serves training too.
    with torch.inference_mode(False):
        return F.pad(torch.hann_window(length, device=device), (before, n_fft - length - before))


def stft(
    x: Float[Tensor, "*batch time"],
    n_fft: int,
    hop_length: int,
    window_length: int | None = None,
    edges: Edges = "none",
) -> Complex[Tensor, "*batch frames bins"]:
    """The spectrum of each frame.

    Args:
        edges: what is before and after the signal. With "none" the first frame starts at sample 0, and there are
            1 + (time - n_fft) // hop_length frames. Otherwise frame k is centred on sample k * hop_length, and there
            are 1 + time // hop_length; a reflection needs more than n_fft / 2 samples.
    """
    if edges != "none":
        both = (n_fft // 2, n_fft // 2)
        x = F.pad(x, both) if edges == "silence" else reflected(x, both)
    return torch.fft.rfft(x.unfold(-1, n_fft, hop_length) * hann(n_fft, window_length, x.device))


def reflected(x: Float[Tensor, "*batch time"], both: tuple[int, int]) -> Float[Tensor, "*batch _"]:
    """A signal with its mirror images before and after it, of so many samples; the edge sample is not repeated."""
    return F.pad(x.reshape(1, -1, x.shape[-1]), both, mode="reflect").reshape(*x.shape[:-1], x.shape[-1] + sum(both))


def inverse_stft(
    spectrum: Complex[Tensor, "*batch frames bins"], hop_length: int, inverse: Inverse = "true"
) -> Float[Tensor, "*batch time"]:
    """The signal whose `stft` is nearest (Griffin and Lim, eq. 6): windowed overlap-add over the summed squared window.

    Args:
        inverse: "reference" leaves the division out, as the SpecGAN code does; half a window apart the sum swings
            between 0.5 and 1, so it is no inverse.
    """
    n_fft = 2 * (spectrum.shape[-1] - 1)
    window = hann(n_fft, None, spectrum.device)
    x = overlap_add(torch.fft.irfft(spectrum, n_fft) * window, hop_length)
    if inverse == "reference":
        return x
    weight = overlap_add(window.square().expand(spectrum.shape[-2], n_fft), hop_length)
    return x / weight.clamp(min=LEAST_WEIGHT)


def overlap_add(frames: Float[Tensor, "*batch frames n_fft"], hop_length: int) -> Float[Tensor, "*batch time"]:
    """The sum of frames that begin `hop_length` samples apart: n_fft + (frames - 1) * hop_length samples."""
    count, n_fft = frames.shape[-2:]
    # Each hop of a frame is added to the hop of the frame that begins there.
    pieces = -(-int(n_fft) // hop_length)
    hops = F.pad(frames, (0, pieces * hop_length - n_fft)).unflatten(-1, (pieces, hop_length))
    added = reduce(
        torch.add, [F.pad(hops[..., piece, :], (0, 0, piece, pieces - 1 - piece)) for piece in range(pieces)]
    )
    return added.flatten(-2)[..., : n_fft + (count - 1) * hop_length]


def magnitudes(
    x: Float[Tensor, "batch time"], resolution: Resolution, edges: Edges = "silence", floor: float = 1e-4
) -> Magnitudes:
    """Magnitudes of at least the floor, where the gradient of a root and of a logarithm is still finite."""
    spectrum = stft(x, *resolution, edges)
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=floor**2).sqrt()


def linear_distance(found: Magnitudes, true: Magnitudes) -> Float[Tensor, ""]:
    return (found - true).abs().mean()


def logarithm_distance(found: Magnitudes, true: Magnitudes, offset: float = 0.0) -> Float[Tensor, ""]:
    """In nepers: 0.115 is 1 dB. The offset is added to both magnitudes before the logarithm."""
    return ((true + offset).log() - (found + offset).log()).abs().mean()


def relative_distance(
    found: Magnitudes, true: Magnitudes, power: Literal[1, 2] = 1, floor: float = 1e-8
) -> Float[Tensor, ""]:
    """The error of each clip over its own size, mean over clips.

    Args:
        power: 1 for a ratio of norms, 2 for one of their squares.
        floor: least mean square of the true magnitudes, so that a silent clip has a finite ratio.
    """
    ratio = (true - found).square().mean((1, 2)) / true.square().mean((1, 2)).clamp(min=floor)
    return ratio.mean() if power == 2 else ratio.clamp(min=1e-12).sqrt().mean()


def multi_resolution_distance(
    found: Float[Tensor, "batch time"],
    true: Float[Tensor, "batch time"],
    resolutions: Sequence[Resolution],
    edges: Edges = "silence",
    least_rms: float = 0.0,
) -> Float[Tensor, ""]:
    """Relative and logarithmic distance, mean over resolutions (MR-STFT; Steinmetz and Reiss, auraloss, 2020).

    In float32 whatever the precision around it, for halves have too few bits for the logarithms of quiet bins.

    Args:
        edges: see `stft`.
        least_rms: a clip below this level has a relative distance as if it had this level; else one silent clip weighs
            more than all others of a batch.
    """
    total = found.new_zeros((), dtype=torch.float32)
    with torch.autocast(found.device.type, enabled=False):
        for resolution in resolutions:
            x, y = (magnitudes(one.float(), resolution, edges) for one in (found, true))
            # White noise of this level has such a mean square: the energy of a Hann window is 3/8 of its length.
            floor = max(1e-8, least_rms**2 * 0.375 * (resolution.window_length or resolution.n_fft))
            total = total + relative_distance(x, y, floor=floor) + logarithm_distance(x, y)
        return total / len(resolutions)


class BandStatistics(nn.Module):
    """Mean and population deviation of each band of a corpus, as buffers.

    Args:
        bands: how many.
        least_deviation: a band that never changes, as in digital silence, has this one.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, bands: int, least_deviation: float = 1e-6) -> None:
        super().__init__()
        self.least_deviation = least_deviation
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))

    def fit_frames(self, clips: Iterable[Float[Tensor, "*_ bands"]]) -> None:
        """Learn the statistics from all frames, summed on the CPU: MPS has no float64."""
        count = 0
        total, squares = torch.zeros(2, len(self.mean), dtype=torch.float64)
        for clip in clips:
            frames = rearrange(clip.cpu().double(), "... bands -> (...) bands")
            count += len(frames)
            total += frames.sum(dim=0)
            squares += frames.square().sum(dim=0)
        mean = total / count
        self.mean.copy_(mean)
        self.deviation.copy_((squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=self.least_deviation))

    def normalized(self, frames: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch bands"]:
        """Mean 0 and deviation 1 in each band, over the corpus."""
        return (frames - self.mean) / self.deviation

    def denormalized(self, frames: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch bands"]:
        """The way back from `normalized`."""
        return frames * self.deviation + self.mean
