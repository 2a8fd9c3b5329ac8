"""What a GPU computes, beside the CPU. Needs one; `UNIRNA_TEST_CORPUS` may name a finished corpus where Ray is absent."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from unirna import model
from unirna.corpus import BuildConfig, Corpus, build_corpus
from unirna.model import Encoder, Whitening, pack_tokens
from unirna.model.attention import Segments
from unirna.train import TrainConfig, latest_checkpoint, train
from unirna.train.metrics import read_metrics
from unirna.train.objective import to_device
from unirna.train.objectives import build_objective

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
LENGTHS = (1, 7, 30, 30, 64, 100, 129, 256, 511, 1022)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, rfam_sample: Path) -> Path:
    if given := os.environ.get("UNIRNA_TEST_CORPUS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("corpus") / "c"
    build_corpus(BuildConfig((str(rfam_sample),), str(folder)))
    return folder


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """|found - wanted| / |wanted|."""
    return float((found.detach().cpu().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


def batch(seed: int) -> tuple[torch.Tensor, list[int]]:
    random = np.random.default_rng(seed)
    packed = pack_tokens([random.integers(6, 10, length).astype(np.uint8) for length in LENGTHS])
    return torch.from_numpy(packed.tokens).int(), packed.boundaries.tolist()


@pytest.mark.parametrize("size", ["nano", "mini", "L8"])
def test_states_are_those_of_the_cpu(size: str) -> None:
    tokens, ends = batch(0)
    encoder = Encoder(model.SIZES[size]).initialise(0).eval()
    with torch.inference_mode():
        wanted = encoder(tokens, Segments(ends, CPU))
        encoder.to(CUDA)
        assert error(encoder(tokens.to(CUDA), Segments(ends, CUDA)), wanted) < 1e-4
        with torch.autocast("cuda", torch.bfloat16):
            half = encoder(tokens.to(CUDA), Segments(ends, CUDA))
    assert 1e-5 < error(half, wanted) < 2e-2  # the packed attention in bfloat16


def test_a_sequence_in_company_is_the_sequence_alone() -> None:
    tokens, ends = batch(1)
    encoder = Encoder(model.SIZES["mini"]).initialise(0).eval().to(CUDA)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        together = encoder(tokens.to(CUDA), Segments(ends, CUDA)).float()
        for first, end in pairwise(ends):
            alone = encoder(tokens[first:end].to(CUDA), Segments([0, end - first], CUDA)).float()
            assert error(together[first:end], alone.cpu()) < 5e-3


@pytest.mark.parametrize("objective", ["masked", "both"])
@pytest.mark.parametrize("size", ["mini", "L8"])
def test_losses_and_gradients_are_those_of_the_cpu(corpus: Path, size: str, objective: str) -> None:
    tokens = 4096 if size == "mini" else 1024  # the CPU's part takes its time
    config = TrainConfig(size=size, objective=objective, batch_tokens=tokens, micro_tokens=tokens, context=512)
    encoder = Encoder(config.encoder).initialise(0)
    found: dict[str, tuple[float, dict[str, torch.Tensor]]] = {}
    for name, device, half in (("cpu", CPU, False), ("cuda", CUDA, False), ("half", CUDA, True)):
        trained = build_objective(config, copy.deepcopy(encoder).to(device), Corpus(corpus)).train()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss, _ = trained(*to_device(trained.batch(0, 0), device))
        loss.backward()
        found[name] = float(loss.detach()), {n: p.grad.cpu() for n, p in trained.named_parameters() if p.grad is not None}
    loss, gradients = found["cpu"]
    assert found["cuda"][0] == pytest.approx(loss, rel=1e-4)
    assert found["half"][0] == pytest.approx(loss, rel=1e-2)
    assert found["cuda"][1].keys() == gradients.keys()
    largest = max(float(g.norm()) for g in gradients.values())
    for name, gradient in gradients.items():
        if gradient.norm() > 1e-3 * largest:
            assert error(found["cuda"][1][name], gradient) < 2e-3, name
    whole = torch.cat([g.flatten() for g in gradients.values()])
    assert error(torch.cat([g.flatten() for g in found["half"][1].values()]), whole) < 0.1


def test_compiled_layers_compute_the_same(corpus: Path) -> None:
    config = TrainConfig(size="mini", objective="both", batch_tokens=8192, micro_tokens=8192, context=512)
    encoder = Encoder(config.encoder).initialise(0)
    found: dict[bool, tuple[float, torch.Tensor]] = {}
    for compiled in (False, True):
        trained = build_objective(config, copy.deepcopy(encoder).to(CUDA), Corpus(corpus)).train()
        if compiled:
            for layer in trained.encoder.layers:
                layer.compile(dynamic=True, fullgraph=True)  # a break in the graph would cost what compiling gains
        for number in range(2):  # other lengths the second time
            trained.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss, _ = trained(*to_device(trained.batch(0, number), CUDA))
            loss.backward()
        gradients = [p.grad.flatten() for p in trained.parameters() if p.grad is not None]
        found[compiled] = float(loss.detach()), torch.cat(gradients).cpu()
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-2)
    assert error(found[True][1], found[False][1]) < 0.1


def test_vectors_are_those_of_the_cpu() -> None:
    random = np.random.default_rng(2)
    sequences = ["".join(random.choice(list("ACGU"), n)) for n in (*LENGTHS, 1500)]
    for name in ("unirna-mini", "nano"):
        on = {
            d: model.load(name, device=d) if name != "nano" else model.initialise(name, device=d) for d in ("cpu", "cuda")
        }
        wanted, got = (torch.from_numpy(m.embed(sequences)) for m in on.values())
        assert error(got, wanted) < (2e-4 if name == "unirna-mini" else 2e-2)  # without whitening: bfloat16
        whitened = on["cuda"].encoder.whitening is not None
        assert whitened == (name == "unirna-mini")
    for m in on.values():
        m.encoder.whitening = Whitening.identity(m.config, (2, 4)).to(m.device)
    assert error(torch.from_numpy(on["cuda"].embed(sequences)), torch.from_numpy(on["cpu"].embed(sequences))) < 1e-4


def test_training_follows_the_cpu_and_goes_on_after_a_stop(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        steps=10,
        objective="both",
        optimizer="muon",
        batch_tokens=8192,
        micro_tokens=4096,
        context=256,
        log_every=1,
        checkpoint_every=4,
        valid_every=10,
        valid_tokens=4096,
        whitening_sequences=600,
        batch_processes=2,
    )
    summary = train(config, corpus, tmp_path / "whole")
    whole = [record["loss"] for record in read_metrics(tmp_path / "whole")]
    assert summary["steps"] == 10
    train(config, corpus, tmp_path / "stopped")
    (tmp_path / "stopped" / "summary.json").unlink()
    for late in (tmp_path / "stopped" / "checkpoints").iterdir():
        if int(late.name.rpartition("-")[2]) > 8:
            for file in late.iterdir():
                file.unlink()
            late.rmdir()
    assert (latest_checkpoint(tmp_path / "stopped") or Path()).name.endswith("8")
    train(config, corpus, tmp_path / "stopped")
    again = [record["loss"] for record in read_metrics(tmp_path / "stopped")]
    np.testing.assert_allclose(again, whole, rtol=2e-2)
    single = replace(config, precision="fp32", batch_processes=0)
    train(single, corpus, tmp_path / "single")
    exact = [record["loss"] for record in read_metrics(tmp_path / "single")]
    np.testing.assert_allclose(whole, exact, rtol=3e-2)
    loaded = model.load(tmp_path / "whole" / "model")
    assert np.isfinite(loaded.embed(["ACGUACGUGG"])).all()
