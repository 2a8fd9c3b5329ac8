"""The tasks on public data: a predictor trained on each, and docs/results.md of what was measured.

    python recipes/tasks.py run --data ../shared                    # all of them, one after the other
    python recipes/tasks.py run --data ../shared --tasks splice_site m6a
    python recipes/tasks.py write                                   # docs/results.json -> docs/results.md

Each is `jobs/finetune.py --dataset NAME` with its own settings, seed 0, on two cores in minutes to an hour. What is
measured on its test rows goes to `docs/results.json`, a line for each task; a `note` there is kept. Stopped and run
again, it goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import tyro

from unirna.tasks import TASKS, Definition, definitions, find_definition, load_predictor
from unirna.tasks.finetuning.finetune import HELD_OUT, KNOWN, UNSEEN
from unirna.tasks.kinds.task import OF_LABEL
from unirna.tasks.models.baselines import CODONS
from unirna.tasks.models.ensemble import ENCODER

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.json"
OTHERS = {"encoder": "the encoder alone", "k-mers": "the linear model", "1D CNN": "the CNN"}


def run(data: str, *, tasks: tuple[str, ...] = (), registry: str = "runs/tasks", workers: int = 2) -> None:
    """Train one predictor after the other and enter what was measured; those that are there are entered as they are.

    Args:
        data: folder of the public data, laid out as the tasks' `file` says.
        tasks: which ones; all by default.
        registry: folder of the predictors.
        workers: Ray Train workers.
    """
    for definition in map(find_definition, tasks or definitions()):
        path = Path(data) / definition.file
        if not definition.file or not path.exists():
            print(f"{definition.name}: its data are not here ({definition.get})", flush=True)
            continue
        command = [sys.executable, str(ROOT / "jobs" / "finetune.py"), "--dataset", definition.name, "--data", str(path)]
        command += ["--registry", registry, "--compact", "--workers", str(workers)]
        subprocess.run(command, check=True)
        enter(definition, Path(registry) / definition.name)


def enter(definition: Definition, folder: Path) -> None:
    """Put a predictor's measurements into docs/results.json, and write docs/results.md again."""
    info = load_predictor(folder).info
    guess = TASKS[info["task"]].guess_name
    kmers = next(name for name in (CODONS, TASKS[info["task"]].kmer_name) if name in info["metrics"]["test"])
    families = next(iter(HELD_OUT))
    rows = next(title for title in (families, UNSEEN, "test") if title in info["metrics"])
    names = {definition.name: "ours", ENCODER: "encoder", kmers: "k-mers", guess: "no sequence"}

    def scores(metric: str) -> dict[str, list[float]]:
        return {
            names.setdefault(who, who): [round(found[metric][key], 4) for key in ("value", "low", "high")]
            for who, found in info["metrics"][rows].items()
        }

    ours, main = info["metrics"][rows][definition.name], scores(definition.metric)
    alone = {label: OF_LABEL + label for label in definition.labels if OF_LABEL + label in ours}
    entry = {
        "model": f"{info['encoder']['name'].partition(',')[0]}, {info['mode']}",
        "rows": rows,
        "n": ours[definition.metric]["n"],
        "train": info["data"]["splits"]["train"],
        "split": info["data"]["split"],
        **({"cnn_ensemble_size": info["recipe"]["cnn_ensemble_size"]} if "cnn_ensemble_size" in info["recipe"] else {}),
        "seconds": info["training"]["seconds"],
        "made": info["created"][:10],
        **(
            {"weights": {names[who]: round(w, 2) for who, w in info["blend"]["weights"].items()}} if "blend" in info else {}
        ),
        "scores": main,
        **({"labels": {lab: {"n": ours[m]["n"], "scores": scores(m)} for lab, m in alone.items()}} if alone else {}),
    }
    if (members := list(HELD_OUT)[1]) in info["metrics"]:
        found = info["metrics"][members][definition.name][definition.metric]
        entry["members"] = {"n": found["n"], "score": round(found["value"], 4)}
    if KNOWN in info["metrics"]:
        found = info["metrics"][KNOWN][definition.name]["accuracy"]
        entry["known"] = {"n": found["n"], "accuracy": round(found["value"], 4)}
    results = read_results()
    note = results.get(definition.name, {}).get("note")
    results[definition.name] = entry | ({"note": note} if note else {})
    lines = [f"{json.dumps(name)}: {json.dumps(results[name])}" for name in sorted(results)]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    write()


