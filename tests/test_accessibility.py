"""axe-core on every page of the service: no violation. It runs where UNIRNA_AXE names the file axe.min.js (`npm install
axe-core`), which is not part of this repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser import Browser

AXE = os.environ.get("UNIRNA_AXE", "")
RUN = """
    window.violations = null;
    axe.run(document).then(
        (found) => {
            const places = ({ id, nodes }) => `${id}: ${nodes.map((node) => node.target).join('; ')}`;
            window.violations = found.violations.map(places);
        },
        (error) => { window.violations = [String(error)]; });
"""
FILLED = """
    const box = document.querySelector(arguments[0]);
    box.value = arguments[1];
    box.dispatchEvent(new Event('input'));
"""
REPEAT = "AC" * 30


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE:
        pytest.skip("UNIRNA_AXE does not name axe.min.js: the pages are not checked with axe-core")
    return Path(AXE).read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", ["light", "dark", "phone"])
def test_axe_core_finds_nothing(browser: Browser, service: Any, library: Any, axe: str, mode: str) -> None:
    found: dict[str, list[str]] = {}
    row = library.rows[0]

    def check(name: str) -> None:
        browser.run("for (const box of document.querySelectorAll('details')) box.open = true")
        browser.run(axe + RUN)
        browser.wait("window.violations !== null", 60)
        if violations := browser.run("return window.violations"):
            found[name] = violations

    def press(button: str, until: str) -> None:
        browser.click(button)
        browser.wait(f"({until}) && !document.querySelector('#fold').disabled", 60)

    browser.dark(mode == "dark")
    browser.size(390 if mode == "phone" else 1100, 900)
    try:
        browser.open(service.url)
        browser.wait("document.querySelector('#collection').options.length")
        check("form")
        for name, sequence in (("hits", row["sequence"]), ("no hit better than chance", REPEAT)):
            browser.run(FILLED, "#sequence", sequence)
            press("#search-form .primary", "!document.querySelector('#results').hidden")
            if name == "hits":
                browser.click("#hits button")
            check(name)
        press("#fold", "!document.querySelector('#structure').hidden")
        check("structure")
        for task in ("m6a", "rna_type"):
            browser.run("document.querySelector('#task').value = arguments[0]", task)
            press("#predict", f"document.querySelector('#prediction-title').innerText.endsWith({task.replace('_', ' ')!r})")
            check(f"prediction of {task}")
        browser.run(FILLED, "#sequence", "ACGX")
        press("#search-form .primary", "document.querySelector('#message .error')")
        check("error")
        browser.open(f"{service.url}/record?{urlencode({'collection': 'rfam', 'id': row['id']})}")
        done = "[...document.querySelectorAll('#predictions dd')].every((cell) => cell.innerText !== '…')"
        browser.wait(f"!document.querySelector('#record-predictions').hidden && {done}", 60)
        check("record")
        for path, there in (
            (
                "map?collection=rfam",
                "!document.querySelector('#map-body').hidden || !document.querySelector('#map-none').hidden",
            ),
            ("jobs", "!document.querySelector('#message').innerText.startsWith('Reading')"),
            ("docs", "document.querySelectorAll('#operations section').length"),
            ("no/such", "document.querySelector('h1')"),
        ):
            browser.open(f"{service.url}/{path}")
            browser.wait(there)
            check(path)
    finally:
        browser.dark(False)
    browser.console()
    assert found == {}
