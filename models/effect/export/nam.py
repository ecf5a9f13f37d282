"""Files of Neural Amp Modeler (.nam): write a network into the published layout, and read one back.

JSON with a version, metadata, the architecture with its shape and weights (`layouts`), and the sample rate. A
SlimmableContainer holds whole models instead of weights, each with the largest size from 0 to 1 at which it plays.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.export.layouts import Layout, layout_of, network_of
from tonemill.models.effect.export.loudness import measured
from tonemill.models.effect.network import Network, played
from tonemill.models.effect.networks.packed import Packed, PackedConfig
from tonemill.models.effect.networks.wavenet import WaveNet, one_stack

CONTAINER: Final = "SlimmableContainer"
CONTAINER_VERSION: Final = "0.7.0"

MOST_RATE: Final = 1_000_000
UNSTATED_RATE: Final = 48_000
"""Of a file that states none."""

_VERSIONS: Final = re.compile(r"0\.[567]\.\d+")


@dataclass(frozen=True)
class Amp:
    """The contents of a .nam file."""

    network: Network
    sample_rate: int
    metadata: Mapping[str, Any]


def written(network: Network, sample_rate: int, metadata: Mapping[str, Any]) -> bytes:
    """A .nam file: strict JSON, with the network's loudness and gain for a standard input beside other metadata.

    Raises:
        UsageError: the format cannot hold this network, or a weight is not finite.
    """
    return json.dumps(_content(network, sample_rate, _finite(metadata)), allow_nan=False).encode()


def read(data: bytes) -> Amp:
    """Read a .nam file; a container becomes a packed network.

    Raises:
        UsageError: `data` is no .nam file, is of an unknown version, uses a feature not supported here, or has too few
            or too many weights.
    """
    try:
        content = json.loads(data)
        if not isinstance(content, Mapping):
            raise ValueError("its JSON has no fields")
        network = _network(content)
        return Amp(network, _rates(content) or UNSTATED_RATE, _metadata(content))
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise UsageError(f"it cannot be read as a .nam file: {_in_words(error)}.") from error


def stated(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What a file states of the capture, by name, with units; what is null, or of another kind, is left out."""
    units = {"loudness": " dB", "input_level_dbu": " dBu", "output_level_dbu": " dBu"}
    found = {}
    for name in (*_TEXTS, *units):
        value = metadata.get(name)
        if isinstance(value, str) and value.strip():
            found[_called(name)] = " ".join(value.split())[:80]
        elif isinstance(value, int | float) and math.isfinite(value):
            found[_called(name)] = f"{value:.4g}{units.get(name, '')}"
    return found


def _called(name: str) -> str:
    return name.removesuffix("_dbu").replace("_", " ")


_TEXTS: Final = ("name", "modeled_by", "gear_make", "gear_model", "gear_type", "tone_type")
"""Texts that a file may hold about a capture."""


def _in_words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is no JSON in UTF-8. It was cut, or is a page or an archive in its place. Get the file again"
    if isinstance(error, KeyError):
        return f"it has no field {error}"
    return str(error) if isinstance(error, ValueError) else f"the form of one of its fields is not known here ({error})"


def _content(network: Network, sample_rate: int, metadata: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(network, Packed):
        models: list[dict[str, Any]] = [
            {"max_value": size, "model": _content(one, sample_rate, metadata)} for size, one in network.members.items()
        ]
        layout = Layout(CONTAINER_VERSION, CONTAINER, {"submodels": models}, [])
        about = models[-1]["model"]["metadata"]
    else:
        # First, since it refuses networks that a file cannot hold, as those with knobs.
        layout = layout_of(network)
        levels = measured(lambda dry: played(network.player(np.zeros(0, np.float32)), dry), sample_rate)
        about = {**metadata, **levels._asdict()}
    return {**layout._asdict(), "metadata": about, "sample_rate": sample_rate}


def _network(content: Mapping[str, Any]) -> Network:
    """The network of a file, or of a model in a container; a container within one plays its largest, as in players."""
    _refuse_unknown_version(content.get("version"))
    if content["architecture"] != CONTAINER:
        return network_of(content["architecture"], content["config"], content["weights"])
    members: dict[float, Network] = {}
    for size, model in _models(content):
        if size in members or not math.isfinite(size):
            raise ValueError(f"it is a container, and the sizes of its models (max_value) are not distinct: {size:g}")
        members[size] = _network(model).member(None)
    if not members:
        raise ValueError("it is a container of models and holds none")
    return Packed(_packed_config(members), 0, members).eval()


def _models(content: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """The models in a file by their sizes, the largest last; none where it is no container."""
    models = content["config"]["submodels"] if content["architecture"] == CONTAINER else []
    return sorted(((float(one["max_value"]), one["model"]) for one in models), key=lambda one: one[0])


def _packed_config(members: Mapping[float, Network]) -> PackedConfig | None:
    """The config that makes such members; None where none does."""
    shapes = [one.shape if isinstance(one, WaveNet) else None for one in members.values()]
    channels = tuple(shape.stacks[0].channels for shape in shapes if shape is not None)
    made = [one_stack(width).stacks for width in channels]
    same = [shape and shape.stacks for shape in shapes] == made and sorted(set(channels)) == list(channels)
    return PackedConfig(members=channels) if same else None


def _rates(content: Mapping[str, Any]) -> int | None:
    """The sample rate of a file and of all models in it; None where none states one.

    Raises:
        ValueError: it cannot be one, or they have several.
    """
    stated = content.get("sample_rate")
    # Players write -1 for a rate that is not known.
    own = float(stated) if stated not in (None, 0, -1, "") else None
    if own is not None and not 1 <= own <= MOST_RATE:
        raise ValueError(f"its sample rate is {own:g} Hz")
    of_models = {_rates(model) for _, model in _models(content)}
    found = sorted(rate for rate in {None if own is None else round(own), *of_models} if rate is not None)
    if len(found) > 1:
        raise ValueError(f"it is a container, and its models have several sample rates: {found}")
    return found[0] if found else None


def _metadata(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its own, or those of its largest model; other programs write null, or no fields, for none."""
    found = content.get("metadata")
    if found and isinstance(found, Mapping):
        return found
    models = _models(content)
    return _metadata(models[-1][1]) if models else {}


def _refuse_unknown_version(version: Any) -> None:
    """Refuse a version whose layout is not known; the first files, and models in a container, may state none.

    Raises:
        UsageError: names it.
    """
    if version is not None and not (isinstance(version, str) and _VERSIONS.fullmatch(version)):
        raise UsageError(
            f"it is a .nam file of version {version}, and 0.5.0 to 0.7 can be read here. Export it from its trainer in "
            "one of these, or render with a newer tonemill."
        )


def _finite(value: Any) -> Any:
    """Metadata with null for numbers that JSON has none for, as another program's NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
