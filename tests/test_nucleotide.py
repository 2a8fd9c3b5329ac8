"""Predictors that give a value for each nucleotide: from the table to the service and the SDK."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from unirna import sdk
from unirna.model import load
from unirna.sdk._calls import Request
from unirna.sequence import InputError
from unirna.serve import Settings
from unirna.serve.api.app import create_app
from unirna.serve.engine.engine import Engine
from unirna.tasks import (
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    FullConfig,
    Profiles,
    TaskError,
    evaluate,
    finetune,
    load_predictor,
    read_labelled,
)
from unirna.tasks.table.homology import similar_groups
from unirna.tasks.table.units import Units

WORTH = {"A": 1.0, "C": 0.0, "G": 0.5, "U": 0.2}


def table_of(path: Path, count: int = 60) -> DataConfig:
    """Sequences whose nucleotides have a value that their letter decides but for a little noise, not all measured."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        letters = "".join(random.choice(list("ACGU"), random.integers(20, 60)))
        values = [WORTH[c] + float(random.normal(0, 0.05)) for c in letters]
        rows.append({"id": f"s{i}", "sequence": letters, "value": [None, *values[1:-3], float("nan"), None, None]})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return DataConfig((str(path),), "value", numeric=True, level="nucleotide")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("nucleotide")
    data = table_of(folder / "table.parquet")
    settings: dict[str, Any] = {
        "model": str(nano_model_path),
        "data": data,
        "registry": str(folder / "registry"),
        "unit": "au",
    }
    frozen = finetune(FinetuneConfig("worth", **settings))
    assert frozen["task"] == "nucleotide-regression" and frozen["Pearson"] > 0.9
    lora = finetune(
        FinetuneConfig("trained", mode="lora", full=FullConfig(3, rank=2, batch_size=16), cnn=False, **settings)
    )
    assert lora["Pearson"] > 0.9
    return folder / "registry"


def test_a_profile_has_a_value_for_each_nucleotide(registry: Path) -> None:
    for name in ("worth", "trained"):
        predictor = load_predictor(registry / name)
        found = predictor.predict(["ACGUACGUAC", "AAAAACCCCCGGGGGUUUUUA"])
        assert isinstance(found, Profiles) and [len(v) for v in found.values] == [10, 21] and found.unit == "au"
        assert found.values[1][:5].mean() > 0.6 > 0.3 > found.values[1][5:10].mean()
        alone = predictor.predict(["aaaaacccccgggggtttttA"])
        assert isinstance(alone, Profiles)
        np.testing.assert_allclose(alone.values[0], found.values[1], atol=1e-5)
        with pytest.raises(TaskError, match="reads each nucleotide"):
            predictor.predict_vectors(np.zeros((1, 128), np.float32), ["ACGU"])
        with pytest.raises(TaskError, match="one row for each nucleotide"):
            predictor.predict_rows([np.zeros((3, 128), np.float32)], ["ACGU"])
        assert "for each nucleotide of an RNA sequence" in predictor.card and "n counts nucleotides" in predictor.card
    test = predictor.info["metrics"]["test"]["trained"]["R2"]
    table = read_labelled(table_of(registry.parent / "again.parquet"))
    known = sum(int(np.isfinite(table.profiles[i]).sum()) for i in table.rows("test"))
    assert test["n"] == known and test["low"] < test["value"] < test["high"]
    inside = predictor.info["interval"]
    assert inside["test_coverage"] == pytest.approx(0.9, abs=0.08)


def test_the_mean_of_the_simple_models_stands_beside(registry: Path) -> None:
    scores = load_predictor(registry / "worth").metrics["test"]
    assert scores["letters within 7 nt, ridge regression"]["Pearson"]["value"] > 0.95  # the letter decides
    assert scores["1D CNN"]["Pearson"]["value"] > 0.5 and scores["mean"]["R2"]["value"] < 0.01


def test_evaluation_measures_what_was_measured_when_it_was_made(registry: Path, tmp_path: Path) -> None:
    found = evaluate(EvaluateConfig("worth", (str(registry.parent / "table.parquet"),), str(registry), out=str(tmp_path)))
    made = load_predictor(registry / "worth").metrics["test"]
    for score in found["scores"]:
        who = "worth" if score["model"].endswith("frozen") else score["model"]
        assert score["value"] == pytest.approx(made[who][score["metric"]]["value"], abs=2e-3), score


