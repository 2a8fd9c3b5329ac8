"""Predictors of what two sequences differ by: from the table to the service, the SDK and a screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from unirna import sdk
from unirna.screen import ScreenError
from unirna.screen.criteria import parse_label_criterion
from unirna.sequence import InputError, SequenceError
from unirna.serve import Settings
from unirna.serve.api.app import create_app
from unirna.serve.engine.engine import Engine
from unirna.tasks import (
    DataConfig,
    Estimates,
    EvaluateConfig,
    FinetuneConfig,
    TaskError,
    evaluate,
    finetune,
    load_predictor,
    read_labelled,
    split_pairs,
)
from unirna.tasks.table.pairs import difference


def table(path: Path, count: int = 600) -> DataConfig:
    """Variants of sequences with some letters changed; the value is ten times the G gained, with a little noise."""
    random = np.random.default_rng(0)
    lines = ["wild,variant,gain"]
    for _ in range(count // 2):
        wild = random.choice(list("ACGU"), 40)
        for _ in range(2):
            variant = wild.copy()
            places = random.choice(40, 8, replace=False)
            variant[places] = random.choice(list("ACGU"), 8, p=random.dirichlet([1, 1, 1, 1]))
            gain = float((variant == "G").sum() - (wild == "G").sum()) / 4 + random.normal() / 10
            lines.append(f"{''.join(wild)},{''.join(variant)},{gain:.4f}")
    lines += ["ACGXU,ACGUA,1", ",ACGUA,1"]
    path.write_text("\n".join(lines) + "\n")
    return DataConfig((str(path),), "gain", "variant", numeric=True, reference_column="wild", valid_share=0.2)


def test_pairs_are_read_and_a_reference_stands_on_one_side(tmp_path: Path) -> None:
    config = table(tmp_path / "pairs.csv")
    read = read_labelled(config)
    assert read.counts["rejected_by_reason"] == {"reference: protein letter": 1, "reference: empty sequence": 1}
    assert read.pairs and read.counts["lengths"] == {"min": 40, "median": 40, "max": 40}
    sides: dict[str, set[str]] = {}
    for pair, split in zip(read.sequences, read.splits.tolist(), strict=True):
        sides.setdefault(pair.split("&")[0], set()).add(split)
    assert len(sides) == 300 and all(len(where) == 1 for where in sides.values())
    assert "random by reference" in read.split and "all of one reference on one side" in read.split
    with pytest.raises(TaskError, match="expected values of sequences"):
        replace(config, numeric=False)
    assert (difference(lambda letters: np.array([float(len(one)) for one in letters]), ["A&AA", "AC&A"]) == [1, -1]).all()
    named = (tmp_path / "pairs.csv").read_text().replace("wild,variant", "sequence,variant", 1)
    (tmp_path / "named.csv").write_text(named)
    again = read_labelled(replace(config, data=(str(tmp_path / "named.csv"),), reference_column="sequence"))
    assert again.sequences == read.sequences
    with pytest.raises(InputError, match=r"no column 'sequence'.* with --reference-column"):
        read_labelled(replace(config, reference_column="sequence"))
    with pytest.raises(TaskError, match="sequence 1: expected two sequences as FIRST&SECOND, got 3"):
        split_pairs(["A&C", "A&C&G"])


@pytest.mark.slow
def test_a_predictor_of_pairs_is_made_and_served(tmp_path: Path, library: Any) -> None:
    config = FinetuneConfig("gain", library.model, table(tmp_path / "pairs.csv"), str(tmp_path / "registry"), unit="G")
    summary = finetune(config)
    assert summary["task"] == "pair-regression" and summary["R2"] > 0.9 and summary["R2, 1D CNN"] > 0.5, summary
    predictor = load_predictor(tmp_path / "registry" / "gain")
    assert predictor.pairs and predictor.blend is not None
    wild, variant = "ACGUACGUACGUACGUACGUACGUACGUACGUACGUACGU", "GGGUGCGUACGUGCGUACGUACGUACGGACGUACGUACGU"
    pairs = [f"{wild}&{variant}", f" {variant.lower()}&{wild.replace('U', 'T')}", f"{wild}&{wild}"]
    found = predictor.predict(pairs)
    assert isinstance(found, Estimates)
    values = found.values.tolist()
    assert values[0] > 0.5 > values[2] > -0.5 > values[1] and values[0] + values[1] == pytest.approx(
        2 * values[2], abs=1e-6
    )
    assert evaluate(EvaluateConfig("gain", config.data.data, config.registry))["scores"][0]["value"] == pytest.approx(
        summary["R2"], abs=1e-3
    )
    with pytest.raises(TaskError, match="expected two sequences"):
        predictor.predict([wild])
    with pytest.raises(TypeError, match="expects a list"):
        predictor.predict(wild)
    long = predictor.simple.outputs("1D CNN", [f"{'ACGU' * 5000}&A", f"A&{'ACGU' * 5000}"] * 12)
    assert np.abs(np.asarray(long)[::2] + np.asarray(long)[1::2] - 2 * predictor.simple.cnn.centre).max() < 1e-3
    with pytest.raises(SequenceError, match="sequence 0: protein letter"):
        predictor.predict([f"{wild}&AXA"])
    with pytest.raises(TaskError, match="mode lora does not support a reference column"):
        replace(config, mode="lora")
    with pytest.raises(ScreenError, match="compares two sequences"):
        parse_label_criterion("gain=high", config.registry)

    engine = Engine.open(library.store, library.model, config.registry, default_collection="rfam")
    with TestClient(create_app(engine, Settings(library.store)), base_url="http://localhost") as http:
        answer = http.post("/v1/predict/gain", json={"sequences": pairs})
        assert [one["value"] for one in answer.json()["predictions"]] == pytest.approx(values, abs=1e-4)
        assert {one["in_training_length_range"] for one in answer.json()["predictions"]} == {True}
        for sequences, where in (
            ([wild], "sequences[0]"),
            ([f"{wild}&"], "sequences[0]"),
            ([pairs[0], "A&C&G"], "sequences[1]"),
        ):
            refused = http.post("/v1/predict/gain", json={"sequences": sequences})
            assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == where
        assert http.post("/v1/predict/rna_type", json={"sequences": pairs}).status_code == 422
    with sdk.connect(library.store, model=library.model, registry=config.registry, collection="rfam") as client:
        assert [one.value for one in client.predict("gain", pairs)] == pytest.approx(values, abs=1e-4)
        with pytest.raises(sdk.InvalidRequestError, match="expected two sequences"):
            client.predict("gain", [wild])
