"""Arrays beside audio, or in its place, go through every step and command, or are refused by name."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, contents, lines_of, stream_of, table
from latents import HOP, encoded, install
from numpy.lib import format as npy

from tonemill.cli.app import COMMANDS
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.training.loader import Batches

FEW = ("-q", "--workers", 1)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The step `latents` of `tests/kit`, as another package brings one."""
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("site"), patch)
        yield


@pytest.fixture(scope="module")
def clips(raw: Path, piped: Callable[..., bytes]) -> bytes:
    scan = ["scan", raw, "--fields", "{label}_{speaker}_{take}", "-q"]
    return piped(scan, ["select", 'take in [0, 1, 2, 3, "0", "1", "2", "3"]'], ["slice", "--samples", 3000])


@pytest.fixture(scope="module")
def streams(clips: bytes, tonemill: Tonemill) -> dict[str, bytes]:
    """By what examples then have: both sound and arrays, or arrays alone."""
    keeping = ("--keep-audio", "--embedding")
    return {
        "both": tonemill("latents", *keeping, stdin=clips).done().out,
        "alone": tonemill("latents", stdin=clips).done().out,
    }


@pytest.fixture(scope="module")
def corpora(
    streams: dict[str, bytes], tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("arrays")
    for name, stream in streams.items():
        tonemill("shard", folder / name, *FEW, "--shard-seconds", 2, "--valid", 0.4, stdin=stream).done()
    before = contents(folder)
    yield {name: folder / name for name in streams}
    assert contents(folder) == before, "a test changed a corpus that all share"


def members(corpus: Path) -> dict[str, bytes]:
    found = {}
    for tar in corpus.glob("*/*.tar"):
        with tarfile.open(tar) as file:
            for one in file:
                data = file.extractfile(one)
                assert data is not None
                found[one.name] = data.read()
    return found


def values(data: bytes) -> np.ndarray:
    return npy.read_array(io.BytesIO(data), allow_pickle=False)


# What is stored, and who reads it


def test_a_stock_reader_finds_the_arrays_beside_the_sound(corpora: dict[str, Path]) -> None:
    found = members(corpora["both"])
    rows = table(corpora["both"] / "index.parquet")
    for row in rows:
        sound, _ = soundfile.read(io.BytesIO(found[f"{row['key']}.flac"]), always_2d=True)
        latents = values(found[f"{row['key']}.latents.npy"])
        # The stored sound has 16 bits, and the latents are of the sound before.
        assert abs(latents - encoded(sound.T)).max() < 2**-14
        assert (row["latents_channels"], row["latents_frames"], row["latents_hop"]) == (*latents.shape, HOP)
        assert values(found[f"{row['key']}.embedding.npy"]).shape == (2, 1)
        record = json.loads(found[f"{row['key']}.json"])
        assert record["arrays"]["latents"] == {"channels": 2, "frames": 12, "hop": HOP, "sample_rate": 8000}
        assert record["arrays"]["embedding"]["hop"] is None
    assert not any("embedding_hop" in row for row in rows)


def test_webdataset_reads_the_arrays(corpora: dict[str, Path]) -> None:
    wds = pytest.importorskip("webdataset")
    tars = sorted(map(str, corpora["both"].glob("train/*.tar")))
    data = wds.WebDataset(tars, shardshuffle=False, empty_check=False).decode()
    keys = {row["key"] for row in table(corpora["both"] / "index.parquet") if row["split"] == "train"}
    found = {one["__key__"]: one["latents.npy"] for one in data}
    assert found.keys() == keys
    assert all(one.shape == (2, 12) for one in found.values())


def test_without_sound_the_arrays_say_how_long_and_at_which_rate(corpora: dict[str, Path]) -> None:
    both, alone = (table(corpora[name] / "index.parquet") for name in ("both", "alone"))
    assert {row["samples"] for row in alone} == {12 * HOP}
    assert {(row["sample_rate"], row["channels"], row["bits"]) for row in alone} == {(8000, 0, 32)}
    assert [row["latents_sha256"] for row in alone] == [row["latents_sha256"] for row in both]
    about = json.loads((corpora["alone"] / "corpus.json").read_text())
    assert about["roles"] == []
    assert about["arrays"] == {"latents": {"examples": len(alone), "channels": 2, "hop": HOP}}
    assert not [name for name in members(corpora["alone"]) if name.endswith(".flac")]


def test_an_array_that_does_not_fit_is_a_reject_with_the_reason(
    clips: bytes, tonemill: Tonemill, tmp_path: Path
) -> None:
    recipes = lines_of(clips)
    recipes[0]["fields"]["latents_frames"] = 3
    stream = tonemill("latents", "--keep-audio", stdin=stream_of(recipes)).done().out
    short = tonemill("latents", "--keep-audio", "--left-out", 6, stdin=stream_of(recipes[1:2])).done().out
    tonemill("shard", tmp_path / "odd", *FEW, stdin=stream + short).done()
    messages = {row["source"]: row["message"] for row in table(tmp_path / "odd" / "rejects.parquet")}
    assert messages.keys() == {recipes[0]["path"], recipes[1]["path"]}
    assert "its field latents_frames has the name of one of its arrays" in messages[recipes[0]["path"]]
    assert "spans 6 frames of 256 samples, but its sound has 3000 samples" in messages[recipes[1]["path"]]


LATENTS = {"examples": 8, "channels": 2, "hop": HOP}


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"latents": {}},
        {"latents": {**LATENTS, "hop": 0}},
        {"latents": {**LATENTS, "hop": -1}},
        {"latents": {**LATENTS, "channels": 0}},
        {"latents": {**LATENTS, "channels": None}},
        {"../latents": LATENTS},
        {"mel": LATENTS},
    ],
)
def test_a_description_of_other_arrays_is_damaged(
    entry: object, corpora: dict[str, Path], tonemill: Tonemill, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpora["alone"], tmp_path / "copy"))
    about = json.loads((copy / "corpus.json").read_text())
    (copy / "corpus.json").write_text(json.dumps({**about, "arrays": entry}))
    tonemill("open", copy).refused(1, "damaged", "repair")


