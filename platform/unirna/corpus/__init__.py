"""Training corpora: collections in any format -> clean, deduplicated, clustered, split, weighted shards."""

from unirna.corpus.build import build_corpus
from unirna.corpus.cluster import agreement
from unirna.corpus.config import BuildConfig, CorpusSource, parse_source
from unirna.corpus.job import corpus_job
from unirna.corpus.shards import Corpus, CorpusError, is_corpus, verify

__all__ = [
    "BuildConfig",
    "Corpus",
    "CorpusError",
    "CorpusSource",
    "agreement",
    "build_corpus",
    "corpus_job",
    "is_corpus",
    "parse_source",
    "verify",
]
