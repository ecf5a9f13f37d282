"""What held-out audio shows of a RAVE: distance, latents that are alive, fidelity, and the error of each octave."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.pictures.spectrograms import save_spectrogram_picture
from tonemill.audiotools.waveform import Waveform
from tonemill.models.exchange import Request, Validation
from tonemill.models.parts.spectra import Resolution, magnitudes
from tonemill.models.rave.codec import Codec
from tonemill.models.rave.distances import spectral_distance
from tonemill.models.rave.latents import Posterior
from tonemill.models.rave.player import Decoding, Encoding
from tonemill.models.rave.settings import RaveConfig

CLIPS: Final = 4
"""So many held-out examples are written to listen to."""

LONGEST_SECONDS: Final = 10.0
"""Of a held-out recording that is rendered at once, its first ones."""

ALIVE_NATS: Final = 0.1
"""A latent with a larger divergence is alive (Caillon and Esling, 2021, section 5.2); without the half, 0.2."""

SHARES: Final = (0.8, 0.9, 0.95, 0.99)
"""Of the variance, for which the number of latents is shown."""

OCTAVES: Final = 7
BANDS_RESOLUTION: Final = Resolution(2048, 512)
SILENCE: Final = 1e-3
"""A bin below -60 dB of a sine at full scale counts as if it had this level."""


@dataclass
class _Found:
    """Sums over examples."""

    distances: list[float] = field(default_factory=list)
    divergence: list[Tensor] = field(default_factory=list)
    errors_db: list[Tensor] = field(default_factory=list)
    clips: list[np.ndarray] = field(default_factory=list)


def validated(codec: Codec, config: RaveConfig, held_out: Iterable[Request]) -> Validation | None:
    """Render held-out audio by means of latents, and compare; None where none of it has sound.

    Args:
        codec: without weight norms.
    """
    found = _Found()
    rate = int(config.sample_rate or 1)
    for audio in _some(held_out, codec, config):
        rendered = reconstructed(codec, audio)
        # Distances and spectra mirror the edges of half a transform.
        missing = max(0, max(*config.scales, BANDS_RESOLUTION.n_fft) - audio.shape[-1])
        ours, true = (F.pad(one, (0, missing)) for one in (rendered, audio[None]))
        found.distances.append(
            float(spectral_distance(ours, true, config.scales, 10 ** (config.silence_floor_db / 20)))
        )
        found.divergence.append(_divergence(codec, audio))
        found.errors_db.append(octave_errors_db(ours[0], true[0]))
        if len(found.clips) < 2 * CLIPS:
            found.clips += [one[0].clamp(-1, 1).cpu().numpy() for one in (audio[None], rendered)]
    if not found.distances:
        return None
    nats = torch.stack(found.divergence).mean(dim=0) / 2
    errors = torch.stack(found.errors_db).mean(dim=0).tolist()
    edges = octave_edges_hz(rate)
    values = {
        "held_out_distance": float(np.mean(found.distances)),
        "live_latents": float((nats > ALIVE_NATS).sum()),
        "divergence_nats": float(nats.sum()),
        **{f"error_db_to_{high:.0f}_hz": error for (_, high), error in zip(pairwise(edges), errors, strict=True)},
        "validated_examples": float(len(found.distances)),
    }
    if float(codec.axes.fitted):
        values |= {f"latents_for_{share:g}": float(codec.axes.count(None, share)) for share in SHARES}
    return Validation(values["held_out_distance"], values, _files(codec, nats, found.clips, rate))


def reconstructed(codec: Codec, audio: Float[Tensor, "channels time"]) -> Float[Tensor, "1 channels time"]:
    """Audio through means of latents, in memory that does not grow, and as long."""
    seeds = audio.new_zeros(1)
    decoding = Decoding(codec, 0.0, seeds)
    parts = [audio[None, :, :0]]
    for codes in Encoding(codec, codec.axes.count(None, None), 0.0, seeds).whole(audio[None]):
        parts += decoding.push(codes)
    return torch.cat([*parts, *decoding.flush()], dim=-1)[..., : audio.shape[-1]]


def octave_edges_hz(sample_rate: int) -> list[float]:
    """From 0 to half the rate: octaves below it, the lowest with all that is below."""
    return [0.0, *(sample_rate / 2 ** (OCTAVES - place) for place in range(OCTAVES))]


def octave_errors_db(
    found: Float[Tensor, "channels time"], true: Float[Tensor, "channels time"]
) -> Float[Tensor, "octaves"]:
    """Mean difference of levels of bins, in dB, of each octave; levels have a floor."""
    floor = SILENCE * BANDS_RESOLUTION.n_fft / 4
    levels_db = [
        20 * magnitudes(one, BANDS_RESOLUTION, "reflection", floor).log10().flatten(0, 1) for one in (found, true)
    ]
    differences = (levels_db[0] - levels_db[1]).abs().mean(dim=0)
    bins = [round(edge * BANDS_RESOLUTION.n_fft) for edge in octave_edges_hz(1)]
    return torch.stack([differences[low : high + 1].mean() for low, high in pairwise(bins)])


def _divergence(codec: Codec, audio: Float[Tensor, "channels time"]) -> Float[Tensor, "latents"]:
    """Of each latent, mean over frames."""
    padded = F.pad(audio, (0, -audio.shape[-1] % codec.hop_length))[None]
    posterior: Posterior = codec.posterior(codec.bands(padded))
    return posterior.divergence().mean(dim=(0, 2))


def _some(held_out: Iterable[Request], codec: Codec, config: RaveConfig) -> Iterator[Float[Tensor, "channels time"]]:
    """Held-out audio until there is enough; an example without sound is left out."""
    rate = int(config.sample_rate or 1)
    left = config.validate_seconds * rate or float("inf")
    for request in held_out:
        audio = torch.from_numpy(np.array(request.audio["audio"], np.float32)).to(codec.axes.mean.device)
        if audio.shape[1] and audio.abs().amax() > 0:
            kept = audio[:, : int(min(left, LONGEST_SECONDS * rate))]
            yield kept
            left -= kept.shape[1]
        if left <= 0:
            return


def _files(codec: Codec, nats: Float[Tensor, "latents"], clips: list[np.ndarray], rate: int) -> dict[str, bytes]:
    """Clips to listen to, their spectrograms, and a table of latents."""
    files = {}
    for place, clip in enumerate(clips):
        name = f"{place // 2}_{'rendered' if place % 2 else 'real'}.wav"
        files[name] = encode(Waveform(clip, rate), "wav", 16).data
    picture = io.BytesIO()
    titles = [f"{place // 2}, {'rendered' if place % 2 else 'real'}" for place in range(len(clips))]
    save_spectrogram_picture(picture, clips, rate, titles, columns=2)
    files["spectrograms.png"] = picture.getvalue()
    fidelity = codec.axes.fidelity.tolist() if float(codec.axes.fitted) else [None] * len(nats)
    rows = ["latent\tdivergence_nats\tfidelity_up_to_here"]
    for place, (nat, share) in enumerate(zip(nats.tolist(), fidelity, strict=True)):
        rows.append(f"{place}\t{nat:.4f}\t{'' if share is None else f'{share:.4f}'}")
    files["latents.tsv"] = ("\n".join(rows) + "\n").encode()
    return files
