"""Fit which helices across a nested structure are real, and write it into a structure predictor's `fold.json`.

    python recipes/pseudoknots.py --shared ../shared --predictor weights/predictors/secondary-structure

Helices are those of known structures with pseudoknots (bpRNA's TR0, Rfam's seed structures of up to 450 nt, six of a
family, longer ones of bpRNA), of VL0, and of sequences that have none: yeast coding sequences, their shuffles, shuffles of
VL0 and random ones of 200 to 1,400 nt. Rows that share a quarter of their 12-mers with a sequence of TS0 or the PDB set are
left out. A helix is real where at least half of its pairs are known. It takes ten minutes; `benchmarks/pseudoknots.py`
measures what comes of it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from sklearn.linear_model import LogisticRegression

from unirna.fold import fold_all, load_structure_predictor
from unirna.fold.decode import CrossingModel, crossing_candidates, most_accurate
from unirna.sequence import SequenceError, normalise, parse_dot_bracket, shuffle_dinucleotides

Pairs = set[tuple[int, int]]
CROSSES = r"[\[{<A-Z]"
LONG = (300, 420, 500, 800, 1200, 1600)
"""Bounds of the lengths of which twelve longer structures each are taken."""
TESTS = ("bprna_ts0/ts0_sequences_all1305", "pdb_rna_ss/data")
NEGATIVE = {200: 20, 400: 20, 700: 15, 1000: 12, 1400: 6}
"""Sequences without known structure of each length, of each kind."""


@dataclass(frozen=True)
class Config:
    """Fit the crossing helices."""

    shared: Path = Path("../shared")
    """Folder of the shared data."""
    predictor: Path = Path("weights/predictors/secondary-structure")
    """Folder of the predictor."""


def main(config: Config) -> None:
    """Fold, collect helices, fit, write."""
    predictor = load_structure_predictor(config.predictor)
    rows, real = [], []
    for text, known in [*structures(config.shared / "data"), *unstructured(config.shared / "data")]:
        try:
            sequence = normalise(text)
        except SequenceError:
            continue
        scores = predictor.pair_scores(sequence, predictor.model.nucleotides(sequence))
        pairs = fold_all(sequence, predictor.energies, scores).pairs
        nested = most_accurate(pairs, predictor.gamma)
        for helix in crossing_candidates(sequence, nested, predictor.energies, pairs):
            share = len(set(helix.pairs) & known) / helix.size
            if share == 0 or share >= 0.5:
                span = log((helix.last - helix.first) / 100)
                rows.append((helix.score, helix.size, span, helix.probability, helix.unpaired))
                real.append(share > 0)
    print(f"{len(rows):,} helices, {sum(real):,} of them real")
    fitted = LogisticRegression(max_iter=3_000).fit(np.array(rows), real)
    values = [round(float(value), 4) for value in (fitted.intercept_[0], *fitted.coef_[0])]
    info = json.loads((config.predictor / "fold.json").read_text(encoding="utf-8"))
    info["crossing"] = asdict(CrossingModel(*values))
    (config.predictor / "fold.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    print(info["crossing"])


def structures(data: Path) -> Iterator[tuple[str, Pairs]]:
    """Sequences and their known pairs."""
    bprna = pd.read_parquet(data / "bprna_1m_subset/data.parquet")
    crosses = bprna.structure.str.contains(CROSSES)
    rfam = pd.read_parquet(data / "rfam_seed/rfam_seed.parquet")
    rfam = rfam[rfam.structure.str.contains(r"\[") & (rfam.length <= 450) & ~rfam.in_bprna_ts0 & ~rfam.in_archiveII]
    rfam = rfam.drop_duplicates("sequence").sample(frac=1, random_state=0).groupby("rfam_acc").head(6)
    rest = bprna[bprna.partition_spotrna.isna() & crosses & bprna.length.between(LONG[0] + 1, LONG[-1])]
    rest = rest.drop_duplicates("sequence")
    bins = rest.groupby(pd.cut(rest.length, LONG), observed=True)
    rest = pd.concat([rows.sample(min(len(rows), 12), random_state=0) for _, rows in bins])
    near = SharesKmers(pd.concat([pd.read_parquet(data / f"{name}.parquet").sequence for name in TESTS]))
    chosen = [bprna[(bprna.partition_spotrna == "TR0") & crosses], bprna[bprna.partition_spotrna == "VL0"], rfam, rest]
    for rows in chosen:
        for text, brackets in zip(rows.sequence, rows.structure, strict=True):
            if not near(text):
                yield text, {(int(i), int(j)) for i, j in parse_dot_bracket(brackets)}


def unstructured(data: Path) -> Iterator[tuple[str, Pairs]]:
    """Sequences of which no pair is known to be real."""
    random = np.random.default_rng(0)
    bprna = pd.read_parquet(data / "bprna_1m_subset/data.parquet")
    for text in bprna[bprna.partition_spotrna == "VL0"].sequence.sample(80, random_state=1):
        yield shuffle_dinucleotides(text, random), set()
    coding = pd.read_parquet(data / "yeast_cds_halflife/data.parquet")
    for length, count in NEGATIVE.items():
        near = coding[coding.length.between(length, 1.4 * length + 50)].sequence.sample(count, random_state=length)
        for text in near:
            yield text[:length], set()
            yield shuffle_dinucleotides(text[:length], random), set()
            yield "".join(random.choice(list("ACGU"), length)), set()


class SharesKmers:
    """Whether a sequence shares a quarter of the 12-mers of the shorter one with any of some sequences."""

    def __init__(self, sequences: pd.Series) -> None:
        self.lengths = [len(text) for text in sequences]
        self.where: defaultdict[str, set[int]] = defaultdict(set)
        for number, text in enumerate(sequences):
            for kmer in self._kmers(text):
                self.where[kmer].add(number)

    def __call__(self, text: str) -> bool:
        """Whether this one does."""
        shared = Counter(number for kmer in self._kmers(text) for number in self.where.get(kmer, ()))
        return any(count >= 0.25 * (min(len(text), self.lengths[n]) - 11) for n, count in shared.items())

    @staticmethod
    def _kmers(text: str) -> set[str]:
        text = text.upper().replace("T", "U")
        return {text[i : i + 12] for i in range(len(text) - 11)}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
