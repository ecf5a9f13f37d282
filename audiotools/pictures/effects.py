"""Pictures of how a model of an effect does: waveforms overlaid, spectrum of the error, transfer curve."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float

Signal = Float[np.ndarray, "time"]
Number = int | float  # to beartype, an int is no float


def save_overlay_picture(file: BytesIO, dry: Signal, wet: Signal, output: Signal, sample_rate: int) -> None:
    """Draw 20 ms around the loudest place, and around the one where the model errs most; wet, model, dry and error."""
    size = min(max(16, round(0.02 * sample_rate)), wet.size)
    figure, panels = _figure(2, 1, (9, 6))
    for axes, about, what in zip(
        panels, (np.abs(wet), np.abs(wet - output)), ("loudest", "largest error"), strict=True
    ):
        start = int(np.clip(int(about.argmax()) - size // 2, 0, wet.size - size))
        time_ms = np.arange(size) / sample_rate * 1000
        part = slice(start, start + size)
        axes.plot(time_ms, dry[part], color="0.8", linewidth=1, label="dry")
        axes.plot(time_ms, wet[part], color="tab:blue", linewidth=1.6, label="wet")
        axes.plot(time_ms, output[part], color="tab:orange", linewidth=1, linestyle="--", label="model")
        axes.plot(time_ms, wet[part] - output[part], color="tab:red", linewidth=0.8, label="error")
        axes.set_title(f"{what}, at {start / sample_rate:.2f} s", fontsize=9)
        axes.set_xlabel("ms", fontsize=8)
        axes.legend(fontsize=7, ncols=4, loc="upper right")
    _save(figure, file)


def save_error_spectrum_picture(file: BytesIO, wet: Signal, output: Signal, sample_rate: int) -> None:
    """Draw mean power spectra of wet, model and error, in dB of full scale for each bin."""
    figure, panels = _figure(1, 1, (9, 4))
    n_fft = 2048
    for signal, name, colour in (
        (wet, "wet", "tab:blue"),
        (output, "model", "tab:orange"),
        (wet - output, "error", "tab:red"),
    ):
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, (0, max(0, n_fft - signal.size))), n_fft)
        power = np.square(np.abs(np.fft.rfft(frames[:: n_fft // 2] * np.hanning(n_fft)))).mean(axis=0)
        level_db = 10 * np.log10(power / (n_fft / 4) ** 2 + 1e-14)
        panels[0].semilogx(
            np.fft.rfftfreq(n_fft, 1 / sample_rate)[1:], level_db[1:], color=colour, label=name, linewidth=1
        )
    panels[0].set_xlim(20, sample_rate / 2)
    panels[0].set_xlabel("Hz", fontsize=8)
    panels[0].set_ylabel("dB", fontsize=8)
    panels[0].legend(fontsize=7)
    _save(figure, file)


def save_transfer_picture(file: BytesIO, dry: Signal, wet: Signal, output: Signal) -> None:
    """Draw output against input, sample by sample, for the effect and for the model."""
    figure, panels = _figure(1, 2, (9, 4.6))
    chosen = np.linspace(0, dry.size - 1, min(dry.size, 6000)).astype(int)
    for axes, signal, name in zip(panels, (wet, output), ("wet", "model"), strict=True):
        axes.plot(dry[chosen], signal[chosen], ".", markersize=1, alpha=0.5, color="tab:blue")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("dry", fontsize=8)
        limit = max(1e-3, float(np.abs(wet).max()), float(np.abs(output).max()))
        axes.set_ylim(-limit, limit)
    _save(figure, file)


def _figure(rows: int, columns: int, size: tuple[Number, Number]) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels:
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    return figure, panels


def _save(figure: Any, file: BytesIO) -> None:
    figure.savefig(file, format="png", metadata={"Software": None})
