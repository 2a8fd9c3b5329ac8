"""The trainer beyond its plain path: optimisers, sharding, extension, validation, faults and their stated outcomes."""

import errno
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from unirna import model
from unirna.corpus import BuildConfig, Corpus, build_corpus
from unirna.job import JobStopped
from unirna.model import CheckpointError, Encoder
from unirna.sequence import read
from unirna.train import BatchSource, TrainConfig, TrainError, latest_checkpoint, loop, train
from unirna.train.checkpoints import checkpoints, read_checkpoint, sound_checkpoint
from unirna.train.markov import TargetPosition, count_kmers, predict, tables_both, tables_left
from unirna.train.metrics import format_record, read_metrics
from unirna.train.validation import held_out_batches

ROOT = Path(__file__).resolve().parent.parent
TINY = TrainConfig(
    steps=10,
    batch_tokens=1024,
    micro_tokens=512,
    log_every=1,
    checkpoint_every=4,
    valid_every=5,
    valid_tokens=2048,
    whitening_sequences=0,
    keep=3,
)


@pytest.fixture(scope="session")
def two_sources(tmp_path_factory: pytest.TempPathFactory, rfam_sample: Path) -> Path:
    """A corpus of two files: short sequences, and longer ones."""
    folder = tmp_path_factory.mktemp("two")
    records = list(read(str(rfam_sample)))
    for name, wanted in (("short", lambda n: n < 90), ("long", lambda n: n >= 90)):
        some = [r for r in records if r.sequence and wanted(len(r.sequence))]
        (folder / f"{name}.fasta").write_text("".join(f">{r.id}\n{r.sequence}\n" for r in some))
    files = (str(folder / "short.fasta"), str(folder / "long.fasta"))
    build_corpus(BuildConfig(files, str(folder / "corpus"), valid_share=0.1))
    return folder / "corpus"


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run)]


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Make the run end when it draws the batches of a step."""
    whole = BatchSource.batch

    def batch(self: BatchSource, at: int, number: int):
        if at == step:
            raise error or KeyboardInterrupt
        return whole(self, at, number)

    monkeypatch.setattr(BatchSource, "batch", batch)


# ---- workers without Ray, optimisers, sharding


def group_worker(rank: int, world: int, config: TrainConfig, corpus: str, run: str, stop: int | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{run}.group", rank=rank, world_size=world)
    if stop is not None:
        stop_at(stop, pytest.MonkeyPatch(), JobStopped("here"))
    try:
        train(config, corpus, run)
    except JobStopped:
        assert stop is not None
    dist.barrier()  # gloo aborts a process whose neighbour has gone
    dist.destroy_process_group()
    os._exit(0)  # after FSDP a thread of gloo's sometimes aborts a process that ends by itself


def train_group(config: TrainConfig, corpus: Path, run: Path, *, stop: int | None = None, world: int = 2) -> None:
    """Train with several processes and gloo; `stop` ends them when they draw that step."""
    Path(f"{run}.group").unlink(missing_ok=True)
    mp.spawn(group_worker, (world, config, str(corpus), str(run), stop), nprocs=world)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "parallel"), [("muon", "ddp"), ("adamw", "fsdp")])
def test_two_workers_stopped_and_resumed_give_the_curve_of_one(
    two_sources: Path, tmp_path: Path, optimizer: str, parallel: str
) -> None:
    config = replace(TINY, optimizer=optimizer, parallel=parallel)
    train(config, two_sources, tmp_path / "one")
    train_group(config, two_sources, tmp_path / "two", stop=6)
    assert latest_checkpoint(tmp_path / "two") == tmp_path / "two" / "checkpoints" / "step-00000004"
    train_group(config, two_sources, tmp_path / "two")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=2e-4)
    one, two = (model.load(tmp_path / name / "model") for name in ("one", "two"))
    for (name, wanted), got in zip(one.encoder.state_dict().items(), two.encoder.state_dict().values(), strict=True):
        torch.testing.assert_close(got, wanted, atol=5e-3, rtol=1e-2, msg=name)
    ends = [read_metrics(tmp_path / name)[-1] for name in ("one", "two")]
    assert ends[0]["valid_loss"] == pytest.approx(ends[1]["valid_loss"], abs=2e-4)
    states = [read_checkpoint(checkpoints(tmp_path / name)[-1])[2] for name in ("one", "two")]
    assert {n: {k: v.shape for k, v in s.items()} for n, s in states[0].items()} == {
        n: {k: v.shape for k, v in s.items()} for n, s in states[1].items()
    }


@pytest.mark.slow
def test_muon_resumes_exactly(two_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TINY, optimizer="muon")
    train(config, two_sources, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, two_sources, tmp_path / "stopped")
    train(config, two_sources, tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    adamw = train(TINY, two_sources, tmp_path / "adamw")
    assert losses(tmp_path / "adamw") != losses(tmp_path / "whole")
    assert "Muon" in (tmp_path / "whole" / "model" / "card.md").read_text()
    assert adamw["steps"] == 10
    with pytest.raises(TrainError, match="muon needs whole matrices"):
        replace(config, parallel="fsdp")


def test_muon_moves_query_key_and_value_each_by_an_orthogonal_step() -> None:
    from unirna.train.optimiser import Optimiser

    encoder = Encoder(TINY.encoder).initialise(0)
    before = encoder.layers[0].qkv.weight.detach().clone()
    for parameter in encoder.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    encoder.layers[0].qkv.weight.grad[:128] *= 1000  # the query's gradient does not drown the others
    Optimiser(encoder, replace(TINY, optimizer="muon", weight_decay=0.0)).step(1e-2)
    for part in (encoder.layers[0].qkv.weight.detach() - before).chunk(3):
        values = torch.linalg.svdvals(part)
        assert values.median() == pytest.approx(1e-2 * 0.2 * math.sqrt(128), rel=0.25)


@pytest.mark.parametrize("change", [{"activation_checkpointing": True}, {"parallel": "fsdp"}])
def test_settings_that_change_no_numbers(two_sources: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    config = replace(TINY, steps=4)
    train(config, two_sources, tmp_path / "plain")
    train(replace(config, **change), two_sources, tmp_path / "changed")
    np.testing.assert_allclose(losses(tmp_path / "changed"), losses(tmp_path / "plain"), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "differs"),
    [({"mask_rate": 0.3}, 0), ({"context": 40}, 0), ({"token_dropout": False}, 0), ({"precision": "bf16"}, 0)],
)
def test_settings_that_change_numbers(two_sources: Path, tmp_path: Path, change: dict[str, Any], differs: int) -> None:
    config = replace(TINY, steps=2)
    train(config, two_sources, tmp_path / "plain")
    train(replace(config, **change), two_sources, tmp_path / "changed")
    assert losses(tmp_path / "changed")[differs] != losses(tmp_path / "plain")[differs]
    with pytest.raises(TrainError, match=next(iter(change))):
        train(replace(config, **change), two_sources, tmp_path / "plain")


# ---- longer runs, other starts


def test_an_extended_run_is_the_longer_run(two_sources: Path, tmp_path: Path) -> None:
    train(TINY, two_sources, tmp_path / "run")  # finished: it decayed from step 8 on
    longer = replace(TINY, steps=20)
    train(longer, two_sources, tmp_path / "run")
    train(replace(longer, warmup_steps=TINY.num_warmup), two_sources, tmp_path / "whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert train(longer, two_sources, tmp_path / "run")["steps"] == 20
    with pytest.raises(TrainError, match="steps was 20, is now 10"):
        train(TINY, two_sources, tmp_path / "run")


def test_a_run_that_only_has_its_decay_is_not_extended(two_sources: Path, tmp_path: Path) -> None:
    config = replace(TINY, checkpoint_every=100, keep=1)
    train(config, two_sources, tmp_path / "run")
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["step-00000008", "step-00000010"]
    checkpoints(tmp_path / "run")[0].rename(tmp_path / "gone")
    with pytest.raises(TrainError, match="began to decay at step 8"):
        train(replace(config, steps=20), two_sources, tmp_path / "run")
    assert train(config, two_sources, tmp_path / "run")["steps"] == 10  # it stays what it is


def test_a_run_starts_from_a_model(two_sources: Path, tmp_path: Path) -> None:
    train(TINY, two_sources, tmp_path / "first")
    config = replace(TINY, init=str(tmp_path / "first" / "model"), seed=1, learning_rate=1e-9, steps=1)
    train(config, two_sources, tmp_path / "second")
    again, first = (model.load(tmp_path / name / "model").encoder for name in ("second", "first"))
    torch.testing.assert_close(again.embedding.weight, first.embedding.weight, atol=1e-6, rtol=0)
    with pytest.raises(CheckpointError, match="cannot start mini"):
        train(replace(config, size="mini"), two_sources, tmp_path / "third")


def test_a_run_starts_from_the_shipped_model(two_sources: Path, tmp_path: Path) -> None:
    config = replace(TINY, size="mini", init="unirna-mini", learning_rate=1e-9, steps=1)
    train(config, two_sources, tmp_path / "run")
    again, shipped = model.load(tmp_path / "run" / "model").encoder, model.load("unirna-mini").encoder
    torch.testing.assert_close(again.embedding.weight, shipped.embedding.weight, atol=1e-6, rtol=0)


# ---- validation and Markov models


def test_validation_per_source_adds_up(two_sources: Path, tmp_path: Path) -> None:
    summary = train(TINY, two_sources, tmp_path / "run")
    record = read_metrics(tmp_path / "run")[-1]
    sources = record["valid_sources"]
    assert {Path(name).name for name in sources} == {"short", "long"}
    places = sum(found["places"] for found in sources.values())
    for key in ("loss", "accuracy"):
        mean = sum(found[key] * found["places"] for found in sources.values()) / places
        assert mean == pytest.approx(record[f"valid_{key}"], abs=1e-5)
    assert record["valid_perplexity"] == pytest.approx(math.exp(record["valid_loss"]), rel=1e-3)
    assert summary["markov_loss"] <= summary["unigram_loss"] + 1e-9
    assert "Markov" in format_record(record)
    card = (tmp_path / "run" / "model" / "card.md").read_text()
    assert "nucleotides on each side" in card
    assert "| short |" in card
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    curve = {r["step"]: r["valid_loss"] for r in read_metrics(tmp_path / "run") if "valid_loss" in r}
    assert best == {"step": min(curve, key=lambda step: curve[step]), "valid_loss": min(curve.values())}
    assert model.load(tmp_path / "run" / "best").dimension == 128


def test_held_out_batches_are_fixed_and_cover_all_sources(two_sources: Path) -> None:
    valid = Corpus(two_sources, "valid")

    def batches(tokens: int) -> list[Any]:
        return held_out_batches(valid, seed=0, tokens=tokens, budget=1000, context=1022)

    for one, two in zip(batches(4000), batches(4000), strict=True):
        np.testing.assert_array_equal(one.masked.tokens, two.masked.tokens)
    assert len(np.unique(np.concatenate([b.sources for b in batches(4000)]))) == 2
    assert sum(len(b.pieces) for b in batches(10**9)) == len(valid)
    for batch in batches(4000):
        letters = [place.tokens[place.place] for place in batch.places()]
        np.testing.assert_array_equal(letters, batch.masked.targets)


def test_markov_models_recover_the_entropy_of_their_source() -> None:
    chance = np.random.default_rng(0)
    given = chance.dirichlet([0.5] * 4, size=16)  # of the next letter, by the two before it
    letters = chance.integers(4, size=2).tolist()
    draws = chance.random(120_000)
    for draw in draws:
        letters.append(int(np.searchsorted(given[4 * letters[-2] + letters[-1]].cumsum(), draw).clip(0, 3)))
    tokens = np.array([5, 7, 8, 9], np.uint8)[letters]
    train_part, held_out = tokens[:100_000], tokens[100_000:]
    places = [TargetPosition(held_out, i) for i in range(2, len(held_out), 7)]
    unigram, markov, both = predict(count_kmers([train_part[i : i + 500] for i in range(0, 100_000, 500)]), places)
    codes = np.array(letters[100_000:])
    exact = np.mean([-np.log(given[4 * codes[p.place - 2] + codes[p.place - 1], codes[p.place]]) for p in places])
    assert markov.context in (2, 3)  # order 3 with a strong prior is order 2
    assert markov.losses.mean() == pytest.approx(exact, rel=0.01)
    assert unigram.losses.mean() > exact + 0.1
    assert both.losses.mean() < exact - 0.05
    counts = count_kmers([train_part])
    for table in (*tables_left(counts, 3, 1.0), *tables_both(counts, 2, 1.0)):
        np.testing.assert_allclose(table.sum(-1), 1)


def test_kmers_are_counted_within_sequences() -> None:
    counts = count_kmers([model.tokenise("ACGNA"), model.tokenise("GA")], 2)
    assert counts[1].tolist() == [3, 1, 2, 0]
    pairs = {word: int(n) for word, n in zip([a + b for a in "ACGU" for b in "ACGU"], counts[2], strict=True) if n}
    assert pairs == {"AC": 1, "CG": 1, "GA": 1}


# ---- faults


def test_a_full_disk_stops_the_run_and_spares_what_is_there(
    two_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TINY, two_sources, tmp_path / "whole")
    with monkeypatch.context() as patch:
        write, seen = torch.save, []

        def full(content: Any, path: Any) -> None:
            seen.append(path)
            if len(seen) > 1:
                Path(path).write_bytes(b"half of it")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(content, path)

        patch.setattr(torch, "save", full)
        with pytest.raises(TrainError, match=r"step-00000008 cannot be written .*No space left.*make room"):
            train(TINY, two_sources, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    train(TINY, two_sources, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checksums.json"])
def test_silent_damage_is_found(two_sources: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    whole = train(TINY, two_sources, tmp_path / "run")
    newest = latest_checkpoint(tmp_path / "run")
    assert newest is not None
    content = bytearray((newest / name).read_bytes())
    content[-100] ^= 1  # one bit, far from any header
    (newest / name).write_bytes(content)
    (tmp_path / "run" / "summary.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert sound_checkpoint(tmp_path / "run") == checkpoints(tmp_path / "run")[-2]
        assert train(TINY, two_sources, tmp_path / "run")["fingerprint"] == whole["fingerprint"]
    assert "going back to the one before" in caplog.text


def test_one_bad_gradient_is_skipped(two_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, calls = loop.clip, []

    def clip(parameters: Any, largest: float) -> float:
        calls.append(1)
        norm = measure(parameters, largest)
        return math.nan if len(calls) in (3, 4) else norm

    monkeypatch.setattr(loop, "clip", clip)
    train(TINY, two_sources, tmp_path / "run")
    records = read_metrics(tmp_path / "run")
    assert [r["step"] for r in records if r["skipped"]] == [3, 4]
    assert records[2]["gradient_norm"] is None
    assert "1 steps skipped" in format_record(records[2])
    assert records[-1]["loss"] < records[0]["loss"]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_signal_to_the_whole_group_leaves_the_batches_to_the_trainer(rfam_sample: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "jobs" / "pretrain.py"), "--workers", "0", "--data", str(rfam_sample)]
    command += ["--out", str(run), "--batch-tokens", "1024", "--micro-tokens", "1024", "--log-every", "1"]
    command += ["--valid-tokens", "1024", "--checkpoint-every", "100000", "--steps", "100000", "--batch-processes", "1"]
    job = subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) > 3, job)
    os.killpg(job.pid, signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 75, said
    assert latest_checkpoint(run) is not None


@pytest.mark.slow
@pytest.mark.parametrize("torchrun", [False, True])
def test_sigterm_writes_a_checkpoint_without_ray(rfam_sample: Path, tmp_path: Path, torchrun: bool) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("raise ImportError('no Ray on this machine')\n")
    run = tmp_path / "run"
    launch = [sys.executable]
    if torchrun:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(ROOT / "jobs" / "pretrain.py"), "--workers", "0", "--data", str(rfam_sample), "--out", str(run)]
    command += ["--batch-tokens", "1024", "--micro-tokens", "512", "--log-every", "1", "--valid-tokens", "1024"]
    command += ["--checkpoint-every", "100000"]
    env = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [*command, "--steps", "100000"], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) > 3, first)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    if not torchrun:  # torchrun reports the signal itself
        assert first.returncode == 75, said
        assert "Run the same command again to go on" in said
    reached = latest_checkpoint(run)
    assert reached is not None
    assert not (run / "stop").exists()
    steps = int(reached.name.removeprefix("step-")) + 3
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(settings | {"steps": steps}))
    again = subprocess.run([*command, "--steps", str(steps)], env=env, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"going on from {reached.name}" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["steps"] == steps
    assert [r["step"] for r in read_metrics(run)] == list(range(1, steps + 1))


NODE_LOST = """
import os, sys, threading, time
from dataclasses import asdict
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from unirna.train import TrainConfig, latest_checkpoint, run_workers, train
from unirna.train.metrics import read_metrics

