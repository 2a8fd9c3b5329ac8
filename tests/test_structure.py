"""Secondary structures survive every notation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirna.sequence import (
    Structure,
    StructureError,
    parse_bpseq,
    parse_ct,
    parse_dot_bracket,
    write_bpseq,
    write_ct,
    write_dot_bracket,
)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Any pairing of up to 24 nucleotides, pseudoknots of every kind included."""
    length = draw(st.integers(1, 24))
    order = draw(st.permutations(range(length)))
    count = draw(st.integers(0, length // 2))
    pairs = [tuple(sorted(order[2 * n : 2 * n + 2])) for n in range(count)]
    return Structure(draw(st.text("ACGU", min_size=length, max_size=length)), np.array(pairs, np.int64).reshape(-1, 2))


@given(structures())
def test_round_trips(structure: Structure) -> None:
    text = write_dot_bracket(structure.pairs, len(structure.sequence))
    assert len(text) == len(structure.sequence)
    np.testing.assert_array_equal(parse_dot_bracket(text), structure.pairs)
    for write, parse in ((write_ct, parse_ct), (write_bpseq, parse_bpseq)):
        back = parse(write(structure))
        assert back.sequence == structure.sequence
        np.testing.assert_array_equal(back.pairs, structure.pairs)


def test_known_structures() -> None:
    assert parse_dot_bracket("((..[[..))..]]").tolist() == [[0, 9], [1, 8], [4, 13], [5, 12]]
    assert parse_dot_bracket("<(>)").tolist() == [[0, 2], [1, 3]]
    assert parse_dot_bracket("(AA)aa").tolist() == [[0, 3], [1, 5], [2, 4]]
    assert write_dot_bracket([(0, 9), (1, 8), (4, 13), (5, 12)], 14) == "((..[[..))..]]"
    assert write_dot_bracket([], 3) == "..."
    assert parse_ct("3 x y\n1 G 0 2 3 1\n2 A 1 3 0 2\n3 C 2 0 1 3\n").name == "x y"


@pytest.mark.parametrize(
    ("text", "says"),
    [("((.)", "position 1.*never closed"), (".)", "position 2.*closes nothing"), ("(?)", "position 2.*no dot-bracket")],
)
def test_bad_dot_bracket(text: str, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        parse_dot_bracket(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2 x\n1 G 0 2 2 1\n2 C 1 0 0 2\n", "does not pair back"),
        ("3 x\n1 G 0 2 0 1\n", "1 lines follow"),
        ("2 x\n1 G 0 2 0 1\n3 C 1 0 0 2\n", "nucleotide 2 is wanted"),
        ("", "starts with the number"),
        ("1 x\n1 G 0\n", "columns"),
    ],
)
def test_bad_ct(text: str, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        parse_ct(text)


def test_pairs_are_checked() -> None:
    with pytest.raises(StructureError, match="more than one pair"):
        write_dot_bracket([(0, 3), (3, 5)], 6)
    with pytest.raises(StructureError, match="outside"):
        write_dot_bracket([(0, 6)], 6)
