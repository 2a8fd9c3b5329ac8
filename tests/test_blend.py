"""Answers that blend the encoder's head with models on letters alone, and what is said of RNA of no class."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from unirna.model import load
from unirna.screen.criteria import Criteria, parse_label_criterion
from unirna.serve.engine.engine import Engine
from unirna.tasks import (
    SEQUENCE_CLASSIFICATION,
    SEQUENCE_REGRESSION,
    DataConfig,
    Estimates,
    EvaluateConfig,
    FinetuneConfig,
    FullConfig,
    Predictions,
    Profiles,
    TaskError,
    evaluate,
    finetune,
    list_predictors,
    load_predictor,
)
from unirna.tasks.kinds.classification import sureness
from unirna.tasks.models.cnn import NAME as CNN
from unirna.tasks.models.ensemble import ENCODER, Blend

WORTH = {"A": 1.0, "C": 0.0, "G": 0.5, "U": 0.2}


def table_of(path: Path) -> str:
    """240 sequences with a class (which of two letters is the more frequent), its strength, and values of nucleotides."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for _ in range(240):
        letters = "".join(random.choice(list("ACGU"), random.integers(20, 60), p=random.dirichlet([3, 3, 3, 3])))
        strength = (letters.count("A") - letters.count("G")) / len(letters) + float(random.normal(0, 0.05))
        values = [WORTH[c] + float(random.normal(0, 0.1)) for c in letters]
        rows.append({"sequence": letters, "kind": "AG"[strength < 0], "strength": strength, "values": values})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> Path:
    """Three predictors with half of the rows for validation, and one that does not blend."""
    folder = tmp_path_factory.mktemp("blend")
    path = table_of(folder / "table.parquet")
    data = DataConfig((path,), "kind", valid_share=0.45, test_share=0.2)
    values = replace(data, label_column="strength", numeric=True)
    each = replace(values, label_column="values", level="nucleotide")
    for name, wanted in (("kind", data), ("strength", values), ("each", each)):
        finetune(FinetuneConfig(name, str(nano_model_path), wanted, str(folder / "registry"), cnn=name == "kind"))
    finetune(FinetuneConfig("alone", str(nano_model_path), data, str(folder / "registry"), cnn=False, blend=False))
    return folder / "registry"


def test_weights_find_the_model_that_is_right() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=500)
    right, noise = truth + random.normal(size=500), random.normal(size=500) + 7
    mixed = Blend.fit(SEQUENCE_REGRESSION, {"right": right[:, None] - 3, "noise": noise[:, None]}, truth)
    assert mixed.weights["right"] == pytest.approx(0.5, abs=0.06) and 0 <= mixed.weights["noise"] < 0.1
    found = mixed.of({"right": right[:, None] - 3, "noise": noise[:, None]})[:, 0]
    assert found.mean() == pytest.approx(truth.mean(), abs=1e-9)  # shifts of a model do not matter
    level = float(truth.mean()), {"right": float(right.mean()) - 3, "noise": float(noise.mean())}
    shifted = Blend.fit(SEQUENCE_REGRESSION, {"right": right[:, None] - 3, "noise": noise[:, None]}, truth + 0.7, level)
    assert shifted.weights == pytest.approx(mixed.weights) and shifted.bias == pytest.approx(mixed.bias, abs=1e-9)

    classes = random.integers(3, size=500)
    known = np.eye(3)[classes] * 2 + random.normal(size=(500, 3))
    other = np.eye(3)[classes] * 2 + random.normal(size=(500, 3))
    wild = random.normal(size=(500, 3)) * 5
    outputs = {"known": known, "other": other, "wild": wild}
    mixed = Blend.fit(SEQUENCE_CLASSIFICATION, outputs, classes)
    assert mixed.weights["wild"] < 0.2 and mixed.weights["known"] == pytest.approx(mixed.weights["other"], rel=0.4)

    def loss(logits: Any) -> float:
        return -float(log_softmax(logits, axis=1)[np.arange(500), classes].mean())

    assert loss(mixed.of(outputs)) < min(loss(known), loss(other)) - 0.05
    # with all rows right the weights stay finite
    sure = Blend.fit(SEQUENCE_CLASSIFICATION, {"sure": np.eye(3)[classes] * 50}, classes)
    assert 0 < sure.weights["sure"] < 10


