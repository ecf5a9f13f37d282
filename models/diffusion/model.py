"""Diffusion as a model: training by one loss, and the ways in which a trained one makes, changes and mends sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.diffusion.denoiser import Conditions, Denoiser
from tonemill.models.diffusion.inpainting import inpainted, kept
from tonemill.models.diffusion.noising import draw_levels, mix_at, mix_of, schedule_of
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.diffusion.settings import (
    LATENTS,
    VARIANTS,
    Continuing,
    DiffusionConfig,
    Generating,
    Inpainting,
    LatentConfig,
    Reading,
    Varying,
    VocodeConfig,
)
from tonemill.models.diffusion.tasks import task_of
from tonemill.models.diffusion.validating import judged
from tonemill.models.directions import AUDIO, SEED, Direction, RequestField
from tonemill.models.parts.labels import drawn_classes, requested_class, settled_labels
from tonemill.models.parts.settings import settled

OPTIMIZER: Final = "denoiser"

MENDING: Final = ("inpaint", "continue")
"""Directions that leave a part of the sound as it is."""

Clips = Float[Tensor, "batch channels time"]
Rows = Float[Tensor, "_ _ time"]


class Diffusion(Model):
    Config: ClassVar[type] = DiffusionConfig
    chooser = "task"
    pads_short: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "ema": 0.9999, "clip_norm": 1.0, "listen_clips": 4}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.task = task_of(config)
        # Mel spectrograms are of single channels, which are then made one by one.
        self._apart = self.channels if config.task == "vocode" else 1
        # Latents are made of latents alone, in frames.
        self._rows = int(config.rows) if config.task == "latent" else self.channels
        self._hop = int(config.hop) if config.task == "latent" else 1
        self.denoiser = Denoiser(config, self._rows // self._apart, self.task.appended, self.task.injected)

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return VARIANTS

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        decided: dict[str, Any] = {}
        if isinstance(config, VocodeConfig):
            config.check_rate(corpus.sample_rate)
            decided["high_hz"] = corpus.sample_rate / 2 if config.high_hz is None else config.high_hz
        if isinstance(config, LatentConfig):
            config = config.settled_for(corpus)
        else:
            config = settled(config, corpus, "diffusion", **decided)
        if config.label is None:
            return replace(config, labels=())
        train = f"tonemill train diffusion {corpus.name}"
        return replace(config, labels=settled_labels(config.label, config.labels, corpus, train))

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        fields = {config.label: RequestField(choices=config.labels)} if config.label else {}
        reading: dict[str, Any] = {"options": Reading, "fields": fields}
        if config.task == "upsample":
            return {"render": Direction("The upper bands of a sound, added to it.", **reading)}
        if config.task == "latent":
            more: dict[str, Any] = {"hop": config.hop, "rows": config.rows, "samples": config.length}
            return {
                "render": Direction("Latents from seeds.", (SEED,), LATENTS, Generating, fields=fields, **more),
            }
        if config.array is not None:
            name, about, hop, rows = config.array
            array: dict[str, Any] = {"hop": hop, "rows": rows}
            return {
                "render": Direction(f"Audio to {about} and back.", **reading),
                "encode": Direction(f"The array {name} of audio: {about}.", gives=name, **array),
                "decode": Direction(
                    f"Audio of {about}, the array {name}.",
                    (name,),
                    learned=config.task == "autoencode",
                    **reading,
                    **array,
                ),
            }
        return {
            "render": Direction("Clips from seeds.", (SEED,), options=Generating, fields=fields, samples=config.length),
            "vary": Direction("Another sound like this one.", options=Varying, fields=fields),
            "inpaint": Direction("The sound with what is not kept made again.", options=Inpainting, fields=fields),
            "continue": Direction("The sound and what could follow.", options=Continuing, fields=fields),
        }

    @property
    def length(self) -> int:
        return int(self.config.length)

    @property
    def roles(self) -> tuple[str, ...]:
        return () if self.config.task == "latent" else (AUDIO,)

    @property
    def arrays(self) -> tuple[str, ...]:
        return (LATENTS,) if self.config.task == "latent" else ()

    def _clips(self, batch: Batch) -> Clips:
        """What it learns from, of a batch."""
        return (batch.arrays[LATENTS] if self.config.task == "latent" else batch.audio[AUDIO]).float()

    def fit(self, batches: Iterable[Batch]) -> None:
        """Measure level and spectrum of what is made, and the level of what is given.

        Raises:
            CorpusError: it is silent.
        """
        moments = []

        def parts() -> Iterator[Rows]:
            for batch in batches:
                code, made = self._taken(self._clips(batch))
                if code is not None:
                    moments.append(self.task.moments(code))
                yield made

        try:
            with torch.no_grad():
                self.denoiser.gaussian.fit(parts())
        except ValueError as error:
            what = "above the bands of --factor" if self.config.task == "upsample" else "in it"
            raise CorpusError(
                f"There is only silence {what}, so there is nothing to learn. Look at the corpus: `tonemill report`."
            ) from error
        if moments:
            self.task.fit(torch.stack(moments).mean(dim=0))

    def _taken(self, audio: Clips) -> tuple[Tensor | None, Rows]:
        """What is given of a sound, and what is made; channels that are made one by one are items of the batch."""
        audio = self._apart_of(audio)
        code = self.task.code(audio)
        return code, self.task.made(audio, code)

    def _apart_of(self, rows: Rows) -> Rows:
        return rearrange(rows, "batch (apart c) time -> (batch apart) c time", apart=self._apart)

    def _together(self, rows: Rows) -> Rows:
        return rearrange(rows, "(batch apart) c time -> batch (apart c) time", apart=self._apart)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        # Of audio-diffusion-pytorch-trainer.
        optimizer = torch.optim.AdamW(self.parameters(), config.learning_rate, (0.95, 0.999), 1e-6, config.weight_decay)
        return {OPTIMIZER: optimizer}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """It rises in `warm_up` steps, and stays."""
        return float(self.config.learning_rate * min(1.0, step / max(1, self.config.warm_up)))

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config, gaussian = self.config, self.denoiser.gaussian
        code, made = self._taken(self._clips(batch))
        with torch.no_grad():
            clean, level = made / gaussian.deviation, draw_levels(batch, config.levels).repeat_interleave(self._apart)
            noise = self._apart_of(batch.draw(torch.randn, self._rows, clean.shape[-1]))
            mix = mix_at(config.objective, level)
            noisy, slope = mix.mixed(clean, noise), mix.slope(clean, noise)
        classes = None
        if config.label is not None:
            drawn = drawn_classes(batch, config.label, config.labels, config.condition_dropout)
            classes = drawn.repeat_interleave(self._apart)
        found = self.denoiser(noisy, level, Conditions(classes, *self.task.seen(code)))
        loss = (found - slope).square().mean()
        update(OPTIMIZER, loss)
        expected = gaussian.loss(level, config.objective).mean()
        return {"loss": loss.detach(), "loss_over_expected": (loss / expected).detach()}

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        """Losses at five noise levels beside the Gaussian denoiser's, on the first `length` samples of each clip."""
        return judged(self.denoiser, self._held_out(held_out))

    def _held_out(self, held_out: Iterable[Request]) -> Iterator[tuple[Float[Tensor, "channels time"], Conditions]]:
        gaussian = self.denoiser.gaussian
        for request in islice(held_out, self.config.validate_clips or None):
            whole = request.arrays[LATENTS] if self.config.task == "latent" else request.audio[AUDIO]
            length = self.length // self._hop
            audio = torch.from_numpy(np.array(whole[:, :length], np.float32))
            audio = F.pad(audio, (0, length - audio.shape[1])).to(gaussian.deviation.device)
            code, made = self._taken(audio[None])
            classes = self._class_of(request).get("label")
            if classes is not None:
                classes = classes.to(audio.device).expand(self._apart)
            seen = self.task.seen(code)
            for channel, clean in enumerate(made / gaussian.deviation):
                one = [None if x is None else x[channel : channel + 1] for x in (classes, *seen)]
                yield clean, Conditions(*one)

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser, "task": self.task}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        options = request.options
        if request.direction == "encode":
            return {"audio": self._audio_of(request)}
        self._check_guidance(options.guidance)
        found = {"seed": torch.tensor([request.seed, getattr(options, "seed", 0)]), **self._class_of(request)}
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

    def _audio_of(self, request: Request) -> Float[Tensor, "channels time"]:
        audio = torch.from_numpy(np.array(request.audio[AUDIO], np.float32))
        if len(audio) != self.channels:
            raise UsageError(
                f"The sound has {len(audio)} channel(s), but the model was trained on {self.channels}. Put "
                f"`tonemill channels {'mean' if self.channels == 1 else 'stereo'}` into the pipe."
            )
        return audio

    def _class_of(self, request: Request) -> dict[str, Tensor]:
        config = self.config
        if not config.labels:
            return {}
        draws = np.random.Generator(np.random.PCG64(request.seed))
        return {"label": requested_class(request, config.label, config.labels, config.condition_dropout, draws)}

    def _check_guidance(self, guidance: float) -> None:
        if guidance != 1 and not self.config.labels:
            raise UsageError(
                f"--guidance is {guidance:g}, but this model was trained without classes. Leave it out, or train with "
                "--label FIELD."
            )
        if guidance != 1 and not self.config.condition_dropout:
            raise UsageError(
                f"--guidance is {guidance:g}, but this model was trained with --condition-dropout 0 and has no "
                "answer without a class to go away from. Leave it out, or train with --condition-dropout 0.1."
            )

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        if direction == "encode":
            return self._encoded(inputs["audio"])
        code, made, samples = self._given(inputs, options)
        gaussian, objective = self.denoiser.gaussian, self.config.objective
        # What the network would follow by silence is noise and made, too, so that a clip does not fade at its end.
        more = self.denoiser.unet.shape.missing(samples)
        draws = [np.random.default_rng(seed) for seed in inputs["seed"].tolist()]

        def noise() -> Rows:
            # By time first, so that a longer clip begins with the noise of a shorter one.
            drawn = [one.standard_normal((samples + more, self._rows), np.float32) for one in draws]
            by_time = torch.from_numpy(np.stack(drawn)).to(gaussian.axes.device)
            return self._apart_of(rearrange(by_time, "batch time channels -> batch channels time").contiguous())

        classes = inputs["label"].repeat_interleave(self._apart) if "label" in inputs else None
        denoiser = self.denoiser.sampling(Conditions(classes, *self.task.seen(code)), options)
        start = options.strength if direction == "vary" else 1.0
        levels = schedule_of(options.schedule, objective, options.steps, start)
        clean = None if made is None else F.pad(made / gaussian.deviation, (0, more))
        if direction == "vary":
            if not start:
                return inputs["audio"]
            assert clean is not None
            x = mix_of(objective, levels[0]).mixed(clean, noise())
        else:
            x = gaussian.colored(noise(), levels[0], objective)
        if direction not in MENDING:
            x = sampled(denoiser, x, levels, objective, options.sampler)[..., :samples]
            return self._together(self.task.joined(x * gaussian.deviation, code))
        assert clean is not None
        mask, rounds = F.pad(inputs["mask"], (0, more)), options.resamples
        x = inpainted(denoiser, x, clean, mask, levels, objective, options.sampler, rounds, noise)
        # Divided and multiplied again what is kept would differ in its last bits.
        return torch.where(inputs["mask"], inputs["audio"], x[..., :samples] * gaussian.deviation)

    def _given(self, inputs: Mapping[str, Tensor], options: Any) -> tuple[Tensor | None, Rows | None, int]:
        """What is given of a sound, what there is of what is made, and the samples of the output."""
        if "code" in inputs:
            code = self._apart_of(inputs["code"])
            return code, None, code.shape[-1] * self.task.hop
        if "audio" in inputs:
            return *self._taken(inputs["audio"]), inputs["audio"].shape[-1]
        seconds = options.seconds
        samples = self.length if seconds is None else max(1, round(seconds * self.sample_rate))
        return None, None, -(-samples // self._hop)

    def _encoded(self, audio: Clips) -> Float[Tensor, "batch _ _"]:
        code, _ = self._taken(audio)
        assert code is not None
        frames = -(-audio.shape[-1] // self.task.hop)
        return self._together(code[..., :frames])
