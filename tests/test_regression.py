"""Predictors of measured values: reading, fitting, intervals, training, and what screens and tables make of them."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from unirna import model
from unirna.screen import ScreenConfig, screen_library
from unirna.tasks import (
    TASKS,
    DataConfig,
    Estimates,
    EvaluateConfig,
    FinetuneConfig,
    FullConfig,
    TaskError,
    evaluate,
    finetune,
    load_predictor,
    read_labelled,
    read_results,
)
from unirna.tasks.kinds.regression import SEQUENCE_REGRESSION, half_width, pearson, r2, rmse, spearman
from unirna.tasks.models.head import fit_ridge_head
from unirna.tasks.plot import ticks
from unirna.tasks.table.censoring import expected
from unirna.tasks.table.summary import describe


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Sequences whose value is 10 times their share of G, with a little noise."""
    chance = random.Random(seed)
    out = []
    for i in range(count):
        weight = chance.random() * 4
        letters = "".join(chance.choices("ACGU", (1, 1, weight, 1), k=chance.randint(30, 60)))
        value = 10 * letters.count("G") / len(letters) + chance.gauss(0, 0.1)
        out.append({"id": f"s{i}", "sequence": letters, "load": f"{value:.4f}"})
    return out


def write(path: Path, table: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return str(path)


@pytest.fixture
def wanted(tmp_path: Path, nano_model_path: Path) -> FinetuneConfig:
    data = DataConfig((write(tmp_path / "toy.csv", rows(300)),), "load", numeric=True)
    return FinetuneConfig("load", str(nano_model_path), data, str(tmp_path / "registry"), unit="ribosomes", cnn=False)


def test_values_are_read_and_every_row_accounted_for(tmp_path: Path) -> None:
    table = rows(40)
    for place, text in enumerate(("", "nan", "inf", "high", " 3 ", "1e-3", "-2")):
        table[place]["load"] = text
    table[9] = {**table[9], "sequence": table[10]["sequence"].replace("U", "t")}
    read = read_labelled(DataConfig((write(tmp_path / "t.csv", table),), "load", numeric=True))
    assert read.counts["rejected_by_reason"] == {"no label": 2, "label is no number": 2}
    assert read.counts["kept"] == 36 == len(read.values)
    assert read.values[:3].tolist() == [3.0, 0.001, -2.0]
    side = {sha: set() for sha in read.shas}
    for sha, split in zip(read.shas, read.splits.tolist(), strict=True):
        side[sha].add(split)
    assert all(len(where) == 1 for where in side.values())  # copies on one side
    assert any("values -2 to" in line for line in describe(read))
    assert any("1 sequences carry several values" in line for line in describe(read))


def test_bounds_are_read_and_stay_in_training(tmp_path: Path, wanted: FinetuneConfig) -> None:
    table = rows(300)
    for row in table:
        row["load"] = ">4" if float(row["load"]) > 4 else "<= 1" if float(row["load"]) < 1 else row["load"]
    table[0]["load"] = "> high"
    data = replace(wanted.data, data=(write(tmp_path / "bounds.csv", table),))
    read = read_labelled(data)
    reasons = read.counts["rejected_by_reason"]
    assert reasons["label is no number"] == 1 and reasons["a bound, not a value, outside training"] > 10
    assert read.counts["kept"] == 300 - sum(reasons.values()) == len(read.labels)
    assert not read.sides[read.splits != "train"].any()
    assert read.counts["bounds"] == {"at_least": int((read.sides == 1).sum()), "at_most": int((read.sides == -1).sum())}
    assert set(read.values[read.sides == 1]) == {4.0} and read.counts["values"]["max"] <= 4
    assert any("at least and" in line for line in describe(read))
    summary = finetune(replace(wanted, data=data))
    assert "training rows are at least" in (Path(summary["predictor"]) / "card.md").read_text()
    measured = evaluate(EvaluateConfig(wanted.name, data.data, wanted.registry, split="train"))
    assert measured["scores"][0]["n"] == int((read.sides[read.splits == "train"] == 0).sum())
    for row in table:
        row["load"] = ">4"
    with pytest.raises(TaskError, match="no row to test"):
        read_labelled(replace(data, data=(write(tmp_path / "none.csv", table),)))


def test_what_is_expected_beyond_bounds_beats_bounds_and_their_absence() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(3000, 20)).astype(np.float32)
    truth = features @ random.normal(size=20) + random.normal(size=3000)
    train, valid, test = np.split(np.arange(3000), (600, 900))
    sides = np.zeros(3000, np.int8)
    high, low = np.quantile(truth, [0.6, 0.1])
    sides[train] = (truth[train] > high).astype(np.int8) - (truth[train] < low)
    values = np.where(sides > 0, high, np.where(sides < 0, low, truth))
    valid = valid[(truth[valid] > low) & (truth[valid] < high)]

    def error(said: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
        fit = fit_ridge_head(features[rows], said[rows], features[valid], truth[valid], whiten=True)
        return rmse(truth[test], fit.head.outputs(features[test])[:, 0])

    filled = expected(values, sides, features, train, valid)
    assert (filled[sides > 0] > high).all() and (filled[sides < 0] < low).all()
    assert (filled[sides == 0] == values[sides == 0]).all()
    ours, all_known = error(filled, train), error(truth, train)
    others = error(values, train), error(values, train[sides[train] == 0])
    assert ours < 0.9 * min(others) and ours < 1.15 * all_known, (ours, others, all_known)


def test_metrics_agree_with_scikit_learn_and_scipy() -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    truth = random.normal(size=200).round(1)  # with ties
    said = truth + random.normal(size=200)
    assert r2(truth, said) == pytest.approx(r2_score(truth, said))
    assert pearson(truth, said) == pytest.approx(stats.pearsonr(truth, said)[0])
    assert spearman(truth, said) == pytest.approx(stats.spearmanr(truth, said)[0])
    assert rmse(truth, said) == pytest.approx(np.sqrt(((truth - said) ** 2).mean()))
    assert pearson(truth, np.zeros(200)) == 0 == r2(np.ones(5), np.zeros(5))


@pytest.mark.parametrize("n", [9, 19, 200])
def test_intervals_hold_nine_of_ten_new_values(n: int) -> None:
    random = np.random.default_rng(n)
    held = []
    for _ in range(1500):
        errors, new = random.standard_t(3, size=n), random.standard_t(3)
        held.append(abs(new) <= half_width(errors, np.zeros(n)))
    assert 0.88 < np.mean(held) < 0.93 + 1 / n  # between coverage and coverage + 1 / (n + 1)
    assert half_width(np.arange(8.0), np.zeros(8)) == float("inf")  # too few to promise it


@pytest.mark.parametrize("whiten", [False, True])
def test_a_ridge_head_is_that_of_scikit_learn(whiten: bool) -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(300, 20)).astype(np.float32) * np.logspace(-1, 2, 20, dtype=np.float32)
    values = features[:, 3] * 2 - features[:, 19] * 0.01 + random.normal(size=300) / 2
    fit = fit_ridge_head(features[:200], values[:200], features[200:], values[200:], whiten=whiten)
    said = SEQUENCE_REGRESSION.answers(fit.head, features)
    assert r2(values[200:], said[200:]) > 0.5
    if not whiten:
        standard = (features - features[:200].mean(0)) / features[:200].std(0)
        same = Ridge(fit.settings["penalty"]).fit(standard[:200], values[:200]).predict(standard)
        np.testing.assert_allclose(said, same, atol=1e-3)


