"""The report of a screen: one HTML file with nothing loaded from elsewhere. All text from input is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import pyarrow as pa

from unirna.base import counted
from unirna.screen.criteria import Criteria, outside_column

MOST_ROWS: Final = 200
"""Hits of the report's table; all stand in the ranked files."""
MOST_LABELS: Final = 4
"""Label columns of the input that are shown."""

STYLE: Final = """
:root { --ink: #1c2733; --quiet: #5d6b7a; --line: #dfe5ea; --hit: #0b7a75; --paper: #fff; --back: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0 0 12px; }
p { margin: 0 0 10px; }
.quiet { color: var(--quiet); }
section, .figures div { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 20px 24px; margin-top: 20px; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px; }
.figures div { padding: 12px 18px; flex: 1 1 130px; }
.figures b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
table.small { width: auto; margin-bottom: 8px; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
td.id { font-weight: 600; overflow-wrap: anywhere; min-width: 180px; max-width: 280px; }
td.text { overflow-wrap: anywhere; min-width: 130px; max-width: 240px; }
.bar { display: inline-block; width: 60px; height: 8px; border-radius: 4px; background: var(--line); }
.bar { margin-right: 8px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--hit); }
summary { cursor: pointer; color: var(--quiet); font-size: 12px; font-weight: 400; }
code { font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--quiet); }
@media print { body { background: #fff; } section, .figures div { break-inside: avoid; } }
"""


def write_report(
    ranked: pa.Table,
    criteria: Criteria,
    counts: Mapping[str, Any],
    histogram: Sequence[int],
    settings: Mapping[str, str],
) -> str:
    """The report as HTML.

    Args:
        ranked: the hits, best first.
        criteria: what they were scored on.
        counts: read, screened, rejected, rejected_by_reason, nucleotides, windowed.
        histogram: records of the library per bin of the score, bins evenly from 0 to 1.
        settings: what was asked for, in words.
    """
    cut = ranked["score"][-1].as_py()
    best = ranked["score"][0].as_py()
    figures = [
        (f"{counts['read']:,}", "records read"),
        (f"{counts['screened']:,}", "screened"),
        *([(f"{counts['not_applicable']:,}", "not applicable")] if counts["not_applicable"] else []),
        (f"{counts['rejected']:,}", "rejected"),
        (f"{ranked.num_rows:,}", "hits in the shortlist"),
        (f"{best:.3f}", "best score"),
        (f"{cut:.3f}", "score of the last hit"),
    ]
    shown = "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in figures)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Screen of {escape(settings["Library"])}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Screening report</h1>
