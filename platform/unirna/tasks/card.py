"""The card of a predictor in Markdown: what it is, what it was made from, what was measured, and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np

from unirna.base import percent
from unirna.tasks.kinds.task import OF_LABEL
from unirna.tasks.requirements import InputRequirements, Motif
from unirna.tasks.verdict import Verdict

MOST_CLASSES = 60
"""Classes of the card's table; the rest are summed in a last row. All stand in `predictor.json`."""


RECALL = {
    "": "correct in test",
    "families": "correct, unseen families",
    "members": "correct, new members of known families",
}
"""How test rows are held out -> head of the column of the share that is right."""


def write_card(info: dict[str, Any]) -> str:
    """The card of the predictor that `predictor.json` describes."""
    data, encoder, numeric = info["data"], info["encoder"], "interval" in info
    lengths = data["lengths"]
    rejected = ", ".join(f"{reason}: {count:,}" for reason, count in data["rejected_by_reason"].items()) or "none"
    lines = [
        f"# {info['name']}",
        "",
        f"**Verdict: {_cell(Verdict.of_info(info).text)}**",
        "",
        f"A predictor of `{data['label_column'] or ', '.join(data['label_columns'])}` "
        f"{_of(info)} ({info['task']}, {_what(info)}): "
        + (
            {
                "frozen": f"a linear head on the {'rows' if _each(info) else 'vectors'} of a frozen encoder.",
                "lora": "trained low-rank adapters on the encoder, and a trained linear head.",
                "full": "a trained encoder and head.",
            }[info["mode"]]
        )
        + _blend(info),
        "",
        "| | |",
        "|---|---|",
        f"| Encoder | {_cell(encoder['name'])}, {encoder['parameters']:,} parameters, fingerprint "
        f"`{encoder['fingerprint']}` |",
        f"| Mode | {info['mode']}{_reads(encoder)} |",
        f"| Made | {info['created']}, in {info['training']['seconds']:,} s |",
        f"| Seed of the split | {data['seed']} |",
        "| Versions | " + ", ".join(f"{name} {number}" for name, number in info["versions"].items()) + " |",
        "",
        "## Input",
        "",
        *_input(info),
        "",
        *([*info["scan"]["card"], ""] if "scan" in info else []),
        "## Data",
        "",
        *([info["about"], ""] if info.get("about") else []),
        f"{', '.join(data['data'])} (content `{data['digest']}`): read {data['read']:,} = {data['kept']:,} kept + "
        f"{data['rejected']:,} left out ({rejected}). Lengths {lengths['min']:,} to {lengths['max']:,} nucleotides, median "
        f"{lengths['median']:,}. {data['distinct_sequences']:,} distinct sequences.",
        "",
        f"Split: {data['split']}. {data['test_rows_seen']:,} of {data['splits']['test']:,} test rows have a sequence "
        "that is also in training or validation.",
        "",
        *(
            _value_table(info)
            if numeric
            else _label_table(data["per_label"], info["metrics"]["test"][info["name"]])
            if _several(info)
            else _class_table(info.get("per_class") or data["per_class"], info.get("test_recall", {}))
        ),
        "",
        "## Results",
        "",
        "Measured when the predictor was made, with a bootstrap 95 % interval over "
        + ("sequences; n counts nucleotides. " if _each(info) else "rows. ")
        + "The baselines were fitted on the same training rows. "
        + _chosen_by(info)
        + (", and the width of the interval." if numeric else "."),
        "",
        *_result_table(info["metrics"]),
        "",
        *([] if numeric else _calibration(info)),
        *(_outside(info["out_of_distribution"]) if "out_of_distribution" in info else []),
        "## Training",
        "",
        *_training(info["training"]),
        "",
        "## Limits",
        "",
        "- It gives a value for any RNA that it takes. The interval holds only for RNA like the validation rows."
        if numeric
        else "- A label that was unknown for many rows is predicted less well. Probabilities hold for RNA like these rows."
        if _several(info)
        else "- It always answers with one of its classes, even if the RNA belongs to none of them"
        + (
            ". Then `out_of_distribution` is true, as often as the table above shows."
            if "out_of_distribution" in info
            else ". There is no out-of-distribution flag, because there were fewer than 50 held-out rows."
        ),
        "- Copies of a sequence are kept apart only as the split says. Close relatives of test sequences may be in",
        "  training, so results for unrelated RNA can be worse.",
        f"- Sequences longer than {encoder['context']:,} nucleotides are read in overlapping windows.",
        "",
    ]
    return "\n".join(lines)


