"""Ship a finished run as the release model: half-precision weights, their own evaluation, and the card.

    .venv/bin/python recipes/ship_release.py --run runs/release-mini --corpus runs/release-mini-corpus --shared ../shared

Writes `weights/unirna-mini/`: what `unirna.model.load("unirna-mini")` reads. Everything that the card says is measured on
the half-precision weights themselves or read from the run and its corpus. `RUN/curve.json`, if it is there, holds
evaluations of earlier checkpoints (`evaluate_release.py --corpus …`), as a list of {"steps", "hours", "retrieval"}.
Where the run started from a checkpoint of another one (`--init`), `--before RUN:STEP` tells the card of that training. With
`--average RUN` the mean of this run's weights and of another's is shipped, which has to have the same beginning. A later
sitting starts from the model that was shipped before: `--beginning` names (a copy of) its folder, whose own training the
card tells first, and `--average` may be the same folder.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from unirna import model
from unirna.corpus import Corpus
from unirna.model import Encoder, save_checkpoint
from unirna.train import corpus_whitening
from unirna.train.metrics import read_metrics
from unirna.train.objective import MaskedLanguageModel
from unirna.train.parallel import Workers
from unirna.train.validation import held_out_batches, validate

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
    before: tuple[str, ...] = ()
    """Runs from whose checkpoints this one took its weights, oldest first, as RUN:STEP."""
    beginning: str = ""
    """Folder of a shipped model from whose weights the first of these runs started."""
    average: str = ""
    """A finished run, or a shipped model, with whose weights those of this one are averaged."""


def main(config: Config) -> dict[str, Any]:
    """Halve, evaluate, describe; return the evaluation."""
    run, out = Path(config.run), Path(config.out)
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    encoder = model.load(run / "model", device="cpu").encoder
    training = json.loads((run / "model" / "training.json").read_text(encoding="utf-8"))
    averaged: dict[str, Any] | None = None
    if config.average:
        averaged = average(encoder, Path(config.average), Corpus(config.corpus), training["settings"])
    save_checkpoint(encoder, fresh, half=True)
    script = Path(__file__).with_name("evaluate_release.py")
    command = [sys.executable, str(script), "--model", str(fresh), "--shared", config.shared]
    subprocess.run([*command, "--out", str(run / "evaluation.json")], check=True)
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    manifest = Corpus(config.corpus).manifest
    curve = json.loads((run / "curve.json").read_text(encoding="utf-8")) if (run / "curve.json").exists() else []
    earlier = [(Path(text.rpartition(":")[0]), int(text.rpartition(":")[2])) for text in config.before]
    told: dict[str, Any] = (
        json.loads((Path(config.beginning) / "training.json").read_text(encoding="utf-8")) if config.beginning else {}
    )
    stages = told.get("stages", [])
    held_out = told.get("held_out", [])
    first = len(stages)
    for folder, step in [*earlier, (run, training["settings"]["steps"])]:
        part = stage(folder, step)
        before = sum(other["steps"] for other in stages)
        held_out += [{**record, "step": record["step"] + before} for record in part.pop("held_out")]
        stages.append(part)
    if told.get("averaged_with"):
        stages[first]["from_mean_with"] = told["averaged_with"]
    if averaged is not None:
        held_out.append({"step": sum(part["steps"] for part in stages), **averaged.pop("held_out")})
    facts = {
        "fingerprint": found["fingerprint"],
        **{key: training[key] for key in ("unirna", "torch", "parameters", "baselines")},
        "stages": stages,
        "averaged_with": averaged,
        "held_out": held_out,
        "retrieval_curve": curve,
        "evaluation": {key: found[key] for key in ("dimension", "retrieval", "shuffles", "nrc", "mrl")},
        "corpus": {
            key: manifest[key]
            for key in ("read", "kept", "duplicates", "excluded", "excluded_by_set", "by_source", "splits", "clustering")
        },
    }
    (fresh / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (fresh / "card.md").write_text(card(facts, model.load(fresh, device="cpu"), manifest), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return found


def average(encoder: Encoder, other: Path, corpus: Corpus, settings: dict[str, Any]) -> dict[str, Any]:
    """Put the mean of its weights and those of another run into an encoder, with the map to vectors fitted again.

    Returns:
        The other run (`stage`), or `shipped`, the fingerprint of the other model; with `held_out` what the mean gives on
        the held-out places.
    """
    shipped = (other / "model.safetensors").exists()
    loaded = model.load(other if shipped else other / "model", device="cpu")
    weights, others = encoder.state_dict(), loaded.encoder.state_dict()
    names = [name for name in weights if not name.startswith("whitening.")]
    encoder.load_state_dict({name: (weights[name] + others[name]) / 2 for name in names}, strict=False)
    encoder.whitening = corpus_whitening(encoder, corpus, settings["vector_size"])
    objective = MaskedLanguageModel(encoder)
    batches = held_out_batches(
        Corpus(corpus.folder, "valid"),
        seed=settings["seed"],
        tokens=settings["valid_tokens"],
        budget=settings["micro_tokens"],
        context=encoder.config.context,
    )
    found = validate(objective, batches, corpus.sources, Workers(), half=False)
    encoder.eval()
    if shipped:
        return {"shipped": loaded.fingerprint, "held_out": found}
    return {**stage(other, json.loads((other / "config.json").read_text(encoding="utf-8"))["steps"]), "held_out": found}


def stage(run: Path, steps: int) -> dict[str, Any]:
    """One run up to a step: `steps`, `tokens`, `hours` by the speed in its log, `settings`, `held_out` records."""
    settings = {
        field: value
        for field, value in json.loads((run / "config.json").read_text(encoding="utf-8")).items()
        if field != "corpus"
    }
    settings["init"] = Path(settings["init"]).name
    records = [record for record in read_metrics(run) if record["step"] <= steps]
    logged = [0, *(record["step"] for record in records)]
    seconds = [
        (step - last) * settings["batch_tokens"] / record["tokens_per_second"]
        for last, step, record in zip(logged, logged[1:], records, strict=False)
    ]
    return {
        "steps": steps,
        "tokens": steps * settings["batch_tokens"],
        "hours": round(sum(seconds) / 3600, 2),
        "settings": settings,
        "held_out": [record for record in records if "valid_loss" in record],
    }


def card(facts: dict[str, Any], shipped: model.Model, manifest: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    settings, shape, corpus, recipe = facts["stages"][-1]["settings"], shipped.config, facts["corpus"], manifest["recipe"]
    rejected = corpus["read"] - corpus["kept"] - corpus["duplicates"] - corpus["excluded"]
    return f"""# unirna-mini: an RNA language model

