"""What is installed, and whether it works: packages, their versions, codecs, extras and plug-ins."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.doctor.checks import REINSTALL, Found, Trying, attempt

OLDEST_PYTHON: Final = (3, 11)
FOR_DEVELOPERS: Final = frozenset({"test"})
"""Extras that only developers of tonemill need."""

FOR_MODELS: Final = frozenset({"torch", "einops", "safetensors", "tensorboard"})
"""Packages that only train, render and evaluate need; a machine that only cuts audio does without."""

WITHOUT_MODELS: Final = "not installed: corpora can be made here, but train, render and evaluate do not work"

TESTED: Final = "constraints.txt"
_SEPARATORS: Final = re.compile(r"[-_.]+")


def python(folder: Path) -> Iterator[Found]:
    """The interpreter, and how it spells names."""
    found = f"Python {sys.version.split()[0]} on {sys.platform}"
    if sys.version_info < OLDEST_PYTHON:
        yield Found("broken", f"{found}; tonemill needs 3.11 or newer", "python3.11 -m venv .venv")
    else:
        yield Found("ok", found)
    encoding = sys.getfilesystemencoding().lower()
    if encoding.replace("-", "") != "utf8":
        yield Found(
            "warning", f"file names are encoded in {encoding} here, and recipes are UTF-8", "export PYTHONUTF8=1"
        )


def packages(folder: Path) -> Iterator[Found]:
    """Every package that tonemill needs, against the versions that it takes."""
    needed = [one for one in requirements() if one.marker is None or one.marker.evaluate({"extra": ""})]
    right, lacking = 0, [one.name for one in needed if one.name in FOR_MODELS and version_of(one.name) is None]
    if "torch" in lacking:
        yield Found("absent", f"{', '.join(lacking)} {WITHOUT_MODELS}", "pip install tonemill")
        needed = [one for one in needed if one.name not in lacking]
    for one in needed:
        version = version_of(one.name)
        if version is None:
            yield Found("broken", f"{one.name} is not installed", f"pip install '{_typed(one)}'")
        elif not one.specifier.contains(version, prereleases=True):
            expected = f"tonemill needs {one.name} {one.specifier}"
            yield Found("broken", f"{one.name} {version} is installed; {expected}", f"pip install '{_typed(one)}'")
        else:
            right += 1
    if right == len(needed):
        yield Found("ok", f"tonemill {version_of('tonemill')} and the {right} packages that it needs")


def tested_set(folder: Path) -> Iterator[Found]:
    """Versions against those that all tests passed with."""
    tested = tested_versions()
    if not tested:
        yield Found("warning", f"the list of tested versions, {TESTED}, is not in the installation", REINSTALL)
        return
    direct = {_plain(one.name) for one in requirements()}
    here = {name: version for name in sorted(direct & tested.keys()) if (version := version_of(name)) is not None}
    # `2.13.0+cu126` is 2.13.0, built for a device.
    other = {name: version for name, version in here.items() if version.split("+")[0] != tested[name].split("+")[0]}
    if not other:
        yield Found("ok", f"the versions of all {len(here)} packages are the tested ones")
        return
    found = ", ".join(f"{name} {version} (tested {tested[name]})" for name, version in other.items())
    pins = " ".join(f"'{name}=={tested[name]}'" for name in other)
    yield Found(
        "warning",
        f"versions other than the tested ones: {found}; files made here may differ in their bytes",
        f"pip install {pins}",
    )


def extras(folder: Path) -> Iterator[Found]:
    """Optional packages."""
    names = importlib.metadata.metadata("tonemill").get_all("Provides-Extra") or []
    for extra in sorted(set(names) - FOR_DEVELOPERS):
        wanted = [
            one for one in requirements() if one.marker and one.marker.evaluate({"extra": extra}) and not _always(one)
        ]
        missing = [one.name for one in wanted if version_of(one.name) is None]
        mend = f"pip install 'tonemill[{extra}]'"
        if missing:
            yield Found("absent", f"{extra}: {', '.join(missing)} not installed", mend)
            continue
        old = [one for one in wanted if not one.specifier.contains(str(version_of(one.name)), prereleases=True)]
        for one in old:
            expected = f"tonemill[{extra}] needs {one.specifier}"
            yield Found("broken", f"{one.name} {version_of(one.name)} is installed; {expected}", mend)
        if not old:
            yield Found("ok", f"{extra}: {', '.join(f'{one.name} {version_of(one.name)}' for one in wanted)}")


def codecs(folder: Path) -> Iterator[Found | Trying]:
    """What libsndfile and FFmpeg really decode here."""
    mend = "pip install --force-reinstall soundfile"
    yield Trying("libsndfile", mend)
    import soundfile

    from tonemill.audiotools.codecs import ffmpeg, self_test

    name = f"libsndfile {soundfile.__libsndfile_version__}"
    yield from _tried(name, self_test.libsndfile(), mend)
    mend = "pip install --force-reinstall av"
    yield Trying("PyAV", mend)
    try:
        yield from _tried("FFmpeg", self_test.pyav(), mend)
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        count = len(ffmpeg.SUFFIXES)
        yield Found("absent", f"FFmpeg: {count} suffixes, as m4a, are rejected", "pip install 'tonemill[ffmpeg]'")


def _tried(library: str, tried: Any, mend: str) -> Iterator[Found]:
    works = []
    for suffixes, error in tried:
        if error:
            yield Found("broken", f"{library} does not read {suffixes}: {error}", mend)
        else:
            works += suffixes.split()
    if works:
        yield Found("ok", f"{library} reads {' '.join(dict.fromkeys(works))}")


def plugins(folder: Path) -> Iterator[Found | Trying]:
    """Every step and model, ours and other packages', is loaded and looked at."""
    from tonemill.models.plugins import MODELS
    from tonemill.pipelines.recipes.step import STEPS

    for kind in (STEPS, MODELS):
        if kind is MODELS and version_of("torch") is None:
            yield Found("absent", f"models: torch {WITHOUT_MODELS}", "pip install tonemill")
            continue
        own = kind.own()
        loaded = []
        for name in own:
            for found in attempt(f"{kind.kind} {name}", REINSTALL, lambda name=name, kind=kind: _load(kind, name)):  # type: ignore[misc]
                if isinstance(found, Found) and found.state == "ok":
                    loaded.append(name)
                else:
                    yield found
        yield Found("ok", f"{len(loaded)} {kind.kind}s of tonemill: {' '.join(loaded)}")
        points = list(importlib.metadata.entry_points(group=kind.group))
        twice = [name for name, count in Counter(point.name for point in points).items() if count > 1]
        for point in sorted(points, key=lambda point: point.name):
            package = point.dist.name if point.dist else point.value.partition(".")[0]
            named = f"{kind.kind} {point.name} of {package}"
            if point.name in own:
                yield Found(
                    "warning", f"{named} is not used: tonemill has one of that name", f"pip uninstall {package}"
                )
            elif point.name in twice:
                yield Found("warning", f"{named}: another package has one of that name", f"pip uninstall {package}")
            else:
                mend = f"pip install --upgrade --force-reinstall {package}"
                yield from attempt(named, mend, lambda point=point, kind=kind: _load(kind, point.name))  # type: ignore[misc]