def _input(info: dict[str, Any]) -> list[str]:
    """What the predictor takes, and what its probabilities hold for."""
    requirements = InputRequirements.from_json(info.get("requirements", {}))
    lengths = info["data"]["lengths"]
    motifs = [f"- Required: {_motif(motif)}" for motif in requirements.required]
    motifs += [f"- Reported as {name}: {_motif(motif)}" for name, motif in requirements.reported.items()]
    lines = [
        f"- Expected: {requirements.what or 'not stated; sequences like those of the data below'}.",
        f"- Length: {requirements.lengths()}."
        if requirements.lengths()
        else f"- Length: no limit. Training sequences have {lengths['min']:,} to {lengths['max']:,} nt; answers for other "
        "lengths have `in_training_length_range` false.",
        *motifs,
        "- Other sequences get `applicable` false and the reason, and no prediction.",
    ]
    if rates := info.get("base_rates"):
        least = ", ".join(f"{_cell(name)} {value:g}" for name, value in info.get("thresholds", {}).items())
        threshold = f" A label is true above these probabilities: {least}." if least else ""
        shares = ", ".join(f"{_cell(name)} {share:.3f}" for name, share in list(rates.items())[:MOST_CLASSES])
        more = f" and {len(rates) - MOST_CLASSES:,} more" if len(rates) > MOST_CLASSES else ""
        lines += [
            f"- Base rates (shares of the training rows{' whose label is known' if _several(info) else ''}): {shares}{more}"
            ". Probabilities hold for these shares. If your sequences have others, state them with `prior`."
            f"{threshold}"
        ]
    return lines


def _motif(motif: Motif) -> str:
    return f"`{motif}`{f', {motif.why}' if motif.why else ''}."


def _crossed(info: dict[str, Any]) -> bool:
    """Whether cross-validation took the place of a validation split."""
    return "folds" in info["training"]


def _chosen_by(info: dict[str, Any]) -> str:
    if not _crossed(info):
        return "The validation rows chose " + ("the penalty of the head" if info["mode"] == "frozen" else "the epoch")
    return (
        f"Training and validation rows are few ({info['training']['rows']:,}), so all were used for both, in "
        f"{info['training']['folds']}-fold cross-validation. Models that had not seen a row predicted it, with settings "
        "and weights fitted on the other folds (rows `cross-validation` of the table). That chose the penalties and the "
        "weights of the models"
    )


def _blend(info: dict[str, Any]) -> str:
    if not (blend := info.get("blend")):
        return ""
    weights = ", ".join(f"{weight:.2f} times {name}" for name, weight in blend["weights"].items())
    if blend.get("guess", 0.0) > 0.005:
        weights += f", {blend['guess']:.2f} times the best constant answer"
    rows = "in cross-validation" if _crossed(info) else "on the validation rows"
    return f" An answer is a weighted sum of models (an ensemble), with weights fitted {rows}: {weights}."


def _outside(found: dict[str, Any]) -> list[str]:
    """The share of members and of other sequences that pass without a flag."""
    rows = [f"| {name} | {one['n']:,} | {one['unflagged']:.1%} |" for name, one in found["unflagged"].items()]
    return [
        "## Out of distribution",
        "",
        "A sequence is flagged `out_of_distribution` if its `conformal_p_value` is below "
        f"{found['alpha']:g}. Then it is less like the training rows than {1 - found['alpha']:.1%} of the validation "
        f"rows ({found['validation_scores']:,} scores). The detector was fitted on training and validation rows, their "
        "dinucleotide shuffles and random repeats. It has not seen the sequences of this table.",
        "",
        "| sequences | n | unflagged |",
        "|---|--:|--:|",
        *rows,
        "",
    ]


