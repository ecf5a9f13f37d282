"""Settings of the effect model: its own, each network's and those that a corpus decides; corpora that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass, replace
from functools import cache
from typing import Annotated, Any, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.effect.losses import LossConfig
from tonemill.models.effect.network import NETWORKS, Network
from tonemill.models.exchange import CorpusFacts
from tonemill.models.parts.settings import require_least

DOUBTS: Final = ("latency", "clipping", "short", "silence", "stereo", "noise", "offset", "effects")
"""Names of the reasons to refuse a corpus, as `--allow` takes them; `checks` describes each."""

PAIRS_PIPE: Final = (
    "`tonemill pair DRY WET | tonemill align | tonemill slice --seconds 10 --tail keep | tonemill shard CORPUS`"
)

DECAY_STEPS: Final = 6000
"""In which the learning rate falls, where nothing else is set."""

_NETWORKS: Final = f"What learns: {', '.join(NETWORKS.names())}."


@dataclass(frozen=True)
class EffectConfig(LossConfig):
    network: Annotated[str, _NETWORKS] = "wavenet"
    length: Annotated[int, "Samples of each training clip that are scored, after what the network needs before."] = 8192
    learning_rate: Annotated[float | None, "Adam's; default: the network's own."] = None
    decay_steps: Annotated[
        int | None,
        "Steps in which the learning rate falls to a twentieth, where it stays; 0: none; default: 6000, or with "
        "--minutes alone about those that fit them.",
    ] = None
    level_augment_db: Annotated[
        float, "Play dry and wet softer by up to so many dB; only for effects that treat every level alike."
    ] = 0.0
    conditioning: Annotated[bool, "Make knobs of numeric fields."] = True
    knobs: Annotated[
        tuple[str, ...], "Numeric fields that become inputs; default: all that came with the pairs and vary."
    ] = ()
    knob_low: Annotated[tuple[float, ...], "The least value of each knob; default: that of the corpus."] = ()
    knob_high: Annotated[tuple[float, ...], "The largest value of each knob; default: that of the corpus."] = ()
    allow: Annotated[tuple[str, ...], f"Train in spite of any of {', '.join(DOUBTS)}; default: refuse them."] = ()
    validate_seconds: Annotated[float, "Of held-out pairs that are played each time; 0: all of them."] = 60.0
    stability_seconds: Annotated[
        float | None,
        "Of silence and of noise on which its output must stay bounded; default: 60, or 5 if it feeds back.",
    ] = None
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Each is played as a signal of its own; default: the corpus's."] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, length=64, level_augment_db=0, validate_seconds=0)
        if self.decay_steps is not None:
            require_least(self, decay_steps=0)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be more than 0, as 0.004.")
        for doubt in self.allow:
            if doubt not in DOUBTS:
                raise UsageError(f"--allow is {doubt!r}; it must be one of {', '.join(DOUBTS)}.")


@cache
def config_of_network(name: str) -> type:
    """The settings of the model with one network: all of `EffectConfig` and the network's own."""
    own: type = NETWORKS.module(name).NETWORK.Config

    def check(self: Any) -> None:
        for part in (EffectConfig, own):
            getattr(part, "__post_init__", lambda _: None)(self)

    return make_dataclass(
        "EffectConfig",
        [("network", Annotated[str, _NETWORKS], name)],
        bases=(own, EffectConfig),
        namespace={"__post_init__": check, "__module__": __name__},
        frozen=True,
    )


def flags_of(network: Network, name: str) -> str:
    """The flags of `train effect` that make a network of this shape; a sentence where none do."""
    if network.config is None:
        return "no settings make a network of this shape: it can render, but not be trained further"
    found = [f"--network {name}"]
    for one in fields(network.Config):
        value = getattr(network.config, one.name)
        if value != one.default:
            flag = f"--{one.name.replace('_', '-')}"
            each = value if isinstance(value, tuple) else (value,)
            words = {True: [flag], False: [f"--no-{flag[2:]}"]}
            found += words[value] if isinstance(value, bool) else [f"{flag} {item}" for item in each]
    return " ".join(found)


