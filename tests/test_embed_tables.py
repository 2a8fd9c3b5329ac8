"""Tables as people have them: their column names, types and encodings go into a collection, or are refused before work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import vectorstore
from unirna.embed import EmbedConfig, embed_collection
from unirna.sequence import InputError
from unirna.vectorstore import StoreError


def embed(tmp_path: Path, model: Path, *inputs: Path, **options: Any) -> dict[str, Any]:
    config = EmbedConfig(tuple(map(str, inputs)), "c", str(tmp_path / "store"), str(model), workers=1, **options)
    return embed_collection(config)


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """What a search finds: a collection that nothing can be found in is none."""
    opened = vectorstore.open(str(tmp_path / "store"), "c")
    found = opened.search(np.ones(opened.info.dimension, np.float32), k=100)
    return sorted(found.to_pylist(), key=lambda row: row["id"])


def test_any_name_goes_into_a_collection(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["", "gene.name", "rank", "label_rank", "number", "piece", "length", "_rowid", "a`b", "Family", "family"]
    path = tmp_path / "t.csv"
    path.write_text(",".join(["id", "sequence", *names]) + "\nr1,ACGU," + ",".join(map(str, range(len(names)))) + "\n")
    summary = embed(tmp_path, nano_model_path, path)
    stored = ["column_3", "gene_name", "label_rank_2", "label_rank", "number", "piece", "label_length", "label__rowid"]
    stored += ["a_b", "Family", "family"]
    (row,) = rows(tmp_path)
    assert {name: row[name] for name in stored} == {name: i for i, name in enumerate(stored)} and row["length"] == 4
    assert summary["renamed_labels"]["gene.name"] == "gene_name" and summary["renamed_labels"]["rank"] == "label_rank_2"
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("columns renamed")]
    assert len(told) == 1 and "(a column without a name) -> column_3, gene.name -> gene_name" in told[0]
    assert embed(tmp_path, nano_model_path, path)["unchanged"] == 1
    # a name that the collection lacks is refused before anything is read
    other = tmp_path / "other.csv"
    other.write_text("id,sequence,new.name\nr2,ACGU,1\n")
    capsys.readouterr()
    with pytest.raises(StoreError, match=r"has a label column 'new_name'.*--drop-labels new_name"):
        embed(tmp_path, nano_model_path, other)
    assert "scanning" not in capsys.readouterr().err


def test_types_are_those_of_all_text_and_missing_values_are_one(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("id,sequence,chrom,n,country,late\na,ACGU,1,1,NA,1\nb,ACG,2,,nan,NA\n")
    (tmp_path / "b.csv").write_text("id,sequence,chrom,n,country,late\nc,AC,X,0.5,Chad,2\nd,CC,007,NA,,x\n")
    pq.write_table(pa.table({"id": ["e"], "sequence": ["GG"], "chrom": ["Y"], "n": [3.0]}), tmp_path / "c.parquet")
    inputs = [tmp_path / name for name in ("a.csv", "b.csv", "c.parquet")]
    embed(tmp_path, nano_model_path, *inputs, column_type=("late=text",))
    found = rows(tmp_path)
    assert [row["chrom"] for row in found] == ["1", "2", "X", "007", "Y"]
    assert [row["n"] for row in found] == [1.0, None, 0.5, None, 3.0]
    assert [row["country"] for row in found] == [None, None, "Chad", None, None]
    assert [row["late"] for row in found] == ["1", "NA", "2", "x", None]
    err = capsys.readouterr().err
    assert "NA, nan read as no value in column country (2); --column-type country=text keeps them" in err
    # what is added later takes the types that are there
    (tmp_path / "later.csv").write_text("id,sequence,chrom,n\nz,UU,3,4\n")
    embed(tmp_path, nano_model_path, tmp_path / "later.csv")
    assert (rows(tmp_path)[-1]["chrom"], rows(tmp_path)[-1]["n"]) == ("3", 4.0)


def test_encodings(ray_cluster: None, nano_model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("id,sequence,käfer\nä,ACGU,größer\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.csv: line 1 is not UTF-8.*--encoding latin-1"):
        embed(tmp_path, nano_model_path, path)
    embed(tmp_path, nano_model_path, path, encoding="latin-1")
    (row,) = rows(tmp_path)
    assert (row["id"], row["käfer"]) == ("ä", "größer")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"column_type": ("absent=text",)}, r"--column-type absent: no input has a column of that name. They have: id"),
        ({"drop_labels": ("absent",)}, "--drop-labels absent: no input has"),
        ({"column_type": ("n=words",)}, "--column-type n=words: expected NAME=TYPE"),
        ({"encoding": "none-such"}, "--encoding none-such: no such encoding"),
    ],
)
def test_settings_are_checked_before_any_work(
    nano_model_path: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    (tmp_path / "t.csv").write_text("id,sequence,n\na,ACGU,1\n")
    with pytest.raises(ValueError, match=says):
        embed(tmp_path, nano_model_path, tmp_path / "t.csv", **options)


def test_an_export_goes_back_in(ray_cluster: None, nano_model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,sequence,n\na,ACGU,1\n")
    embed(tmp_path, nano_model_path, tmp_path / "t.csv")
    whole = vectorstore.open(str(tmp_path / "store"), "c").dataset.to_table()
    pq.write_table(whole, tmp_path / "export.parquet")
    summary = embed(tmp_path, nano_model_path, tmp_path / "export.parquet")
    assert (summary["unchanged"], summary["replaced_labels"]) == (1, ["length", "sha", "vector"])
