"""A report in a real browser: it opens from disk, asks for nothing, plays, sorts, filters, and obeys the keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, complaints, missing, open_page, requests
from conftest import Tonemill, write_wav

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def report(tonemill: Tonemill, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two places, one with a hostile name in a hostile folder, and metrics."""
    folder = tmp_path_factory.mktemp("report")
    write_wav(folder / "raw" / f"{NASTY.replace('/', '')}.wav", 24000)
    stream = tonemill("scan", folder / "raw", "-q").done().out
    tonemill("shard", folder / "<b onclick=x>", "-q", stdin=stream).done()
    rows = [{"name": f"m{number}", "value": value} for number, value in enumerate((3.0, float("nan"), 20.0, -1.0))]
    (folder / "m.json").write_text(json.dumps({"metrics": [*rows, {"name": NASTY, "value": 4}]}))
    (folder / "n.json").write_text(json.dumps({"metrics": [{"name": "m0", "value": 5.0}]}))
    words = ("--metrics", folder / "m.json", "--metrics", folder / "n.json", "--clips", 8, "--title", NASTY)
    tonemill("report", corpus, folder / "<b onclick=x>", "-o", folder / "report.html", *words, "-q").done()
    return folder / "report.html"


@pytest.fixture
def page(driver: Any, report: Path) -> Any:
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    look(driver, "light")
    open_page(driver, report)
    return driver


def look(driver: Any, scheme: str) -> None:
    """Prefer a scheme, and no movement, for what moves cannot be clicked."""
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(true: Callable[[], object], what: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.02)


def player(page: Any, name: str) -> Any:
    return page.execute_script(f"return document.getElementById('player').{name}")


def press(page: Any, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(getattr(Keys, key, key))


def texts(page: Any, selector: str) -> list[str]:
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter(e => !e.closest('[hidden]'))"
        ".map(e => e.textContent.trim())",
        selector,
    )


def test_it_asks_for_nothing_and_the_console_is_empty(page: Any) -> None:
    page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    for button in page.find_elements("css selector", ".play")[:3]:
        button.click()
    wait(lambda: player(page, "currentTime") > 0, "sound")
    assert page.title == NASTY
    assert page.find_elements("css selector", "b[onclick], img[onerror], main script") == []
    assert requests(page) == []
    assert complaints(page) == []
    drawn = "return [...document.querySelectorAll('img')].every(one => one.complete && one.naturalWidth > 40)"
    wait(lambda: page.execute_script(drawn), "pictures")


def test_even_a_script_that_got_in_would_not_run(page: Any) -> None:
    page.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://localhost:9/\" onerror=\"window.ran=1\">');"
        "const s = document.createElement('script'); s.textContent = 'window.ran = 2'; document.body.append(s);"
    )
    time.sleep(0.2)
    assert page.execute_script("return window.ran") is None
    assert any("Content Security Policy" in one for one in complaints(page))


def test_sound_plays_to_its_end_and_one_at_a_time(page: Any) -> None:
    first, second = page.find_elements("css selector", ".play")[:2]
    first.click()
    wait(lambda: player(page, "currentTime") > 0, "sound")
    assert (first.get_attribute("aria-label") or "").startswith("Pause")
    second.click()
    wait(lambda: page.find_elements("css selector", ".side.playing .play") == [second], "the second alone")
    assert (first.get_attribute("aria-label") or "").startswith("Play")
    wait(lambda: player(page, "ended"), "the end")
    assert player(page, "duration") == pytest.approx(0.125, abs=0.02)
    assert page.find_elements("css selector", ".playing") == []


def test_a_click_in_a_waveform_plays_from_there(page: Any) -> None:
    from selenium.webdriver import ActionChains

    (view,) = page.find_elements("css selector", "[data-seconds='3.0'] .view")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", view)
    ActionChains(page).move_to_element(view).click().perform()
    wait(lambda: not player(page, "paused"), "sound")
    assert player(page, "currentTime") == pytest.approx(1.5, abs=0.4)
    wait(lambda: float(view.get_attribute("aria-valuenow")) >= 50, "the head moves")


