"""What tonemill wrote before its files moved into new folders is read, verified, repaired, continued and rendered.

`data/before` has corpora, folders of files, streams and runs of that version. Bytes are compared only between two runs
on the machine that tests; sounds may differ by one step of their bit depth.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, lines_of, table
from earlier import CLIPS, COMMANDS, DATA, HITS, LATER, ROOT, SHAPED, rebuild, relocate, stages, tensors
from pyarrow import parquet
from safetensors.numpy import load_file

from tonemill.models.earlier import comparable
from tonemill.pipelines.corpus.plan_file import read_plan

COOKED = [name for name in COMMANDS if name.startswith(("corpora/", "files/", "renders/"))]
REMADE = ("corpora/pairs",)
"""Their commands make another output since: `align` measures the gain at the delay that is left. See the CHANGELOG."""

SAME = [name for name in COOKED if name not in REMADE]
CORPORA = [name for name in COOKED if name.startswith("corpora/")]
RUNS = [name for name in COMMANDS if name.startswith("runs/")]
COSTLY = ("corpora/judged", "renders/specgan", "renders/amp")
"""Workers that render with these take seconds to start."""
STREAMS = [name for name in COMMANDS if name.startswith("streams/")]

AGAIN = {name: commands[-1] for name, commands in COMMANDS.items()} | {
    # What has grown is there whole where one stream holds all that it holds.
    "corpora/grown": f"{HITS.replace('sources/drums', 'sources/drums sources/more')}"
    f' | select \'label != "snare" or speaker == "eve"\' | {CLIPS}'
    " | shard -q corpora/grown --group speaker --valid 0.5 --bits 24"
}

NOW = COMMANDS | {
    # Then the flags dealt what came from a corpus, wherever it stood there.
    "corpora/judged": (f"{COMMANDS['corpora/judged'][0]} --redeal",)
}

APPENDED = {
    "corpora/drums": f"{LATER} | {CLIPS} | shard -q corpora/drums --append",
    "corpora/pairs": "pair -q sources/later/dry sources/later/wet | align | slice --samples 5600"
    " | shard -q corpora/pairs --append",
    "corpora/grown": f"{HITS} | select 'label == \"snare\"' | {CLIPS} | shard -q corpora/grown --append --bits 24",
    "corpora/rendered": "seeds 2 --seed 7 --set label=snare | render runs/wavegan | shard -q corpora/rendered --append",
    "corpora/judged": "open corpora/grown | render runs/judge | shard -q corpora/judged --append",
    "files/kicks": f"{LATER} | {SHAPED} | write -q files/kicks --append",
    "renders/specgan": "seeds 1 --seed 7 | render runs/specgan | write -q renders/specgan --format flac --append",
    "renders/amp": "scan -q sources/dry/riff1.flac | render runs/amp --set gain=1"
    " | write -q renders/amp --format flac --append",
    "renders/room": "scan -q sources/dry/riff1.flac | render runs/room | write -q renders/room --format flac --append",
}


def some_slow(names: Iterable[str], *slow: str) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names]


def carried_out(tonemill: Tonemill, folder: Path, command: str) -> bytes:
    """What the last stage of a pipe prints, given in a folder."""
    out = b""
    with contextlib.chdir(folder):
        for stage in stages(command):
            out = tonemill(*stage, stdin=out).done().out
    return out


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data with the tensors that were left out; only to be read."""
    folder = tmp_path_factory.mktemp("data") / "before"
    shutil.copytree(DATA, folder)
    (state,) = (folder / "runs/judge").rglob("state.json")
    headers = json.loads((folder / "judge.json").read_text())
    digests = {name: rebuild(state.with_name(name), header) for name, header in headers.items()}
    assert digests["weights.safetensors"] == json.loads(state.read_text())["sha256"]
    return folder