corpus, run, replaced = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "replaced"
size = 128 << 20
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": size})
ray.init(address=cluster.address, log_to_driver=False)  # while the head is alone: a driver ends with the node it joined
nodes = [cluster.add_node(num_cpus=1, object_store_memory=size) for _ in range(2)]
cluster.wait_for_nodes()

def lose_a_node():
    while latest_checkpoint(run) is None:
        assert thread.is_alive(), "the training ended before its first checkpoint"
        time.sleep(0.1)
    cluster.remove_node(nodes[1], allow_graceful=False)
    if replaced:
        cluster.add_node(num_cpus=1, object_store_memory=size)  # only from the main thread
    print("a node is gone after step", read_metrics(run)[-1]["step"], flush=True)

def worker(settings):
    import torch.distributed as dist
    with (Path(settings["run"]) / f"world-{dist.get_world_size()}").open("a"):
        train(TrainConfig(**settings["config"]), settings["corpus"], settings["run"])

config = TrainConfig(steps=40, batch_tokens=2048, micro_tokens=512, log_every=1, checkpoint_every=5, valid_tokens=1024)
settings = {"config": asdict(config), "corpus": corpus, "run": str(run)}
run.mkdir()
least = {} if replaced else {"min_workers": 1}

def training():
    run_workers(worker, settings, workers=2, folder=run / "ray", **least)
    print("the run is finished", flush=True)

