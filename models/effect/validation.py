"""Score an effect model on held-out pairs, playing as it will be used; the figures, with output p and wet y:

    esr                    sum (y - p)^2 / sum y^2 over all samples, playing from silence on its own output: the score
    esr_pre_emphasised     the same behind z[n] = y[n] - 0.85 y[n - 1]
    esr_teacher_forced     the same with the true past, for a network that feeds back
    esr_early, esr_late    with the output moved by a sample: higher than esr, if nothing is misaligned
    esr_of_dry             of the dry signal at the best gain: the baseline of doing nothing
    mrstft, mae, dc        multi-resolution STFT distance, mean |y - p|, (mean y - mean p)^2 / mean y^2
    esr_at_minus_20_db ... over windows of 0.1 s whose dry is about 20 dB below the loudest
    aliasing_db            of sines from 1 to 10 kHz: the energy off their harmonics over that on them (`aliasing`)
    silence_peak, noise_peak   the largest output on silence and on noise, for as long as `stability_seconds`
    runaway_seconds        when the output first reached four times the largest wet (in proportion more where the noise
                           is louder than the dry); absent if it never did

The beginning of each pair is not scored: the pair was cut out of a longer one, whose earlier input the model lacks.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.pictures.effects import (
    save_error_spectrum_picture,
    save_overlay_picture,
    save_transfer_picture,
)
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Request, Validation
from tonemill.models.effect.aliasing import aliasing_db
from tonemill.models.effect.losses import mrstft
from tonemill.models.effect.network import Network, played

Signal = Float[np.ndarray, "time"]

PRE_EMPHASIS: Final = 0.85
LEVELS_DB: Final = (0, -20, -40, -60)
NOISES: Final = 3
"""Noises of different seeds and levels on which a model's output must stay bounded, beside silence."""
MOST_SECONDS_SHOWN: Final = 20
MOST: Final = 1e6
"""The magnitude to which a runaway output is clipped, so that figures stay finite."""
CHUNK_SECONDS: Final = 10
VERDICTS: Final = (
    (0.01, "very close"),
    (0.035, "close"),
    (0.1, "may pass"),
    (0.3, "probably not"),
    (math.inf, "wrong"),
)
"""Words for an ESR; the bounds are Neural Amp Modeler's."""


@dataclass
class Sums:
    """Energies of errors and signals, summed over all pairs."""

    errors: dict[str, float] = field(default_factory=dict)
    signals: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, wet: Signal, output: Signal) -> None:
        difference = wet.astype(np.float64) - output
        self.errors[name] = self.errors.get(name, 0.0) + float(difference @ difference)
        self.signals[name] = self.signals.get(name, 0.0) + float(wet.astype(np.float64) @ wet)

    def ratios(self) -> dict[str, float]:
        return {name: self.errors[name] / max(self.signals[name], 1e-12) for name in self.errors}


@dataclass
class Shown:
    """The first pair and the model's output, for pictures and clips."""

    dry: Signal
    wet: Signal
    output: Signal


