"""Diffusion as a model: training by one loss, and the ways in which a trained one makes, changes and mends sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.diffusion.conditioning import dropped, missing_conditions, settled_conditions
from tonemill.models.diffusion.denoiser import Denoiser, Seen
from tonemill.models.diffusion.directions import directions_of
from tonemill.models.diffusion.inpainting import kept
from tonemill.models.diffusion.noising import draw_levels, mix_at
from tonemill.models.diffusion.rendering import Rendering
from tonemill.models.diffusion.settings import (
    CODEC,
    VARIANTS,
    AutoencodeConfig,
    DiffusionConfig,
    LatentConfig,
    VocodeConfig,
)
from tonemill.models.diffusion.streams import Both, Stream, Unchanged, Waiting
from tonemill.models.diffusion.tasks import Rows, task_of
from tonemill.models.diffusion.validating import judged
from tonemill.models.directions import AUDIO, Direction, Lean, Score
from tonemill.models.parts.codec import DECODE, decoded, decoded_blocks
from tonemill.models.parts.optimizers import adamw
from tonemill.models.parts.seeded import given_latent, other_seed
from tonemill.models.parts.settings import settled

OPTIMIZER: Final = "denoiser"

Clips = Float[Tensor, "batch channels time"]


class Diffusion(Model):
    Config: ClassVar[type] = DiffusionConfig
    chooser = "task"
    kept = ("pause_octaves",)
    pads_short: ClassVar[bool] = True
    score: ClassVar[Score] = Score("loss over that of the best Gaussian denoiser")
    implied: ClassVar[Mapping[str, str]] = {CODEC: "latent"}
    uses: ClassVar[Mapping[str, str | Lean]] = {CODEC: DECODE}
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "ema": 0.9999, "clip_norm": 1.0, "listen_clips": 4}

    def __init__(self, config: Any, parents: Mapping[str, Model] | None = None) -> None:
        super().__init__(parents)
        self.config = config
        self.task = task_of(config)
        # Latents are made of latents alone, in frames.
        self._rows = int(config.rows) if config.task == "latent" else self.channels
        self._hop = int(config.hop) if config.task == "latent" else 1
        task = self.task
        self.denoiser = Denoiser(config, self._rows // task.apart, task.appended, task.injected, task.hop)

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return VARIANTS

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        decided: dict[str, Any] = {}
        if isinstance(config, VocodeConfig):
            config.check_rate(corpus.sample_rate)
            decided["high_hz"] = corpus.sample_rate / 2 if config.high_hz is None else config.high_hz
        if isinstance(config, AutoencodeConfig) and config.level_bands is None:
            decided["level_bands"] = config.latent_dim // 2
        if config.pause_octaves is None:
            decided["pause_octaves"] = config.usual_octaves
        if isinstance(config, LatentConfig):
            config = config.settled_for(corpus)
        else:
            config = settled(config, corpus, "diffusion", **decided)
        return settled_conditions(config, corpus)

    @classmethod
    def remarks(cls, config: Any, corpus: CorpusFacts) -> list[str]:
        return missing_conditions(config, corpus)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        return directions_of(config)

    @property
    def length(self) -> int:
        return int(self.config.length)

    @property
    def roles(self) -> tuple[str, ...]:
        return () if self.config.task == "latent" else (AUDIO,)

    @property
    def arrays(self) -> tuple[str, ...]:
        made = (self.config.code,) if self.config.task == "latent" else ()
        return made if self.config.embedding is None else (*made, self.config.embedding)

    def _clips(self, batch: Batch) -> Clips:
        """What it learns from, of a batch."""
        return (batch.arrays[self.config.code] if self.config.task == "latent" else batch.audio[AUDIO]).float()

    def fit(self, batches: Iterable[Batch]) -> None:
        """Measure level and spectrum of what is made, and the level of what is given.

        Raises:
            CorpusError: it is silent.
        """
        moments = []

        def parts() -> Iterator[Rows]:
            for batch in batches:
                code, made = self.task.taken(self._clips(batch))
                if code is not None:
                    moments.append(self.task.moments(code))
                yield made

        try:
            with torch.no_grad():
                self.denoiser.gaussian.fit(parts())
        except ValueError as error:
            what = "above the bands of --factor" if self.config.task == "upsample" else "in it"
            raise CorpusError(
                f"Nothing can be learned, for there is only silence {what}. Look at the corpus: `tonemill report "
                "CORPUS -o report.html`."
            ) from error
        if moments:
            self.task.fit(torch.stack(moments).mean(dim=0))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        # The other settings are of audio-diffusion-pytorch-trainer.
        return {OPTIMIZER: adamw(self.parameters(), config.learning_rate, (0.95, 0.999), 1e-6, config.weight_decay)}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """It rises in `warm_up` steps, and stays."""
        return float(self.config.learning_rate * min(1.0, step / max(1, self.config.warm_up)))

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config, gaussian = self.config, self.denoiser.gaussian
        code, made = self.task.taken(self._clips(batch))
        clean, level = made / gaussian.deviation, self.task.each(draw_levels(batch, config.levels))
        conditions, about = self.denoiser.conditions, self.task.seen(code)
        whole = {name: one.of_batch(batch) for name, one in conditions.items()}
        rows = dropped(conditions, whole, batch, config.condition_dropout)
        seen = self.denoiser.seen({name: self.task.each(one) for name, one in rows.items()}, about)
        with torch.no_grad():
            noise = self.denoiser.noise(self.task.split(batch.draw(torch.randn, self._rows, clean.shape[-1])), seen)
            mix = mix_at(config.objective, level)
            noisy, slope = mix.mixed(clean, noise), mix.slope(clean, noise)
        loss = self.denoiser.loss(self.denoiser(noisy, level, seen) - slope, seen).mean()
        update(OPTIMIZER, loss)
        expected = self.denoiser.expected_loss(clean.shape[-1], level, seen).mean()
        return {"loss": loss.detach(), "loss_over_expected": (loss / expected).detach()}

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Losses at five noise levels beside the Gaussian denoiser's, on the first `length` samples of each clip."""
        return judged(self.denoiser, self._held_out(held_out))

    def _held_out(self, held_out: Iterable[Request]) -> Iterator[tuple[Float[Tensor, "channels time"], Seen]]:
        gaussian = self.denoiser.gaussian
        for request in islice(held_out, self.config.validate_clips or None):
            whole = request.arrays[self.config.code] if self.config.task == "latent" else request.audio[AUDIO]
            length = self.length // self._hop
            audio = torch.from_numpy(np.array(whole[:, :length], np.float32))
            audio = F.pad(audio, (0, length - audio.shape[1])).to(gaussian.deviation.device)
            code, made = self.task.taken(audio[None])
            rows = {name: self.task.each(row[None].to(audio.device)) for name, row in self._rows_of(request).items()}
            seen = self.denoiser.seen(rows, self.task.seen(code))
            for channel, clean in enumerate(made / gaussian.deviation):
                yield clean, seen.item(channel)

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser, "task": self.task}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        options = request.options
        if request.direction == "encode":
            return {"audio": self._audio_of(request)}
        found = self._inputs(request)
        if request.direction == "decode":
            found["code"] = torch.from_numpy(np.array(request.arrays[self.config.array.name], np.float32))
        if AUDIO in request.audio:
            audio = self._audio_of(request)
            if request.direction == "continue":
                found["mask"] = torch.ones(1, audio.shape[1], dtype=torch.bool)
                more = round(options.seconds * self.sample_rate)
                audio, found["mask"] = F.pad(audio, (0, more)), F.pad(found["mask"], (0, more))
            if request.direction == "inpaint":
                found["mask"] = kept(options.keep, audio.shape[1], self.sample_rate)[None]
            found["audio"] = audio
        return found

    def _inputs(self, request: Request) -> dict[str, Tensor]:
        """Seeds and conditions of a request."""
        options = request.options
        self._check_guidance(options.guidance)
        if given_latent(request) is not None:
            raise UsageError(
                "the field latent holds a vector, which this model does not use: it begins with noise of the "
                "length of a clip. Leave the field out, and give seeds: `tonemill seeds 16`."
            )
        found = {"seed": torch.tensor([request.seed, getattr(options, "seed", 0)]), **self._rows_of(request)}
        other, share = other_seed(request)
        if share:
            found |= {"seed_to": torch.tensor([other, getattr(options, "seed", 0)]), "seed_share": torch.tensor(share)}
        return found

    def _audio_of(self, request: Request) -> Float[Tensor, "channels time"]:
        audio = torch.from_numpy(np.array(request.audio[AUDIO], np.float32))
        self._check_channels(len(audio))
        return audio

    def _check_channels(self, channels: int) -> None:
        if channels != self.channels:
            raise UsageError(
                f"The sound has {channels} channel(s), but the model was trained on {self.channels}. Put "
                f"`tonemill channels {'mean' if self.channels == 1 else 'stereo'}` into the pipe."
            )

    def _rows_of(self, request: Request) -> dict[str, Tensor]:
        """The row of a request for each condition."""
        return {name: one.of_request(request) for name, one in self.denoiser.conditions.items()}

    def _check_guidance(self, guidance: float) -> None:
        if guidance != 1 and not self.denoiser.conditions:
            raise UsageError(
                f"--guidance is {guidance:g}, but this model was trained without labels or other conditions, which "
                "guidance strengthens. Leave it out, or train with --label, --numbers, --caption or --embedding."
            )
        if guidance != 1 and not self.config.condition_dropout:
            raise UsageError(
                f"--guidance is {guidance:g}, but this model was trained with --condition-dropout 0. Guidance "
                "needs a model that also trained without conditions. Leave it out, or train another run with "
                "--condition-dropout 0.1."
            )

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        if direction == "encode":
            return self._rendering.encoded(inputs["audio"])
        made = self._rendering.made(inputs, direction, options)
        if CODEC not in self.parents:
            return made
        sound = decoded(self.parents[CODEC], self.config.code, made, inputs["seed"][:, 0].tolist())
        return sound[..., : self._rendering.samples(options)]

    def stream(self, request: Request) -> Iterator[Float[np.ndarray, "channels _"]]:
        device = self.denoiser.gaussian.axes.device
        inputs = {name: one[None].to(device) for name, one in self.inputs(request).items()}
        made = _computed(self._rendering.blocks(inputs, request.options))
        if CODEC not in self.parents:
            yield from made
            return
        left = self._rendering.samples(request.options)
        for block in decoded_blocks(self.parents[CODEC], self.config.code, made, request.seed):
            if left > 0:
                yield block[:, :left]
            left -= block.shape[1]

    def player(self, request: Request, channels: int) -> Waiting:
        making, task, direction, options = self._rendering, self.task, request.direction, request.options
        device = self.denoiser.gaussian.axes.device
        stated = {} if direction == "encode" else self._inputs(request)
        inputs = {name: x[None].to(device) for name, x in stated.items()}
        if direction == "decode":
            return Waiting(
                self.channels,
                making.most // task.hop,
                lambda code: making.made({**inputs, "code": code}, direction, options),
                lambda: making.decoding(inputs, options),
                device,
            )
        self._check_channels(channels)
        if direction == "encode":
            return Waiting(self.config.array.rows, making.most, making.encoded, making.encoding, device)

        def begin() -> Stream:
            if direction != "vary":
                return Both(making.encoding(), making.decoding(inputs, options))
            return making.varying(inputs, options) if options.strength else Unchanged()

        def whole(audio: Tensor) -> Tensor:
            return making.made({**inputs, "audio": audio}, direction, options)

        return Waiting(self.channels, making.most, whole, begin, device)

    @property
    def _rendering(self) -> Rendering:
        return Rendering(self.denoiser, self.task, self.length, self.sample_rate, self._hop)


def _computed(blocks: Iterator[Float[Tensor, "batch _ _"]]) -> Iterator[Float[np.ndarray, "channels _"]]:
    """The first of each batch, without gradients."""
    while True:
        # Around each block: around a `yield` it would hold for the reader of the stream, too.
        with torch.inference_mode():
            block = next(blocks, None)
        if block is None:
            return
        yield block[0].float().cpu().numpy()
