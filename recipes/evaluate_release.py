"""Score a model's plain vectors: retrieval of Rfam families, and frozen linear probes on nRC classes and ribosome load.

    .venv/bin/python recipes/evaluate_release.py --model runs/mini/model --shared ../shared --out evaluation.json

- retrieval: the zero-shot benchmark `retrieval_dev`, cosine of `Model.embed`, by its own script `score_retrieval.py`;
  4-mer and 6-mer (tf-idf) counts beside it, scored in the same way;
- nRC: logistic regression on standardised vectors, 13 classes, trained on the training rows that are not test rows too,
  tested on the test rows that do not stand in the training set;
- shuffles: by how much dinucleotide-preserving shuffles of the retrieval's queries are more surprising (pseudo-perplexity);
- MRL: ridge regression on standardised vectors, mean ribosome load of 5'UTRs, the fixed split; strength by the validation
  rows. Also on the states averaged for each reading frame of the start codon that follows: a start codon upstream costs
  much where it stands out of frame, little in frame, and one mean over all nucleotides cannot tell them apart.

One thousand hits a query go to `hits.tsv` beside the results, for anyone to score again.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler, normalize

from unirna import model
from unirna.corpus import Corpus
from unirna.job import num_cpus, say
from unirna.model.attention import Segments
from unirna.sequence import normalise, shuffle_dinucleotides
from unirna.train import corpus_whitening

HITS = 1000
BESIDE = {"nrc": {"k-mer": 0.778, "CNN": 0.860}, "mrl": {"k-mer": 0.406, "CNN": 0.681}}
"""Simple models on the same files, as `bench/README.md` of the shared data states them."""
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """Score a model's plain vectors."""

    model: str
    """Shipped name or folder of the model."""
    corpus: str = ""
    """Fit the model's whitening again on this corpus: for a checkpoint of a run, `RUN/checkpoints/step-…`."""
    vector_size: int = 512
    """Length of the vectors, if the whitening is fitted again."""
    shared: str = "../shared"
    """Folder of the shared data and benchmarks."""
    out: str = "evaluation.json"
    """File for the results."""
    probes: bool = True
    """Also the probes and the shuffles; they take most of the time."""
    kmers: bool = True
    """Also the k-mer rows of the retrieval."""


def main(config: Config) -> dict[str, Any]:
    """Score the model; write the results and return them."""
    torch.set_num_threads(num_cpus())
    torch.set_flush_denormal(True)
    shared, encoder = Path(config.shared), model.load(config.model)
    started = time.monotonic()
    if config.corpus:
        encoder.encoder.whitening = corpus_whitening(encoder.encoder, Corpus(config.corpus), config.vector_size)
    hits = Path(config.out).parent / "hits.tsv"
    results: dict[str, Any] = {
        "model": config.model,
        "fingerprint": encoder.fingerprint,
        "dimension": encoder.dimension,
        "retrieval": {"vectors": retrieval(shared, encoder.embed, hits)},
    }
    say(f"retrieval {results['retrieval']['vectors']}")
    if config.kmers:
        for k, weighted in ((4, False), (6, True)):
            name = f"{k}-mer {'tf-idf ' if weighted else ''}cosine"
            results["retrieval"][name] = kmer_retrieval(shared, k, weighted)
            say(f"{name} {results['retrieval'][name]}")
    if config.probes:
        results["shuffles"] = shuffle_gap(shared, encoder)
        say(f"dinucleotide-preserving shuffles {results['shuffles']}")
        results["nrc"] = nrc_probe(shared, encoder) | BESIDE["nrc"]
        say(f"nRC accuracy {results['nrc']}")
        results["mrl"] = mrl_probe(shared, encoder) | BESIDE["mrl"]
        say(f"MRL R2 {results['mrl']}")
    results["seconds"] = round(time.monotonic() - started)
    Path(config.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def retrieval(shared: Path, embed: Any, hits: Path) -> dict[str, float]:
    """R@1 and MAP of a function from sequences to vectors (dense or sparse rows)."""
    bench = shared / "bench" / "retrieval_dev"
    corpus, queries = (pd.read_parquet(bench / f"{name}.parquet") for name in ("corpus", "queries"))
    rows = normalize(embed(list(corpus.sequence) + list(queries.sequence)))
    scores = rows[len(corpus) :] @ rows[: len(corpus)].T
    scores = np.asarray(scores.todense() if hasattr(scores, "todense") else scores, np.float32)
    top = np.argpartition(-scores, HITS, axis=1)[:, :HITS]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), axis=1)
    ids = corpus.id.to_numpy()
    with hits.open("w", encoding="utf-8") as file:
        for query, row in zip(queries.id, top, strict=True):
            found = [ids[i] for i in row if ids[i] != query]
            file.writelines(f"{query}\t{rank}\t{target}\n" for rank, target in enumerate(found, 1))
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, str(shared / "bench" / "score_retrieval.py")]
        command += ["--hits", str(hits), "--bench", str(bench), "--json", out.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        table = {row["set"]: row for row in json.loads(Path(out.name).read_text(encoding="utf-8"))["table"]}
    return {
        "R@1": table["all"]["R@1"],
        "R@1 below 80 %": table["only relevant <80 %"]["R@1"],
        "R@1 below 60 %": table["only relevant <60 %"]["R@1"],
        "MAP@100": table["all"]["MAP@100"],
    }


def kmer_retrieval(shared: Path, k: int, weighted: bool) -> dict[str, float]:
    """The same with k-mer counts, tf-idf weighted or as they are."""

    def embed(texts: list[str]) -> Any:
        counts = CountVectorizer(analyzer="char", ngram_range=(k, k), lowercase=False, dtype=np.float32).fit_transform(
            texts
        )
        return TfidfTransformer(sublinear_tf=True).fit_transform(counts) if weighted else counts

    with tempfile.NamedTemporaryFile(suffix=".tsv") as hits:
        return retrieval(shared, embed, Path(hits.name))


def nrc_probe(shared: Path, encoder: model.Model) -> dict[str, float]:
    """Accuracy of a logistic regression on frozen vectors, and on the states of which they are made."""
    rows = pd.read_parquet(shared / "data" / "nrc_13class" / "data.parquet")
    train = rows[rows.split == "train"]
    test = rows[rows.split.str.startswith("test")].drop_duplicates("id")
    test = test[~test.sequence.isin(set(train.sequence))]
    known, asked = (both(encoder, list(part.sequence)) for part in (train, test))
    scores: dict[str, float] = {}
    for name in known:
        scaler = StandardScaler().fit(known[name])
        fitted = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(known[name]), train.label)
        scores[name] = round(float(fitted.score(scaler.transform(asked[name]), test.label)), 4)
    return scores