def _load(kind: Any, name: str) -> str:
    """Load a plug-in and check that it is what its kind requires; returns a note, or raises."""
    from tonemill.pipelines import config
    from tonemill.pipelines.recipes.step import Step, step_name

    module = kind.module(name)
    if kind.kind == "step":
        step = module.STEP
        if not (isinstance(step, type) and issubclass(step, Step)):
            raise TypeError(f"its STEP is {step!r}; it must be a subclass of Step")
        if step_name(step) != name.replace("-", "_"):
            raise TypeError(f"its STEP was made in {step.__module__}; recipes would call it {step_name(step)}")
        fields = config.settings(step)
    else:
        from tonemill.models.contract import Model

        model = module.MODEL
        if not (isinstance(model, type) and issubclass(model, Model)):
            raise TypeError(f"its MODEL is {model!r}; it must be a subclass of Model")
        fields = config.settings(model.Config)
    without = [field.name for field in fields if not field.help]
    if without:
        raise TypeError(f"{', '.join(without)} have no help text")
    return f"{len(fields)} settings"


def requirements() -> list[Any]:
    """What tonemill's own metadata asks for."""
    from packaging.requirements import Requirement

    return [Requirement(text) for text in importlib.metadata.requires("tonemill") or []]


def tested_versions() -> dict[str, str]:
    """The set that was tested, by plain names: installed beside this module, or lying in a checkout."""
    here = Path(__file__).parent
    for place in (here / TESTED, here.parent.parent / TESTED):
        if place.is_file():
            lines = (line.strip().partition("==") for line in place.read_text().splitlines())
            return {_plain(name): version for name, equals, version in lines if equals}
    return {}


def version_of(package: str) -> str | None:
    """The version that is installed; None where there is none, or its metadata is gone."""
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def _always(requirement: Any) -> bool:
    return bool(requirement.marker.evaluate({"extra": ""}))


def _typed(requirement: Any) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _plain(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
