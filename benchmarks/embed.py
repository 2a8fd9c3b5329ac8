"""Nucleotides per second of the embedding job and of the bare model, beside the padded loop of most scripts.

    python benchmarks/embed.py                                  # a sample of the shipped sequences
    python benchmarks/embed.py --fasta sequences.fasta --size L8 --out embed.json

In one run, on the same sequences and threads, with random weights of one shape, float32 (on a GPU
the padded loops in bfloat16):

- matrix rate: the median of 2048 x 2048 x 2048 products, before and after each of the others;
- padded, file order: a Hugging Face `EsmModel`, 32 sequences a batch, padded to the longest, mean over real tokens;
- padded, sorted: the same on sequences sorted by length;
- bare model: `unirna.model.Model.embed` of the final states, on a GPU in bfloat16; and of all layers' states (float32),
  as a shipped model with its map to vectors takes them;
- job: `unirna.embed.embed_collection` with an embedded Ray, from a FASTA file to a committed collection; its embedding
  phase alone, in which the workers also start and load the model, and the whole of it.

Useful operations count two for each multiply-add of the linear layers and of attention over real tokens, `<cls>` and
`<eos>` included; padding is no use. Needs `transformers`. Sequences longer than the context are left out, since the
padded loop would cut them. Run it on a quiet machine: the matrix rates show whether it was one, since they then agree.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from unirna import model
from unirna.model import CLS, EOS, PAD, EncoderConfig, tokenise
from unirna.sequence import normalise, read

SAMPLE = Path(__file__).resolve().parent.parent / "jobs" / "demo" / "rfam_sample.parquet"
BATCH = 32
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Config:
    """Measure embedding speed."""

    fasta: str = str(SAMPLE)
    """Sequences to embed; by default the sample that the repository ships."""
    size: str = "L8"
    """Size of the model: nano, mini, L8, L12, L16 or L24."""
    limit: int | None = None
    """First so many sequences only."""
    padded: bool = True
    """Measure the padded loops too; in file order they take many times as long as all else."""
    job: bool = True
    """Measure the job too; it needs Ray."""
    threads: int = 2
    """Threads of torch; also cores of the embedded Ray."""
    cpus_per_worker: int = 1
    """Cores and threads of each of the job's workers."""
    rounds: int = 1
    """Measure all but the file order so often, in turn, and keep the fastest of each: other programs only slow down."""
    out: str | None = None
    """File for the results as JSON."""


@dataclass(frozen=True)
class Result:
    """Speed of one program: nucleotides a second, useful GFLOP/s, and the matrix rate around it in GFLOP/s."""

    name: str
    seconds: float
    nucleotides_per_second: float
    gflops: float
    matrix_gflops: float


