"""Learn the weights of tempo and bars (`audiotools/rhythm/weights/meter.safetensors`) from takes that are made here.

    python -m benchmarks.meter_training examples FOLDER --takes 2400   # describe takes; goes on where it stopped
    python -m benchmarks.meter_training learn FOLDER -o audiotools/rhythm/weights/meter.safetensors
    python -m benchmarks.meter_training calibrate FOLDER               # the weights of the package

Takes have rhythms (benchmarks/training_rhythms.py), kits, recorded hits and seeds that no test has. Every third is cut
to whole bars as a loop, every fourth has bass and chords; some drift, some begin in mid-bar, some are clicks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.playing import FRESH, Piece, with_tones
from benchmarks.training_rhythms import drawn
from tonemill.audiotools.rhythm.beats import counted, find_beats
from tonemill.audiotools.rhythm.meter_features import COUNT
from tonemill.audiotools.rhythm.meter_network import WEIGHTS, share_of
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.waveform import Waveform

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))
from takes import RATE, Rhythm, Take, take, unclear_take

KITS = range(1000, 1060)
FIRST_SEED = 10_000_000
NEAR_SECONDS = 0.015
HIDDEN = (64, 24)
EPOCHS, BATCH = 25, 64
CALIBRATING, OPEN = 150, 300
"""Takes to calibrate by: of other rhythms, and those that leave their tempo open: few others are in the lower half."""
WHOLE_TAKES = 1200
"""None of the first ones begins in mid-bar, of the rest every third."""


def made(seed: int, fresh: bool = False) -> tuple[Take, bool]:
    """A take to learn from, or one to calibrate by, and whether it is a loop from its first sample to its last."""
    rng = np.random.default_rng(FIRST_SEED + seed)
    if fresh:
        rhythms = {name: Rhythm(beats, voices) for name, (beats, voices) in FRESH.items()}
        return take(2 * FIRST_SEED + seed, rhythms, kits=KITS, held_out=False, bars=(2, 14)), False
    if rng.random() < 0.04:
        return metronome(rng)
    beats_per_bar, voices, swung, tempi = drawn(rng)
    wide = rng.random() < 0.2
    rhythm = Rhythm(beats_per_bar, voices, swung, (60.0, 190.0) if wide else tempi)
    is_loop = rng.random() < 0.3
    bars = (1, 8) if is_loop else ((2, 5) if rng.random() < 0.15 else (6, 14))
    one = take(
        FIRST_SEED + seed,
        {"drawn": rhythm},
        kits=KITS,
        held_out=False,
        bars=bars,
        tempi_bpm=rhythm.tempi_bpm,
        drift=0.02 * float(rng.random() < 0.15 and not is_loop),
    )
    if rng.random() < 0.25:
        piece = Piece("", "", one.tempo_bpm, "", beats_per_bar, one.samples, one.bar_lines)
        one = one._replace(samples=with_tones(piece, seed).samples)
    if seed >= WHOLE_TAKES and not is_loop and rng.random() < 0.35:
        # It begins in mid-bar, in the middle of things.
        start = round((one.bar_lines[0] + rng.uniform(0, 1) * (one.bar_lines[1] - one.bar_lines[0])) * RATE)
        lines = one.bar_lines - start / RATE
        one = one._replace(samples=one.samples[:, start:], bar_lines=lines[lines >= 0], begins=0.0)
    if is_loop:
        first, last = round(one.bar_lines[0] * RATE), round(one.bar_lines[-1] * RATE)
        one = one._replace(
            samples=one.samples[:, max(0, first) : last], bar_lines=one.bar_lines - one.bar_lines[0], begins=0.0
        )
    return one, is_loop


def metronome(rng: np.random.Generator) -> tuple[Take, bool]:
    """Clicks, the first of each bar mostly another one."""
    tempo_bpm = float(50 * (190 / 50) ** rng.random())
    beats_per_bar = 3 if rng.random() < 0.2 else 4
    bars, period = int(rng.integers(4, 12)), 60 / tempo_bpm
    accent = rng.random() < 0.7
    is_loop = rng.random() < 0.5
    lead = 0.0 if is_loop else float(rng.uniform(0.1, 2))
    samples = np.zeros(round((bars * beats_per_bar * period + lead + (0 if is_loop else rng.uniform(0.3, 2))) * RATE))
    time = np.arange(int(0.03 * RATE)) / RATE
    high, low = rng.uniform(700, 2500, 2)
    for beat in range(bars * beats_per_bar):
        first = accent and beat % beats_per_bar == 0
        start = round((lead + beat * period) * RATE)
        click = (0.8 if first else 0.5) * np.sin(2 * np.pi * (high if first else low) * time) * np.exp(-time / 0.01)
        samples[start : start + len(time)] += click[: max(0, len(samples) - start)]
    lines = lead + np.arange(bars + 1) * beats_per_bar * period
    return Take(samples.astype(np.float32)[None], tempo_bpm, lines, beats_per_bar, "metronome", lead), is_loop


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that describe each way to count a take, which are right, and each one's tempo over the true one."""
    one, is_loop = made(seed)
    ways = counted(onsets(Waveform(one.samples, RATE)), one.beats_per_bar)
    rows, right, ratios = [np.zeros((0, COUNT))], [], []
    for way in ways:
        for phase, row in zip(way.phases, way.rows, strict=True):
            beat = float(np.mean(np.diff(way.beats)))
            lines = way.beats[phase :: one.beats_per_bar]
            if len(lines) < 2:
                lines = way.beats[phase] + np.arange(2) * beat * one.beats_per_bar
            inside = one.bar_lines[(one.bar_lines > lines[0] - beat / 2) & (one.bar_lines < lines[-1] + beat / 2)]
            ratio = 60 / beat / one.tempo_bpm
            near = np.abs(inside[:, None] - lines).min(axis=1) if len(inside) else np.ones(1)
            rows.append(row[None])
            right.append(abs(ratio - 1) < 0.03 and np.mean(near < NEAR_SECONDS) >= 0.75 and way.exact <= is_loop)
            ratios.append(ratio)
    return np.concatenate(rows).astype(np.float32), np.array(right, bool), np.array(ratios, np.float32)


