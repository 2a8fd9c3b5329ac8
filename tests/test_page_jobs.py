"""The page of jobs in a real browser, on a real service with a cluster of its own."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.browser import Browser

KEYS = {"reader": "key-of-the-reader-0123", "writer": "key-of-the-writer-0123"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scopes = {"reader": "read", "writer": "write"}
    lines = [f"{name} {scopes[name]} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in KEYS.items()]
    file = tmp_path_factory.mktemp("page_jobs") / "keys"
    file.write_text("".join(lines))
    return file


def bearer(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[who]}"}


@pytest.fixture(scope="module")
def url(start_service: Callable[..., Any], library: Any, keys: Path) -> Iterator[str]:
    folder = keys.parent
    shutil.copytree(library.store, folder / "store")  # other tests count the collections of the shared one
    flags = ("--store", str(folder / "store"), "--jobs-folder", str(folder / "jobs"), "--keys-file", str(folder / "keys"))
    service = start_service(folder, *flags)
    yield service.url
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=90)
    assert service.process.returncode == 0, service.log.read_text()


def enter(page: Browser, url: str, who: str) -> None:
    page.open(f"{url}/healthz")  # so that what is kept in the tab can be changed
    page.run("sessionStorage.setItem('unirna-key', arguments[0])", KEYS[who])
    page.open(f"{url}/jobs")
    page.wait("!document.querySelector('#jobs-section').hidden")
    page.console()


def fasta(records: int, length: int) -> str:
    dice = random.Random(records)
    return "".join(f">page_{i}\n{''.join(dice.choices('ACGU', k=length))}\n" for i in range(records))


def put(page: Browser, text: str) -> None:
    script = "const box = document.querySelector('#fasta'); box.value = arguments[0]; box.dispatchEvent(new Event('input'))"
    page.run(script, text)


def test_a_key_is_asked_for_and_a_reader_may_look(browser: Browser, url: str) -> None:
    browser.size(1100, 900)
    browser.open(f"{url}/healthz")
    browser.run("sessionStorage.clear()")
    browser.open(f"{url}/jobs")
    browser.wait("!document.querySelector('#key-form').hidden")
    assert browser.run("return document.activeElement.id") == "key"
    browser.type("#key", KEYS["reader"])
    browser.click("#key-form button")
    browser.wait("!document.querySelector('#jobs-section').hidden")
    assert browser.text("#none") == "No job has been submitted yet." and browser.text("#message") == ""
    assert browser.run("return document.querySelector('#embed-form').hidden") and "scope write" in browser.text("#may-look")


def test_a_key_that_is_withdrawn_is_said(browser: Browser, url: str, keys: Path) -> None:
    for path in ("/jobs", "/"):
        browser.size(1100, 700)
        enter(browser, url, "reader")
        there = keys.read_text()
        try:
            keys.write_text("".join(line for line in there.splitlines(True) if not line.startswith("reader ")))
            end = time.monotonic() + 30
            while httpx2.get(f"{url}/v1/models", headers=bearer("reader"), trust_env=False).status_code == 200:
                assert time.monotonic() < end
                time.sleep(0.2)
            browser.open(f"{url}{path}")
            browser.wait("!document.querySelector('#key-why').hidden")
            assert "does not accept this key" in browser.text("#key-form")
            assert browser.run("return document.activeElement.id") == "key"
            forms = "[...document.querySelectorAll('main form')].filter((e) => e.checkVisibility())"
            assert browser.run(f"return {forms}.length") == 1
        finally:
            keys.write_text(there)
        end = time.monotonic() + 30
        while httpx2.get(f"{url}/v1/models", headers=bearer("reader"), trust_env=False).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        browser.type("#key", KEYS["reader"])
        browser.click("#key-form button")
        browser.wait("!document.body.classList.contains('locked')")
        assert browser.run("return document.querySelector('#key-form').hidden")
        browser.console()


@pytest.mark.slow
def test_a_collection_of_ones_own(browser: Browser, url: str, tmp_path: Path) -> None:
    browser.size(1100, 900)
    enter(browser, url, "writer")
    # ---- what is wrong is said beside its field
    browser.click("#embed-form .primary")
    browser.wait("document.querySelector('#embed-message').innerText.startsWith('Paste sequences first')")
    put(browser, "ACGU\nGGGAAACCC")
    browser.wait("document.querySelector('#fasta-note').innerText.startsWith('2 sequences')")
    browser.type("#collection", "../mine")
    browser.click("#embed-form .primary")
    browser.wait("document.querySelector('#embed-message').innerText.includes('cannot be called')")
    assert browser.run("return document.activeElement.id") == "collection"
    assert browser.run("return document.querySelector('#collection').getAttribute('aria-invalid')") == "true"
    browser.console()
    # ---- a dropped file, a job, its end, a search in what it made
    drop = """const data = new DataTransfer(); data.items.add(new File([arguments[0]], 'reads.fasta'));
              const event = new DragEvent('drop', {dataTransfer: data, bubbles: true});
              document.querySelector('#embed-form').dispatchEvent(event)"""
    browser.run(drop, fasta(20, 60))
    browser.wait("document.querySelector('#fasta-note').innerText === 'reads.fasta: 20 sequences'")
    browser.type("#collection", "page_mine")
    browser.type("#name", "<b>mine</b>")
    browser.click("#embed-form .primary")
    browser.wait("document.querySelector('.state')?.innerText === 'running'", 60)
    assert browser.text(".job h3") == "<b>mine</b>"
    assert browser.texts(".job .actions button:not([hidden])") == [
        "Log",
        "Stop",
    ]
    browser.wait("document.querySelector('.state').innerText === 'succeeded'", 120)
    assert browser.text(".job .said") == "20 of 20 sequences are new in page_mine."
    assert browser.text("#said") == "<b>mine</b>: succeeded" and "by writer" in browser.text(".job .hint")
    browser.click(".job .actions button")
    browser.wait("document.querySelector('.log')?.innerText.includes('embedding  100%')")
    browser.picture(tmp_path / "light.png")
    browser.dark(True)
    browser.picture(tmp_path / "dark.png")
    browser.dark(False)
    assert browser.console() == []
    browser.click(".job .actions a")
    browser.wait("document.querySelector('#collection').value === 'page_mine'")
    assert not browser.run("return document.querySelector('#to-jobs').hidden")
    browser.click("#to-jobs")
    browser.wait("document.querySelector('.state')?.innerText === 'succeeded'")
    assert browser.console() == []


@pytest.mark.slow
def test_a_job_is_followed_and_stopped(browser: Browser, url: str, tmp_path: Path) -> None:
    browser.size(400, 850)
    enter(browser, url, "writer")
    put(browser, fasta(3000, 900))
    browser.type("#collection", "page_large")
    browser.click("#embed-form .primary")
    browser.wait("document.querySelector('.state')?.innerText === 'running'", 60)
    browser.wait("document.querySelector('.job progress').hasAttribute('value')", 90)
    share = browser.run("return document.querySelector('.job progress').value")
    assert 0 < share < 1
    browser.wait(f"document.querySelector('.job progress').value > {share}", 30)  # live, without a click
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.picture(tmp_path / "phone.png")
    stop = "[...document.querySelectorAll('.job button')].find((b) => b.innerText === 'Stop')"
    browser.run(f"{stop}.click()")
    browser.wait("document.querySelector('#sure').open")
    assert browser.run("return document.activeElement.id") == "keep"
    browser.picture(tmp_path / "sure.png")
    browser.click("#keep")
    assert browser.text(".job .state") == "running"
    browser.wait(f"!{stop}.disabled")
    browser.run(f"{stop}.click()")
    browser.click("#stop")
    browser.wait("document.querySelector('.job .state').innerText === 'stopped'", 60)
    assert browser.texts(".job:first-child .actions button:not([hidden])") == ["Log", "Resume"]
    assert browser.console() == []
    jobs = httpx2.get(f"{url}/v1/jobs", headers={"authorization": f"Bearer {KEYS['reader']}"}, trust_env=False).json()[
        "jobs"
    ]
    assert jobs[0]["state"] == "stopped"


def test_it_asks_only_while_something_runs(browser: Browser, url: str) -> None:
    enter(browser, url, "reader")
    count = "return performance.getEntriesByType('resource').filter((r) => r.name.includes('/v1/jobs')).length"
    before = browser.run(count)
    time.sleep(4.5)
    assert browser.run(count) == before == 1


def test_everything_on_it_has_a_name(browser: Browser, url: str) -> None:
    enter(browser, url, "writer")
    nameless = browser.run(
        "return [...document.querySelectorAll('button, a, input, textarea, select, progress')].filter((e) => "
        "!(e.innerText?.trim() || e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []


def test_without_jobs_there_is_no_link_and_the_page_says_so(browser: Browser, service: Any) -> None:
    browser.open(service.url)
    browser.wait("document.querySelector('#collection').options.length === 2")
    assert browser.run("return document.querySelector('#to-jobs').hidden")
    browser.open(f"{service.url}/jobs")
    browser.wait("document.querySelector('#message').innerText.includes('takes no jobs')")
    assert browser.run("return document.querySelector('#embed-form').hidden")
    assert browser.console() == []
