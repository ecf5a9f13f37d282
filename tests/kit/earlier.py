"""What tonemill wrote before its files moved into new folders: the commands of then, and how a copy is put to use."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

DATA: Final = Path(__file__).parent.parent / "data" / "before"
"""Every file as that version wrote it; `make.py` there is how."""

ROOT: Final = "file:///srv/tonemill-before"
"""Where that version ran, as its plans and streams spell it."""

HITS: Final = "scan -q sources/drums --fields '{label}_{speaker}_{take}'"
KICKS: Final = f"{HITS} | select 'label != \"snare\"'"
CLIPS: Final = "filter --min-seconds 0.05 | slice --samples 4096 --short pad"
SHAPED: Final = "measure | trim | channels mean | resample --rate 6000 | normalize --peak-db -1 | fade --out-ms 20"
LATER: Final = HITS.replace("drums", "more")
TINY_GAN: Final = "--batch-size 4 --latent-dim 4 --listen-clips 1 --steps 6 --critic-steps 2"
TINY_EFFECT: Final = "--batch-size 2 --length 512 --stability-seconds 0.5 --steps 4 --allow short"

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "corpora/drums": (f"{HITS} | {CLIPS} | shard -q corpora/drums --shard-seconds 1.5 --valid-where 'take == \"2\"'",),
    "corpora/pairs": (
        "pair -q sources/dry sources/wet | align | slice --samples 5600"
        " | shard -q corpora/pairs --valid-where 'path.startswith(\"riff2\")'",
    ),
    "corpora/grown": (
        f"{KICKS} | {CLIPS} | shard -q corpora/grown --group speaker --valid 0.5 --bits 24",
        f"{LATER} | {CLIPS} | shard -q corpora/grown --append --bits 24",
        "remove -q corpora/grown --source kick_ann_1.wav",
    ),
    "files/kicks": (f"{KICKS} | {SHAPED} | write -q files/kicks --shard-seconds 1.5",),
    "runs/wavegan": (
        f"train wavegan corpora/drums -q -o runs/wavegan {TINY_GAN} --dim 2 --length 1024 --label label --label-dim 4"
        " --ema 0.9",
    ),
    "runs/specgan": (
        f"train specgan corpora/drums -q -o runs/specgan {TINY_GAN} --dim 1 --length 4096 --kernel-size 4"
        " --griffin-lim-iterations 8",
    ),
    "runs/amp": (f"train effect corpora/pairs -q -o runs/amp {TINY_EFFECT} --preset nano",),
    "runs/room": (
        f"train effect corpora/pairs -q -o runs/room {TINY_EFFECT} --network fir --taps 64 --no-conditioning",
    ),
    "runs/judge": (
        "train classifier corpora/drums -q -o runs/judge --batch-size 4 --steps 2 --chunk-seconds 0.5 --label label",
    ),
    "corpora/rendered": ("seeds 4 --set label=kick | render runs/wavegan | shard -q corpora/rendered",),
    "corpora/judged": (
        'open corpora/drums --where \'label == "kick" and split == "valid"\' | render runs/judge'
        " | shard -q corpora/judged",
    ),
    "renders/specgan": ("seeds 2 | render runs/specgan | write -q renders/specgan --format flac",),
    "renders/amp": (
        "scan -q sources/dry/riff0.wav | render runs/amp --set gain=2 | write -q renders/amp --format flac",
    ),
    "renders/room": ("scan -q sources/dry/riff0.wav | render runs/room | write -q renders/room --format flac",),
    "streams/kicks.jsonl": (f"{KICKS} | {SHAPED}",),
    "streams/opened.jsonl": ("open corpora/drums --where 'split == \"valid\"' | fade --in-ms 5",),
    "streams/steps.jsonl": (
        "scan -q sources/more | duplicate --of kick_ann_1.wav | align | channels mean | fade --in-ms 3"
        " | filter --min-seconds 0.1 | loops | measure | normalize --lufs -20 | resample --rate 16000"
        " | slice --seconds 1 | trim | render runs/room",
    ),
}
"""What was given at `ROOT` to make each thing, in this order; what a stream is named after is its standard output."""


def stages(command: str) -> list[list[str]]:
    """The words of each stage of a pipe."""
    found: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "|":
            found.append([])
        else:
            found[-1].append(word)
    return found


def tensors(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: type, shape and place of each tensor, in the order of their places."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def rebuild(target: Path, header: dict[str, Any]) -> str:
    """Write a safetensors file of seeded numbers that are the same on every machine; returns its SHA-256.

    The layout: the header's length in 8 bytes, the header in JSON, spaces up to a multiple of 8, then the tensors.
    """
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(_numbers(name, one) for name, one in header.items() if name != "__metadata__")
    data = struct.pack("<Q", len(text)) + text + body
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _numbers(name: str, about: dict[str, Any]) -> bytes:
    """Small multiples of powers of two, which floats hold exactly; such as a network may have learned."""
    shape, last = about["shape"], name.rpartition(".")[2]
    count = math.prod(shape)
    if last in ("num_batches_tracked", "step"):
        return np.full(count, 2, {"I64": "<i8", "F32": "<f4"}[about["dtype"]]).tobytes()
    assert about["dtype"] == "F32", name
    generator = np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    drawn = generator.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count].astype("<f4")
    unit = (drawn - 32768) / 32768
    if last in ("exp_avg_sq", "running_var"):
        # Between a half and one and a half, as after a few steps of Adam, whose quotients then stay small.
        return ((1 + unit / 2) * np.float32(2.0 ** (-16 if last == "exp_avg_sq" else 0))).tobytes()
    if last == "weight" and len(shape) == 1:
        return (1 + unit / 4).tobytes()
    if len(shape) < 2 or last == "exp_avg":
        return (unit * np.float32(2.0**-10)).tobytes()
    # He's bound for a ReLU, sqrt(6 / fan in), as the power of two below; less at the end, where no class may be sure.
    power = -8 if name.endswith("classes.weight") else math.floor(math.log2(6 / math.prod(shape[1:])) / 2)
    return (unit * np.float32(2.0**power)).tobytes()


def relocate(folder: Path) -> None:
    """Let the plans and saved streams of a copy name that copy; places decide nothing else."""
    for stream in (folder / "streams").glob("*.jsonl"):
        stream.write_bytes(stream.read_bytes().replace(ROOT.encode(), folder.as_uri().encode()))
    for plan in folder.rglob("plan.parquet"):
        _relocate_plan(plan, folder.as_uri())


def _relocate_plan(plan: Path, root: str) -> None:
    """Spell the places in a plan's recipes otherwise, and seal its file again."""
    with parquet.ParquetFile(plan) as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    with parquet.ParquetWriter(plan, groups[0].schema, compression="zstd") as writer:
        for group in groups:
            recipes = [recipe.replace(ROOT, root) for recipe in group["recipe"].to_pylist()]
            place = group.schema.get_field_index("recipe")
            writer.write_table(group.set_column(place, group.schema.field(place), pa.array(recipes)))
    data = plan.read_bytes()
    seal = json.loads(plan.with_suffix(".json").read_text())
    seal |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del seal["seal"]
    digest = hashlib.sha256(_sealed(seal)).hexdigest()
    plan.with_suffix(".json").write_bytes(_sealed({**seal, "seal": digest}))


def _sealed(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"
