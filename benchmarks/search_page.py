"""The page on choosing an index, `docs/indexes.md`, from what `benchmarks/search.py --out` measured, with its plots.

    python benchmarks/search_page.py 200k.json 1m.json

Every number of its tables comes from these files; the words around them are here. Collections of other sizes that the page
has already stay as they stand.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

DOCS = Path(__file__).resolve().parent.parent / "docs"
COLOURS = {
    "hnsw": "#0072b2",
    "ivf_flat": "#d55e00",
    "ivf_sq": "#e69f00",
    "ivf_pq": "#009e73",
    "ivf_rq": "#cc79a7",
    "memory": "#000000",
    "faiss hnsw": "#999999",
    "faiss flat": "#999999",
}
"""Colours that also those can tell apart who do not see red and green as others do."""
INTRODUCTION = """# Choosing an index

Whether your collection needs an index, which kind to take, and what each kind costs.
`benchmarks/search_page.py` wrote this page from what `benchmarks/search.py` measured.

## What to take
- **No index** if the vectors fit the memory set aside for searches (`UNIRNA_SEARCH_MEMORY_GB`, 1 by
  default). Then the search is exact, and it sees a commit at once. This is enough for some hundred
  thousand rows. It is enough for a million rows if a query may take a tenth of a second.
- **`hnsw`**, the default, for larger collections. It has the best recall for its time, but takes
  the longest to build. A million rows take twelve to fourteen minutes, with 2.9 GB resident at the
  peak (a build watched by itself).
- **`ivf_flat`** if the build must be short. It builds in a tenth of the time or less, but a query
  takes twice as long.
- **`ivf_sq`, `ivf_pq` or `ivf_rq`**, the compressed kinds, if the vectors do not fit the machine's
  memory at all. They have to look into more partitions for the same recall.

`unirna collections index NAME --store … --kind …` and `jobs/embed.py --index …` build an index.
They measure it on the collection's own rows, and refuse it if it finds less than `--min-recall`.

## How to read the tables
- `memory` is the exact search in memory. `store` is LanceDB's own scan, without an index.
- recall@10 is the share of the ten nearest rows (or rows as near) that are found.
- The milliseconds are of one query after the other, each asked alone, the hits' columns read.
- "1 % pass" is a filter that one row in a hundred passes. Up to 20,000 rows that pass are compared
  one by one, whatever the index.
- faiss holds vectors alone, in memory, without ids, columns, filters, commits or files.
"""


@dataclass(frozen=True)
class Config:
    """Write the page."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Files that `benchmarks/search.py --out` wrote."""
    out: Path = DOCS
    """Folder of indexes.md and of its plots, indexes-ROWS.svg."""

    def __post_init__(self) -> None:
        if not self.results:
            raise SystemExit("expected one or more files of results")


def main(config: Config) -> None:
    """Write the page and the plots."""
    page = config.out / "indexes.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    there = [part for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if re.match(r"## [\d,]+ rows", part)]
    sections = {int(re.sub(r"\D", "", text.partition("\n")[0])): text for text in there}
    for path in config.results:
        run = json.loads(path.read_text(encoding="utf-8"))
        sections[run["rows"]] = section(run)
        plot(run, config.out / f"indexes-{run['rows']}.svg")
    page.write_text(
        "\n".join([INTRODUCTION, "\n".join(sections[rows].rstrip() + "\n" for rows in sorted(sections))]), encoding="utf-8"
    )


def section(run: dict[str, Any]) -> str:
    """One collection's table."""
    setting = (
        f"Vectors of {run['dimension']} numbers by `{run['model']}` ({run['fingerprint']}), of windows of 60 to 200 "
        f"nucleotides from `{run['sequences']}`. The {run['queries']:,} queries are other windows. {run['cores']} cores. "
        "Each index was asked for a recall of .98."
    )
    lines = [
        f"## {run['rows']:,} rows",
        "",
        *textwrap.wrap(setting, 100, break_on_hyphens=False),
        "",
        "| kind | build, s | memory, GB | recall@10 | ms p50 / p99 | recall, 1 % pass | ms p50 / p99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, row in run["results"].items():
        if "refused" in row:
            lines.append(f"| {kind} | {row.get('build', '')} | | refused: {row['refused']} | | | |")
            continue
        memory = f"{row['build_mb'] / 1e3:.1f}" if "build_mb" in row else ""
        cells = [f"{row['build']:,.1f}", memory]
        for part in (row["all"], row.get("filtered")):
            cells += ["", ""] if part is None else [f"{part['recall']:.3f}", f"{part['p50']:.1f} / {part['p99']:.1f}"]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"![recall against milliseconds](indexes-{run['rows']}.svg)", ""])


def plot(run: dict[str, Any], path: Path) -> None:
    """Recall against the median time of a query."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "unirna", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    figure, panel = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for kind, row in run["results"].items():
        points = row.get("curve") or ([row["all"]] if "all" in row and kind != "store" else [])
        if points:
            panel.plot(
                [point["p50"] for point in points],
                [point["recall"] for point in points],
                marker="o" if len(points) > 1 else "D",
                color=COLOURS.get(kind),
                linestyle="--" if "faiss" in kind else "-",
                markersize=4 if len(points) > 1 else 7,
                label=kind,
                markerfacecolor="none" if kind == "faiss flat" else None,
            )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xlabel("milliseconds a query, median")
    panel.set_ylabel("recall@10")
    panel.set_title(f"{run['rows']:,} rows")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
