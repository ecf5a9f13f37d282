"""The effect model: one of several networks, its losses, its knobs and its optimizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import Direction, Export, Score, as_number
from tonemill.models.effect.at_once import losses_of_each
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import NETWORKS, Network, Pairs, played
from tonemill.models.effect.playing import ChannelPlayers, PackedPlayOptions, PlayOptions, direction_of
from tonemill.models.effect.settings import (
    DECAY_STEPS,
    PAIRS_PIPE,
    EffectConfig,
    config_of_network,
    film_of_then,
    flags_of,
    refuse_doubtful_corpora,
    settled_knobs,
    with_film,
)
from tonemill.models.exchange import Measured, UpdateAtOnce
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.settings import settled


class Effect(Model):
    Config: ClassVar[type] = EffectConfig
    chooser = "network"
    reads = (".nam",)
    retired: ClassVar[Mapping[str, str]] = {"clip_norm": "train"}
    kept = ("film", "film_gain")
    score: ClassVar[Score] = Score("ESR")
    usual: ClassVar[Mapping[str, Any]] = {"steps": 6000, "batch_size": 16, "clip_norm": 1.0}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.loss = BlockLoss(config)
        self.network: Network = NETWORKS.module(config.network).NETWORK(config, len(config.knobs))
        self._capture: Mapping[str, str] = {}

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return {name: config_of_network(name) for name in NETWORKS.names()}

    @classmethod
    def current(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return film_of_then(super().current(values))

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
        refuse_doubtful_corpora(config, corpus)
        return with_film(replace(config, **settled_knobs(config, corpus)))

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
        return {"network": _adam(self.network, self.learning_rate("network", 1))}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """It falls exponentially to a twentieth, where it stays."""
        config = self.config
        rate = float(config.learning_rate or self.network.learning_rate)
        return rate * 0.05 ** min(1.0, (step - 1) / config.decay_steps) if config.decay_steps else rate

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        return self.network.training_step(self._pairs(batch, self._gain(batch)), step, self.loss, update)

    @classmethod
    def trains_at_once(cls, config: Any) -> bool:
        return bool(NETWORKS.module(config.network).NETWORK.at_once)

    @classmethod
    def training_steps(
        cls, models: Sequence[Any], batches: Sequence[Batch], step: int, update: UpdateAtOnce
    ) -> list[dict[str, Tensor]]:
        gain = models[0]._gain(batches[0])
        pairs = [model._pairs(batch, gain) for model, batch in zip(models, batches, strict=True)]
        losses = losses_of_each([model.network for model in models], pairs, models[0].loss)
        update("network", [one["loss"] for one in losses])
        return [{name: value.detach() for name, value in one.items()} for one in losses]

    @classmethod
    def candidates(cls, config: Any, corpus: CorpusFacts, stated: Collection[str] = ()) -> Mapping[str, Any]:
        from tonemill.models.effect import search

        # A network may have defaults of its own.
        values = {one.name: (getattr(config, one.name), one.default) for one in fields(EffectConfig)}
        chosen = {name for name, (value, usual) in values.items() if name in stated or value != usual} - {"network"}
        shared = {name: values[name][0] for name in chosen}
        return search.configs(shared, len(settled_knobs(config, corpus)["knobs"]))

    @classmethod
    def paced(cls, config: Any, steps: int | None) -> Any:
        usual = DECAY_STEPS if steps is None else steps
        return replace(config, decay_steps=usual) if config.decay_steps is None else config

    def search_figures(self) -> Mapping[str, float]:
        from tonemill.models.effect import search

        return search.figures(self.network, self.sample_rate, len(self.config.knobs))

    @classmethod
    def chosen(cls, candidates: Mapping[str, Measured]) -> tuple[str, str]:
        from tonemill.models.effect import search

        return search.chosen(candidates)

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        from tonemill.models.effect.validation import judged

        config = self.config
        return judged(
            self.network,
            held_out,
            self.sample_rate,
            self.channels,
            self.knob_positions,
            config.validate_seconds,
            float(config.stability_seconds or 0.0),
        )

    def inputs(self, request: Request) -> dict[str, Tensor]:
        if "dry" not in request.audio and "audio" not in request.audio:
            raise UsageError(
                "an effect model processes audio, and the recipe has none; give it some with `tonemill scan FOLDER`."
            )
        dry = request.audio["dry" if "dry" in request.audio else "audio"]
        return {"dry": torch.from_numpy(np.array(dry)), "knobs": torch.from_numpy(self.knob_positions(request.fields))}

    @torch.no_grad()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch channels time"]:
        dry, knobs = inputs["dry"], inputs["knobs"]
        if not self.network.feeds_back:
            flat = dry.flatten(0, 1)
            return self.network(flat, knobs.repeat_interleave(dry.shape[1], 0)).reshape(dry.shape)
        outputs = [
            torch.from_numpy(played(self.network.player(positions.cpu().numpy()), one))
            for channels, positions in zip(dry.float().cpu().numpy(), knobs, strict=True)
            for one in channels
        ]
        return torch.stack(outputs).reshape(dry.shape).to(dry.device)

    def player(self, request: Request, channels: int) -> ChannelPlayers:
        options: PlayOptions = request.options or PlayOptions()
        positions = self.knob_positions(request.fields)
        network = self._member(options)
        return ChannelPlayers([network.player(positions) for _ in range(channels)], options.block)

    def play_batch(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "channels _"]]:
        options: PlayOptions = requests[0].options
        signals = [channel for request in requests for channel in request.audio["audio"]]
        settings = [self.knob_positions(request.fields) for request in requests for _ in request.audio["audio"]]
        network = self._member(options)
        outputs = iter(network.play_batch(signals, settings, options.lockstep, options.segments))
        return [np.stack([next(outputs) for _ in request.audio["audio"]]) for request in requests]

    def exported(self, form: str, options: Any, metadata: Mapping[str, Any]) -> bytes:
        from tonemill.models.effect.export import forms

        return forms.written(self.network, len(self.config.knobs), self.sample_rate, form, options, metadata)

    def export_error_db(self, form: str, options: Any, data: bytes) -> float:
        from tonemill.models.effect.export import forms

        network = forms.chosen(self.network, form, options)
        return forms.error_db(network, len(self.config.knobs), self.sample_rate, form, data)

    @classmethod
    def converted(cls, data: bytes, form: str, options: Any) -> bytes:
        from tonemill.models.effect.export import forms

        return forms.converted(data, form, options)

    @classmethod
    def loaded(cls, data: bytes) -> Effect:
        from tonemill.models.effect.export import nam

        amp = nam.read(data)
        name = type(amp.network).__name__.lower()
        config = amp.network.config
        own = {} if config is None else {one.name: getattr(config, one.name) for one in fields(config)}
        model = cls(config_of_network(name)(**own, sample_rate=amp.sample_rate, channels=1))
        model.network, model._capture = amp.network, nam.stated(amp.metadata)
        return model.eval()

    def about(self) -> Mapping[str, str]:
        members = self.network.members.items()
        found = {
            f"network up to size {size:g}" if len(members) > 1 else "network": _in_words(one) for size, one in members
        }
        named = {f"{name} knob": f"{low:g} to {high:g}" for name, low, high in self._knob_ranges()}
        return {**self._capture, **found, **named, "flags of train effect": flags_of(self.network, self.config.network)}

    def knob_positions(self, settings: Mapping[str, Any]) -> Float[np.ndarray, "knobs"]:
        """The knobs' positions (knobs,), from -1 to 1 over the range of the training corpus.

        Args:
            settings: values of the knobs by name; other names are ignored.

        Raises:
            UsageError: a knob is missing, or its value is no number.
        """
        found = []
        for name, low, high in self._knob_ranges():
            value = as_number(settings.get(name))
            if isinstance(value, bool) or not isinstance(value, int | float):
                what = "is not set" if value is None else f"is {value!r}, no number"
                raise UsageError(
                    f"the knob {name!r} {what}; it was trained on values from {low:g} to {high:g}. Set it with "
                    f"`tonemill render RUN --set {name}={(low + high) / 2:g}`."
                )
            found.append(2 * (value - low) / (high - low) - 1)
        return np.array(found, np.float32)

    def _knob_ranges(self) -> Iterable[tuple[str, float, float]]:
        config = self.config
        return zip(config.knobs, config.knob_low, config.knob_high, strict=True)

    def _member(self, options: PlayOptions) -> Network:
        return self.network.member(options.size if isinstance(options, PackedPlayOptions) else None)

    def _gain(self, batch: Batch) -> Tensor | None:
        """The drawn gains of `--level-augment-db`, (batch * channels, 1); None where there are none."""
        if not self.config.level_augment_db:
            return None
        drawn = batch.draw(torch.rand, self.channels).flatten()[:, None]
        return torch.as_tensor(10 ** (-self.config.level_augment_db / 20 * drawn))

    def _pairs(self, batch: Batch, gain: Tensor | None) -> Pairs:
        """The batch with every channel as a pair of its own: (batch * channels, time)."""
        dry, wet = (batch.audio[role].flatten(0, 1) for role in ("dry", "wet"))
        rows = [{name: values[n] for name, values in batch.fields.items()} for n in range(len(batch))]
        knobs = torch.from_numpy(np.stack([self.knob_positions(row) for row in rows])).to(dry.device)
        if gain is not None:
            dry, wet = gain * dry, gain * wet
        return Pairs(dry, wet, knobs.repeat_interleave(self.channels, 0))


def _adam(network: Network, rate: float) -> torch.optim.Optimizer:
    return adam(network.parameters(), lr=rate, weight_decay=network.weight_decay)


def _in_words(network: Network) -> str:
    seen = network.receptive_field
    count = sum(one.numel() for one in network.parameters())
    receptive = "a state without end" if seen is None else f"a receptive field of {seen:,} samples"
    return f"{type(network).__name__} of {count:,} parameters, with {receptive}"
