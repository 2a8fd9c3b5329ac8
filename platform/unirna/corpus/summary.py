"""One page about a corpus, with its pictures in it: what went in, what stayed out, how long, how clustered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from unirna.base import percent
from unirna.runs import new_file

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem 0}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e8ee}
td:first-child,th:first-child{text-align:left;overflow-wrap:anywhere}th{font-weight:600;color:#55606e}
td{font-variant-numeric:tabular-nums}.note{color:#55606e}svg{display:block;width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#55606e}svg rect{fill:#2b6cb0}
"""


def write_summary(path: Path, manifest: dict[str, Any]) -> None:
    """Write the page of a manifest."""
    with new_file(path) as beside:
        beside.write_text(_page(manifest), encoding="utf-8")


def _page(m: dict[str, Any]) -> str:
    train = m["splits"]["train"]
    recipe = m["recipe"]
    clusters = m["clusters"]
    sums = (
        f"{m['read']:,} records read = {m['kept']:,} kept + {m['rejected']:,} rejected + "
        f"{m['duplicates']:,} duplicates + {m['excluded']:,} excluded"
    )
    sections = [
        f"<h1>Corpus: {train['sequences']:,} sequences, {train['nucleotides']:,} nucleotides to train on</h1>",
        f"<p>{sums}.</p>",
        _table(
            ["split", "sequences", "nucleotides", "with a group"],
            ([name, s["sequences"], s["nucleotides"], s["with_group"]] for name, s in m["splits"].items()),
        ),
        "<h2>Sources</h2>",
        _sources(m),
        f"<p class=note>Share: of the draw in training. A cluster of n weighs n^{recipe['cluster_exponent']:g}; a source "
        f"its weight × its clusters^{recipe['source_exponent']:g}.</p>",
        "<h2>Lengths, training split</h2>",
        _bars([_range(m["length_edges"], i) for i in range(len(m["length_edges"]))], train["lengths"], "nt"),
        "<h2>Clusters of near-duplicates</h2>",
        f"<p>{_clustering(m)}: {clusters['clusters']:,} clusters, {clusters['singletons']:,} of one sequence, the largest "
        f"of {clusters['largest']:,}.</p>",
        _bars([f"≤ {s}" for s in clusters["sizes_up_to"]], list(clusters["sizes_up_to"].values()), "members"),
    ]
    if m["excluded"] or m["exclusion_sets"]:
        sections += ["<h2>Excluded</h2>", _exclusions(m)]
    if m["rejected"]:
        sections += ["<h2>Rejected</h2>", _table(["reason", "records"], m["rejected_by_reason"].items())]
        sections += [
            "<p class=note>rejects.parquet lists them: file, number and id of the record, and the invalid letter.</p>"
        ]
    made = f"Made by unirna {m['unirna']}" + (f", MMseqs2 {m['mmseqs2']}" if m["mmseqs2"] else "")
    sections.append(f"<p class=note>{escape(made)}. Every setting and checksum: manifest.json.</p>")
    body = "\n".join(sections)
    head = f"<meta charset=utf-8><title>Corpus</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}\n{body}\n</html>\n"


def _sources(m: dict[str, Any]) -> str:
    train = m["splits"]["train"]["sources"]
    rows = [
        [
            name,
            f"{weight:g}",
            *(m["by_source"][name][key] for key in ("read", "rejected", "duplicates", "excluded", "kept")),
            train.get(name, {}).get("nucleotides", 0),
            percent(train.get(name, {}).get("share", 0), 1),
        ]
        for name, weight in zip(m["sources"], m["source_weights"], strict=True)
    ]
    heads = ["source", "weight", "read", "rejected", "duplicates", "excluded", "kept", "training nt", "share"]
    return _table(heads, rows)


def _exclusions(m: dict[str, Any]) -> str:
    recipe, sets, counts = m["recipe"], m["exclusion_sets"], m["excluded_by_set"]
    rules = [[name, "", counts[name]] for name in counts if name not in sets]
    rows = [[name, s["distinct"], counts.get(name, 0)] for name, s in sets.items()]
    how = (
        f"Left out: what is identical to a member, or aligns at {percent(recipe['exclude_identity'])} identity or more "
        f"over {percent(recipe['exclude_coverage'])} or more of the shorter of the two ({m['exclusion']})."
    )
    note = f"<p class=note>{how} Each sequence counts once, under its closest member's set; excluded.parquet lists all.</p>"
    return _table(["rule or set", "distinct members", "sequences left out"], rules + rows) + (note if sets else "")


def _clustering(m: dict[str, Any]) -> str:
    if m["clustering"] == "none":
        return "No clustering, each distinct sequence counts as a cluster"
    recipe = m["recipe"]
    return f"{m['clustering']} at {percent(recipe['identity'])} identity over {percent(recipe['coverage'])} of the member"


def _range(edges: Sequence[int], i: int) -> str:
    return f"{edges[i]:,}-{edges[i + 1] - 1:,}" if i + 1 < len(edges) else f"{edges[i]:,} or more"


def _table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    def cell(value: object) -> str:
        return f"{value:,}" if isinstance(value, int) else escape(str(value))

    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _bars(labels: Sequence[str], counts: Sequence[int], unit: str) -> str:
    """Horizontal bars, one for each label; empty ones at both ends are left out."""
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return "<p>None.</p>"
    most, row = max(counts), 18
    bars = []
    for line, i in enumerate(range(filled[0], filled[-1] + 1)):
        y, width = line * row, 560 * counts[i] / most
        bars.append(
            f'<text x="112" y="{y + 12}" text-anchor="end">{escape(labels[i])} {unit if not line else ""}</text>'
            f'<rect x="120" y="{y + 2}" width="{width:.1f}" height="{row - 5}"/>'
            f'<text x="{126 + width:.1f}" y="{y + 12}">{counts[i]:,}</text>'
        )
    height = (filled[-1] - filled[0] + 1) * row
    return f'<svg viewBox="0 0 760 {height}" role="img" aria-label="histogram">{"".join(bars)}</svg>'
