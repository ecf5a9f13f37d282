"""Preview: what a person gets to hear and see, and what is never touched."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from conftest import Tonemill, contents

from tonemill.audiotools.synthetic import loop

Piped = Callable[..., bytes]
RATE = 22050


def raw(folder: Path) -> Path:
    folder.mkdir()
    soundfile.write(folder / "a $1.wav", loop(120, 2, RATE)[0], RATE)
    soundfile.write(folder / "b.wav", loop(100, 1, RATE)[0], RATE)
    (folder / "c.wav").write_bytes(b"RIFF")
    return folder


def test_clips_pictures_and_a_page_that_plays_them(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    stream = piped(["scan", raw(tmp_path / "raw"), "-q"], ["loops", "--target-bpm", "120"])
    ended = tonemill("preview", tmp_path / "look", "--clips", 1, stdin=stream).done()
    assert {key: ended.line[key] for key in ("recipes", "clips", "refused")} == {"recipes": 3, "clips": 2, "refused": 1}
    assert "1 more not written" in ended.err
    assert "rejected by read" in ended.err
    page = (tmp_path / "look/index.html").read_text()
    links = re.findall(r'src="([^"]+)"', page)
    assert sorted(links) == sorted(name for name in contents(tmp_path / "look") if name.endswith((".wav", ".png")))
    assert "http" not in page
    for name in links:
        if name.endswith(".wav"):
            assert soundfile.info(tmp_path / "look" / name).frames == 2 * RATE
        else:
            assert (tmp_path / "look" / name).read_bytes().startswith(b"\x89PNG")


def test_pairs_have_a_player_for_each_side(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    for side in ("dry", "wet"):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "a.wav", np.tanh(3 * loop(120, 1, RATE)[0]), RATE)
    stream = piped(["pair", tmp_path / "dry", tmp_path / "wet", "-q"], ["align"])
    tonemill("preview", tmp_path / "look", "-q", stdin=stream).done()
    names = set(contents(tmp_path / "look"))
    assert {name for name in names if name.endswith(".wav")} == {"01-000.dry.wav", "01-000.wet.wav"}


def test_a_cut_stream_will_do_and_an_earlier_preview_is_replaced(
    tonemill: Tonemill, piped: Piped, tmp_path: Path
) -> None:
    stream = piped(["scan", raw(tmp_path / "raw"), "-q"])
    tonemill("preview", tmp_path / "look", "-q", stdin=stream).done()
    cut = stream.split(b"\n")[0] + b"\n"
    tonemill("preview", tmp_path / "look", "-q", stdin=cut).done()
    assert sum(name.endswith(".png") for name in contents(tmp_path / "look")) == 1


def test_what_is_not_ours_is_not_touched(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    stream = piped(["scan", raw(tmp_path / "raw"), "-q"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/song.wav").write_bytes(b"x")
    tonemill("preview", tmp_path / "mine", stdin=stream).refused(1, "no preview")
    tonemill("preview", tmp_path / "look", "-q", stdin=stream).done()
    (tmp_path / "look/song.wav").write_bytes(b"x")
    tonemill("preview", tmp_path / "look", stdin=stream).refused(1, "no preview")
    assert (tmp_path / "look/song.wav").read_bytes() == b"x"
    tonemill("preview", tmp_path / "none", stdin=b"").refused(1, "No recipe came through")