<p class="quiet">{escape(_headline(settings, criteria))}</p>
<div class="figures">{shown}</div>
<section>
<h2>Scores of the library</h2>
{_plot(histogram, cut, ranked.num_rows)}
</section>
<section>
<h2>Hits</h2>
{_table(ranked, criteria)}
</section>
<section>
<h2>How the score is made</h2>
{_method(criteria)}
</section>
<section>
<h2>Accounting</h2>
{_accounting(counts)}
</section>
<section>
<h2>Settings</h2>
<dl>{"".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in settings.items())}</dl>
</section>
</main>
</body>
</html>
"""


def _headline(settings: Mapping[str, str], criteria: Criteria) -> str:
    wanted = [f"similar to {settings['Similar to']}"] if criteria.references else []
    wanted += [f"predicted as {criterion.name}" for criterion in criteria.labels]
    return f"{settings['Library']}: {' and '.join(wanted)}"


# ---- the plot ------------------------------------------------------------------------------------------------------


def _plot(histogram: Sequence[int], cut: float, hits: int) -> str:
    """Histogram on a logarithmic scale, so that a few hits show beside a million others; hits' bins are coloured."""
    width, height, left, right, top, bottom = 1100, 300, 84, 16, 34, 44
    inner_w, inner_h = width - left - right, height - top - bottom
    most = max(max(histogram), 1)
    decades = max(1, math.ceil(math.log10(most + 1)))

    def x(score: float) -> float:
        return left + score * inner_w

    def y(count: float) -> float:
        return top + inner_h * (1 - math.log10(count + 1) / decades)

    parts = []
    for tick in (0, *(10**d for d in range(1 if decades > 2 else 0, decades + 1))):
        level = y(tick) if tick < 10**decades else top
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{level:.1f}" y2="{level:.1f}" stroke="#e8edf1"/>'
            f'<text x="{left - 8}" y="{level + 4:.1f}" text-anchor="end">{tick:,}</text>'
        )
    size = len(histogram)
    for i, count in enumerate(histogram):
        if count:
            low, high = i / size, (i + 1) / size
            colour = "#0b7a75" if low >= cut else "url(#cut)" if high > cut else "#b9c6d0"
            parts.append(
                f'<rect x="{x(low) + 1:.1f}" y="{y(count):.1f}" width="{inner_w / size - 2:.1f}" '
                f'height="{top + inner_h - y(count):.1f}" fill="{colour}"><title>{low:.2f} to {high:.2f}: {count:,} '
                "records</title></rect>"
            )
    parts += [
        f'<text x="{x(t / 5):.1f}" y="{top + inner_h + 18}" text-anchor="middle">{t / 5:.1f}</text>' for t in range(6)
    ]
    anchor, shift = ("end", -6) if cut > 0.5 else ("start", 6)
    edge = x(min(max(cut, 0.0), 1.0))
    first = min(int(cut * size), size - 1)  # the cut falls into this bin: it is coloured from the cut on
    share = cut * size - first
    parts.append(
        f'<defs><linearGradient id="cut"><stop offset="{share:.3f}" stop-color="#b9c6d0"/>'
        f'<stop offset="{share:.3f}" stop-color="#0b7a75"/></linearGradient></defs>'
        f'<line x1="{edge:.1f}" x2="{edge:.1f}" y1="{top - 8}" y2="{top + inner_h}" stroke="#c2410c" stroke-width="1.5" '
        'stroke-dasharray="5 3"/>'
        f'<text x="{edge + shift:.1f}" y="{top - 12}" text-anchor="{anchor}" style="fill:#c2410c">top {hits:,}: score '
        f"{cut:.3f} and above</text>"
        f'<text x="{left + inner_w / 2}" y="{height - 6}" text-anchor="middle">score</text>'
        f'<text x="14" y="{top + inner_h / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {top + inner_h / 2})">records (logarithmic)</text>'
    )
    label = f"Histogram of the scores of {counted(sum(histogram), 'record')}; the shortlist starts at {cut:.3f}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


# ---- the table -----------------------------------------------------------------------------------------------------


def _table(ranked: pa.Table, criteria: Criteria) -> str:
    names = ranked.column_names
    scores = [criterion.name for criterion in criteria.labels]
    named = list(dict.fromkeys(criterion.predictor for criterion in criteria.labels))
    columns = [column for name in named for column in (f"predicted {name}", outside_column(name))]
    predicted = [column for column in columns if column in names]
    labels = names[names.index((["similarity", "nearest"] if criteria.references else ["score"])[-1]) + 1 :]
    labels = [n for n in labels if n not in (*scores, *predicted, "source", "number", "sha", "sequence")]
    filled = [n for n in labels if any(value not in (None, "") for value in ranked[n].to_pylist())][:MOST_LABELS]
    heads = [("rank", "n", "#"), ("id", "", "id"), ("length", "n", "length (nt)"), ("score", "n", "score")]
    if criteria.references:
        heads += [("similarity", "n", "similarity (cosine)"), ("nearest", "", "nearest reference")]
    heads += [(c.name, "n", f"{'desirability' if c.numeric else 'probability'} of {c.name}") for c in criteria.labels]
    heads += [(name, "", name) for name in (*predicted, *filled)]
    rows = []
    for hit in ranked.slice(0, MOST_ROWS).to_pylist():
        cells = [_cell(name, kind, hit) for name, kind, _ in heads]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = "All columns, the sequences and where each record stands are in ranked.parquet and ranked.csv."
    if ranked.num_rows > MOST_ROWS:
        note = f"The first {MOST_ROWS:,} of {ranked.num_rows:,} hits. {note}"
    head = "".join(f'<th class="{kind}">{escape(title)}</th>' for _, kind, title in heads)
    return f"""<p class="quiet">{note}</p>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table></div>"""


