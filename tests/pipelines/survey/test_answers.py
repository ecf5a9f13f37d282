"""What is handed over is read within bounds, held against the study, merged, and never a rehearsal."""

from __future__ import annotations

import copy
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, contents
from listeners import answers_to

from tonemill.pipelines.survey.answers import MOST_BYTES, NotAnswers, read_session
from tonemill.pipelines.survey.server import server_of
from tonemill.pipelines.survey.study import Study, open_study

from .conftest import Make

Change = Callable[[dict[str, Any]], Any]


def changed(study: Study, change: Change) -> str:
    record = answers_to(study)
    change(record)
    return json.dumps(record)


WRONG: dict[str, tuple[Change, str]] = {
    "another study": (lambda one: one.update(study="0" * 64), "another study"),
    "another consent": (lambda one: one["consent"].update(digest="0" * 64), "another consent text"),
    "a session with a path": (lambda one: one.update(session="../../../../etc/passwd"), "session"),
    "a listener of text": (lambda one: one.update(listener="1"), "listener number"),
    "another listener's order": (lambda one: one.update(listener=2), "study gives listener 2"),
    "a score beyond the scale": (lambda one: one["trials"][5]["answers"].update(quality=6), "does not have"),
    "half a point": (lambda one: one["trials"][5]["answers"].update(quality=2.5), "does not have"),
    "yes": (lambda one: one["trials"][5]["answers"].update(quality=True), "does not have"),
    "another question": (lambda one: one["trials"][5]["answers"].update(mood=3), "does not have"),
    "a clip of no study": (lambda one: one["trials"][5].update(clip="x"), "trial 6"),
    "more trials": (lambda one: one["trials"].append(one["trials"][0]), "must be a list"),
    "trials of text": (lambda one: one.update(trials="x"), "must be a list"),
    "facts of numbers": (lambda one: one["facts"].update(alias=3), "alias"),
    "endless seconds": (lambda one: one["trials"][5].update(seconds=1e300), "seconds"),
    "a rehearsal": (lambda one: one.update(simulated=True), "rehearsal"),
    "a rehearsal that denies it": (lambda one: one.update(simulated=False), "rehearsal"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answers_to_this_study_is_refused(study: Study, name: str) -> None:
    change, words_shown = WRONG[name]
    with pytest.raises(NotAnswers, match=words_shown):
        read_session(changed(study, change), study)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", "[" * 100_000, "x" * (MOST_BYTES + 1), '{"tonemill_survey": 1}']
)
def test_what_is_no_answers_at_all_is_refused(study: Study, text: str) -> None:
    with pytest.raises(NotAnswers):
        read_session(text, study)


def test_unfinished_answers_count_as_far_as_they_go(study: Study) -> None:
    record = answers_to(study)
    record["trials"] = record["trials"][:10]
    del record["trials"][9]["answers"]["quality"]
    record["finished"] = None
    found = read_session(json.dumps(record), study)
    assert len(found["trials"]) == 9
    # What was read is read again as the same.
    assert read_session(json.dumps(found), study) == found


def test_control_characters_are_taken_out_and_texts_are_cut(study: Study) -> None:
    found = read_session(json.dumps(answers_to(study, comment="a\x1b[31mb" + "c" * 9000)), study)
    assert found["comment"].startswith("a[31mb") and len(found["comment"]) <= 2000


def test_missed_attention_is_counted(study: Study) -> None:
    record = answers_to(study)
    missed = next(one for one in record["trials"] if one["kind"] == "attention")
    missed["answers"]["quality"] = 1 if missed["answer"] != 1 else 2
    assert read_session(json.dumps(record), study)["attention_missed"] == 1


def test_files_are_merged_and_the_fullest_of_a_session_stays(
    make_study: Make, tonemill: Tonemill, tmp_path: Path
) -> None:
    study = make_study("--clips", 2)
    begun = answers_to(study, 1)
    begun["trials"] = begun["trials"][:5]
    for name, record in (("a.json", answers_to(study, 1)), ("b.json", begun), ("c.txt", answers_to(study, 2))):
        (tmp_path / name).write_text("\n" + json.dumps(record) + "\n")
    (tmp_path / "d.json").write_text("nothing")
    (tmp_path / "e.md").write_text("not looked at")
    ended = tonemill("survey", "collect", study.files.folder, tmp_path).done()
    assert ended.line["sessions"] == 2 and list(ended.line["refused"]) == [str(tmp_path / "d.json")]
    assert "d.json: it is no JSON" in ended.err
    again = tonemill("survey", "collect", study.files.folder, tmp_path / "b.json").done().line
    assert (again["sessions"], again["new"]) == (2, 0)
    kept = json.loads(study.files.collected.read_text())["sessions"]
    assert sorted(len(one["trials"]) for one in kept) == [len(study.plan["orders"][0]), len(study.plan["orders"][1])]
    tonemill("survey", "collect", study.files.folder, tmp_path / "d.json").refused(2, "No answers", "it is no JSON")
    tonemill("survey", "collect", study.files.folder, tmp_path / "none").refused(2, "no file or folder")
    tonemill("survey", "collect", tmp_path, tmp_path).refused(2, "is not the folder of a study", "tonemill survey make")


def test_rehearsed_answers_are_never_collected_marked_or_not(
    make_study: Make, tonemill: Tonemill, tmp_path: Path
) -> None:
    study = make_study("--clips", 2)
    tonemill("survey", "analyse", study.files.folder, "--rehearsal").refused(2, "no rehearsal", "survey simulate")
    tonemill("survey", "simulate", study.files.folder, "--listeners", 3, "-q").done()
    assert "simulated" in study.files.rehearsal.read_text()
    tonemill("survey", "collect", study.files.folder, study.files.rehearsal).refused(2, "survey simulate")
    session = json.loads(study.files.rehearsal.read_text())["sessions"][0]
    unmarked = copy.deepcopy(session)
    del unmarked["simulated"]
    for record in (session, unmarked):
        (tmp_path / "one.json").write_text(json.dumps(record))
        tonemill("survey", "collect", study.files.folder, tmp_path / "one.json").refused(2, "survey simulate")
    assert not study.files.collected.exists()
    tonemill("survey", "analyse", study.files.folder).refused(2, "Nothing was collected", "tonemill survey collect")
    # Nor are collected answers taken for a rehearsal.
    study.files.rehearsal.write_text(json.dumps({"simulated": True, "study": study.digest, "sessions": []}))
    tonemill("survey", "analyse", study.files.folder, "--rehearsal").refused(2, "no rehearsal")


@pytest.fixture
def served(make_study: Make) -> Iterator[tuple[Study, int]]:
    study = make_study("--clips", 2)
    server = server_of(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield study, int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, response.read(), response.headers
    connection.close()
    return found


def test_the_server_hands_out_the_study_and_nothing_else(served: tuple[Study, int]) -> None:
    study, port = served
    assert ask(port, "GET", "/index.html?listener=3")[1] == study.files.page.read_bytes()
    clip = next(iter(study.plan["clips"]))
    assert ask(port, "GET", f"/clips/{clip}.js")[1] == (study.files.clips / f"{clip}.js").read_bytes()
    assert [ask(port, "GET", "/")[2]["Location"] for _ in range(2)] == [
        "/index.html?listener=1",
        "/index.html?listener=2",
    ]
    for path in (
        "/study.json",
        "/../study.key.json",
        "/clips/../../study.key.json",
        "/clips/",
        "/answers",
        "//etc/passwd",
    ):
        assert ask(port, "GET", path)[0] == 404, path


def test_the_server_stores_answers_under_numbers_of_its_own(served: tuple[Study, int], tonemill: Tonemill) -> None:
    study, port = served
    body = json.dumps(answers_to(study, 1)).encode()
    assert ask(port, "POST", "/answers", body, Content_Type="application/json")[0] == 204
    assert ask(port, "POST", "/answers", json.dumps(answers_to(study, 2)).encode())[0] == 204
    assert sorted(contents(study.files.answers)) == ["answers-000001.json", "answers-000002.json"]
    assert tonemill("survey", "collect", study.files.folder, study.files.answers, "-q").done().line["sessions"] == 2
    # The next listener's number goes on after those who have answered.
    assert ask(port, "GET", "/")[2]["Location"] == "/index.html?listener=3"


def test_the_server_refuses_what_is_no_answers(served: tuple[Study, int]) -> None:
    study, port = served
    body = json.dumps(answers_to(study, 1)).encode()
    assert ask(port, "POST", "/answers", b"{}")[0] == 400
    assert ask(port, "POST", "/answers/../../x", body)[0] == 404
    assert ask(port, "POST", "/answers", body, Origin="http://elsewhere.example")[0] == 403
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/answers")
    connection.putheader("Content-Length", str(MOST_BYTES + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/answers")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    assert ask(port, "PUT", "/answers", body)[0] == 501
    assert not study.files.answers.exists()


def test_a_taken_port_is_named(served: tuple[Study, int], tonemill: Tonemill) -> None:
    study, port = served
    tonemill("survey", "serve", study.files.folder, "--port", port).refused(1, f"Port {port} is taken", "--port 0")
    tonemill("survey", "serve", study.files.folder, "--host", "nowhere.invalid").refused(2, "nowhere.invalid")
    assert open_study(study.files.folder).digest == study.digest
