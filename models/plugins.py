"""Find plug-ins without importing them: the modules of a folder, and the entry points of other packages.

A step or a model is one file (or folder) in its room, or an entry point of an installed package:

    [project.entry-points."tonemill.steps"]
    chorus = "my_package.chorus"
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tonemill.audiotools.errors import UsageError


class Plugins(NamedTuple):
    """One kind of plug-in.

    Args:
        kind: what a person calls one of them, as in "model".
        package: the dotted name of the package whose modules they are.
        folder: the folder of that package.
        group: the entry-point group that other packages use.
        shared: modules of the folder that are not plug-ins.
    """

    kind: str
    package: str
    folder: Path
    group: str
    shared: frozenset[str] = frozenset()

    def own(self) -> dict[str, Path]:
        """Names and source files of the plug-ins that come with tonemill, sorted."""
        found = {path.stem: path for path in self.folder.glob("*.py")}
        found |= {path.parent.name: path for path in self.folder.glob("*/__init__.py")}
        return {name: found[name] for name in sorted(found) if name not in self.shared and not name.startswith("_")}

    def foreign(self) -> dict[str, str]:
        """Names and module paths of the entry points of installed packages, sorted."""
        from importlib.metadata import entry_points

        return {point.name: point.value for point in sorted(entry_points(group=self.group), key=lambda p: p.name)}

    def names(self) -> list[str]:
        return sorted({*self.own(), *self.foreign()})

    def summary(self, name: str) -> str:
        """First line of a plug-in's module, read without importing it where the file is ours."""
        import ast

        path = self.own().get(name)
        try:
            doc = ast.get_docstring(ast.parse(path.read_bytes())) if path else self.module(name).__doc__
        except Exception as error:
            # A package that cannot be loaded must not take `tonemill --help` with it.
            return f"(cannot be loaded: {type(error).__name__}; `tonemill doctor` shows the error)"
        return (doc or "").strip().split("\n")[0]

    def module(self, name: str) -> ModuleType:
        """Import a plug-in.

        Raises:
            UsageError: there is no plug-in of that name.
        """
        if name in self.own():
            return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        foreign = self.foreign()
        if name not in foreign:
            raise UsageError(f"There is no {self.kind} named {name!r}. There are: {', '.join(self.names())}.")
        if foreign[name].rpartition(".")[2] != name:
            # A recipe names a step by its module, and a run its model.
            raise UsageError(f"The entry point {name!r} names {foreign[name]}; its last part must also be {name!r}.")
        return importlib.import_module(foreign[name])


MODELS = Plugins(
    kind="model",
    package="tonemill.models",
    folder=Path(__file__).parent,
    group="tonemill.models",
    shared=frozenset({"__init__", "contract", "directions", "earlier", "exchange", "players", "plugins", "parts"}),
)
