"""Train and score structure predictors on the shared data, one protocol and part at a time.

    python recipes/train_fold.py --protocol bprna --out runs/fold/bprna
    python recipes/train_fold.py --protocol archive-folds --part 0 --out runs/fold/folds-0
    python recipes/train_fold.py --protocol archive-families --part tRNA --out runs/fold/tRNA
    python recipes/train_fold.py --protocol archive-unseen --training.steps 300 --out runs/fold/unseen

- `bprna`: trained on bpRNA's TR0 and Rfam's seed structures, chosen by VL0, tested on the part of TS0 whose truth is
  known. Rfam rows that are near-identical to anything of TS0, VL0, ArchiveII or the PDB set are left out (80 % over 80 % of
  the shorter), and so are the families of the retrieval benchmark.
- `archive-folds`: ArchiveII's five random folds, one held out. Families stand on both sides: what is learned of them helps.
- `archive-families`: one family held out; nothing like it was seen in training.
- `archive-unseen`: all nine families held out at once; trained on Rfam's seed structures without these families, those of
  their clans and kinds (all ribosomal and transfer RNA, introns, RNase P and MRP, SRP, tmRNA, telomerase), and rows that
  are near-identical to anything of ArchiveII; chosen by Rfam families that training has not seen.

`--ensemble-size 3` trains three, whose mean answers (`OUT/0` to `OUT/2` get their checkpoints).

`OUT` gets checkpoints, `pred.tsv` (id, dot-bracket) and `result.json`; the same command goes on after a kill. Score with
`score_structure.py --pred OUT/pred.tsv --truth …`. Needs MMseqs2 for `bprna` and `archive-unseen`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray

from unirna import model
from unirna.corpus import mmseqs
from unirna.fold.predictor import StructurePredictor, load_structure_predictor
from unirna.fold.training import Known, Trainer, TrainingConfig
from unirna.job import num_cpus
from unirna.sequence import SequenceError, StructureError, normalise, parse_dot_bracket


@dataclass(frozen=True)
class Config:
    """Train a structure predictor and score it."""

    protocol: Literal["bprna", "archive-folds", "archive-families", "archive-unseen"]
    """Which data."""
    out: Path
    """Folder of the run."""
    part: str = "0"
    """Which fold or family is held out."""
    shared: Path = Path("../shared")
    """Folder of the shared data."""
    model: str = "unirna-mini"
    """The encoder."""
    start: Path | None = None
    """A predictor whose loops and network training begins with; by default the published energies and no
    network. Give --training.energy-steps 0 with it."""
    ensemble_size: int = 1
    """So many are trained, each with its loops, with seeds from that of the training up; the mean of their scores answers.
    Such a predictor is measured and not kept."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained."""


def main(config: Config) -> None:
    """Train, predict the test sequences, write."""
    torch.set_num_threads(num_cpus())
    torch.set_flush_denormal(True)
    data = config.shared / "data"
    prepare = {
        "bprna": bprna,
        "archive-folds": archive_folds,
        "archive-families": archive_families,
        "archive-unseen": archive_unseen,
    }
    train, weights, valid, test = prepare[config.protocol](data, config)
    print(f"{len(train):,} to train on, {len(valid):,} to choose by, {len(test):,} to test on", flush=True)
    encoder = model.load(config.model)
    if config.start is not None and config.training.energy_steps:
        raise SystemExit("--start has loops and network that fit together: give --training.energy-steps 0")
    trainers = []
    for number in range(config.ensemble_size):
        training = replace(config.training, seed=config.training.seed + number)
        out = config.out / str(number) if config.ensemble_size > 1 else config.out
        trainers.append(Trainer(encoder, train, valid, training, out, weights))
        if config.start is not None:
            first = load_structure_predictor(config.start)
            trainers[-1].network.load_state_dict(first.network.state_dict())
            with torch.no_grad():
                trainers[-1].flat.copy_(torch.from_numpy(first.energies.flat()))
        trainers[-1].train_on(partial(_say, time.monotonic()))
    trainer = trainers[0]
    if config.ensemble_size > 1:
        trainer.out = config.out
        trainer.network = Mean([each.network for each in trainers])  # type: ignore[assignment]
        with torch.no_grad():
            trainer.flat.copy_(torch.stack([each.flat for each in trainers]).mean(dim=0))
    result = trainer.settle()
    predictor = trainer.predictor(
        {"name": "secondary-structure", "protocol": config.protocol, "part": config.part, **result}
    )
    if config.ensemble_size == 1:
        predictor.save(config.out / "predictor")
    seconds, lines = predict(predictor, test, use_network=config.training.network)
    (config.out / "pred.tsv").write_text(lines, encoding="utf-8")
    print(json.dumps({**result, "test": len(test), "test_seconds": round(seconds)}))


