"""Scores of variants: what they are, bad variants, the job, and what the shipped model knows of helices."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from unirna import model
from unirna.job import JobError
from unirna.model import MASK, Model, pack_tokens, tokenise
from unirna.model.variants import VariantError, heat_map, parse_variant, score_variants, substitutions
from unirna.tasks.variants import VariantsConfig, score_collection

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def nano() -> Model:
    return model.initialise("nano", seed=3, device="cpu")


def test_a_masked_score_is_the_difference_of_two_log_probabilities(nano: Model) -> None:
    sequence = "GGACUUCGGUCC"
    tokens = pack_tokens([tokenise(sequence)])
    hidden = tokens.tokens.copy()
    hidden[[1 + 2, 1 + 9]] = MASK
    log_p = torch.from_numpy(nano.logits(hidden, tokens.boundaries))[:, [5, 7, 8, 9]].log_softmax(-1).numpy()
    wanted = log_p[3, 3] - log_p[3, 0] + log_p[10, 0] - log_p[10, 3]  # A3U, U10A
    ((variant, score),) = score_variants(nano, sequence, ["A3U+U10A"])
    assert variant.sites == ((2, "A", "U"), (9, "U", "A"))
    assert score == pytest.approx(wanted, abs=1e-5)


def test_pseudo_likelihood_compares_whole_sequences(nano: Model) -> None:
    sequence, changed = "GGACUUCGGUCC", "GGACUUCGGUCG"
    ((_, score),) = score_variants(nano, sequence, ["C12G"], method="pseudo-likelihood")
    surprise = [12 * np.log(nano.pseudo_perplexity(text)) for text in (sequence, changed)]
    assert score == pytest.approx(surprise[0] - surprise[1], abs=1e-4)


def test_all_substitutions_and_their_spelling(nano: Model) -> None:
    scored = score_variants(nano, "GGANUUC")
    assert [v.name for v, _ in scored][:4] == ["G1A", "G1C", "G1U", "G2A"]
    assert len(scored) == 18  # none of N
    lower = {v.name: s for v, s in score_variants(nano, "ggantt" + "c")}
    assert lower == {v.name: s for v, s in scored}
    ((_, alone),) = score_variants(nano, "GGANUUC", ["a3t"])
    table = substitutions(scored, 7)
    assert table.shape == (7, 4)
    assert table[2, 3] == pytest.approx(alone, abs=1e-5)
    assert table[0, 2] == 0
    assert not table[3].any()
    root = ElementTree.fromstring(heat_map("GGANUUC", table, "<x>"))
    assert len(root.findall("{*}rect")) == 28


def test_a_place_is_read_in_the_window_in_which_it_counts_most(nano: Model) -> None:
    random = np.random.default_rng(0)
    length = nano.context + 300
    sequence = "".join(random.choice(list("ACGU"), length))
    places = [5, nano.context - 3, length - 4]
    variants = [f"{sequence[p]}{p + 1}{'ACGU'[('ACGU'.index(sequence[p]) + 1) % 4]}" for p in places]
    together = [s for _, s in score_variants(nano, sequence, ["+".join([variants[0], variants[2]])])]
    alone = [s for _, s in score_variants(nano, sequence, variants)]
    assert together[0] == pytest.approx(alone[0] + alone[2], abs=1e-4)  # no window holds both
    first = nano.windows(length)[0]
    inside = score_variants(nano, sequence[: first.end], [variants[0]])[0][1]
    assert inside == pytest.approx(alone[0], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A1G", "the sequence has G at 1, not A"),
        ("G9A", "position 9 is outside"),
        ("G0A", "position 0 is outside"),
        ("G1", "expected a form such as A10G"),
        ("", "expected a form such as A10G"),
        ("G1G", "changes nothing"),
        ("G1A+G1C", "names a place twice"),
        ("G1N", "expected a form such as A10G"),
        ("G" + "9" * 5000 + "A", "expected a form such as A10G"),
    ],
)
def test_bad_variants_are_named(text: str, message: str) -> None:
    with pytest.raises(VariantError, match=message) as caught:
        parse_variant(text, "GGAC")
    assert repr(text[:60])[:-1] in str(caught.value)
    assert len(str(caught.value)) < 200


# ---- the job -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "x.fasta"
    path.write_text(">a\nGGACUUCGGUCC\n>b one\nggat\n>bad\nGG-A\n>c\nACGU\n")
    return path


def test_the_job_scores_all_and_accounts_for_every_record(fasta: Path, nano: Model, tmp_path: Path) -> None:
    folder = nano.save(tmp_path / "model")
    config = VariantsConfig((str(fasta),), str(tmp_path / "out"), model=str(folder), drawings=2)
    summary = score_collection(config)
    assert (summary["read"], summary["scored"], summary["rejected"]) == (4, 3, 1)
    assert summary["variants_scored"] == 3 * (12 + 4 + 4)
    rows = pq.read_table(tmp_path / "out" / "variants.parquet").to_pylist()
    assert [r["id"] for r in rows if r["reason"]] == ["bad"]
    assert "gap" in next(r["reason"] for r in rows if r["reason"])
    wanted = {
        (name, v.name): s for name, text in (("a", "GGACUUCGGUCC"), ("b", "GGAU")) for v, s in score_variants(nano, text)
    }
    for row in rows:
        if (row["id"], row["variant"]) in wanted:
            assert row["score"] == pytest.approx(wanted[row["id"], row["variant"]], abs=1e-4)
    assert sorted(p.name for p in (tmp_path / "out" / "heat_maps").iterdir()) == ["000001.svg", "000002.svg"]
    assert score_collection(config) == summary  # nothing to do
    with pytest.raises(JobError, match="another command"):
        score_collection(
            VariantsConfig((str(fasta),), str(tmp_path / "out"), model=str(folder), method="pseudo-likelihood")
        )


def test_listed_variants_that_cannot_be_scored_are_listed(fasta: Path, nano: Model, tmp_path: Path) -> None:
    table = tmp_path / "listed.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "variant"), ("a", "G1A"), ("a", "A1G"), ("b", "U4A+G1C"), ("z", "A1G")])
    folder = nano.save(tmp_path / "model")
    summary = score_collection(VariantsConfig((str(fasta),), str(tmp_path / "out"), str(table), model=str(folder)))
    assert (summary["variants_scored"], summary["variants_rejected"]) == (2, 2)
    rows = {(r["id"], r["variant"]): r for r in pq.read_table(tmp_path / "out" / "variants.parquet").to_pylist()}
    assert rows["b", "U4A+G1C"]["score"] is not None
    assert "has G at 1" in rows["a", "A1G"]["reason"]
    assert "no sequence of this id" in rows["z", "A1G"]["reason"]


@pytest.mark.slow
def test_a_killed_job_goes_on(nano: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fasta = tmp_path / "many.fasta"
    random = np.random.default_rng(1)
    fasta.write_text("".join(f">s{i}\n{''.join(random.choice(list('ACGU'), 40))}\n" for i in range(90)))
    folder = nano.save(tmp_path / "model")
    script = (
        "import sys; from unirna.tasks import variants as v; v.PART_NUCLEOTIDES = 8_000;"
        f"v.score_collection(v.VariantsConfig(({str(fasta)!r},), sys.argv[1], model={str(folder)!r}, drawings=0))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("platform", "vectorstore"))}
    job = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while len(list((tmp_path / "cut").glob(".parts/part-*.parquet"))) < 3:
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    again = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert "going on after" in again.stderr
    whole = score_collection(VariantsConfig((str(fasta),), str(tmp_path / "whole"), model=str(folder), drawings=0))
    cut = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert {**cut, "out": ""} == {**whole, "out": ""}
    one, other = (pq.read_table(tmp_path / name / "variants.parquet") for name in ("cut", "whole"))
    assert one.drop_columns("score").equals(other.drop_columns("score"))
    np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)


def test_one_run_at_a_time_and_not_into_its_own_input(fasta: Path, nano: Model, tmp_path: Path) -> None:
    folder = nano.save(tmp_path / "model")
    config = VariantsConfig((str(fasta),), str(tmp_path / "out"), model=str(folder), drawings=0)
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(JobError, match="another run is writing to"):
            score_collection(config)
    summary = score_collection(config)
    (tmp_path / "out" / ".parts").mkdir()  # as a kill just after the summary leaves it
    assert score_collection(config) == summary
    assert not (tmp_path / "out" / ".parts").exists()
    with pytest.raises(JobError, match="lies inside the input"):
        score_collection(replace(config, inputs=(str(tmp_path),), out=str(tmp_path / "inside")))
