"""Names of label columns: safe for a collection, never two alike, and told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirna.vectorstore import RESERVED, is_safe, renamed, safe_names, tell_renamed


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["family", "Family", "größe", "a b", "number", "piece"], ["family", "Family", "größe", "a b", "number", "piece"]),
        (["gene.name", "start.bp"], ["gene_name", "start_bp"]),
        (["gene.name", "gene_name"], ["gene_name_2", "gene_name"]),  # what is safe keeps its name
        (["", "family"], ["column_1", "family"]),
        (["rank", "label_rank"], ["label_rank_2", "label_rank"]),
        (["rank"], ["label_rank"]),
        (["length", "sha", "vector", "_distance"], ["label_length", "label_sha", "label_vector", "label__distance"]),
        (["a`b", 'a"b', "a\tb", "a\nb", "a\0b", "a\u200bb"], ["a_b", "a_b_2", "a_b_3", "a_b_4", "a_b_5", "a_b_6"]),
        ([" padded "], ["padded"]),
        (["*"], ["label__"]),
    ],
)
def test_names_are_made_safe(names: list[str], expected: list[str]) -> None:
    assert safe_names(names) == dict(zip(names, expected, strict=True))


@given(st.lists(st.text(max_size=8) | st.sampled_from([*RESERVED, "label_rank", "rank", "", "x" * 300]), max_size=12))
def test_safe_names_are_safe_and_differ(names: list[str]) -> None:
    found = safe_names(names)
    assert list(found) == list(dict.fromkeys(names)) and len(set(found.values())) == len(found)
    assert all(is_safe(new) for new in found.values())
    assert all(found[name] == name for name in names if is_safe(name))
    assert safe_names(list(found.values())) == {new: new for new in found.values()}


def test_what_was_renamed_is_told_in_one_line() -> None:
    names = safe_names(["", "a.b", "plain"])
    assert renamed(names) == {"": "column_1", "a.b": "a_b"}
    assert tell_renamed(names) == "columns renamed: (a column without a name) -> column_1, a.b -> a_b"
    assert tell_renamed({"a": "a"}) == ""
    many = tell_renamed(safe_names([f"a.{i}\n" for i in range(20)]))
    assert many.endswith("and 12 more") and "\n" not in many
