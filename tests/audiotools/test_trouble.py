"""What each error number, status and code means: every entry of the table, and what stands in none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tonemill.audiotools.codecs import sndfile
from tonemill.audiotools.errors import AudioError, Doubtful, MachineError, Settled
from tonemill.audiotools.reject_reasons import REASONS, TRANSIENT
from tonemill.audiotools.trouble import CODES, ERRNOS, STATUSES, Kind, meaning_of_answer, unopenable

# Typed here once more, so that an entry cannot change unseen.
EXPECTED = {
    "ENOENT": (Kind.ABSENT, "missing"),
    "ENOTDIR": (Kind.ABSENT, "missing"),
    "EACCES": (Kind.ABSENT, "forbidden"),
    "EPERM": (Kind.ABSENT, "forbidden"),
    "ELOOP": (Kind.FINAL, "missing"),
    "ENAMETOOLONG": (Kind.FINAL, "missing"),
    "EISDIR": (Kind.FINAL, "unreadable"),
    **dict.fromkeys(["ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ENOMEM", "EMFILE", "ENFILE"], (Kind.MACHINE, "")),
}
PASSING = [name for name in sorted(errno.errorcode.values()) if name not in EXPECTED and hasattr(errno, name)]


@pytest.mark.parametrize("name", [*EXPECTED, *PASSING])
def test_an_error_number_has_one_meaning(name: str) -> None:
    number = getattr(errno, name)
    kind, reason = EXPECTED.get(name, (Kind.TRANSIENT, "network"))
    error = OSError(number, os.strerror(number), "/some/where.wav")
    if kind is Kind.MACHINE:
        with pytest.raises(MachineError, match=r"/some/where\.wav") as ended:
            unopenable(error)
        assert os.strerror(number) in str(ended.value) and "repeat the command" in str(ended.value)
        return
    found = unopenable(error)
    assert found.reason == reason and isinstance(found, Settled) == (kind is Kind.FINAL)
    assert (reason in TRANSIENT) == (kind is Kind.TRANSIENT)


def test_nothing_else_is_in_the_table() -> None:
    assert {errno.errorcode[number] for number in ERRNOS} == set(EXPECTED)
    assert all(meaning.reason in REASONS for meaning in (*STATUSES.values(), *CODES.values()))


@pytest.mark.parametrize("status", range(300, 600))
def test_a_status_has_one_meaning(status: int) -> None:
    expected = {
        401: (Kind.ABSENT, "forbidden"),
        403: (Kind.ABSENT, "forbidden"),
        404: (Kind.ABSENT, "missing"),
        410: (Kind.FINAL, "missing"),
        451: (Kind.FINAL, "forbidden"),
    }
    assert tuple(meaning_of_answer(status)) == expected.get(status, (Kind.TRANSIENT, "network"))


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed"])
@pytest.mark.parametrize("status", [400, 403])
def test_who_we_are_is_no_fact_about_an_object(code: str, status: int) -> None:
    assert meaning_of_answer(status, code) == (Kind.TRANSIENT, "identity")


def test_a_code_goes_before_its_status() -> None:
    assert meaning_of_answer(403, "AccessDenied").kind is Kind.ABSENT
    assert meaning_of_answer(503, "NoSuchKey").reason == "missing"
    assert meaning_of_answer(403, "SomethingNew") == meaning_of_answer(403)
    assert meaning_of_answer(None, "SomethingNew") == (Kind.TRANSIENT, "network")


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, Doubtful), (errno.EMFILE, MachineError)])
def test_libsndfile_s_system_error_is_what_the_disk_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """libsndfile has one code for every system error when it opens a file; opening the file again gives the reason."""
    import soundfile

    path = tmp_path / "a.wav"
    soundfile.write(path, [0.0] * 100, 8000)
    assert sndfile.probe(path, ())[2] == 100

    class Failing:
        def __init__(self, *_: object) -> None:
            raise soundfile.LibsndfileError(sndfile.SYSTEM_ERROR)

    opened = Path.open

    def refusing(self: Path, *given: object, **named: object) -> object:
        if self == path:
            raise OSError(number, os.strerror(number), str(path))
        return opened(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(soundfile, "SoundFile", Failing)
    # Where the disk gives the bytes, the file may be at fault, and is tried once more before that is final.
    with pytest.raises(Doubtful) as passing:
        sndfile.probe(path, ())
    assert passing.value.reason == "unreadable"
    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(kind) as found:
        sndfile.probe(path, ())
    assert not isinstance(found.value, AudioError) or found.value.reason == "network"