def test_training_is_the_same_when_it_goes_on(
    tmp_path: Path, nano_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unirna.tasks.finetuning import encoder_training

    data = table_of(tmp_path / "table.parquet", 40)
    settings: dict[str, Any] = {"model": str(nano_model_path), "data": data, "cnn": False, "mode": "lora"}
    config = FinetuneConfig("a", registry=str(tmp_path / "one"), full=FullConfig(3, rank=2, batch_size=16), **settings)
    whole = finetune(config)
    save, epochs = encoder_training._save_state, []

    def save_and_die(*args: Any) -> None:
        save(*args)
        epochs.append(1)
        if len(epochs) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(encoder_training, "_save_state", save_and_die)
    broken = replace(config, registry=str(tmp_path / "two"))
    with pytest.raises(KeyboardInterrupt):
        finetune(broken)
    again = finetune(broken)
    assert again["R2"] == whole["R2"] and len(epochs) == 3


def test_lists_of_other_types_are_lists(tmp_path: Path) -> None:
    letters = [f"ACGUACG{a}{b}" for a in "ACGU" for b in "ACGU"]
    for kind in (pa.list_(pa.float32(), 9), pa.list_(pa.decimal128(5, 2)), pa.large_list(pa.int8())):
        values = pa.array([[1, 2, None, 4, 5, 6, 7, 8, 9]] * 16, kind)
        pq.write_table(pa.table({"sequence": letters, "value": values}), tmp_path / "t.parquet")
        data = DataConfig((str(tmp_path / "t.parquet"),), "value", numeric=True, level="nucleotide")
        assert read_labelled(data).counts["kept"] == 16


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0, 2.0], [1.0]], r"label has not one value for each nucleotide: 2"),
        ([[None] * 4, ["nan"] * 4], r"no nucleotide has a value: 2"),
        (["1 2 3 4", "[1, 2]"], r"label has not one value for each nucleotide: 2"),
        ([1.0, 2.0], r"expected a list with one value for each nucleotide"),
    ],
)
def test_what_is_no_profile_is_told(tmp_path: Path, column: list[Any], message: str) -> None:
    if column[1] == ["nan"] * 4:
        column = [[None] * 4, [float("nan")] * 4]
    pq.write_table(pa.table({"sequence": ["ACGU", "GGCC"], "value": column}), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "value", numeric=True, level="nucleotide")
    with pytest.raises((TaskError, InputError)) as found:
        read_labelled(data)
    shown = str(found.value).replace("'", "")
    assert re.search(message, shown), shown
    with pytest.raises(TaskError, match="nucleotide"):
        DataConfig(("t",), "value", level="nucleotide")


def test_lists_may_be_text(tmp_path: Path) -> None:
    lines = ["sequence\tvalue"] + [
        f"{'ACGU' * 3}{a}{b}{c}\t{json.dumps([None, *range(14)])}" for a in "ACGU" for b in "ACGU" for c in "AC"
    ]
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
    table = read_labelled(DataConfig((str(tmp_path / "t.tsv"),), "value", numeric=True, level="nucleotide"))
    assert len(table.labels) == 32 and np.isnan(table.profiles[0][0]) and table.profiles[0][14] == 13
    units = Units.of(table)
    assert len(units.rows) == 32 * 14 and (table.values == np.tile(np.arange(14), 32)).all()
    assert (units.gather(table.profiles) == table.values).all()
    with pytest.raises(TaskError, match="say --level nucleotide"):
        pq.write_table(pa.table({"sequence": ["ACGU"], "value": [[1.0] * 4]}), tmp_path / "t.parquet")
        read_labelled(DataConfig((str(tmp_path / "t.parquet"),), "value", numeric=True))


def test_a_frozen_predictor_reads_the_rows_of_the_service_s_model(
    registry: Path, nano_model_path: Path, tmp_path: Path
) -> None:
    sequences = ["ACGUACGUAC", "AAAAACCCCCGGGGGUUUUUA"]
    engine = Engine(load(nano_model_path), str(tmp_path), registry)
    with TestClient(create_app(engine, Settings(str(tmp_path))), base_url="http://localhost") as client:
        answers = [
            client.post(f"/v1/predict/{name}", json={"sequences": sequences}).json()["predictions"]
            for name in ("worth", "trained")
        ]
    near = [engine.predict(name, sequences)["predictions"] for name in ("worth", "trained")]
    for one, other, name in zip(answers, near, ("worth", "trained"), strict=True):
        wanted = load_predictor(registry / name).predict(sequences)
        assert isinstance(wanted, Profiles)
        for i, values in enumerate(wanted.values):
            np.testing.assert_allclose(one[i]["values"], values, atol=1e-5)
            np.testing.assert_allclose(other[i]["values"], values, atol=1e-5)
    assert [engine.predictors.get(name).encoder_loaded for name in ("worth", "trained")] == [False, True]


