"""What the service's processes say, where whoever started it reads it: on the standard error of the command.

Ray starts the processes that answer and keeps what they write in its session's folder. On one machine they send it, a
datagram a line, to a socket of the command instead, which writes it. A command that does not read loses lines to Ray's
folder; it never holds up an answer.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final, TextIO

ADDRESS: Final = "UNIRNA_LOG_SOCKET"
"""Environment variable with the path of the socket, which processes of an embedded Ray inherit."""
MOST_BYTES: Final = 60_000
"""Of one line, or of one error with its trace."""


class Lines:
    """Writes what other processes of this machine log, until it is closed; nothing if there can be no such socket."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._folder = tempfile.mkdtemp(prefix="unirna-log-")
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(str(Path(self._folder) / "s"))
        except (OSError, AttributeError):  # a path that is too long, a system without such sockets
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        os.environ[ADDRESS] = str(Path(self._folder) / "s")
        self._thread.start()

    def close(self) -> None:
        """Write what has come, and no more."""
        if not self._thread.is_alive():
            return
        path = os.environ.pop(ADDRESS)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.setblocking(False)
            try:
                last.sendto(b"", path)
                self._thread.join(timeout=2)
            except OSError:  # nobody reads what is written: it is full
                pass
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self) -> None:
        while True:
            try:
                line = self._socket.recv(MOST_BYTES)
            except OSError:  # closed
                return
            if not line:
                return
            try:
                self._to.write(line.decode(errors="replace") + "\n")
                self._to.flush()
            except (OSError, ValueError):  # nobody reads any more
                continue


class ToCommand(logging.StreamHandler[TextIO]):
    """Sends records to the command that started the service; where there is none, as on a cluster, or where it does not
    take them, to standard error."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_Format("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._address = os.environ.get(ADDRESS, "")
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        if self._socket is not None:
            try:
                self._socket.sendto(self.format(record).encode(errors="replace")[:MOST_BYTES], self._address)
                return
            except OSError:  # the command has gone, or does not read
                pass
        super().emit(record)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Lines of JSON, which have their own time, as they are; of others no character that controls a terminal, and
        no line that could be taken for another record."""
        if record.name in ("unirna.access", "unirna.audit"):
            return record.getMessage()
        text = super().format(record).replace("\n", "\n    ")
        return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
