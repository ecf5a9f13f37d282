"""Install the four top-level folders as `tonemill.<folder>`; the rest is in pyproject.toml."""

import warnings
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# In an editable install a folder named as the package may take its place; ours is this checkout, with the same modules.
warnings.filterwarnings("ignore", "Editable installation")

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
    package_data={"": ["py.typed", "templates/*", "weights/*"]},
    # Else setuptools also takes every file of the sdist as data, and holds a folder of templates for a package.
    include_package_data=False,
    cmdclass={"build_py": BuildWithTestedVersions},
)
