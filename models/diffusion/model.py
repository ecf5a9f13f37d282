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
    VARIANTS,
    Continuing,
    DiffusionConfig,
    Generating,
    Inpainting,
    Reading,
    Varying,
)
from tonemill.models.diffusion.tasks import task_of
from tonemill.models.diffusion.validating import judged
from tonemill.models.directions import AUDIO, SEED, Direction, RequestField
from tonemill.models.parts.labels import drawn_classes, requested_class, settled_labels
from tonemill.models.parts.settings import settled

OPTIMIZER: Final = "denoiser"
Clips = Float[Tensor, "batch channels time"]


class Diffusion(Model):
    Config: ClassVar[type] = DiffusionConfig
    chooser = "task"
    pads_short: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "ema": 0.9999, "clip_norm": 1.0, "listen_clips": 4}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.task = task_of(config, self.channels)
        self.denoiser = Denoiser(config, self.channels, self.task.appended)

    @classmethod
    def variants(cls) -> Mapping[str, type]:
        return VARIANTS

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        config = settled(config, corpus, "diffusion")
        if config.label is None:
            return replace(config, labels=())
        train = f"tonemill train diffusion {corpus.name}"
        return replace(config, labels=settled_labels(config.label, config.labels, corpus, train))

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        fields = {config.label: RequestField(choices=config.labels)} if config.label else {}
        if config.task == "upsample":
            text = "The upper bands of a sound, added to it."
            return {"render": Direction(text, options=Reading, fields=fields)}
        return {
            "render": Direction("Clips from seeds.", (SEED,), options=Generating, fields=fields, samples=config.length),
            "vary": Direction("Another sound like this one.", options=Varying, fields=fields),
            "inpaint": Direction("The sound with what is not kept made again.", options=Inpainting, fields=fields),
            "continue": Direction("The sound and what could follow.", options=Continuing, fields=fields),
        }

    @property
    def length(self) -> int:
        return int(self.config.length)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Measure level and spectrum of what is made, and the level of what is given.

        Raises:
            CorpusError: it is silent.
        """
        powers = []

        def parts() -> Iterator[Clips]:
            for batch in batches:
                made, given = self.task.split(batch.audio[AUDIO].float())
                if given is not None:
                    powers.append(given.square().mean())
                yield made

        try:
            self.denoiser.gaussian.fit(parts())
        except ValueError as error:
            what = "above the bands of --factor" if self.config.task == "upsample" else "in it"
            raise CorpusError(
                f"There is only silence {what}, so there is nothing to learn. Look at the corpus: `tonemill report`."
            ) from error
        if powers:
            self.task.fit(powers)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        # Of audio-diffusion-pytorch-trainer.
        optimizer = torch.optim.AdamW(
            self.denoiser.parameters(), config.learning_rate, (0.95, 0.999), 1e-6, config.weight_decay
        )
        return {OPTIMIZER: optimizer}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """It rises in `warm_up` steps, and stays."""
        return float(self.config.learning_rate * min(1.0, step / max(1, self.config.warm_up)))

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        config, gaussian = self.config, self.denoiser.gaussian
        with torch.no_grad():
            made, given = self.task.split(batch.audio[AUDIO].float())
            clean, level = made / gaussian.deviation, draw_levels(batch, config.levels)
            mix, noise = mix_at(config.objective, level), batch.draw(torch.randn, *clean.shape[1:])
            noisy, slope = mix.mixed(clean, noise), mix.slope(clean, noise)
        classes = None
        if config.label is not None:
            classes = drawn_classes(batch, config.label, config.labels, config.condition_dropout)
        found = self.denoiser(noisy, level, Conditions(classes, self.task.seen(given)))
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
            audio = torch.from_numpy(np.array(request.audio[AUDIO][:, : self.length], np.float32))
            audio = F.pad(audio, (0, self.length - audio.shape[1])).to(gaussian.deviation.device)
            made, given = self.task.split(audio[None])
            label = {name: one[None].to(audio.device) for name, one in self._class_of(request).items()}
            yield made[0] / gaussian.deviation, Conditions(label.get("label"), self.task.seen(given))

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser, "task": self.task}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        options = request.options
        self._check_guidance(options.guidance)
        found = {"seed": torch.tensor([request.seed, getattr(options, "seed", 0)]), **self._class_of(request)}
        if AUDIO in request.audio:
            audio = torch.from_numpy(np.array(request.audio[AUDIO], np.float32))
            if len(audio) != self.channels:
                raise UsageError(
                    f"The sound has {len(audio)} channel(s), but the model was trained on {self.channels}. Put "
                    f"`tonemill channels {'mean' if self.channels == 1 else 'stereo'}` into the pipe."
                )
            if request.direction == "continue":
                found["mask"] = torch.ones(1, audio.shape[1], dtype=torch.bool)
                more = round(options.seconds * self.sample_rate)
                audio, found["mask"] = F.pad(audio, (0, more)), F.pad(found["mask"], (0, more))
            if request.direction == "inpaint":
                found["mask"] = kept(options.keep, audio.shape[1], self.sample_rate)[None]
            found["audio"] = audio
        return found

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
    def render(self, inputs: Mapping[str, Tensor], direction: str, options: Any) -> Float[Tensor, "batch _ _"]:
        audio, gaussian, config = inputs.get("audio"), self.denoiser.gaussian, self.config
        samples = audio.shape[-1] if audio is not None else self._samples(options)
        # What the network would follow by silence is noise and made, too, so that a clip does not fade at its end.
        more = self.denoiser.unet.shape.missing(samples)
        draws = [np.random.default_rng(seed) for seed in inputs["seed"].tolist()]

        def noise() -> Clips:
            # By time first, so that a longer clip begins with the noise of a shorter one.
            drawn = [one.standard_normal((samples + more, self.channels), np.float32) for one in draws]
            return rearrange(torch.from_numpy(np.stack(drawn)), "b t c -> b c t").contiguous().to(gaussian.axes.device)

        made, given = (None, None) if audio is None else self.task.split(F.pad(audio, (0, more)))
        conditions = Conditions(inputs.get("label"), self.task.seen(given))
        denoiser = self.denoiser.sampling(conditions, options)
        start = options.strength if direction == "vary" else 1.0
        levels = schedule_of(options.schedule, config.objective, options.steps, start)
        if direction == "vary":
            assert made is not None
            x = mix_of(config.objective, levels[0]).mixed(made / gaussian.deviation, noise())
        else:
            x = gaussian.colored(noise(), levels[0], config.objective)
        if direction in ("inpaint", "continue"):
            assert made is not None
            mask = F.pad(inputs["mask"], (0, more))
            source = made / gaussian.deviation
            x = inpainted(
                denoiser, x, source, mask, levels, config.objective, options.sampler, options.resamples, noise
            )
            # Divided and multiplied again it would differ in its last bits.
            return torch.where(mask, made, x * gaussian.deviation)[..., :samples]
        if direction == "vary" and not options.strength:
            assert audio is not None
            return audio
        x = sampled(denoiser, x, levels, config.objective, options.sampler)
        return self.task.joined(x * gaussian.deviation, given)[..., :samples]

    def _samples(self, options: Any) -> int:
        return self.length if options.seconds is None else max(1, round(options.seconds * self.sample_rate))
