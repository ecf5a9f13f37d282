"""The prior as a model: its likelihood and training on frames, and audio or frames from seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonemill.models.contract import Batch, CorpusFacts, Model, Request, Update, Validation
from tonemill.models.directions import SEED, Direction, Score
from tonemill.models.parts.codec import DECODE, decoded, decoded_blocks
from tonemill.models.parts.optimizers import adam
from tonemill.models.parts.seeded import other_seed
from tonemill.models.players import Blocks
from tonemill.models.prior.frames import FrameModel
from tonemill.models.prior.generation import SEEDS, Generation, Place
from tonemill.models.prior.settings import PriorConfig, PriorOptions
from tonemill.models.prior.validation import validated

BLOCK: Final = 64
"""Frames of a block of a stream."""

BATCHED_SECONDS: Final = 10
"""Clips of at most so many seconds are rendered whole, several at once."""


class Prior(Model):
    """A density of frames given those before them."""

    Config: ClassVar[type] = PriorConfig
    usual: ClassVar[Mapping[str, Any]] = {"batch_size": 16, "steps": 50_000, "ema": 0.999, "clip_norm": 1.0}
    uses: ClassVar[Mapping[str, str]] = {"codec": DECODE}
    score: ClassVar[Score] = Score("held-out negative log likelihood", "nats a coordinate")

    def __init__(self, config: PriorConfig, parents: Mapping[str, Model]) -> None:
        super().__init__(parents)
        self.config = config
        self.frames = FrameModel(config)

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        return config.settled_for(corpus)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        # A frame waits for the one before it, and each is too small for an accelerator.
        common: dict[str, Any] = {"options": PriorOptions, "samples": config.length, "on_cpu": True}
        if config.codec is None:
            about = f"Frames from seeds, as the array {config.array}."
            return {"render": Direction(about, (SEED,), config.array, hop=config.hop, **common)}
        batched = BATCHED_SECONDS * config.sample_rate
        return {"render": Direction("Audio from seeds.", (SEED,), streams=True, batched=batched, **common)}

    @property
    def length(self) -> int:
        return int(self.config.length)

    @property
    def roles(self) -> tuple[str, ...]:
        return ()

    @property
    def arrays(self) -> tuple[str, ...]:
        return (self.config.array,)

    def fit(self, batches: Iterable[Batch]) -> None:
        self.frames.linear.fit(batch.arrays[self.config.array].transpose(1, 2) for batch in batches)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"prior": adam(self.frames.parameters(), self.config.learning_rate)}

    def learning_rate(self, optimizer: str, step: int) -> float:
        warm_up = self.config.learning_rate_warm_up
        return float(self.config.learning_rate * min(1.0, step / warm_up if warm_up else 1.0))

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        frames = batch.arrays[self.config.array].float().transpose(1, 2)
        loss = -self.frames.log_likelihood(frames).sum(dim=2).mean() / self.frames.linear.live_rows
        update("prior", loss)
        return {"loss": loss.detach()}

    def validate(self, held_out: Iterable[Request]) -> Validation | None:
        return validated(self.frames, self.config, held_out)

    def rendering_parts(self) -> dict[str, nn.Module]:
        return {"frames": self.frames}

    def inputs(self, request: Request) -> dict[str, Tensor]:
        place = _place(request)
        share = torch.tensor(place.share, dtype=torch.float64)
        return {"seed": torch.tensor(place.seed), "seed_to": torch.tensor(place.other), "seed_share": share}

    @torch.inference_mode()
    def render(
        self, inputs: Mapping[str, Tensor], direction: str = "", options: Any = None
    ) -> Float[Tensor, "batch _ _"]:
        samples, seeds = self._samples(options), inputs["seed"].tolist()
        places = [
            Place(*one) for one in zip(seeds, inputs["seed_to"].tolist(), inputs["seed_share"].tolist(), strict=True)
        ]
        frames = Generation(self.frames, places, options.temperature).frames(-(-samples // self.config.hop))
        if "codec" not in self.parents:
            return frames
        return decoded(self.parents["codec"], self.config.array, frames, seeds)[..., :samples]

    def stream(self, request: Request) -> Blocks:
        left, hop, place = self._samples(request.options), self.config.hop, _place(request)
        generation = Generation(self.frames, [place], request.options.temperature)
        total = -(-left // hop)
        counts = (min(BLOCK, total - first) for first in range(0, total, BLOCK))
        frames = (generation.frames(count)[0].cpu().numpy() for count in counts)
        for sound in decoded_blocks(self.parents["codec"], self.config.array, frames, place.seed):
            yield sound[:, :left]
            left -= sound.shape[1]

    def _samples(self, options: Any) -> int:
        return self.length if options.seconds is None else round(options.seconds * self.sample_rate)


def _place(request: Request) -> Place:
    """Where a request stands, which may be between two seeds."""
    other, share = other_seed(request)
    return Place(request.seed % SEEDS, other % SEEDS, share)
