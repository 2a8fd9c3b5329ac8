"""A real browser for tests of the page: chromium, driven over WebDriver's plain HTTP."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A headless chromium; `log` gathers what its console says."""

    def __init__(self, driver: str, width: int = 1100, height: int = 900) -> None:
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
        arguments += [f"--window-size={width},{height}"]
        options = {"binary": shutil.which("chromium"), "args": arguments}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._http = httpx2.Client(base_url=driver, timeout=60, trust_env=False)
        answer = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
        self._path = f"/session/{answer['sessionId']}"
        self.log: list[dict[str, Any]] = []

    def _post(self, path: str, **body: Any) -> Any:
        response = self._http.post(f"{self._path}/{path}", json=body).json()["value"]
        assert not (isinstance(response, dict) and "error" in response), response
        return response

    def open(self, url: str) -> None:
        self._post("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._post("execute/sync", script=script, args=list(arguments))

    def find(self, css: str) -> str:
        return str(self._post("element", using="css selector", value=css)[ELEMENT])

    def click(self, css: str) -> None:
        self._post(f"element/{self.find(css)}/click")

    def type(self, css: str, text: str) -> None:
        element = self.find(css)
        self._post(f"element/{element}/clear")
        self._post(f"element/{element}/value", text=text)

    def text(self, css: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def texts(self, css: str) -> list[str]:
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", css))

    def wait(self, script: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({script})"):
            assert time.monotonic() < end, f"after {seconds} s not yet: {script}\n{self.text('body')[:2000]}"
            time.sleep(0.05)

    def dark(self, on: bool) -> None:
        """Ask for dark or light colours, as a system's setting does."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self._post("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    def size(self, width: int, height: int) -> None:
        self._post("window/rect", width=width, height=height)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._http.get(f"{self._path}/screenshot").json()["value"]))

    def console(self) -> list[str]:
        """What the console has said since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._post("se/log", type="browser")]

    def close(self) -> None:
        self._http.delete(self._path)
        self._http.close()


@contextmanager
def started_driver() -> Iterator[str]:
    """The address of a running chromedriver; skips the test where there is none."""
    chromedriver = shutil.which("chromedriver")
    if chromedriver is None or shutil.which("chromium") is None:
        pytest.skip("no chromium and chromedriver here: the page is not looked at")
    with subprocess.Popen([chromedriver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(
            line.rstrip(".\n").rsplit(" ", 1)[1] for line in process.stdout if "started successfully on port" in line
        )
        yield f"http://127.0.0.1:{port}"
        process.terminate()
