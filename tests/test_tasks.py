"""Downstream tasks: reading a labelled table, splits, heads, predictors, both modes of fine-tuning, the results table."""

from __future__ import annotations

import contextlib
import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import model
from unirna.sequence import InputError, sequence_sha
from unirna.tasks import (
    SEQUENCE_CLASSIFICATION,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    FullConfig,
    TaskError,
    evaluate,
    find_predictor,
    finetune,
    list_predictors,
    load_predictor,
    read_labelled,
    read_results,
)
from unirna.tasks.finetuning import encoder_training
from unirna.tasks.finetuning.feed import Feed, Rows, write_rows
from unirna.tasks.kinds.classification import accuracy, auc, calibrate, calibration_error, macro_f1
from unirna.tasks.kinds.regression import SEQUENCE_REGRESSION
from unirna.tasks.kinds.task import Truth, measure
from unirna.tasks.models.cnn import CNN, fit_cnn
from unirna.tasks.models.head import LinearHead, fit_linear_head
from unirna.tasks.models.sequence_features import codon_features, kmer_frequencies
from unirna.tasks.table import vectors
from unirna.tasks.table.summary import describe
from unirna.tasks.table.vectors import VectorCache

BIASES = {"adenine": (5, 1, 1, 1), "cytosine": (1, 5, 1, 1), "guanine": (1, 1, 5, 1)}


