"""The out-of-distribution detectors of shipped classifiers: fitted again without training, and measured on four sets.

    python recipes/out_of_distribution.py --data ../shared --names ncrna_class rna_type
    python recipes/out_of_distribution.py --data ../shared --names ncrna_class --fit False     # measure alone

The four sets: dinucleotide shuffles of test rows, pieces of coding sequences (of yeast, which come with the package, and
long reading frames of E. coli), low complexity, and real RNA of classes that the classifier lacks; and random 100-mers.
None was seen in fitting. Writes the detector, the figures in `predictor.json` and the card.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from unirna.sequence import normalise
from unirna.tasks import (
    TASKS,
    LabelledTable,
    Predictor,
    find_definition,
    load_predictor,
    prepare,
    read_labelled,
)
from unirna.tasks.card import write_card
from unirna.tasks.finetuning.detection import OTHER_FAMILIES
from unirna.tasks.finetuning.finetune import HELD_OUT
from unirna.tasks.finetuning.training import embed_sequences
from unirna.tasks.kinds.task import measure
from unirna.tasks.models.ensemble import ENCODER
from unirna.tasks.models.out_of_distribution import Read, Reading, facts_of_detector, fit_detector
from unirna.tasks.rfam import LEFT_OUT

ROOT = Path(__file__).resolve().parent.parent
COUNT = 500
"""Sequences of each further set."""
LACKING = {
    "Gene;sRNA",
    "Gene;lncRNA",
    "Gene;antisense",
    "Gene;antitoxin",
    "Gene;CRISPR",
    "Gene;snRNA",
    "Gene;snRNA;splicing",
    "Gene",
    "Cis-reg;frameshift_element",
    "Cis-reg;thermoregulator",
}
"""Types of Rfam that `ncrna_class` has no class for."""
STOPS = ("UAA", "UAG", "UGA")
LONG_FRAME = 200
"""Codons of a reading frame that is taken for a gene."""


@dataclass(frozen=True)
class Config:
    """Fit and measure out-of-distribution detectors."""

    data: Path
    """Folder of the public data."""
    names: tuple[str, ...] = ("ncrna_class", "rna_type")
    """Predictors."""
    registry: Path = ROOT / "weights" / "predictors"
    """Folder of the predictors."""
    work: Path = Path("runs/out-of-distribution")
    """Folder of vectors, which are kept for the next time."""
    fit: bool = True
    """Fit the detector; without, the one that is there is measured."""


def main(config: Config) -> None:
    """Fit, measure, write and print."""
    for name in config.names:
        definition = find_definition(name)
        table = read_labelled(prepare(definition, config.data / definition.file, config.work / ".data"))
        folder = config.registry / name
        predictor = load_predictor(folder, device="cpu")
        if table.digest != predictor.info["data"]["digest"]:
            raise SystemExit(f"{folder} was made from other data than {definition.file} (content {table.digest})")

        def read(sequences: list[str]) -> Reading:
            return predictor.read(embed_sequences(predictor.encoder, sequences, config.work), sequences)  # noqa: B023

        def rows(split: str) -> list[str]:
            return [table.sequences[i] for i in table.rows(split).tolist()]  # noqa: B023

        train, valid = rows("train"), rows("valid")
        like_training = valid
        if table.held_out:
            like_training = [table.sequences[i] for i in table.held_out_as(table.rows("valid"), "members").tolist()]
        detector = None if config.fit else predictor.detector
        if detector is None:
            detector = fit_detector(read(train), read(like_training), read)
        seen = {*train, *valid}
        known = set(predictor.labels)
        chosen = [i for i in table.rows("test").tolist() if table.sequences[i] not in seen and table.labels[i] in known]
        other_families: list[int] = []
        if table.held_out:
            other_families = [i for i in chosen if table.held_out[i] == "families"]
            chosen = [i for i in chosen if table.held_out[i] == "members"]
        random = np.random.default_rng(2)
        lengths = [len(table.sequences[i]) for i in random.permutation(chosen)[:COUNT].tolist()]
        sets = {title: make(config.data, lengths, random) for title, make in SETS[name].items()}
        sets[OTHER_FAMILIES] = [table.sequences[i] for i in other_families]
        sets = {title: [text for text in found if text not in seen] for title, found in sets.items()}
        members = read([table.sequences[i] for i in chosen])
        if table.held_out:
            measure_as_held_out(predictor, table, read)
        predictor.info["out_of_distribution"] = facts_of_detector(detector, members, read, sets)
        predictor.info.pop("sureness", None)  # of an earlier version
        print(name, json.dumps(predictor.info["out_of_distribution"]))
        detector.save(folder)
        (folder / "predictor.json").write_text(json.dumps(predictor.info, indent=1) + "\n", encoding="utf-8")
        (folder / "card.md").write_text(write_card(predictor.info), encoding="utf-8")


def measure_as_held_out(predictor: Predictor, table: LabelledTable, read: Read) -> None:
    """Measure the classifier apart on test rows of families that training does not have and of those that it has."""
    task, classes = TASKS[predictor.task], predictor.labels
    tested = table.rows("test")
    found = read([table.sequences[i] for i in tested.tolist()])
    who = [ENCODER, *(predictor.blend.weights if predictor.blend else {})]
    answers = {predictor.name: task.answer(found.outputs)}
    answers |= {name: task.answer(part) for name, part in zip(dict.fromkeys(who), found.parts, strict=True)}
    index = {name: number for number, name in enumerate(classes)}
    truth = np.array([index.get(table.labels[i], len(classes)) for i in tested.tolist()])
    train = np.array([index[table.labels[i]] for i in table.rows("train").tolist()])
    answers[task.guess_name] = task.guesses(task.guess(train), len(truth))
    recall: dict[str, dict[str, dict[str, float]]] = {}
    for title, kind in HELD_OUT.items():
        mine = np.isin(tested, table.held_out_as(tested, kind))
        scores = {name: measure(task, truth[mine], answer[mine], labels=classes) for name, answer in answers.items()}
        predictor.info["metrics"][title] = {name: {s.metric: asdict(s) for s in each} for name, each in scores.items()}
        right = answers[predictor.name].argmax(axis=1) == truth
        for number, name in enumerate(classes):
            rows = mine & (truth == number)
            if rows.any():
                recall.setdefault(name, {})[kind] = {"n": int(rows.sum()), "recall": round(float(right[rows].mean()), 4)}
    predictor.info["test_recall"] = recall


def random_hundreds(data: Path, lengths: list[int], random: np.random.Generator) -> list[str]:
    """100 nucleotides, each equally probable."""
    return ["".join(random.choice(list("ACGU"), 100)) for _ in lengths]


def coding_of_coli(data: Path, lengths: list[int], random: np.random.Generator) -> list[str]:
    """Pieces of long open reading frames of 700 kb of E. coli."""
    with gzip.open(data / "bench/genomes/ecoli_k12_700kb.fa.gz", "rt", encoding="ascii") as file:
        genome = normalise("".join(line.strip() for line in file if not line.startswith(">")), "genome")
    frames = []
    for strand in (genome, genome.translate(str.maketrans("ACGU", "UGCA"))[::-1]):
        for phase in range(3):
            codons = [strand[i : i + 3] for i in range(phase, len(strand) - 2, 3)]
            ends = [-1, *(i for i, codon in enumerate(codons) if codon in STOPS), len(codons)]
            frames += ["".join(codons[a + 1 : b]) for a, b in pairwise(ends) if b - a > LONG_FRAME]
    genes = [frames[i] for i in random.integers(len(frames), size=len(lengths))]
    starts = [int(random.integers(max(1, len(gene) - size + 1))) for gene, size in zip(genes, lengths, strict=True)]
    return [gene[start : start + size] for gene, start, size in zip(genes, starts, lengths, strict=True)]


def lacking_types(data: Path, lengths: list[int], random: np.random.Generator) -> list[str]:
    """Members of families of the types in `LACKING`, at most four of each."""
    rows = pd.read_parquet(data / "data/rfam_seed/rfam_seed.parquet", columns=["sequence", "rna_type", "rfam_acc"])
    rows = rows[rows.rna_type.str.rstrip(";").isin(LACKING) & ~rows.rfam_acc.isin(LEFT_OUT)]
    rows = rows.iloc[random.permutation(len(rows))].groupby("rfam_acc").head(4)
    return [normalise(text, "sequence") for text in rows.sequence[: len(lengths)]]


def untranslated(data: Path, lengths: list[int], random: np.random.Generator) -> list[str]:
    """Windows of human 5' untranslated regions."""
    texts = pd.read_parquet(data / "data/utr5_te_full/data.parquet", columns=["sequence"]).sequence.tolist()
    whole = [normalise(texts[i], "sequence") for i in random.integers(len(texts), size=len(lengths))]
    return [text[:size] for text, size in zip(whole, lengths, strict=True) if len(text) >= 30]


Make = Callable[[Path, list[int], np.random.Generator], list[str]]
MORE: dict[str, Make] = {"pieces of E. coli reading frames": coding_of_coli, "random 100-mers": random_hundreds}
SETS: dict[str, dict[str, Make]] = {
    "ncrna_class": {"real RNA of other types (Rfam)": lacking_types, **MORE},
    "rna_type": {"real RNA of other types (human 5'UTRs)": untranslated, **MORE},
}
"""Predictor -> further sets to measure on."""


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
