"""Tokens per second of the training step, beside a Hugging Face ESM of the same shape trained on padded batches.

    python benchmarks/train.py                                           # nano, mini and L8 on the shipped sequences
    python benchmarks/train.py --data seqs.parquet --size mini --profile --out train.json
    python benchmarks/train.py --size mini --scaling                     # one worker against two, a thread each
    python benchmarks/train.py --size mini L8 --micro-tokens 131072 --padded-batch 128 --optimizer muon   # on a GPU

In one run, in turns, on the same sequences and threads, with random weights of one shape, float32 (bfloat16 on a GPU),
AdamW, clipping:

- padded: `EsmForMaskedLM`, 32 sequences a batch in random order, padded to the longest, on a GPU
  from batches made beforehand;
- ours: `unirna.train`, packed batches of `--micro-tokens`.

Both crop sequences at the context of 1,022 nucleotides. Real tokens are those of sequences, `<cls>` and `<eos>` included.
Useful operations count two for each multiply-add of the linear layers and of attention over real tokens, three times (the
backward pass is two forward passes); norms, activations, the head and the optimiser are no use. The matrix rate is the
median of 2048 x 2048 x 2048 products around each turn (8192 on a GPU). Needs `transformers`. Run it on a quiet machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unirna.corpus import Corpus
from unirna.model import CLS, EOS, MASK, PAD, SIZES, Encoder, EncoderConfig, tokenise
from unirna.sequence import normalise, read
from unirna.train import TrainConfig
from unirna.train.masking import mask_tokens
from unirna.train.memory import keep_memory
from unirna.train.metrics import read_metrics
from unirna.train.objective import to_device
from unirna.train.objectives import build_objective
from unirna.train.optimiser import Optimiser
from unirna.train.parallel import clip
from unirna.train.prefetch import BatchPositions, batches, default_processes

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "jobs" / "demo" / "rfam_sample.parquet"
PADDED = "padded EsmForMaskedLM"
OURS = "unirna.train"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Config:
    """Measure training speed."""

    data: str = str(SAMPLE)
    """Sequences to train on; by default the sample that the repository ships."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    limit: int = 5000
    """So many sequences, drawn evenly."""
    size: tuple[str, ...] = ("nano", "mini", "L8")
    """Sizes of the model."""
    micro_tokens: int = 4096
    """Tokens of one of our forward passes."""
    seconds: float = 20.0
    """Seconds of each turn; there are three of each."""
    threads: int = 2
    """Threads of torch."""
    processor_time: bool = False
    """Count the process's processor time, for a machine with other work on it; only with one thread."""
    optimizer: str = "adamw"
    """Of ours: adamw or muon."""
    padded_batch: int = 32
    """Sequences of one batch of the padded model."""
    compile: bool = False
    """Run our layers through torch.compile (on a GPU)."""
    padded: bool = True
    """Measure the padded model too."""
    profile: bool = False
    """Say where the time of our step goes."""
    scaling: bool = False
    """Measure one worker against two instead, a thread each, under torchrun."""
    out: str | None = None
    """File for the results as JSON."""


@dataclass(frozen=True)
class Result:
    """Speed of one program: real tokens a second, useful GFLOP/s, and the matrix rate around it in GFLOP/s."""

    size: str
    name: str
    tokens_per_second: float
    gflops: float
    matrix_gflops: float


class Sample:
    """Sequences in memory that a `BatchSource` can draw from."""

    def __init__(self, tokens: list[NDArray[np.uint8]]) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.tokens[index]

    def draw(self, random: np.random.Generator) -> int:
        return int(random.integers(len(self.tokens)))


def main(config: Config) -> dict[str, Any]:
    console = Console(width=110)
    if config.scaling:
        return {"scaling": [scaling(config, size, console) for size in config.size]}
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    keep_memory()
    sample = load_sample(config)
    lengths = np.array([len(t) for t in sample.tokens])
    console.print(
        f"{len(sample):,} sequences of {lengths.min():,} to {lengths.max():,}, mean {lengths.mean():.0f}, median "
        f"{np.median(lengths):.0f} nt; {device_name(config)}"
    )
    results: list[Result] = []
    for size in config.size:
        results += measure(config, size, sample, console)
    table = Table("size", "", "real tokens/s", "x padded", "useful GFLOP/s", "matrix GFLOP/s", "share")
    for row in results:
        padded = [r.tokens_per_second for r in results if (r.size, r.name) == (row.size, PADDED)]
        ratio = f"{row.tokens_per_second / padded[0]:.2f}" if padded else "–"
        rates = [f"{row.tokens_per_second:,.0f}", ratio, f"{row.gflops:.1f}", f"{row.matrix_gflops:.0f}"]
        table.add_row(row.size, row.name, *rates, f"{row.gflops / row.matrix_gflops:.0%}")
    console.print(table)
    facts = {"device": device_name(config), "torch": torch.__version__}
    return {**asdict(config), **facts, "results": [asdict(row) for row in results]}


