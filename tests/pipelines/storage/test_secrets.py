"""Passwords, keys and signatures in URIs reach no plan, corpus, run, log, error or screen."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from conftest import Tonemill, contents, lines_of, stream_of

from tonemill.audiotools.errors import AudioError, OutputError, UsageError
from tonemill.audiotools.secrets import holds_secrets, without_secrets
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.storage.paths import readable, to_path, to_uri

SECRET = "hunter2"
URIS = [
    "s3://AKIAKEY:hunter2@bucket/kick.wav",
    "s3://AKIAKEY:hun/ter2hunter2@bucket/kick.wav",
    "https://user:hunter2@host/kick.wav",
    "https://hunter2@host/kick.wav",
    "HTTPS://user:hunter2@host:8080/a@b/kick.wav",
    "https://host/kick.wav?X-Amz-Signature=hunter2&X-Amz-Date=1",
    "https://host/kick.wav?a=1&X-Amz-Credential=hunter2",
    "https://host/kick.wav?AWSAccessKeyId=a&Signature=hunter2&Expires=1",
    "https://account.blob.core.windows.net/c/kick.wav?sv=2020&sig=hunter2%3D",
    "https://host/kick.wav?token=hunter2#top",
    "https://host/kick.wav#access_token=hunter2",
    "gs://host/kick.wav?x-goog-signature=hunter2",
    "hf://datasets/x/kick.wav?api_key=hunter2",
    "ftp://user:hunter2@host/kick.wav",
]
PLAIN = [
    "file:///home/me@work/kick.wav",
    "file:///a/b?token=x",
    "https://host/kick.wav?rate=8000",
    "https://host:8080/a@b/kick.wav",
    "s3://bucket/kick.wav",
    "loop&key=Am.wav",
    "https://host/?monkey=1",
    "a comment: see me@host",
    "12:/30@night",
]


@pytest.mark.parametrize("uri", URIS)
def test_a_secret_is_blotted_out_and_the_rest_stays(uri: str) -> None:
    shown = without_secrets(f"cannot read {uri!r}.")
    assert SECRET not in shown
    assert "***" in shown
    assert shown.startswith("cannot read '") and shown.endswith("'.")
    assert without_secrets(shown) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert not holds_secrets(text)


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("sink", ["shard", "write", "preview"])
def test_a_stream_with_a_secret_is_refused_and_leaves_nothing(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, uri: str, sink: str
) -> None:
    recipes = lines_of(plan)[:2]
    recipes[1]["sources"]["audio"]["uri"] = uri
    ended = tonemill(sink, tmp_path / "out", "-q", stdin=stream_of(recipes)).refused(1, "Line 2", "environment")
    assert SECRET not in ended.err + ended.out.decode()
    assert not any(SECRET.encode() in data for data in contents(tmp_path).values())


@pytest.mark.parametrize("place", ["field", "step", "path", "other", "escaped"])
def test_a_secret_anywhere_in_a_line_is_refused(tonemill: Tonemill, plan: bytes, tmp_path: Path, place: str) -> None:
    (recipe,) = lines_of(plan)[:1]
    if place == "field":
        recipe["fields"]["from"] = URIS[0]
    elif place == "step":
        recipe["steps"].append({"step": "render", "run_uri": URIS[0]})
    elif place == "path":
        recipe["path"] = URIS[0]
    elif place == "other":
        recipe["downloaded"] = {"from": [URIS[0]]}
    else:
        recipe["sources"]["audio"]["uri"] = URIS[0]
    stream = stream_of([recipe])
    if place == "escaped":
        stream = stream.replace(b"s3://", b"s3:\\/\\/")
    for words in (["shard", tmp_path / "out"], ["resample", "--rate", 8000], ["inspect", "-"], ["select"]):
        ended = tonemill(*words, stdin=stream).refused(1, "Line 1")
        assert SECRET not in ended.err + ended.out.decode()


@pytest.mark.parametrize("uri", URIS[:6])
def test_an_address_in_place_of_a_folder_is_refused_and_makes_none(
    tonemill: Tonemill, plan: bytes, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ["scan", uri],
        ["shard", uri],
        ["write", uri],
        ["open", uri],
        ["verify", uri],
        ["render", uri],
        ["train", "wavegan", uri, "-o", "run", "--steps", "1"],
        ["train", "wavegan", "corpus", "-o", uri, "--steps", "1"],
        ["scan", ".", "--table", uri],
        ["doctor", uri],
    ):
        ended = tonemill(*words, stdin=plan)
        assert ended.code == 2, (words, ended.err)
        assert SECRET not in ended.err + ended.out.decode()
    assert list(tmp_path.iterdir()) == []


def test_errors_and_progress_hold_no_secret() -> None:
    for error in (
        OutputError(f"{URIS[0]} is full"),
        UsageError(f"no {URIS[1]}"),
        AudioError("network", f"{URIS[2]} is away"),
    ):
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
    assert SECRET not in AudioError("network", URIS[0]).message
    shown = io.StringIO()
    progress = Progress(stream=shown, machine=shown)
    progress.say(URIS[0])
    progress.warn(URIS[2])
    with progress.phase(f"shard {URIS[5]}", 1.0) as phase:
        phase.advance(1.0)
    assert SECRET not in shown.getvalue()
    with pytest.raises(UsageError) as caught:
        to_path(URIS[0])
    assert SECRET not in str(caught.value)
    assert SECRET not in readable(URIS[0])


def test_a_step_that_fails_with_an_address_writes_none_into_the_rejects(tmp_path: Path) -> None:
    from tonemill.pipelines.cooking.cook import failed_encoding
    from tonemill.pipelines.recipes.example import Example

    outcome = failed_encoding(_outcome(), RuntimeError(f"403 for {URIS[5]}"))
    assert outcome.error is not None
    assert SECRET not in outcome.error.message
    assert Example({}).path == ""


def _outcome():  # type: ignore[no-untyped-def]
    from tonemill.pipelines.cooking.cook import Outcome
    from tonemill.pipelines.planning.plan import Planned, pack
    from tonemill.pipelines.recipes.example import Example

    return Outcome(Planned(0, "0" * 16, "a", 1, 1.0, pack("{}")), Example({}))


def test_a_corpus_made_before_is_shown_without_its_secrets(
    tonemill: Tonemill, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tonemill.pipelines.planning.plan import unpack
    from tonemill.pipelines.recipes import recipe

    (key, *_) = [
        json.loads(line)["sources"]["audio"]["key"] for line in tonemill("open", corpus).done().out.splitlines()[:1]
    ]
    monkeypatch.setattr(recipe, "holds_secrets", lambda text: False)

    def old(packed: bytes) -> recipe.Recipe:
        made = recipe.recipe_of(unpack(packed))
        made.sources["audio"]["uri"] = URIS[0]
        return made

    # Below the cache of recipes that are unpacked.
    monkeypatch.setattr("tonemill.pipelines.planning.plan._unpacked", old)
    for words in (["trace", corpus, key], ["trace", corpus, key, "--json"]):
        ended = tonemill(*words).done()
        assert SECRET not in ended.err + ended.out.decode()
        assert "***" in ended.out.decode()


def test_paths_with_signs_in_their_names_are_no_addresses(tmp_path: Path) -> None:
    for name in ("me@work", "a:b@c", "x?token=1", "s3:x"):
        path = tmp_path / name / "kick.wav"
        assert to_path(to_uri(path)) == path
        assert not holds_secrets(to_uri(path))
        assert readable(str(path)) == str(path)
