"""The map on the page, in a real browser: points, colours, a record, the lasso, a sequence's place."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser
from unirna.embed.projection import make_map

CANVAS = "document.querySelector('#map-canvas')"


class MapPage:
    """The map of a collection, opened: its points on the screen, and a pointer."""

    def __init__(self, browser: Browser, url: str, collection: str, width: int = 1200, height: int = 1000) -> None:
        self.browser, self.url, self.collection = browser, url, collection
        browser.size(width, height)
        browser.open(f"{url}/map?collection={collection}")
        browser.wait(f"Number({CANVAS}.dataset.drawn) > 0")
        browser.console()
        answer = httpx2.get(f"{url}/v1/collections/{collection}/map?label=rna_type", trust_env=False).content
        end = answer.index(b"\n") + 1
        self.header = json.loads(answer[:end])
        count = self.header["points"]
        self.places = np.frombuffer(answer[end : end + 8 * count], "<f4").reshape(-1, 2)
        self.codes = np.frombuffer(answer[end + 8 * count :], "<u2")

    def box(self) -> list[float]:
        script = f"const r = {CANVAS}.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
        return list(self.browser.run(script))

    def screen(self) -> np.ndarray:
        """Where each point stands in the window, in pixels."""
        left, top, width, height = self.box()
        view = json.loads(self.browser.run(f"return {CANVAS}.dataset.view"))
        x = left + width / 2 + (self.places[:, 0] - view["x"]) * view["scale"]
        y = top + height / 2 - (self.places[:, 1] - view["y"]) * view["scale"]
        return np.stack([x, y], axis=1)

    def pointer(self, *path: Any, press: bool = True) -> None:
        """Move to the first place, press, move along the others, and let go."""
        moves = [{"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)} for x, y in path]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self.browser._post("actions", actions=[{**mouse, "actions": actions if press else moves}])

    def key(self, key: str) -> None:
        self.browser.run(f"{CANVAS}.focus()")
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.browser._post("actions", actions=[{"type": "key", "id": "keys", "actions": keys}])

    def lone(self, reach: float = 12) -> int:
        """A point in the inner part of the map with no other near it."""
        at, (left, top, width, height) = self.screen(), self.box()
        inner = (np.abs(at - [left + width / 2, top + height / 2]) < [width * 0.45, height * 0.3]).all(axis=1)
        distances = np.linalg.norm(at[:, None] - at[None], axis=-1) + np.eye(len(at)) * 1e6
        return int(np.argmax(np.where(inner, distances.min(axis=1), -1)))

    def pixels(self, tmp_path: Path) -> np.ndarray:
        self.browser.picture(tmp_path / "map.png")
        picture = Image.open(io.BytesIO((tmp_path / "map.png").read_bytes())).convert("RGB")
        ratio = picture.width / self.browser.run("return innerWidth")
        left, top, width, height = (int(ratio * value) for value in self.box())
        return np.asarray(picture)[top : top + height, left : left + width].astype(int)

    def console(self) -> list[str]:
        """What the console says, but for the graphics driver's remarks about screenshots."""
        return [line for line in self.browser.console() if "GL Driver Message" not in line]


@pytest.fixture(scope="module")
def url(service: Any, library: Any) -> str:
    make_map(library.store, "rfam", method="pca")  # quick; the page shows whatever places there are
    return str(service.url)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[MapPage]:
    page = MapPage(browser, url, "rfam")
    yield page
    assert page.console() == []  # nothing that the content policy forbids, and no error


def test_points_are_drawn_in_the_colours_of_the_legend(page: MapPage, library: Any, tmp_path: Path) -> None:
    assert page.browser.run(f"return {CANVAS}.dataset.points") == str(len(library.rows))
    name = page.browser.run(f"return {CANVAS}.getAttribute('aria-label')")
    assert f"{len(library.rows)} sequences of rfam, coloured by rna type" in name
    pixels = page.pixels(tmp_path)
    swatches = page.browser.run(
        "return [...document.querySelectorAll('#map-legend li .swatch')].map((e) => getComputedStyle(e).backgroundColor)"
    )
    types = page.header["label"]["values"]
    assert page.browser.texts("#map-legend .name") == [value["name"] for value in types]
    assert page.browser.texts("#map-legend .share") == [str(value["count"]) for value in types]
    for swatch in swatches:
        colour = [int(part) for part in swatch[4:-1].split(",")]
        assert (np.abs(pixels - colour).max(axis=-1) < 40).sum() > 20, swatch
    left, top, *_ = page.box()
    for x, y in (page.screen() - [left, top])[:50].astype(int):  # there is colour where each point should stand
        assert np.ptp(pixels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3], axis=-1).max() > 40


