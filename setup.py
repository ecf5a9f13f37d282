"""Install the four top-level folders as `tonemill.<folder>`; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = ("pipelines", "audiotools", "models", "cli")

setup(
    packages=[f"tonemill.{package}" for package in find_packages(include=[p for f in FOLDERS for p in (f, f"{f}.*")])],
    package_dir={f"tonemill.{folder}": folder for folder in FOLDERS},
    package_data={"": ["py.typed"]},
)
