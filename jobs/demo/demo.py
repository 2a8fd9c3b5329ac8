"""The whole platform once, on real RNA, on this machine: `make demo`.

Pre-trains a small model on 3,600 sequences of 150 Rfam families, to show how; then, with the shipped model `unirna-mini`,
fine-tunes a family predictor, embeds the sequences into a LanceDB store, serves it, searches it with members that it does
not hold, and screens a library. Everything goes to `demo-output/`; interrupted, and started again, it goes on where it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from rich.console import Console
from rich.table import Table

from unirna import sdk
from unirna.base import command, percent
from unirna.corpus import BuildConfig, build_corpus
from unirna.embed import EmbedConfig, embed_collection
from unirna.job import connect_ray, run_job, say
from unirna.model import SHIPPED
from unirna.screen import ScreenConfig, screen_library
from unirna.serve.settings import Settings
from unirna.tasks import DataConfig, FinetuneConfig, finetune
from unirna.train import TrainConfig, claim_run, run_workers, train
from unirna.train.metrics import following, read_metrics

MODEL = "unirna-mini"
SAMPLE = Path(__file__).with_name("rfam_sample.parquet")
QUERY_FAMILIES = (
    "tRNA",
    "U1",
    "6S",
    "TPP",
    "SAM",
    "FMN",
    "Hammerhead_3",
    "RNaseP_bact_a",
    "Metazoa_SRP",
    "Histone3",
    "let-7",
    "SNORD33",
)
"""Well-known families of every kind, whose held-out members are shown."""
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Config:
    """Show every part of the platform on real RNA."""

    out: str = "demo-output"
    """Folder of everything that is made."""
    steps: int = 300
    """Optimiser steps of pre-training: about a minute on two cores."""
    workers: int = 2
    """Ray Train workers."""


def main(config: Config) -> dict[str, Any]:
    """Walk through the five stories."""
    started = time.monotonic()
    out = Path(config.out).absolute()
    sample = prepare(out)
    with step("Starting Ray, on this machine alone"):
        connect_ray()

    with step(f"Pre-training a small language model ({config.workers} Ray Train workers)"):
        pretrained = pretrain(config, out)
    with step(f"Fine-tuning a predictor of the RNA family (from here on with the shipped model {MODEL})"):
        predictor = finetune(
            FinetuneConfig(
                name="family",
                model=MODEL,
                data=DataConfig((str(SAMPLE),), label_column="family_name", split_column="split"),
                registry=str(out / "registry"),
                cnn=False,
                replace=True,
            )
        )
    with step("Embedding the sequences into a LanceDB store (Ray Data)"):
        embedded = embed_collection(
            EmbedConfig((str(out / "data" / "rfam.parquet"),), "rfam", str(out / "store"), MODEL, map=True)
        )
        say(f"{embedded['stored']:,} of {embedded['read']:,} records stored, {embedded['rejected']} rejected")
    with step("Serving the store, and searching it with sequences that it does not hold"), service(out) as address:
        found = search(address, sample)
    with step("Screening a library for riboswitches"):
        screened = screen(out)

    seconds = time.monotonic() - started
    finish(out, seconds, screened)
    return {
        "seconds": round(seconds),
        "first_loss": pretrained["first_loss"],
        "loss": pretrained["loss"],
        "predictor": predictor["predictor"],
        "stored": embedded["stored"],
        **found,
        "report": str(out / "screen" / "report.html"),
    }


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """A headline, and the seconds at the end."""
    console.rule(f"[bold]{title}", align="left")
    started = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - started:.0f} s[/dim]\n")


def prepare(out: Path) -> pd.DataFrame:
    """Write the collection, the references and the library to screen; held-out members are in the library alone."""
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    sample = pd.read_parquet(SAMPLE)
    known, heldout = (sample[sample.split == name] for name in ("train", "heldout"))
    riboswitches = known[known.rna_type == "Cis-reg;riboswitch"].groupby("family").head(5)
    console.print(
        f"\n[bold]UniRNA on Ray[/bold]: {len(known):,} RNA sequences of {sample.family.nunique()} Rfam families, and "
        f"{len(heldout)} held-out members to search with\n"
    )
    files: dict[str, Callable[[Path], object]] = {
        "rfam.parquet": lambda path: known.drop(columns="split").to_parquet(path, index=False),
        "references.fasta": lambda path: path.write_text(fasta(riboswitches), encoding="utf-8"),
        "library.fasta": lambda path: path.write_text(fasta(heldout) + fasta(shuffled(heldout)), encoding="utf-8"),
    }
    for name, write in files.items():
        if not (data / name).exists():  # written once: a job knows its input again by the file's time
            write(data / name)
    return sample


def fasta(rows: pd.DataFrame) -> str:
    """FASTA text with family and RNA type as the description."""
    return "".join(f">{r.id} {r.family_name} ({r.rna_type})\n{r.sequence}\n" for r in rows.itertuples())


def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    """The same nucleotides in random order: decoys of the same length and composition."""
    chance = np.random.default_rng(0)
    letters = ["".join(chance.permutation(list(s))) for s in rows.sequence]
    return rows.assign(id="shuffled-" + rows.id, sequence=letters, family_name="shuffled", rna_type="decoy")


def pretrain(config: Config, out: Path) -> dict[str, Any]:
    """Corpus and model; the loss falls."""
    settings = TrainConfig(
        size="nano", steps=config.steps, batch_tokens=4096, micro_tokens=2048, log_every=25, valid_every=150
    )
    corpus, run = out / "corpus", out / "pretrain"
    build_corpus(BuildConfig((str(out / "data" / "rfam.parquet"),), str(corpus)))
    claim_run(run, settings, corpus)
    if not (run / "summary.json").exists():
        with following(run, say):
            paths = {"config": asdict(settings), "corpus": str(corpus), "run": str(run)}
            run_workers(train_worker, paths, workers=config.workers, folder=run / "ray")
    summary = train(settings, corpus, run)  # finished: reads the summary
    losses = [record["loss"] for record in read_metrics(run)]
    say(f"loss {losses[0]:.3f} → {losses[-1]:.3f}  {sparkline(losses)}")
    return summary


def train_worker(settings: dict[str, Any]) -> None:
    """One worker's part of the training."""
    train(TrainConfig(**settings["config"]), settings["corpus"], settings["run"])


