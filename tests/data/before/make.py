"""How the data in this folder was made: with tonemill 0.1.0, commit 8d98cc94db064c3bc45f321cd5f4ee2d8f3305e3.

It is not run again. The data stands for what people have on their disks, so a later version has to take it as it is.
`tests/earlier.py` has the commands, which ran at `/srv/tonemill-before`; the sounds are made of whole numbers. Left out
of the runs: listening clips and pictures (`left_out.txt` has their names), TensorBoard, and the tensors of `judge`
(27 MB), whose names, types and shapes `judge.json` keeps. Numbers of `earlier.rebuild` took the place of what it had
learned, before it was used.

    python tests/data/before/make.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Final

import soundfile

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "kit"))

from earlier import COMMANDS, ROOT, rebuild, tensors  # noqa: E402

RATE: Final = 8000


def hit(frames: int, period: int, noise: int, seed: int) -> list[int]:
    """A falling triangle of one pitch with noise on it."""
    samples, level = [], 28000 << 8
    for time in range(frames):
        seed = (seed * 1103515245 + 12345) % 2**31
        triangle = abs(time % period * 4 * 256 // period - 512) - 256
        grain = (seed >> 16) % 512 - 256
        samples.append((triangle * (8 - noise) + grain * noise) * (level >> 8) // (8 * 256))
        level -= level >> 10
    return samples


def riff(number: int) -> list[int]:
    """Six notes of an eighth of a second."""
    return [
        sample // 3 for note in range(6) for sample in hit(1000, 20 + 7 * ((note * 5 + number * 3) % 8), 1, note + 1)
    ]


def overdriven(dry: list[int], gain: int) -> list[int]:
    """Louder, flat at the top, and 12 samples late."""
    return [0] * 12 + [max(-20000, min(20000, gain * 2 * sample)) for sample in dry[:-12]]


def write(path: Path, samples: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))


def to_flac(path: Path) -> None:
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path.with_suffix(".flac"), samples, rate)
    path.unlink()


def make_sources(folder: Path) -> None:
    names = ["kick_ann_1", "snare_ann_1", "kick_bob_2", "snare_bob_2", "kick_cat_3", "snare_dan_3"]
    for number, name in enumerate(names):
        sounds = hit(4096, 90 + number, 6, number) if "snare" in name else hit(4500, 120, 1, number)
        write(folder / "drums" / f"{name}.wav", sounds)
    to_flac(folder / "drums" / "kick_cat_3.wav")
    write(folder / "drums" / "hat_ann_8.wav", hit(100, 9, 7, 8))
    (folder / "drums" / "hat_bob_9.wav").write_bytes(b"no sound at all\n")
    write(folder / "more" / "kick_eve_4.wav", hit(4500, 110, 2, 11))
    write(folder / "more" / "snare_eve_5.wav", hit(4096, 80, 5, 12))
    for number, gain in enumerate((1, 2, 2, 1)):
        inside = folder if number < 3 else folder / "later"
        write(inside / "dry" / f"riff{number}.wav", riff(number))
        if number in (1, 2):
            to_flac(inside / "dry" / f"riff{number}.wav")
        write(inside / "wet" / f"riff{number}__drive_gain={gain}.wav", overdriven(riff(number), gain))
        to_flac(inside / "wet" / f"riff{number}__drive_gain={gain}.wav")


def replace_judge(run: Path) -> None:
    """Give a run numbers that can be made again, and write down what its tensors are called."""
    (state,) = run.glob("checkpoints/*/state.json")
    headers = {name: tensors(state.with_name(name)) for name in ("weights.safetensors", "optimizers.safetensors")}
    record = json.loads(state.read_text())
    for name, header in headers.items():
        before = state.with_name(name).read_bytes()
        digest = rebuild(state.with_name(name), header)
        data = state.with_name(name).read_bytes()
        start = 8 + int.from_bytes(before[:8], "little")
        assert (data[:start], len(data)) == (before[:start], len(before)), "another layout than safetensors has"
        if name == "weights.safetensors":
            record["sha256"] = digest
    state.write_text(json.dumps(record))
    (run.parent.parent / "judge.json").write_text(json.dumps(headers, separators=(",", ":")) + "\n")


def main() -> None:
    root = Path(ROOT.removeprefix("file://"))
    root.mkdir(parents=True)
    make_sources(root / "sources")
    (root / "streams").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, commands in COMMANDS.items():
        for command in commands:
            whole = " | ".join(f"tonemill {stage}" for stage in command.split(" | "))
            print(whole, flush=True)
            words = ["bash", "-o", "pipefail", "-c", whole]
            out = subprocess.run(words, cwd=root, env={**os.environ, "PATH": path}, check=True, stdout=subprocess.PIPE)
            if name.startswith("streams/"):
                (root / name).write_bytes(out.stdout)
        if name == "runs/judge":
            replace_judge(root / name)
    left_out = sorted(path for path in (root / "runs").glob("*/clips/**/*") if path.is_file())
    (root / "left_out.txt").write_text("".join(f"{path.relative_to(root)}\n" for path in left_out))
    for run in (root / "runs").iterdir():
        shutil.rmtree(run / "clips")
        shutil.rmtree(run / "tensorboard")
    for heavy in (root / "runs/judge").rglob("*.safetensors"):
        heavy.unlink()
    for one in root.iterdir():
        if one.is_dir():
            shutil.copytree(one, HERE / one.name)
        else:
            shutil.copyfile(one, HERE / one.name)


if __name__ == "__main__":
    main()