def _say(started: float, line: str) -> None:
    print(f"{time.monotonic() - started:6.0f} s  {line}", flush=True)


class Mean(torch.nn.ModuleList):
    """Networks, the mean of whose scores answers."""

    @property
    def leave(self) -> torch.nn.ModuleList:
        """Their last layers."""
        return torch.nn.ModuleList([network.leave for network in self])  # type: ignore[misc]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The mean of their scores."""
        return torch.stack([network(*inputs) for network in self]).mean(dim=0)


def predict(predictor: StructurePredictor, test: list[Known], *, use_network: bool) -> tuple[float, str]:
    """Structures of the test sequences as a table."""
    started = time.monotonic()
    lines = []
    for known in test:
        if use_network:
            (found,) = predictor.fold([known.sequence])
        else:
            found = predictor.decode(known.sequence, np.zeros((len(known.sequence),) * 2))
        lines.append(f"{known.id}\t{found.dot_bracket}\n")
    return time.monotonic() - started, "".join(lines)


Data = tuple[list[Known], NDArray[np.float64] | None, list[Known], list[Known]]


def bprna(data: Path, config: Config) -> Data:
    """TR0 and Rfam, VL0, TS0."""
    rows = pd.read_parquet(data / "bprna_1m_subset/data.parquet")
    train = known(rows[rows.partition_spotrna == "TR0"])
    valid = [k for k in known(rows[rows.partition_spotrna == "VL0"]) if len(k.sequence) <= 500]
    test = known(pd.read_parquet(data / "bprna_ts0/data.parquet"))
    tests = [pd.read_parquet(data / f"{name}.parquet").sequence for name in TESTS]
    tests.append(rows[rows.partition_spotrna.isin(["VL0", "TS0"])].sequence)
    rfam = pd.read_parquet(data / "rfam_seed/rfam_seed.parquet")
    rfam = rfam[~(rfam.in_bprna_ts0 | rfam.in_archiveII) & (rfam.length <= config.training.longest)]
    held = pd.read_csv(config.shared / "bench/retrieval_dev/test_families.tsv", sep="\t")
    rfam = rfam[~rfam.rfam_acc.isin(held.iloc[:, 0])]
    more, weights = consensus(rfam, pd.concat(tests))
    return [*train, *more], np.concatenate([np.full(len(train), 1 / len(train)), weights / weights.sum()]), valid, test


TESTS = ("bprna_ts0/ts0_sequences_all1305", "archiveII/data", "pdb_rna_ss/data")


def consensus(rfam: pd.DataFrame, tests: pd.Series) -> tuple[list[Known], NDArray[np.float64]]:
    """Rows of `rfam_seed` that are like no test sequence, with three pairs at least, and their weights: of a family of n
    members n^-1/2 each."""
    rfam = rfam.drop_duplicates("sequence").reset_index(drop=True)
    rfam = rfam.drop(index=near(rfam.sequence, tests))
    rfam["id"] = rfam.rfam_acc + "/" + rfam.seq_id
    found = [k for k in known(rfam) if len(k.pairs) >= 3]
    size = Counter(k.id.split("/")[0] for k in found)
    return found, np.array([size[k.id.split("/")[0]] ** -0.5 for k in found])


