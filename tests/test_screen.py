"""Screening: criteria, one pass over a dirty library, the ranking against brute force, killing, the report."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import model
from unirna.job import JobError
from unirna.screen import ScreenConfig, ScreenError, screen_library
from unirna.screen.block import Reader, Scorer, piece_row, unpack
from unirna.screen.criteria import Criteria, embed_references
from unirna.screen.state import ScreenState, _concat
from unirna.sequence import normalise, plan_pieces, read
from unirna.tasks import DataConfig, FinetuneConfig, TaskError, finetune, load_predictor

COUNT = 1100  # records: more than two blocks


def random_rna(chance: random.Random) -> str:
    weights = [chance.random() + 0.2 for _ in range(4)]
    return "".join(chance.choices("ACGU", weights, k=chance.randint(20, 50)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> Path:
    """A dirty library in two files, references, and a registry with one predictor."""
    folder = tmp_path_factory.mktemp("screen")
    chance = random.Random(0)
    lines = [f">r{i} from somewhere\n{random_rna(chance)}\n" for i in range(COUNT)]
    lines[5] = ">gappy\nACG-UU\n"
    lines[600] = ">protein\nMKLVE\n"
    lines[601] = ">\nACGU\n"
    lines[700] = ">r3 the same id again, as DNA\nacgtacgtacgtacgttttt\n"
    lines[701] = f">long\n{''.join(chance.choices('ACGU', k=1500))}\n"
    lines[702] = f'><script>alert("x")</script> <img src=http://example.org/x.png>\n{random_rna(chance)}\n'
    (folder / "a.fasta").write_text("".join(lines))
    rows = [{"id": f"t{i}", "sequence": random_rna(chance), "score": f"s{i}", "note": i} for i in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "b.parquet")
    script = lines[702].split("\n")[1]
    (folder / "refs.fasta").write_text(
        f">ref1\n{rows[7]['sequence']}\n>bad\nXX\n>ref2\n{script.replace('U', 'T').lower()}\n"
    )

    table = [{"sequence": random_rna(chance)} for _ in range(150)]
    for row in table:
        row["kind"] = "rich, in <A>" if row["sequence"].count("A") > len(row["sequence"]) / 4 else "poor"
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["sequence", "kind"])
        writer.writeheader()
        writer.writerows(table)
    data = DataConfig((str(folder / "table.csv"),), "kind")
    finetune(FinetuneConfig("richness", str(nano_model_path), data, str(folder / "registry"), cnn=False))
    return folder


@pytest.fixture
def wanted(folder: Path, tmp_path: Path, nano_model_path: Path) -> ScreenConfig:
    return ScreenConfig(
        library=(str(folder / "a.fasta"), str(folder / "b.parquet")),
        out=str(tmp_path / "out"),
        similar_to=(str(folder / "refs.fasta"),),
        predict=("richness=rich, in <A>",),
        model=str(nano_model_path),
        registry=str(folder / "registry"),
        top=40,
        workers=1,
        piece_bytes=20_000,
    )


def brute_force(config: ScreenConfig, folder: Path) -> list[tuple[str, str, float, float, str, float]]:
    """Every record of the library scored at once: id, sequence, score, similarity, nearest, probability; best first."""
    encoder = model.load(config.model)
    predictor = load_predictor(folder / "registry" / "richness")
    records = []
    for record in read(list(config.library)):
        try:
            records.append((record.id, normalise(record.sequence or "")))
        except ValueError:
            continue
    records = [record for record in records if record[0]]
    references = {r.id: normalise(r.sequence or "") for r in read(config.similar_to[0]) if r.id != "bad"}

    def unit(sequences: list[str]) -> np.ndarray[Any, Any]:
        vectors = encoder.embed(sequences).astype(np.float64)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    cosines = unit([s for _, s in records]) @ unit(list(references.values())).T
    d0 = embed_references(encoder, list(references), list(references.values())).unit
    found = predictor.predict([s for _, s in records])
    chance = found.probabilities[:, found.classes.index("rich, in <A>")]
    rows = []
    for (name, sequence), cosine, p in zip(records, cosines, chance, strict=True):
        score = float(np.sqrt(d0 / (d0 + 1 - cosine.max()) * p))
        rows.append((name, sequence, score, float(cosine.max()), list(references)[int(cosine.argmax())], float(p)))
    return sorted(rows, key=lambda row: -row[2])


def test_a_screen_ranks_as_brute_force_does_and_accounts_for_every_record(
    wanted: ScreenConfig, folder: Path, ray_cluster: None, capsys: Any
) -> None:
    out = Path(wanted.out)
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    alone = replace(wanted, out=str(out.parent / "alone"))
    wanted = replace(wanted, workers=2)
    summary = screen_library(wanted)
    expected = brute_force(wanted, folder)

    assert summary["read"] == COUNT + 200 == summary["screened"] + summary["rejected"]
    assert summary["rejected_by_reason"] == {"gap": 1, "protein letter": 1, "no id": 1} and summary["windowed"] == 1
    assert "reference bad" in capsys.readouterr().err
    rejects = pq.read_table(out / "rejects.parquet").to_pylist()
    assert sorted((r["id"], r["reason"]) for r in rejects) == [
        ("", "no id"),
        ("gappy", "gap"),
        ("protein", "protein letter"),
    ]

    ranked = pq.read_table(out / "ranked.parquet").to_pylist()
    assert [row["rank"] for row in ranked] == list(range(1, 41))
    for row, (name, sequence, score, cosine, nearest, chance) in zip(ranked, expected, strict=False):
        assert (row["id"], row["sequence"], row["length"], row["nearest"]) == (name, sequence, len(sequence), nearest)
        assert row["score"] == pytest.approx(score, abs=1e-4) and row["similarity"] == pytest.approx(cosine, abs=1e-5)
        assert row["richness=rich, in <A>"] == pytest.approx(chance, abs=1e-5)
    # a row says where its record stands: the file, and its place there
    place = next(row for row in ranked if row["source"].endswith("b.parquet"))
    stored = pq.read_table(folder / "b.parquet").to_pylist()[place["number"] - 1]
    assert (stored["id"], stored["score"], stored["note"]) == (place["id"], place["input_score"], place["note"])
    with (out / "ranked.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in ranked]

    # again, on one worker: the same to the last bit
    with pytest.raises(JobError, match=r"--workers 3.*2 CPUs"):
        screen_library(replace(wanted, workers=3, out=str(out.parent / "too many")))
    screen_library(alone)
    assert pq.read_table(Path(alone.out) / "ranked.parquet").equals(pq.read_table(out / "ranked.parquet"))

    # the same command again does nothing; other files are left alone, own ones replaced
    before = (out / "report.html").stat().st_mtime_ns
    assert screen_library(wanted) == summary and (out / "report.html").stat().st_mtime_ns == before
    clean = screen_library(replace(wanted, workers=1, library=(str(folder / "b.parquet"),), predict=(), top=5))
    assert clean["hits"] == 5 and clean["rejected"] == 0 and clean["best"]["id"] == "t7"
    assert sorted(p.name for p in out.iterdir()) == [
        "notes.txt", "ranked.csv", "ranked.parquet", "report.html", "screen.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_screen_goes_on_and_repeats_nothing(
    wanted: ScreenConfig, folder: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    config = replace(wanted, similar_to=(), library=(str(folder / "a.fasta"),), piece_bytes=1 << 20)
    monkeypatch.setattr("unirna.screen.job.SAVE_SECONDS", 0.0)
    taken: list[tuple[int, int]] = []
    add = ScreenState.add

    def take(self: ScreenState, row: dict[str, Any]) -> None:
        if len(taken) == 1 and deadly:
            raise KeyboardInterrupt
        taken.append((row["piece"], row["block"]))
        add(self, row)

    monkeypatch.setattr(ScreenState, "add", take)
    deadly = True
    with pytest.raises(KeyboardInterrupt):
        screen_library(config)
    assert not (Path(config.out) / "screen.json").exists()
    deadly = False
    summary = screen_library(config)
    assert "going on from" in capsys.readouterr().err
    assert sorted(taken) == [(0, 0), (0, 1), (0, 2)]  # each block once
    assert summary["read"] == COUNT and summary["rejected"] == 3
    assert pq.read_table(Path(config.out) / "rejects.parquet").num_rows == 3
    monkeypatch.undo()
    whole = replace(config, out=str(Path(config.out).parent / "whole"))
    screen_library(whole)
    one, other = (pq.read_table(Path(c.out) / "ranked.parquet") for c in (config, whole))
    assert one.equals(other)


def scored(config: ScreenConfig, folder: Path, top: int) -> list[pa.Table]:
    """The best rows that each block sends on, from one actor, without Ray."""
    references = embed_references(model.load(config.model), ["a"], ["ACGUACGUAAUUGGCC"])
    scorer = Scorer(Criteria(references, (), {references.fingerprint: config.model}), top)
    reader = Reader("id", "sequence", {}, {})
    found = []
    for number, piece in enumerate(plan_pieces(str(folder / "a.fasta"))):
        for block in reader.blocks(pa.Table.from_pylist([piece_row(number, piece)])):
            found += [unpack(row["top"]) for row in scorer(block).to_pylist()]
    return found


def test_few_rows_travel_and_the_best_are_among_them(wanted: ScreenConfig, folder: Path) -> None:
    whole = pa.concat_tables(scored(wanted, folder, top=10_000), promote_options="default")
    assert whole.num_rows == COUNT - 3
    order = [("score", "descending"), ("id", "ascending")]
    best = whole.sort_by(order)["id"].to_pylist()[:20]
    sent = scored(wanted, folder, top=20)
    assert sent[0].num_rows == 20 and sum(t.num_rows for t in sent) < 60  # later blocks send less
    assert pa.concat_tables(sent).sort_by(order)["id"].to_pylist()[:20] == best


def test_an_empty_or_hopeless_library_is_said(wanted: ScreenConfig, tmp_path: Path, ray_cluster: None) -> None:
    (tmp_path / "bad.fasta").write_text(">a\nAC-GU\n>b\nMKL\n")
    with pytest.raises(RuntimeError, match=r"nothing to rank: 2 records read, 2 rejected"):
        screen_library(replace(wanted, library=(str(tmp_path / "bad.fasta"),), similar_to=()))
    assert pq.read_table(Path(wanted.out) / "rejects.parquet").num_rows == 2


def test_a_file_that_cannot_be_read_is_named(wanted: ScreenConfig, folder: Path, ray_cluster: None) -> None:
    with pytest.raises(ScreenError, match=r"b.parquet: has no column 'rna'. It has: id, sequence.*--sequence-column"):
        screen_library(replace(wanted, library=(str(folder / "b.parquet"),), sequence_column="rna", similar_to=()))


def test_the_report_loads_nothing_and_runs_nothing(wanted: ScreenConfig, folder: Path, ray_cluster: None) -> None:
    screen_library(replace(wanted, predict=(), library=(str(folder / "a.fasta"),), top=3, piece_bytes=1 << 20))
    page = (Path(wanted.out) / "report.html").read_text()
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page  # the best hit: a reference is its copy
    tags = re.findall(r"<[^>]*>", page)
    assert not [tag for tag in tags if re.match(r"<(script|link|img|iframe|object|embed)\b", tag)]
    assert not [tag for tag in tags if re.search(r"\b(src|href|xlink:href)\b", tag)] and "@import" not in page
    assert "url(" not in page.replace("url(#cut)", "")
    for words in ("1,100 read = 1,097 screened + 3 rejected", "top 3:", "<svg", "ref2", "protein letter", "d0 / (d0 + 1"):
        assert words in page
    histogram = sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) records</title>", page))
    assert histogram == 1097


def test_criteria_that_do_not_exist_are_refused(wanted: ScreenConfig) -> None:
    with pytest.raises(TaskError, match=r"no predictor 'colour' in .*It holds: richness"):
        screen_library(replace(wanted, predict=("colour=red",)))
    with pytest.raises(ScreenError, match=r"no label 'rich'. It has: poor, rich, in <A>"):
        screen_library(replace(wanted, predict=("richness=rich",)))
    with pytest.raises(ScreenError, match="expected task=label"):
        screen_library(replace(wanted, predict=("richness",)))
    with pytest.raises(ScreenError, match="no criterion"):
        screen_library(replace(wanted, predict=(), similar_to=()))
    with pytest.raises(ScreenError, match="--model"):
        screen_library(replace(wanted, model=""))
    with pytest.raises(ScreenError, match="top is 0"):
        screen_library(replace(wanted, top=0))


def test_similarity_is_one_for_a_reference_and_a_half_for_random_rna(nano_model_path: Path) -> None:
    encoder = model.load(nano_model_path)
    chance = random.Random(5)
    sequences = [random_rna(chance) for _ in range(20)]
    references = embed_references(encoder, [f"r{i}" for i in range(20)], sequences)
    cosines, which = references.nearest(encoder.embed(sequences[::-1]))
    assert which.tolist() == list(range(20))[::-1]
    np.testing.assert_allclose(references.desirability(cosines), 1.0, atol=1e-3)
    others = encoder.embed(["".join(chance.choices("ACGU", k=len(s))) for s in sequences * 10])
    assert np.median(references.desirability(references.nearest(others)[0])) == pytest.approx(0.5, abs=0.1)


def test_labels_of_different_types_become_text() -> None:
    one = pa.table({"id": ["a"], "note": [1], "more": ["x"]})
    other = pa.table({"id": ["b"], "note": ["two"]})
    assert _concat(one, other).to_pylist() == [
        {"id": "a", "note": "1", "more": "x"},
        {"id": "b", "note": "two", "more": None},
    ]


def test_the_state_is_saved_and_only_its_own_recipe_is_restored(tmp_path: Path) -> None:
    state = ScreenState(tmp_path / "work", {"a": 1}, 5)
    counts = {"read": 4, "screened": 4, "rejected": {}, "nucleotides": 40, "windowed": 0, "histogram": [4] + [0] * 49}
    for block in (0, 2, 1, 1):  # one comes twice
        row = {
            "piece": 0,
            "block": block,
            "last": block == 2,
            "bytes": 9,
            "rejects": b"",
            "top": b"",
            "types": json.dumps({"n": "integer"}),
        }
        state.add({**row, "counts": json.dumps(counts)})
    assert state.counts["read"] == 12 and state.finished(0)
    state.save()
    same, other = ScreenState(tmp_path / "work", {"a": 1}, 5), ScreenState(tmp_path / "work", {"a": 2}, 5)
    assert same.restore() and same.counts == state.counts and same.done == {0: {0, 1, 2}} and same.finished(0)
    assert same.types.types == state.types.types == {"n": pa.int64()}
    assert not other.restore() and other.counts["read"] == 0 and not same.restore()


def test_a_predictor_that_reads_the_middle_screens_by_the_middle(
    folder: Path, wanted: ScreenConfig, nano_model_path: Path, tmp_path: Path
) -> None:
    from unirna.screen.block import Scorer
    from unirna.screen.job import _criteria

    data = DataConfig((str(folder / "table.csv"),), "kind")
    settings = FinetuneConfig("middle", str(nano_model_path), data, str(tmp_path), pooling="centre", cnn=False)
    finetune(settings)
    criteria = _criteria(replace(wanted, registry=str(tmp_path), predict=("middle=poor",)))
    models = Scorer(criteria, 5).models
    assert sorted(found.pooling for found in models.values()) == ["centre", "mean"]  # the references' are means