def test_service_and_sdk_give_profiles(registry: Path, service: Any, library: Any) -> None:
    sequences = ["ACGUACGUAC", "AAAAACCCCCGGGGGUUUUUA"]
    there = Path(library.registry) / "worth"
    shutil.copytree(registry / "worth", there)
    try:
        with (
            sdk.connect(service.url) as far,
            sdk.connect(library.store, model=library.model, registry=library.registry) as near,
        ):
            found, same = far.predict("worth", sequences), near.predict("worth", sequences)
            with pytest.raises(sdk.InvalidRequestError, match="at most 200,000") as refused:
                far._transport.answers([Request("POST", "/v1/predict/worth", {"sequences": ["ACGU" * 4000] * 13})], print)
            assert refused.value.status == 413
    finally:
        shutil.rmtree(there)
    assert [len(p.values) for p in found if isinstance(p, sdk.Profile)] == [10, 21]
    for one, other in zip(found, same, strict=True):
        assert isinstance(one, sdk.Profile) and isinstance(other, sdk.Profile)
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)
        assert one.unit == other.unit == "au" and one.half_width == pytest.approx(other.half_width)
    assert found.to_pandas()["values"].map(len).tolist() == [10, 21]
    assert "highest" in found._repr_html_()


def test_similar_sequences_are_in_one_group() -> None:
    random = np.random.default_rng(0)
    tail = "".join(random.choice(list("ACGU"), 20))
    letters: list[str] = []
    for _ in range(100):
        base = random.choice(list("ACGU"), 80)
        for _ in range(2):
            near = base.copy()
            near[random.integers(80, size=4)] = "A"
            letters.append("".join(near) + tail)
    groups = similar_groups(letters)
    assert groups[::2] == groups[1::2] and len(set(groups)) == 100  # the common tail links nobody
    shuffled = random.permutation(len(letters))
    assert [similar_groups([letters[i] for i in shuffled])[j] for j in range(200)] == [groups[i] for i in shuffled]
    # ---- families so large that their words are common
    families = [random.choice(list("ACGU"), 90) for _ in range(5)]
    mutants = []
    for number in range(200):
        near = families[number % 5].copy()
        near[random.integers(90, size=2)] = "C"
        mutants.append("".join(near))
    groups = similar_groups(mutants)
    assert len(set(groups)) == 5 and all(len({groups[i] for i in range(f, 200, 5)}) == 1 for f in range(5))
    assert len(set(similar_groups(mutants[:15:5]))) == 1  # three of one family in a small table
    assert similar_groups(["ACGU", "NNNNNNNNNNNN", "ACGU"]) == ["ACGU", "NNNNNNNNNNNN", "ACGU"]


def test_a_split_by_similarity_keeps_relatives_together(tmp_path: Path, nano_model_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for family in range(60):
        base = random.choice(list("ACGU"), 60)
        for member in range(3):
            near = base.copy()
            near[random.integers(60, size=2)] = "G"
            rows.append({"id": f"{family}.{member}", "sequence": "".join(near), "kind": "ab"[family % 2]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "kind")
    for split_by, together in (("sequence", False), ("similarity", True)):
        table = read_labelled(replace(data, split_by=split_by))  # type: ignore[arg-type]
        sides = [set(table.splits[i : i + 3].tolist()) for i in range(0, 180, 3)]
        assert all(len(side) == 1 for side in sides) == together and f"random by {split_by}" in table.split
        assert table.counts["splits"]["test"] == pytest.approx(36, abs=6)
    settings: dict[str, Any] = {"model": str(nano_model_path), "registry": str(tmp_path), "cnn": False}
    made = finetune(FinetuneConfig("kind", data=replace(data, split_by="similarity"), **settings))
    again = evaluate(EvaluateConfig("kind", data.data, str(tmp_path)))  # divides as it was divided
    assert again["scores"][0]["value"] == made["accuracy"]
