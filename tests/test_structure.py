"""Secondary structures survive every notation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirna.sequence import (
    Structure,
    StructureError,
    parse_bpseq,
    parse_bpseq_all,
    parse_ct,
    parse_ct_all,
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
    letters = draw(st.text("ACGU", min_size=length, max_size=length))
    return Structure(letters, np.array(pairs, np.int64).reshape(-1, 2), draw(st.sampled_from(NAMES)))


NAMES = ["", "x", "5S rRNA", "1 G two", "dG = -1.2\ttest", "a\nb", "Escherichia coli (β)"]


@given(structures())
def test_round_trips(structure: Structure) -> None:
    text = write_dot_bracket(structure.pairs, len(structure.sequence))
    assert len(text) == len(structure.sequence)
    np.testing.assert_array_equal(parse_dot_bracket(text), structure.pairs)
    for write, parse in ((write_ct, parse_ct), (write_bpseq, parse_bpseq)):
        back = parse(write(structure))
        assert back.sequence == structure.sequence
        assert back.name == " ".join(structure.name.split())
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
    [("((.)", "position 1.*never closed"), (".)", "position 2.*closes nothing"), ("(?)", "position 2.*not a dot-bracket")],
)
def test_bad_dot_bracket(text: str, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        parse_dot_bracket(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2 x\n1 G 0 2 2 1\n2 C 1 0 0 2\n", "line 2: nucleotide 1 pairs with 2, but 2 does not pair back"),
        ("3 x\n1 G 0 2 0 1\n", "line 1: the title says 3 nucleotides, 1 lines follow"),
        ("1 x\n1 G 0 2 0 1\n2 C 1 0 0 2\n", "line 3: the title says 1 nucleotides, but more lines follow"),
        ("2 x\n1 G 0 2 0 1\n3 C 1 0 0 2\n", "line 3: expected nucleotide 2, got 3"),
        ("1 x\n1 G 0 2 0 1\nand so on\n", "line 3: expected a title"),
        ("", "expected a title"),
        ("only a header\n", "expected a title"),
        ("1 x\n1 G 0\n", "line 2: '1 G 0' does not have the columns"),
        ("1 x\n1 G 0 2 ² 1\n", "columns"),
        ("² x\n", "expected a title"),
    ],
)
def test_bad_ct(text: str, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        parse_ct(text)


HAIRPIN = ["1 G 0 2 5 1", "2 A 1 3 0 2", "3 A 2 4 0 3", "4 A 3 5 0 4", "5 C 4 0 1 5"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("title", "name"),
    [
        (["5 ENERGY = -1.2 test"], "ENERGY = -1.2 test"),
        (["5\tdG = -1.2\ttest"], "dG = -1.2\ttest"),
        (["   5   test  "], "test"),
        (["5"], ""),
        (["\ufeff5 test"], "test"),
        (["# a comment", "", "5 test"], "test"),
        (["# a name", "5"], "a name"),
        (["Filename: x.ct", "Organism: y", "5"], "Filename: x.ct Organism: y"),
    ],
)
def test_titles_of_a_ct_file(title: list[str], name: str, end: str) -> None:
    rows = [HAIRPIN[0], "", *(row.replace(" ", "\t") for row in HAIRPIN[1:3]), "# a comment", *HAIRPIN[3:], "", "# the end"]
    found = parse_ct(end.join([*title, *rows, ""]))
    assert (found.sequence, found.pairs.tolist(), found.name) == ("GAAAC", [[0, 4]], name)


def test_no_structure_of_a_ct_file_is_lost() -> None:
    open_chain = [row.replace("5 1", "0 1").replace("1 5", "0 5") for row in HAIRPIN]
    text = "\n".join(["5 first", *HAIRPIN, "", "5 second", *open_chain])
    first, second = parse_ct_all(text)
    assert (first.name, first.pairs.tolist()) == ("first", [[0, 4]])
    assert (second.name, second.pairs.tolist()) == ("second", [])
    with pytest.raises(StructureError, match="holds 2 structures, expected one: read them with parse_ct_all"):
        parse_ct(text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "title",
    [[], ["# x y"], ["Filename: x.bpseq", "Organism: y", ""], ["16 S rRNA"], ["120 nucleotides"], ["", "#", "Citation: z"]],
)
def test_titles_of_a_bpseq_file(title: list[str], end: str) -> None:
    rows = ["1 G 5", "2\tA\t0", "", "# a comment", "3 A 0", "4 A 0", "5 C 1", ""]
    found = parse_bpseq(end.join([*title, *rows]))
    assert (found.sequence, found.pairs.tolist()) == ("GAAAC", [[0, 4]])
    assert found.name == " ".join(" ".join(title).replace("#", "").split())


def test_no_structure_of_a_bpseq_file_is_lost() -> None:
    text = "# first\n1 G 5\n2 A 0\n3 A 0\n4 A 0\n5 C 1\nSecond\n1 G 0\n# third\n1 A 0\n2 C 0\n"
    assert [(s.name, s.sequence) for s in parse_bpseq_all(text)] == [("first", "GAAAC"), ("Second", "G"), ("third", "AC")]
    with pytest.raises(StructureError, match="holds 3 structures"):
        parse_bpseq(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected lines"),
        ("Filename: x\n", "expected lines .* below 'Filename: x'"),
        ("1 G 0\nand so on\n", "below 'and so on'"),
        ("1 G 0\nx\n2 G 0\n", "line 3: expected nucleotide 1, got 2"),
        ("1 G 0\n3 G 0\n", "line 2: expected nucleotide 2, got 3"),
        ("1 G 0\n2 G\n", "line 2: '2 G' does not have the columns"),
        ("1 G 2\n2 G 0\n", "line 1: nucleotide 1 pairs with 2"),
    ],
)
def test_bad_bpseq(text: str, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        parse_bpseq(text)


def test_pairs_are_checked() -> None:
    with pytest.raises(StructureError, match="more than one pair"):
        write_dot_bracket([(0, 3), (3, 5)], 6)
    with pytest.raises(StructureError, match="outside"):
        write_dot_bracket([(0, 6)], 6)
