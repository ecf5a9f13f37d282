"""The effect model: one of several networks, its losses, its knobs and its optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import Direction, Export, Score
from tonemill.models.effect.losses import BlockLoss, LossConfig
from tonemill.models.effect.network import NETWORKS, Network, Pairs, played
from tonemill.models.effect.playing import ChannelPlayers, PlayOptions, direction_of
from tonemill.models.parts.settings import require_least, settled

DOUBTS: Final = ("latency", "clipping", "short", "silence", "stereo", "noise", "offset", "effects")
"""Names of the reasons to refuse a corpus, as `--allow` takes them; `checks` describes each."""

PAIRS_PIPE: Final = (
    "`tonemill pair DRY WET | tonemill align | tonemill slice --seconds 10 --tail keep | tonemill shard CORPUS`"
)

_NETWORKS: Final = f"What learns: {', '.join(NETWORKS.names())}."


@dataclass(frozen=True)
class EffectConfig(LossConfig):
    network: Annotated[str, _NETWORKS] = "wavenet"
    length: Annotated[int, "Samples of each training clip that are scored, after what the network needs before."] = 8192
    learning_rate: Annotated[float | None, "Adam's; the network's own if left out."] = None
    decay_steps: Annotated[int, "Steps in which the learning rate falls to a twentieth, where it stays; 0: none."] = (
        6000
    )
    level_augment_db: Annotated[
        float, "Play dry and wet softer by up to so many dB; only for effects that treat every level alike."
    ] = 0.0
    conditioning: Annotated[bool, "Make knobs of numeric fields."] = True
    knobs: Annotated[
        tuple[str, ...], "Numeric fields that become inputs; default: all that came with the pairs and vary."
    ] = ()
    knob_low: Annotated[tuple[float, ...], "The least value of each knob, from the corpus."] = ()
    knob_high: Annotated[tuple[float, ...], "The largest value of each knob, from the corpus."] = ()
    allow: Annotated[tuple[str, ...], f"Train in spite of this: {', '.join(DOUBTS)}."] = ()
    validate_seconds: Annotated[float, "Of held-out pairs that are played each time; 0: all of them."] = 60.0
    stability_seconds: Annotated[
        float | None, "Of silence and of noise on which its output must stay bounded; 60, or 5 if it feeds back."
    ] = None
    sample_rate: Annotated[int | None, "In hertz; the corpus decides."] = None
    channels: Annotated[int | None, "The corpus decides; each is played as a signal of its own."] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, length=64, decay_steps=0, level_augment_db=0, validate_seconds=0)
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

    namespace = {
        "__annotations__": {"network": Annotated[str, _NETWORKS]},
        "__post_init__": check,
        "__module__": __name__,
        "network": name,
    }
    return dataclass(frozen=True)(type("EffectConfig", (own, EffectConfig), namespace))


class Effect(Model):
    Config: ClassVar[type] = EffectConfig
    chooser = "network"
    reads = (".nam",)
    retired: ClassVar[Mapping[str, str]] = {"clip_norm": "train"}
    score: ClassVar[Score] = Score("ESR")
    usual: ClassVar[Mapping[str, Any]] = {"steps": 6000, "batch_size": 16, "clip_norm": 1.0}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.loss = BlockLoss(config)
        self.network: Network = NETWORKS.module(config.network).NETWORK(config, len(config.knobs))

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return {name: config_of_network(name) for name in NETWORKS.names()}

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        network = NETWORKS.module(config.network).NETWORK
        stability = config.stability_seconds
        config = settled(
            config,
            corpus,
            "effect",
            roles=("dry", "wet"),
            material="pairs of dry and wet",
            pipe=PAIRS_PIPE,
            learning_rate=config.learning_rate or network.learning_rate,
            stability_seconds=(5.0 if network.feeds_back else 60.0) if stability is None else stability,
        )
        _refuse_doubtful_corpora(config, corpus)
        return replace(config, **_settled_knobs(config, corpus))

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        return {"render": direction_of(config)}

    @classmethod
    def exports(cls, config: Any) -> Mapping[str, Export]:
        from tonemill.models.effect.export.forms import FORMS

        return FORMS

    @property
    def roles(self) -> tuple[str, ...]:
        return ("dry", "wet")

    @property
    def length(self) -> int:
        return self.network.warm_up + int(self.config.length)

    def check_examples(self, examples: Iterable[Request]) -> None:
        from tonemill.models.effect.checks import refuse_doubtful

        refuse_doubtful(examples, self.sample_rate, self.config.allow)

    def fit_examples(self, examples: Iterable[Request]) -> None:
        self.network.fit(
            (np.ascontiguousarray(one.audio["dry"][channel]), np.ascontiguousarray(one.audio["wet"][channel]))
            for one in examples
            for channel in range(self.channels)
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": torch.optim.Adam(self.network.parameters(), lr=self.learning_rate("network", 1))}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """It falls exponentially to a twentieth, where it stays."""
        config = self.config
        rate = float(config.learning_rate or self.network.learning_rate)
        return rate * 0.05 ** min(1.0, (step - 1) / config.decay_steps) if config.decay_steps else rate

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config = self.config
        pairs = self._pairs(batch)
        if config.level_augment_db:
            gain = 10 ** (-config.level_augment_db / 20 * batch.draw(torch.rand, self.channels).flatten()[:, None])
            pairs = replace(pairs, dry=gain * pairs.dry, wet=gain * pairs.wet)
        return self.network.training_step(pairs, step, self.loss, update)

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        from tonemill.models.effect.validation import judged

        config = self.config
        return judged(
            self.network,
            held_out,
            self.sample_rate,
            self.channels,
            self.turned,
            config.validate_seconds,
            float(config.stability_seconds or 0.0),
        )

    def inputs(self, request: Request) -> dict[str, Tensor]:
        if "dry" not in request.audio and "audio" not in request.audio:
            raise UsageError("an effect renders audio; give it some with `tonemill scan FOLDER`.")
        dry = request.audio["dry" if "dry" in request.audio else "audio"]
        return {"dry": torch.from_numpy(np.array(dry)), "knobs": torch.from_numpy(self.turned(request.fields))}

    @torch.no_grad()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch channels time"]:
        dry, knobs = inputs["dry"], inputs["knobs"]
        if not self.network.feeds_back:
            flat = dry.flatten(0, 1)
            return self.network(flat, knobs.repeat_interleave(dry.shape[1], 0)).reshape(dry.shape)
        outputs = [
            torch.from_numpy(played(self.network.player(turned.cpu().numpy()), one))
            for channels, turned in zip(dry.float().cpu().numpy(), knobs, strict=True)
            for one in channels
        ]
        return torch.stack(outputs).reshape(dry.shape).to(dry.device)

    def player(self, request: Request, channels: int) -> ChannelPlayers:
        options: PlayOptions = request.options or PlayOptions()
        positions = self.turned(request.fields)
        return ChannelPlayers([self.network.player(positions) for _ in range(channels)], options.block)

    def play_together(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "channels _"]]:
        options: PlayOptions = requests[0].options
        signals = [channel for request in requests for channel in request.audio["audio"]]
        settings = [self.turned(request.fields) for request in requests for _ in request.audio["audio"]]
        outputs = iter(self.network.play_many(signals, settings, options.lockstep, options.segments))
        return [np.stack([next(outputs) for _ in request.audio["audio"]]) for request in requests]

    def exported(self, form: str, options: Any, metadata: Mapping[str, Any]) -> bytes:
        from tonemill.models.effect.export import forms

        return forms.written(self.network, len(self.config.knobs), self.sample_rate, form, options, metadata)

    def export_error_db(self, form: str, data: bytes) -> float:
        from tonemill.models.effect.export import forms

        return forms.error_db(self.network, len(self.config.knobs), self.sample_rate, form, data)

    @classmethod
    def converted(cls, data: bytes, form: str, options: Any) -> bytes:
        from tonemill.models.effect.export import forms

        return forms.converted(data, form, options)

    def turned(self, settings: Mapping[str, Any]) -> Float[np.ndarray, "knobs"]:
        """The knobs' positions (knobs,), from -1 to 1 over the range of the training corpus.

        Args:
            settings: values of the knobs by name; other names are ignored.

        Raises:
            UsageError: a knob is missing, or its value is no number.
        """
        config, found = self.config, []
        for name, low, high in zip(config.knobs, config.knob_low, config.knob_high, strict=True):
            value = settings.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                what = "is not set" if value is None else f"is {value!r}, no number"
                raise UsageError(
                    f"the knob {name!r} {what}; it was trained from {low:g} to {high:g}. "
                    f"Set it with `tonemill render RUN --set {name}={(low + high) / 2:g}`."
                )
            found.append(2 * (value - low) / (high - low) - 1)
        return np.array(found, np.float32)

    def _pairs(self, batch: Batch) -> Pairs:
        """The batch with every channel as a pair of its own: (batch * channels, time)."""
        dry, wet = batch.audio["dry"], batch.audio["wet"]
        rows = [{name: values[n] for name, values in batch.fields.items()} for n in range(len(dry))]
        knobs = torch.from_numpy(np.stack([self.turned(row) for row in rows])).to(dry.device)
        return Pairs(dry.flatten(0, 1), wet.flatten(0, 1), knobs.repeat_interleave(dry.shape[1], 0))


def _refuse_doubtful_corpora(config: EffectConfig, corpus: CorpusFacts) -> None:
    if corpus.channels != 1 and "stereo" not in config.allow:
        raise CorpusError(
            f"{corpus.name} holds {corpus.channels} channels, and an amp or a pedal has one input. Put `tonemill "
            "channels mean` into the pipe that makes it, or learn from each channel by itself with --allow stereo."
        )
    effects = corpus.values.get("effect", ())
    if len(effects) > 1 and "effects" not in config.allow:
        named = ", ".join([*effects[:5], *["..."][: len(effects) > 5]])
        raise CorpusError(
            f"{corpus.name} holds {len(effects)} effects ({named}), and a model learns one. Put `tonemill select "
            f"'effect == \"{effects[0]}\"'` into the pipe that makes it, or train on all of them with --allow effects."
        )


def _settled_knobs(config: EffectConfig, corpus: CorpusFacts) -> dict[str, tuple[Any, ...]]:
    """Names and ranges of the knobs, as fields of the config."""
    if not config.conditioning:
        return {"knobs": (), "knob_low": (), "knob_high": ()}
    varying = sorted(name for name, about in corpus.given.items() if about.low < about.high)
    for name in config.knobs:
        if name not in corpus.given:
            raise CorpusError(
                f"{corpus.name} holds no numbers named {name!r} that came with the pairs; it has "
                f"{', '.join(corpus.given) or 'none'}. Name them in the files (riff__fuzz_drive=0.7.wav) or in the "
                "table of `tonemill pair --table`."
            )
        if name not in varying:
            raise CorpusError(
                f"{name!r} is {corpus.given[name].low:g} in all of {corpus.name}: nothing can be learned of it."
            )
    names = config.knobs or tuple(varying)
    for name in names:
        if corpus.given[name].missing:
            raise CorpusError(
                f"{corpus.given[name].missing} examples of {corpus.name} have no value for the knob {name!r}. "
                f"Leave them out with `tonemill select '{name} is not None'` in the pipe that makes it, name others "
                "with --knobs, or train without with --no-conditioning."
            )
    return {
        "knobs": names,
        "knob_low": tuple(corpus.given[name].low for name in names),
        "knob_high": tuple(corpus.given[name].high for name in names),
    }
