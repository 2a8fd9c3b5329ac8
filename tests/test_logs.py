"""Lines of the service's processes on the standard error of the command that started it."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unirna.serve.ray.logs import ADDRESS, Lines, ToCommand


@pytest.fixture(autouse=True)
def _no_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(ADDRESS, raising=False)
    yield


def log(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, __file__, 1, message, (), None)


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_lines_come_out_and_cannot_be_forged() -> None:
    out = io.StringIO()
    lines = Lines(out)
    handler = ToCommand()
    handler.emit(log("unirna.audit", '{"status": 204}'))
    handler.emit(log("unirna.serve.api.middleware", 'path\n{"status": 200}\x1b[2J'))
    until(lambda: out.getvalue().count("\n") == 3)
    first, second, third = out.getvalue().splitlines()
    assert first == '{"status": 204}' and second.endswith("INFO unirna.serve.api.middleware: path")
    assert third == '    {"status": 200}\\x1b[2J'
    lines.close()
    handler.emit(log("unirna.audit", "late"))  # to standard error, without an error


class Blocked(io.StringIO):
    """As a terminal that is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait()
        return super().write(text)


class Broken(io.StringIO):
    """As a pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_who_does_not_read_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    blocked = Blocked()
    for out in (blocked, Broken()):
        lines = Lines(out)
        handler = ToCommand()
        handler.setStream(io.StringIO())
        done = threading.Thread(target=lambda h=handler: [h.emit(log("unirna.audit", "x" * 1000)) for _ in range(500)])  # type: ignore[misc]
        done.start()
        done.join(timeout=20)
        assert not done.is_alive()
        blocked.go.set()
        lines.close()
    assert "x" * 1000 in blocked.getvalue()


def test_a_long_folder_for_temporary_files_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    lines = Lines(io.StringIO())
    assert list(folder.iterdir()) == []
    lines.close()
    ToCommand().emit(log("unirna.audit", "to standard error"))
