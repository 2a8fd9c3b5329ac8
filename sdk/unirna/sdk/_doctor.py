"""`unirna doctor`: check the installation and say what to fix."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Literal
from urllib.parse import urlsplit

import tyro

from unirna.base import counted
from unirna.sdk._connect import connect
from unirna.sdk._connection_options import ConnectionOptions
from unirna.sdk._exceptions import AuthenticationError, UniRNAError

State = Literal["ok", "note", "problem"]
MARKS = {"ok": "✓", "note": "·", "problem": "✗"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, its state, what was found, and what to do about a problem."""

    what: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check the installation, the cluster, the store and the service, and say what to fix."""

    source: tyro.conf.OmitArgPrefixes[ConnectionOptions] = field(default_factory=ConnectionOptions)

    def run(self) -> int:
        """Check and print; 1 where there is a problem."""
        problems = 0
        for check in (installation, machine, ray_cluster, lambda: store(self.source), lambda: service(self.source)):
            for finding in check():
                problems += finding.state == "problem"
                print(f"{MARKS[finding.state]} {finding.what}: {finding.found}")
                if finding.fix:
                    print(f"    {finding.fix}")
        print("nothing to fix" if not problems else f"{problems} to fix")
        return 1 if problems else 0


def installation() -> Iterator[Finding]:
    """Python, and the packages of each extra in the required versions."""
    have = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("Python", "ok" if fits else "problem", have, "" if fits else "UniRNA runs on Python 3.11 to 3.13")
    try:
        wanted = requires("unirna") or []
        yield Finding("unirna", "ok", version("unirna"))
    except PackageNotFoundError:
        yield Finding("unirna", "problem", "not installed", "pip install unirna, or pip install -e . in a checkout")
        return
    for extra, purpose in (("", "client"), ("vectorstore", "reading a store here"), ("platform", "jobs and a service")):
        lacking, wrong = [], []
        for line in wanted:
            name, least, of = _requirement(line)
            if of != extra or name == "unirna":
                continue
            try:
                there = version(name)
            except PackageNotFoundError:
                lacking.append(name)
                continue
            if least and _numbers(there) < _numbers(least):
                wrong.append(f"{name} {there}, expected {least}")
        label = f"unirna[{extra}]" if extra else "base packages"
        fix = f"pip install --upgrade '{label if extra else 'unirna'}'"
        if wrong or (lacking and not extra):
            yield Finding(label, "problem", "; ".join([*wrong, *(f"no {name}" for name in lacking)]), fix)
        elif lacking:
            yield Finding(label, "note", f"not installed (no {', '.join(lacking)}): for {purpose}", fix)
        else:
            yield Finding(label, "ok", f"complete: {purpose}")


def machine() -> Iterator[Finding]:
    """Cores, memory, GPU and room on the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        memory = 0.0
    yield Finding("machine", "ok", f"{cores} cores" + (f", {memory:.0f} GB of memory" if memory else ""))
    room = shutil.disk_usage(".").free / 2**30
    low = room < 5
    yield Finding("disk", "problem" if low else "ok", f"{room:.0f} GB free here", "jobs need a few GB" if low else "")
    if importlib.util.find_spec("torch") is not None:
        torch: Any = importlib.import_module("torch")
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found = ", ".join(gpus) if gpus else f"none that torch {torch.__version__} can use; the CPU does the work"
        yield Finding("GPU", "ok" if gpus else "note", found)


def ray_cluster() -> Iterator[Finding]:
    """The cluster that RAY_ADDRESS names."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        yield Finding("Ray", "note", "RAY_ADDRESS is not set: jobs start a Ray of their own on this machine")
        return
    if address in ("auto", "local"):
        yield Finding("Ray", "note", f"RAY_ADDRESS is {address}: Ray itself looks for a cluster, or starts one")
        return
    split = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = split.hostname or "", split.port or {"http": 80, "https": 443}.get(split.scheme, 10001)
        socket.create_connection((host, port), timeout=5).close()
    except (OSError, ValueError) as error:
        yield Finding("Ray", "problem", f"{address} does not answer ({error})", "start the cluster, or unset RAY_ADDRESS")
        return
    yield Finding("Ray", "ok", f"{address} answers")


def store(source: ConnectionOptions) -> Iterator[Finding]:
    """The store that was named, and its collections."""
    if not source.store:
        return
    try:
        vectorstore: Any = importlib.import_module("unirna.vectorstore")
    except ImportError as error:
        yield Finding("store", "problem", f"cannot be read here ({error})", "pip install 'unirna[vectorstore]'")
        return
    try:
        names = vectorstore.list_collections(source.store)
    except (OSError, ValueError) as error:
        yield Finding(
            "store", "problem", f"{source.store}: {error}", "see that the folder or URI and its credentials are right"
        )
        return
    if not names:
        fix = "make one with jobs/embed.py or make demo"
        yield Finding("store", "problem", f"{source.store} has no collection", fix)
    for name in names:
        try:
            info = vectorstore.open(source.store, name).info
        except vectorstore.StoreError as error:
            yield Finding(f"collection {name}", "problem", str(error), "restore an older version, or embed it again")
            continue
        made = info.provenance
        yield Finding(
            f"collection {name}", "ok", f"{counted(info.num_rows, 'row')} of {info.dimension} numbers by {made.model}"
        )


def service(source: ConnectionOptions) -> Iterator[Finding]:
    """The service that is named, or that stands at UNIRNA_URL or the default address."""
    asked = bool(source.url or os.environ.get("UNIRNA_URL"))
    try:
        with connect(source.url or None, timeout=source.timeout) as client:
            models, collections = client.models(), client.collections()
    except AuthenticationError as error:
        fix = "set UNIRNA_API_KEY to a key of this service (whoever runs it makes one with: unirna key NAME)"
        yield Finding("service", "problem", error.detail.partition(". Set")[0].partition(". Send")[0], fix)
        return
    except (UniRNAError, ValueError) as error:
        fix = "start one with unirna serve, or name another with --url or UNIRNA_URL"
        yield Finding("service", "problem" if asked else "note", str(error).partition(". Start")[0], fix)
        return
    yield Finding("service", "ok", f"{client!r}: model {models[0].name}, {len(models) - 1} predictors")
    for found in collections:
        words = f"{counted(found.num_rows, 'row')} by {found.model}"
        if found.searchable:
            yield Finding(f"its collection {found.name}", "ok", words)
        else:
            fix = f"serve it with --model {found.model}, or switch it to the other model with jobs/embed.py --switch-model"
            yield Finding(f"its collection {found.name}", "note", f"{words}, which is not the service's model", fix)


def _requirement(line: str) -> tuple[str, str, str]:
    """Name, least version and extra of a requirement as package metadata has them."""
    named = re.match(r"[A-Za-z0-9._-]+", line)
    least = re.search(r">=\s*([0-9.]+)", line.partition(";")[0])
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", line)
    return named.group() if named else "", least.group(1) if least else "", extra.group(1) if extra else ""


def _numbers(text: str) -> tuple[int, ...]:
    found = [int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3]]
    return (*found, *[0] * (3 - len(found)))