# Commands


Check = Callable[["Given"], None]


class Given:
    """What a check is given: commands, corpora and streams by what they hold, and a folder of its own."""

    def __init__(self, tonemill: Tonemill, corpora: dict[str, Path], streams: dict[str, bytes], folder: Path) -> None:
        self.tonemill, self.corpora, self.streams, self.folder = tonemill, corpora, streams, folder

    def opened(self, name: str) -> bytes:
        return self.tonemill("open", self.corpora[name]).done().out

    def damaged(self, name: str) -> tuple[Path, Path]:
        """A copy with a byte of an array turned, and the tar that holds it."""
        copy = self.copied(name)
        row = table(copy / "index.parquet")[0]
        tar = copy / f"{row['shard']}.tar"
        data = bytearray(tar.read_bytes())
        data[row["latents_offset"] + row["latents_bytes"] - 2] ^= 1
        tar.write_bytes(data)
        return copy, tar

    def copied(self, name: str) -> Path:
        return Path(shutil.copytree(self.corpora[name], self.folder / name))


def opens(given: Given) -> None:
    for name, roles in (("both", {"audio", "latents", "embedding"}), ("alone", {"latents"})):
        stream = given.opened(name)
        assert all(one["sources"].keys() == roles for one in lines_of(stream))
        given.tonemill("shard", given.folder / name, *FEW, "--shard-seconds", 2, stdin=stream).done()
        again = given.opened(name)
        digests = [
            sorted(row["latents_sha256"] for row in table(place / "index.parquet"))
            for place in (given.corpora[name], given.folder / name)
        ]
        assert digests[0] == digests[1]
        assert len(lines_of(again)) == len(digests[0])


def writes(given: Given) -> None:
    for name, suffixes in (("both", {".wav", ".npy"}), ("alone", {".npy"})):
        folder = given.folder / name
        given.tonemill("write", folder, *FEW, stdin=given.streams[name]).done()
        files = [path for path in folder.rglob("*") if path.is_file() and ".tonemill" not in path.parts]
        assert {path.suffix for path in files} - {".json"} == suffixes
        named = sorted(path.relative_to(folder).as_posix() for path in files if path.name.endswith(".latents.npy"))
        assert named[:2] == ["left/0_ann_0-0000.latents.npy", "left/0_ann_0-0001.latents.npy"]
        given.tonemill("verify", folder, "-q").done()
        (folder / named[0]).unlink()
        found = given.tonemill("verify", folder, "-q").refused(1).line["findings"]
        assert [(one["path"], one["kind"]) for one in found] == [(named[0], "missing")]
        given.tonemill("repair", folder, "-q").done()
        assert values((folder / named[0]).read_bytes()).shape == (2, 12)