def test_it_is_coloured_by_any_label(page: MapPage, tmp_path: Path) -> None:
    page.browser.run(
        "const s = document.querySelector('#map-label'); s.value = 'length'; s.dispatchEvent(new Event('change'))"
    )
    page.browser.wait("document.querySelector('#map-legend .ramp')")
    assert page.browser.text("#map-legend-title") == "length"
    assert "label=length" in page.browser.run("return location.search")
    page.browser.open(page.browser.run("return location.href"))  # a link that can be sent
    page.browser.wait("document.querySelector('#map-legend .ramp')")


def test_a_value_of_the_legend_stands_out(page: MapPage, tmp_path: Path) -> None:
    def coloured() -> int:
        return int((np.ptp(page.pixels(tmp_path), axis=-1) > 60).sum())

    all_of_them = coloured()
    page.browser.click("#map-legend li:last-child button")
    page.browser.wait("document.querySelector('#map-legend li:last-child [aria-pressed=true]')")
    page.browser.wait(f"{CANVAS}.dataset.drawn")
    assert 0 < coloured() < all_of_them / 2
    page.browser.click("#map-legend li:last-child button")
    page.browser.wait("!document.querySelector('#map-legend [aria-pressed=true]')")
    assert coloured() > all_of_them * 0.9


def test_it_moves_and_zooms(page: MapPage) -> None:
    def view() -> dict[str, float]:
        return dict(json.loads(page.browser.run(f"return {CANVAS}.dataset.view")))

    first, at = view(), page.screen()
    left, top, width, height = page.box()
    page.pointer((left + 20, top + 200), (left + 60, top + 230), (left + 120, top + 250))
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).x < {first['x']}")
    np.testing.assert_allclose(page.screen() - at, np.broadcast_to([100, 50], at.shape), atol=1)
    page.key("0")
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).x === {first['x']}")
    page.key("+")
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).scale > {first['scale'] * 1.3}")
    page.key("\ue014")  # the right arrow
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).x > {first['x']}")
    page.key("0")
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).scale === {first['scale']}")
    x, y = int(left + width / 4), int(top + height / 3)  # about the pointer
    wheel = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": -200, "duration": 0, "origin": "viewport"}
    page.browser._post("actions", actions=[{"type": "wheel", "id": "wheel", "actions": [wheel]}])
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).scale > {first['scale'] * 1.2}")
    factor = view()["scale"] / first["scale"]
    np.testing.assert_allclose(page.screen() - [x, y], factor * (at - [x, y]), atol=2)
    page.browser.click("#map-all")
    page.browser.wait(f"JSON.parse({CANVAS}.dataset.view).scale === {first['scale']}")


def test_a_point_tells_what_it_is_and_opens_its_record(page: MapPage, library: Any) -> None:
    point = page.lone()
    by_id = {row["id"]: row for row in library.rows}
    path = f"{page.url}/v1/collections/rfam/map/records"
    wanted = httpx2.post(path, json={"points": [point]}, trust_env=False).json()["records"][0]
    place = page.screen()[point]
    page.pointer(place, press=False)
    page.browser.wait(f"document.querySelector('#map-tip').innerText.startsWith({json.dumps(wanted['id'])})")
    assert by_id[wanted["id"]]["rna_type"] in page.browser.text("#map-tip")
    page.pointer(place)
    page.browser.wait("document.querySelector('#map-record a')")
    shown = page.browser.text("#map-record")
    assert wanted["id"] in shown.replace("\n", "") and by_id[wanted["id"]]["family"] in shown
    page.browser.click("#map-record > p a")
    page.browser.wait("!document.querySelector('#record').hidden")
    assert page.browser.text("#record-id") == wanted["id"]
    page.browser.run("history.back()")  # the map is as it was left
    page.browser.wait("!document.querySelector('#map-view').hidden")
    assert not page.browser.run("return document.querySelector('#map-record').hidden")


