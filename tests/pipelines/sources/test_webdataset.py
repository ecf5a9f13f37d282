"""Tars of other people: every sound is a recipe that any step takes, with fields from what stands beside it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, lines_of, table

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.sources.webdataset import Opened, expanded, is_pattern, recipes, tars_of

RATE = 16_000


def sound(kind: str, seconds: float = 1.0) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(len(kind)).standard_normal(round(seconds * RATE))
    soundfile.write(out, 0.1 * noise, RATE, format=kind)
    return out.getvalue()


def make_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        folder = tarfile.TarInfo("./a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("a/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(*tars: Path) -> tuple[list[Any], Opened]:
    opened = Opened()
    return list(recipes(list(tars), opened)), opened


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_each_sound_becomes_a_recipe_with_its_fields(tmp_path: Path, form: int) -> None:
    about = {"speaker": 7, "tags": ["a", "b"], "path": "their/own", "large": 2**60}
    members = {
        "./a/é1.flac": sound("FLAC"),
        "./a/é1.json": json.dumps(about).encode(),
        "./a/é1.txt": b"two words\n",
        "./a/é1.cls": b"3",
        "a/2.mp3": sound("MP3"),
        "a/2.cls": b"007",
        "a/3.ogg": sound("OGG"),
        "a/4.wav": sound("WAV"),
        "a/4.npy": b"\x93NUMPY",
        "a/5.txt": b"no sound",
    }
    found, opened = read(make_tar(tmp_path / "x-0.tar", members, form))
    assert [recipe.path for recipe in found] == ["x-0/a/é1.flac", "x-0/a/2.mp3", "x-0/a/3.ogg", "x-0/a/4.wav"]
    own = {
        "speaker": 7,
        "tags": ["a", "b"],
        "tar_path": "their/own",
        "large": str(2**60),
        "text": "two words",
        "cls": 3,
    }
    assert found[0].fields == {**own, "tar": "x-0"}
    assert found[1].fields == {"cls": "007", "tar": "x-0"}
    for recipe in found:
        source = recipe.sources["audio"]
        assert (source["sample_rate"], source["channels"]) == (RATE, 1)
        assert source["frames"] == pytest.approx(RATE, abs=2000), "an MP3 may be padded"
    assert (dict(opened.passed_over), opened.renamed, opened.soundless) == ({"npy": 1}, {"path": "tar_path"}, 1)


def test_several_sounds_of_a_key_are_distinguished_and_a_dry_and_a_wet_are_a_pair(tmp_path: Path) -> None:
    stems = {
        "1.bass.wav": sound("WAV"),
        "1.drums.wav": sound("WAV"),
        "2.dry.flac": sound("FLAC"),
        "2.wet.flac": sound("FLAC"),
    }
    found, _ = read(make_tar(tmp_path / "x.tar", stems))
    assert [(recipe.path, recipe.fields.get("part"), [*recipe.sources]) for recipe in found] == [
        ("x/1.bass.wav", "bass", ["audio"]),
        ("x/1.drums.wav", "drums", ["audio"]),
        ("x/2", None, ["dry", "wet"]),
    ]


def test_steps_cut_and_shard_what_stands_in_tars(tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(3):
        make_tar(
            tmp_path / f"x-{number:02d}.tar", {"a.wav": sound("WAV"), "a.cls": b"%d" % number, "b.wav": b"RIFF no"}
        )
    stream = tonemill("open", tmp_path / "x-{00..02}.tar").done().out
    assert [line.get("path") for line in lines_of(stream)][:2] == ["x-00/a.wav", "x-00/b.wav"]
    assert tonemill("open", *sorted(tmp_path.glob("*.tar"))).done().out == stream
    assert tonemill("open", tmp_path).done().out == stream
    stream = tonemill("slice", "--seconds", 0.5, stdin=stream).done().out
    ended = tonemill("shard", tmp_path / "c", "-q", stdin=stream).done()
    assert (ended.line["examples"], ended.line["ledger"]["rejected"]) == (6, 3)
    assert {row["cls"] for row in table(tmp_path / "c/index.parquet")} == {0, 1, 2}
    chosen = tonemill("open", tmp_path / "x-*.tar", "--where", "cls == 1").done().out
    assert [line["path"] for line in lines_of(chosen)] == ["x-01/a.wav"]
    tonemill("open", tmp_path, "--where", "clss == 1").refused(2, "'cls' is the nearest")
    tonemill("scan", tmp_path / "x-00.tar").refused(2, "tonemill open")


def test_a_cut_tar_and_what_is_none_are_refused(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "x.tar", {"a.wav": sound("WAV"), "b.wav": sound("WAV")}).read_bytes()
    for name, data in (("cut.tar", whole[:-50_000]), ("none.tar", b"no tar" * 999), ("empty.tar", bytes(10240))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorpusError, match=name):
            read(tmp_path / name)
    (tmp_path / "x.wav").write_bytes(sound("WAV"))
    for name, words in (
        ("x.tar.gz", r"gunzip -k \S*x.tar.gz.*open \S*x.tar`"),
        ("x.tgz", r"open \S*x.tar`"),
        ("x.zip", "unzip"),
        ("x.*v", "x.wav is not a tar.*scan FOLDER"),
        ("y.tar", "no tar"),
        ("z-*.tar", "no tar"),
    ):
        (tmp_path / name).write_bytes(b"") if "x." in name and "*" not in name else None
        with pytest.raises(UsageError, match=words):
            tars_of([str(tmp_path / name)])


def test_braces_stand_for_what_they_stand_for_in_webdataset() -> None:
    assert expanded("x-{08..11}.tar") == ["x-08.tar", "x-09.tar", "x-10.tar", "x-11.tar"]
    assert expanded("{a,b}/{1..2}") == ["a/1", "a/2", "b/1", "b/2"]
    assert expanded("plain.tar") == ["plain.tar"]
    assert [is_pattern(one) for one in ("x.tar", "x-*.tar", "x-{0..9}.tar", "corpora/c")] == [True, True, True, False]
    with pytest.raises(UsageError, match="more than"):
        expanded("x-{0..99999999}.tar")


@pytest.mark.parametrize("typed", ["s3://bucket/x.tar", "s3://bucket/x-{00..02}.tar", "gs://bucket/x-*.tar"])
def test_tars_in_stores_are_to_be_copied_first(typed: str) -> None:
    with pytest.raises(UsageError, match=r"is in a store.*Copy the tars here"):
        tars_of([typed])