def test_a_frozen_predictor_of_values(wanted: FinetuneConfig, tmp_path: Path, capsys: Any, ray_cluster: None) -> None:
    summary = finetune(wanted)
    assert summary["task"] == "sequence-regression" and summary["R2"] > 0.8 > summary["R2, mean"]
    assert 0.75 <= summary["test_rows_in_interval"] <= 1
    folder = Path(wanted.registry) / "load"
    predictor = load_predictor(folder)
    assert predictor.numeric and predictor.unit == "ribosomes" and predictor.labels == []
    low, high = "ACUACUACUUACUACUUACUAUC", "GGGCGGGAGGGGUGGGGCGGGGA"
    found = predictor.predict([low, high])
    assert isinstance(found, Estimates) and found.values[0] + 2 < found.values[1]
    assert (found.low < found.values).all() and (found.values < found.high).all() and found.coverage == 0.9
    np.testing.assert_allclose(predictor.predict([high]).values, found.values[1:], rtol=1e-4)  # alone as in company
    json.dumps(predictor.info, allow_nan=False)
    assert "in ribosomes" in predictor.card and "holds" in predictor.card
    plot = (folder / "predicted.svg").read_text()
    assert plot.count("<circle") == summary["splits"]["test"]
    assert finetune(wanted) == summary and "nothing to do" in capsys.readouterr().err
    with pytest.raises(TaskError, match=r"unit was 'ribosomes', is now 'h'"):
        finetune(replace(wanted, unit="h"))

    # ---- measured again, on its test rows: the same numbers
    again = evaluate(EvaluateConfig("load", wanted.data.data, wanted.registry))
    scores = {(s["model"], s["metric"]): s["value"] for s in again["scores"] if s["rows"] == "all"}
    assert scores[f"{wanted.model}, frozen", "R2"] == pytest.approx(summary["R2"], abs=2e-4)
    assert scores["mean", "R2"] == pytest.approx(summary["R2, mean"], abs=2e-4)
    assert set(read_results(wanted.registry)["metric"].to_pylist()) == {m.name for m in SEQUENCE_REGRESSION.metrics}

    # ---- a screen for high and for low values
    (tmp_path / "library.fasta").write_text(f">low\n{low}\n>high\n{high}\n>middle\n{low[:11]}{high[:12]}\n")
    order = {}
    for wish in ("high", "low"):
        config = ScreenConfig(
            (str(tmp_path / "library.fasta"),),
            str(tmp_path / wish),
            predict=(f"load={wish}",),
            model=wanted.model,
            registry=wanted.registry,
            workers=1,
        )
        with pytest.raises(ValueError, match="load=high or load=low"):
            screen_library(replace(config, predict=("load=medium",), out=str(tmp_path / "bad")))
        screen_library(config)
        with (tmp_path / wish / "ranked.csv").open() as file:
            ranked = list(csv.DictReader(file))
        order[wish] = [row["id"] for row in ranked]
        assert float(ranked[0]["predicted load"]) == pytest.approx(
            float(predictor.predict([ranked[0]["sequence"]]).values[0])
        )
    assert order == {"high": ["high", "middle", "low"], "low": ["low", "middle", "high"]}
    assert "desirability of load=low" in (tmp_path / "low" / "report.html").read_text()