def test_a_blend_of_nucleotides_is_that_of_each() -> None:
    blend = Blend({"a": 2.0, "b": 1.0}, 0.5)
    parts = {"a": [np.ones((2, 1)), np.zeros((3, 1))], "b": [np.ones((2, 1)), np.ones((3, 1))]}
    assert [found.tolist() for found in blend.of_each(parts)] == [[[3.5]] * 2, [[1.5]] * 3]
    assert blend.of({"a": np.ones((4, 2)), "b": np.zeros((4, 2))}).tolist() == [[2.5, 2.5]] * 4


@pytest.mark.slow
def test_predictors_answer_as_they_were_measured(registry: Path) -> None:
    for name in ("kind", "strength", "each"):
        predictor = load_predictor(registry / name)
        assert predictor.blend is not None and ENCODER in predictor.blend.weights
        models = predictor.metrics["test"]
        assert (CNN in models) == (name == "kind") and ENCODER in models
        assert "weighted sum of models" in predictor.card and "times encoder alone" in predictor.card
        found = evaluate(EvaluateConfig(name, (str(registry.parent / "table.parquet"),), str(registry)))
        for score in found["scores"]:
            who = name if score["model"].endswith("frozen") else score["model"]
            assert score["value"] == pytest.approx(models[who][score["metric"]]["value"], abs=2e-3), score
        best = predictor.metrics["cross-validation"]
        metric = "RMSE" if predictor.numeric else "accuracy"
        sign = -1 if predictor.numeric else 1
        assert sign * best[name][metric]["value"] > max(sign * s[metric]["value"] for s in best.values()) - 0.02
    assert load_predictor(registry / "alone").blend is None


def test_it_is_the_same_alone_in_a_batch_and_from_vectors(registry: Path) -> None:
    sequences = ["ACGUACGUACGGGUUA", "AAAAAACCCCCAAAAAAAAAAAAUUUG", "GGGGGGGCGCGCGGGGUUGCGC"]
    shown = [s.replace("U", "t").lower() for s in sequences]
    for name in ("kind", "strength", "each"):
        predictor = load_predictor(registry / name)
        together = predictor.predict(sequences)
        singly = [predictor.predict([text]) for text in shown]
        if isinstance(together, Predictions):
            assert together.labels == ["G", "A", "G"] and np.allclose(together.probabilities.sum(axis=1), 1)
            parts = [one.probabilities for one in singly if isinstance(one, Predictions)]
            np.testing.assert_allclose(np.concatenate(parts), together.probabilities, atol=1e-5)
            found = predictor.predict_vectors(predictor.encoder.embed(sequences), shown)
            assert isinstance(found, Predictions)
            np.testing.assert_allclose(found.probabilities, together.probabilities, atol=1e-5)
            with pytest.raises(TaskError, match="3 vectors of 2 sequences"):
                predictor.predict_vectors(predictor.encoder.embed(sequences), sequences[:2])
        elif isinstance(together, Estimates):
            values = [one.values for one in singly if isinstance(one, Estimates)]
            np.testing.assert_allclose(np.concatenate(values), together.values, atol=1e-5)
        else:
            rows = [one.values[0] for one in singly if isinstance(one, Profiles)]
            np.testing.assert_allclose(np.concatenate(rows), np.concatenate(together.values), atol=1e-5)
        assert len(predictor.predict([]).values if predictor.numeric else predictor.predict([]).labels) == 0  # type: ignore[union-attr]


