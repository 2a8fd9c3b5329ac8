"""A job in a process of its own, watched, for the benchmarks. Linux only."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def watch(command: list[str], folder: Path, scratch: Path) -> tuple[str, float, dict[str, float]]:
    """Run a job, and sample its memory four times a second.

    Args:
        command: of the job. folder: for its output. scratch: a folder of the job, whose size is sampled.

    Returns:
        What it wrote to stdout; seconds; peaks in MB: `driver`, `largest` (of the other processes), `workers` (all of them
        together) and `scratch`.
    """
    peak: dict[str, float] = {"driver": 0, "largest": 0, "workers": 0, "scratch": 0}
    log = folder / "log.txt"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as errors, (folder / "summary.json").open("w+", encoding="utf-8") as answer:
        job = subprocess.Popen(command, stdout=answer, stderr=errors)
        beats = 0
        while job.poll() is None:
            held = memory_of_tree(job.pid)
            peak["driver"] = max(peak["driver"], held.pop(job.pid, 0.0))
            peak["largest"] = max(peak["largest"], *held.values(), 0.0)
            peak["workers"] = max(peak["workers"], sum(held.values()))
            if beats % 20 == 0:
                peak["scratch"] = max(peak["scratch"], size_of(scratch))
            beats += 1
            time.sleep(0.25)
        seconds = time.monotonic() - started
        answer.seek(0)
        text = answer.read()
    if job.returncode:
        raise SystemExit(f"the job failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return text, seconds, peak


def memory_of_tree(root: int) -> dict[int, float]:
    """Megabytes that each process of a tree holds, by its id."""
    parents: dict[int, int] = {}
    held: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                lines = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
            except OSError:  # it has just ended
                continue
            pid = int(folder.name)
            parents[pid] = int(lines["PPid"])
            kilobytes = (int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in lines)
            held[pid] = sum(kilobytes) / 1e3
    tree = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= more
        grown = bool(more)
    return {pid: held.get(pid, 0.0) for pid in tree}


def size_of(folder: Path) -> float:
    """Megabytes of a folder's files."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed meanwhile
            continue
    return total / 1e6
