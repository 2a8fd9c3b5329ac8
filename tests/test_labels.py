"""Predictors of several labels, each true, false or unknown: from the table to the service, the SDK and a screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from unirna import sdk
from unirna.model import load
from unirna.screen.criteria import Criteria, parse_label_criterion
from unirna.sdk._answers import prediction_result
from unirna.sequence import InputError
from unirna.serve.api.schemas import PredictResponse
from unirna.serve.engine.engine import Engine
from unirna.tasks import (
    SEQUENCE_LABELS,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    FullConfig,
    LabelSets,
    TaskError,
    evaluate,
    finetune,
    load_predictor,
    read_labelled,
)
from unirna.tasks.kinds.labels import (
    average_precision,
    calibrate,
    fit_label_heads,
    label_accuracy,
    mean_auc,
    mean_precision,
)
from unirna.tasks.kinds.task import measure
from unirna.tasks.models.ensemble import Blend
from unirna.tasks.table.summary import describe

NAMES = ("rich_in_a", "rich_in_g", "rich_in_u")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sequences and whether they are rich in each of three letters, two thirds of that known."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        letters = "".join(random.choice(list("ACGU"), 40, p=random.dirichlet([2, 2, 2, 2])))
        labels: list[bool | None] = [letters.count(c) >= 10 for c in "AGU"]
        labels[i % 3] = None
        found.append({"sequence": letters, **dict(zip(NAMES, labels, strict=True))})
    return found


def write(path: Path, table: list[dict[str, Any]]) -> DataConfig:
    pq.write_table(pa.Table.from_pylist(table), path)
    return DataConfig((str(path),), "", label_columns=NAMES, valid_share=0.3)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    data = write(folder / "table.parquet", rows(400))
    settings: dict[str, Any] = {"model": str(nano_model_path), "data": data, "registry": str(folder / "registry")}
    frozen = finetune(FinetuneConfig("rich", **settings))
    assert frozen["task"] == "sequence-labels" and frozen["mean AUC"] > 0.9 and frozen["classes"] == 3
    lora = finetune(FinetuneConfig("trained", mode="lora", full=FullConfig(4, rank=2), cnn=False, blend=False, **settings))
    assert lora["mean AUC"] > 0.8 and lora["mean AUC, most frequent value"] == 0.5
    return folder / "registry"


def test_labels_are_read_and_what_is_unknown_stays_so(tmp_path: Path) -> None:
    found = rows(30)
    for row in found:
        row["rich_in_g"] = {True: "Yes", False: "no", None: ""}[row["rich_in_g"]]
        row["rich_in_u"] = None if row["rich_in_u"] is None else float(row["rich_in_u"])
    found.append({"sequence": "ACGU", **dict.fromkeys(NAMES)})
    table = read_labelled(write(tmp_path / "t.parquet", found))
    assert table.counts["rejected_by_reason"] == {"no label": 1} and table.flags.shape == (30, 3)
    for c, name in enumerate(NAMES):
        for row, flag in zip(found, table.flags[:, c], strict=False):
            wanted = {None: None, "": None, "Yes": 1.0, "no": 0.0}.get(row[name], row[name])  # type: ignore[arg-type]
            assert np.isnan(flag) if wanted is None else flag == wanted
    said = "\n".join(describe(table))
    true = int(np.nansum(table.flags[:, 0]))
    assert f"several labels: rich_in_a {true} of 20" in said
    found[3]["rich_in_g"] = "perhaps"
    with pytest.raises(TaskError, match=r"column 'rich_in_g' holds 'perhaps': expected 1 or 0"):
        read_labelled(write(tmp_path / "t.parquet", found))
    with pytest.raises(InputError, match=r"no column 'other'.*--label-columns"):
        read_labelled(replace(write(tmp_path / "t.parquet", rows(9)), label_columns=("rich_in_a", "other")))
    for wrong in ({"label_columns": ("a",)}, {"label_column": "b"}, {"numeric": True}):
        with pytest.raises(TaskError, match="two or more"):
            DataConfig(("t",), **{"label_column": "", "label_columns": ("a", "c"), **wrong})


def test_a_label_that_is_always_true_is_an_error(tmp_path: Path, nano_model_path: Path) -> None:
    data = write(tmp_path / "t.parquet", [{**row, "rich_in_g": True} for row in rows(30)])
    with pytest.raises(TaskError, match=r"label 'rich_in_g' is true in \d+ of the \d+ training rows"):
        finetune(FinetuneConfig("a", str(nano_model_path), data, str(tmp_path)))


def test_metrics_and_heads_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 6)).astype(np.float32) * [1, 2, 3, 1, 1, 1] + [5, 0, 0, 0, 0, 0]
    features = features.astype(np.float32)
    signal = (features - features.mean(axis=0)) @ random.normal(size=(6, 3))
    truth = (signal + random.normal(size=(300, 3)) > 0).astype(float)
    truth[random.random(truth.shape) < 0.3] = np.nan
    head = fit_label_heads(features[:200], truth[:200], features[200:], truth[200:], 3, whiten=False).head
    outputs = head.outputs(features)
    chances = SEQUENCE_LABELS.answer(outputs)
    known = np.isfinite(truth)
    for c in range(3):  # each is the regression on the rows where it is known, for one of the penalties
        here = known[:200, c]
        mean, scale = features[:200][here].mean(axis=0), features[:200][here].std(axis=0)
        losses = []
        for strength in (0.01, 0.1, 1.0, 10.0, 100.0):
            plain = LogisticRegression(C=strength, max_iter=1000).fit(
                (features[:200][here] - mean) / scale, truth[:200, c][here]
            )
            wanted = plain.decision_function((features - mean) / scale)
            losses.append(np.abs(wanted - outputs[:, c]).max() / np.abs(wanted).max())
        assert min(losses) < 0.005
    pairs = [(truth[known[:, c], c], chances[known[:, c], c]) for c in range(3)]
    assert mean_auc(truth, chances) == pytest.approx(np.mean([roc_auc_score(*pair) for pair in pairs]))
    alone = {score.metric: score for score in measure(SEQUENCE_LABELS, truth, chances, labels=NAMES, resamples=10)}
    for c, (name, pair) in enumerate(zip(NAMES, pairs, strict=True)):
        score = alone[f"AUC, {name}"]
        assert score.value == pytest.approx(roc_auc_score(*pair)) and score.n == known[:, c].sum()
    assert mean_precision(truth, chances) == pytest.approx(np.mean([average_precision_score(*pair) for pair in pairs]))
    assert label_accuracy(truth, chances) == pytest.approx(((chances > 0.5) == truth)[known].mean())
    ties = np.round(chances[:, 0], 1)
    wanted_precision = average_precision_score(known[:, 0], ties)
    assert average_precision(known[:, 0].astype(np.int64), ties) == pytest.approx(wanted_precision)
    # the temperature: outputs that are ten times too sure are divided by about ten
    assert calibrate(outputs * 10, truth) == pytest.approx(10 * calibrate(outputs, truth), rel=0.02)
    blend = Blend.fit(SEQUENCE_LABELS, {"good": outputs, "noise": random.normal(size=outputs.shape) * 3}, truth)
    assert blend.weights["noise"] < 0.2 * blend.weights["good"]
    mixed = SEQUENCE_LABELS.answer(blend.of({"good": outputs, "noise": np.zeros_like(outputs)}))
    assert log_loss(truth[known], mixed[known]) < log_loss(truth[known], SEQUENCE_LABELS.answer(outputs * 10)[known])


def test_a_predictor_of_labels_answers_everywhere_alike(registry: Path, nano_model_path: Path, tmp_path: Path) -> None:
    sequences = ["A" * 18 + "C" * 22, "G" * 18 + "U" * 22, "CCCACCCGCCCU" * 3 + "CCCC"]
    predictor = load_predictor(registry / "rich")
    told = predictor.info["metrics"]["test"]["rich"]["AUC, rich_in_u"]["value"]
    (line,) = [
        line for line in (registry / "rich" / "card.md").read_text().splitlines() if line.startswith("| rich_in_u |")
    ]
    assert f"| {told:.3f} (" in line
    found = predictor.predict(sequences)
    assert isinstance(found, LabelSets) and found.classes == list(NAMES) and "3 labels" in repr(predictor)
    assert (
        found.labels[0][0] == "rich_in_a" and set(found.labels[1]) == {"rich_in_g", "rich_in_u"} and found.labels[2] == []
    )
    for text, row in zip(sequences, found.probabilities, strict=True):
        alone = predictor.predict([text.replace("U", "t")])
        assert isinstance(alone, LabelSets)
        np.testing.assert_allclose(alone.probabilities[0], row, atol=1e-5)
    assert (
        "| rich_in_g | " in predictor.card and "weighted sum of models" in predictor.card and "3 labels" in predictor.card
    )
    engine = Engine(load(nano_model_path), str(tmp_path), registry)
    answers = engine.predict("rich", sequences, top=2)["predictions"]
    assert PredictResponse.model_validate({"task": "rich", "predictions": answers}).model_dump()["predictions"] == answers
    assert [len(answer["probabilities"]) for answer in answers] == [2, 2, 2]
    result = prediction_result(answers, "rich")
    assert isinstance(result[0], sdk.LabelSet) and result[0].labels == ("rich_in_a",)
    assert result.table()[1][2][0] == "none" and result.table()[1][0][1].startswith("rich_in_a ")
    assert result.to_dicts()[1]["probabilities"][0]["label"] in ("rich_in_g", "rich_in_u")
    assert len(result.to_arrow()) == 3
    criterion = parse_label_criterion("rich=rich_in_g", str(registry))
    embedded = {criterion.fingerprint: predictor.encoder.embed(sequences)}
    columns = Criteria(labels=(criterion,)).score(embedded, sequences, {criterion.folder: predictor})
    np.testing.assert_allclose(columns["score"], found.probabilities[:, 1], atol=1e-5)
    assert columns["predicted rich"] == [";".join(names) for names in found.labels]


def test_evaluation_measures_what_was_measured_when_it_was_made(registry: Path, tmp_path: Path) -> None:
    for name in ("rich", "trained"):
        found = evaluate(EvaluateConfig(name, (str(registry.parent / "table.parquet"),), str(registry), out=str(tmp_path)))
        made = load_predictor(registry / name).metrics["test"]
        assert {score["metric"] for score in found["scores"]} >= {"mean AUC", "label accuracy"}
        for score in found["scores"]:
            who = name if score["model"].endswith(("frozen", "lora")) else score["model"]
            assert score["value"] == pytest.approx(made[who][score["metric"]]["value"], abs=2e-3), score


def test_the_best_answer_without_a_sequence_is_each_labels_share() -> None:
    truth = np.array([[1, 0], [1, np.nan], [0, 0], [np.nan, 1]], float)
    np.testing.assert_allclose(SEQUENCE_LABELS.guess(truth), logit([2 / 3, 1 / 3]))


def test_a_table_with_other_columns_is_measured_by_their_order(registry: Path, tmp_path: Path) -> None:
    table = pq.read_table(registry.parent / "table.parquet").rename_columns(["sequence", "a", "g", "u"])
    pq.write_table(table, tmp_path / "t.parquet")
    config = EvaluateConfig("rich", (str(tmp_path / "t.parquet"),), str(registry), split="all", out=str(tmp_path))
    found = evaluate(replace(config, label_columns=("a", "g", "u")))
    ours = {s["metric"]: s for s in found["scores"][:7]}
    assert ours["mean AUC"]["value"] > 0.9
    alone = [ours[f"AUC, {name}"] for name in NAMES]  # of each label, where it is known
    assert np.mean([s["value"] for s in alone]) == pytest.approx(ours["mean AUC"]["value"], abs=1e-4)
    assert sum(s["n"] for s in alone) == 800 and ours["mean AUC"]["n"] == 400
    with pytest.raises(
        TaskError, match=r"name --label-columns with 3 columns, in the order of rich_in_a, rich_in_g, rich_in_u"
    ):
        evaluate(replace(config, label_column="a"))
