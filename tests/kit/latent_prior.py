"""A model that learns from latents alone, for tests: it predicts each frame as a matrix times the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Model, Update
from tonemill.models.directions import Direction
from tonemill.models.exchange import Batch, CorpusFacts, Request, Validation


@dataclass(frozen=True)
class Config:
    frames: Annotated[int, "Frames of a training example."] = 4
    dimensions: Annotated[int | None, "Channels of a frame."] = None
    hop: Annotated[int | None, "Samples of a frame."] = None
    sample_rate: Annotated[int | None, "Of the audio."] = None


class LatentPrior(Model):
    Config: ClassVar[type] = Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.matrix = nn.Parameter(torch.zeros(config.dimensions or 1, config.dimensions or 1))

    @classmethod
    def settle(cls, config: Any, corpus: CorpusFacts) -> Any:
        facts = corpus.arrays.get("latents")
        if facts is None:
            raise CorpusError(f"{corpus.name} holds {corpus.holds}, and no latents.")
        return replace(config, dimensions=facts.channels, hop=facts.hop, sample_rate=corpus.sample_rate)

    @classmethod
    def directions(cls, config: Any) -> Mapping[str, Direction]:
        about = "The next frame of each frame."
        return {"predict": Direction(about, ("latents",), gives="latents", hop=config.hop, rows=config.dimensions)}

    @property
    def channels(self) -> int:
        return 0

    @property
    def length(self) -> int:
        return int(self.config.frames * self.config.hop)

    @property
    def roles(self) -> tuple[str, ...]:
        return ()

    @property
    def arrays(self) -> tuple[str, ...]:
        return ("latents",)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"model": torch.optim.SGD(self.parameters(), 0.1)}

    def loss(self, latents: Tensor) -> Tensor:
        predicted = torch.einsum("ij,bjt->bit", self.matrix, latents[..., :-1])
        return (predicted - latents[..., 1:]).square().mean()

    def training_step(self, batch: Batch, step: int, update: Update) -> dict[str, Tensor]:
        loss = self.loss(batch.arrays["latents"])
        update("model", loss)
        return {"loss": loss.detach()}

    def validate(self, held_out: Iterable[Request]) -> Validation:
        losses = [float(self.loss(torch.from_numpy(one.arrays["latents"])[None])) for one in held_out]
        return Validation(sum(losses) / len(losses), {"held_out": float(len(losses))})

    def inputs(self, request: Request) -> dict[str, Tensor]:
        return {"latents": torch.from_numpy(request.arrays["latents"])}

    def render(self, inputs: Mapping[str, Tensor], direction: str, options: Any) -> Tensor:
        return torch.einsum("ij,bjt->bit", self.matrix, inputs["latents"])


MODEL = LatentPrior
