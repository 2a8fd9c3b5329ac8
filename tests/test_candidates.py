"""Several trainings of one predictor: with other seeds, and with settings that are searched for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna.tasks import DataConfig, FinetuneConfig, FullConfig, TaskError, finetune, load_predictor
from unirna.tasks.finetuning.search_space import Run, candidates
from unirna.train import run_trials


@pytest.fixture
def wanted(tmp_path: Path, nano_model_path: Path) -> FinetuneConfig:
    """Values that the share of one letter decides."""
    random = np.random.default_rng(0)
    letters = ["".join(random.choice(list("ACGU"), 30, p=random.dirichlet([2, 2, 2, 2]))) for _ in range(80)]
    table = {"sequence": letters, "share": [text.count("G") / 30 + float(random.normal(0, 0.03)) for text in letters]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "share", numeric=True)
    full = FullConfig(2, rank=2, batch_size=16)
    registry = str(tmp_path / "registry")
    return FinetuneConfig("share", str(nano_model_path), data, registry, mode="lora", full=full, cnn=False)


def test_settings_are_drawn_within_bounds_and_alike_each_time() -> None:
    full = FullConfig(rank=8, seed=3)
    drawn = candidates(full, 1, 40)
    assert drawn[0] == full and len(drawn) == 40 and drawn == candidates(full, 1, 40)
    rates = np.array([each.peak_learning_rate for each in drawn[1:]])
    assert 4e-4 <= rates.min() < 8e-4 and 2e-3 < rates.max() <= 4e-3
    assert {each.rank for each in drawn} == {4, 8, 16} and {each.batch_size for each in drawn} == {16, 32, 64}
    assert {each.rank for each in candidates(FullConfig(), 1, 20)} == {0}
    assert [each.seed for each in candidates(full, 3, 0)] == [3, 4, 5]
    with pytest.raises(TaskError, match="search for settings first"):
        candidates(full, 2, 2)
    with pytest.raises(TaskError, match="at least one seed"):
        candidates(full, 0, 0)
    with pytest.raises(TaskError, match="mode frozen"):
        FinetuneConfig("a", "b", DataConfig(("c",), "d"), "e", seeds=2)


def test_of_several_seeds_the_best_is_kept_and_all_are_shown(wanted: FinetuneConfig, capsys: Any) -> None:
    config = replace(wanted, seeds=3)
    finetune(config)
    predictor = load_predictor(Path(wanted.registry) / "share")
    runs = predictor.info["training"]["runs"]
    assert [run["seed"] for run in runs] == [0, 1, 2] and len({run["valid_loss"] for run in runs}) == 3
    kept = predictor.info["training"]["kept"] - 1
    assert runs[kept]["valid_loss"] == min(run["valid_loss"] for run in runs)
    assert runs[kept]["test R2"] == pytest.approx(predictor.metrics["test"]["share"]["R2"]["value"], abs=1e-3)
    assert f"number {kept + 1}, with the lowest validation loss" in predictor.card and "over the seeds" in predictor.card
    assert "run  3/3  epoch   2/2" in capsys.readouterr().err
    assert not list(Path(wanted.registry).glob(".work-*"))
    # each is what it is alone
    finetune(replace(wanted, name="alone", full=replace(wanted.full, seed=kept)))
    alone = load_predictor(Path(wanted.registry) / "alone")
    assert alone.encoder_fingerprint == predictor.encoder_fingerprint
    with pytest.raises(TaskError, match="seeds was 3"):
        finetune(replace(wanted, seeds=4))


def test_several_seeds_go_on_after_a_kill(wanted: FinetuneConfig) -> None:
    def dies(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
        if settings["full"]["seed"] == 1:
            raise KeyboardInterrupt
        function(settings)

    with pytest.raises(KeyboardInterrupt):
        finetune(replace(wanted, seeds=2), dies)
    seeds = []

    def counts(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
        seeds.append((settings["full"]["seed"], (folder / "done").exists()))
        function(settings)

    finetune(replace(wanted, seeds=2), counts)
    assert seeds == [(0, True), (1, False)]


@pytest.mark.slow
def test_settings_are_searched_on_ray_tune(wanted: FinetuneConfig, ray_cluster: None, tmp_path: Path, capsys: Any) -> None:
    seen: list[Run] = []

    def search(function: Any, settings: list[dict[str, Any]], folder: Path) -> None:
        run_trials(function, settings, longest=3, folder=folder)
        seen.extend(Run(FullConfig(**each["full"]), Path(each["work"])) for each in settings)
        assert all(run.loss < float("inf") for run in seen)

    finetune(replace(wanted, num_trials=3, full=replace(wanted.full, epochs=3)), search=search)
    assert not capsys.readouterr().out  # there the summary goes
    training = load_predictor(Path(wanted.registry) / "share").info["training"]
    assert len(seen) == len(training["runs"]) == 3
    assert len({run["learning_rate"] for run in training["runs"]}) == 3
    losses = [run["valid_loss"] for run in training["runs"]]
    assert losses[training["kept"] - 1] == min(losses)
    assert training["runs"][0]["learning_rate"] == wanted.full.peak_learning_rate

    def some_fail(settings: dict[str, Any], report: Callable[[float], None]) -> None:
        if settings["number"] in settings["bad"]:
            raise TaskError(f"number {settings['number']} cannot be")
        for epoch in range(120):  # more than the scheduler's own limit
            report(1 / (epoch + 1))
        (Path(settings["folder"]) / str(settings["number"])).touch()

    given: list[dict[str, Any]] = [{"number": n, "bad": [0], "folder": str(tmp_path)} for n in range(2)]
    run_trials(some_fail, given, longest=120, folder=tmp_path / "tune")
    assert (tmp_path / "1").exists() and not (tmp_path / "0").exists()
    with pytest.raises(ValueError, match="none of the 1 settings could be trained with: number 0 cannot be"):
        run_trials(some_fail, given[:1], longest=120, folder=tmp_path / "tune")
