"""Settings of the service: command-line flags over `UNIRNA_*` variables over defaults that suit a laptop."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from unirna.fold.predictor import MAX_LENGTH
from unirna.serve.keys import KeysError, read_keys

MIN_KEY_LENGTH = 16
ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
SWITCH = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}


class SettingsError(ValueError):
    """A setting with which the service does not start; the message names the flag and the variable."""


@dataclass(frozen=True)
class Settings:
    """Serve a store of collections over HTTP. Every flag is also a variable: --max-k is UNIRNA_MAX_K.

    The key that callers must send is taken from UNIRNA_API_KEY or --api-key-file, never from a flag.
    """

    store: str = ""
    """The store: a folder, or a URI such as s3://bucket/store."""
    model: str = ""
    """The model: a name, folder or URI; by default the one that made the collection."""
    other_models: int = 1
    """Further models that are loaded when a collection of theirs is searched, as after a switch of its model; 0 to refuse
    such searches."""
    registry: str = ""
    """Folder of predictors, as jobs/finetune.py makes it."""
    collection: str = ""
    """Collection that is searched when a request names none; by default the store's (`unirna collections default`)."""
    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback a key is needed."""
    port: int = 8000
    """Port to listen on."""
    root_path: str = ""
    """Path under which a reverse proxy shows the service, such as /unirna; needed where the proxy does not take it off."""
    api_key_file: str = ""
    """File whose first line is the key that callers must send as "Authorization: Bearer KEY"."""
    keys_file: str = ""
    """File of several keys, of which only the SHA-256 is kept: a line NAME SCOPE SHA256 each, as `unirna key NAME` makes
    it. It is read again when it changes."""
    max_requests_per_minute: int = 0
    """Requests that one key may send in a minute to one replica; 0 for as many as it likes."""
    log_requests: bool = False
    """Log each request as a line of JSON: id, key's name, route, status, time; never a sequence."""
    jobs_folder: str = ""
    """Folder of the jobs that callers may submit, which every node sees; without it they may submit none."""
    inputs_folder: str = ""
    """Folder of sequence files and tables that jobs may name as their input."""
    job_workers: int = 1
    """Processes with the model, and cores, of one job."""
    max_jobs: int = 20
    """Jobs of one key that may wait or run at once; beyond, it is asked to wait (429)."""
    replicas: int = 1
    """Copies of the service, each with its own model."""
    max_replicas: int = 0
    """Copies at most: more are started while many requests wait, and stopped again; 0 for no more than --replicas."""
    encoders: int = 0
    """Processes that hold the model for all replicas to ask, so a few GPUs serve many replicas; 0 for a model in each
    replica, a hop less."""
    cpus: int = 0
    """Cores of one replica, and of one encoder; 0 shares this machine's cores among the replicas (on a cluster: 1)."""
    gpus: float = 0.0
    """GPUs of one replica, such as 1 or 0.5; with --encoders, of one of those."""
    max_body_bytes: int = 8 << 20
    """Largest request body in bytes."""
    max_sequences: int = 256
    """Most sequences in one request."""
    max_sequence_length: int = 20_000
    """Longest sequence in nucleotides."""
    max_fold_length: int = 1_500
    """Longest sequence that is folded; a request of several takes at most as long as one of this length."""
    max_variant_nucleotides: int = 150_000
    """Passes of the model over a sequence whose variants are scored, times its length."""
    max_k: int = 1_000
    """Most hits of one search."""
    max_waiting_nucleotides: int = 2_000_000
    """Nucleotides that may wait to be embedded by one encoder of one replica; beyond, callers are asked to come back (429).
    A request of more is refused (413)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Defaults with the `UNIRNA_*` variables over them.

        Raises:
            SettingsError: a variable that should be a number, or a switch, and is none; one that is misspelt.
        """
        hints = get_type_hints(cls)
        names = [variable(field.name) for field in fields(cls)]
        for name in environment:
            if name.startswith("UNIRNA_") and name not in (*names, "UNIRNA_API_KEY"):
                for meant in get_close_matches(name, names, 1, 0.85):
                    raise SettingsError(f"{name} is not a setting: did you mean {meant}?")
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = environment.get(variable(field.name), "").strip()
            if not text:
                continue
            kind = hints[field.name]
            try:
                values[field.name] = SWITCH[text.lower()] if kind is bool else kind(text)
            except (ValueError, KeyError) as error:
                kind = {bool: "1 or 0, true or false", int: "a whole number"}.get(kind, "a number")
                raise SettingsError(f"{variable(field.name)} is {text!r}: expected {kind}") from error
        return cls(**values)

    def check(self) -> None:
        """See that the service can start with these settings.

        Raises:
            SettingsError: it cannot; the message names the setting and what it should be.
        """
        if not self.store:
            raise SettingsError(f"{_name('store')}: no store given. Make one with make demo or jobs/embed.py")
        if self.inputs_folder and not Path(self.inputs_folder).is_dir():
            raise SettingsError(f"{_name('inputs_folder')}: {self.inputs_folder!r} is not a folder")
        if self.root_path and not ROOT_PATH.fullmatch(self.root_path):
            raise SettingsError(f"{_name('root_path')} is {self.root_path!r}: expected a path such as /unirna")
        least = {
            "job_workers": 1,
            "max_jobs": 1,
            "port": 1,
            "replicas": 1,
            "cpus": 0,
            "gpus": 0,
            "other_models": 0,
            "encoders": 0,
            "max_replicas": 0,
            "max_requests_per_minute": 0,
        } | dict.fromkeys(
            (
                "max_body_bytes",
                "max_sequences",
                "max_sequence_length",
                "max_fold_length",
                "max_variant_nucleotides",
                "max_k",
                "max_waiting_nucleotides",
            ),
            1,
        )
        for name, smallest in least.items():
            value = getattr(self, name)
            if value < smallest:
                raise SettingsError(f"{_name(name)} is {value}: expected {smallest} or more")
        if self.max_fold_length > MAX_LENGTH:
            raise SettingsError(f"{_name('max_fold_length')} is {self.max_fold_length}: expected at most {MAX_LENGTH}")
        if 0 < self.max_replicas < self.replicas:
            raise SettingsError(
                f"{_name('max_replicas')} is {self.max_replicas}: expected 0, or at least --replicas, {self.replicas}"
            )
        if self.port > 65535:
            raise SettingsError(f"{_name('port')} is {self.port}: expected 1 to 65535")
        if self.max_waiting_nucleotides < self.max_sequence_length:
            raise SettingsError(
                f"{_name('max_waiting_nucleotides')} is {self.max_waiting_nucleotides}: expected at least "
                f"max_sequence_length, {self.max_sequence_length}, so that the longest sequence can be embedded"
            )

    def key_digest(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """SHA-256 of the key that callers must send, None for none: with a file of keys, or an open service on loopback.

        Raises:
            SettingsError: no key although the service would listen beyond loopback; a key that cannot be read or is short.
        """
        key = environment.get("UNIRNA_API_KEY", "").strip()
        source = "UNIRNA_API_KEY"
        if self.api_key_file:
            source = _name("api_key_file")
            try:
                key = next(iter(Path(self.api_key_file).read_text(encoding="utf-8").splitlines()), "").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{source}: {self.api_key_file} cannot be read ({error})") from error
            if not key:
                raise SettingsError(f"{source}: the first line of {self.api_key_file} is empty")
        if not key:
            if self.keys_file:
                try:
                    read_keys(self.keys_file)
                except KeysError as error:
                    raise SettingsError(f"{_name('keys_file')}: {error}") from error
                return None
            if is_loopback(self.host):
                return None
            raise SettingsError(
                f"{_name('host')} is {self.host}: a service that others can reach needs a key, and none is set. "
                "Set UNIRNA_API_KEY, --api-key-file or --keys-file (openssl rand -hex 32 makes a key), or listen on "
                "127.0.0.1"
            )
        if len(key) < MIN_KEY_LENGTH or not key.isascii():
            raise SettingsError(f"{source}: expected a key of at least {MIN_KEY_LENGTH} ASCII characters, got {len(key)}")
        return hashlib.sha256(key.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"UNIRNA_{name.upper()}"


def _name(name: str) -> str:
    return f"--{name.replace('_', '-')} ({variable(name)})"