def device_name(config: Config) -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {config.threads} threads"


def settle() -> None:
    """Wait for what the GPU still does."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(config: Config, size: str, sample: Sample, console: Console) -> list[Result]:
    """Both programs in turns, three each; the median turn of each."""
    clock = time.process_time if config.processor_time else time.perf_counter
    programs: dict[str, Callable[[int], list[int]]] = {OURS: our_step(config, size, sample)}
    if config.padded:
        programs[PADDED] = padded_step(config, size, sample)
    turns: dict[str, list[Result]] = {name: [] for name in programs}
    for name, step in programs.items():
        for number in range(4 if DEVICE.type == "cuda" else 1):
            step(number)
        console.print(f"{size}, {name}: warm", style="dim")
    for turn in range(3):
        for name, step in programs.items():
            before, lengths = matrix_gflops(clock), list[int]()
            start = clock()
            number = 1000 * (turn + 1)
            while clock() - start < config.seconds:
                lengths += step(number)
                number += 1
            settle()
            seconds = clock() - start
            useful = 3 * SIZES[size].flops(lengths) / seconds / 1e9
            turns[name].append(Result(size, name, sum(lengths) / seconds, useful, (before + matrix_gflops(clock)) / 2))
    if config.profile:
        profile(programs[OURS], console)
    return [sorted(found, key=lambda r: r.tokens_per_second)[1] for found in turns.values()]


def our_step(config: Config, size: str, sample: Sample) -> Callable[[int], list[int]]:
    """The loop's step, without its logs and checkpoints."""
    settings = TrainConfig(
        size=size,
        batch_tokens=config.micro_tokens,
        micro_tokens=config.micro_tokens,
        optimizer=config.optimizer,
    )
    encoder = Encoder(settings.encoder).initialise(0).to(DEVICE)
    objective = build_objective(settings, encoder, cast(Corpus, sample)).train()
    optimiser = Optimiser(encoder, settings)
    if config.compile:
        for layer in encoder.layers:
            layer.compile(dynamic=True)
    assert objective.source is not None
    ahead = batches(objective.source, BatchPositions(0, 1_000_000, range(1)), default_processes(DEVICE))

    def step(number: int) -> list[int]:
        batch = next(ahead)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            loss, _ = objective(*to_device(batch, DEVICE))
        loss.backward()
        clip(encoder.parameters(), settings.clip)
        optimiser.step(1e-4)
        return batch.lengths

    return step


def padded_step(config: Config, size: str, sample: Sample) -> Callable[[int], list[int]]:
    """The usual way: batches of sequences padded to the longest, the masked-language-model loss, clipping, AdamW."""
    encoder = padded_model(SIZES[size]).to(DEVICE)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    context = SIZES[size].context

    def make(number: int) -> tuple[Tensor, Tensor, list[int]]:
        random = np.random.default_rng(number)
        rows, answers = [], []
        for _ in range(config.padded_batch):
            tokens = sample[sample.draw(random)]
            start = int(random.integers(max(0, len(tokens) - context) + 1))
            ids = np.concatenate([[CLS], tokens[start : start + context], [EOS]]).astype(np.uint8)
            hidden, places, targets = mask_tokens(ids, random)
            labels = np.full(len(ids), -100)
            labels[places] = targets
            rows.append(torch.from_numpy(hidden.astype(np.int64)))
            answers.append(torch.from_numpy(labels))
        ids_NL = pad_sequence(rows, batch_first=True, padding_value=PAD)
        labels_NL = pad_sequence(answers, batch_first=True, padding_value=-100)
        return ids_NL.to(DEVICE), labels_NL.to(DEVICE), [len(row) for row in rows]

    ready = [make(number) for number in range(16)] if DEVICE.type == "cuda" else []

    def step(number: int) -> list[int]:
        ids_NL, labels_NL, lengths = ready[number % len(ready)] if ready else make(number)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            loss = encoder(input_ids=ids_NL, attention_mask=(ids_NL != PAD).long(), labels=labels_NL).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return lengths

    return step