def verifies(given: Given) -> None:
    for name in ("both", "alone"):
        given.tonemill("verify", given.corpora[name], "-q").done()
        copy, tar = given.damaged(name)
        found = given.tonemill("verify", copy, "-q").refused(1).line["findings"]
        assert any(tar.name in one["path"] and "are not those that were written" in one["message"] for one in found)


def repairs(given: Given) -> None:
    for name in ("both", "alone"):
        copy, _ = given.damaged(name)
        given.tonemill("repair", copy, "-q").done()
        assert members(copy) == members(given.corpora[name])


def removes(given: Given) -> None:
    for name in ("both", "alone"):
        copy = given.copied(name)
        gone = table(copy / "index.parquet")[0]["source"]
        given.tonemill("remove", copy, "--source", gone, "-q").done()
        given.tonemill("verify", copy, "-q").done()
        left = {row["source"] for row in table(copy / "index.parquet")}
        assert left == {row["source"] for row in table(given.corpora[name] / "index.parquet")} - {gone}


def shards(given: Given) -> None:
    for name in ("both",):
        first = given.tonemill("select", "--head", 2, stdin=given.streams[name]).done().out
        given.tonemill("shard", given.folder / name, *FEW, stdin=first).done()
        given.tonemill("shard", given.folder / name, *FEW, "--append", stdin=given.streams[name]).done()
        given.tonemill("verify", given.folder / name, "-q").done()
        rows = [table(place / "index.parquet") for place in (given.folder / name, given.corpora[name])]
        assert sorted(row["key"] for row in rows[0]) == sorted(row["key"] for row in rows[1])


def traces(given: Given) -> None:
    for name, target, stored in (("both", "x.flac", "x.latents.npy"), ("alone", "x.npy", "x.npy")):
        key = table(given.corpora[name] / "index.parquet")[0]["key"]
        facts = (
            given.tonemill("trace", given.corpora[name], key, "--write", given.folder / target, "--json").done().line
        )
        assert facts["remade"]["latents"]["same_bytes"]
        assert (given.folder / stored).read_bytes() == members(given.corpora[name])[f"{key}.latents.npy"]
        (given.folder / target).unlink()


def differs(given: Given) -> None:
    other = given.folder / "other"
    coarser = given.streams["alone"].replace(b'"hop":256', b'"hop":512')
    given.tonemill("shard", other, *FEW, "--shard-seconds", 2, "--valid", 0.4, stdin=coarser).done()
    given.tonemill("diff", given.corpora["alone"], given.corpora["alone"]).done()
    ended = given.tonemill("diff", given.corpora["alone"], other)
    found = ended.line
    assert ended.code == 1
    assert found["sounds"]["count"] == found["examples"] > 0
    assert "hop 256 -> 512" in json.dumps(found)


def selects(given: Given) -> None:
    for name in ("both", "alone"):
        stream = given.opened(name)
        chosen = given.tonemill("select", 'seconds > 0.3 and label == "1"', stdin=stream).done().out
        assert 0 < len(lines_of(chosen)) < len(lines_of(stream))


def inspects(given: Given) -> None:
    for name in ("both", "alone"):
        words = given.tonemill("inspect", given.corpora[name]).done().out.decode()
        assert "latents" in words and "31.250 Hz" in words
        assert "latents_frames" not in words, "the columns of an array are no metadata"
        given.tonemill("inspect", "-", stdin=given.opened(name)).done()
    assert "no sound" in words


def reports(given: Given) -> None:
    for name in ("both", "alone"):
        page = given.folder / f"{name}.html"
        given.tonemill("report", given.corpora[name], "-o", page, "-q").done()
        assert "latents" in page.read_text()
        # Arrays alone have no sound that could be near to a clip's.
        given.tonemill("report", given.corpora[name], "--against", given.corpora["alone"], "-o", page, "-q").done()


def dedups(given: Given) -> None:
    given.tonemill("dedup", "-q", stdin=given.opened("both")).done()
    ended = given.tonemill("dedup", stdin=given.opened("alone")).done()
    assert "hold arrays and no sound" in ended.err
    assert [one["sources"] for one in lines_of(ended.out)] == [
        one["sources"] for one in lines_of(given.opened("alone"))
    ]


def previews(given: Given) -> None:
    given.tonemill("preview", given.folder / "look", "-n", 1, stdin=given.opened("both")).done()
    ended = given.tonemill("preview", given.folder / "no", "-n", 1, stdin=given.opened("alone")).done()
    assert "array latents" in ended.err and "nothing to play" in ended.err


