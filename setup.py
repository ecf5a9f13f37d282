"""Install the four top-level folders as `tonemill.<folder>`; the rest is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("pipelines", "audiotools", "models", "cli")


class BuildWithTestedVersions(build_py):
    """The tested versions go along: `tonemill doctor` holds what is installed against them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file(
                "constraints.txt", str(Path(self.build_lib) / "tonemill" / "pipelines" / "doctor" / "constraints.txt")
            )


setup(
    packages=[f"tonemill.{package}" for package in find_packages(include=[p for f in FOLDERS for p in (f, f"{f}.*")])],
    package_dir={f"tonemill.{folder}": folder for folder in FOLDERS},
    package_data={"": ["py.typed", "templates/*"]},
    cmdclass={"build_py": BuildWithTestedVersions},
)
