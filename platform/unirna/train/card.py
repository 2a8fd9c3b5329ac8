"""The end of a run: the model's folder with its card and `training.json`, written beside and renamed."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unirna.base import percent
from unirna.job import package_version
from unirna.model import Encoder, save_checkpoint
from unirna.model.checkpoint import fingerprint
from unirna.runs import write_json
from unirna.train.checkpoints import write_folder
from unirna.train.config import TrainConfig
from unirna.train.metrics import read_metrics

OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon (AdamW for embeddings, heads, norms and biases)"}


def write_model(
    run: Path, encoder: Encoder, config: TrainConfig, manifest: dict[str, Any], counted: dict[str, Any]
) -> None:
    """Write `<run>/model/` (checkpoint, `card.md`, `training.json`) and `<run>/summary.json`.

    Args:
        run: its folder. encoder: with whole weights. config: settings. manifest: of the corpus.
        counted: what the baselines gave on the held-out places (`validation.baselines`).
    """
    records = read_metrics(run)
    last = records[-1]
    training = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "unirna": package_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "fingerprint": fingerprint(encoder),
        "parameters": encoder.config.num_parameters,
        "settings": asdict(config),
        "data": {
            "sources": sorted({shard["source"].rpartition("/")[2] for shard in manifest["shards"]}),
            "licence": manifest.get("licence", "not stated"),
            **{key: manifest[key] for key in ("read", "kept", "rejected", "splits", "clustering")},
        },
        "baselines": counted,
        "curve": records,
    }

    def write(folder: Path) -> None:
        save_checkpoint(encoder, folder)
        (folder / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        (folder / "card.md").write_text(_card(training, encoder), encoding="utf-8")

    write_folder(run / "model", write)
    summary = {
        "model": str(run / "model"),
        "fingerprint": training["fingerprint"],
        "size": config.size,
        "parameters": training["parameters"],
        "steps": config.steps,
        "tokens": config.steps * config.batch_tokens,
        "first_loss": records[0]["loss"],
        "loss": last["loss"],
        "valid_loss": last.get("valid_loss"),
        "valid_accuracy": last.get("valid_accuracy"),
        **{f"{name}_loss": found["loss"] for name, found in counted.items()},
    }
    write_json(run / "summary.json", summary)


def _commit() -> str:
    """The commit of the checkout that this file stands in, "unknown" outside one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            encoding="utf-8",
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def _card(training: dict[str, Any], encoder: Encoder) -> str:
    shape, settings, data, last = encoder.config, training["settings"], training["data"], training["curve"][-1]
    start = f"the weights of {Path(settings['init']).name}" if settings["init"] else "random weights"
    return f"""# {settings["size"]}: an RNA language model

A masked-language-model encoder in the Uni-RNA checkpoint format ({shape.num_layers} layers, hidden {shape.hidden_size},
{shape.num_heads} heads, feed-forward {shape.intermediate_size}; {training["parameters"]:,} parameters), trained from
{start} by UniRNA on Ray {training["unirna"]}. Independent of the authors' released weights.

- Fingerprint: `{training["fingerprint"]}`
- Made: {training["created"]}, commit {training["commit"]}, torch {training["torch"]}
- Context: {shape.context:,} nucleotides
- Vectors: mean over nucleotides, whitened on {settings["whitening_sequences"]:,} training sequences

## Data
- Sources: {", ".join(data["sources"])}; licence: {data["licence"]}
- {data["read"]:,} records read, {data["kept"]:,} kept, {data["rejected"]:,} rejected
- Training: {data["splits"]["train"]["sequences"]:,} sequences, {data["splits"]["train"]["nucleotides"]:,} nucleotides;
  validation: {data["splits"]["valid"]["sequences"]:,} sequences, held
  out by cluster of near-duplicates (clustering: {data["clustering"]}; what it missed may stand on both sides)

## Training
- {settings["steps"]:,} steps of {settings["batch_tokens"]:,} tokens, seed {settings["seed"]},
  {OPTIMIZERS[settings["optimizer"]]}
- {percent(settings["mask_rate"])} of the nucleotides hidden, sequences cropped at
  {settings["context"] or shape.context:,} nucleotides
- Last training loss {last["loss"]:.4f} nats (step {last["step"]:,})

{_held_out(last, training["baselines"])}
Every setting and the whole curve: `training.json`.
"""


def _held_out(last: dict[str, Any], baselines: dict[str, Any]) -> str:
    """The section on held-out sequences: the model beside the baselines, over all and per source."""
    if "valid_loss" not in last:
        return ""
    titles = {
        "unigram": "nucleotide frequencies",
        "markov": "Markov model, {} nucleotides before",
        "markov_both": "the same, {} nucleotides on each side",
    }
    rows = [("this model", last["valid_loss"], last["valid_accuracy"])]
    for name, found in baselines.items():
        rows.append((titles[name].format(found["context"]), found["loss"], found["accuracy"]))
    lines = [
        "## Held-out sequences",
        "15 % of the nucleotides hidden, the same places for all. The baselines are counted on the training split, with",
        "context length and smoothing chosen on these places, and see all nucleotides around a hidden one.",
        "",
        "| predictor | loss, nats | perplexity | accuracy |",
        "|---|---|---|---|",
        *(f"| {name} | {loss:.4f} | {math.exp(loss):.3f} | {percent(accuracy, 1)} |" for name, loss, accuracy in rows),
    ]
    sources = last.get("valid_sources", {})
    if len(sources) > 1:
        best = {name: min(found["sources"][name] for found in baselines.values()) for name in sources} if baselines else {}
        lines += ["", "| source | places | loss, nats | best baseline | accuracy |", "|---|---|---|---|---|"]
        lines += [
            f"| {name.rpartition('/')[2]} | {found['places']:,} | {found['loss']:.4f} | {best.get(name, math.nan):.4f} | "
            f"{percent(found['accuracy'], 1)} |"
            for name, found in sources.items()
        ]
    return "\n".join(lines) + "\n"
