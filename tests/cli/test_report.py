"""Reports as a person asks for them: of whole things and of broken ones, and never harmful."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, Tonemill, contents, write_wav

from tonemill.audiotools.synthetic import loop

Piped = Callable[..., bytes]
ROOT = Path(__file__).parents[2]
NASTY = """<script>alert(1)<'"&{{7*7}}$.wav"""


class Page(HTMLParser):
    """Tags and their attributes, and the text that is shown."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        """Elements by tag, or by class after a dot."""
        wanted = name.removeprefix(".")
        return [
            attributes
            for tag, attributes in self.tags
            if (wanted in (attributes.get("class") or "").split() if name.startswith(".") else tag == wanted)
        ]


def run_folder(folder: Path, metrics: list[dict[str, Any]]) -> Path:
    """A run as training leaves it, without its weights."""
    facts = {"model": "wavegan", "corpus": "gone", "sample_rate": RATE, "length": 4000, "parameters": {"generator": 9}}
    for name in ("00000010", "00000020", "real"):
        (folder / "clips" / name).mkdir(parents=True)
        for number in range(2):
            write_wav(folder / "clips" / name / f"{number:02d}.wav", 4000, seed=number)
    (folder / "run.json").write_text(json.dumps({"schema": 1, **facts}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in metrics))
    return folder


def test_a_corpus_is_shown_in_one_file_that_needs_no_other(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    line = tonemill("report", corpus, "-o", target, "--clips", 6).done().line
    assert line["report"] == str(target)
    assert line["bytes"] == target.stat().st_size
    assert list(contents(tmp_path)) == ["report.html"]
    page = Page(target)
    assert len(page.all(".clip")) == line["clips"] >= 6
    for side in page.all(".side"):
        assert (side["data-sound"] or "").startswith("data:audio/")
    links = [one.get(name) for _, one in page.tags for name in ("src", "href") if one.get(name)]
    assert all(link.startswith(("data:", "#")) for link in links if link)
    assert "http:" not in target.read_text()
    examples = json.loads((corpus / "corpus.json").read_bytes())["examples"]
    assert f"6 of {examples}, drawn at random, equally many of each label." in page.text
    assert "No group of equal bytes stands in more than one split" in " ".join(page.text.split())
    # Again is the same, and a report may be replaced.
    before = target.read_bytes()
    tonemill("report", corpus, "-o", target, "--clips", 6, "-q").done()
    assert target.read_bytes() == before


def test_names_and_fields_are_text_and_nothing_else(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "raw" / NASTY, 3000)
    write_wav(tmp_path / "raw" / f"b{NASTY}", 3000, seed=1)
    (tmp_path / "raw" / f"broken{NASTY}").write_bytes(b"x")
    stream = piped(["scan", tmp_path / "raw", "--fields", "{label}", "-q"])
    corpus = tmp_path / "</title><script>x"
    tonemill("shard", corpus, "-q", stdin=stream).done()
    judged = tmp_path / "m.json"
    judged.write_text(json.dumps({"metrics": [{"name": NASTY, "value": 1, "note": NASTY}], "judge": NASTY}))
    tonemill("report", corpus, "-o", tmp_path / "r.html", "--metrics", judged, "--title", NASTY, "-q").done()
    page = Page(tmp_path / "r.html")
    assert len(page.all("script")) == 1
    assert page.text.count(NASTY) >= 8
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    policy = next(one["content"] or "" for one in page.all("meta") if one.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='; ", policy)
    assert {one["alt"] for one in page.all("img")} == {""}


def test_a_name_that_is_not_text_is_shown_somehow(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "raw/a.wav", 3000).rename(tmp_path / "raw" / "caf\udce9.wav")
    tonemill("shard", tmp_path / "c", "-q", stdin=piped(["scan", tmp_path / "raw", "-q"])).done()
    tonemill("report", tmp_path / "c", "-o", tmp_path / "r.html", "-q").done()
    assert r"caf\xe9.wav" in Page(tmp_path / "r.html").text


def test_loops_have_beats_and_pairs_both_sides(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for side in ("dry", "wet"):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "a.wav", np.tanh(3 * loop(120, 2, 22050)[0]), 22050)
    loops = piped(["scan", tmp_path / "dry", "-q"], ["loops", "--target-bpm", "120"])
    tonemill("shard", tmp_path / "loops", "-q", stdin=loops).done()
    pairs = piped(["pair", tmp_path / "dry", tmp_path / "wet", "-q"], ["align"])
    tonemill("shard", tmp_path / "pairs", "-q", stdin=pairs).done()
    tonemill("report", tmp_path / "loops", "-o", tmp_path / "loops.html", "-q").done()
    tonemill("report", tmp_path / "pairs", "-o", tmp_path / "pairs.html", "-q").done()
    page = Page(tmp_path / "loops.html")
    assert len(page.all(".clip")) == 2
    at = re.findall(r'<path(?: class="bar")? d="M([\d.]+) 0V100"/>', (tmp_path / "loops.html").read_text())
    assert at == ["0.0", "250.0", "500.0", "750.0"] * 2
    assert len(page.all(".bar")) == 2
    page = Page(tmp_path / "pairs.html")
    assert [len(page.all(name)) for name in (".clip", ".side", ".attack")] == [1, 2, 1]
    assert "10 ms around" in page.text


def test_renders_stand_beside_the_real_clip_they_are_most_like(
    tonemill: Tonemill, piped: Piped, corpus: Path, tmp_path: Path
) -> None:
    # Softer copies of real clips, as from a model that memorised them.
    copies = piped(
        ["open", corpus, "--where", 'split == "train"'], ["select", "--head", 3], ["normalize", "--peak-db", -20]
    )
    tonemill("write", tmp_path / "copies", "-q", stdin=copies).done()
    target = tmp_path / "r.html"
    tonemill("report", tmp_path / "copies", "--against", corpus, "-o", target, "-q").done()
    text = target.read_text()
    cards = re.findall(r'<article class="clip" data-name="([^"]+)"[^>]* data-distance="([^"]+)"', text)
    neighbours = re.findall(r"Nearest real, [^<]+</p>.*?Play ([^\"]+)\"", text, re.DOTALL)
    assert len(cards) == len(neighbours) == 3
    for (name, distance), neighbour in zip(cards, neighbours, strict=True):
        assert float(distance) < 1
        assert Path(name).stem.rpartition("-")[0] in neighbour or Path(name).stem in neighbour
    assert "Real clips lie" in Page(target).text
    keys = [row["key"] for row in _index(corpus)] + [row["key"] for row in _index(tmp_path / "copies/.tonemill")]
    np.savez(tmp_path / "v.npz", key=np.array(keys), vector=np.random.default_rng(0).standard_normal((len(keys), 4)))
    words = ("--against", corpus, "--embeddings", tmp_path / "v.npz")
    tonemill("report", tmp_path / "copies", *words, "-o", target, "-q").done()
    assert "in the embedding" in Page(target).text


def test_the_nearest_clip_of_evaluate_is_played_beside_it(
    tonemill: Tonemill, piped: Piped, corpus: Path, tmp_path: Path
) -> None:
    copies = piped(["open", corpus, "--where", 'split == "train"'], ["select", "--head", 12])
    tonemill("shard", tmp_path / "made", "-q", stdin=copies).done()
    made, real = _index(tmp_path / "made"), _index(corpus)
    pairs = [(made[5]["key"], real[3]), (made[2]["key"], real[1]), ("gone-0000", real[0])]
    record = {
        "generated": {"place": str(tmp_path / "made")},
        "against": {"place": str(corpus)},
        "metrics": {"copies": {"generated": {"value": 1.0}}},
        "nearest": [{"key": key, "real_key": row["key"], "distance": 0.25, "unit": "dB"} for key, row in pairs],
    }
    (tmp_path / "m.json").write_text(json.dumps(record))
    words = ("--metrics", tmp_path / "m.json", "-o", tmp_path / "r.html", "--clips", 1, "-q")
    tonemill("report", tmp_path / "made", *words).done()
    text = (tmp_path / "r.html").read_text()
    part = text[text.index("Nearest to real clips") :]
    assert re.findall(r"Nearest real, ([^<,]+),[^<]*</p>.*?Play ([^\",]+)", part, re.DOTALL) == [
        ("0.25 dB away", row["source"]) for _, row in pairs[:2]
    ]
    # Its names may have been given elsewhere.
    above = corpus.parents[1]
    record["against"] = {"place": str(corpus.relative_to(above))}
    made_there = shutil.copytree(tmp_path / "made", above / "elsewhere")
    record["generated"] = {"place": "elsewhere"}
    (tmp_path / "m.json").write_text(json.dumps(record))
    tonemill("report", made_there, *words).done()
    assert "Nearest to real clips" in (tmp_path / "r.html").read_text()
    # The real clips may be gone since.
    record["generated"] = {"place": str(tmp_path / "made")}
    record["against"] = {"place": str(tmp_path / "nowhere")}
    (tmp_path / "m.json").write_text(json.dumps(record))
    tonemill("report", tmp_path / "made", *words).done()
    assert "Nearest to real clips" not in (tmp_path / "r.html").read_text()


def _index(folder: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(folder / "index.parquet").to_pylist()


def test_a_run_has_curves_and_what_it_sounded_like(tonemill: Tonemill, tmp_path: Path) -> None:
    metrics = [{"step": step, "seconds": step, "loss": 1 / step, "odd": float("nan")} for step in range(1, 21)]
    metrics.append({"step": 20, "distance_db": float("inf")})
    run = run_folder(tmp_path / "run", [*metrics, {"step": 21, "loss": float("nan")}])
    tonemill("report", run, "-o", tmp_path / "r.html", "-q").done()
    page = Page(tmp_path / "r.html")
    assert len(page.all(".lines")) == 1
    assert len(page.all(".clip")) == 2 + 2 + 2
    text = " ".join(page.text.split())
    assert "odd was not finite in any step." in text
    assert "distance_db was not finite in any step." in text
    assert "loss was not finite in some steps." in text
    assert "no checkpoint yet" in text


def test_several_stand_side_by_side(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path / name, [{"step": step, "loss": step * factor} for step in range(5)])
        for name, factor in (("one", 1), ("two", 3))
    ]
    tonemill("report", corpus, *runs, "-o", tmp_path / "r.html", "--clips", 3, "-q").done()
    page = Page(tmp_path / "r.html")
    assert len(page.all(".lines")) == 1
    assert len([one for one in page.all(".series") if "p1" in (one["class"] or "")]) == 1
    assert len([one for one in page.all(".series") if "p2" in (one["class"] or "")]) == 1
    assert page.text.count("How it came there") == 2


def test_large_places_are_sampled_within_a_budget(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    tonemill("report", corpus, "-o", target, "--clips", 60, "--megabytes", 0.2, "-q").done()
    assert target.stat().st_size < 0.2e6 + 120_000
    assert "more would make the page too large; --megabytes lets it grow." in Page(target).text


def test_bad_input_is_reported_and_never_fatal(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    soundfile.write(raw / "silent.wav", np.zeros(2000), RATE)
    tonemill("shard", tmp_path / "one", "-q", stdin=piped(["scan", raw, "-q"])).done()
    tonemill("report", tmp_path / "one", "-o", tmp_path / "one.html", "-q").done()
    text = " ".join(Page(tmp_path / "one.html").text.split())
    assert "It holds one example" in text
    assert "1 of 1 examples are silent." in text
    write_wav(raw / "b.wav", 3000)
    tonemill("shard", tmp_path / "two", "-q", stdin=piped(["scan", raw, "-q"])).done()
    # A shard was damaged later: the page shows the readable examples, and the reason for the others.
    tar = next((tmp_path / "two").rglob("*.tar"))
    data = tar.read_bytes()
    tar.write_bytes(bytes(len(data)))
    tonemill("report", tmp_path / "two", "-o", tmp_path / "two.html", "-q").done()
    assert "Cannot be played. unreadable" in " ".join(Page(tmp_path / "two.html").text.split())
    tar.unlink()
    tonemill("report", tmp_path / "two", "-o", tmp_path / "two.html", "-q").done()


def test_a_corpus_of_which_nothing_was_kept_shows_why(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "raw/a.wav", 1000)
    stream = piped(["scan", tmp_path / "raw", "-q"], ["filter", "--min-seconds", 9])
    tonemill("shard", tmp_path / "none", "-q", stdin=stream)
    ended = tonemill("report", tmp_path / "none", "-o", tmp_path / "r.html", "-q")
    if (tmp_path / "none/corpus.json").exists():
        ended.done()
        assert "It holds no examples." in " ".join(Page(tmp_path / "r.html").text.split())
        assert "too_short" in Page(tmp_path / "r.html").text
    else:
        ended.refused(1, "not finished")


def test_what_is_not_there_or_not_ours_is_refused(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    tonemill("report", tmp_path / "nowhere").refused(2, "does not exist")
    tonemill("report", tmp_path).refused(2, "neither a corpus, a run")
    mine = tmp_path / "mine.html"
    mine.write_text("<h1>mine</h1>")
    tonemill("report", corpus, "-o", mine).refused(1, "is not a report")
    assert mine.read_text() == "<h1>mine</h1>"
    tonemill("report", corpus, "-o", tmp_path).refused(1, "is a folder")
    run = run_folder(tmp_path / "run", [])
    tonemill("report", corpus, "--against", run, "-o", tmp_path / "r.html").refused(2, "name the corpus")
    tonemill("report", corpus, "--metrics", mine, "-o", tmp_path / "r.html").refused(2, "cannot be read")
    tonemill("report", "-", "-o", tmp_path / "r.html", stdin=b"{}").refused(2, "the pipe has no such line")
    assert not (tmp_path / "r.html").exists()


def test_the_pipe_names_the_place(tonemill: Tonemill, corpus: Path, tmp_path: Path) -> None:
    line = json.dumps({"corpus": str(corpus)}).encode()
    assert tonemill("report", "-", "-o", tmp_path / "r.html", "-q", stdin=line).done().line["places"] == 1


def test_an_installed_tonemill_has_the_page(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    words = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    ours = ROOT / "pipelines/reporting/templates"
    assert contents(tmp_path / "tonemill/pipelines/reporting/templates") == contents(ours)