def test_service_and_screen_say_the_same(registry: Path, nano_model_path: Path, tmp_path: Path) -> None:
    sequences = ["ACGUACGUACGGGUUA", "AAAAAACCCCCAAAAAAAAAAAAUUUG"]
    predictor = load_predictor(registry / "kind")
    wanted = predictor.predict(sequences)
    assert isinstance(wanted, Predictions)
    engine = Engine(load(nano_model_path), str(tmp_path), registry)
    assert engine.predictors.share_encoder(predictor)
    said = engine.predict("kind", sequences)["predictions"]
    for answer, shares in zip(said, wanted.probabilities, strict=True):
        assert answer["probabilities"]["A"] == pytest.approx(float(shares[0]), abs=1e-5)
    criterion = parse_label_criterion("kind=A", str(registry))
    criteria = Criteria(labels=(criterion,))
    columns = criteria.score(
        {criterion.fingerprint: predictor.encoder.embed(sequences)}, sequences, {criterion.folder: predictor}
    )
    np.testing.assert_allclose(columns["score"], wanted.probabilities[:, 0], atol=1e-5)


def test_predictors_of_the_first_format_answer_alone(registry: Path, tmp_path: Path) -> None:
    info = json.loads((registry / "alone" / "predictor.json").read_text())
    assert "blend" not in info and ENCODER not in info["metrics"]["test"]
    (registry / "alone" / "predictor.json").write_text(json.dumps(info | {"format": 1}))
    assert load_predictor(registry / "alone").predict(["ACGUACGU"])
    (registry / "alone" / "predictor.json").write_text(json.dumps(info | {"format": 3}))
    with pytest.raises(TaskError, match="format 3; this version of unirna reads 1 to 2"):
        load_predictor(registry / "alone")


def test_settings_of_older_recipes_are_read_under_their_present_names() -> None:
    # The shipped predictors were written by 0.1.0: `networks` and `reads`.
    recipes = {name: load_predictor(folder).info["recipe"] for name, folder in list_predictors(None).items()}
    assert recipes["m6a"]["cnn_ensemble_size"] == 3
    assert recipes["ncrna_class"]["full"]["head_input"] == "vector"
    assert not [
        recipe for recipe in recipes.values() if {"networks", "tries", "reads"} & {*recipe, *recipe.get("full", {})}
    ]


# ---- none of these -------------------------------------------------------------------------------------------------