def padded_model(shape: EncoderConfig) -> Any:
    """A Hugging Face ESM of the same shape, with random weights and no dropout."""
    from transformers import EsmConfig, EsmForMaskedLM

    config = EsmConfig(
        vocab_size=10,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        position_embedding_type="rotary",
        emb_layer_norm_before=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        mask_token_id=MASK,
        token_dropout=True,
    )
    torch.manual_seed(0)
    return EsmForMaskedLM(config).train()


def load_sample(config: Config) -> Sample:
    records = read(config.data, id_column=config.id_column, sequence_column=config.sequence_column)
    sequences = [r.sequence for r in records if r.sequence]
    chosen = np.random.default_rng(0).permutation(len(sequences))[: config.limit]
    return Sample([tokenise(normalise(sequences[i])) for i in chosen])


def matrix_gflops(clock: Callable[[], float], times: int = 5) -> float:
    """This machine's matrix rate, float32 on a CPU and bfloat16 on a GPU: the median of some products."""
    size, kind = (8192, torch.bfloat16) if DEVICE.type == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(size, size, device=DEVICE, dtype=kind) for _ in range(2))
    out = a @ b
    settle()
    seconds = []
    for _ in range(times):
        start = clock()
        torch.mm(a, b, out=out)
        settle()
        seconds.append(clock() - start)
    return 2 * size**3 / statistics.median(seconds) / 1e9


KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear"),
    "attention": ("attention",),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "optimiser and clipping": ("adamw", "norm", "lerp", "foreach"),
    "rotary positions": ("rotat", "Rotat"),
    "copies, splits, sums": ("copy_", "cat", "add", "mul", "sum", "index", "split", "zero", "fill", "sub", "neg"),
}


def profile(step: Callable[[int], list[int]], console: Console, times: int = 4) -> None:
    """Shares of the time of a few steps, each operation's own time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    on_gpu = DEVICE.type == "cuda"
    with profiler(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as run:
        for number in range(times):
            step(number)
        settle()
    events = run.key_averages()
    column = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    kinds: Counter[str] = Counter()
    for event in events:
        kind = next((k for k, words in KINDS.items() if any(word in event.key for word in words)), "the rest")
        kinds[kind] += (
            getattr(event, column) if event.key.startswith(("aten", "torch", "Optim", "autograd")) or not on_gpu else 0
        )
    total = sum(kinds.values())
    table = Table("where our step's time goes", "share")
    for kind, part in kinds.most_common():
        table.add_row(kind, f"{part / total:.1%}")
    console.print(table)
    console.print(events.table(sort_by=column, row_limit=24, max_name_column_width=60))


def scaling(config: Config, size: str, console: Console) -> dict[str, Any]:
    """Tokens a second of the whole job with one worker and with two, one thread each."""
    steps = 12
    speeds: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="unirna-bench-") as folder:
        for workers in (1, 2):
            run = Path(folder) / str(workers)
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
            command += [str(ROOT / "jobs" / "pretrain.py"), "--workers", "0", "--data", config.data, "--out", str(run)]
            command += ["--sequence-column", config.sequence_column, "--id-column", config.id_column, "--size", size]
            command += ["--batch-tokens", str(4 * config.micro_tokens), "--micro-tokens", str(config.micro_tokens)]
            command += ["--steps", str(steps), "--log-every", "1", "--valid-every", "1000", "--valid-tokens", "4096"]
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            speeds[workers] = statistics.median(r["tokens_per_second"] for r in read_metrics(run)[2:])
    console.print(
        f"{size}: 1 worker {speeds[1]:,.0f} tokens/s, 2 workers {speeds[2]:,.0f}: {speeds[2] / speeds[1]:.2f} times as many"
    )
    return {"size": size, **{f"workers_{n}": speed for n, speed in speeds.items()}}


if __name__ == "__main__":
    arguments = tyro.cli(Config, description=__doc__)
    measured = main(arguments)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