{shape.num_layers} layers, hidden {shape.hidden_size}, {shape.num_heads} heads, feed-forward {shape.intermediate_size};
{facts["parameters"]:,} parameters in half precision, in the Uni-RNA checkpoint format. UniRNA on Ray {facts["unirna"]}
trained it from random weights, independently of the weights that the authors of Uni-RNA released.
Licence of these weights: Apache-2.0. The training data keep their licences, below.

- Fingerprint `{facts["fingerprint"]}`; context {shape.context:,} nucleotides (longer sequences are read in
  overlapping windows), trained on crops of up to {settings["context"] or shape.context:,}
- Vectors: the mean over nucleotides of the states of all {shape.num_layers} layers, mapped to {shipped.dimension}
  numbers so that members of one Rfam training family lie together (Fisher's discriminants,
  `fit_whitening`)
- Made by `recipes/release-mini.sh`; every setting and the whole curve: `training.json`

## Data
{corpus["read"]:,} records read = {corpus["kept"]:,} kept + {rejected:,} rejected + {corpus["duplicates"]:,} duplicates +
{corpus["excluded"]:,} excluded.

| source | licence | training sequences | nucleotides | share of the draws |
|---|---|---|---|---|
{_sources(corpus["splits"]["train"]["sources"])}

**Excluded**: every sequence that is at least {recipe["exclude_identity"]:.0%} identical over
{recipe["exclude_coverage"]:.0%} of the shorter one's length to a member of a test set
({corpus["clustering"]}), all members of the families of the retrieval test, and the rows that Rfam's table
flags as members of bpRNA TS0, ArchiveII and the nRC test:
{_fill(_excluded(corpus["excluded_by_set"]) + ".")}

## Training
{_stages(facts["stages"], facts["averaged_with"])}

{_held_out(facts)}
These figures are somewhat too good for the model. The held-out part is split by cluster, but the
clustering misses near-duplicates: .465 of Rfam's held-out sequences had one in training when that
was measured (`docs/corpus.md`).

{_fill(_shuffles(facts["evaluation"]["shuffles"]))}

## Search
`retrieval_dev`: 604 queries of 311 Rfam families among 22,078 sequences, by the cosine of one
vector a sequence. Neither training nor the map to the vectors has seen a member of these families.
The table is somewhat optimistic: the layers that are read, the size of the vectors and two
constants of the map were chosen with an eye on it (`docs/log.md`).

| vectors | R@1 | R@1 if all relatives are below 80 % identity | below 60 % | MAP@100 |
|---|---|---|---|---|
{_retrieval(facts)}

From the benchmark's own table (R@1, below 60 %): blastn .960, .649; MMseqs2 .970, .712; blastn
with word size 7 .974, .737; nhmmer .979, .805.
{_curve(facts["retrieval_curve"])}
## Frozen linear probes
| task | vectors | states of all layers | the same by reading frame | k-mers, linear | 1D CNN, trained |
|---|---|---|---|---|---|
{_probes(facts["evaluation"])}

