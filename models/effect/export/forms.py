"""The kinds of files that an effect is exported to: write them, load them again, and compare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import numpy as np
import torch
from jaxtyping import Float32

from tonemill.audiotools.errors import UsageError
from tonemill.models.directions import Export
from tonemill.models.effect.export import graph, nam
from tonemill.models.effect.network import SIZE, Network, played
from tonemill.models.parts.portable import loaded_script, onnx_session

_TEST_SECONDS: Final = 0.25


@dataclass(frozen=True)
class FormOptions:
    size: SIZE = None


@dataclass(frozen=True)
class NamOptions(FormOptions):
    name: Annotated[str | None, "The name that players show; default: the run's."] = None
    gear_make: Annotated[str | None, "The maker of the recorded device."] = None
    gear_model: Annotated[str | None, "The recorded device."] = None
    gear_type: Annotated[str | None, "Its kind, as amp, pedal, pedal_amp, amp_cab, preamp or studio."] = None
    tone_type: Annotated[str | None, "Its sound, as clean, overdrive, crunch, hi_gain or fuzz."] = None
    modeled_by: Annotated[str | None, "The person who recorded it."] = None
    input_level_dbu: Annotated[
        float | None, "Level that the interface sent to the device for a full-scale sine, in dBu; players match it."
    ] = None
    output_level_dbu: Annotated[
        float | None, "Level of the device's signal that is a full-scale sine in the recording, in dBu."
    ] = None

    def __post_init__(self) -> None:
        for name in ("input_level_dbu", "output_level_dbu"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be a number, as 12.5.")

    def given(self) -> dict[str, Any]:
        """The options that were set."""
        found = dataclasses.asdict(self).items()
        return {name: value for name, value in found if value is not None and name != "size"}


FORMS: Final[Mapping[str, Export]] = {
    "nam": Export(
        "The file of Neural Amp Modeler, for its plug-ins and pedals; wavenet, packed, lstm and fir without knobs.",
        NamOptions,
    ),
    "onnx": Export(
        "For programs with ONNX Runtime; every network, one block of a stream at a time, with its state as an "
        "optional input (default: silence before) (needs `pip install 'tonemill[onnx]'`).",
        FormOptions,
    ),
    "torchscript": Export(
        "TorchScript, for programs that use LibTorch; PyTorch no longer develops the format.", FormOptions
    ),
}


def written(
    network: Network, knobs: int, sample_rate: int, form: str, options: Any, metadata: Mapping[str, Any]
) -> bytes:
    """A network as a file of one form.

    Raises:
        UsageError: the form cannot hold it, it has no sizes and one is given, or a package is missing.
    """
    network = chosen(network, form, options)
    if form == "nam":
        about = {
            "date": _date(datetime.now()),
            "name": metadata["name"],
            "training": {"steps": metadata["steps"], "validation_esr": metadata["score"]},
            **options.given(),
        }
        return nam.written(network, sample_rate, about)
    return graph.onnx_bytes(network, knobs, sample_rate) if form == "onnx" else graph.torchscript_bytes(network, knobs)


def chosen(network: Network, form: str, options: Any) -> Network:
    """The network that a file of one form holds: all members in a .nam file without a size, else one of them."""
    return network if form == "nam" and options.size is None else network.member(options.size)


def converted(data: bytes, form: str, options: Any) -> bytes:
    """A .nam file written as a file of one form.

    Raises:
        UsageError: it cannot be read.
    """
    amp = nam.read(data)
    if form == "nam":
        metadata = {**amp.metadata, **options.given()}
        return nam.written(chosen(amp.network, form, options), amp.sample_rate, metadata)
    return written(amp.network, 0, amp.sample_rate, form, options, {})


def _date(now: datetime) -> dict[str, int]:
    """A date in the form of `.nam` files."""
    return {name: getattr(now, name) for name in ("year", "month", "day", "hour", "minute", "second")}


def error_db(network: Network, knobs: int, sample_rate: int, form: str, data: bytes) -> float:
    """How much the output of an exported file differs from the player's, in dB of the player's RMS; of all members.

    The input is seeded noise under a rising envelope, the knobs are in the middle.

    Raises:
        UsageError: a package is missing.
    """
    frames = round(_TEST_SECONDS * sample_rate)
    noise = np.random.default_rng(0).standard_normal(frames) * np.linspace(0, 0.25, frames)
    dry, middle = noise.astype(np.float32), np.zeros(knobs, np.float32)
    if form == "nam":
        members = zip(network.members.values(), nam.read(data).network.members.values(), strict=True)
        outputs = [(played(one.player(middle), dry), played(again.player(middle), dry)) for one, again in members]
    else:
        run = _onnx_output if form == "onnx" else _torchscript_output
        again = run(data, dry, middle, 1 if network.feeds_back else 4096)
        outputs = [(played(network.player(middle), dry), again)]
    return max(_difference_db(own, again) for own, again in outputs)


def _difference_db(own: Float32[np.ndarray, "time"], again: Float32[np.ndarray, "time"]) -> float:
    level, difference = (float(np.sqrt(np.mean(np.square(one, dtype=np.float64)))) for one in (own, again - own))
    # A network that renders silence has no level to measure against: full scale is.
    return 20 * math.log10(max(difference, 1e-12) / (level or 1.0))


def _onnx_output(data: bytes, dry: Float32[np.ndarray, "time"], knobs: np.ndarray, block: int) -> np.ndarray:
    session = onnx_session(data)
    parts: list[np.ndarray] = []
    kept = {"knobs": knobs[None]} if knobs.size else {}
    for first in range(0, dry.size, block):
        wet, state = session.run(["wet", "state_after"], {"dry": dry[None, first : first + block], **kept})
        kept["state"] = state
        parts.append(wet[0])
    return np.concatenate(parts)


def _torchscript_output(data: bytes, dry: Float32[np.ndarray, "time"], knobs: np.ndarray, block: int) -> np.ndarray:
    loaded = loaded_script(data)
    state, parts = loaded.rest, []
    settings = (torch.from_numpy(knobs)[None],) if knobs.size else ()
    with torch.inference_mode():
        for first in range(0, dry.size, block):
            wet, state = loaded(torch.from_numpy(dry[None, first : first + block]), *settings, state)
            parts.append(wet[0].numpy())
    return np.concatenate(parts)