def write_examples(folder: Path, takes: int) -> None:
    """Files of a hundred takes each."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, takes, 100):
        path = folder / f"{first:06d}.npz"
        if path.exists():
            continue
        each = [example(seed) for seed in range(first, first + 100)]
        lengths = np.array([len(rows) for rows, _, _ in each])
        rows, right, ratios = (np.concatenate([one[part] for one in each]) for part in range(3))
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, rows=rows, right=right, ratios=ratios, lengths=lengths)
        path.with_suffix(".part").rename(path)
        found = np.mean([one.any() for _, one, _ in each])
        print(f"{path.name}: {len(rows)} ways to count, {found:.0%} of takes have a right one", flush=True)


def learn(folder: Path, output: Path) -> None:
    """Fit the network: of each take, the ways to count that are right should be likely among all."""
    import torch
    from safetensors.numpy import save

    torch.manual_seed(0)
    rows, right, _, take_of = read_examples(folder / "learning")
    takes = int(take_of.max()) + 1
    judging = np.arange(takes) % 10 == 9
    has = np.bincount(take_of, right, takes) > 0
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 0.02
    inputs = torch.from_numpy((rows - mean) / scale)
    edges = np.searchsorted(take_of, np.arange(takes + 1))
    network = torch.nn.Sequential(
        torch.nn.Linear(COUNT, HIDDEN[0]),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(HIDDEN[0], HIDDEN[1]),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(HIDDEN[1], 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    learning = np.flatnonzero(~judging & has)
    steps = EPOCHS * -(-len(learning) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    random = np.random.default_rng(0)

    def losses(some: np.ndarray, noise: float) -> torch.Tensor:
        at = np.concatenate([np.arange(edges[one], edges[one + 1]) for one in some])
        part = torch.from_numpy(np.repeat(np.arange(len(some)), edges[some + 1] - edges[some]))
        seen = inputs[at]
        scores = network(seen + noise * torch.randn_like(seen))[:, 0]
        high = torch.full((len(some),), -1e9).scatter_reduce(0, part, scores.detach(), "amax")
        each = torch.exp(scores - high[part])
        good = torch.from_numpy(right[at].astype(np.float32))
        total, of_good = (torch.zeros(len(some)).index_add(0, part, one) for one in (each, each * good))
        return torch.log(total) - torch.log(of_good + 1e-12)

    for epoch in range(EPOCHS):
        network.train()
        for some in np.array_split(random.permutation(learning), -(-len(learning) // BATCH)):
            optimizer.zero_grad()
            losses(some, 0.1).mean().backward()
            optimizer.step()
            schedule.step()
        if epoch % 5 == 4:
            network.eval()
            with torch.no_grad():
                print(f"epoch {epoch + 1}: {losses(np.flatnonzero(judging & has), 0.0).mean():.4f} nats", flush=True)
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    weights = {"mean": mean, "scale": scale}
    for number, layer in enumerate(linear):
        weights[f"weight.{number}"] = layer.weight.detach().numpy()
        weights[f"bias.{number}"] = layer.bias.detach().numpy()
    output.parent.mkdir(parents=True, exist_ok=True)
    network.eval()
    # A share is stated as it is, until it is calibrated.
    weights["calibration"] = np.array([1.0, 0.0, 1.0])
    output.write_bytes(save({name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}))


def outcome(seed: int) -> tuple[float, float, bool]:
    """Of a take to calibrate by: stated confidence, the share of its tempo, and whether that is right."""
    is_open = seed >= CALIBRATING
    one = unclear_take(3 * FIRST_SEED + seed, KITS, held_out=False) if is_open else made(seed, fresh=True)[0]
    found = find_beats(onsets(Waveform(one.samples, RATE)), one.beats_per_bar)
    return found.confidence, share_of(found.confidence), abs(found.tempo_bpm / one.tempo_bpm - 1) < 0.04


def calibrate(folder: Path) -> None:
    """Fit the two slopes and the offset by which a share becomes the chance that its tempo is right.

    Args:
        folder: keeps what each take gave, so that it goes on where it stopped.
    """
    from safetensors.numpy import load_file, save
    from scipy.optimize import minimize

    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, CALIBRATING + OPEN, 50):
        path = folder / f"calibration-{first:06d}.npy"
        if not path.exists():
            each = [outcome(seed) for seed in range(first, first + 50)]
            np.save(path, np.array(each, np.float64))
            print(f"{path.name}: right in {np.mean([right for _, _, right in each]):.0%}", flush=True)
    confidence, share, right = np.concatenate([np.load(path) for path in sorted(folder.glob("calibration-*.npy"))]).T
    # Of strokes that are all alike the octave is open, and the confidence is no matter of the share.
    kept = ~np.isin(confidence, (0.0, 1 / 4, 1 / 3, 1 / 2))
    odds = np.clip(share[kept], 1e-6, 1 - 1e-6)
    logit, octave = np.log(odds / (1 - odds)), right[kept] > 0

    def surprise(line: np.ndarray) -> float:
        chance = np.where(logit > 0, line[0], line[2]) * logit + line[1]
        return float(np.mean(np.logaddexp(0, np.where(octave, -chance, chance))))

    found = minimize(surprise, np.array([0.5, 0.0, 1.0]), method="Nelder-Mead").x
    print(f"octave right in {octave.mean():.1%}; slopes {found[0]:.2f} and {found[2]:.2f}, offset {found[1]:+.2f}")
    weights = {**load_file(WEIGHTS), "calibration": found.astype(np.float32)}
    WEIGHTS.write_bytes(save(weights))


def read_examples(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, which are right, tempo over true tempo, and the take that each row is of."""
    parts: list[tuple[np.ndarray, ...]] = []
    takes = 0
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            lengths = file["lengths"]
            parts.append((file["rows"], file["right"], file["ratios"], takes + np.repeat(np.arange(100), lengths)))
        takes += 100
    rows, right, ratios, take_of = (np.concatenate([part[column] for part in parts]) for column in range(4))
    return rows, right, ratios, take_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("examples", "learn", "calibrate"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--takes", type=int, default=2400)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.what == "examples":
        write_examples(options.folder / "learning", options.takes)
    elif options.what == "learn":
        learn(options.folder, options.output)
    else:
        calibrate(options.folder)


if __name__ == "__main__":
    main()
