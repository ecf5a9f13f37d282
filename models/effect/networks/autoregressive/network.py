"""The layers of the autoregressive network: windows of dry samples and of its own past output in, one sample out.

For p[n] the input is dry[n-m+1 .. n] and wet[n-m+1 .. n-1]: the current dry sample and the outputs right before it.
(The seed trains on windows that end one sample earlier and renders as if they did not; so it cannot learn to pass a
signal through, and its oscillators run sharp. Here training and rendering cut the same windows.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tonemill.models.contract import Update
from tonemill.models.effect.losses import BlockLoss
from tonemill.models.effect.network import Knobs, Network, NetworkPlayer, Pairs, as_array
from tonemill.models.effect.networks.autoregressive.runner import Runner
from tonemill.models.effect.networks.autoregressive.settings import QUIETEST, AutoregressiveConfig
from tonemill.models.effect.representations import REPRESENTATIONS, Linear, OneHot

Streams = Float[Tensor, "streams time"]


class Autoregressive(Network):
    """Dry and past wet windows to the next wet sample.

    The layers read `context` dry samples and `context - 1` wet ones, each oldest first, all in the representation,
    and then the knobs.
    """

    Config: ClassVar[type] = AutoregressiveConfig
    learning_rate = 2e-3
    feeds_back = True

    def __init__(self, config: Any, knobs: int = 0) -> None:
        super().__init__(config, knobs)
        self.representation: Linear = (
            OneHot(config.residual_weight)
            if config.representation == "onehot"
            else REPRESENTATIONS[config.representation]()
        )
        sizes = [2 * config.context - 1 + knobs] + [config.width] * config.depth + [self.representation.outputs]
        self.layers: Any = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        if config.init == "seed":
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=config.width**-0.5)

    @property
    def past(self) -> int:
        """Samples before the current one in a window, of either signal."""
        return self.config.context - 1

    @property
    def warm_up(self) -> int:
        return self.past + (self.config.sampling_steps if self.config.scheduled_sampling else 0)

    @property
    def receptive_field(self) -> None:
        return None

    def forward(self, dry: Streams, knobs: Knobs, wet: Streams | None = None) -> Streams:
        if wet is None:
            raise ValueError("this network feeds back: give `forward` the true wet signal, or use `player`")
        return self.teacher_forced(dry, wet, knobs)

    def training_step(self, pairs: Pairs, step: int, loss: BlockLoss, update: Update) -> dict[str, Tensor]:
        losses = {"next_sample": self.window_loss(pairs.dry, pairs.wet, step, pairs.knobs)}
        if self.config.unroll:
            losses["unrolled"] = self.block_loss(pairs.dry, pairs.wet, loss, pairs.knobs)
        total = torch.stack(list(losses.values())).sum()
        update("network", total)
        return {name: value.detach() for name, value in {"loss": total, **losses}.items()}

    def step(self, dry: Streams, knobs: Knobs, state: list[Tensor]) -> tuple[Streams, list[Tensor]]:
        """One sample: `dry` is (1, 1), because the next sample needs this one's output."""
        seen = torch.cat([state[0], self.representation.encode(dry)], dim=1)
        code = self._kept(self.representation.code(self.outputs(_seen(seen, state[1], knobs))))[:, None]
        return self.representation.decode(code), [seen[:, 1:], torch.cat([state[1], code], dim=1)[:, 1:]]

    def at_rest(self, knobs: Knobs) -> list[Tensor]:
        return [knobs.new_zeros(len(knobs), self.past) for _ in range(2)]

    def player(self, knobs: Float[np.ndarray, "knobs"]) -> NetworkPlayer:
        return self.runner(knobs).stream()

    def runner(self, knobs: Float[np.ndarray, "knobs"] | None = None) -> Runner:
        """A runner with a copy of the current weights."""
        layers = [(as_array(layer.weight), as_array(layer.bias)) for layer in self.layers]
        return Runner(layers, self.config, self.representation, self.code_limit, knobs)

    def play_batch(
        self,
        signals: Sequence[Float[np.ndarray, "_"]],
        knobs: Sequence[Float[np.ndarray, "knobs"]],
        streams: int,
        segments: int = 1,
    ) -> list[Float[np.ndarray, "_"]]:
        outputs: dict[int, np.ndarray] = {}
        for positions in {one.tobytes(): one for one in knobs}.values():
            runner = self.runner(positions)
            alike = [n for n, one in enumerate(knobs) if one.tobytes() == positions.tobytes()]
            if segments > 1:
                outputs |= {n: runner.run_segments(signals[n], segments) for n in alike}
                continue
            for first in range(0, len(alike), streams):
                chosen = alike[first : first + streams]
                # Always the same number of streams: another one may choose another kernel, which rounds otherwise.
                dry = np.zeros((streams, max(signals[n].size for n in chosen)), np.float32)
                for row, n in enumerate(chosen):
                    dry[row, : signals[n].size] = signals[n]
                both = zip(chosen, runner.run_many(dry), strict=False)
                outputs |= {n: one[: signals[n].size] for n, one in both}
        return [outputs[n] for n in range(len(signals))]

    def outputs(self, windows: Float[Tensor, "*places seen"]) -> Float[Tensor, "*places outputs"]:
        """The output of the layers for windows, from which the representation makes samples."""
        if not self.config.relative_level:
            return self._outputs(windows)
        level, both = self.level(windows), 2 * self.config.context - 1
        return level * self._outputs(torch.cat([windows[..., :both] / level, windows[..., both:]], dim=-1))

    def level(self, windows: Float[Tensor, "*places seen"]) -> Float[Tensor, "*places 1"]:
        """The divisor of windows before the first layer; 1 without `relative_level`."""
        if not self.config.relative_level:
            return windows.new_ones(*windows.shape[:-1], 1)
        power = windows[..., : self.config.context].square().mean(dim=-1, keepdim=True)
        return (power + QUIETEST**2).sqrt()

    def _outputs(self, windows: Tensor) -> Tensor:
        x = windows
        for layer in self.layers[:-1]:
            x = functional.gelu(layer(x))
        output = self.layers[-1](x)
        return output + windows[..., self.past : self.past + 1] if self.config.skip else output

    def teacher_forced(self, dry: Streams, wet: Streams, knobs: Knobs | None = None) -> Streams:
        """Each sample predicted from the true past, with silence before the start. In blocks, to save memory."""
        code_dry, code_wet = (self.representation.encode(x) for x in (dry, wet))
        seen = functional.pad(code_dry, (self.past, 0)).unfold(1, self.config.context, 1)
        history = functional.pad(code_wet[:, :-1], (self.past + 1, 0)).unfold(1, max(self.past, 1), 1)
        history = history[:, -dry.shape[1] :, : self.past]
        step = max(1, 16384 // len(dry))
        blocks = [
            self.representation.code(self.outputs(_seen(a, b, knobs)))
            for a, b in zip(seen.split(step, 1), history.split(step, 1), strict=True)
        ]
        return self.representation.decode(torch.cat(blocks, dim=1))

    def window_loss(self, dry: Streams, wet: Streams, step: int, knobs: Knobs | None = None) -> Tensor:
        """The loss at random places of the clips, each after the true past with noise, or in part the network's own.

        With scheduled sampling, a window is chosen with a probability that rises linearly, over `sampling_ramp` steps,
        to `scheduled_sampling`. In a chosen window the network runs in closed loop, without gradients, over the last
        `sampling_steps` samples before the place, starting from the true past.
        """
        config = self.config
        own = config.sampling_steps if config.scheduled_sampling else 0
        place = torch.arange(config.windows, device=dry.device) % len(dry)
        at = torch.randint(self.past + own, dry.shape[1], (config.windows,), device=dry.device)
        seen = dry.unfold(1, config.context + own, 1)[place, at - self.past - own]
        wet_windows = wet.unfold(1, config.context + own, 1)[place, at - self.past - own]
        knobs = None if knobs is None else knobs[place]
        target, wet_windows = wet_windows[:, -1], wet_windows[:, :-1]
        rms = (
            wet_windows.square().mean(dim=1, keepdim=True).sqrt()
            if self.past + own
            else wet_windows.new_zeros(len(wet_windows), 1)
        )
        wet_windows = wet_windows + (config.history_noise * rms + config.noise_floor) * torch.randn_like(wet_windows)
        encode = self.representation.encode
        seen, wet_windows = encode(seen), encode(wet_windows)
        if own:
            share = config.scheduled_sampling * min(1.0, step / config.sampling_ramp)
            wet_windows = self._own(seen, wet_windows, torch.rand(config.windows, device=dry.device) < share, knobs)
        windows = _seen(seen[:, own:], wet_windows[:, own:], knobs)
        level = self.level(windows)
        return self.representation.loss(self.outputs(windows) / level, encode(target) / level[:, 0])

    @torch.no_grad()
    def _own(self, seen: Tensor, wet_windows: Tensor, chosen: Tensor, knobs: Tensor | None = None) -> Tensor:
        """Replace the newest samples of the chosen rows by the network's output in closed loop."""
        wet_windows, rows = wet_windows.clone(), chosen.nonzero()[:, 0]
        if len(rows):
            seen, past, knobs = seen[rows], wet_windows[rows], None if knobs is None else knobs[rows]
            for k in range(self.config.sampling_steps):
                windows = _seen(seen[:, k : k + self.config.context], past[:, k : k + self.past], knobs)
                past[:, self.past + k] = self._kept(self.representation.code(self.outputs(windows)))
            wet_windows[rows] = past
        return wet_windows

    def block_loss(
        self,
        dry: Streams,
        wet: Streams,
        loss: Callable[[Streams, Streams], Tensor],
        knobs: Knobs | None = None,
    ) -> Tensor:
        """`loss` on blocks of `unroll` samples in closed loop from the true past, with gradients through the loop."""
        config, length = self.config, self.config.unroll
        place = torch.arange(config.unroll_streams, device=dry.device) % len(dry)
        at = torch.randint(self.past, dry.shape[1] - length + 1, (config.unroll_streams,), device=dry.device)
        seen = dry.unfold(1, self.past + length, 1)[place, at - self.past]
        wet_windows = wet.unfold(1, self.past + length, 1)[place, at - self.past]
        rendered = self.unrolled(seen, wet_windows[:, : self.past], None if knobs is None else knobs[place])
        return loss(rendered, wet_windows[:, self.past :])

    def unrolled(
        self, dry: Streams, past: Float[Tensor, "streams past"], knobs: Knobs | None = None
    ) -> Float[Tensor, "streams length"]:
        """The output in closed loop, with gradients; `dry` begins `past` samples before the output."""
        encode = self.representation.encode
        first = self.layers[0]
        seen = encode(dry).unfold(1, self.config.context, 1)
        level = self.level(seen)
        from_dry = functional.linear(seen / level, first.weight[:, : self.config.context], first.bias)
        from_past, from_knobs = first.weight[:, self.config.context :].split(
            [self.past, first.in_features - self.config.context - self.past], dim=1
        )
        if knobs is not None:
            from_dry = from_dry + functional.linear(knobs, from_knobs)[:, None]
        history, codes = encode(past), []
        for part, current, scale in zip(from_dry.unbind(1), seen[:, :, -1:].unbind(1), level.unbind(1), strict=True):
            x = functional.gelu(part + functional.linear(history / scale, from_past))
            for layer in self.layers[1:-1]:
                x = functional.gelu(layer(x))
            output = scale * self.layers[-1](x) + (current if self.config.skip else 0)
            code = self._kept(self.representation.code(output))
            codes.append(code)
            history = torch.cat([history, code[:, None]], dim=1)[:, 1:]
        return self.representation.decode(torch.stack(codes, dim=1))

    def _kept(self, code: Tensor) -> Tensor:
        return code.clamp(-self.code_limit, self.code_limit)

    @property
    def code_limit(self) -> float:
        """The bound of the codes in the history; companded codes are at most 1, full scale."""
        limit = self.config.limit or float("inf")
        if self.config.representation == "linear":
            return min(limit, 3e38)
        return float(self.representation.encode(torch.tensor(min(limit, 1.0))))


def _seen(dry: Tensor, wet: Tensor, knobs: Tensor | None) -> Tensor:
    """The input of the first layer: windows of both signals, then the knobs, along the last axis."""
    if knobs is None or not knobs.shape[-1]:
        return torch.cat([dry, wet], dim=-1)
    each = knobs if dry.ndim == 2 else knobs[:, None].expand(-1, dry.shape[1], -1)
    return torch.cat([dry, wet, each], dim=-1)
