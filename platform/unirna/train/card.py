"""The end of a run: the model's folder with its card and `training.json`, written beside and renamed."""

from __future__ import annotations

import json
import math
import platform
import shutil
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unirna.model import Encoder, save_checkpoint
from unirna.model.checkpoint import fingerprint
from unirna.train.config import TrainConfig
from unirna.train.metrics import read_metrics


def write_model(run: Path, encoder: Encoder, config: TrainConfig, manifest: dict[str, Any]) -> None:
    """Write `<run>/model/` (checkpoint, `card.md`, `training.json`) and `<run>/summary.json`."""
    records = read_metrics(run)
    last = records[-1]
    training = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "unirna": version("unirna"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "fingerprint": fingerprint(encoder),
        "parameters": encoder.config.num_parameters,
        "settings": asdict(config),
        "data": {
            "sources": sorted({shard["source"].rpartition("/")[2] for shard in manifest["shards"]}),
            "licence": manifest.get("licence", "not stated"),
            **{key: manifest[key] for key in ("read", "kept", "rejected", "splits")},
        },
        "curve": records,
    }
    folder, beside = run / "model", run / "model.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    save_checkpoint(encoder, beside)
    (beside / "training.json").write_text(json.dumps(training, indent=1) + "\n")
    (beside / "card.md").write_text(_card(training, encoder))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    summary = {
        "model": str(folder),
        "fingerprint": training["fingerprint"],
        "size": config.size,
        "parameters": training["parameters"],
        "steps": config.steps,
        "tokens": config.steps * config.batch_tokens,
        "first_loss": records[0]["loss"],
        "loss": last["loss"],
        "valid_loss": last.get("valid_loss"),
        "valid_accuracy": last.get("valid_accuracy"),
    }
    (run / "summary.json").write_text(json.dumps(summary) + "\n")


def _commit() -> str:
    """The commit of the checkout that this file stands in, "unknown" outside one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def _card(training: dict[str, Any], encoder: Encoder) -> str:
    shape, settings, data, last = encoder.config, training["settings"], training["data"], training["curve"][-1]
    held_out = ""
    if "valid_loss" in last:
        held_out = (
            f"- Held-out sequences ({data['splits']['valid']['sequences']:,}): loss {last['valid_loss']:.4f} nats, "
            f"perplexity {math.exp(last['valid_loss']):.3f}, masked accuracy {last['valid_accuracy']:.1%}\n"
        )
    return f"""# {settings["size"]}: an RNA language model

A masked-language-model encoder in the Uni-RNA checkpoint format ({shape.num_layers} layers, hidden {shape.hidden_size},
{shape.num_heads} heads, feed-forward {shape.intermediate_size}; {training["parameters"]:,} parameters), trained from random
weights by UniRNA on Ray {training["unirna"]}. Independent of the authors' released weights.

- Fingerprint: `{training["fingerprint"]}`
- Made: {training["created"]}, commit {training["commit"]}, torch {training["torch"]}
- Context: {shape.context:,} nucleotides
- Vectors: mean over nucleotides, whitened on {settings["whitening_sequences"]:,} training sequences

## Data
- Sources: {", ".join(data["sources"])}; licence: {data["licence"]}
- {data["read"]:,} records read, {data["kept"]:,} kept, {data["rejected"]:,} rejected
- Training: {data["splits"]["train"]["sequences"]:,} sequences, {data["splits"]["train"]["nucleotides"]:,} nucleotides;
  validation: {data["splits"]["valid"]["sequences"]:,} sequences, split by exact
  sequence (near-duplicates may stand on both sides)

## Training
- {settings["steps"]:,} steps of {settings["batch_tokens"]:,} tokens, seed {settings["seed"]}, AdamW
- Last training loss {last["loss"]:.4f} nats (step {last["step"]:,})
{held_out}
Every setting and the whole curve: `training.json`.
"""