def toy_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Sequences whose class is the nucleotide they are rich in: easy to learn."""
    chance = random.Random(seed)
    rows = []
    for i in range(count):
        label = list(BIASES)[i % 3]
        letters = "".join(chance.choices("ACGU", BIASES[label], k=chance.randint(20, 60)))
        rows.append({"id": f"s{i}", "sequence": letters, "kind": label})
    return rows


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def toy(tmp_path: Path) -> DataConfig:
    return DataConfig((write_csv(tmp_path / "toy.csv", toy_rows(150)),), "kind")


@pytest.fixture
def wanted(toy: DataConfig, tmp_path: Path, nano_model_path: Path) -> FinetuneConfig:
    return FinetuneConfig("kind", str(nano_model_path), toy, str(tmp_path / "registry"), cnn=False)


# ---- reading -------------------------------------------------------------------------------------------------------


def test_a_table_is_read_and_every_row_accounted_for(tmp_path: Path) -> None:
    rows = toy_rows(30)
    rows[0]["sequence"] = "ACG-U"
    rows[1]["sequence"] = ""
    rows[2]["kind"] = " "
    rows[3]["sequence"] = rows[4]["sequence"].replace("U", "t").lower()  # the same molecule
    table = read_labelled(DataConfig((write_csv(tmp_path / "t.csv", rows),), "kind"))
    assert table.counts["read"] == 30 == table.counts["kept"] + table.counts["rejected"]
    assert table.counts["rejected_by_reason"] == {"gap": 1, "empty sequence": 1, "no label": 1}
    assert len(table.labels) == 27 and table.counts["distinct_sequences"] == 26
    assert table.counts["sequences_of_several_classes"] == 1
    assert any("read 30 rows = 27 kept + 3 left out" in line for line in describe(table))


def test_a_table_without_ids_names_rows_by_number(tmp_path: Path) -> None:
    rows = [{"rna": row["sequence"], "kind": row["kind"]} for row in toy_rows(12)]
    path = write_csv(tmp_path / "t.csv", rows)
    assert read_labelled(DataConfig((path,), "kind", sequence_column="rna")).ids[:2] == ["row 1", "row 2"]
    with pytest.raises(InputError, match=r"no column 'sequence'.*--sequence-column"):
        read_labelled(DataConfig((path,), "kind"))
    with pytest.raises(InputError, match=r"no column 'family'. It has: .*kind.*--label-column"):
        read_labelled(DataConfig((path,), "family", sequence_column="rna"))
    with pytest.raises(InputError, match="--id-column"):
        read_labelled(DataConfig((path,), "kind", sequence_column="rna", id_column="name"))


def test_measured_numbers_are_no_classes_and_whole_ones_are(tmp_path: Path) -> None:
    rows = toy_rows(12)
    path = write_csv(tmp_path / "t.csv", [{**row, "kind": f"{i / 7:.3f}"} for i, row in enumerate(rows)])
    with pytest.raises(TaskError, match="measured numbers"):
        read_labelled(DataConfig((path,), "kind"))
    path = write_csv(tmp_path / "u.csv", [{**row, "kind": str(i % 2)} for i, row in enumerate(rows)])
    assert set(read_labelled(DataConfig((path,), "kind")).labels) == {"0", "1"}


# ---- splits --------------------------------------------------------------------------------------------------------


def test_a_random_split_depends_on_sequence_and_seed_alone(tmp_path: Path) -> None:
    rows = toy_rows(120)
    rows += [{**row, "id": f"copy of {row['id']}", "sequence": row["sequence"].replace("U", "T")} for row in rows[:60]]
    rows.append({"id": "only", "sequence": "ACGUACGUAAAAAA", "kind": "rare"})
    one = read_labelled(DataConfig((write_csv(tmp_path / "a.csv", rows),), "kind", seed=3))
    random.Random(1).shuffle(rows)
    other = read_labelled(DataConfig((write_csv(tmp_path / "b.csv", rows),), "kind", seed=3))
    split_of = dict(zip(one.shas, one.splits.tolist(), strict=True))
    for table in (one, other):  # copies of a sequence on one side, whatever the order of the file
        assert [split_of[sha] for sha in table.shas] == table.splits.tolist()
    assert split_of[sequence_sha("ACGUACGUAAAAAA")] == "train"  # the only member of its class
    assert one.counts["splits"]["test"] == pytest.approx(0.2 * 181, abs=12)
    assert read_labelled(DataConfig((str(tmp_path / "a.csv"),), "kind", seed=4)).splits.tolist() != one.splits.tolist()


def test_a_split_column_is_followed_and_its_names_are_known(tmp_path: Path) -> None:
    rows = [{**row, "part": ["train", "train", "train", "heldout"][i // 3 % 4]} for i, row in enumerate(toy_rows(60))]
    path = write_csv(tmp_path / "t.csv", rows)
    table = read_labelled(DataConfig((path,), "kind", split_column="part"))
    assert table.counts["splits"] == {"train": 39, "valid": 6, "test": 15}
    assert "heldout → test" in table.split and "random 10%" in table.split

    path = write_csv(tmp_path / "u.csv", [{**row, "part": row["part"].replace("heldout", "fold9")} for row in rows])
    with pytest.raises(TaskError, match=r"holds 'fold9'.*--split-names"):
        read_labelled(DataConfig((path,), "kind", split_column="part"))
    with pytest.raises(TaskError, match="no row to train on"):
        read_labelled(DataConfig((path,), "kind", split_column="part", split_names=("test=fold9",)))
    named = DataConfig((path,), "kind", split_column="part", split_names=("test=fold9", "train=train"))
    assert read_labelled(named).splits.tolist() == table.splits.tolist()


# ---- metrics, heads, features --------------------------------------------------------------------------------------


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    chance = np.random.default_rng(0)
    truth, shares = chance.integers(5, size=200), chance.random((200, 7))
    prediction = shares.argmax(axis=1)
    assert accuracy(truth, shares) == pytest.approx(accuracy_score(truth, prediction))
    reference = f1_score(truth, prediction, labels=np.unique(truth), average="macro", zero_division=0)
    assert macro_f1(truth, shares) == pytest.approx(reference)
    two, shares = truth % 2, np.column_stack([1 - prediction / 7, prediction / 7])  # with ties
    assert auc(two, shares) == pytest.approx(roc_auc_score(two, shares[:, 1]))
    assert auc(np.zeros(5, int), shares[:5]) == 0.5
    assert auc(np.append(two, 2), np.vstack([shares, [0.5, 0.5]])) == pytest.approx(auc(two, shares))  # 2: no known class
    two_classes = measure(SEQUENCE_CLASSIFICATION, two, shares, resamples=10)
    assert [score.metric for score in two_classes] == ["accuracy", "macro F1", "AUC", "calibration error"]
    assert [s.metric for s in measure(SEQUENCE_CLASSIFICATION, truth, chance.random((200, 7)), resamples=10)] == [
        "accuracy",
        "macro F1",
        "calibration error",
    ]


def test_calibration_error_is_that_of_its_definition() -> None:
    sure = np.array([0.95, 0.95, 0.6, 0.6, 0.6])  # the first two bins' rows: half are right, and two in three
    shares = np.column_stack([sure, 1 - sure])
    truth = np.array([0, 1, 0, 0, 1])
    assert calibration_error(truth, shares) == pytest.approx((2 * (0.95 - 0.5) + 3 * (2 / 3 - 0.6)) / 5)
    assert calibration_error(np.zeros(3, int), np.array([[1.0, 0.0]] * 3)) == 0
    assert calibration_error(np.full(4, 2), np.array([[1.0, 0.0]] * 4)) == 1  # a class that training never saw


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_wrong_scale(factor: float) -> None:
    chance = np.random.default_rng(1)
    outputs = 1.5 * chance.standard_normal((20_000, 4))
    truth = np.array(outputs + chance.gumbel(size=outputs.shape)).argmax(axis=1)  # drawn from their softmax
    assert calibrate(factor * outputs, truth) == pytest.approx(factor, rel=0.05)
    head = LinearHead(*(x.astype(np.float32) for x in (factor * np.eye(4), np.zeros(4), np.zeros(4), np.ones(4))))
    calibrated, temperature = SEQUENCE_CLASSIFICATION.calibrated(head, outputs.astype(np.float32), truth)
    assert temperature == pytest.approx(factor, rel=0.05)
    error = calibration_error(truth, SEQUENCE_CLASSIFICATION.answers(calibrated, outputs.astype(np.float32)))
    assert error < 0.02 and (factor == 1 or calibration_error(truth, head.probabilities(outputs)) > 0.1)
    assert SEQUENCE_CLASSIFICATION.calibrated(head, np.zeros((0, 4), np.float32), truth[:0]) == (head, 1.0)


def test_few_rows_that_are_all_right_do_not_make_it_certain() -> None:
    outputs = np.tile([[2.0, 0.0]], (25, 1))  # .88 sure, and all of 25 right
    temperature = calibrate(outputs, np.zeros(25, int))
    sure = 1 / (1 + np.exp(-2 / temperature))
    assert sure == pytest.approx(26 / 27, abs=1e-3)


def test_4mers_are_counted_without_ambiguous_letters() -> None:
    found = kmer_frequencies(["AAAAC", "ACGNACGU", "AC"])
    assert found.shape == (3, 256) and found[0, 0] == 0.5 and found[0, 1] == 0.5
    assert found[1, 0b00011011] == 1.0 and not found[2].any()


def test_codons_are_read_from_the_start_and_tell_what_4_mers_cannot(tmp_path: Path, nano_model_path: Path) -> None:
    found = codon_features(["AAAACGAA", "ACNACGU", ""])
    assert found.shape == (3, 65) and found[0, 0] == 0.5 and found[0, 0b000110] == 0.5 and found[1, 0b000110] == 1
    assert found[:, :64].sum(axis=1).tolist() == [1, 1, 0] and found[:, 64] == pytest.approx(np.log([8, 7, 1]))
    random = np.random.default_rng(0)
    lines = ["sequence,frame"]
    for number in range(300):  # the same letters, in two frames
        codons = "".join(random.choice(["GCU", "GAU", "AAG"], 30))
        lines.append(f"{codons[number % 2 :] + codons[: number % 2]},{number % 2}")
    (tmp_path / "frames.csv").write_text("\n".join(lines) + "\n")
    data = DataConfig((str(tmp_path / "frames.csv"),), "frame", valid_share=0.4)
    config = FinetuneConfig("frame", str(nano_model_path), data, str(tmp_path / "registry"), cnn=False, coding=True)
    summary = finetune(config)
    assert summary["accuracy, codons and length, linear"] > 0.95, summary
    predictor = load_predictor(tmp_path / "registry" / "frame")
    assert predictor.blend is not None and predictor.blend.weights["codons and length, linear"] > 0.3
    assert predictor.predict([("GCUGAUAAGGCU" * 8)[:90], ("GCUGAUAAGGCU" * 8)[1:91]]).labels == ["0", "1"]
    with pytest.raises(TaskError, match="leave it out for nucleotides"):
        replace(config, data=replace(data, numeric=True, level="nucleotide"))


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("whiten", [False, True])
def test_a_head_separates_what_is_separable(num_classes: int, whiten: bool) -> None:
    chance = np.random.default_rng(0)
    classes = chance.integers(num_classes, size=300)
    features = chance.normal(size=(300, 12)).astype(np.float32) * np.float32(0.1)
    features[np.arange(300), classes] += 1
    features[:, 11] = 7.0  # constant
    fit = fit_linear_head(features[:200], classes[:200], features[200:], classes[200:], num_classes, whiten=whiten)
    probabilities = fit.head.probabilities(features[200:])
    assert probabilities.shape == (100, num_classes) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities.argmax(axis=1) == classes[200:]).mean() > 0.97
    with pytest.raises(TaskError, match=r"\[1, 5\].*\[N, 12\]"):
        fit.head.probabilities(np.zeros((1, 5), np.float32))
    with pytest.raises(TaskError, match="not finite"):
        fit.head.probabilities(np.full((1, 12), np.nan, np.float32))


# ---- frozen --------------------------------------------------------------------------------------------------------


def test_a_frozen_predictor_is_made_saved_and_read_back(wanted: FinetuneConfig, capsys: Any) -> None:
    summary = finetune(wanted)
    assert summary["read"] == summary["kept"] + summary["rejected"] == 150
    assert summary["accuracy"] > 0.8 > summary["accuracy, most frequent class"]
    predictor = load_predictor(Path(wanted.registry) / "kind")
    assert (predictor.name, predictor.task, predictor.mode) == ("kind", "sequence-classification", "frozen")
    assert predictor.labels == sorted(BIASES)
    assert predictor.encoder_fingerprint == model.load(wanted.model).fingerprint

    # its test rows give the measured accuracy: the saved folder is what was measured
    table = read_labelled(wanted.data)
    rows = table.rows("test")
    sequences = [table.sequences[i] for i in rows]
    together = predictor.predict(sequences)
    hits = [a == table.labels[i] for a, i in zip(together.labels, rows, strict=True)]
    assert np.mean(hits) == pytest.approx(predictor.metrics["test"]["kind"]["accuracy"]["value"])
    # alone, as DNA in lower case, and from vectors: the same probabilities
    alone = np.concatenate([predictor.predict([s.replace("U", "t").lower()]).probabilities for s in sequences[:10]])
    np.testing.assert_allclose(alone, together.probabilities[:10], atol=1e-5)
    embedded = predictor.predict_vectors(model.load(wanted.model).embed(sequences), sequences)
    np.testing.assert_allclose(embedded.probabilities, together.probabilities, atol=1e-5)

    card = predictor.card
    for words in ("4-mer logistic regression", "most frequent class", "macro F1", predictor.encoder_fingerprint, "seed 0"):
        assert words in card
    # nothing is done twice, and nothing is overwritten unasked
    capsys.readouterr()
    assert finetune(wanted) == summary and "nothing to do" in capsys.readouterr().err
    other = replace(wanted, data=replace(wanted.data, seed=5))
    with pytest.raises(TaskError, match="with other settings"):
        finetune(other)
    assert finetune(replace(other, replace=True))["accuracy"] > 0.8
    assert "150 taken from" in capsys.readouterr().err
    assert list(list_predictors(wanted.registry, shipped=False)) == ["kind"]
    assert list(list_predictors(wanted.registry)) == sorted(["kind", *list_predictors(None)])
    with pytest.raises(
        TaskError, match=r"no predictor 'colour'.*It holds: kind; with the package come: m6a, ncrna_class, "
    ):
        find_predictor(wanted.registry, "colour")


def test_predictors_of_the_package_are_found_and_ones_own_go_first(wanted: FinetuneConfig) -> None:
    shipped = find_predictor(wanted.registry, "ncrna_class")
    predictor = load_predictor(shipped)
    trna = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
    assert predictor.predict([trna]).labels == ["tRNA"] and predictor.encoder.name.startswith("unirna-mini")
    finetune(replace(wanted, name="ncrna_class"))
    own = find_predictor(wanted.registry, "ncrna_class")
    assert own != shipped and load_predictor(own).labels == sorted(BIASES)
    for folder in list_predictors(
        None
    ).values():  # each stands on the encoder that comes along, and its card names its data
        predictor = load_predictor(folder)
        assert predictor.encoder.fingerprint == predictor.encoder_fingerprint
        assert predictor.info["about"] in predictor.card and any(
            word in predictor.card for word in ("licence", "GPL", "CC0")
        )


def test_one_class_is_an_error(tmp_path: Path, nano_model_path: Path) -> None:
    rows = [{**row, "kind": "same"} for row in toy_rows(12)]
    data = DataConfig((write_csv(tmp_path / "t.csv", rows),), "kind")
    with pytest.raises(TaskError, match="one class, 'same'"):
        finetune(FinetuneConfig("kind", str(nano_model_path), data, str(tmp_path)))


def test_a_damaged_predictor_is_refused(wanted: FinetuneConfig) -> None:
    finetune(wanted)
    folder = Path(wanted.registry) / "kind"
    model.initialise("nano", seed=9).save(folder / "encoder")
    with pytest.raises(TaskError, match="the head was fitted on"):
        load_predictor(folder).predict(["ACGU"])
    (folder / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(TaskError, match=r"head.safetensors: no valid head"):
        load_predictor(folder)


def test_a_killed_run_embeds_nothing_twice(tmp_path: Path, nano_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "PART_NUCLEOTIDES", 500)
    encoder = model.load(nano_model_path)
    sequences = [row["sequence"] for row in toy_rows(60)]
    shas = [sequence_sha(s) for s in sequences]

    def kill(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    killed = VectorCache(tmp_path, encoder)
    with pytest.raises(KeyboardInterrupt):
        killed.embed(sequences, shas, kill)
    assert 0 < killed.num_embedded < 60
    again = VectorCache(tmp_path, encoder)
    found = again.embed(sequences, shas)
    assert killed.num_embedded + again.num_embedded == 60
    np.testing.assert_allclose(found, encoder.embed(sequences), atol=1e-5)
    third = VectorCache(tmp_path, encoder)
    third.embed(sequences[::-1], shas[::-1])
    assert third.num_embedded == 0
    other = VectorCache(tmp_path, model.initialise("nano", seed=1))  # another model's vectors are not taken
    other.embed(sequences[:2], shas[:2])
    assert other.num_embedded == 2


# ---- the results table ---------------------------------------------------------------------------------------------


def test_results_are_entered_once_and_others_stay(wanted: FinetuneConfig, tmp_path: Path, capsys: Any) -> None:
    finetune(replace(wanted, cnn=True))
    config = EvaluateConfig("kind", wanted.data.data, wanted.registry)
    first = evaluate(config)
    info = load_predictor(Path(wanted.registry) / "kind").info
    for score in first["scores"]:
        name = "kind" if score["model"].endswith("frozen") else score["model"]
        assert score["value"] == pytest.approx(info["metrics"]["test"][name][score["metric"]]["value"], abs=1e-4)
        assert score["low"] <= score["value"] <= score["high"] and score["n"] == info["data"]["splits"]["test"]
    rows = read_results(wanted.registry).num_rows
    assert rows == 12 == first["rows_of_results"]
    assert evaluate(config)["rows_of_results"] == rows

    # a table of others, one of whose classes the predictor never saw
    fresh = [{**row, "kind": "thymine" if i % 10 == 0 else row["kind"]} for i, row in enumerate(toy_rows(60, seed=1))]
    path = write_csv(tmp_path / "fresh.csv", fresh)
    with pytest.raises(TaskError, match="--split all"):
        evaluate(replace(config, data=(path,)))
    second = evaluate(replace(config, data=(path,), split="all"))
    assert "no training row" not in capsys.readouterr().err
    assert second["rows_of_results"] == 28 and second["n"] == 60  # a metric more
    assert {score["metric"] for score in second["scores"]} >= {"accuracy", "AUROC of known"}
    assert max(s["value"] for s in second["scores"] if s["metric"] == "accuracy") <= 0.9
    text = (Path(wanted.registry) / "results.md").read_text()
    assert "4-mer logistic regression" in text and "fresh.csv" in text and text.count("| toy.csv") == 12


@pytest.mark.parametrize("numeric", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_small_cnn_learns_what_depends_on_place_and_is_kept(tmp_path: Path, numeric: bool) -> None:
    chance = np.random.default_rng(0)
    sequences = ["".join(chance.choice(list("ACGU"), n)) for n in chance.integers(30, 60, 1200).tolist()]
    frame = np.array([len(s) % 3 for s in sequences])  # AUG in the frame of the 3' end is what counts
    sequences = [
        s[: 9 + f] + "AUG" + s[12 + f :] for s, f in zip(sequences, chance.integers(0, 3, 1200).tolist(), strict=True)
    ]
    inside = np.array(
        [any(s[i : i + 3] == "AUG" for i in range(f, len(s), 3)) for s, f in zip(sequences, frame, strict=True)]
    )
    truth: Truth = 5.0 + 2.0 * inside if numeric else inside.astype(np.int64)
    task = SEQUENCE_REGRESSION if numeric else SEQUENCE_CLASSIFICATION
    count = 1 if numeric else 2
    cnn = fit_cnn(task, sequences, truth, np.arange(800), np.arange(800, 1000), count, ensemble_size=count)
    answers = task.answer(cnn.outputs(sequences[1000:]))
    assert task.primary.compute(truth[1000:], answers) > 0.9
    cnn.save(tmp_path / "cnn.safetensors")
    again = CNN.load(tmp_path / "cnn.safetensors")
    parts = [CNN([one], cnn.centre, cnn.spread, cnn.temperature).outputs(sequences) for one in again.networks]
    assert len(parts) == count and np.array_equal(parts[0], parts[-1]) != (count > 1)
    np.testing.assert_allclose(np.mean(parts, axis=0), cnn.outputs(sequences), atol=1e-5)
    np.testing.assert_allclose(again.outputs(sequences), cnn.outputs(sequences), atol=1e-5)
    (tmp_path / "cnn.safetensors").write_bytes(b"no")
    with pytest.raises(TaskError, match="no valid network"):
        CNN.load(tmp_path / "cnn.safetensors")
    mixed = [sequences[0], "A", "N" * 200]
    alone = np.concatenate([again.outputs([sequence]) for sequence in mixed])
    np.testing.assert_allclose(again.outputs(mixed), alone, atol=1e-4)


def test_test_rows_seen_in_training_are_shown_apart(tmp_path: Path, nano_model_path: Path) -> None:
    rows = [{**row, "split": "train" if i < 90 else "test"} for i, row in enumerate(toy_rows(120))]
    rows += [{**row, "id": f"copy{i}", "split": "test"} for i, row in enumerate(rows[:15])]
    data = DataConfig((write_csv(tmp_path / "t.csv", rows),), "kind", split_column="split")
    with pytest.raises(TaskError, match="15 of 45 test rows have a sequence that also stands in train"):
        finetune(FinetuneConfig("kind", str(nano_model_path), data, str(tmp_path / "registry"), cnn=False))
    data = replace(data, allow_copies=True)
    finetune(FinetuneConfig("kind", str(nano_model_path), data, str(tmp_path / "registry"), cnn=False))
    summary = evaluate(EvaluateConfig("kind", data.data, str(tmp_path / "registry")))
    sizes = {(score["rows"], score["n"]) for score in summary["scores"]}
    assert sizes == {("all", 45), ("unseen sequences", 30)}
    info = load_predictor(tmp_path / "registry" / "kind").info
    assert info["metrics"]["test, unseen sequences"]["kind"]["accuracy"]["n"] == 30


# ---- full ----------------------------------------------------------------------------------------------------------


def prepare(work: Path, nano_model_path: Path, count: int = 120) -> int:
    """A work folder for `train_full`; returns the number of classes."""
    work.mkdir(parents=True)
    rows = toy_rows(count)
    labels = sorted(BIASES)
    classes = np.array([labels.index(row["kind"]) for row in rows], np.int64)
    sequences = [row["sequence"] for row in rows]
    cut = count * 3 // 4
    write_rows(work / "train.npz", sequences[:cut], classes[:cut])
    write_rows(work / "valid.npz", sequences[cut:], classes[cut:])
    model.load(nano_model_path).save(work / "base")
    return len(labels)


def losses(work: Path) -> list[tuple[float, float]]:
    return [(record["loss"], record["valid_loss"]) for record in encoder_training.read_epochs(work)]


def test_full_training_learns_and_is_the_same_when_killed_between(
    tmp_path: Path, nano_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FullConfig(epochs=3, batch_size=16, head_input="state")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for work in (whole, broken):
        prepare(work, nano_model_path)
    encoder_training.train_full(config, whole, SEQUENCE_CLASSIFICATION, 3)
    curve = losses(whole)
    assert curve[0][0] > 3 * curve[-1][0] and encoder_training.read_epochs(whole)[-1]["valid_score"] > 0.9
    before, after = model.load(whole / "base"), model.load(whole / "best")
    assert before.fingerprint != after.fingerprint  # the encoder was trained, not the head alone

    save = encoder_training._save_state

    def save_and_die(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoder_training, "_save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            encoder_training.train_full(config, broken, SEQUENCE_CLASSIFICATION, 3)
    assert len(losses(broken)) == 1
    encoder_training.train_full(config, broken, SEQUENCE_CLASSIFICATION, 3)
    np.testing.assert_allclose(losses(broken), curve, rtol=1e-4)


def test_training_stops_when_validation_no_longer_falls(tmp_path: Path, nano_model_path: Path) -> None:
    prepare(tmp_path / "work", nano_model_path, count=48)
    config = FullConfig(epochs=9, patience=2, batch_size=8, head_input="state", learning_rate=0.0, head_learning_rate=0.0)
    encoder_training.train_full(config, tmp_path / "work", SEQUENCE_CLASSIFICATION, 3)
    curve = [valid for _, valid in losses(tmp_path / "work")]
    assert curve == pytest.approx([np.log(3)] * 3, abs=1e-5)  # the first epoch and two more without a lower loss


@pytest.mark.parametrize("rank", [0, 2])
def test_training_begins_with_the_frozen_head_and_makes_it_no_worse(tmp_path: Path, rank: int) -> None:
    rows = toy_rows(90)
    sequences = [row["sequence"] for row in rows]
    truth = np.array([sorted(BIASES).index(row["kind"]) for row in rows], np.int64)
    mini, work = model.load("unirna-mini", device="cpu"), tmp_path / "work"
    mini.save(work / "base")
    write_rows(work / "train.npz", sequences[:60], truth[:60])
    write_rows(work / "valid.npz", sequences[60:], truth[60:])
    vectors = mini.embed(sequences)
    head = fit_linear_head(vectors[:60], truth[:60], vectors[60:], truth[60:], 3, whiten=True).head
    head.save(work / encoder_training.START)

    classifier = encoder_training.EncoderWithHead(model.load("unirna-mini", device="cpu").encoder, 3, rank, head)
    packed = Feed(mini.windows, 4096, mini.device)
    parts = list(packed.parts(Rows([model.tokenise(s) for s in sequences], truth), np.arange(90)))
    for part in parts:
        np.testing.assert_allclose(
            classifier(*part.inputs).detach().numpy(), head.outputs(vectors[part.units]), atol=2e-3, rtol=1e-3
        )

    logits = classifier(*parts[0].inputs)
    SEQUENCE_CLASSIFICATION.loss(logits, parts[0].truth).backward()
    without = [name for name, p in classifier.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # several workers would wait for them

    # ---- a step far too long: the best is the beginning
    spoilt = FullConfig(epochs=1, batch_size=30, rank=rank, head_input="vector", learning_rate=1.0, head_learning_rate=1.0)
    encoder_training.train_full(spoilt, work, SEQUENCE_CLASSIFICATION, 3)
    (record,) = encoder_training.read_epochs(work)
    encoder, kept, _ = encoder_training.read_best(work)
    found = kept.outputs(model.Model(encoder, "best", "cpu").embed(sequences))
    np.testing.assert_allclose(found, head.outputs(vectors), atol=2e-3, rtol=1e-3)
    assert record["valid_loss"] > 1


def test_long_sequences_train_and_predict_in_windows_alike(tmp_path: Path) -> None:
    config = replace(model.SIZES["nano"], max_positions=34)
    encoder = model.initialise(config, seed=0)
    sequences = [row["sequence"] for row in toy_rows(6)]
    packed = Feed(encoder.windows, 64, encoder.device)
    rows = Rows([model.tokenise(s) for s in sequences], np.zeros(6, np.int64))
    classifier = encoder_training.EncoderWithHead(encoder.encoder, 2)
    classifier.head = _identity(config.hidden_size)
    found = np.zeros((6, config.hidden_size), np.float32)
    order = sorted(range(6), key=lambda i: (len(sequences[i]), i))
    parts = [classifier(*part.inputs).detach().numpy() for part in packed.parts(rows, np.arange(6))]
    found[order] = np.concatenate(parts)
    np.testing.assert_allclose(found, encoder.embed(sequences), atol=1e-5)


def _identity(size: int) -> Any:
    import torch

    return torch.nn.Identity(size)


@pytest.mark.slow
def test_full_mode_on_two_ray_workers_gives_one_worker_s_losses(
    wanted: FinetuneConfig, ray_cluster: None, tmp_path: Path, nano_model_path: Path
) -> None:
    from unirna.train import run_workers

    config = replace(wanted, mode="full", full=FullConfig(epochs=2, batch_size=16))
    alone = finetune(config)
    info = load_predictor(alone["predictor"]).info
    assert alone["accuracy"] > 0.8 and info["mode"] == "full"
    shared = replace(config, registry=str(tmp_path / "shared"))
    finetune(shared, lambda function, settings, folder: run_workers(function, settings, workers=2, folder=folder))
    other = load_predictor(tmp_path / "shared" / "kind").info
    curves = [[record["loss"] for record in i["training"]["epochs"]] for i in (info, other)]
    np.testing.assert_allclose(*curves, rtol=1e-3)
    assert not list(tmp_path.glob("*/.work-*"))  # nothing is left behind


def test_full_mode_with_a_relative_registry_trains_on_workers_that_stand_elsewhere(
    wanted: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def elsewhere(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
        assert folder.is_absolute()
        with contextlib.chdir(tmp_path / "elsewhere"):
            function(settings)

    config = replace(wanted, mode="full", full=FullConfig(epochs=1, batch_size=16), registry="here")
    assert finetune(config, elsewhere)["mode"] == "full"
    assert load_predictor(tmp_path / "here" / "kind").info["mode"] == "full"


def test_a_name_that_is_no_folder_name_is_refused(wanted: FinetuneConfig) -> None:
    for name in ("", ".hidden", "a/b", "a=b"):
        with pytest.raises(TaskError, match="task name"):
            replace(wanted, name=name)


def test_parquet_labels_may_be_numbers(tmp_path: Path) -> None:
    rows = toy_rows(12)
    table = pa.table({"id": [r["id"] for r in rows], "sequence": [r["sequence"] for r in rows], "kind": list(range(3)) * 4})
    pq.write_table(table, tmp_path / "t.parquet")
    assert set(read_labelled(DataConfig((str(tmp_path / "t.parquet"),), "kind")).labels) == {"0", "1", "2"}


def test_predictor_json_is_plain(wanted: FinetuneConfig) -> None:
    finetune(wanted)
    info = json.loads((Path(wanted.registry) / "kind" / "predictor.json").read_text())
    assert info["format"] == 2 and info["data"]["data"] == ["toy.csv"] and info["versions"]["unirna"]