def _each(info: dict[str, Any]) -> bool:
    return str(info["task"]).startswith("nucleotide")


def _several(info: dict[str, Any]) -> bool:
    return str(info["task"]).endswith("labels")


def _of(info: dict[str, Any]) -> str:
    if info["task"] == "pair-regression":
        return "from two RNA sequences, REFERENCE&VARIANT"
    return "for each nucleotide of an RNA sequence" if _each(info) else "from an RNA sequence"


def _reads(encoder: dict[str, Any]) -> str:
    return ", reads the middle nucleotide" if encoder.get("pooling") == "centre" else ""


def _what(info: dict[str, Any]) -> str:
    if "interval" not in info:
        return f"{len(info['classes'])} {'labels' if _several(info) else 'classes'}"
    return f"a value in {info['unit']}" if info["unit"] else "a value without a stated unit"


def _value_table(info: dict[str, Any]) -> list[str]:
    values, interval = info["data"]["values"], info["interval"]
    width = (
        "without bounds (too few held-out rows)" if interval["half_width"] is None else f"± {interval['half_width']:.4g}"
    )
    return [
        "Values {min:.4g} to {max:.4g}, quartiles {lower_quartile:.4g}, {median:.4g}, {upper_quartile:.4g}; mean "
        "{mean:.4g}, standard deviation {sd:.4g}.".format(**values),
        *(
            [
                "",
                "{at_least:,} training rows are at least and {at_most:,} at most the value in the table. They are trained "
                "on the value expected beyond that bound (Schmee & Hahn 1979).".format(**info["data"]["bounds"]),
            ]
            if "bounds" in info["data"]
            else []
        ),
        "",
        f"Interval for {percent(interval['coverage'])}: prediction {width} ("
        + (
            "cross-conformal, Vovk 2015: from the errors in cross-validation"
            if _crossed(info)
            else "split conformal, on the validation rows, which also chose weights or epoch, so the share is approximate"
        )
        + f"); it holds {percent(interval['test_coverage'], 1)} of the test rows. "
        "`predicted.svg` shows their predicted against their true values.",
    ]