def mrl_probe(shared: Path, encoder: model.Model) -> dict[str, float]:
    """R2 of a ridge regression on frozen vectors, on the states of which they are made, and on these by reading frame."""
    rows = pd.read_parquet(shared / "bench" / "splits" / "mrl_m1psu2_20k.parquet")
    train, valid, test = (np.flatnonzero(rows.split == name) for name in ("train", "val", "test"))
    values = {**both(encoder, list(rows.sequence)), "by reading frame": by_frame(encoder, list(rows.sequence))}
    scores: dict[str, float] = {}
    for name, x in values.items():
        x = StandardScaler().fit(x[train]).transform(x)
        tried = [Ridge(alpha).fit(x[train], rows.mrl[train]) for alpha in np.logspace(0, 4, 9)]
        best = max(tried, key=lambda fitted: fitted.score(x[valid], rows.mrl[valid]))
        scores[name] = round(float(best.score(x[test], rows.mrl[test])), 4)
    return scores


def by_frame(encoder: model.Model, sequences: list[str]) -> Matrix:
    """Mean states of all layers over the places 0, 1 and 2 nucleotides (mod 3) before the 3' end, side by side."""
    layers = range(1, encoder.config.num_layers + 1)
    whitening, encoder.encoder.whitening = encoder.encoder.whitening, model.Whitening.identity(encoder.config, layers)
    rows: list[Matrix] = []
    for start in range(0, len(sequences), 64):
        batch = model.pack([normalise(sequence) for sequence in sequences[start : start + 64]])
        segments = Segments(torch.from_numpy(batch.boundaries), encoder.device)
        left = torch.tensor(segments.lengths, device=encoder.device)[segments.index] - 2 - segments.positions
        inner = (left >= 0) & (segments.positions > 0)
        group = (3 * segments.index + left % 3)[inner]
        with torch.inference_mode():
            states = torch.cat(
                list(encoder.encoder.states(torch.from_numpy(batch.tokens).int().to(encoder.device), segments)), 1
            )[inner]
        sums = torch.zeros(3 * len(batch), states.shape[1], device=encoder.device).index_add_(0, group, states)
        means = sums / torch.bincount(group, minlength=len(sums)).clamp(min=1)[:, None]
        rows.append(means.view(len(batch), -1).cpu().numpy())
    encoder.encoder.whitening = whitening
    return np.concatenate(rows)


def both(encoder: model.Model, sequences: list[str]) -> dict[str, Matrix]:
    """The vectors of sequences, and the mean states before the whitening (of all its layers, side by side)."""
    whitening = encoder.encoder.whitening
    if whitening is None:
        return {"vectors": encoder.embed(sequences)}
    encoder.encoder.whitening = model.Whitening.identity(encoder.config, whitening.layers).to(encoder.device)
    states = encoder.embed(sequences)
    encoder.encoder.whitening = whitening
    return {"vectors": whitening(torch.from_numpy(states).to(encoder.device)).cpu().numpy(), "states": states}


def shuffle_gap(shared: Path, encoder: model.Model) -> dict[str, float]:
    """How much more surprising dinucleotide-preserving shuffles are, in nats a nucleotide, over families never met."""
    queries = pd.read_parquet(shared / "bench" / "retrieval_dev" / "queries.parquet").sequence
    random = np.random.default_rng(0)
    gaps = [
        math.log(encoder.pseudo_perplexity(shuffle_dinucleotides(s, random)) / encoder.pseudo_perplexity(s))
        for s in queries[queries.str.len().between(40, 130)][:100]
    ]
    return {
        "sequences": len(gaps),
        "mean": round(float(np.mean(gaps)), 4),
        "standard_error": round(float(np.std(gaps, ddof=1) / len(gaps) ** 0.5), 4),
        "share_positive": round(float(np.mean(np.array(gaps) > 0)), 3),
    }


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Config, description=__doc__))))