def test_the_keyboard_is_enough(page: Any) -> None:
    active = "return document.activeElement.getAttribute('aria-label')"
    press(page, "j")
    first = page.execute_script(active)
    press(page, "j")
    second = page.execute_script(active)
    press(page, "k")
    assert page.execute_script(active) == first != second
    press(page, "ENTER")
    wait(lambda: player(page, "currentTime") > 0, "sound")
    press(page, "r")
    assert player(page, "loop") is True
    press(page, "r")
    press(page, "TAB")
    assert page.execute_script("return document.activeElement.getAttribute('role')") == "slider"
    long_view = page.find_element("css selector", "[data-seconds='3.0'] .view")
    page.execute_script("arguments[0].focus()", long_view)
    press(page, "SPACE")
    wait(lambda: not player(page, "paused"), "sound")
    press(page, "SPACE")
    wait(lambda: player(page, "paused"), "a pause")
    before = player(page, "currentTime")
    press(page, "ARROW_RIGHT")
    press(page, "ARROW_RIGHT")
    assert player(page, "currentTime") == pytest.approx(before + 0.3, abs=0.05)
    press(page, "HOME")
    wait(lambda: player(page, "currentTime") < before + 0.2, "the start")
    # What the focus is on can be seen.
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_tables_sort_by_number_and_by_word_with_what_is_missing_last(page: Any) -> None:
    names = "#metrics tbody th"
    again = "#metrics tbody .again"
    assert texts(page, names)[:5] == ["m0", "m0", "m1", "m2", "m3"]
    assert texts(page, again) == ["m0"]
    value = page.find_element("xpath", "//section[@id='metrics']//thead//button[starts-with(., 'value')]")
    value.click()
    assert texts(page, names) == ["m3", "m0", NASTY, "m0", "m2", "m1"]
    assert texts(page, again) == []
    value.click()
    assert texts(page, names) == ["m2", "m0", NASTY, "m0", "m3", "m1"]
    assert page.execute_script("return arguments[0].closest('th').ariaSort", value) == "descending"
    page.find_element("xpath", "//section[@id='metrics']//thead//button[. = 'metric']").send_keys("\ue007")
    assert texts(page, names) == [NASTY, "m0", "m0", "m1", "m2", "m3"]
    assert texts(page, again) == ["m0"]
    source = page.find_element("xpath", "(//section[@id='examples']//thead//button[. = 'source'])[1]")
    source.click()
    shown = texts(page, "#examples .set:first-of-type tbody th")
    assert len(shown) > 20
    assert shown == sorted(shown, key=lambda name: [int(part) if part.isdigit() else part for part in _parts(name)])


def _parts(name: str) -> list[str]:
    import re

    return re.split(r"(\d+)", name)


def test_filters_leave_what_holds_every_word(page: Any) -> None:
    every = texts(page, "#examples .set:first-of-type tbody tr")
    box = page.find_element("css selector", "#examples .filter")
    box.send_keys("ann TRAIN")
    wanted = [row for row in every if "ann" in row and "train" in row]
    assert 0 < len(wanted) < len(every)
    assert texts(page, "#examples .set:first-of-type tbody tr") == wanted
    assert texts(page, "#examples .count") == [f"{len(wanted)} of {len(every)}"]
    box.send_keys("\ue00c")
    assert len(texts(page, "#examples .set:first-of-type tbody tr")) == len(every)
    clips = page.find_element("css selector", "#listen .filter")
    clips.send_keys("bob")
    titles = texts(page, "#listen .set:first-of-type .clip .of")
    assert titles
    assert all("bob" in title for title in titles)


def test_a_long_table_scrolls_by_itself_and_by_keyboard(page: Any) -> None:
    place = page.find_element("css selector", "#examples .tall")
    assert page.execute_script("return arguments[0].scrollHeight > arguments[0].clientHeight", place)
    page.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'}); arguments[0].focus()", place
    )
    press(page, "END")
    wait(lambda: page.execute_script("return arguments[0].scrollTop", place) > 0, "the table scrolls")
    # Its heads stay in sight.
    top, head = page.execute_script(
        "return [arguments[0], arguments[0].querySelector('thead th')].map(one => one.getBoundingClientRect().top)",
        place,
    )
    assert head == pytest.approx(top, abs=1)


def test_clips_sort(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    drawn = texts(page, "#listen .set:first-of-type .clip .of")
    order = Select(page.find_element("css selector", "#listen .order"))
    order.select_by_value("peak")
    peaks = page.execute_script(
        "return [...document.querySelector('#listen .clips').children].map(one => Number(one.dataset.peak))"
    )
    assert peaks == sorted(peaks, reverse=True)
    order.select_by_value("")
    assert texts(page, "#listen .set:first-of-type .clip .of") == drawn


@pytest.mark.parametrize("width", [360, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone_and_in_the_dark(page: Any, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    look(page, scheme)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    size, ink, dim, warn, paper, least = page.execute_script(
        "const style = name => getComputedStyle(document.querySelector(name));"
        "return [style('body').fontSize, style('body').color, style('.note').color,"
        " style('.findings, .alert, .leak, .note').color, style('body').backgroundColor,"
        " Math.min(...[...document.querySelectorAll('.play')].map(one => one.getBoundingClientRect().height))]"
    )
    assert size == "16px"
    assert _contrast(ink, paper) > 7
    assert min(_contrast(dim, paper), _contrast(warn, paper)) > 4.5
    assert (_luminance(paper) < 0.1) == (scheme == "dark")
    # A finger finds it.
    assert least >= 36


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(one) / 255 for one in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)
