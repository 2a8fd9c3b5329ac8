"""Memory of a tree of processes and size of a folder, for the benchmarks. Linux only."""

from __future__ import annotations

from pathlib import Path


def memory_of_tree(root: int) -> dict[int, float]:
    """Megabytes that each process of a tree holds, by its id."""
    parents: dict[int, int] = {}
    held: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
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