def sparkline(values: list[float]) -> str:
    """A curve in one line of text."""
    low, high = min(values), max(values)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (v - low) / ((high - low) or 1))] for v in values)


@contextlib.contextmanager
def service(out: Path) -> Iterator[str]:
    """The service on a free port of this machine, while the body runs."""
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    with warnings.catch_warnings(action="ignore"):  # of Ray's own making
        from ray import serve

    from unirna.serve.ray.deployment import NAME, build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(store=str(out / "store"), model=MODEL, registry=str(out / "registry"), port=port)
    settings.check()
    serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": port})
    serve.run(build(settings, None, cpus=1, one_machine=True), name=NAME, route_prefix="/")
    say(f"the service answers at http://127.0.0.1:{port} for the time of this demonstration")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.delete(NAME)


def search(address: str, sample: pd.DataFrame) -> dict[str, Any]:
    """Search with held-out members of some families: a table of the nearest hits; and the share right over all of them."""
    heldout = sample[sample.split == "heldout"]
    queries = heldout[heldout.family_name.isin(QUERY_FAMILIES)].groupby("family_name").head(1)
    table = Table(title="sdk.search(similar_to=…)", title_justify="left")
    for name in ("its family", "query (held out)", "nearest hits", "similarity", ""):
        table.add_column(name, overflow="fold")
    with sdk.connect(address) as client:
        for query in queries.itertuples():
            hits = client.search(similar_to=query.sequence, k=3)
            names = [str(hit.labels["family_name"]) for hit in hits]
            right = query.family_name in names
            shown = ", ".join(f"[bold]{n}[/bold]" if n == query.family_name else n for n in names)
            table.add_row(query.family_name, query.id, shown, f"{hits[0].similarity:.3f}", "✓" if right else "")
        first = ten = 0
        for query in heldout.itertuples():
            families = [hit.labels["family"] for hit in client.search(similar_to=query.sequence, k=10)]
            first += int(families[0] == query.family)
            ten += int(query.family in families)
        predicted = client.predict("family", list(heldout.sequence))
    console.print(table)
    known = sum(
        isinstance(p, sdk.Prediction) and p.label == name for p, name in zip(predicted, heldout.family_name, strict=True)
    )
    say(
        f"over all {len(heldout)} held-out sequences: nearest hit of the right family for {percent(first / len(heldout))}, "
        f"one of the first ten for {percent(ten / len(heldout))} (by chance: {percent(1 / sample.family.nunique(), 1)}); "
        f"sdk.predict('family') right for {percent(known / len(predicted))}. {MODEL} met these families in its training: "
        "its card has the figures for families that it did not"
    )
    return {"recall_at_1": round(first / len(heldout), 3), "recall_at_10": round(ten / len(heldout), 3)}


def screen(out: Path) -> dict[str, Any]:
    """Rank held-out sequences and shuffled decoys by likeness to known riboswitches."""
    return screen_library(
        ScreenConfig(
            library=(str(out / "data" / "library.fasta"),),
            similar_to=(str(out / "data" / "references.fasta"),),
            model=MODEL,
            registry=str(out / "registry"),
            out=str(out / "screen"),
            top=50,
        )
    )


def finish(out: Path, seconds: float, screened: dict[str, Any]) -> None:
    """Where everything is, and how to go on."""
    console.rule("[bold green]Done", align="left")
    here = Path.cwd()

    def short(path: Path) -> str:
        return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

    store = short(out / "store")

    console.print(
        f"""\
{screened["screened"]} sequences screened; all of it took {seconds / 60:.1f} minutes

  the screening report   {short(out / "screen" / "report.html")}
  the store              {store}
  the model, its card    {short(SHIPPED / MODEL / "card.md")}
  the one made here      {short(out / "pretrain" / "model")}
  the predictor          {short(out / "registry" / "family")}

[bold]Go on[/bold] (each command stands by itself, and they go together)
  the web page, and the service behind it, at http://127.0.0.1:8000:
make serve
  a search from the shell:
.venv/bin/unirna search GGGAAACCC --collection rfam --store {store}
  a collection of your own sequences beside it, and a search in it:
.venv/bin/python jobs/embed.py your.fasta --collection yours --store {store} --model {MODEL}
.venv/bin/unirna search GGGAAACCC --collection yours --store {store}
""",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(command(lambda: run_job(lambda: main(tyro.cli(Config, description=__doc__)))))