def refuse_doubtful_corpora(config: EffectConfig, corpus: CorpusFacts) -> None:
    if corpus.channels != 1 and "stereo" not in config.allow:
        raise CorpusError(
            f"{corpus.name} holds {corpus.channels} channels, and an effect model has one input channel. Put "
            "`tonemill channels mean` into the pipe that makes it, or learn from each channel by itself with "
            "--allow stereo."
        )
    effects = corpus.values.get("effect", ())
    if len(effects) > 1 and "effects" not in config.allow:
        named = ", ".join([*effects[:5], *["..."][: len(effects) > 5]])
        raise CorpusError(
            f"{corpus.name} holds {len(effects)} effects ({named}), and a model learns only one. Put `tonemill "
            f"select 'effect == \"{effects[0]}\"'` into the pipe that makes it, or train on all of them with "
            "--allow effects."
        )


def settled_knobs(config: EffectConfig, corpus: CorpusFacts) -> dict[str, tuple[Any, ...]]:
    """Names and ranges of the knobs, as fields of the config.

    Raises:
        CorpusError: a field that is to be a knob is none.
        UsageError: knobs are named, and that there are none.
    """
    if not config.conditioning:
        if config.knobs:
            raise UsageError("--no-conditioning makes no knobs, and --knobs names some. Leave one of them out.")
        return {"knobs": (), "knob_low": (), "knob_high": ()}
    varying = sorted(name for name, about in corpus.given.items() if about.low < about.high)
    known = {**corpus.spelt, **corpus.given}
    for name in config.knobs:
        if name not in known and name in corpus.texts:
            some = ", ".join(repr(value) for value in corpus.values.get(name, ())[:3]) or "of many values"
            raise CorpusError(
                f"{name!r} is text in {corpus.name} ({some}), and a knob is a number, as 1.5. Put numbers into the "
                "names of the files or the table, or leave it out of --knobs."
            )
        if name not in known:
            raise CorpusError(
                f"{corpus.name} holds no numbers named {name!r} that came with the pairs; it has "
                f"{', '.join(corpus.given) or 'none'}. Name them in the files (riff__fuzz_drive=0.7.wav) or in the "
                "table of `tonemill pair --table`."
            )
        if known[name].low == known[name].high:
            raise CorpusError(
                f"{name!r} is {known[name].low:g} in all of {corpus.name}, so its effect cannot be learned. Leave "
                "it out of --knobs."
            )
    names = config.knobs or tuple(varying)
    for name in names:
        if known[name].missing:
            raise CorpusError(
                f"{known[name].missing} examples of {corpus.name} have no value for the knob {name!r}. "
                f"Leave them out with `tonemill select '{name} != None'` in the pipe that makes it, name others "
                "with --knobs, or train without with --no-conditioning."
            )
    return {
        "knobs": names,
        "knob_low": tuple(known[name].low for name in names),
        "knob_high": tuple(known[name].high for name in names),
    }


def with_film(config: Any) -> Any:
    """A config with knobs, with FiLM if its network can have it and nothing else is set.

    Raises:
        UsageError: the form of gains is set, and that there are none.
    """
    film = getattr(config, "film", False)
    if film is False and getattr(config, "film_gain", None) is not None:
        raise UsageError(f"--film-gain is {config.film_gain}, and --no-film leaves no gains. Leave one of them out.")
    if not config.knobs or film is False:
        return config
    return replace(config, film=True, film_gain=config.film_gain or "exponential")


def film_of_then(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of any version: those of before had inputs for knobs, or FiLM with linear gains.

    A run has the range of its knobs, a file that was written by hand has none and keeps its settings.
    """
    if "knob_low" not in values or values["network"] not in ("wavenet", "chain"):
        return values
    film = bool(values.get("film"))
    found = {name: value for name, value in values.items() if name != "film"}
    if film:
        return {"film_gain": "linear", **found, "film": True}
    return {**found, "film": False} if values["knobs"] else found