def copied(before: Path, folder: Path) -> Path:
    """A copy to be changed, whose plans and streams name what stands in it."""
    copy = folder / "copy"
    # Nothing changes a checkpoint, and these are large.
    shutil.copytree(before, copy, ignore=lambda _, names: [name for name in names if name.endswith(".safetensors")])
    for path in before.rglob("*.safetensors"):
        (copy / path.relative_to(before)).symlink_to(path)
    relocate(copy)
    return copy


@pytest.fixture
def copy(before: Path, tmp_path: Path) -> Path:
    return copied(before, tmp_path)


@pytest.fixture(scope="module")
def again(before: Path, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was cooked, made again by the commands of then, each from what that version left; only to be read."""
    folder = copied(before, tmp_path_factory.mktemp("again"))
    # What is made last reads what was made first, so the last goes first.
    for name in reversed([*COOKED, *STREAMS]):
        make(tonemill, folder, name)
    return folder


def make(tonemill: Tonemill, folder: Path, name: str) -> None:
    """Make what is there once more, from nothing."""
    if name in STREAMS:
        (folder / name).write_bytes(carried_out(tonemill, folder, COMMANDS[name][0]))
        return
    shutil.rmtree(folder / name)
    for command in NOW[name]:
        carried_out(tonemill, folder, command)


def home_of(folder: Path) -> Path:
    """Where plan, sidecars and tables stand."""
    return folder / ".tonemill" if (folder / ".tonemill").is_dir() else folder


def about(folder: Path) -> dict[str, Any]:
    names = ("corpus.json", "tonemill.json")
    return dict(json.loads(next(folder / name for name in names if (folder / name).exists()).read_text()))


def shard_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file of a shard, and of every sound."""
    whole = (home_of(folder), folder / "tonemill.json")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent not in whole and path not in whole]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def shard_of(home: Path, sound: Path) -> str:
    """The shard that a tar is, or that a file in a folder belongs to."""
    if sound.suffix == ".tar":
        return f"{sound.parent.name}/{sound.stem}"
    sidecars = [json.loads(path.read_text()) for path in home.glob("*/[0-9]*.json")]
    name = str(sound.relative_to(home.parent))
    return str(next(one["shard"] for one in sidecars if name in [made["name"] for made in one["files"]]))


def members(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every sound, and every KEY.json, by name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for one in tar:
                    file = tar.extractfile(one)
                    assert file is not None
                    yield one.name, file.read()
        elif path.suffix in (".wav", ".flac"):
            yield str(path.relative_to(folder)), path.read_bytes()


def sounds(folder: Path) -> dict[str, tuple[np.ndarray, int, int]]:
    """Whole numbers, bits and rate of each stored sound."""
    found = {}
    for name, data in members(folder):
        if name.endswith((".wav", ".flac")):
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                bits = int(file.subtype.removeprefix("PCM_"))
                samples = file.read(dtype="int32").astype(np.int64) >> (32 - bits)
                found[name] = samples, bits, file.samplerate
    return found


def sound_bytes(name: str, data: bytes) -> list[bytes]:
    """The stored sounds of a tar, or a file itself."""
    if not name.endswith(".tar"):
        return [data]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = [tar.extractfile(one) for one in tar if not one.name.endswith(".json")]
        return [file.read() for file in files if file is not None]


def assert_alike(found: Path, wished: Path) -> None:
    """The same sounds, within one step of their bit depth; two processors need not agree any nearer."""
    new, old = sounds(found), sounds(wished)
    assert new.keys() == old.keys()
    for name in old:
        assert new[name][1:] == old[name][1:], name
        assert new[name][0].shape == old[name][0].shape, name
        assert np.abs(new[name][0] - old[name][0]).max() <= 1, name


RETYPED = {"fused": "NoneType", "weight_decay": "int"}
"""Types that settings of Adam had; its step is fused since, and goes on unfused in runs of then."""


def outline(value: Any) -> Any:
    """Keys and types of JSON, without its values."""
    if isinstance(value, dict):
        return {key: RETYPED.get(key, outline(one)) for key, one in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(outline(one)) for one in value})
    return type(value).__name__


