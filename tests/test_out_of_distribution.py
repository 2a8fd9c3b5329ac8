"""Whether sequences that are like no class of a classifier are flagged, and members of its classes are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna.sdk._answers import prediction_result
from unirna.serve.engine.predictors import answers_of
from unirna.tasks import DataConfig, FinetuneConfig, Predictions, Predictor, TaskError, finetune, load_predictor
from unirna.tasks.models.nearest import Codes, nearest_rows, ranked, unit_vectors
from unirna.tasks.models.negatives import coding_pieces, low_complexity, repeats, shuffles
from unirna.tasks.models.out_of_distribution import FILE

CLASSES = ("one", "two", "three")


def relatives(count: int, seed: int) -> list[str]:
    """Sequences of 40 to 60 nt, beginnings of one random one with a tenth of the nucleotides replaced."""
    random = np.random.default_rng(seed)
    first = random.choice(list("ACGU"), 60)
    found = []
    for _ in range(count):
        changed = random.random(60) < 0.1
        one = "".join(np.where(changed, random.choice(list("ACGU"), 60), first))
        found.append(one[: int(random.integers(40, 61))])
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three families as classes, and a fourth in the test alone."""
    rows = [
        {"sequence": sequence, "kind": name, "split": ("train", "valid", "test")[min(i // 40, 2)]}
        for seed, name in enumerate(CLASSES)
        for i, sequence in enumerate(relatives(120, seed))
    ]
    rows += [{"sequence": sequence, "kind": "four", "split": "test"} for sequence in relatives(40, 3)]
    path = tmp_path_factory.mktemp("families") / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def classifier(table: Path, nano_model_path: Path) -> Predictor:
    data = DataConfig((str(table),), "kind", split_column="split")
    finetune(FinetuneConfig("kin", str(nano_model_path), data, str(table.parent / "registry"), cnn=False))
    return load_predictor(table.parent / "registry" / "kin")


def predicted(classifier: Predictor, sequences: list[str]) -> Predictions:
    found = classifier.predict(sequences)
    assert isinstance(found, Predictions)
    return found


def unflagged(classifier: Predictor, sequences: list[str]) -> float:
    outside = predicted(classifier, sequences).out_of_distribution
    assert outside is not None
    return 1 - float(outside.mean())


def test_members_are_kept_and_everything_else_is_flagged(classifier: Predictor) -> None:
    random = np.random.default_rng(9)
    members = [sequence for seed in range(3) for sequence in relatives(160, seed)[120:]]
    lengths = [50] * 100
    assert unflagged(classifier, members) >= 0.85  # 95 % of members like those of the validation rows
    assert unflagged(classifier, shuffles(members, random)) <= 0.05
    assert unflagged(classifier, coding_pieces(lengths, random)) <= 0.05
    assert unflagged(classifier, low_complexity(lengths, random)) <= 0.05
    assert unflagged(classifier, ["".join(random.choice(list("ACGU"), 55)) for _ in range(100)]) <= 0.05
    assert unflagged(classifier, relatives(60, 4)) <= 0.05  # another family
    assert unflagged(classifier, ["A" * 60, "C" * 50, "GC" * 25]) == 0
    # a p-value is uniform for members: as many below a half as above
    p_values = predicted(classifier, members).conformal_p_value
    assert p_values is not None and np.median(p_values) == pytest.approx(0.5, abs=0.2)


def test_a_flag_depends_on_the_sequence_alone(classifier: Predictor) -> None:
    sequences = [*relatives(5, 0), *relatives(5, 7), "A" * 50]
    together = predicted(classifier, sequences).conformal_p_value
    assert together is not None
    for sequence, p in zip(sequences, together, strict=True):
        alone = predicted(classifier, [sequence]).conformal_p_value
        assert alone is not None and alone[0] == pytest.approx(p, abs=2 / 121)


def test_the_card_says_how_many_pass(classifier: Predictor) -> None:
    found = classifier.info["out_of_distribution"]["unflagged"]
    assert {
        "members of its classes",
        "dinucleotide shuffles",
        "pieces of coding sequences",
        "low complexity",
        "test rows of other classes",
    } == set(found)
    assert found["members of its classes"]["n"] == 120 and found["test rows of other classes"]["n"] == 40
    for name, row in found.items():
        assert f"| {name} | {row['n']} | {row['unflagged']:.1%} |" in classifier.card
    assert "| one | 40 | 40 | 40 | 100% of 40 |" in classifier.card


def test_the_flag_stands_in_answers_and_tables(classifier: Predictor) -> None:
    sequences = [relatives(200, 1)[-1], "A" * 50]
    found = predicted(classifier, sequences)
    answers = answers_of(found, 2)
    assert [answer["out_of_distribution"] for answer in answers] == [False, True]
    result = prediction_result(answers, "kin")
    assert [row["out_of_distribution"] for row in result.to_dicts()] == [False, True]
    marked = ["out of distribution" in cells[0] for cells in result.table()[1]]
    assert marked == [False, True]


def test_no_detector_without_fifty_held_out_rows(table: Path, tmp_path: Path, nano_model_path: Path) -> None:
    rows = pq.read_table(table).to_pylist()
    few = [row for i, row in enumerate(rows) if row["split"] == "test" or i % 3 == 0]  # 80: two folds of five are 32
    pq.write_table(pa.Table.from_pylist(few), tmp_path / "few.parquet")
    data = DataConfig((str(tmp_path / "few.parquet"),), "kind", split_column="split")
    finetune(FinetuneConfig("few", str(nano_model_path), data, str(tmp_path / "registry"), cnn=False))
    classifier = load_predictor(tmp_path / "registry" / "few")
    found = predicted(classifier, ["A" * 50])
    assert found.conformal_p_value is None and found.out_of_distribution is None
    assert "fewer than 50 held-out rows" in classifier.card


def test_a_damaged_detector_is_named(classifier: Predictor, tmp_path: Path) -> None:
    copy = tmp_path / "kin"
    shutil.copytree(classifier.folder, copy)
    (copy / FILE).write_bytes((copy / FILE).read_bytes()[:-100])
    with pytest.raises(TaskError, match=r"detector\.safetensors: missing or damaged .* Fine-tune again"):
        load_predictor(copy).predict(["ACGU" * 12])


def test_cosines_of_codes_are_those_of_vectors() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 130)).astype(np.float32)
    units = unit_vectors(vectors, vectors.mean(axis=0))
    near = unit_vectors(units[:40] + 0.05 * random.normal(size=(40, 130)).astype(np.float32), np.zeros(130, np.float32))
    exact = np.sort(near @ units.T, axis=1)[:, ::-1]
    codes = Codes.of(units)
    assert codes.packed.shape == (300, 33)
    cosines = np.concatenate(list(codes.neighbours(near)))
    found = ranked(cosines, (1, 3, 1000))
    assert np.abs(found[:, 0] - exact[:, 0]).max() < 0.1 and abs(float((found[:, 0] - exact[:, 0]).mean())) < 0.03
    assert found[:, 1] == pytest.approx(exact[:, 2], abs=0.2) and found[:, 2] == pytest.approx(exact[:, -1], abs=0.2)
    itself = np.concatenate(list(codes.neighbours(units[:3])))
    np.testing.assert_allclose(ranked(itself, (1,)), 1.0, rtol=1e-5)  # of a vector with itself
    assert nearest_rows(itself, 1).ravel().tolist() == [0, 1, 2]
    assert set(nearest_rows(cosines, 5)[0].tolist()) == set(np.argsort(cosines[0])[-5:].tolist())
    assert nearest_rows(cosines, 1000).shape == (40, 300)


def test_what_is_measured_on_is_not_what_was_fitted_on() -> None:
    lengths = [60] * 400
    fitted = set(repeats(lengths, np.random.default_rng(0)))
    measured = low_complexity(lengths, np.random.default_rng(0))
    pure = {nucleotide * 60 for nucleotide in "ACGU"}  # few mutated homopolymers have no mutation
    assert sum(sequence in fitted for sequence in measured) < 0.05 * len(measured)  # where no nucleotide was replaced
    assert all(len(sequence) == 60 for sequence in (*fitted, *measured))
    assert pure <= fitted
    pieces = coding_pieces([30, 2000], np.random.default_rng(0))
    assert len(pieces[0]) == 30 and 700 < len(pieces[1]) <= 1000 and set("".join(pieces)) == set("ACGU")
