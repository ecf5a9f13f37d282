"""What this machine offers a pipeline: room, handles, memory, cores, devices, and a runner that runs."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tonemill.pipelines.doctor.checks import Found, Trying, attempt
from tonemill.pipelines.doctor.installation import WITHOUT_MODELS, version_of
from tonemill.pipelines.doctor.store import store
from tonemill.pipelines.storage.copies import describe_locks
from tonemill.pipelines.storage.paths import as_store, place

GIB: Final = 1 << 30
LITTLE_ROOM: Final = 5 * GIB
LITTLE_FILES: Final = 1024
"""Handles below which many workers, or a cluster's runner, may run out."""

WORKER_MEMORY: Final = GIB
"""What a worker may take while it cooks, with a step that must see a whole file; most take a fifth of it."""


def folder(folder: Path) -> Iterator[Found]:
    """The folder that output is to go to, or the nearest one above it that is there."""
    if (remote := as_store(place(folder))) is not None:
        yield from store(remote)
        return
    yield from _locks(folder)
    yield from _room(folder, f"tonemill doctor {shlex.quote('/another/disk')}")


def temporary(folder: Path) -> Iterator[Found]:
    """Where Beam, pip and PyTorch put what they need for a moment."""
    mend = "export TMPDIR=/a/folder/with/room"
    try:
        there = Path(tempfile.gettempdir())
    except OSError as error:
        yield Found("broken", f"there is no temporary folder that can be written: {error.strerror or error}", mend)
        return
    yield from _room(there, mend)
    with contextlib.suppress(OSError):
        if lacking := describe_locks(there):
            yield Found(
                "warning", f"{there}: {lacking}, so temporary files of killed commands are not deleted there", mend
            )


def _locks(folder: Path) -> Iterator[Found]:
    """Whether two commands on one folder see each other."""
    with contextlib.suppress(OSError):
        if folder.is_dir() and (lacking := describe_locks(folder)):
            found = f"{folder}: {lacking}, so two commands could write to one folder at once"
            yield Found("broken", found, f"tonemill doctor {shlex.quote('/another/disk')}")


def _room(folder: Path, elsewhere: str) -> Iterator[Found]:
    there = Path(os.path.abspath(folder))  # noqa: PTH100  (a link may lead to another disk)
    while not there.is_dir() and there != there.parent:
        if os.path.lexists(there):
            yield Found("broken", f"{there} is no folder", f"ls -l {shlex.quote(str(there))}")
            return
        there = there.parent
    name = str(there).encode(errors="backslashreplace").decode()
    try:
        _try_to_write(there)
    except OSError as error:
        yield Found("broken", f"{name} cannot be written to: {error.strerror or error}", elsewhere)
        return
    free = shutil.disk_usage(there).free
    found = f"{name} has {free / GIB:.1f} GiB free"
    yield Found("ok", found) if free >= LITTLE_ROOM else Found("warning", found, elsewhere)
    left = os.statvfs(there)
    if left.f_files and left.f_favail < 10_000:
        yield Found("warning", f"{name} has room for {left.f_favail} more files, however small", elsewhere)


def _try_to_write(folder: Path) -> None:
    """Do what a commit does: write, sync, rename."""
    with tempfile.TemporaryDirectory(prefix=".tonemill-part-", dir=folder) as place:
        with (Path(place) / "one").open("wb") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
        (Path(place) / "one").replace(Path(place) / "two")