def test_rna_of_no_class_is_told_from_that_of_training(tmp_path: Path, nano_model_path: Path) -> None:
    """Three letters' classes are learned; RNA rich in U stands in the test alone."""
    random = np.random.default_rng(1)
    rows: list[dict[str, str]] = []
    for i in range(400):
        rich = "ACGU"[i % 4]
        letters = "".join(random.choice(list("ACGU"), 50, p=[0.55 if c == rich else 0.15 for c in "ACGU"]))
        split = "test" if rich == "U" else ("train", "valid", "test")[min(i // 130, 2)]
        rows.append({"sequence": letters, "kind": rich, "split": split})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "kind", split_column="split")
    finetune(FinetuneConfig("rich", str(nano_model_path), data, str(tmp_path / "registry"), cnn=False))
    predictor = load_predictor(tmp_path / "registry" / "rich")
    test = predictor.metrics["test"]["rich"]
    mine = [row for row in rows if row["split"] == "test"]
    found = predictor.predict([row["sequence"] for row in mine])
    assert isinstance(found, Predictions)
    unknown = np.array([row["kind"] == "U" for row in mine])
    assert test["AUROC of known"]["value"] > 0.7
    assert test["AUROC of known"]["value"] == pytest.approx(
        roc_auc_score(~unknown, found.probabilities.max(axis=1)), abs=1e-6
    )
    assert predictor.metrics["test, classes of training"]["rich"]["accuracy"]["value"] > 0.9
    assert "AUROC of known" not in predictor.metrics["test, classes of training"]["rich"]


def test_sureness_is_the_log_odds_of_the_best_class() -> None:
    outputs = np.array([[1.0, 2.0, 0.5], [800.0, 0.0, 1.0], [3.0, 3.0, 3.0]])
    shares = np.exp(log_softmax(outputs[[0, 2]], axis=1)).max(axis=1)
    np.testing.assert_allclose(sureness(outputs)[[0, 2]], np.log(shares / (1 - shares)))
    assert sureness(outputs)[1] == pytest.approx(799 - np.log1p(np.exp(-1)), abs=0.01)


def test_simple_models_are_added_to_what_was_trained(tmp_path: Path, nano_model_path: Path, capsys: Any) -> None:
    data = DataConfig((table_of(tmp_path / "table.parquet"),), "strength", numeric=True, valid_share=0.45)
    settings: dict[str, Any] = {"mode": "lora", "full": FullConfig(2, rank=2), "registry": str(tmp_path / "registry")}
    plain = FinetuneConfig("s", str(nano_model_path), data, cnn=False, blend=False, **settings)
    finetune(plain)
    before = load_predictor(tmp_path / "registry" / "s")
    alone = before.predict(["ACGUACGGGUUA"])
    with pytest.raises(TaskError, match="blend was None"):
        finetune(replace(plain, blend=True))
    capsys.readouterr()
    finetune(replace(plain, blend=True, cnn=True, cnn_ensemble_size=2, replace=True))
    assert "was trained with the same settings" in capsys.readouterr().err
    after = load_predictor(tmp_path / "registry" / "s")
    assert after.blend is not None and CNN in after.metrics["test"]
    assert after.simple.cnn is not None and len(after.simple.cnn.networks) == 2
    assert after.encoder_fingerprint == before.encoder_fingerprint
    assert after.metrics["test"][ENCODER] == before.metrics["test"]["s"]
    assert after.info["training"]["epochs"] == before.info["training"]["epochs"]
    assert after.info["training"]["seconds"] >= before.info["training"]["seconds"]
    found = after.predict(["ACGUACGGGUUA"])
    assert isinstance(alone, Estimates) and isinstance(found, Estimates) and found.values[0] != alone.values[0]
    # other settings of training start a new training
    finetune(replace(plain, full=FullConfig(1, rank=2), replace=True))
    assert "was trained with the same settings" not in capsys.readouterr().err


def test_held_out_blends_err_as_new_rows_do() -> None:
    """With many useless models and few rows, the fitted rows look better than new ones; the held-out blends do not."""
    random = np.random.default_rng(3)
    fitted, held, new = [], [], []
    for _ in range(200):
        truth = random.normal(size=200)
        outputs = {f"m{i}": (random.normal(size=200) * 2 + truth)[:, None] for i in range(12)}
        mine, other = np.arange(200) < 100, np.arange(200) >= 100
        known = {name: found[mine] for name, found in outputs.items()}
        blend = Blend.fit(SEQUENCE_REGRESSION, known, truth[mine])
        halves = np.arange(100) % 2
        fitted.append(np.abs(blend.of(known)[:, 0] - truth[mine]).mean())
        held.append(np.abs(Blend.held_out(SEQUENCE_REGRESSION, known, truth[mine], halves)[:, 0] - truth[mine]).mean())
        new.append(np.abs(blend.of({name: found[other] for name, found in outputs.items()})[:, 0] - truth[other]).mean())
    assert np.mean(fitted) < np.mean(new) < np.mean(held) < 1.1 * np.mean(new)


def test_a_blend_that_lacks_a_model_is_refused(registry: Path, tmp_path: Path) -> None:
    shutil.copytree(registry / "kind", tmp_path / "kind")
    (tmp_path / "kind" / "cnn.safetensors").unlink()
    with pytest.raises(TaskError, match="it blends 1D CNN, which is not there"):
        load_predictor(tmp_path / "kind")
