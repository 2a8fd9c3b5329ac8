"""Ship a finished run as the release model: half-precision weights, their own evaluation, and the card.

    .venv/bin/python recipes/ship_release.py --run runs/release-mini --corpus runs/release-mini-corpus --shared ../shared

Writes `weights/unirna-mini/`: what `unirna.model.load("unirna-mini")` reads. Everything that the card says is measured on
the half-precision weights themselves or read from the run and its corpus. `RUN/curve.json`, if it is there, holds
evaluations of earlier checkpoints (`evaluate_release.py --corpus …`), as a list of {"steps", "hours", "retrieval"}.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from unirna import model
from unirna.corpus import Corpus
from unirna.model import save_checkpoint

LICENCES = {
    "rfam": ("Rfam 14.2 seed alignments, training families", "CC0"),
    "nrc": ("nRC 13-class training set (sequences of Rfam)", "CC0 sequences, GPL-3 repository"),
    "trna": ("tRNAs of mim-tRNAseq", "GPL-3 repository"),
    "bprna": ("bpRNA-1m subset without its Rfam part", "research use"),
    "pdb": ("RNA chains of the PDB (CoDNaS-RNA, RNA 3D contacts)", "MIT"),
    "rrna": ("ribosomal RNAs of SILVA 93, one to a species", "public domain"),
    "cds": ("yeast coding sequences", "MIT"),
    "utr5": ("human 5'UTRs", "MIT"),
    "utr5_windows": ("windows of human 5'UTRs", "MIT"),
    "mrl": ("random 5'UTRs, 50 nt (GSE114002), training split", "GEO data, GPL-3 repository"),
    "riboswitch_designs": ("Eterna riboswitch designs, training part", "MIT-style"),
}
"""What each source of `release-corpus.sh` is, and under which licence it was taken."""


@dataclass(frozen=True)
class Config:
    """Ship a finished run as the release model."""

    run: str
    """Folder of the finished run."""
    corpus: str
    """Folder of its corpus."""
    shared: str = "../shared"
    """Folder of the shared data and benchmarks."""
    out: str = "weights/unirna-mini"
    """Folder of the shipped model."""
    hours: float = 0.0
    """Hours of training to state, if known better than from the speed of the log (which other work beside it slows)."""


def main(config: Config) -> dict[str, Any]:
    """Halve, evaluate, describe; return the evaluation."""
    run, out = Path(config.run), Path(config.out)
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    save_checkpoint(model.load(run / "model", device="cpu").encoder, fresh, half=True)
    script = Path(__file__).with_name("evaluate_release.py")
    command = [sys.executable, str(script), "--model", str(fresh), "--shared", config.shared]
    subprocess.run([*command, "--out", str(run / "evaluation.json")], check=True)
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    training = json.loads((run / "model" / "training.json").read_text())
    manifest = Corpus(config.corpus).manifest
    curve = json.loads((run / "curve.json").read_text()) if (run / "curve.json").exists() else []
    hours = config.hours or sum(_seconds(training)) / 3600
    facts = {
        "fingerprint": found["fingerprint"],
        **{key: training[key] for key in ("unirna", "torch", "parameters", "settings", "baselines")},
        "hours": round(hours, 2),
        "held_out": [record for record in training["curve"] if "valid_loss" in record],
        "retrieval_curve": curve,
        "evaluation": {key: found[key] for key in ("dimension", "retrieval", "shuffles", "nrc", "mrl")},
        "corpus": {
            key: manifest[key]
            for key in ("read", "kept", "duplicates", "excluded", "excluded_by_set", "by_source", "splits", "clustering")
        },
    }
    (fresh / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    (fresh / "card.md").write_text(card(facts, model.load(fresh, device="cpu"), manifest))
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return found


def _seconds(training: dict[str, Any]) -> list[float]:
    """Seconds between the records of the log, from its speed."""
    records, tokens = training["curve"], training["settings"]["batch_tokens"]
    steps = [0, *(record["step"] for record in records)]
    return [
        (step - before) * tokens / record["tokens_per_second"]
        for before, step, record in zip(steps, steps[1:], records, strict=False)
    ]


def card(facts: dict[str, Any], shipped: model.Model, manifest: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    settings, shape, corpus, recipe = facts["settings"], shipped.config, facts["corpus"], manifest["recipe"]
    rejected = corpus["read"] - corpus["kept"] - corpus["duplicates"] - corpus["excluded"]
    tokens = settings["steps"] * settings["batch_tokens"] / 1e6
    return f"""# unirna-mini: an RNA language model

