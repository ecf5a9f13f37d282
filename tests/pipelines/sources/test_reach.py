"""Whether a failure is of one source or everything: by what else can be read, and what is left of folders."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from tonemill.audiotools.errors import Doubtful, MachineError, Settled
from tonemill.pipelines.sources.reach import MOST_SOURCES, Reach, Source, neighbourhood
from tonemill.pipelines.storage.paths import to_uri
from tonemill.pipelines.storage.stores import MOST_SECONDS

MISSING = Doubtful("missing", "there is no such file")


def source(path: Path, root: Path) -> Source:
    return Source(to_uri(path), str(path.relative_to(root)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file that can be read and a folder from which one is missing."""
    for name in ("good.wav", "in/other.txt"):
        (tmp_path / "vol" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "vol" / name).write_text("something")
    return tmp_path / "vol"


def test_a_file_is_missing_where_its_neighbours_can_be_read(root: Path) -> None:
    gone, good = source(root / "in" / "gone.wav", root), source(root / "good.wav", root)
    # Nothing else is known of the folder.
    alone = Reach().verdict(gone, MISSING, time.monotonic())
    assert alone.reason == "unreachable" and isinstance(alone, Doubtful)
    reach = Reach()
    since = time.monotonic()
    reach.read(good)
    verdict = reach.verdict(gone, MISSING, since)
    assert verdict.reason == "missing" and not isinstance(verdict, Doubtful)


def test_what_was_read_before_is_read_again_for_a_verdict(root: Path) -> None:
    gone, good = source(root / "in" / "gone.wav", root), source(root / "good.wav", root)
    reach = Reach()
    reach.read(good)
    assert reach.verdict(gone, MISSING, time.monotonic()).reason == "missing"
    (root / "good.wav").rename(root / "elsewhere.wav")
    assert reach.verdict(gone, MISSING, time.monotonic()).reason == "unreachable"
    reach.among(lambda: [source(root / "elsewhere.wav", root)])
    assert reach.verdict(gone, MISSING, time.monotonic()).reason == "missing"


@pytest.mark.parametrize("left", ["root gone", "root empty", "folder empty"])
def test_a_folder_that_is_gone_or_empty_may_be_a_disk_that_is_not_mounted(root: Path, left: str) -> None:
    gone = source(root / "in" / "gone.wav", root)
    reach = Reach()
    reach.read(Source(to_uri(root / "good.wav"), "good.wav"))
    shutil.rmtree(root / "in" if left == "folder empty" else root)
    if left != "root gone":
        (root / "in" if left == "folder empty" else root).mkdir()
    verdict = reach.verdict(gone, MISSING, 0.0)
    assert verdict.reason == "unreachable" and "mounted" in verdict.message


def test_a_link_is_judged_by_its_target(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (root / "link.wav").symlink_to(tmp_path / "disk" / "a.wav")
    link, good = source(root / "link.wav", root), source(root / "good.wav", root)
    reach = Reach()
    reach.read(good)
    # The folder of links can be read; the disk of the targets is not there.
    assert reach.verdict(link, MISSING, 0.0).reason == "unreachable"
    (tmp_path / "disk" / "b.wav").write_text("something")
    (root / "other.wav").symlink_to(tmp_path / "disk" / "b.wav")
    reach.read(source(root / "other.wav", root))
    assert reach.verdict(link, MISSING, 0.0).reason == "missing"


def test_what_is_a_fact_needs_no_neighbour(root: Path) -> None:
    verdict = Reach().verdict(source(root / "a.wav", root), Settled("missing", "gone for good"), 0.0)
    assert verdict.reason == "missing" and not isinstance(verdict, Doubtful)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/a/b.wav", "s3://bucket"),
        ("gs://other/x", "gs://other"),
        ("https://host:8443/a?b=1", "https://host:8443"),
    ],
)
def test_neighbours_share_a_bucket_or_a_host(uri: str, place: str) -> None:
    assert neighbourhood(Source(uri, "x")) == place


def test_ten_sources_without_a_success_end_a_process(root: Path) -> None:
    reach, down = Reach(), Doubtful("network", "ServiceUnavailable (503)")
    for number in range(MOST_SOURCES - 1):
        reach.failed(Source(f"s3://bucket/{number}.wav", f"{number}.wav"), down, 0.1)
        # The same source again is not another one.
        reach.failed(Source("s3://bucket/0.wav", "0.wav"), down, 0.1)
    with pytest.raises(MachineError) as ended:
        reach.failed(Source("s3://bucket/last.wav", "last.wav"), down, 0.1)
    for word in (socket.gethostname(), "s3://bucket/last.wav", "ServiceUnavailable (503)"):
        assert word in str(ended.value)
    reach.read(source(root / "good.wav", root))
    reach.failed(Source("s3://bucket/last.wav", "last.wav"), down, 0.1)


def test_a_minute_without_a_success_ends_a_process() -> None:
    reach, down = Reach(), Doubtful("network", "nothing came")
    reach.failed(Source("s3://bucket/a.wav", "a.wav"), down, MOST_SECONDS / 2)
    assert reach.seconds_left() == pytest.approx(MOST_SECONDS / 2)
    with pytest.raises(MachineError, match="60 s"):
        reach.failed(Source("s3://bucket/a.wav", "a.wav"), down, MOST_SECONDS / 2)


def test_many_missing_files_end_nothing_where_another_can_be_read(root: Path) -> None:
    reach = Reach()
    reach.among(lambda: [source(root / "good.wav", root)])
    for number in range(3 * MOST_SOURCES):
        reach.failed(source(root / f"{number}.wav", root), MISSING, 0.0)
    reach = Reach()
    with pytest.raises(MachineError):
        for number in range(MOST_SOURCES):
            reach.failed(source(root / f"{number}.wav", root), MISSING, 0.0)


def test_a_clock_that_is_off_is_named() -> None:
    reach, skewed = Reach(), Doubtful("identity", "the store does not accept who we are: RequestTimeTooSkewed (403)")
    with pytest.raises(MachineError, match=r"RequestTimeTooSkewed.*clock of this machine shows .* UTC"):
        for number in range(MOST_SOURCES):
            reach.failed(Source(f"s3://bucket/{number}", str(number)), skewed, 0.0)
