"""Reasons not to train on pairs of dry and wet, in a guitarist's words; `--allow NAME` overrides each.

latency     the wet is late (or leads) by more than 2 samples; the median over the pairs whose alignment is certain
clipping    more than a thousandth of a wet is flat at full scale: the interface was overdriven, not the amp
short       less than 5 s of sound in all
silence     a wet holds nothing, or the dry plays less than a fifth of the time
noise       where the dry rests, the wet is less than 30 dB below its mean level
offset      where the dry rests, the wet's mean is (a constant offset, DC)
stereo, effects   `model` checks these two, from the corpus's facts alone
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import numpy as np

from tonemill.audiotools.alignment.alignment import align
from tonemill.audiotools.editing.levels import measure
from tonemill.audiotools.errors import CorpusError
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Request

MOST_LATENCY_SAMPLES: Final = 2.0
MOST_CLIPPING: Final = 1e-3
LEAST_SECONDS: Final = 5.0
LEAST_PLAYED: Final = 0.2
MOST_NOISE_DB: Final = -30.0
ALIGNED_PAIRS: Final = 8
"""Pairs whose latency is measured; it takes longer than all else."""


def refuse_doubtful(examples: Iterable[Request], sample_rate: int, allowed: Collection[str]) -> None:
    """Check every pair of whole recordings.

    Raises:
        CorpusError: lists each fault that `allowed` does not name, with the command that mends it.
    """
    found: dict[str, str] = {}
    seconds = played = 0.0
    latencies: list[float] = []
    rests = _Rests([], [], [])
    for number, request in enumerate(examples):
        shapes = {role: request.audio[role].shape for role in ("dry", "wet")}
        if shapes["dry"] != shapes["wet"]:
            (dry_channels, dry_frames), (wet_channels, wet_frames) = shapes["dry"], shapes["wet"]
            raise CorpusError(
                f"The dry of pair {number + 1} has {dry_channels} channels of {dry_frames} samples and its wet "
                f"{wet_channels} of {wet_frames}. Put `tonemill channels mean` and `tonemill align` into the pipe that "
                "makes the corpus."
            )
        dry, wet = (Waveform(np.ascontiguousarray(request.audio[role]), sample_rate) for role in ("dry", "wet"))
        about_dry, about_wet = measure(dry), measure(wet)
        seconds += dry.frames / sample_rate
        played += (1 - about_dry.silence_share) * dry.frames / sample_rate
        name = f"pair {number + 1}"
        if about_wet.peak_db is None or (
            about_wet.peak_db < -80 and about_dry.peak_db is not None and about_dry.peak_db > -60
        ):
            found.setdefault(
                "silence",
                f"the wet of {name} is silent while its dry plays, as when a cable is out or a track is muted. "
                "Leave it out with `tonemill filter` or record it again",
            )
        elif about_wet.clipping_share > MOST_CLIPPING:
            found.setdefault(
                "clipping",
                f"the wet of {name} is flat at full scale for {about_wet.clipping_share:.2%} of the time: the input of "
                "the interface was too loud, or a file that reaches above full scale was clipped in storing. Record it "
                "again with less gain, leave it out with `tonemill align --max-clipping 0.001`, or store it all with "
                "`tonemill shard NEW --format wav --bits 32`",
            )
        if len(latencies) < ALIGNED_PAIRS and about_dry.silence_share < 0.8 and dry.frames > sample_rate:
            lined = align(dry, wet, dry.frames)
            if lined.confidence > 0.8:
                latencies.append(lined.latency_samples)
        rests.note(dry, wet, sample_rate)
    if len(latencies) and abs(float(np.median(latencies))) > MOST_LATENCY_SAMPLES:
        late = float(np.median(latencies))
        found["latency"] = (
            f"the wet {'is late' if late > 0 else 'leads'} by {abs(late):.1f} samples: it is not lined up with the "
            "dry. Put `tonemill align` into the pipe that makes it. (An effect with a filter or a delay is late "
            "by itself; then allow it)"
        )
    if seconds < LEAST_SECONDS:
        found["short"] = (
            f"{seconds:.1f} s of pairs are too little to learn from; three minutes of varied playing are enough"
        )
    elif played < LEAST_PLAYED * seconds:
        found.setdefault(
            "silence",
            f"the dry plays in {played:.1f} of {seconds:.1f} s only. Cut the silence off with `tonemill trim` "
            "before `tonemill pair`",
        )
    if (floor := rests.below_db(rests.noise)) > MOST_NOISE_DB:
        found["noise"] = (
            f"where the dry is silent, the wet still is at {floor:.0f} dB relative to its mean level: hum or hiss, "
            "which a model would have to memorise, or a long tail (reverb, delay), which is correct"
        )
    if (floor := rests.below_db(rests.offset)) > MOST_NOISE_DB:
        found["offset"] = (
            f"where the dry is silent, the wet has a constant offset (DC), at {floor:.0f} dB relative to its mean "
            "level. Put `tonemill dc` into the pipe that makes it, before `tonemill align`"
        )
    doubts = {name: text for name, text in found.items() if name not in allowed}
    if doubts:
        listed = "\n".join(f"  {name}: {text}." for name, text in doubts.items())
        flags = " ".join(f"--allow {name}" for name in doubts)
        raise CorpusError(f"These pairs would make a poor model:\n{listed}\nTo train all the same: {flags}.")


class _Rests(NamedTuple):
    """Powers of the wet in windows of 0.1 s.

    Args:
        noise: the variance of each window in which the dry has rested for 0.3 s.
        offset: the square of the mean of each of them.
        playing: the variance of each window in which the dry plays.
    """

    noise: list[float]
    offset: list[float]
    playing: list[float]

    def note(self, dry: Waveform, wet: Waveform, sample_rate: int) -> None:
        """Add the windows of a pair."""
        size = max(1, sample_rate // 10)
        count = min(dry.frames, wet.frames) // size
        if count < 4:
            return
        windows = [
            one.samples[:, : count * size].reshape(one.channels, count, size).astype(np.float64) for one in (dry, wet)
        ]
        # The dry may stand at an offset too.
        quiet = windows[0].var(axis=2).mean(axis=0) < 1e-7
        rested = quiet[3:] & quiet[2:-1] & quiet[1:-2] & quiet[:-3]
        power = windows[1].var(axis=2).mean(axis=0)
        self.noise.extend(power[3:][rested].tolist())
        self.offset.extend(np.square(windows[1].mean(axis=2)).mean(axis=0)[3:][rested].tolist())
        self.playing.extend(power[~quiet].tolist())

    def below_db(self, powers: list[float]) -> float:
        """The mean of some powers in dB of the mean level where the dry plays; -inf where it never plays or rests."""
        if not (powers and self.playing):
            return -math.inf
        return 10 * math.log10(max(float(np.mean(powers)), 1e-20) / max(float(np.mean(self.playing)), 1e-20))