@torch.no_grad()
def judged(
    network: Network,
    held_out: Iterable[Request],
    rate: int,
    channels: int,
    knobs_of: Callable[[Mapping[str, Any]], Float[np.ndarray, "knobs"]],
    validate_seconds: float,
    stability_seconds: float,
) -> Validation | None:
    """Play held-out pairs and compare the output with the wet; None without pairs.

    Args:
        network: the network to score.
        held_out: pairs of `dry` and `wet`.
        rate: of the pairs, in hertz.
        channels: of the pairs.
        knobs_of: positions of the knobs, from the fields of a pair.
        validate_seconds: how much of the pairs to play; 0 for all.
        stability_seconds: how long to play silence and noises; 0 to leave it out.
    """
    sums, plain = Sums(), Sums()
    absolute = samples = distance = played_seconds = peak = driven = 0.0
    means = np.zeros(2)
    shown: Shown | None = None
    for request in held_out:
        knobs = knobs_of(request.fields)
        player_of = {channel: network.player(knobs) for channel in range(channels)}
        for channel, player in player_of.items():
            dry, wet = (np.ascontiguousarray(request.audio[role][channel]) for role in ("dry", "wet"))
            output = np.nan_to_num(played(player, dry), nan=MOST).clip(-MOST, MOST)
            skip = min(network.warm_up, dry.size // 4)
            if network.feeds_back:
                sums.add("esr_teacher_forced", wet[skip:], _forced(network, dry, wet, knobs)[skip:])
            dry, wet, output = dry[skip:], wet[skip:], output[skip:]
            _add_ratios(sums, dry, wet, output)
            _add_levels(plain, dry, wet, output, rate)
            absolute += float(np.abs(wet - output).sum())
            means += wet.sum(dtype=np.float64), output.sum(dtype=np.float64)
            samples += wet.size
            peak = max(peak, float(np.abs(wet).max(initial=0.0)))
            driven = max(driven, float(np.abs(dry).max(initial=0.0)))
            distance += _stft_distance(wet, output, rate) * wet.size
            played_seconds += dry.size / rate
            shown = shown or Shown(dry, wet, output)
        if 0 < validate_seconds <= played_seconds:
            break
    if shown is None or not samples:
        return None
    values = dict(sums.ratios())
    values |= {"mrstft": distance / samples, "mae": absolute / samples}
    values["dc"] = (means[0] - means[1]) ** 2 / samples / max(sums.signals["esr"], 1e-12)
    values |= plain.ratios()
    most = max(peak, 1e-3), max(driven, 1e-3)
    values |= _stability(network, rate, stability_seconds, most, knobs.size)
    values |= aliasing_of(network, rate, knobs.size)
    word = next(word for bound, word in VERDICTS if values["esr"] < bound)
    words = f"ESR {values['esr']:.3g} over {played_seconds:.1f} s of pairs, {word}"
    return Validation(values["esr"], values, _files(values, shown, rate), words)


def _forced(network: Network, dry: Signal, wet: Signal, knobs: Float[np.ndarray, "knobs"]) -> Signal:
    pair = (torch.from_numpy(np.array(one))[None] for one in (dry, knobs, wet))
    where = next(network.parameters()).device
    return network(*(one.to(where) for one in pair))[0].float().cpu().numpy()


def _add_ratios(sums: Sums, dry: Signal, wet: Signal, output: Signal) -> None:
    sums.add("esr", wet, output)
    emphasised = (one[1:] - PRE_EMPHASIS * one[:-1] for one in (wet, output))
    sums.add("esr_pre_emphasised", *emphasised)
    sums.add("esr_early", wet[:-1], output[1:])
    sums.add("esr_late", wet[1:], output[:-1])
    gain = float(dry @ wet) / max(float(dry @ dry), 1e-12)
    sums.add("esr_of_dry", wet, (gain * dry).astype(np.float32))


def _add_levels(sums: Sums, dry: Signal, wet: Signal, output: Signal, rate: int) -> None:
    """Add windows of 0.1 s to sums by the level of their dry."""
    size = max(1, rate // 10)
    count = dry.size // size
    if not count:
        return
    windows = [one[: count * size].reshape(count, size) for one in (dry, wet, output)]
    level = np.sqrt(np.square(windows[0]).mean(axis=1))
    below_db = 20 * np.log10(np.maximum(level, 1e-9) / max(float(level.max()), 1e-9))
    for level_db in LEVELS_DB:
        chosen = np.abs(below_db - level_db) <= 10
        if chosen.any():
            name = f"esr_at_minus_{-level_db}_db" if level_db else "esr_at_0_db"
            sums.add(name, windows[1][chosen].ravel(), windows[2][chosen].ravel())


def _stft_distance(wet: Signal, output: Signal, rate: int) -> float:
    size = CHUNK_SECONDS * rate
    total = 0.0
    for start in range(0, wet.size, size):
        p, y = (torch.from_numpy(np.array(one[start : start + size]))[None] for one in (output, wet))
        total += float(mrstft(p, y)) * y.shape[1]
    return total / max(1, wet.size)


def _stability(network: Network, rate: int, seconds: float, most: tuple[float, float], knobs: int) -> dict[str, float]:
    """The largest outputs on silence and noises, and when they ran away; `most` is the peak of wet and of dry."""
    largest, first = {"silence_peak": 0.0, "noise_peak": 0.0}, math.inf
    block = min(rate, max(1, int(seconds * rate)))
    if not seconds:
        return {}
    for number in range(1 + NOISES):
        draws = np.random.default_rng(number)
        player, name = network.player(np.zeros(knobs, np.float32)), "noise_peak" if number else "silence_peak"
        level = 0.0 if number == 0 else 0.05 * 4.0 ** (number - 1)  # -26, -14 and -2 dB
        for start in range(0, int(seconds * rate), block):
            noise = (level * draws.standard_normal(block)).astype(np.float32)
            output = np.abs(player.push(noise))
            over = np.flatnonzero(~(output <= 4 * most[0] * max(1.0, float(np.abs(noise).max()) / most[1])))
            if over.size:
                first = min(first, (start + int(over[0])) / rate)
            largest[name] = max(largest[name], float(np.nan_to_num(output, nan=MOST).clip(max=MOST).max()))
    return largest if first == math.inf else {**largest, "runaway_seconds": first}


def aliasing_of(network: Network, rate: int, knobs: int) -> dict[str, float]:
    """The figure with all knobs in the middle; none where nothing sounds."""
    settling = max(rate // 10, network.receptive_field or 0)
    found = aliasing_db(lambda dry: played(network.player(np.zeros(knobs, np.float32)), dry), rate, settling)
    return {} if found is None else {"aliasing_db": found}


def _files(values: Mapping[str, float], shown: Shown, rate: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with io.BytesIO() as file:
        save_overlay_picture(file, shown.dry, shown.wet, shown.output, rate)
        found["waveforms.png"] = file.getvalue()
    with io.BytesIO() as file:
        save_error_spectrum_picture(file, shown.wet, shown.output, rate)
        found["error_spectrum.png"] = file.getvalue()
    with io.BytesIO() as file:
        save_transfer_picture(file, shown.dry, shown.wet, shown.output)
        found["transfer.png"] = file.getvalue()
    for name, signal in (("dry", shown.dry), ("wet", shown.wet), ("model", shown.output)):
        kept = np.clip(signal[None, : MOST_SECONDS_SHOWN * rate], -1, 1).astype(np.float32)
        found[f"00-{name}.wav"] = encode(Waveform(kept, rate), "wav", 16).data
    found["figures.md"] = _table(values).encode()
    return found


def _table(values: Mapping[str, float]) -> str:
    lines = ["| figure | value |", "|---|--:|"]
    lines += [f"| {name} | {value:.3g} |" for name, value in values.items()]
    # The output of a model that has learned little cannot show whether its pairs are aligned.
    if min(values["esr_early"], values["esr_late"]) < 0.8 * values["esr"]:
        side = "earlier" if values["esr_early"] < values["esr_late"] else "later"
        lines += [
            "",
            f"A sample {side} would have a smaller error, so dry and wet are not aligned. Make the corpus again "
            "with `tonemill align`.",
        ]
    return "\n".join(lines) + "\n"
