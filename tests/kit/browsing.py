"""A headless Chromium for tests, which reports a page's requests, its errors, and its look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--window-size=1280,1000",
)


def missing() -> str | None:
    """Why there is no browser, or None if there is one."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (`pip install 'tonemill[test]'`)"
    absent = [name for name, found in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if found is None]
    return (
        f"there is no {' and no '.join(absent)} here (Debian: apt-get install chromium chromium-driver)"
        if absent
        else None
    )


@contextmanager
def browser() -> Iterator[Any]:
    """A driver of a fresh Chromium, which notes every request."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, path: Path) -> None:
    """Open a page from disk, as a person does, with nothing noted before."""
    driver.get("about:blank")
    driver.get_log("performance")
    driver.get_log("browser")
    driver.get(path.resolve().as_uri())


def requests(driver: Any) -> list[str]:
    """Addresses that the page requested since it was opened, but for itself and what it holds."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    assert sum(url.startswith("file:") for url in found) == 1, "the log must hold the page itself, or it proves nothing"
    return [url for url in found if not url.startswith(("data:", "file:"))]


def complaints(driver: Any) -> list[str]:
    """What the console holds."""
    return [f"{entry['level']}: {entry['message']}" for entry in driver.get_log("browser")]
