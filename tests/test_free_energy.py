"""Free energies by the published parameters: those of RNAeval (ViennaRNA 2.8, -d2), and errors."""

import numpy as np
import pytest

from unirna.fold import free_energy
from unirna.sequence import parse_dot_bracket

RNAEVAL = [
    ("GGGGAAAACCCC", "((((....))))", -5.40),
    ("GGCUUCGGCC", "(((....)))", -3.00),
    ("GGCAACGCC", "(((...)))", 0.10),
    ("GGACAGUGCUCC", "(((......)))", -2.80),
    ("GGUGAAAAGGCC", "(((......)))", -1.50),
    ("AGGGAGGAUAAUCCCCCU", "((((.(((...)))))))", -7.50),
    ("GGGAAACGGAUAAUCCCCC", "(((....(((...))))))", -2.80),
    ("GGUAGGAGAAAUCCGGCC", "(((.(((....))).)))", -5.90),
    ("GGUAGGAGAAAUCCGAGCC", "(((.(((....)))..)))", -5.20),
    ("GGUAGGGAGAAAUCCGGCC", "(((..(((....))).)))", -5.20),
    ("GGUAGCGAGAAAUCGAAGCC", "(((..(((....)))..)))", -5.80),
    ("GGUACGAGAAAUCGAAGUGCC", "(((.(((....)))....)))", -1.70),
    ("GGUAGCGAGAAAUCGGAAGCC", "(((..(((....)))...)))", -3.60),
    ("GGUAGAACGAGAAAUCGGAAAAAAAGAGCC", "(((....(((....)))..........)))", -0.60),
    ("UGGAGCGAAAGCGCAAAAGCAUCCU", ".((.((....))((....))..)).", -1.70),
    (
        "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA",
        "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))....",
        -21.00,
    ),
    ("GGGGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACCCC", "((((........................................))))", -2.99),
    (
        "GGGGAAAAAAAAAAAAAAAAAAAAGGCAAAGCCUUUUUUUUUUUUUUUUUUUUCCCC",
        "((((....................(((...)))....................))))",
        -7.19,
    ),
    ("UGGNAANCCA", "((......))", 2.30),
    ("UGGNAANCCA", ".((....)).", 0.30),
]
"""Sequence, structure, kcal/mol: hairpins with and without an energy of their own, bulges, interior loops of every table, a
multiloop, open ends, loops of more than 30, nucleotides that are not known. `benchmarks/free_energy.py` compares many."""


@pytest.mark.parametrize(("sequence", "structure", "expected"), RNAEVAL)
def test_energies_are_those_of_rnaeval(sequence: str, structure: str, expected: float) -> None:
    assert free_energy(sequence, parse_dot_bracket(structure)) == pytest.approx(expected, abs=0.005)


def test_no_pair_has_no_energy() -> None:
    assert free_energy("ACGU", np.zeros((0, 2), int)) == 0
    assert free_energy("", np.zeros((0, 2), int)) == 0


@pytest.mark.parametrize(
    ("sequence", "structure", "says"),
    [
        ("GAAAAA", "(....)", r"nucleotides 1 and 6 \(G-A\) have no pairing energy"),
        ("GAAC", "(..)", "nucleotides 1 and 4 are too close"),
        ("GGAAACCAACC", "([...)....]", "crosses others"),
    ],
)
def test_structures_without_an_energy(sequence: str, structure: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        free_energy(sequence, parse_dot_bracket(structure))