def head_of_then(head: dict[str, Any]) -> dict[str, Any]:
    """A plan's description of itself, without what is recorded since of the flags that made it.

    Since schema 2 the shards are listed behind the rows, in tables of their own.
    """
    gone = ("shard_seconds", "schema", "shards", "at_once")
    kept = {name: value for name, value in head.items() if name not in gone}
    output = {name: value for name, value in head["output"].items() if name != "states_none"}
    splitting = {name: value for name, value in head["splitting"].items() if name != "redeal"}
    return {**kept, "output": output, "splitting": splitting}


def described(path: Path) -> Any:
    """The format of a file: what a reader of it counts on, without what it holds."""
    if path.suffix == ".json":
        return outline(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [outline(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".toml":
        return outline(tomllib.loads(path.read_text()))
    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            plan = outline(head_of_then(json.loads(metadata[b"tonemill"]))) if b"tonemill" in metadata else None
            columns = [(field.name, str(field.type)) for field in file.schema_arrow if field.name not in OF_EACH]
            # A plan had a row group for each shard.
            groups = file.num_row_groups if plan is None else None
            return columns, file.metadata.num_rows, groups, plan
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            heads = [(one.name, one.mtime, one.mode, one.uid, one.uname, one.type, one.pax_headers) for one in tar]
        records = [
            outline(placeless(json.loads(data))) for name, data in members(path.parent) if name.endswith(".json")
        ]
        return heads, records
    if path.suffix == ".safetensors":
        return tensors(path)
    info = soundfile.info(path)
    return info.format, info.subtype, info.samplerate, info.channels, info.frames


CHANGED = {
    "state.json": ("score_step", "optimizers_sha256", "scaler", "seal", "best_score", "since_best", "turned"),
    "plan.json": ("end",),
    "run.json": ("directions", "exports", "renders_from", "makes", "score", "order"),
    "run.toml": (),
    "metrics.jsonl": (),
    "corpus.json": ("seconds_ledger",),
    "tonemill.json": ("seconds_ledger",),
    "0.json": ("seconds_ledger",),
    "1.json": ("seconds_ledger",),
    "2.json": ("seconds_ledger",),
}
"""Files, and their keys that have come or gone since; one with the keys of then is still read."""

SETTINGS = (
    *("overfit", "accumulate", "clip_norm", "skip_non_finite", "checkpoint_minutes", "listen_share", "patience"),
    *("loop", "film", "film_gain", "devices", "cache", "cache_gigabytes", "where"),
)
"""Settings that have come since, or have moved from the model's to those of training."""

VERSIONS = ("torch",)
"""Packages whose version is noted only where they were used, since."""

FIGURES = re.compile(
    r"learning_rate/|gradient_norm/|critic_held_out|critic_generated|compared_with|validated_on|mel_spread_db|aliasing_db"
)
"""Figures that are logged since, or only of two clips and more."""


def as_of_then(content: Any, keys: tuple[str, ...]) -> Any:
    """The outline of a file of a run without what has come or gone since."""
    if isinstance(content, list):
        lines = [as_of_then(line, keys) for line in content]
        return [line for line in lines if line.keys() - {"step"}]
    gone = {*keys, *SETTINGS, *VERSIONS, *SINCE}
    kept = {key: one for key, one in content.items() if key not in gone and not FIGURES.match(key)}
    return {key: as_of_then(one, ()) if isinstance(one, dict) else one for key, one in kept.items()}


OF_EACH = ("padded_samples",)
"""Fields that each clip of a new corpus has, and only some had."""

SINCE = (".huggingface.yaml",)
"""Files that corpora have since."""


def described_below(folder: Path) -> dict[str, Any]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in SINCE]
    found = {str(path.relative_to(folder)): described(path) for path in paths}
    for name in found:
        for file, keys in CHANGED.items():
            if name.endswith(file):
                found[name] = as_of_then(found[name], keys)
    return found


VERSIONS_OF_THEN = {"align": 2, "loops": 2}
"""Of steps whose output has changed since on purpose."""


def placeless(value: Any) -> Any:
    """A recipe without its places and its split; its `render` steps in the words of then, steps in versions of then."""
    if isinstance(value, dict):
        if value.get("step") in VERSIONS_OF_THEN:
            value = {**value, "version": VERSIONS_OF_THEN[value["step"]]}
        value = dict(sorted(comparable(value).items())) if value.get("step") == "render" else value
        places = ("uri", "run_uri", "modified_ns", "dealt")
        return {key: placeless(one) for key, one in value.items() if key not in (*places, *OF_EACH)}
    return [placeless(one) for one in value] if isinstance(value, list) else value


def assert_near(new: Any, old: Any, where: str) -> None:
    """The same JSON, with floats that agree to three digits."""
    assert type(new) is type(old), where
    if isinstance(old, dict) and old.get("step") == "render":
        assert comparable(new) == old, where
    elif isinstance(old, dict):
        new = {key: one for key, one in new.items() if key in old or key not in OF_EACH}
        assert list(new) == list(old), where
        for key in old:
            assert_near(new[key], old[key], f"{where} {key}")
    elif isinstance(old, list):
        assert len(new) == len(old), where
        for one, other in zip(new, old, strict=True):
            assert_near(one, other, where)
    elif isinstance(old, float):
        assert math.isclose(new, old, rel_tol=1e-3, abs_tol=1e-3), f"{where}: {new} and {old}"
    else:
        assert new == old, where


# the data


def test_the_data_is_small_and_names_no_machine() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    texts = {path: path.read_text() for path in files if path.suffix in (".json", ".jsonl", ".toml", ".txt")}
    texts |= {path: "".join(row["recipe"] for row in table(path)) for path in DATA.rglob("plan.parquet")}
    for path, text in texts.items():
        assert text.count("file:") == text.count(f"{ROOT}/"), path
        assert '"/' not in text, path


# formats: a change that is meant takes its name out of these tests, and the CHANGELOG states what old files need


@pytest.mark.parametrize("name", SAME)
def test_what_is_cooked_has_the_files_keys_and_columns_of_then(before: Path, again: Path, name: str) -> None:
    assert described_below(again / name) == described_below(before / name)


@pytest.mark.parametrize("name", some_slow(RUNS, "runs/judge", "runs/amp"))
def test_a_run_has_the_files_keys_and_tensors_of_then(before: Path, copy: Path, tonemill: Tonemill, name: str) -> None:
    make(tonemill, copy, name)
    found = {path.relative_to(copy).as_posix() for path in (copy / name / "clips").rglob("*") if path.is_file()}
    assert found >= {line for line in (before / "left_out.txt").read_text().splitlines() if line.startswith(f"{name}/")}
    for left_out in ("clips", "tensorboard"):
        shutil.rmtree(copy / name / left_out)
    assert described_below(copy / name) == described_below(before / name)


@pytest.mark.parametrize("name", SAME)
def test_the_plan_is_that_of_then(before: Path, again: Path, name: str) -> None:
    new, old = (home_of(folder / name) / "plan.parquet" for folder in (again, before))
    for one, other in zip(table(new), table(old), strict=True):
        recipes = [json.dumps(placeless(json.loads(row.pop("recipe")))) for row in (one, other)]
        assert recipes[0] == recipes[1]
        assert one == other
    heads = [json.loads(parquet.read_schema(path).metadata[b"tonemill"]) for path in (new, old)]
    assert head_of_then(heads[0]) == head_of_then(heads[1])
    assert [head["schema"] for head in heads] == [2, 1]
    assert read_plan(new).shards == read_plan(old).shards
    assert about(again / name)["plan_digest"] == about(before / name)["plan_digest"]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_that_of_then(before: Path, again: Path, name: str) -> None:
    new, old = (
        [json.dumps(placeless(json.loads(line))) for line in (folder / name).read_text().splitlines()]
        for folder in (again, before)
    )
    assert new == old


# corpora and folders of files


@pytest.mark.parametrize("name", SAME)
def test_cooked_again_it_sounds_as_it_did(before: Path, again: Path, name: str) -> None:
    assert_alike(again / name, before / name)
    records = [dict(members(folder / name)) for folder in (again, before)]
    for member, data in records[1].items():
        if member.endswith(".json"):
            assert_near(json.loads(records[0][member]), json.loads(data), member)


@pytest.mark.parametrize("name", COOKED)
def test_it_verifies_and_is_there_already(copy: Path, tonemill: Tonemill, name: str) -> None:
    """The command that made it, where the sources have moved to, finds nothing to do if it makes the same."""
    assert tonemill("verify", copy / name, "-q").done().line["findings"] == []
    if name in REMADE:
        return
    files = shard_files(copy / name)
    out = carried_out(tonemill, copy, AGAIN[name])
    assert json.loads(out)["digest"] == about(copy / name)["digest"]
    assert shard_files(copy / name) == files


@pytest.mark.parametrize("name", COOKED)
def test_it_is_inspected(copy: Path, tonemill: Tonemill, name: str) -> None:
    facts = tonemill("inspect", copy / name, "--json").done().line
    assert about(copy / name).items() <= facts.items()
    assert not any(facts["straddling"].values())
    assert f"{facts['examples']}" in tonemill("inspect", copy / name).done().out.decode()


@pytest.mark.parametrize("name", CORPORA)
def test_it_opens(copy: Path, tonemill: Tonemill, name: str) -> None:
    recipes = lines_of(tonemill("open", copy / name).done().out)
    rows = table(copy / name / "index.parquet")
    assert [one["sources"].popitem()[1]["key"] for one in recipes] == [row["key"] for row in rows]
    traced = tonemill("trace", copy / name, rows[0]["key"], "--json").done().line
    assert rows[0]["source"] in json.dumps(traced)


@pytest.mark.parametrize("name", some_slow(COOKED, *COSTLY))
def test_it_is_repaired(before: Path, again: Path, copy: Path, tonemill: Tonemill, name: str) -> None:
    """From its own plan, where this machine cooks the bytes of then; else that is refused, and the command mends it."""
    folder, home = copy / name, home_of(copy / name)
    sounding = sorted(path for path in folder.rglob("*") if path.suffix in (".tar", ".wav", ".flac"))
    wished = [(before / path.relative_to(copy)).read_bytes() for path in sounding]
    ends = [(sounding[place], wished[place]) for place in (0, -1)]
    others = {
        shard_of(home, path)
        for path, then in ends
        if sound_bytes(path.name, (again / path.relative_to(copy)).read_bytes()) != sound_bytes(path.name, then)
    }
    if others:
        damage(sounding, home)
        failed = tonemill("repair", folder, "-q").refused(1).line["failed"]
        assert failed.keys() == others
        assert all("has other bytes" in why or "it was made with" in why for why in failed.values())
        sounding[0].unlink(missing_ok=True)
        carried_out(tonemill, copy, AGAIN[name])
        wished = [path.read_bytes() for path in sounding]
    damage(sounding, home)
    tonemill("repair", folder, "-q").done()
    assert [path.read_bytes() for path in sounding] == wished
    assert tonemill("verify", folder, "-q").done().line["ok"]
    assert len(table(home / "index.parquet")) == about(folder)["examples"]
    assert_alike(folder, before / name)


def damage(sounding: list[Path], home: Path) -> None:
    """Flip a bit of the first sound, and take away the last one, if it is another, and the index."""
    data = bytearray(sounding[0].read_bytes())
    data[len(data) // 2] ^= 1
    sounding[0].write_bytes(data)
    for path in (*sounding[1:][-1:], home / "index.parquet"):
        path.unlink()


@pytest.mark.parametrize("name", some_slow(APPENDED, *COSTLY))
def test_it_grows(copy: Path, tonemill: Tonemill, name: str) -> None:
    files, examples = shard_files(copy / name), about(copy / name)["examples"]
    carried_out(tonemill, copy, APPENDED[name])
    grown = shard_files(copy / name)
    assert {path: grown[path] for path in files} == files
    assert about(copy / name)["examples"] > examples
    assert tonemill("verify", copy / name, "-q").done().line["ok"]


# streams


def test_a_saved_stream_is_cooked(before: Path, copy: Path, tonemill: Tonemill) -> None:
    stream = (copy / "streams/kicks.jsonl").read_bytes()
    tonemill("write", copy / "out", "-q", stdin=stream).done()
    assert_alike(copy / "out", before / "files/kicks")


def test_a_saved_stream_of_a_corpus_is_cooked(before: Path, copy: Path, tonemill: Tonemill) -> None:
    stream = (copy / "streams/opened.jsonl").read_bytes()
    tonemill("write", copy / "out", "-q", stdin=stream).done()
    rows = [row for row in table(before / "corpora/drums/index.parquet") if row["split"] == "valid"]
    stored = {name: samples for name, (samples, *_) in sounds(before / "corpora/drums/valid").items()}
    found = sounds(copy / "out")
    assert len(rows) == len(found)
    for row in rows:
        faded, *_ = found[row["source"]]
        # 5 ms at 8 kHz
        assert np.array_equal(faded[40:], stored[f"{row['key']}.flac"][40:])


@pytest.mark.parametrize("name", STREAMS)
def test_a_saved_stream_is_inspected_and_passed_on(copy: Path, tonemill: Tonemill, name: str) -> None:
    stream = (copy / name).read_bytes()
    facts = tonemill("inspect", copy / name, "--json").done().line
    assert facts["recipes"] == facts["announced"] == len(lines_of(stream))
    steps = {" | ".join(one["step"] for one in recipe["steps"]) for recipe in lines_of(stream)}
    assert set(facts["steps"]) == steps
    assert tonemill("select", "--head", 100, stdin=stream).done().out == stream


# runs


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_inspected(copy: Path, tonemill: Tonemill, name: str) -> None:
    facts = tonemill("inspect", copy / name, "--json").done().line
    stored = json.loads((copy / name / "run.json").read_text())
    assert stored.items() <= facts.items()
    assert facts["checkpoints"] == [stored["train_config"]["steps"]]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on(copy: Path, tonemill: Tonemill, name: str) -> None:
    """For two steps, from the weights and the state of the optimizers that are stored."""
    run = copy / name
    steps = json.loads((run / "run.json").read_text())["train_config"]["steps"]
    lines = (run / "metrics.jsonl").read_text()
    command = COMMANDS[name][0].replace(f"--steps {steps}", f"--steps {steps + 2}")
    assert json.loads(carried_out(tonemill, copy, command))["step"] == steps + 2
    old, new = (run / "checkpoints" / f"{step:08d}" for step in (steps, steps + 2))
    assert (run / "metrics.jsonl").read_text().startswith(lines)
    assert described_below(new) == described_below(old)
    counted = [
        (after, load_file(old / "optimizers.safetensors")[key])
        for key, after in load_file(new / "optimizers.safetensors").items()
        if key.endswith(".step")
    ]
    assert {int(after - earlier) for after, earlier in counted} <= {0, 1, 2}
    assert any(after == earlier + 2 for after, earlier in counted)
    state = json.loads((old / "state.json").read_text())
    rates = [group["lr"] for one in state["optimizers"].values() for group in one["param_groups"]]
    weights = load_file(old / "weights.safetensors")
    moved = {
        key: float(np.abs(after - weights[key]).max())
        for key, after in load_file(new / "weights.safetensors").items()
        if "running_" not in key and not key.endswith("num_batches_tracked")
    }
    # A step of Adam is at most about three learning rates long; weights that are drawn afresh differ by much more.
    assert 0 < max(moved.values()) <= 10 * max(rates)
