"""A job takes an input for that of an earlier run where it holds the same, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from unirna import model
from unirna.corpus import BuildConfig, CorpusError, build_corpus
from unirna.job import JobError
from unirna.screen.job import ScreenConfig, _recipe
from unirna.sequence import InputError, check_unchanged, contents_of, plan_pieces, read_tables, stamps_of
from unirna.tasks import variants
from unirna.tasks.variants import VariantsConfig, score_collection


@dataclass(frozen=True)
class NoCriteria:
    """What a screen ranks by: nothing."""

    references: None = None
    labels: tuple[()] = ()


def write(path: Path, changed: bool = False) -> Path:
    """40 sequences; one nucleotide is another if `changed`, and neither size nor time of change tells."""
    chance = np.random.default_rng(0)
    lines = [f">s{i}\n{''.join(chance.choice(list('ACGU'), 60))}\n" for i in range(40)]
    if changed:
        lines[7] = lines[7][:-2] + {"A": "C"}.get(lines[7][-2], "A") + "\n"
    path.write_text("".join(lines))
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return write(tmp_path / "in.fa")


def corpus_of(inputs: Path) -> Callable[[], Any]:
    config = BuildConfig((str(inputs),), str(inputs.parent / "corpus"), clustering="minhash")
    return lambda: build_corpus(config)


def variants_of(inputs: Path) -> Callable[[], Any]:
    folder = inputs.parent / "model"
    if not folder.exists():
        model.initialise("nano", seed=3, device="cpu").save(folder)
    table = inputs.parent / "listed.csv"
    table.write_text("id,variant\n" + "".join(f"s{i},1A\n" for i in range(40)))
    config = VariantsConfig((str(inputs),), str(inputs.parent / "out"), str(table), model=str(folder))
    return lambda: score_collection(config)


@pytest.mark.parametrize("job", [corpus_of, variants_of])
def test_a_result_is_kept_for_the_same_content_alone(inputs: Path, job: Callable[[Path], Callable[[], Any]]) -> None:
    run = job(inputs)
    first = run()
    assert run() == first
    os.utime(inputs)
    inputs.rename(inputs.with_suffix(".old"))
    write(inputs)
    assert run() == first  # the same content in a new file
    write(inputs, changed=True)
    with pytest.raises((CorpusError, JobError), match=r"an earlier content of .*in\.fa.*remove it"):
        run()


def test_a_screen_is_of_what_its_library_holds(inputs: Path) -> None:
    config = ScreenConfig((str(inputs),), str(inputs.parent / "out"))

    def recipe() -> dict[str, Any]:
        return _recipe(config, NoCriteria(), plan_pieces([str(inputs)]))  # type: ignore[arg-type]

    first = recipe()
    os.utime(inputs, ns=(1, 1))
    assert recipe() == first
    write(inputs, changed=True)
    assert recipe() != first


def test_excluded_and_dropped_files_are_inputs_too(inputs: Path) -> None:
    groups, other = inputs.parent / "groups.csv", inputs.parent / "other.fa"
    pq.write_table(read_table(inputs), inputs.parent / "in.parquet")
    groups.write_text("group\nF1\n")
    other.write_text(">x\nACGUACGUACGUACGUACGU\n")
    config = BuildConfig(
        (str(inputs.parent / "in.parquet"),),
        str(inputs.parent / "corpus"),
        group_column="group",
        drop_groups=str(groups),
        exclude=(str(other),),
        clustering="minhash",
    )
    first = build_corpus(config)
    assert build_corpus(config) == first
    for path, text in ((groups, "group\nF2\n"), (other, ">x\nACGUACGUACGUACGUACGA\n")):
        before = path.read_text()
        path.write_text(text)
        with pytest.raises(CorpusError, match=f"an earlier content of .*{path.name}"):
            build_corpus(config)
        path.write_text(before)
    assert build_corpus(config) == first


def read_table(inputs: Path) -> Any:
    import pyarrow as pa

    (table,) = read_tables(plan_pieces([str(inputs)])[0])
    return pa.table({"id": table["id"], "sequence": table["sequence"], "group": [f"F{i % 4}" for i in range(len(table))]})


def test_an_unfinished_run_starts_again_with_the_new_input(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = variants_of(inputs)
    monkeypatch.setattr(variants, "PART_NUCLEOTIDES", 1)
    with monkeypatch.context() as patch:

        def changing(*arguments: Any) -> Any:
            write(inputs, changed=True)
            os.utime(inputs)
            return score(*arguments)

        score = variants._score
        patch.setattr(variants, "_score", changing)
        with pytest.raises(InputError, match=r"in\.fa.*changed while it was read"):
            run()
    assert run()["read"] == 40
    assert run()["read"] == 40


def test_a_corpus_whose_input_changes_while_it_is_read_is_none(inputs: Path) -> None:
    config = BuildConfig((str(inputs),), str(inputs.parent / "corpus"), clustering="minhash")

    def changing(function: Any, items: Any) -> Any:
        for item in items:
            function(item)
            yield item
        os.utime(inputs)

    with pytest.raises(InputError, match=r"in\.fa.*changed while it was read"):
        build_corpus(config, changing)
    assert build_corpus(config) == build_corpus(config)


def test_contents_name_each_file_once(inputs: Path) -> None:
    (only,) = contents_of([str(inputs), str(inputs)])
    assert only["path"] == str(inputs) and only["size"] == inputs.stat().st_size and len(only["digest"]) == 32
    check_unchanged(stamps_of([str(inputs)]))
    (same,) = contents_of([inputs.as_uri()])
    assert same["digest"] == only["digest"]
    (remote,) = contents_of(["mock:///in.fa"])
    assert set(remote) == {"path", "size", "changed"}  # an object is not downloaded for it
