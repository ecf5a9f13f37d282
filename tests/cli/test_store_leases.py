"""One command at a time writes to a folder of a store: leases of this machine and of others."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from buckets import Wire, bucket

pytest.importorskip("s3fs", reason="stores need tonemill[s3]")
pytest.importorskip("moto", reason="tests of stores need tonemill[test]")

from tonemill.pipelines.storage import leases
from tonemill.pipelines.storage.store_path import StorePath

HOLDING = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def lease_of(folder: StorePath, tmp_path: Path, **record: object) -> StorePath:
    """Another's lease, put now."""
    (tmp_path / "lease").write_text(json.dumps({"host": "elsewhere", "pid": 1, **record}))
    lease = folder / leases.LEASES / "alone-0.json"
    lease.put(tmp_path / "lease")
    return lease


def test_on_one_machine_a_lease_lives_as_long_as_its_lock(s3: Wire, tmp_path: Path) -> None:
    folder, boot = bucket("leased"), leases.BOOT.read_text().strip()
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        # Neither the host nor the number of the process is looked at: containers share them.
        other = lease_of(folder, tmp_path, boot=boot, file=str(lock))
        with leases.leased(folder, together=False) as found:
            assert found == other
        holder.kill()
    begun = time.monotonic()
    with leases.leased(folder, together=False) as found:
        assert found is None and not other.is_file()
    assert time.monotonic() - begun < 1
    assert not folder.below()


@pytest.mark.parametrize("record", [{}, {"boot": "another", "file": "/tmp"}], ids=["of before", "elsewhere"])
def test_another_machine_s_lease_is_watched(
    s3: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, str]
) -> None:
    # This store has times in whole seconds.
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.9)
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.2)
    folder, messages = bucket("watched"), []
    other = lease_of(folder, tmp_path, **record)
    with leases.leased(folder, together=False, say=messages.append) as found:
        assert found is None and not other.is_file()
    assert len(messages) == 1 and "may be writing to" in messages[0]
    lease_of(folder, tmp_path, **record)
    renewing = threading.Timer(1.2, lease_of, (folder, tmp_path), record)
    renewing.start()
    with leases.leased(folder, together=False) as found:
        assert found == other
    renewing.join()
    other.unlink()


def test_a_lease_is_renewed_while_it_is_held(s3: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.9)
    folder = bucket("renewed")
    with leases.leased(folder, together=False) as first:
        assert first is None
        (mine,) = folder.below()
        put = mine.entry().modified_ns
        time.sleep(2.1)
        assert mine.entry().modified_ns > put
    assert not folder.below()