def read_results() -> dict[str, dict[str, Any]]:
    """What docs/results.json holds."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def page(results: dict[str, dict[str, Any]]) -> str:
    """docs/results.md."""
    lines = [
        "# Results",
        "",
        "The accuracy of predictors on the test rows of public data. `recipes/tasks.py` trains them and writes this page. "
        "Structure prediction is measured in [structures.md](structures.md), similarity search in [store.md](store.md).",
        "",
        'A predictor ("this") is an ensemble: a weighted sum of three models that were fitted on the same training rows '
        "([the ensemble](predictor-methods.md#the-ensemble)). The table gives each of them alone:",
        "",
        '- "encoder alone": a head on the encoder.',
        '- "linear": a linear model on 4-mer frequencies. For coding sequences it reads codons and the length, for values '
        "of nucleotides the nucleotides within 7 nt.",
        '- "1D CNN": a small convolutional network on the sequence (70,000 weights).',
        "",
        "In parentheses is the bootstrap 95 % interval over rows. The best value is bold if its interval excludes the "
        'values of the other models. "Others" are published figures, with their protocol in brackets. Each predictor was '
        "trained with one seed. Below, a model is called significantly different if its value is outside the predictor's "
        "interval.",
        "",
        "| task | test rows | metric | this | encoder alone | linear | 1D CNN | others | goal |",
        "|---|--:|---|--:|--:|--:|--:|---|--:|",
    ]
    known = definitions()
    for name in (name for name in known if name in results):
        definition, found = known[name], results[name]
        lines.append(_row(definition, name, definition.metric, found, definition.goal))
        for label, of_it in found.get("labels", {}).items():
            lines.append(_row(definition, f"{name}: {label}", OF_LABEL + label, of_it, definition.goals.get(label)))
    lines += [""]
    for name in (name for name in known if name in results):
        definition, found = known[name], results[name]
        lines += [f"## {name}", "", f"{definition.predicts[0].upper()}{definition.predicts[1:]}. {definition.about}", ""]
        lines += [
            f"{found['model']}; {found['train']:,} training rows; {found['seconds'] / 60:.1f} minutes on two cores; "
            f"{found['made']}. Split: {found['split']}."
            + (f" The CNN is the mean of {found['cnn_ensemble_size']} networks." if "cnn_ensemble_size" in found else "")
            + (
                " The figures are of test rows whose sequence is not in training."
                if found["rows"] == UNSEEN
                else " The figures are of test rows of families that training did not see."
                if found["rows"] in HELD_OUT
                else ""
            ),
            "",
        ]
        lines += [_judgement(definition, found), ""]
    bring = [definition for name, definition in known.items() if name not in results]
    if bring:
        lines += [
            "## Not measured here",
            "",
            "These are defined too. Train them on data that you bring:",
            "",
        ]
        lines += [f"- `{definition.name}`: {definition.predicts}. Needs {definition.get}." for definition in bring]
        lines += [""]
    return "\n".join(_wrapped(line) for line in lines)


def _wrapped(line: str) -> str:
    """A paragraph or an item of a list at 100 columns; a row of a table as it is."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _row(definition: Definition, title: str, metric: str, found: dict[str, Any], goal: float | None) -> str:
    """A line of the table of docs/results.md."""
    scores = {who: found["scores"][who] for who in ("ours", "encoder", "k-mers", "1D CNN") if who in found["scores"]}
    best = max(scores, key=lambda who: scores[who][0])
    alone = all(scores[who][0] < scores[best][1] for who in scores if who != best)
    cells = {who: f"{score[0]:.3f}" for who, score in scores.items()}
    cells["ours"] += f" ({scores['ours'][1]:.3f} to {scores['ours'][2]:.3f})"
    if alone:
        cells[best] = f"**{cells[best]}**"
    told = [
        row
        for row in definition.published
        if row.metric == metric or (title == definition.name and OF_LABEL not in row.metric)
    ]
    others = "; ".join(
        f"{row.who} {row.value:.3f}"
        + ("" if row.metric == metric else f" ({row.metric})")
        + (f" [{row.protocol}]" if row.protocol != "the same rows" else "")
        for row in told
    )
    return (
        f"| {title} | {found['n']:,} | {metric.partition(',')[0]} | {cells['ours']} | {cells.get('encoder', '')} | "
        f"{cells.get('k-mers', '')} | {cells.get('1D CNN', '')} | {others} | {'' if goal is None else f'{goal:.2f}'} |"
    )


def _judgement(definition: Definition, found: dict[str, Any]) -> str:
    """Whether the goal is reached and simple models are beaten, in words."""
    scores = found["scores"]
    value, low, high = scores["ours"]
    words = []
    if definition.goal is not None:
        words.append(
            f"The goal of {definition.goal:.2f} is reached."
            if value >= definition.goal
            else f"The goal of {definition.goal:.2f} is missed by {definition.goal - value:.3f}."
        )
    for label, goal in definition.goals.items():
        if label in found.get("labels", {}):
            reached = found["labels"][label]["scores"]["ours"][0]
            words.append(
                f"{label}: the goal of {goal:.2f} is reached."
                if reached >= goal
                else f"{label}: the goal of {goal:.2f} is missed by {goal - reached:.3f}."
            )
    compared: dict[str, list[str]] = {}
    for who, other_model in OTHERS.items():
        if who in scores:
            other = scores[who][0]
            how = "better than" if low > other else "worse than" if high < other else "not significantly different from"
            compared.setdefault(how, []).append(f"{other_model} ({value - other:+.3f})")
    if compared:
        parts = [f"{how} {_listed(others)}" for how, others in compared.items()]
        words.append(f"The predictor is {', and '.join(parts)}.")
    if "members" in found:
        words.append(
            f"On {found['members']['n']:,} new members of families that training saw, the {definition.metric} is "
            f"{found['members']['score']:.3f}."
        )
    if "known" in found:
        words.append(f"Of {found['known']['n']:,} test rows of known classes, {found['known']['accuracy']:.1%} are right.")
    return " ".join([*words, *([found["note"]] if "note" in found else [])])


def _listed(parts: list[str]) -> str:
    """A list in words: "a", "a and b", "a, b and c"."""
    return " and ".join([*([", ".join(parts[:-1])] if parts[:-1] else []), parts[-1]])


def write() -> None:
    """Write docs/results.md."""
    RESULTS.with_suffix(".md").write_text(page(read_results()), encoding="utf-8")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "write": write}, description=__doc__)
