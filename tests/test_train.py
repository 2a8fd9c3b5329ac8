"""Pre-training: numbers that a stop, a restart and another number of workers do not change."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unirna import model
from unirna.corpus import BuildConfig, Corpus, build_corpus
from unirna.model import MASK
from unirna.train import BatchSource, TrainConfig, TrainError, latest_checkpoint, mask_tokens, run_workers, train
from unirna.train.metrics import format_record, read_metrics
from unirna.train.prefetch import BatchPositions, batches

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).with_name("golden_curve.json")
SMALL = TrainConfig(
    steps=12,
    batch_tokens=2048,
    micro_tokens=1024,
    log_every=1,
    checkpoint_every=4,
    valid_every=6,
    valid_tokens=2048,
    whitening_sequences=200,
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, rfam_sample: Path) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "c"
    build_corpus(BuildConfig((str(rfam_sample),), str(folder)))
    return folder


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run)]


# ---- batches and masks


def test_batches_are_a_function_of_seed_and_step(corpus: Path) -> None:
    def source(seed: int = 0) -> BatchSource:
        return BatchSource(Corpus(corpus), seed=seed, budget=2000, context=1024)

    one, other = source().batch(5, 1), source().batch(5, 1)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.places, other.places)
    for different in (source().batch(5, 0), source().batch(6, 1), source(1).batch(5, 1)):
        assert len(different.tokens) != len(one.tokens) or (different.tokens != one.tokens).any()


def test_batches_fill_the_budget_and_crop_long_sequences(tmp_path: Path) -> None:
    (tmp_path / "x.fasta").write_text(">long\n" + "ACGU" * 1000 + "\n>short\nGGGGGGGGGGGG\n")
    build_corpus(BuildConfig((str(tmp_path / "x.fasta"),), str(tmp_path / "c"), valid_share=0))
    source = BatchSource(Corpus(tmp_path / "c"), seed=0, budget=1500, context=100)
    for step in range(5):
        batch = source.batch(step, 0)
        assert 1490 <= len(batch.tokens) <= 1500
        assert max(batch.lengths) <= 102


def test_masks_are_15_percent_80_10_10(corpus: Path) -> None:
    from unirna.model import NUCLEOTIDES

    tokens = model.pack(["ACGUN" * 200] * 100).tokens
    hidden, places, targets = mask_tokens(tokens, np.random.default_rng(0))
    nucleotides = np.isin(tokens, NUCLEOTIDES)
    assert abs(len(places) / nucleotides.sum() - 0.15) < 0.01
    assert nucleotides[places].all()  # never N, <cls> or <eos>
    np.testing.assert_array_equal(tokens[places], targets)
    masked, kept = (hidden[places] == MASK).mean(), (hidden[places] == targets).mean()
    assert abs(masked - 0.8) < 0.01
    assert abs(kept - 0.125) < 0.01  # left, or replaced by the same letter
    untouched = np.ones(len(tokens), bool)
    untouched[places] = False
    np.testing.assert_array_equal(hidden[untouched], tokens[untouched])


def test_learning_rate_warms_up_holds_and_decays() -> None:
    config = TrainConfig(steps=100, learning_rate=1.0, warmup_share=0.1, decay_share=0.2)
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("size", "huge", "Sizes: nano"),
        ("steps", 0, "steps is 0"),
        ("micro_tokens", 1000, "no multiple"),
        ("decay_share", 1, "more than 1"),
    ],
)
def test_bad_settings_are_named(field: str, value: object, says: str) -> None:
    with pytest.raises(TrainError, match=says):
        TrainConfig(**{field: value})


def test_batches_made_ahead_are_those_made_here(corpus: Path) -> None:
    source = BatchSource(Corpus(corpus), seed=3, budget=1000, context=200)
    places = BatchPositions(2, 6, range(1, 5, 2))
    assert len(places) == 8 and list(places)[:3] == [(2, 1), (2, 3), (3, 1)]
    here, ahead = (list(batches(source, places, processes)) for processes in (0, 2))
    assert len(here) == len(ahead) == 8
    for one, other in zip(here, ahead, strict=True):
        np.testing.assert_array_equal(one.arrays[0], other.arrays[0])
        np.testing.assert_array_equal(one.arrays[2], other.arrays[2])


# ---- the loop


def test_loss_falls(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        steps=40,
        batch_tokens=4096,
        micro_tokens=4096,
        log_every=1,
        valid_every=40,
        valid_tokens=4096,
        whitening_sequences=500,
    )
    summary = train(config, corpus, tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert len(curve) == 40
    assert np.mean(curve[-5:]) < np.mean(curve[:3]) - 0.02  # below what the composition alone gives
    assert summary["valid_loss"] < np.log(4)
    folder = tmp_path / "run" / "model"
    assert model.load(folder).fingerprint == summary["fingerprint"]
    training = json.loads((folder / "training.json").read_text())
    assert training["data"]["kept"] == 3900
    assert summary["fingerprint"] in (folder / "card.md").read_text()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    line = format_record(read_metrics(tmp_path / "run")[-1])
    for word in ("step", "loss", "lr", "tokens/s", "of the matrix rate", "left", "held out"):
        assert word in line


def test_curve_is_the_golden_one(corpus: Path, tmp_path: Path) -> None:
    """Fails when a change that should not alter the numbers does. Renew it with UNIRNA_RENEW_GOLDEN=1."""
    train(SMALL, corpus, tmp_path / "run")
    if os.environ.get("UNIRNA_RENEW_GOLDEN"):
        GOLDEN.write_text(json.dumps(losses(tmp_path / "run")) + "\n")
    np.testing.assert_allclose(losses(tmp_path / "run"), json.loads(GOLDEN.read_text()), atol=2e-4)


def test_a_stopped_run_goes_on_with_the_same_numbers(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(SMALL, corpus, tmp_path / "whole")
    batch = BatchSource.batch

    def stop(self: BatchSource, step: int, number: int):
        if step == 9:
            raise KeyboardInterrupt
        return batch(self, step, number)

    monkeypatch.setattr(BatchSource, "batch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, corpus, tmp_path / "stopped")
    monkeypatch.setattr(BatchSource, "batch", batch)
    checkpoint = latest_checkpoint(tmp_path / "stopped")
    assert checkpoint is not None
    assert checkpoint.name == "step-00000008"
    resumed = train(SMALL, corpus, tmp_path / "stopped")
    np.testing.assert_allclose(losses(tmp_path / "stopped"), losses(tmp_path / "whole"), atol=1e-6)
    assert [r["step"] for r in read_metrics(tmp_path / "stopped")] == list(range(1, 13))
    assert train(SMALL, corpus, tmp_path / "stopped") == resumed  # finished: nothing is done again
    assert len(list((tmp_path / "stopped" / "checkpoints").iterdir())) == SMALL.keep


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL.__dict__, "steps": 8})
    whole = train(config, corpus, tmp_path / "run")
    newest = latest_checkpoint(tmp_path / "run")
    assert newest is not None
    (newest / "model.safetensors").write_bytes(b"cut")
    (tmp_path / "run" / "summary.json").unlink()
    assert train(config, corpus, tmp_path / "run")["fingerprint"] == whole["fingerprint"]


def test_other_settings_in_one_folder_are_refused(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL.__dict__, "steps": 1})
    train(config, corpus, tmp_path / "run")
    with pytest.raises(TrainError, match="seed was 0, is now 5"):
        train(TrainConfig(**{**config.__dict__, "seed": 5}), corpus, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="loss is nan"):
        train(TrainConfig(**{**SMALL.__dict__, "learning_rate": 1e30, "warmup_share": 0.0}), corpus, tmp_path / "run")


# ---- workers


def worker(settings: dict) -> None:
    """Train; on the first try, one worker dies at step 6."""
    flag = Path(settings["run"]) / "died"
    if torch.distributed.get_rank() == 1 and not flag.exists():
        whole = BatchSource.batch

        def die(self: BatchSource, step: int, number: int):
            if step == 6:
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self, step, number)

        BatchSource.batch = die
    train(TrainConfig(**settings["config"]), settings["corpus"], settings["run"])


@pytest.mark.slow
def test_two_workers_one_killed_give_the_curve_of_one(ray_cluster: None, corpus: Path, tmp_path: Path) -> None:
    train(SMALL, corpus, tmp_path / "one")
    settings = {"config": SMALL.__dict__, "corpus": str(corpus), "run": str(tmp_path / "two")}
    run_workers(worker, settings, workers=2, folder=tmp_path / "ray")
    assert (tmp_path / "two" / "died").exists()
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)


@pytest.mark.slow
def test_pretrain_job_killed_and_started_again(rfam_sample: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "jobs" / "pretrain.py"),
        "--data",
        str(rfam_sample),
        "--out",
        str(tmp_path / "run"),
    ]
    command += [
        "--steps",
        "18",
        "--batch-tokens",
        "2048",
        "--micro-tokens",
        "1024",
        "--whitening-sequences",
        "500",
        "--workers",
        "2",
        "--checkpoint-every",
        "3",
        "--log-every",
        "3",
    ]
    first = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while latest_checkpoint(tmp_path / "run") is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    reached = latest_checkpoint(tmp_path / "run")
    assert reached is not None
    assert not (tmp_path / "run" / "summary.json").exists()
    time.sleep(3)  # Ray's own processes notice that their driver is gone
    again = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert f"going on from {reached.name}" in again.stderr or "going on from step" in again.stderr
    summary = json.loads(again.stdout.splitlines()[-1])
    assert summary["steps"] == 18
    assert [r["step"] for r in read_metrics(tmp_path / "run")] == [3, 6, 9, 12, 15, 18]


def test_a_run_ends_where_unirna_lies_on_the_path_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    train(replace(SMALL, steps=1, size="nano"), corpus, tmp_path)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["unirna"] == "source"