def main(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    shape = model.SIZES[config.size]
    sequences = load_sequences(config, shape.context)
    nucleotides = sum(map(len, sequences))
    operations = shape.flops([len(s) + 2 for s in sequences])
    console = Console(width=100)
    console.print(f"{len(sequences):,} sequences, {nucleotides:,} nt, {config.size}, {config.threads} threads")

    best: dict[str, Result] = {}

    def note(name: str, seconds: float) -> None:
        rates.append(matrix_gflops())
        around = (rates[-2] + rates[-1]) / 2
        console.print(f"{name}: {seconds:.1f} s; matrix rate {around:.0f} GFLOP/s")
        if name not in best or seconds < best[name].seconds:
            best[name] = Result(name, seconds, nucleotides / seconds, operations / seconds / 1e9, around)

    rates = [matrix_gflops()]
    esm = padded_model(shape).to(DEVICE)
    padded_embed(esm, sequences[:BATCH])  # warm up
    bare = model.initialise(config.size, seed=0, device=DEVICE)
    white = model.initialise(config.size, seed=0, device=DEVICE)
    white.encoder.whitening = model.Whitening.identity(shape, model.pooled_layers(shape)).to(DEVICE)
    bare.embed(sequences[: 8 * BATCH])
    white.embed(sequences[: 8 * BATCH])
    if config.padded:
        note("padded, file order", seconds_of(lambda: padded_embed(esm, sequences)))
    for _ in range(config.rounds):
        if config.padded:
            note("padded, sorted", seconds_of(lambda: padded_embed(esm, sorted(sequences, key=len))))
        note("bare model", seconds_of(lambda: bare.embed(sequences)))
        note("bare model, all layers", seconds_of(lambda: white.embed(sequences)))
        if not config.job:
            continue
        with tempfile.TemporaryDirectory(prefix="unirna-bench-") as folder:
            phase, whole = job_seconds(config, bare, sequences, Path(folder))
        note("job, embedding phase", phase)
        note("job, whole", whole)
    results = list(best.values())

    table = Table("", "nt/s", "x file order", "x sorted", "useful GFLOP/s", "matrix GFLOP/s", "share")
    for row in results:
        others = results[:2] if config.padded else []
        versus = [f"{row.nucleotides_per_second / other.nucleotides_per_second:.2f}" for other in others] or ["", ""]
        speed, rate = f"{row.nucleotides_per_second:,.0f}", f"{row.matrix_gflops:.0f}"
        table.add_row(row.name, speed, *versus, f"{row.gflops:.1f}", rate, f"{row.gflops / row.matrix_gflops:.0%}")
    console.print(table)
    return {
        **asdict(config),
        "sequences": len(sequences),
        "nucleotides": nucleotides,
        "results": [asdict(row) for row in results],
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU",
    }


def load_sequences(config: Config, context: int) -> list[str]:
    found: list[str] = []
    for record in read(config.fasta):
        if config.limit is not None and len(found) == config.limit:
            break
        if record.sequence and len(record.sequence) <= context:
            found.append(normalise(record.sequence, record.id))
    return found


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matrix_gflops(times: int = 12) -> float:
    """This machine's matrix rate, float32 on a CPU and bfloat16 on a GPU: the median of some products."""
    size, kind = (8192, torch.bfloat16) if DEVICE.type == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(size, size, device=DEVICE, dtype=kind) for _ in range(2))
    a @ b
    return 2 * size**3 / statistics.median(seconds_of(lambda: a @ b) for _ in range(times)) / 1e9


def padded_model(shape: EncoderConfig) -> Any:
    """A Hugging Face ESM encoder of the same shape, with random weights."""
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=10,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        position_embedding_type="rotary",
        pad_token_id=PAD,
        mask_token_id=4,
        token_dropout=False,
    )
    torch.manual_seed(0)
    return EsmModel(config, add_pooling_layer=False).eval()


def padded_embed(encoder: Any, sequences: list[str]) -> None:
    """Batches of 32 in the order given, padded to the longest; the mean over each one's tokens."""
    for start in range(0, len(sequences), BATCH):
        rows = [torch.tensor([CLS, *tokenise(s).tolist(), EOS]) for s in sequences[start : start + BATCH]]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        ids = ids.to(DEVICE)
        mask = (ids != PAD).long()
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            ((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).cpu()


def job_seconds(config: Config, encoder: model.Model, sequences: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of the job's embedding phase and of the whole job, Ray's start left out."""
    from unirna.embed import EmbedConfig, embed_collection
    from unirna.job import connect_ray

    connect_ray(cpus=config.threads)
    path = encoder.save(folder / "model")
    fasta = folder / "input.fasta"
    fasta.write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(sequences)), encoding="utf-8")
    settings = EmbedConfig((str(fasta),), "bench", str(folder / "store"), str(path), cpus_per_worker=config.cpus_per_worker)
    summary = embed_collection(settings)
    assert summary["stored"] == len(sequences), summary
    return float(summary["embed_seconds"]), float(summary["seconds"])


if __name__ == "__main__":
    arguments = tyro.cli(Config, description=__doc__)
    measured = main(arguments)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