def test_the_lasso_selects_and_exports(page: MapPage, library: Any) -> None:
    left, top, width, height = page.box()
    cut = left + 0.5 * width
    page.browser.click("#map-lasso")
    page.pointer(
        (left + 3, top + 60), (cut, top + 60), (cut, top + height - 3), (left + 3, top + height - 3), (left + 3, top + 60)
    )
    page.browser.wait(f"Number({CANVAS}.dataset.selected) > 0")
    at = page.screen()
    inside = set(np.flatnonzero((at[:, 0] < cut) & (at[:, 1] > top + 60)).tolist())
    sure = {int(i) for i in inside if abs(at[i, 0] - cut) > 2 and abs(at[i, 1] - top - 60) > 2}
    count = int(page.browser.run(f"return {CANVAS}.dataset.selected"))
    assert len(sure) <= count <= len(inside) + 5 and 0 < count < len(library.rows)
    assert page.browser.text("#map-selected") == f"{count} sequences selected"
    page.browser.run(
        "window.saved = [];"
        "URL.createObjectURL = (blob) => { blob.text().then((text) => window.saved.push(text)); return '#'; }"
    )
    by_id = {row["id"]: row for row in library.rows}
    page.browser.click("#map-fasta")
    page.browser.wait("window.saved.length === 1")
    lines = page.browser.run("return window.saved[0]").splitlines()
    assert len(lines) == 2 * count
    assert all(by_id[name[1:]]["sequence"] == letters for name, letters in zip(lines[::2], lines[1::2], strict=True))
    page.browser.click("#map-csv")
    page.browser.wait("window.saved.length === 2")
    header, *lines = page.browser.run("return window.saved[1]").splitlines()
    assert header == "id,length,family,family_name,rna_type,map_x,map_y,sequence" and len(lines) == count
    page.browser.click("#map-list")
    page.browser.wait("document.querySelectorAll('#map-first a').length === 10")
    page.browser.click("#map-clear")
    page.browser.wait(f"{CANVAS}.dataset.selected === '0'")


def test_a_sequences_place_is_marked(page: MapPage, library: Any) -> None:
    row = library.rows[11]
    page.browser.type("#map-sequence", f">mine\n{row['sequence']}")
    page.browser.click("#map-mark")
    page.browser.wait("!document.querySelector('#map-placed').hidden")
    assert page.browser.text("#map-placed-title").startswith("mine lies at the ring")
    assert row["id"] in [text.replace("\n", "") for text in page.browser.texts("#map-near a")]
    assert page.browser.run(f"return {CANVAS}.dataset.marks") == "11"
    overlay = "const c = document.querySelector('#map-over');"
    overlay += "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    assert page.browser.run(f"{overlay} let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n") > 100


def test_bad_letters_are_said_in_words(page: MapPage) -> None:
    page.browser.type("#map-sequence", "ACGX")
    page.browser.click("#map-mark")
    page.browser.wait("document.querySelector('#map-message .error')")
    assert "position 4" in page.browser.text("#map-message")
    assert page.browser.run("return document.activeElement.id") == "map-sequence"
    page.browser.console()  # that the service answered 422


def test_the_search_page_leads_to_it_with_the_sequence(browser: Browser, url: str, library: Any) -> None:
    browser.size(1200, 1000)
    browser.open(url)
    browser.wait("document.querySelector('#collection').options.length === 2")
    browser.type("#sequence", library.rows[3]["sequence"])
    browser.click("#map-link")
    browser.wait("!document.querySelector('#map-placed').hidden")
    assert browser.text("#map-title") == "Map of rfam"
    browser.click("#map-back")
    browser.wait("!document.querySelector('#search-view').hidden")


def test_without_a_map_it_says_how_to_make_one(browser: Browser, url: str) -> None:
    browser.open(f"{url}/map?collection=other")
    browser.wait("!document.querySelector('#map-none').hidden")
    assert browser.text("#map-command").strip() == "unirna collections map other --store STORE"
    assert browser.run("return document.querySelector('#map-body').hidden")
    assert "Collection 'other' has no map." in browser.text("#map-why")
    browser.open(f"{url}/map?collection=nope")
    browser.wait("document.querySelector('#map-message .error')")
    assert "No collection 'nope'" in browser.text("#map-message")
    browser.open(f"{url}/map")  # which one, the service's default says
    browser.wait("document.querySelector('#map-title').innerText === 'Map of rfam'")


def test_without_webgl_it_says_so(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait("document.querySelector('#collection').options.length === 2")
    browser.run("HTMLCanvasElement.prototype.getContext = () => null; document.querySelector('#map-link').click()")
    browser.wait("document.querySelector('#map-message .error')")
    assert "WebGL" in browser.text("#map-message")


def test_it_fits_a_phone_and_everything_has_a_name(browser: Browser, url: str) -> None:
    page = MapPage(browser, url, "rfam", 390, 800)
    page.pointer(page.screen()[page.lone()])
    browser.wait("document.querySelector('#map-record a')")
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = (
        "[...document.querySelectorAll('#map-view button')].filter((e) => !e.innerText && !e.ariaLabel && e.offsetParent)"
    )
    assert browser.run(f"return {unnamed}.map((e) => e.id)") == []
    browser.size(1100, 900)