def _cell(name: str, kind: str, hit: Mapping[str, Any]) -> str:
    value = hit[name]
    if name == "id":
        sequence = f"<details><summary>sequence</summary><code>{escape(hit['sequence'])}</code></details>"
        return f'<td class="id">{escape(str(value))}{sequence}</td>'
    if name == "score":
        share = min(max(value, 0.0), 1.0)
        return f'<td class="n"><span class="bar"><i style="width:{share:.1%}"></i></span>{value:.3f}</td>'
    if kind == "n":
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if name == "similarity" else f"{value:.3f}"
        return f'<td class="n">{text}</td>'
    shown = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    return f'<td class="text">{escape(shown)}</td>'


# ---- words ---------------------------------------------------------------------------------------------------------


def _method(criteria: Criteria) -> str:
    count = len(criteria.labels) + (criteria.references is not None)
    items = []
    if criteria.references:
        items.append(
            "<li><b>Similarity</b>: the cosine of the record's vector with that of the nearest reference, turned into "
            "d0 / (d0 + 1 − cosine). d0 is the median distance of random RNA of the references' lengths to the references, "
            f"{criteria.references.unit:.3g} for this model: a reference itself has 1, random RNA about 0.5.</li>"
        )
    items += [
        f"<li><b>{escape(c.name)}</b>: the share of the values in the table of predictor {escape(c.predictor)} that lie "
        f"{'below' if c.label == 'high' else 'above'} the predicted one, as a normal distribution has it.</li>"
        if c.numeric
        else f"<li><b>{escape(c.name)}</b>: the probability that the predictor {escape(c.predictor)} gives to "
        f"{escape(c.label)}. How well it is calibrated stands on its card. A record that is out of distribution is unlike "
        "the RNA of the predictor's classes: do not trust its label or probability.</li>"
        for c in criteria.labels
    ]
    whole = (
        "The score is this criterion:"
        if count == 1
        else "The score is the geometric mean of the criteria, each from 0 to 1 (desirabilities, Derringer and Suich 1980):"
    )
    return (
        f"<p>{whole}</p><ul>{''.join(items)}</ul><p>A record's score depends on no other record. Equal scores are ordered "
        "by id, then by file and place. Records that share an id or a sequence are all ranked.</p>"
    )


def _accounting(counts: Mapping[str, Any]) -> str:
    lines = [
        f"<p>{counts['read']:,} read = {counts['screened']:,} screened + "
        + (f"{counts['not_applicable']:,} that a predictor does not apply to + " if counts["not_applicable"] else "")
        + f"{counts['rejected']:,} rejected; {counts['nucleotides']:,} nucleotides.</p>"
    ]
    if counts["windowed"]:
        lines.append(f"<p>{counts['windowed']:,} records are longer than the model's context and were read in windows.</p>")
    for heading, key in (("not applicable", "not_applicable_by_reason"), ("rejected for", "rejected_by_reason")):
        if counts[key]:
            rows = "".join(
                f'<tr><td>{escape(reason)}</td><td class="n">{count:,}</td></tr>' for reason, count in counts[key].items()
            )
            lines.append(
                f'<table class="small"><thead><tr><th>{heading}</th><th class="n">records</th></tr></thead>'
                f'<tbody>{rows}</tbody></table><p class="quiet">Each of them is named in rejects.parquet.</p>'
            )
    return "".join(lines)