thread = threading.Thread(target=training)
thread.start()
lose_a_node()
thread.join()
ray.shutdown()
cluster.shutdown()
os._exit(0)  # the cluster's own handlers would exit with 1, for a node of theirs is gone
"""


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("then", ["fewer", "replaced"])
def test_a_lost_node(two_sources: Path, tmp_path: Path, then: str) -> None:
    """Two nodes of one core; one is killed. The run goes on with one worker, or with a new node with two."""
    run = tmp_path / "run"
    (tmp_path / "script.py").write_text(NODE_LOST)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    # Ray's own patience is some two minutes; what happens after it is what is tested.
    env |= {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500"}
    env |= {"RAY_health_check_failure_threshold": "3", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    command = [sys.executable, str(tmp_path / "script.py"), str(two_sources), str(run), then]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a node is gone" in done.stdout
    assert "the run is finished" in done.stdout
    assert [r["step"] for r in read_metrics(run)] == list(range(1, 41))
    assert (run / "world-1").exists() == (then == "fewer")
    settings = json.loads((run / "config.json").read_text())
    config = TrainConfig(**{k: v for k, v in settings.items() if k in TrainConfig.__dataclass_fields__})
    train(config, two_sources, tmp_path / "whole")
    # One worker sums in another order than two; the difference grows with the steps.
    np.testing.assert_allclose(losses(run)[:20], losses(tmp_path / "whole")[:20], atol=2e-4)
    np.testing.assert_allclose(losses(run), losses(tmp_path / "whole"), atol=2e-3)
