"""Hard constraints: the sums under them against an enumeration of all structures, and the notation."""

import numpy as np
import pytest

from tests.test_fold import all_structures, random_energies
from unirna.fold import (
    ConstraintError,
    Fold,
    NoStructureError,
    StructurePredictor,
    fold_all,
    read_constraint,
)
from unirna.fold.count import count_structure
from unirna.fold.network import NetworkConfig, PairNetwork
from unirna.model import initialise


def satisfies(pairs: list[tuple[int, int]], text: str) -> bool:
    """Whether a structure does what each character of a constraint says, read one by one."""
    partner = dict(pairs) | {j: i for i, j in pairs}
    stack = []
    for place, mark in enumerate(text):
        other = partner.get(place)
        if (mark == "x") != (other is None) and mark != ".":
            return False
        if (mark == "<" and other < place) or (mark == ">" and other > place):
            return False
        if mark == "(":
            stack.append(place)
        if mark == ")" and other != stack.pop():
            return False
    return True


CASES = [
    ("GGGAAACCC", "|........"),
    ("GGGAAACCC", ".x......."),
    ("GGCAAAGCAGCAAAGCCC", "..(...)..<........"),
    ("GGCAAAGCAGCAAAGCCC", "<<......x.......>>"),
    ("GAGGAAACCAAGGNAACCUAC", "|.x.....|...x...>...."),
    ("GCGGAAACAGCAAAGGCAAAGCC", "(....................)."),
    ("GCGGAAACAGCAAAGGCAAAGCC", ".|.............||......"),
    ("GCGCAAAGAGCAAAGCAACGC", "|.||................."),
]


@pytest.mark.parametrize(("sequence", "text"), CASES)
def test_sums_under_a_constraint(sequence: str, text: str) -> None:
    energies = random_energies(len(sequence))
    extra = np.random.default_rng(1).normal(0, 1, (len(sequence),) * 2)
    constraint = read_constraint(text, sequence)
    assert constraint is not None
    structures = [pairs for pairs in all_structures(sequence) if satisfies(pairs, text)]
    masked = np.where(constraint.allowed, extra, -np.inf)
    if not structures:
        with pytest.raises(NoStructureError):
            fold_all(sequence, energies, masked, forced=constraint.forced)
        return
    counted = np.array([count_structure(sequence, np.array(pairs, int).reshape(-1, 2)).flat() for pairs in structures])
    scores = counted @ energies.flat() + [sum(extra[i, j] for i, j in pairs) for pairs in structures]
    log_z = np.logaddexp.reduce(scores)
    weights = np.exp(scores - log_z)
    expected = np.zeros_like(extra)
    for weight, pairs in zip(weights, structures, strict=True):
        for i, j in pairs:
            expected[i, j] += weight
    found = fold_all(sequence, energies, masked, forced=constraint.forced, counts=True)
    assert found.log_z == pytest.approx(log_z, abs=1e-9)
    np.testing.assert_allclose(found.pairs, expected, atol=1e-9)
    assert found.counts is not None
    np.testing.assert_allclose(found.counts.flat(), weights @ counted, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_sums_where_random_nucleotides_have_to_pair(seed: int) -> None:
    random = np.random.default_rng(seed)
    sequence = "".join(random.choice(list("GGCCAU"), 18))
    forced = random.random(18) < 0.15
    energies, extra = random_energies(seed), random.normal(0, 1, (18, 18))
    structures = [
        s for s in all_structures(sequence) if set(np.flatnonzero(forced)) <= {place for pair in s for place in pair}
    ]
    if not structures:
        with pytest.raises(NoStructureError):
            fold_all(sequence, energies, extra, forced=forced)
        return
    scores = [
        count_structure(sequence, np.array(s, int).reshape(-1, 2)).flat() @ energies.flat() + sum(extra[p] for p in s)
        for s in structures
    ]
    found = fold_all(sequence, energies, extra, forced=forced)
    assert found.log_z == pytest.approx(np.logaddexp.reduce(scores), abs=1e-9)
    either = found.pairs.sum(axis=0) + found.pairs.sum(axis=1)
    np.testing.assert_allclose(either[forced], 1, atol=1e-9)


@pytest.fixture(scope="module")
def predictor() -> StructurePredictor:
    model = initialise("nano", seed=0, device="cpu")
    return StructurePredictor(model, PairNetwork(NetworkConfig(model.dimension)), random_energies(0), {"gamma": 2.0})


def pairs_of(found: Fold) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in found.nested]


def test_the_structure_satisfies_the_constraint(predictor: StructurePredictor) -> None:
    random = np.random.default_rng(5)
    tried = 0
    for _ in range(60):
        sequence = "".join(random.choice(list("GGCAU"), 40))
        text = "".join(random.choice(list("." * 30 + "x|<>"), 40))
        try:
            (found,) = predictor.fold([sequence], constraints=[text])
        except ConstraintError:
            continue
        assert satisfies(pairs_of(found), text), (sequence, text, found.dot_bracket)
        tried += 1
    assert tried > 5
    (free,) = predictor.fold(["GGGGAAAACCCCAGGGGAAAACCCC"])
    (same,) = predictor.fold(["GGGGAAAACCCCAGGGGAAAACCCC"], constraints=["." * 25])
    np.testing.assert_array_equal(free.matrix, same.matrix)


def test_a_forced_pair_comes_and_others_are_kept_out(predictor: StructurePredictor) -> None:
    sequence = "GGGGAAAACCCCAGGGGAAAACCCC"
    (found,) = predictor.fold([sequence], constraints=["(.......................)"])
    assert (0, 24) in pairs_of(found) and found.matrix[0, 24] == pytest.approx(1)
    (none,) = predictor.fold([sequence], constraints=["x" * 25])
    assert none.dot_bracket == "." * 25 and none.free_energy == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("...", "3 characters for 12 nucleotides"),
        ("(.........?)", r"position 11: '\?' is none of"),
        ("(...........", r"position 1: '\(' is never closed"),
        ("...........)", r"position 12: '\)' closes nothing"),
        ("(..)........", r"positions 1 and 4 \(G-G\) are too close"),
        ("(...).......", r"positions 1 and 5 \(G-A\) cannot pair"),
        ("....|.......", "position 5: A has no nucleotide to pair with"),
        (">...........", "position 1: G has no nucleotide to pair with"),
    ],
)
def test_constraints_that_are_not_valid(text: str, says: str) -> None:
    with pytest.raises(ConstraintError, match=says):
        read_constraint(text, "GGGGAAAACCCC")


def test_whose_constraint_is_wrong_is_said(predictor: StructurePredictor) -> None:
    two = ["GGGGAAAACCCC", "GGGGAAAACCCC"]
    with pytest.raises(ConstraintError, match="constraint 1: 3 characters") as caught:
        predictor.fold(two, constraints=[None, "..."])
    assert caught.value.number == 1
    with pytest.raises(ConstraintError, match="expected a list of 2 constraints"):
        predictor.fold(two, constraints=["...."])
    with pytest.raises(ConstraintError, match="constraint 1: no structure pairs all"):  # C4 pairs with G13 alone
        predictor.fold(["GGGGAAAACCCC", "GAACAAAAACAAG"], constraints=["", "(..|.....)..."])
