"""Contacts in space, from pair probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from unirna.fold import ContactHead, FoldError, fit_contacts, load_structure_predictor, precision_at_length
from unirna.fold.contacts import APART, features
from unirna.model import SHIPPED

NONE = np.zeros((0, 2), np.int64)
TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"


def helix(length: int, first: int, last: int, size: int) -> np.ndarray:
    """Pair probabilities of one sure helix."""
    matrix = np.zeros((length, length), np.float32)
    for k in range(size):
        matrix[first + k, last - k] = 1.0
    return matrix


def test_a_head_learns_that_neighbours_of_pairs_are_close() -> None:
    random = np.random.default_rng(0)
    folds, known = [], []
    for _ in range(40):
        first, size = int(random.integers(0, 8)), int(random.integers(4, 8))
        matrix = helix(40, first, 39 - int(random.integers(0, 8)), size)
        pairs = matrix + matrix.T
        close = pairs > 0
        close[:-1] |= pairs[1:] > 0  # one nucleotide beside a pair's is close to its partner
        close[:, :-1] |= pairs[:, 1:] > 0
        folds.append((matrix, NONE))
        known.append(close | close.T)
    head = fit_contacts(folds[:30], known[:30])
    for (matrix, crossing), close in zip(folds[30:], known[30:], strict=True):
        found = head.probabilities(matrix, crossing)
        i, j = np.triu_indices(40, APART)
        assert ((found[i, j] > 0.5) == close[i, j]).mean() > 0.98
        assert np.array_equal(found, found.T) and not found[np.abs(np.subtract.outer(range(40), range(40))) < APART].any()


def test_probabilities_are_the_logistic_function_of_the_features() -> None:
    random = np.random.default_rng(1)
    matrix = np.triu(random.random((15, 15)) * 0.05, 4).astype(np.float32)
    crossing = np.array([[2, 9]])
    read = np.stack([np.broadcast_to(f, (15, 15)) for f in features(matrix, crossing)])
    head = ContactHead(random.normal(size=len(read)).astype(np.float32), np.array([0.3], np.float32))
    found = head.probabilities(matrix, crossing)
    for i, j in ((0, 6), (2, 9), (3, 14)):
        assert found[i, j] == pytest.approx(expit(read[:, i, j] @ head.weight + 0.3), abs=1e-5)
    middle = read[:, 2, 9]
    assert 0.5 in middle  # the pair of the crossing helix
    assert np.isclose(middle, matrix[1, 8]).any() and np.isclose(middle, np.log(7)).any()
    assert found.shape == (15, 15) and ContactHead(head.weight, head.bias).probabilities(matrix[:3, :3], NONE).max() == 0


def test_precision_counts_the_best_pairs_six_apart() -> None:
    scores = np.zeros((8, 8), np.float32)
    scores[0, 6], scores[0, 7], scores[0, 1] = 2.0, 3.0, 9.0
    contacts = np.zeros((8, 8), bool)
    contacts[0, 7] = contacts[0, 1] = True
    assert precision_at_length(scores, contacts) == pytest.approx(1 / 3)  # of the three pairs six apart


def test_the_shipped_head_knows_the_clover_leaf_and_is_read_back(tmp_path: Path) -> None:
    predictor = load_structure_predictor()
    (found,) = predictor.fold([TRNA])
    close = predictor.contacts(found)
    assert close[0, 71] > 0.9 and close[1, 71] > 0.8 and close[10, 60] < 0.3 and close.shape == (76, 76)
    again = load_structure_predictor(predictor.save(tmp_path / "kept"), model=predictor.model)
    np.testing.assert_array_equal(again.contacts(found), close)
    (tmp_path / "kept" / "contacts.safetensors").write_bytes(b"no")
    with pytest.raises(FoldError, match=r"no valid contacts.safetensors.*recipes/contacts.py"):
        load_structure_predictor(tmp_path / "kept", model=predictor.model)
    (tmp_path / "kept" / "contacts.safetensors").unlink()
    with pytest.raises(FoldError, match="no head for contacts"):
        load_structure_predictor(tmp_path / "kept", model=predictor.model).contacts(found)
    assert (SHIPPED / "predictors" / "secondary-structure" / "contacts.safetensors").stat().st_size < 2_000
