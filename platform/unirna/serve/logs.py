"""What the service's processes say, where whoever started it reads it: on the standard error of the command.

Ray starts the processes that answer and keeps what they write in its session's folder. On one machine they send it, a
datagram a line, to a socket of the command instead, which writes it.
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
    """Writes what other processes of this machine log, from `listen` to `close`."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._folder = Path(tempfile.mkdtemp(prefix="unirna-log-"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._folder / "s"))
        os.environ[ADDRESS] = str(self._folder / "s")
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def close(self) -> None:
        """Write no more."""
        os.environ.pop(ADDRESS, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self) -> None:
        while True:
            self._to.write(self._socket.recv(MOST_BYTES).decode(errors="replace") + "\n")
            self._to.flush()


class ToCommand(logging.StreamHandler[TextIO]):
    """Sends records to the command that started the service; where there is none, as on a cluster, to standard error."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_Format("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._address = os.environ.get(ADDRESS, "")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        if self._socket is not None:
            try:
                self._socket.sendto(self.format(record).encode(errors="replace")[:MOST_BYTES], self._address)
                return
            except OSError:  # the command has gone
                pass
        super().emit(record)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Lines of JSON, which have their own time, as they are."""
        return record.getMessage() if record.name in ("unirna.access", "unirna.audit") else super().format(record)
