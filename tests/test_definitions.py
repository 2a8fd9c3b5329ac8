"""Tasks on public data: their definitions, what they read, and the page of results."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import tasks
from unirna.sequence import InputError
from unirna.tasks import (
    TASKS,
    FinetuneConfig,
    FullConfig,
    TaskError,
    definitions,
    find_definition,
    finetune,
    load_predictor,
    prepare,
    read_labelled,
)
from unirna.tasks.definition import grouped_split

ROOT = Path(__file__).resolve().parent.parent
LINES = 75
"""Of a file that defines a task, for each task kind in it."""


def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("tasks_recipe", ROOT / "recipes" / "tasks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_definition_is_whole_and_short() -> None:
    metrics = {
        numeric: {m.name for t in TASKS.values() if t.numeric == numeric for m in t.metrics} for numeric in (True, False)
    }
    for name, definition in definitions().items():
        assert name == definition.name and definition.predicts and definition.about and definition.get
        assert definition.metric in metrics[definition.numeric], name
        assert not definition.each or definition.level == "nucleotide", name
        assert bool(definition.unit) == definition.numeric, name
        settings = dict(definition.training)
        assert settings.pop("mode") in ("frozen", "lora", "full") and settings.pop("pooling", "mean") in ("mean", "centre")
        assert settings.pop("cnn_ensemble_size", 1) >= 1 and settings.pop("coding", True)
        FullConfig(**settings)
    for path in (Path(tasks.__file__).parent / "datasets").glob("[!_]*.py"):
        text = path.read_text()
        assert len(text.splitlines()) < LINES * text.count("Definition("), path.name
    with pytest.raises(TaskError, match=r"no data set 'splice'. There are: .*splice_site"):
        find_definition("splice")


def test_a_file_of_another_kind_is_told_from_the_right_one(tmp_path: Path) -> None:
    definition = find_definition("splice_site")
    pq.write_table(pa.table({"sequence": ["ACGU"], "kind": ["ei"]}), tmp_path / "other.parquet")
    (tmp_path / "text.csv").write_text("sequence,label_name\nACGU,ei\n")
    for name in ("other.parquet", "text.csv", "absent.parquet"):
        with pytest.raises(InputError, match=r"is not what splice_site reads .*Expected the UCI"):
            prepare(definition, tmp_path / name, tmp_path / "work")
    pq.write_table(
        pa.table({"sequence": pa.array([], pa.string()), "label_name": pa.array([], pa.string())}),
        tmp_path / "none.parquet",
    )
    with pytest.raises(InputError, match="has no row"):
        prepare(definition, tmp_path / "none.parquet", tmp_path / "work")


def test_a_group_stands_on_one_side() -> None:
    groups = [f"gene{i}" for i in range(4000) for _ in range(2)]
    sides = grouped_split(groups)
    assert sides[::2] == sides[1::2] and sides != grouped_split(groups, seed=1)
    shares = Counter(sides)
    assert shares["test"] / 8000 == pytest.approx(0.2, abs=0.02) and shares["valid"] / 8000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.slow
def test_what_is_true_of_the_middle_is_learnt_from_the_middle(tmp_path: Path, nano_model_path: Path) -> None:
    random = np.random.default_rng(0)
    table = tmp_path / "middle.csv"
    lines = ["sequence,kind"]
    for _ in range(400):
        letters = random.choice(list("ACGU"), 41)
        lines.append(f"{''.join(letters)},{'purine' if letters[20] in 'AG' else 'pyrimidine'}")
    table.write_text("\n".join(lines) + "\n")
    data = tasks.DataConfig((str(table),), "kind")
    settings = {"model": str(nano_model_path), "data": data, "registry": str(tmp_path / "registry"), "cnn": False}
    mean = finetune(FinetuneConfig("mean", **settings))
    centre = finetune(FinetuneConfig("centre", pooling="centre", **settings))
    assert centre["accuracy"] > 0.95 > 0.8 > mean["accuracy"]
    made = finetune(FinetuneConfig("lora", mode="lora", pooling="centre", full=FullConfig(2, rank=2), **settings))
    assert made["accuracy"] > 0.95
    for name in ("centre", "lora"):
        predictor = load_predictor(tmp_path / "registry" / name)
        assert predictor.encoder.pooling == "centre" and "reads the middle nucleotide" in predictor.card
        found = predictor.predict(["A" * 20 + "C" + "G" * 20])
        assert isinstance(found, tasks.Predictions) and found.labels == ["pyrimidine"]
    assert load_predictor(tmp_path / "registry" / "mean").encoder_fingerprint != predictor.encoder_fingerprint
    assert finetune(FinetuneConfig("centre", pooling="centre", **settings)) == centre  # there already
    with pytest.raises(TaskError, match="with other settings"):
        finetune(FinetuneConfig("centre", **settings))


def test_the_job_makes_a_defined_task(tmp_path: Path, nano_model_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [("".join(random.choice(list("ACGU"), 60)), name) for name in ("ei", "ie", "n") * 20]
    pq.write_table(
        pa.table({"sequence": [a for a, _ in rows], "label_name": [b for _, b in rows]}), tmp_path / "uci.parquet"
    )
    command = ["--dataset", "splice_site", "--data", str(tmp_path / "uci.parquet"), "--model", str(nano_model_path)]
    command += ["--registry", str(tmp_path / "registry"), "--mode", "frozen", "--no-cnn"]
    job = [sys.executable, str(ROOT / "jobs" / "finetune.py"), *command]
    summary = json.loads(subprocess.run(job, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert summary["mode"] == "frozen" and summary["classes"] == 3  # the flag goes before the definition's own
    done = subprocess.run(
        [*job, "--split-by", "similarity", "--label-column", "x"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and "leave out --label-column, --split-by" in done.stderr
    info = load_predictor(tmp_path / "registry" / "splice_site").info
    assert info["encoder"]["pooling"] == "centre" and "Noordewier" in info["about"]
    registry = str(tmp_path / "registry")
    config = tasks.EvaluateConfig("splice_site", (f"{registry}/.data/splice_site.parquet",), registry)
    tasks.evaluate(config)  # figures of others stand beside its test rows, with their protocol, and beside no others
    tasks.evaluate(replace(config, split="train"))
    found = tasks.read_results(registry).to_pylist()
    others = [row for row in found if row["n"] is None]
    (published,) = find_definition("splice_site").published
    assert [(row["model"], row["rows"], row["value"], row["split"]) for row in others] == [
        (published.who, published.protocol, published.value, "test")
    ]
    assert {row["seeds"] for row in found} == {1, None}
    text = (tmp_path / "registry" / "results.md").read_text()
    assert f"| {published.protocol} |  | splice_site | {published.who} |  | accuracy | 0.951 |  |  |" in text


def letters_of(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def test_folders_of_beacon_are_read(tmp_path: Path) -> None:
    for part, name in enumerate(("train.csv", "train_new.csv", "val.csv", "test.csv")):
        flags = [[int(column == row % 14) for column in range(12)] for row in range(28)]
        flags[0][5] = 1  # two at once
        rows = [[letters_of(101, 100 * part + row), *flags[row]] for row in range(28)]
        (tmp_path / "modification").mkdir(exist_ok=True)
        (tmp_path / "modification" / name).write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
        (tmp_path / "isoform").mkdir(exist_ok=True)
        lines = ["number,seq,proportion,source", *(f"{i},{rows[i][0]},{i / 27},x" for i in range(28))]
        (tmp_path / "isoform" / name).write_text("\n".join(lines) + "\n")
        (tmp_path / "splice").mkdir(exist_ok=True)
        lines = ["seq,label", *(f"{row[0]},{'0' * 50}1{'0' * 49}2" for row in rows), f"{rows[0][0]},01"]
        (tmp_path / "splice" / name).write_text("\n".join(lines) + "\n")
    wanted = {"modification_type": ("modification", 27), "isoform_usage": ("isoform", 28), "splice_windows": ("splice", 28)}
    for name, (folder, count) in wanted.items():
        table = read_labelled(prepare(find_definition(name), tmp_path / folder, tmp_path / "work"))
        assert table.counts["splits"] == dict.fromkeys(("train", "valid", "test"), count), name
        if name == "modification_type":
            assert len(table.classes_in("train")) == 13 and table.classes_in("train")["none"] == 4
        elif name == "isoform_usage":
            assert table.values[9] == pytest.approx(np.log((9 / 27) / (18 / 27)))
        else:
            assert table.profiles[0].sum() == 2 and table.profiles[0][[50, 100]].all()
    (tmp_path / "modification" / "val.csv").write_text("sequence,a,b,c,d,e,f,g,h,i,j,k,l\n")
    with pytest.raises(InputError, match=r"is not what modification_type reads \(could not convert"):
        prepare(find_definition("modification_type"), tmp_path / "modification", tmp_path / "other")
    with pytest.raises(InputError, match=r"is not what isoform_usage reads .*Expected the folder Isoform of BEACON"):
        prepare(find_definition("isoform_usage"), tmp_path / "work", tmp_path / "other")


def test_folders_of_fasta_are_read(tmp_path: Path) -> None:
    for name in ("lncrna_localisation", "pirna"):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(InputError, match="expected a file for each class, there are 0"):
            prepare(find_definition(name), folder, tmp_path / "work")
        for number, kind in enumerate(("Nucleus", "Cytosol")):
            records = [f">r{i} words\n{letters_of(30, 1000 * number + i)}" for i in range(40)]
            (folder / f"{kind}.fasta").write_text("\n".join(records) + "\n")
        table = read_labelled(prepare(find_definition(name), folder, tmp_path / "work"))
        assert dict(table.classes_in("all")) == {"Cytosol": 40, "Nucleus": 40} and table.ids[0] == "Cytosol/r0"


@pytest.mark.parametrize("name", [name for name, definition in definitions().items() if definition.file])
def test_definitions_read_the_public_files(shared: Path, tmp_path: Path, name: str) -> None:
    definition = find_definition(name)
    table = read_labelled(prepare(definition, shared / definition.file, tmp_path))
    counts = table.counts["splits"]
    assert counts["train"] > 500 and counts["valid"] > 50 and counts["test"] > 100
    assert table.numeric == definition.numeric
    if name != "ncrna_class":  # whose published split has copies, which the card says
        assert table.counts["test_rows_seen"] < 0.02 * counts["test"]
    if name == "m6a":
        assert table.counts["lengths"] == {"min": 41, "median": 41, "max": 41}
        assert {letters[20] for letters in table.sequences} == {"A"}
        tests = {letters for letters, split in zip(table.sequences, table.splits, strict=True) if split == "test"}
        parts = {letters[i : i + 20] for letters in tests for i in range(22)}
        assert not any(
            letters[i : i + 20] in parts for letters in table.sequences if letters not in tests for i in range(22)
        )
        known = dict(zip(definition.labels, np.isfinite(table.flags[table.rows("test")]).sum(axis=0), strict=True))
        assert (known["Human Liver"], known["Mouse testis"]) == (5256, 9351)
    if name == "rna_type":
        source = pq.read_table(shared / definition.file, columns=["seq_id", "rfam_acc", "clan"])
        family = dict(zip(source["seq_id"].to_pylist(), source["rfam_acc"].to_pylist(), strict=True))
        kept = {family[row] for row in table.ids}
        bench = (shared / "bench" / "retrieval_dev" / "test_families.tsv").read_text().splitlines()[1:]
        assert not kept & {line.split("\t")[0] for line in bench}
        # training has no member of families that are held out, and members of those whose new members are
        train = {family[table.ids[i]] for i in table.rows("train")}
        held = {split: table.held_out_as(table.rows(split), "families") for split in ("valid", "test")}
        sides = {split: {family[table.ids[i]] for i in rows} for split, rows in held.items()}
        assert all(sides.values()) and not train & (sides["valid"] | sides["test"])
        members = table.held_out_as(table.rows("test"), "members")
        assert {family[table.ids[i]] for i in members} <= train
        by_members = {"tRNA", "rRNA", "SRP", "ribozyme;RNase P", "tmRNA", "snRNA;splicing", "Intron"}
        assert by_members <= {table.labels[i] for i in members} <= set(table.classes_in("train"))
        assert len(table.classes_in("train")) == 26


def test_the_page_of_results_is_made_from_the_results() -> None:
    made = recipe()
    results = made.read_results()
    assert (ROOT / "docs" / "results.md").read_text() == made.page(results)
    assert set(results) <= set(definitions())