def _calibration(info: dict[str, Any]) -> list[str]:
    """How well the probabilities are calibrated."""
    found = info.get("calibration")
    if found is None:
        return ["The probabilities are not calibrated.", ""]
    after = info["metrics"]["test"][info["name"]]["calibration error"]["value"]
    if "blend" in info:
        return [
            "Probabilities: the weights of the models are those with the lowest log loss "
            f"{'in cross-validation' if _crossed(info) else 'on the validation rows'}. The "
            f"calibration error of the test rows (15 bins) is {after:.3f}. It holds for RNA like these rows.",
            "",
        ]
    return [
        f"Probabilities: outputs are divided by {found['temperature']:.3g}, the temperature with the lowest log loss on "
        f"{'held-out' if _crossed(info) else 'the validation'} rows. The calibration error of the test rows (15 bins) is "
        f"{after:.3f}; without calibration it is {found['test_error_before']:.3f}. It holds for RNA like these rows.",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _class_table(per_class: dict[str, dict[str, int]], recall: dict[str, dict[str, Any]]) -> list[str]:
    names = sorted({name for counts in per_class.values() for name in counts})
    names.sort(key=lambda name: -sum(counts.get(name, 0) for counts in per_class.values()))
    kinds = [kind for kind in RECALL if any(kind in found for found in recall.values())]
    lines = ["| class | train | validation | test |" + "".join(f" {RECALL[kind]} |" for kind in kinds)]
    lines += ["|---|--:|--:|--:|" + "--:|" * len(kinds)]
    lines += [
        f"| {_cell(name)} | "
        + " | ".join(f"{per_class[s].get(name, 0):,}" for s in per_class)
        + " |"
        + "".join(f" {_right(recall.get(name, {}).get(kind))} |" for kind in kinds)
        for name in names[:MOST_CLASSES]
    ]
    blank = " |" * len(kinds)
    rest = names[MOST_CLASSES:]
    if rest:
        sums = (sum(counts.get(name, 0) for name in rest) for counts in per_class.values())
        lines.append(f"| {len(rest):,} further classes | " + " | ".join(f"{n:,}" for n in sums) + " |" + blank)
    totals = " | ".join(f"{sum(counts.values()):,}" for counts in per_class.values())
    lines.append(f"| **all** | {totals} |{blank}")
    if "families" in kinds:
        lines += ["", "A class without a figure under families had no families held out, only new members."]
    return lines


def _right(found: dict[str, float] | None) -> str:
    return "none" if found is None else f"{found['recall']:.0%} of {found['n']:,}"


def _label_table(per_label: dict[str, dict[str, dict[str, int]]], measured: dict[str, dict[str, Any]]) -> list[str]:
    """How many rows have each label, of those whose label is known, and its AUC on the test rows."""
    lines = ["| label | " + " | ".join(per_label) + " | test AUC |", "|---|" + "--:|" * len(per_label) + "---|"]
    for name in per_label["train"]:
        cells = [f"{found[name]['true']:,} of {found[name]['known']:,}" for found in per_label.values()]
        score = measured.get(f"{OF_LABEL}{name}")
        cells.append("" if score is None else "{value:.3f} ({low:.3f} to {high:.3f})".format(**score))
        lines.append(f"| {_cell(name)} | " + " | ".join(cells) + " |")
    return lines


def _result_table(metrics: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| rows | n | model | metric | value | 95 % interval |", "|---|--:|---|---|--:|---|"]
    lines += [
        f"| {subset} | {score['n']:,} | {_cell(model)} | {score['metric']} | {score['value']:.3f} | "
        f"{score['low']:.3f} to {score['high']:.3f} |"
        for subset, models in metrics.items()
        for model, scores in models.items()
        for score in scores.values()
        if not score["metric"].startswith(OF_LABEL)
    ]
    return lines


def _training(training: dict[str, Any]) -> list[str]:
    if "epochs" in training:
        rows = [
            f"| {e['epoch']} | {e['loss']:.4f} | {e['valid_loss']:.4f} | {e['valid_score']:.3f} |"
            for e in training["epochs"]
        ]
        score = training["epochs"][0]["score"] if training["epochs"] else "score"
        if start := training.get("start"):
            rows.insert(0, f"| 0: the head of mode frozen | | {start['valid_loss']:.4f} | {start['valid_score']:.3f} |")
        return [f"| epoch | loss | validation loss | validation {score} |", "|--:|--:|--:|--:|", *rows, *_runs(training)]
    return [str(training["head"])]


def _runs(training: dict[str, Any]) -> list[str]:
    """All trainings, where there were several."""
    runs = training.get("runs", [])
    if not runs:
        return []
    lines = ["", f"Of {len(runs)} training runs, number {training['kept']}, with the lowest validation loss, was kept:", ""]
    lines += ["| run | " + " | ".join(key.replace("_", " ") for key in runs[0]) + " |", "|--:" * (len(runs[0]) + 1) + "|"]
    lines += [
        f"| {number} | " + " | ".join("none" if v is None else f"{v:g}" for v in run.values()) + " |"
        for number, run in enumerate(runs, 1)
    ]
    tested = [key for key in runs[0] if key.startswith("test ")]
    for key in tested:
        values = np.array([run[key] for run in runs])
        mean, spread = values.mean(), values.std(ddof=1)
        lines += ["", f"{key[0].upper()}{key[1:]} of the encoder's head alone over the seeds: {mean:.4f} ± {spread:.4f}."]
    return lines