## Limits
- It is small and was trained for hours. Use it to search and to start from, not as the last word on
  any property.
- A mean over nucleotides has no positions. It cannot show what depends on the position of a start
  codon, as ribosome load does. "By reading frame" are three means, over the nucleotides 0, 1 and 2
  (mod 3) before the 3' end.
- It has mostly seen structured non-coding RNAs of Rfam, yeast coding sequences and human 5'UTRs.
- Training has seen the members of Rfam's training families, which include those of the
  demonstration. Its hits there are better than elsewhere.
- `docs/log.md` has what was tried and dropped, with figures.
"""


def _stages(stages: list[dict[str, Any]], averaged: dict[str, Any] | None) -> str:
    lines = [
        "| | objective | steps | tokens, million | peak learning rate | hours on two CPU cores |",
        "|---|---|---|---|---|---|",
    ]
    for number, part in enumerate(stages, 1):
        settings = part["settings"]
        lines.append(
            f"| {number} | `{settings['objective']}` | {part['steps']:,} of {settings['batch_tokens']:,} tokens | "
            f"{part['tokens'] / 1e6:.0f} | {settings['learning_rate']:g} | {part['hours']:.1f} |"
        )
    total = sum(part["tokens"] for part in stages) / 1e6
    hours = sum(part["hours"] for part in stages)
    last = stages[-1]["settings"]
    text = (
        f"Together: {total:.0f} million tokens in {hours:.1f} hours; {last['optimizer']}, {last['mask_rate']:.0%} masked."
    )
    for number, part in enumerate(stages, 1):
        if part.get("from_mean_with"):
            other = _other(part["from_mean_with"], stages)
            text += f" Part {number} started from the mean of the weights of part {number - 1} and of {other}."
    if averaged is not None:
        text += (
            f" The weights are the mean of the last part's and of {_other(averaged, stages)}. "
            "The last held-out loss is that of the mean."
        )
    return "\n".join([*lines, "", _fill(text)])


def _fill(text: str) -> str:
    """A paragraph at 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _other(averaged: dict[str, Any], stages: list[dict[str, Any]]) -> str:
    """With what weights were averaged, in words."""
    if "shipped" in averaged:
        return f"the model shipped before (`{averaged['shipped']}`)"
    objective, more = averaged["settings"]["objective"], averaged["steps"] - stages[0]["steps"]
    return f"another ending of part 1 (`{objective}` for {more:,} more steps, to a learning rate of 0)"


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
        "unigram": "nucleotide frequencies",
        "markov": "Markov model, nucleotides before",
        "markov_both": "the same, both sides",
    }
    rows = [("this model", last["valid_loss"], last["valid_accuracy"])]
    rows += [(titles[name], found["loss"], found["accuracy"]) for name, found in facts["baselines"].items()]
    lines = ["| held-out sequences, 15 % masked | loss, nats | perplexity | accuracy |", "|---|---|---|---|"]
    lines += [f"| {name} | {loss:.4f} | {math.exp(loss):.3f} | {accuracy:.1%} |" for name, loss, accuracy in rows]
    best = {name: min(b["sources"][name] for b in facts["baselines"].values()) for name in last["valid_sources"]}
    lines += ["", "| source | nucleotides | this model | best Markov model |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {part['places']:,} | {part['loss']:.4f} | {best[name]:.4f} |"
        for name, part in last["valid_sources"].items()
    ]
    chosen = facts["held_out"][:: max(1, len(facts["held_out"]) // 10)]
    curve = ", ".join(f"{record['step']:,}: {record['valid_loss']:.4f}" for record in chosen)
    return "\n".join([*lines, "", _fill(f"Held-out loss by step: {curve}."), ""])


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
        f"The log pseudo-perplexity of {found['sequences']} sequences of unseen families is compared with that of their "
        f"dinucleotide-preserving shuffles. Those are higher by {found['mean']:.3f} nats a nucleotide (standard error "
        f"{found['standard_error']:.3f}), and higher for {found['share_positive']:.0%} of the sequences."
    )


def _probes(found: dict[str, Any]) -> str:
    titles = {
        "nrc": "nRC, 13 classes: accuracy, without test rows that are in training",
        "mrl": "ribosome load of 5'UTRs: R²",
    }
    columns = ("vectors", "states", "by reading frame", "k-mer", "CNN")
    return "\n".join(
        f"| {title} | " + " | ".join(f"{found[name][c]:.3f}" if c in found[name] else "–" for c in columns) + " |"
        for name, title in titles.items()
    )


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Config, description=__doc__))))
