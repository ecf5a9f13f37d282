"""A study in a real browser: from disk and from servers, by keys alone, over a reload, on a small screen."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browsing import browser, complaints, missing, open_page, requests
from conftest import Tonemill

from tonemill.pipelines.survey.server import server_of
from tonemill.pipelines.survey.study import Study, open_study

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
SECONDS = 0.25


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def study(tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two systems of three loops, a repeat and an attention trial: ten screens."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for name in ("real", "model"):
        (root / name).mkdir()
        for number in range(3):
            sound = rng.standard_normal(round(SECONDS * 16000)) * 0.05
            soundfile.write(root / name / f"{number}.wav", sound, 16000)
    words = (f"real={root / 'real'}", f"model={root / 'model'}", "-o", root / "study", "--clips", 3, "--attention", 1)
    tonemill("survey", "make", *words, "--no-anchors", "--title", "Loops <b>&", "-q").done()
    return open_study(root / "study")


def wait(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.03)


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        page.switch_to.active_element.send_keys(getattr(Keys, key, key))


def screen(page: Any) -> str:
    return str(page.execute_script("return document.querySelector('[data-screen]:not([hidden])').dataset.screen"))


def tab_to(page: Any, selector: str) -> None:
    """Press tab until something has the focus."""
    for _ in range(40):
        if page.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
        press(page, "TAB")
    raise AssertionError(f"tab never comes to {selector}")


def kept(page: Any) -> dict[str, Any]:
    """What the browser keeps of the session that was last."""
    text = page.execute_script(
        "const keys = Object.keys(localStorage), last = keys.find(key => key.endsWith('/last'));"
        "return localStorage.getItem(last.slice(0, -4) + JSON.parse(localStorage.getItem(last)))"
    )
    return dict(json.loads(text))


def forget(page: Any) -> None:
    page.execute_script("localStorage.clear()")


def begin(page: Any) -> None:
    """From the welcome to the first practice trial, by keys."""
    wait(lambda: screen(page) == "welcome", "the welcome")
    tab_to(page, "#agree")
    press(page, "SPACE", "ENTER")
    for name, selector in (("level", "[data-next]"), ("headphones", "[data-wear]"), ("practice", "[data-next]")):
        wait(lambda name=name: screen(page) == name, name)
        tab_to(page, f"[data-screen={name}] {selector}")
        press(page, "ENTER")
    wait(lambda: screen(page) == "trial", "the first trial")


def answer(page: Any, trial: dict[str, Any], scores: str) -> None:
    """One trial by keys: play, wait until all is open, answer, go on."""
    if trial["kind"] == "attention":
        scores = str(trial["answer"]) * 3
    else:
        press(page, "SPACE")
        wait(lambda: "All questions are open" in page.find_element("id", "state").text, "two rounds")
    press(page, *scores)
    press(page, "ENTER")


def go_through(page: Any, study: Study, listener: int, first: int = 0, last: int | None = None) -> None:
    order = study.plan["orders"][listener - 1]
    for place, trial in list(enumerate(order))[first:last]:
        if screen(page) == "ready":
            tab_to(page, "[data-screen=ready] [data-next]")
            press(page, "ENTER")
        wait(lambda: screen(page) == "trial", "a trial")
        answer(page, trial, "".join(str(1 + (place + question) % 5) for question in range(3)))


def require_answers(record: dict[str, Any], study: Study, listener: int) -> None:
    """What was handed over is what was typed."""
    order = study.plan["orders"][listener - 1]
    assert record["listener"] == listener and len(record["trials"]) == len(order)
    for place, (one, trial) in enumerate(zip(record["trials"], order, strict=True)):
        assert {name: one[name] for name in trial} == trial
        typed = [1 + (place + question) % 5 for question in range(3)]
        assert list(one["answers"].values()) == ([trial["answer"]] * 3 if trial["kind"] == "attention" else typed)
        assert trial["kind"] == "attention" or one["rounds"] >= 2


def test_from_disk_by_keys_alone_over_a_reload_and_no_request_leaves(
    driver: Any, study: Study, tonemill: Tonemill, tmp_path: Path
) -> None:
    driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    open_page(driver, study.files.page)
    forget(driver)
    open_page(driver, study.files.page)
    assert driver.title == "Loops <b>&"
    driver.find_element("id", "listener").send_keys("2")
    driver.execute_script("document.activeElement.blur()")
    begin(driver)
    # Nothing can be answered before it was played.
    press(driver, "3", "ENTER")
    assert driver.find_element("id", "title").text == "Practice 1" and not any(
        one["answers"] for one in kept(driver)["trials"]
    )
    go_through(driver, study, 2, last=6)
    session = kept(driver)["session"]
    driver.refresh()
    wait(lambda: screen(driver) == "resume", "where it was")
    tab_to(driver, "[data-screen=resume] [data-next]")
    press(driver, "ENTER")
    wait(lambda: screen(driver) == "trial", "the trial after")
    assert kept(driver)["step"] == 6 and kept(driver)["session"] == session
    # Back, look at what was answered, and forth.
    press(driver, "BACKSPACE")
    checked = driver.execute_script("return [...document.querySelectorAll('#answers :checked')].map(one => one.value)")
    before = study.plan["orders"][1][5]
    assert checked == [str(before.get("answer", 1 + (5 + question) % 5)) for question in range(3)]
    press(driver, "ENTER")
    go_through(driver, study, 2, first=6)
    wait(lambda: screen(driver) == "end", "the end")
    tab_to(driver, "#save")
    press(driver, "ENTER")
    wait(lambda: list(tmp_path.glob("answers-*.json")), "the file")
    tab_to(driver, "#copy")
    press(driver, "ENTER")
    wait(lambda: driver.find_element("id", "text").is_displayed(), "the text")
    (saved,) = tmp_path.glob("answers-*.json")
    record = json.loads(saved.read_text())
    assert json.loads(driver.find_element("id", "text").get_property("value")) == record
    require_answers(record, study, 2)
    assert not driver.find_element("id", "send").is_displayed()
    assert complaints(driver) == []
    log = [json.loads(one["message"])["message"] for one in driver.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in log if one["method"] == "Network.requestWillBeSent"}
    assert len(urls) > 5 and all(url.startswith(("file:", "data:", "blob:file:")) for url in urls)
    assert tonemill("survey", "collect", study.files.folder, saved, "-q").done().line["sessions"] == 1
    study.files.collected.unlink()


@pytest.mark.slow
def test_from_our_server_answers_come_by_themselves(driver: Any, study: Study) -> None:
    server = server_of(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        driver.get(f"http://127.0.0.1:{server.server_address[1]}/")
        forget(driver)
        assert driver.current_url.endswith("/index.html?listener=1")
        begin(driver)
        go_through(driver, study, 1)
        wait(lambda: "have arrived" in driver.find_element("id", "handed").text, "the answers arrive")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    require_answers(json.loads((study.files.answers / "answers-000001.json").read_text()), study, 1)


def test_from_any_static_server_it_plays_and_a_file_remains(driver: Any, study: Study) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(study.files.folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        driver.get(f"http://127.0.0.1:{server.server_address[1]}/index.html?listener=3")
        forget(driver)
        driver.refresh()
        begin(driver)
        go_through(driver, study, 3, last=1)
        assert kept(driver)["trials"][0]["rounds"] >= 2
        driver.execute_script(
            "document.querySelector('[data-screen=end]').hidden = false; document.getElementById('send').hidden = false"
        )
        driver.execute_script("document.getElementById('send').click()")
        wait(lambda: "could not be sent" in driver.find_element("id", "handed").text, "a way that remains")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_loop_is_repeated_to_the_sample(driver: Any, study: Study) -> None:
    """The page's own decoder and a node that loops, rendered offline: three rounds are three times the clip."""
    open_page(driver, study.files.page)
    one = next(iter(study.plan["clips"]))
    worst = driver.execute_async_script(
        """
        const [id, rate, done] = arguments;
        const play = window.clip;
        window.clip = async (name, text) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
          const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
          const offline = new OfflineAudioContext(1, 3 * buffer.length, rate), node = offline.createBufferSource();
          node.buffer = buffer; node.loop = true; node.connect(offline.destination); node.start();
          const rendered = (await offline.startRendering()).getChannelData(0), once = buffer.getChannelData(0);
          let worst = 0;
          rendered.forEach((value, n) => { worst = Math.max(worst, Math.abs(value - once[n % once.length])); });
          window.clip = play;
          done([worst, once.length]);
        };
        const script = document.createElement("script");
        script.src = `clips/${id}.js`;
        document.head.append(script);
        """,
        one,
        study.plan["sample_rate"],
    )
    assert worst[1] == round(SECONDS * 16000) and worst[0] < 1e-6


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_small_screen_and_a_finger(driver: Any, study: Study, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": width < 600}
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        open_page(driver, study.files.page)
        found = driver.execute_script(
            """
            const found = [];
            for (const one of document.querySelectorAll("[data-screen]")) {
              for (const other of document.querySelectorAll("[data-screen]")) other.hidden = other !== one;
              const kinds = "button, .scale label, input:not([type=radio], [type=checkbox]), .check, summary";
              const targets = [...one.querySelectorAll(kinds)].map((each) => each.getBoundingClientRect());
              const least = Math.min(...targets.filter((each) => each.width).map((each) => each.height));
              const words = [...one.querySelectorAll(".scale span")];
              const cut = words.some((each) => each.scrollWidth > each.clientWidth || each.offsetHeight > 20);
              found.push([one.dataset.screen, document.documentElement.scrollWidth, least, cut]);
            }
            return found;
            """
        )
        assert len(found) == 9
        for name, wide, least, cut in found:
            assert wide <= width and least >= 44 and not cut, name
        assert requests(driver) == []
        assert complaints(driver) == []
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_missing_clip_ends_in_words(driver: Any, study: Study, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(study.files.folder, copy)
    first = study.plan["orders"][0][0]["clip"]
    (copy / "clips" / f"{first}.js").rename(copy / "gone.js")
    open_page(driver, copy / "index.html")
    forget(driver)
    driver.get(f"{(copy / 'index.html').as_uri()}?listener=1")
    begin(driver)
    wait(lambda: "cannot be loaded" in driver.find_element("id", "trouble").text, "trouble is shown")
    (copy / "gone.js").rename(copy / "clips" / f"{first}.js")
    go_through(driver, study, 1, last=1)
    assert not driver.find_element("id", "trouble").is_displayed()