def open_files(folder: Path) -> Iterator[Found]:
    """How many files a process may hold open, and how long one may be."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "any number of" if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < LITTLE_FILES:
        reach = LITTLE_FILES * 4 if hard == resource.RLIM_INFINITY else min(hard, LITTLE_FILES * 4)
        found = f"a process may hold {soft} files open; at least {LITTLE_FILES} are recommended"
        yield Found("warning", found, f"ulimit -n {reach}" if reach > soft else "sudo prlimit --nofile=4096 --pid $$")
    else:
        yield Found("ok", f"a process may hold {'any number of' if soft < 0 else soft} files open, and ask for {most}")
    longest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if longest != resource.RLIM_INFINITY and longest < 4 * GIB:
        yield Found("warning", f"no file may be longer than {longest / GIB:.2f} GiB", "ulimit -f unlimited")


def memory(folder: Path) -> Iterator[Found]:
    """What is free now, of the machine or of the container."""
    free, of = free_memory()
    if free is None:
        yield Found("ok", "the free memory of this system cannot be read")
        return
    workers = cpus()
    enough = max(1, min(workers, free // WORKER_MEMORY))
    found = f"{free / GIB:.1f} GiB of memory are free{of}"
    if enough < workers:
        found += f"; {workers} workers, one per core, may want {workers * WORKER_MEMORY / GIB:.0f}"
        yield Found("warning", found, f"tonemill shard CORPUS --workers {enough}")
    else:
        yield Found("ok", found)


def free_memory() -> tuple[int | None, str]:
    """Bytes that could be had, and whose they are where a container sets the limit."""
    free: int | None = None
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    if free is None and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        most, now = (next(iter(_lines(place)), "") for place in (limit, used))
        if most.isdigit() and now.isdigit() and (free is None or int(most) - int(now) < free):
            return max(0, int(most) - int(now)), " in this container"
    return free, ""


def cores(folder: Path) -> Iterator[Found]:
    """Cores that this process may use, against what a container grants."""
    count, granted = cpus(), granted_cpus()
    if granted is not None and granted < count:
        fewer = max(1, math.ceil(granted))
        found = f"{count} cores, of which this container may use {granted:g}"
        yield Found("warning", found, f"tonemill shard CORPUS --workers {fewer}")
    else:
        yield Found("ok", f"{count} cores, and as many workers")
    if (os.cpu_count() or 1) > count:
        yield Found(
            "warning",
            f"this process may use {count} of {os.cpu_count()} cores, and would start {os.cpu_count()} workers",
            f"tonemill shard CORPUS --workers {count}",
        )


def cpus() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def granted_cpus() -> float | None:
    """What a Linux container may use of its cores, in cores; None where nothing limits it."""
    words = next(iter(_lines("/sys/fs/cgroup/cpu.max")), "").split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _lines(place: str) -> list[str]:
    try:
        return Path(place).read_text().splitlines()
    except (OSError, ValueError):
        return []


def devices(folder: Path) -> Iterator[Found | Trying]:
    """Where models can compute; each device multiplies two matrices."""
    reinstall = "pip install --force-reinstall torch"
    if version_of("torch") is None:
        yield Found("absent", f"torch: {WITHOUT_MODELS}", "pip install tonemill")
        return
    yield Trying("import torch", reinstall)
    import torch

    yield from attempt(f"cpu, torch {torch.__version__}", reinstall, lambda: _computes("cpu"))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(number)
            yield from attempt(
                f"cuda:{number}, {name}",
                "nvidia-smi",
                lambda device=f"cuda:{number}": _computes(device),  # type: ignore[misc]
            )
    elif Path("/dev/nvidiactl").exists():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        found = f"cuda: there is an NVIDIA GPU, but the installed PyTorch is built for {built} and cannot use it"
        yield Found("warning", found, "nvidia-smi" if torch.version.cuda else reinstall)
    else:
        yield Found("absent", "cuda: no NVIDIA GPU; small models can be trained with --device cpu")
    if sys.platform == "darwin":
        if torch.backends.mps.is_available():
            yield from attempt("mps", reinstall, lambda: _computes("mps"))
        else:
            yield Found("absent", "mps: not available on this Mac or in this PyTorch")


def _computes(device: str) -> str:
    import torch

    left, right = (torch.linspace(-1, 1, 64 * 64).reshape(64, 64).roll(shift) for shift in (0, 7))
    error = float(((left.to(device) @ right.to(device)).cpu() - left @ right).abs().max())
    if not error < 1e-2:
        raise ArithmeticError(f"a matrix product has an error of {error:.2g}")
    return f"{torch.get_num_threads()} threads" if device == "cpu" else "computes"


def runner(folder: Path) -> Iterator[Found | Trying]:
    """Beam's local runner runs a graph in a worker process: numbers in, a committed file each."""
    mend = "pip install --force-reinstall apache-beam"
    yield Trying("import apache_beam", mend)
    import apache_beam

    yield from attempt(f"apache_beam {apache_beam.__version__}, local runner", mend, _runs_a_graph)


def _runs_a_graph() -> str:
    """All of it: a server that forks a worker, whose graph makes files that count when they are committed."""
    from tonemill.pipelines.engine import engine

    numbers = range(4)
    with tempfile.TemporaryDirectory(prefix="tonemill-doctor-") as place:
        home = Path(place)
        engine.run(
            home,
            lambda: [number for number in numbers if not (home / str(number)).exists()],
            engine.Engine(workers=2, options=("--direct_running_mode=in_memory",)),
            lambda *_: None,
            f"{__name__}:{write_number.__name__}",
        )
    return f"{len(numbers)} of {len(numbers)} elements done"


def write_number(home: Path, number: int) -> None:
    """The work of the tiny graph; a function of a module, for workers import it."""
    from tonemill.pipelines.storage import commit

    with commit.pending(home / str(number)) as file:
        file.write(b"done")
