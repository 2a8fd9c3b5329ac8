"""Keys of callers: who may do what, and how often. Only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

SCOPES: Final = ("read", "write", "admin")
"""What a key allows, each all that stands before it too: to ask; to add; to remove."""
LOOK_AGAIN: Final = 1.0
"""Seconds after which a file of keys is looked at again."""


class KeysError(ValueError):
    """A file of keys that cannot be read; the message names the line."""


@dataclass(frozen=True)
class Key:
    """A key: whose it is, what it allows (of `SCOPES`), and its SHA-256."""

    name: str
    scope: str
    digest: str

    def allows(self, scope: str) -> bool:
        """Whether it allows requests that need that scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


def read_keys(path: str | Path, *, strict: bool = True) -> tuple[Key, ...]:
    """Keys of a file: a line `NAME SCOPE SHA256` each, as `unirna key` prints them; what follows # is left out.

    Args:
        path: the file.
        strict: a file that is not there or has no key is an error; else it means that nobody has one.

    Raises:
        KeysError: a file that cannot be read, or a line that is no key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if not strict:
            return ()
        raise KeysError(f"{path} is not there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} cannot be read ({error})") from error
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        good = (
            len(words) == 3 and words[1] in SCOPES and len(words[2]) == 64 and not set(words[2]) - set("0123456789abcdef")
        )
        if not good:
            raise KeysError(
                f"{path}, line {number}: expected NAME SCOPE SHA256, scope one of {', '.join(SCOPES)}; `unirna key NAME` "
                "makes such a line"
            )
        keys.append(Key(*words))
    if not keys and strict:
        raise KeysError(f"{path} has no key. `unirna key NAME` makes one")
    return tuple(keys)


class Keyring:
    """The keys of a service. A file of them is read again when it has changed, so that keys come and go while it runs.

    Args:
        digest: SHA-256 of one key that allows all but removing, None for none.
        path: a file of keys, empty for none.

    Raises:
        KeysError: as `read_keys`.
    """

    def __init__(self, digest: str | None, path: str = "") -> None:
        self._own = (Key("key", "write", digest),) if digest is not None else ()
        self._path = path
        self._stamp = self._stamp_now() if path else None
        self._looked = time.monotonic()
        self._from_file = read_keys(path) if path else ()
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether the service needs no key."""
        return not self._own and not self._path

    def find(self, given: str) -> Key | None:
        """The key that was given, or None; takes the same time whichever it is."""
        self._look()
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for key in (*self._own, *self._from_file):
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found

    def _look(self) -> None:
        if not self._path or time.monotonic() - self._looked < LOOK_AGAIN or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked = time.monotonic()
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._from_file = read_keys(self._path, strict=False)
                self._stamp = stamp
                names = ", ".join(f"{key.name} ({key.scope})" for key in self._from_file) or "nobody has one"
                log.info("read the keys again: %s", names)
        except KeysError as error:
            log.error("the keys that were read before go on: %s", error)
        finally:
            self._lock.release()

    def _stamp_now(self) -> tuple[int, int]:
        try:
            state = Path(self._path).stat()
        except OSError:
            return 0, 0
        return state.st_mtime_ns, state.st_size


class Rates:
    """How often each key may ask: a bucket of as many requests as a minute allows, which fills evenly.

    Args:
        per_minute: requests; 0 for as many as one likes.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Takes one request; 0, or the seconds after which there is one again."""
        if not self.per_minute:
            return 0.0
        now = time.monotonic()
        left, then = self._left.get(name, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        if left < 1:
            self._left[name] = left, now
            return (1 - left) * 60 / self.per_minute
        self._left[name] = left - 1, now
        return 0.0