{shape.num_layers} layers, hidden {shape.hidden_size}, {shape.num_heads} heads, feed-forward {shape.intermediate_size};
{facts["parameters"]:,} parameters in half precision, in the Uni-RNA checkpoint format. Trained from random weights by
UniRNA on Ray {facts["unirna"]}; it is independent of the weights that the authors of Uni-RNA released. Licence of these
weights: Apache-2.0; the sources keep theirs, below.

- Fingerprint `{facts["fingerprint"]}`; context {shape.context:,} nucleotides (longer sequences in overlapping windows),
  trained on crops of up to {settings["context"] or shape.context:,}
- Vectors: the mean over nucleotides of the states of all {shape.num_layers} layers, mapped to {shipped.dimension}
  numbers in which members of one Rfam training family lie together (Fisher's discriminants, `fit_whitening`)
- Made by `recipes/release-mini.sh`; every setting and the whole curve: `training.json`

## Data
{corpus["read"]:,} records read = {corpus["kept"]:,} kept + {rejected:,} rejected + {corpus["duplicates"]:,} duplicates +
{corpus["excluded"]:,} excluded.

| source | licence | training sequences | nucleotides | share of the draws |
|---|---|---|---|---|
{_sources(corpus["splits"]["train"]["sources"])}

**Excluded**: every sequence that is at least {recipe["exclude_identity"]:.0%} identical over
{recipe["exclude_coverage"]:.0%} of the shorter one's length to a member of a test set
({corpus["clustering"]}), all members of the families of the retrieval test, and the rows that Rfam's table flags as members
of bpRNA TS0, ArchiveII and the nRC test:
{_excluded(corpus["excluded_by_set"])}.

## Training
{settings["steps"]:,} steps of {settings["batch_tokens"]:,} tokens ({tokens:.0f} million), objective
`{settings["objective"]}`, {settings["optimizer"]}, peak learning rate {settings["learning_rate"]:g},
{settings["mask_rate"]:.0%} masked; about {facts["hours"]:.1f} hours on two CPU cores.

{_held_out(facts)}
The held-out part is split by cluster, but the clustering misses near-duplicates (of Rfam's held-out sequences .465 had one
in training when that was measured, `docs/corpus.md`), so the comparison flatters the model.

{_shuffles(facts["evaluation"]["shuffles"])}

## Search
`retrieval_dev`: 604 queries of 311 Rfam families, among 22,078 sequences; cosine of one vector a sequence. Neither training
nor the map to the vectors has seen a member of these families. Which layers are read, the size of the vectors and two
constants of the map were chosen with an eye on this same table (`docs/log.md`), so it is somewhat optimistic.

| vectors | R@1 | relatives below 80 % identity alone | below 60 % | MAP@100 |
|---|---|---|---|---|
{_retrieval(facts)}

Beside it, from the benchmark's own table (R@1, below 60 %): blastn .960, .649; MMseqs2 .970, .712; blastn with words of 7
.974, .737; nhmmer .979, .805.
{_curve(facts["retrieval_curve"])}
## Frozen linear probes
| task | vectors | states of all layers | k-mers, linear | 1D CNN, trained |
|---|---|---|---|---|
{_probes(facts["evaluation"])}

## Limits
- Small, and trained for hours: use it to search and to start from, not as the last word on any property.
- A mean over nucleotides says nothing about places: it cannot see what hangs on the place of a start codon, as ribosome
  load does.
- Most of what it has seen are structured non-coding RNAs of Rfam, yeast coding sequences and human 5'UTRs.
- The members of Rfam's training families, the demonstration's among them, were seen in training: its hits there flatter it.
- What was tried and given up, with figures: `docs/log.md`.
"""


def _sources(sources: dict[str, Any]) -> str:
    return "\n".join(
        f"| {LICENCES[name][0]} (`{name}`) | {LICENCES[name][1]} | {part['sequences']:,} | {part['nucleotides']:,} | "
        f"{part['share']:.1%} |"
        for name, part in sources.items()
    )


def _excluded(sets: dict[str, int]) -> str:
    titles = {name: "retrieval test families" for name in sets if "test_families" in name}
    return ", ".join(f"{titles.get(name, name)} {count:,}" for name, count in sets.items())


def _held_out(facts: dict[str, Any]) -> str:
    last = facts["held_out"][-1]
    titles = {
        "unigram": "letter frequencies",
        "markov": "Markov model, letters before",
        "markov_both": "the same, both sides",
    }
    rows = [("this model", last["valid_loss"], last["valid_accuracy"])]
    rows += [(titles[name], found["loss"], found["accuracy"]) for name, found in facts["baselines"].items()]
    lines = ["| held-out sequences, 15 % masked | loss, nats | perplexity | accuracy |", "|---|---|---|---|"]
    lines += [f"| {name} | {loss:.4f} | {math.exp(loss):.3f} | {accuracy:.1%} |" for name, loss, accuracy in rows]
    best = {name: min(b["sources"][name] for b in facts["baselines"].values()) for name in last["valid_sources"]}
    lines += ["", "| source | places | this model | best Markov model |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {part['places']:,} | {part['loss']:.4f} | {best[name]:.4f} |"
        for name, part in last["valid_sources"].items()
    ]
    chosen = facts["held_out"][:: max(1, len(facts["held_out"]) // 10)]
    curve = ", ".join(f"{record['step']:,}: {record['valid_loss']:.4f}" for record in chosen)
    return "\n".join([*lines, "", f"Held-out loss by step: {curve}.", ""])


def _retrieval(facts: dict[str, Any]) -> str:
    return "\n".join(
        f"| {'this model' if name == 'vectors' else name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |"
        for name, row in facts["evaluation"]["retrieval"].items()
    )


def _curve(curve: list[dict[str, Any]]) -> str:
    if not curve:
        return ""
    lines = ["", "| steps | hours | R@1 | below 60 % | MAP@100 |", "|---|---|---|---|---|"]
    for point in curve:
        found = point["retrieval"]
        lines.append(
            f"| {point['steps']:,} | {point['hours']:.2f} | {found['R@1']:.3f} | {found['R@1 below 60 %']:.3f} | "
            f"{found['MAP@100']:.3f} |"
        )
    return "\n".join([*lines, ""])


def _shuffles(found: dict[str, float]) -> str:
    return (
        f"Log pseudo-perplexity of {found['sequences']} sequences of families that it has not met: dinucleotide-preserving "
        f"shuffles\nare higher by {found['mean']:.3f} nats a nucleotide (standard error {found['standard_error']:.3f}), "
        f"for {found['share_positive']:.0%} of the sequences."
    )


def _probes(found: dict[str, Any]) -> str:
    titles = {
        "nrc": "nRC, 13 classes: accuracy, test rows that stand in training left out",
        "mrl": "ribosome load of 5'UTRs: R²",
    }
    columns = ("vectors", "states", "k-mer", "CNN")
    return "\n".join(
        f"| {title} | " + " | ".join(f"{found[name][column]:.3f}" for column in columns) + " |"
        for name, title in titles.items()
    )


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Config, description=__doc__))))
