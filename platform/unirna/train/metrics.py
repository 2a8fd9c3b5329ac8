"""Metrics of a run: one record per log line, as JSONL, in TensorBoard and as text; and the matrix rate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from unirna.base import percent
from unirna.job import followed
from unirna.runs import write_text

Record = dict[str, Any]


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of this process's matrix product, median of seven.

    float32 on the CPU (1024 x 1024 x 1024, with torch's threads), bfloat16 on CUDA (8192 each way): the number types
    in which training runs there.
    """
    cuda = device.type == "cuda"
    n = 8192 if cuda else 1024
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16 if cuda else torch.float32) for _ in range(2))
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(2 * n**3 / sorted(seconds[1:])[3])


class MetricsLog:
    """Appends records to `metrics.jsonl` and TensorBoard's event files in a run's folder.

    Records after step `resume_at` are dropped on opening: the steps are about to be repeated.
    """

    def __init__(self, run: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = run / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= resume_at]
        write_text(path, "".join(kept))
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=resume_at + 1)

    def write(self, record: Record) -> None:
        """Append one record; every number in it but `step` becomes a TensorBoard scalar, those per source too."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        sources: dict[str, Record] = record.get("valid_sources", {})
        losses = {f"valid_loss_of/{name.rpartition('/')[2]}": found["loss"] for name, found in sources.items()}
        for name, value in (record | losses).items():
            if name != "step" and isinstance(value, (int, float)):
                self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


def read_metrics(run: str | Path) -> list[Record]:
    """All records of a run so far."""
    return [json.loads(line) for line in _lines(Path(run) / "metrics.jsonl")]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def format_record(record: Record) -> str:
    """The log line: step, loss, learning rate, tokens/s, share of the matrix rate, time left."""
    minutes, seconds = divmod(round(record["seconds_left"]), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
    line = (
        f"step {record['step']:>6}/{record['steps']}  loss {record['loss']:.4f}  lr {record['learning_rate']:.2e}  "
        f"{record['tokens_per_second']:>8,.0f} tokens/s  {record['matrix_share']:4.0%} of the matrix rate  left {left}"
    )
    if record.get("skipped"):
        line += f"  {record['skipped']} steps skipped: their gradient was no finite number"
    if "valid_loss" in record:
        line += f"  | held out: loss {record['valid_loss']:.4f}, accuracy {percent(record['valid_accuracy'], 1)}"
        if "markov_loss" in record:
            line += f" (Markov {record['markov_loss']:.4f}, two-sided {record['markov_both_loss']:.4f})"
    return line


@contextmanager
def following(run: Path, show: Callable[[str], None], every: float = 0.5) -> Iterator[None]:
    """Show the run's new records while the body runs: the workers write them, on any machine that shares the folder."""
    seen = max((r["step"] for r in read_metrics(run)), default=0)

    def follow() -> None:
        nonlocal seen
        for record in read_metrics(run):
            if record["step"] > seen:
                seen = record["step"]
                show(format_record(record))

    with followed(follow, every):
        yield
