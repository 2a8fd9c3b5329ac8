"""Predictors of few rows: cross-validation chooses, and the verdict says in words what they are worth."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sklearn.metrics import cohen_kappa_score

from unirna import sdk, vectorstore
from unirna.model import load
from unirna.serve.api.app import create_app
from unirna.serve.engine.engine import Engine
from unirna.serve.settings import Settings
from unirna.tasks import (
    SEQUENCE_CLASSIFICATION,
    SEQUENCE_REGRESSION,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    TaskError,
    Verdict,
    evaluate,
    finetune,
    list_predictors,
    load_predictor,
    read_labelled,
)
from unirna.tasks.finetuning.cross_validation import cross_fit, draw_folds, wants_folds
from unirna.tasks.kinds.labels import SEQUENCE_LABELS
from unirna.tasks.models.ensemble import Blend
from unirna.tasks.table.units import Units
from unirna.tasks.verdict import judge, kappa

ROWS = 150


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A registry with predictors of a composition (`share`, `kind`) and of noise (`noise`, `coin`), and their summaries."""
    folder = tmp_path_factory.mktemp("verdict")
    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for _ in range(ROWS):
        letters = "".join(random.choice(list("ACGU"), 50, p=random.dirichlet([4, 4, 4, 4])))
        share = letters.count("G") / 50 + float(random.normal(0, 0.03))
        kind = "high" if share > 0.25 else "low"
        rows.append({"sequence": letters, "share": share, "kind": kind, "noise": float(random.normal())})
        rows[-1]["coin"] = str(random.choice(["heads", "tails", "edge"]))
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    summaries = {}
    for name in ("share", "noise", "kind", "coin"):
        data = DataConfig((str(folder / "table.parquet"),), name, numeric=name in ("share", "noise"))
        config = FinetuneConfig(name, str(nano_model_path), data, str(folder / "registry"), cnn=False)
        summaries[name] = finetune(config)
    return folder, summaries