def evaluates(given: Given) -> None:
    for name, other in (("alone", "alone"), ("alone", "both"), ("both", "alone")):
        places = given.corpora[name], "--against", given.corpora[other]
        given.tonemill("evaluate", *places).refused(1, "array latents")
        given.tonemill("evaluate", *places, "--paired").refused(1, "array latents")


def trains(given: Given) -> None:
    for model in ("wavegan", "specgan", "classifier", "effect"):
        run = given.folder / model
        given.tonemill("train", model, given.corpora["alone"], "-o", run, "--steps", 1).refused(
            1, "no audio and array latents"
        )
        assert not run.exists()


def cards(given: Given) -> None:
    for name in ("both", "alone"):
        copy = shutil.copytree(given.corpora[name], given.folder / name)
        given.tonemill("card", copy, "-q").done()
        assert "array latents" in (copy / "README.md").read_text()


def surveys(given: Given) -> None:
    words = ("-o", given.folder / "study", "--clips", 2, "-q")
    sounds, arrays = given.corpora["both"], given.corpora["alone"]
    given.tonemill("survey", "make", f"real={sounds}", f"model={arrays}", *words).refused(1, "array latents")
    assert given.tonemill("survey", "make", f"real={sounds}", f"same={sounds}", *words).done().line["systems"] == 2


def runs(given: Given) -> None:
    for name in ("both", "alone"):
        target = given.folder / f"run-{name}"
        given.tonemill("run", f"open {given.corpora[name]} | shard {target} -q").done()
        old, new = (table(folder / "index.parquet") for folder in (given.corpora[name], target))
        assert {row["latents_sha256"] for row in new} == {row["latents_sha256"] for row in old}


def has_none(given: Given) -> None:
    """It reads neither a stream nor a corpus."""


CHECKS: dict[str, Check] = {
    "card": cards,
    "dedup": dedups,
    "diff": differs,
    "doctor": has_none,
    "drums": has_none,
    "explain": has_none,
    "evaluate": evaluates,
    "export": has_none,
    "inspect": inspects,
    "models": has_none,
    "open": opens,
    "pair": has_none,
    "preview": previews,
    "remove": removes,
    "repair": repairs,
    "report": reports,
    "scan": has_none,
    "seeds": has_none,
    "select": selects,
    "shard": shards,
    "survey": surveys,
    "trace": traces,
    "train": trains,
    "verify": verifies,
    "write": writes,
    "run": runs,
}
"""What each command does with arrays; a new command takes a stand here."""


SLOW = ("dedup", "preview", "repair")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in COMMANDS.names()]
)
def test_a_command_works_on_arrays_or_refuses_them_by_name(
    name: str, tonemill: Tonemill, corpora: dict[str, Path], streams: dict[str, bytes], tmp_path: Path
) -> None:
    CHECKS[name](Given(tonemill, corpora, streams, tmp_path))


# Splits, and what the loader makes of it


def test_latents_of_a_corpus_keep_its_splits(corpus: Path, tonemill: Tonemill, tmp_path: Path) -> None:
    stream = tonemill("latents", "--hop", 100, stdin=tonemill("open", corpus).done().out).done().out
    tonemill("shard", tmp_path / "latents", *FEW, stdin=stream).done()
    splits = [
        sorted(
            (row["split"], row["source"].partition("-")[0].removesuffix(".wav"))
            for row in table(place / "index.parquet")
        )
        for place in (corpus, tmp_path / "latents")
    ]
    assert splits[0] == splits[1]
    made = Batches(open_corpus(tmp_path / "latents"), "valid", (), 500, 4, arrays=("latents",))
    batch: Any = made.batch(0)
    assert batch.audio == {}
    assert tuple(batch.arrays["latents"].shape) == (4, 2, 5)


def test_a_model_trains_on_latents_alone(corpora: dict[str, Path], tonemill: Tonemill, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--steps", 20, "--batch-size", 4, "--listen-every", 20, "-q")
    tonemill("train", "latent_prior", corpora["alone"], "-o", run, *flags).done()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = sum(row["split"] == "valid" for row in table(corpora["alone"] / "index.parquet"))
    assert held_out == [line["held_out"] for line in lines if "held_out" in line][-1]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    about = json.loads((run / "run.json").read_text())
    assert about["length"] == 4 * HOP