ARCHIVE_KINDS = "rRNA|tRNA|tmRNA|SRP|RNase|RNP|telomerase|intron|5S"
"""In the names of Rfam families that are those of ArchiveII, or of their kinds."""


def archive_unseen(data: Path, config: Config) -> Data:
    """Rfam without ArchiveII's families and kinds, some of its other families, ArchiveII."""
    rfam = pd.read_parquet(data / "rfam_seed/rfam_seed.parquet")
    archive = pd.read_parquet(data / "archiveII/data.parquet")
    same = rfam.rfam_id.str.contains(ARCHIVE_KINDS, case=False) | rfam.rna_type.isin(["Gene;rRNA", "Gene;tRNA", "Intron"])
    same |= rfam.rfam_acc.isin(rfam.rfam_acc[rfam.in_archiveII])
    same |= rfam.clan.isin({clan for clan in rfam.clan[same] if clan})
    found, weights = consensus(rfam[~same & (rfam.length <= config.training.longest)], archive.sequence)
    families = np.array([k.id.split("/")[0] for k in found])
    random = np.random.default_rng(0)  # the same ones for all networks
    chosen = random.choice(np.unique(families), len(np.unique(families)) // 20, replace=False)
    valid = np.isin(families, chosen)
    few = random.permutation(np.flatnonzero(valid))[:300]
    train = [found[i] for i in np.flatnonzero(~valid)]
    return train, weights[~valid], [found[i] for i in sorted(few)], known(archive)


def archive_folds(data: Path, config: Config) -> Data:
    """ArchiveII without and with one random fold."""
    rows = pd.read_parquet(data / "archiveII/data.parquet")
    held = rows.kfold_test_fold == int(config.part)
    return _archive(rows, held.to_numpy(), lambda row: 1.0, config)


def archive_families(data: Path, config: Config) -> Data:
    """ArchiveII without and with one family; the families that are left count alike."""
    rows = pd.read_parquet(data / "archiveII/data.parquet")
    size = rows.family.value_counts()
    if config.part not in size:
        raise SystemExit(f"no family {config.part!r}: expected one of {', '.join(size.index)}")
    return _archive(rows, (rows.famfold_test == config.part).to_numpy(), lambda row: 1 / size[row.family], config)


def _archive(rows: pd.DataFrame, held: NDArray[np.bool_], weight: Any, config: Config) -> Data:
    valid = ~held & (np.random.default_rng(config.training.seed).random(len(rows)) < 0.05)
    train = rows[~held & ~valid]
    weights = np.array([weight(row) for row in train.itertuples()])
    return known(train), weights, known(rows[valid]), known(rows[held])


def known(rows: pd.DataFrame) -> list[Known]:
    """Rows of id, sequence and structure that can be read."""
    found = []
    for name, letters, brackets in zip(rows.id, rows.sequence, rows.structure, strict=True):
        try:
            found.append(Known(str(name), normalise(letters), parse_dot_bracket(brackets)))
        except (SequenceError, StructureError):
            continue
    return found


def near(sequences: pd.Series, tests: pd.Series) -> list[int]:
    """Rows that are at least 80 % identical to a test sequence over 80 % of the shorter one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, texts in (("queries", sequences), ("tests", tests.drop_duplicates())):
            letters = [text.upper().replace("U", "T") for text in texts]
            (folder / f"{name}.fasta").write_text(
                "".join(f">{i}\n{text}\n" for i, text in enumerate(letters)), encoding="utf-8"
            )
        mmseqs.search(
            folder / "queries.fasta",
            folder / "tests.fasta",
            folder / "hits.tsv",
            folder / "tmp",
            identity=0.8,
            least=20,
            threads=num_cpus(),
        )
        names = ["query", "target", "identity", "qstart", "qend", "qlen", "tstart", "tend", "tlen"]
        hits = pd.read_csv(folder / "hits.tsv", sep="\t", names=names)
    spans = (hits.qend - hits.qstart + 1) / hits.qlen, (hits.tend - hits.tstart + 1) / hits.tlen
    return sorted(set(hits["query"][np.where(hits.qlen <= hits.tlen, *spans) >= 0.8]))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