def test_few_rows_answer_as_well_as_the_best_model_of_them(made: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, summaries = made
    for name in ("share", "kind"):
        predictor = load_predictor(folder / "registry" / name)
        assert predictor.blend is not None and predictor.info["training"]["folds"] == 5
        assert predictor.info["training"]["rows"] == summaries[name]["splits"]["train"] + summaries[name]["splits"]["valid"]
        metric = "R2" if predictor.numeric else "accuracy"
        scores = {who: found[metric]["value"] for who, found in predictor.metrics["cross-validation"].items()}
        assert scores[name] > max(scores.values()) - 0.03 and scores[name] > 0.6, scores
        assert "valid" not in predictor.metrics and "cross-validation" in predictor.card
    interval = load_predictor(folder / "registry" / "share").info["interval"]
    assert interval["half_width"] < 0.1 and interval["test_coverage"] > 0.75  # of a standard deviation of .1


def test_noise_is_called_noise(made: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, summaries = made
    for name in ("noise", "coin"):
        predictor = load_predictor(folder / "registry" / name)
        assert predictor.verdict.level == "none" == summaries[name]["level"], predictor.verdict
        assert "no better than" in predictor.verdict.text
    scores = load_predictor(folder / "registry" / "noise").metrics["test"]
    assert scores["noise"]["RMSE"]["value"] < 1.1 * scores["mean"]["RMSE"]["value"]  # it answers about the mean


def test_the_verdict_stands_in_summary_card_and_json(made: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    folder, summaries = made
    predictor = load_predictor(folder / "registry" / "share")
    verdict = predictor.verdict
    assert verdict.level == "strong" and verdict.measure == "R2" and verdict.num_rows == ROWS
    assert verdict.rows == "test and cross-validation" and verdict.low < verdict.value < verdict.high
    assert verdict.text == summaries["share"]["verdict"] and verdict.text.startswith("strong: explains ")
    assert (
        "The best simple model, 4-mer ridge regression, reaches" in verdict.text
        and "the language model adds" in verdict.text
    )
    assert predictor.card.splitlines()[2] == f"**Verdict: {verdict.text}**"
    assert Verdict.of_info(json.loads((predictor.folder / "predictor.json").read_text())) == verdict


def test_rows_that_trained_are_not_measured_as_validation(
    made: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    folder, _ = made
    data = (str(folder / "table.parquet"),)
    with pytest.raises(TaskError, match="also fitted on its validation rows"):
        evaluate(EvaluateConfig("share", data, str(folder / "registry"), split="valid", out=str(tmp_path)))


def test_cross_validation_is_for_few_rows() -> None:
    assert wants_folds(350, 50) and wants_folds(5000, 40) and not wants_folds(900, 100)
    assert not wants_folds(10, 2) and not wants_folds(50_000, 40)


def test_folds_keep_groups_together_and_classes_in_training() -> None:
    groups = [f"g{i // 2}" for i in range(40)]
    truth = np.array([i // 2 % 2 for i in range(38)] + [2, 2])  # one group has all of class 2
    tried = np.arange(40) != 5
    folds = draw_folds(np.arange(40), groups, truth, tried, classes=True, seed=0)
    assert folds is not None and folds.count == 5
    by_group = {group: {int(n) for n, g in zip(folds.numbers, groups, strict=True) if g == group} for group in groups}
    assert all(len(where) == 1 for where in by_group.values()) and by_group["g19"] == {-1}
    held = np.concatenate([folds.held(fold) for fold in range(5)])
    assert sorted(held.tolist()) == [i for i in range(38) if i != 5]
    for fold in range(5):
        assert set(truth[folds.fitted(fold)]) == {0, 1, 2} and set(truth[folds.held(fold)]) == {0, 1}
        assert not set(folds.fitted(fold)) & set(folds.held(fold))
    assert draw_folds(np.arange(4), ["one"] * 4, np.zeros(4), np.ones(4, bool), classes=False, seed=0) is None


def test_held_out_outputs_come_from_models_that_never_saw_the_row() -> None:
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGU"), 30)) for _ in range(60)]
    vectors, truth = random.normal(size=(60, 8)).astype(np.float32), random.normal(size=60)
    folds = draw_folds(np.arange(60), sequences, truth, np.ones(60, bool), classes=False, seed=0)
    assert folds is not None

    def fitted(values: Any) -> Any:
        return cross_fit(
            SEQUENCE_REGRESSION, vectors, sequences, None, values, folds, Units(np.arange(60)), 1, ensemble_size=0
        )

    before, row = fitted(truth), int(folds.held(0)[0])
    changed = truth.copy()
    changed[row] += 0.01  # too little for another penalty
    after = fitted(changed)
    assert np.array_equal(before.held, np.arange(60)) and before.encoder[row] == after.encoder[row]
    others = folds.fitted(0)
    assert (before.encoder[others] != after.encoder[others]).all()


def test_a_blend_of_models_that_tell_nothing_is_the_best_guess() -> None:
    random = np.random.default_rng(0)
    truth = (random.random(300) < 0.2).astype(np.int64)
    wild = {name: random.normal(size=(300, 2)) * 2 for name in ("a", "b")}
    guess = np.log([0.8, 0.2])
    blend = Blend.fit(SEQUENCE_CLASSIFICATION, wild, truth, guess=guess)
    chances = SEQUENCE_CLASSIFICATION.answer(blend.of({name: found[:1] * 0 for name, found in wild.items()}))
    assert chances[0, 1] == pytest.approx(0.2, abs=0.07) and max(blend.weights.values()) < 0.15
    assert Blend.of_json(json.loads(json.dumps(blend.to_json()))).to_json() == blend.to_json()
    labels = np.column_stack([truth, 1 - truth]).astype(np.float64)
    several = Blend.fit(SEQUENCE_LABELS, wild, labels, guess=np.log([0.2 / 0.8, 0.8 / 0.2]))
    assert SEQUENCE_LABELS.answer(several.of({n: f[:1] * 0 for n, f in wild.items()}))[0] == pytest.approx(
        [0.2, 0.8], abs=0.07
    )


def test_kappa_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, chances = random.integers(4, size=200), random.random((200, 4))
    chances[np.arange(200), truth] += 0.3
    assert kappa(truth, chances) == pytest.approx(cohen_kappa_score(truth, chances.argmax(axis=1)))


@pytest.mark.parametrize(
    ("ours", "simple", "says"),
    [
        (0.5, 1.0, "strong: explains 8"),
        (1.0, 1.0, "adds nothing beyond chance to the simple models"),
        (0.6, 1.2, "the language model adds to the simple models"),
        (1.2, 0.6, "it is better than this predictor"),
        (40.0, 40.0, "none: on 400 unseen rows it is no better than the mean, beyond chance"),
    ],
)
def test_verdicts_compare_with_simple_models_and_the_mean(ours: float, simple: float, says: str) -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=400)

    def with_error(size: float) -> Any:  # the least-squares prediction from a measurement with such an error
        return (truth + size * random.normal(size=400)) / (1 + size**2)

    answers = {"mine": with_error(ours), "4-mers": with_error(simple)}
    if size_none := ours > 10:
        answers = {name: random.normal(size=400) * 0.1 for name in answers}
    verdict = judge(SEQUENCE_REGRESSION, truth, answers, "mine", None, np.zeros(400), rows="test", classes=[])
    assert says in verdict.text, verdict.text
    assert (verdict.level == "none") == size_none and verdict.baseline == "4-mers"


def test_predictors_of_earlier_versions_have_a_verdict_too() -> None:
    for folder in list_predictors(None).values():
        predictor = load_predictor(folder)
        assert predictor.verdict.level in predictor.verdict.text and predictor.verdict.num_rows > 100
        assert "unseen rows" in predictor.verdict.text


@pytest.fixture(scope="module")
def http(made: tuple[Path, dict[str, dict[str, Any]]], nano_model_path: Path) -> Iterator[TestClient]:
    folder, _ = made
    model = load(nano_model_path)
    provenance = vectorstore.Provenance(model.name, model.fingerprint)
    schema = vectorstore.collection_schema(model.dimension, pa.schema([]), provenance)
    columns = {"id": ["a"], "sequence": ["ACGUACGU"], "length": [8], "sha": ["x"]}
    vectors = vectorstore.vector_array(model.embed(["ACGUACGU"]))
    arrays = [vectors.cast(f.type) if f.name == "vector" else pa.array(columns[f.name], f.type) for f in schema]
    store = str(folder / "store")
    vectorstore.append_rows(store, "c", pa.Table.from_arrays(arrays, schema=schema), key="test")
    engine = Engine.open(store, str(nano_model_path), str(folder / "registry"))
    with TestClient(create_app(engine, Settings(store)), base_url="http://localhost") as client:
        yield client


def test_the_service_gives_verdict_card_and_plot(
    made: tuple[Path, dict[str, dict[str, Any]]], http: TestClient, nano_model_path: Path, tmp_path: Path
) -> None:
    folder, _ = made
    told = {entry["name"]: entry for entry in http.get("/v1/models").json()["predictors"]}
    predictor = load_predictor(folder / "registry" / "share")
    assert told["share"]["verdict"] == predictor.verdict.to_json() and told["share"]["has_plot"]
    assert told["share"]["primary_metric"]["metric"] == "R2" and not told["kind"]["has_plot"]
    card, plot = http.get("/v1/models/share/card"), http.get("/v1/models/share/plot")
    assert card.text == predictor.card and card.headers["content-type"].startswith("text/markdown")
    assert plot.text.startswith("<svg") and plot.headers["content-type"].startswith("image/svg+xml")
    assert http.get("/v1/models/kind/plot").status_code == 404 == http.get("/v1/models/nobody/card").status_code
    with sdk.connect(str(folder / "store"), model=str(nano_model_path), registry=str(folder / "registry")) as client:
        assert client.model_card("share") == card.text and client.model_plot("share") == plot.text
        mine = next(model for model in client.models() if model.name == "share")
        assert mine.verdict["text"] == predictor.verdict.text
        with pytest.raises(sdk.NotFoundError, match="has no plot"):
            client.model_plot("kind")


def test_the_command_line_shows_the_primary_metric_and_the_card(
    made: tuple[Path, dict[str, dict[str, Any]]], http: TestClient, nano_model_path: Path, tmp_path: Path, capsys: Any
) -> None:
    from unirna.sdk._cli import Models
    from unirna.sdk._connection_options import ConnectionOptions
    from unirna.sdk._output import Output

    folder, _ = made
    source = ConnectionOptions(store=str(folder / "store"), model=str(nano_model_path), registry=str(folder / "registry"))
    Models("share", output=Output(json=True), source=source).run()
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["measured"].startswith("R2 0.") and row["level"] == "strong"
    Models("share", card=True, plot=tmp_path / "p.svg", source=source).run()
    assert (
        capsys.readouterr().out.startswith("# share\n\n**Verdict: strong")
        and (tmp_path / "p.svg").read_text()[:4] == "<svg"
    )
    with pytest.raises(sdk.InvalidRequestError, match="name it"):
        Models(card=True, source=source).run()
    shutil.rmtree(folder / "store", ignore_errors=True)


def table_of(path: Path, labels: list[Any], splits: list[str] | None = None) -> str:
    """A Parquet table of a sequence for each label."""
    columns: dict[str, Any] = {"sequence": ["ACGU" * (place + 5) for place in range(len(labels))], "y": labels}
    pq.write_table(pa.table(columns | ({"split": splits} if splits else {})), path)
    return str(path)


@pytest.mark.parametrize("kind", [pa.decimal128(9, 2), pa.decimal256(60, 3), pa.decimal128(5, 0)])
def test_decimals_are_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([None, *map(Decimal, range(1, 30))], kind)
    path = table_of(tmp_path / "t.parquet", values)
    table = read_labelled(DataConfig((path,), "y", numeric=True))
    assert table.values.tolist() == [float(value) for value in range(1, 30)]
    assert table.counts["rejected_by_reason"] == {"no label": 1}
    path = table_of(tmp_path / "c.parquet", pa.array([Decimal(1), Decimal(2)] * 15, kind))
    assert set(read_labelled(DataConfig((path,), "y")).labels) == {"1", "2"}


@pytest.mark.parametrize("numeric", [False, True])
def test_cells_that_hold_nothing_are_one_thing(tmp_path: Path, numeric: bool) -> None:
    kept = ["1", "2"] if numeric else ["NOS", "none"]  # these are names
    path = table_of(tmp_path / "t.parquet", [*kept, "NA", "nan", "", "NaN", " N/A ", "null", None, "<NA>"] * 6)
    table = read_labelled(DataConfig((path,), "y", numeric=numeric))
    assert set(table.labels) == set(kept) and table.counts["rejected_by_reason"] == {"no label": 48}


def test_the_advice_for_empty_split_cells_works(tmp_path: Path) -> None:
    path = table_of(
        tmp_path / "t.parquet", ["a", "b"] * 20, ["train", "train", "train", "valid", "test", "test", "", "NA"] * 5
    )
    config = DataConfig((path,), "y", split_column="split")
    with pytest.raises(TaskError, match="10 of 40 rows have an empty cell in column 'split'") as caught:
        read_labelled(config)
    advice = re.search(r"--split-names ([a-z= ]+);", str(caught.value))
    assert advice is not None
    names = tuple(advice[1].split())
    left_out = read_labelled(replace(config, split_names=names))
    assert left_out.counts["splits"] == {"train": 15, "valid": 5, "test": 10}
    assert left_out.counts["rejected_by_reason"] == {"split not used": 10}
    assert read_labelled(replace(config, split_names=(*names, "test="))).counts["splits"]["test"] == 20
    with pytest.raises(TaskError, match="test= alone stands for empty cells"):
        read_labelled(replace(config, split_names=("test",)))


def test_a_target_column_may_be_called_number(tmp_path: Path) -> None:
    lines = [f"{'ACGU' * (place + 5)},{0.5 - place}" for place in range(20)]
    for column in ("number", "row", "sha", "length"):
        (tmp_path / "t.csv").write_text("\n".join([f"sequence,{column}", *lines]) + "\n")
        table = read_labelled(DataConfig((str(tmp_path / "t.csv"),), column, numeric=True))
        assert table.values.tolist() == [0.5 - place for place in range(20)]