@pytest.mark.slow
def test_full_training_on_values(wanted: FinetuneConfig) -> None:
    summary = finetune(replace(wanted, mode="full", full=FullConfig(epochs=4, batch_size=16, head_input="state")))
    assert summary["R2"] > 0.8
    predictor = load_predictor(Path(wanted.registry) / "load")
    epochs = predictor.info["training"]["epochs"]
    assert epochs[0]["score"] == "R2" and epochs[-1]["valid_score"] > 0.8
    assert predictor.encoder_fingerprint != load_predictor(Path(wanted.registry) / "load").info["recipe"]["encoder"]
    assert "validation R2" in predictor.card


def test_one_value_is_an_error(wanted: FinetuneConfig, tmp_path: Path) -> None:
    table = [{**row, "load": "2"} for row in rows(30)]
    data = replace(wanted.data, data=(write(tmp_path / "flat.csv", table),))
    with pytest.raises(TaskError, match="nothing to learn"):
        finetune(replace(wanted, data=data))


@pytest.mark.parametrize(("low", "high"), [(0.9, 7.9), (-3, 3), (0, 1.37), (1e-5, 4e-5), (12_000, 980_000), (5, 5.001)])
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 7 and low <= found[0] and found[-1] <= high
    assert all(len(f"{value:g}") <= 7 for value in found)


def test_every_task_has_a_name_and_a_primary_metric() -> None:
    assert all(name == task.name and task.primary in task.metrics for name, task in TASKS.items())


# ---- adapters


@pytest.mark.slow
@pytest.mark.parametrize("head_input", ["vector", "state"])
def test_adapters_are_trained_stored_and_added_to_a_shipped_model(
    tmp_path: Path, head_input: Literal["vector", "state"]
) -> None:
    data = DataConfig((write(tmp_path / "toy.csv", rows(120)),), "load", numeric=True)
    full = FullConfig(epochs=3, batch_size=16, rank=2, head_input=head_input)
    config = FinetuneConfig(
        "load", "unirna-mini", data, str(tmp_path / "registry"), mode="lora", full=full, compact=True, cnn=False
    )
    summary = finetune(config)
    folder = Path(config.registry) / "load"
    assert summary["mode"] == "lora" and summary["R2"] > 0.8
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 300_000  # the encoder has 16 MB
    assert sorted(file.name for file in (folder / "encoder").iterdir()) == ["adapter.safetensors", "base.json"]

    # ---- loaded, it is the encoder that was measured; and a plain copy of it is the same
    predictor = load_predictor(folder)
    assert predictor.encoder.fingerprint == predictor.encoder_fingerprint != model.load("unirna-mini").fingerprint
    sequences = [row["sequence"] for row in rows(5, seed=3)]
    copied = finetune(replace(config, name="copy", compact=False))
    assert copied["R2"] == pytest.approx(summary["R2"], abs=1e-4)
    np.testing.assert_allclose(
        load_predictor(copied["predictor"]).predict(sequences).values, predictor.predict(sequences).values, atol=1e-4
    )

    # ---- what is refused
    base = folder / "encoder" / "base.json"
    base.write_text(base.read_text().replace(model.load("unirna-mini").fingerprint, "0" * 16))
    with pytest.raises(TaskError, match=r"was made on unirna-mini 0000.*Fine-tune again, or install"):
        load_predictor(folder).predict(sequences)
    base.write_text(base.read_text().replace("unirna-mini", "unirna-none"))
    with pytest.raises(TaskError, match="'unirna-none', which does not come with this version"):
        load_predictor(folder).predict(sequences)
    (folder / "encoder" / "adapter.safetensors").write_bytes(b"no")
    with pytest.raises(TaskError, match="no valid adapted model"):
        load_predictor(folder).predict(sequences)
    with pytest.raises(TaskError, match="compact keeps the name of a shipped encoder"):
        replace(config, mode="full", full=FullConfig())
    with pytest.raises(TaskError, match="mode lora with rank 0"):
        replace(config, full=FullConfig())


def test_merged_adapters_are_what_was_trained() -> None:
    plain = model.initialise("nano", seed=0, device="cpu")
    trained = model.initialise("nano", seed=0, device="cpu")
    sequences = ["ACGUGGCAUC" * 4, "GGGAAACCC"]
    before = plain.embed(sequences)
    model.add_adapters(trained.encoder, 3)
    np.testing.assert_allclose(trained.embed(sequences), before, atol=1e-5)  # nothing is added at first
    random = torch.Generator().manual_seed(0)
    for parameter in (p for p in trained.encoder.parameters() if p.requires_grad):
        parameter.data = (torch.randn(parameter.shape, generator=random) / 16).half().float()
    adapters = model.adapters_of(trained.encoder)
    assert len(adapters) == 4 * 4 * 2 and all(a.dtype == torch.float16 for a in adapters.values())
    model.merge_adapters(plain.encoder, adapters)
    after = plain.embed(sequences)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(after, trained.embed(sequences), atol=2e-5)
    with pytest.raises(model.CheckpointError, match="another model's shape"):
        model.merge_adapters(model.initialise("mini", device="cpu").encoder, adapters)


def test_a_frozen_predictor_may_name_its_encoder(tmp_path: Path) -> None:
    data = DataConfig((write(tmp_path / "toy.csv", rows(60)),), "load", numeric=True)
    config = FinetuneConfig("load", "unirna-mini", data, str(tmp_path / "registry"), compact=True)
    finetune(config)
    folder = Path(config.registry) / "load"
    assert [file.name for file in (folder / "encoder").iterdir()] == ["base.json"]
    assert load_predictor(folder).encoder.fingerprint == model.load("unirna-mini").fingerprint
