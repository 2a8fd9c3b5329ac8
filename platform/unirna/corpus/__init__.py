"""Training corpora: from collections in any readable format to sharded, memory-mapped token files with a manifest."""

from unirna.corpus.build import BuildConfig, build_corpus
from unirna.corpus.shards import Corpus, CorpusError, is_corpus

__all__ = ["BuildConfig", "Corpus", "CorpusError", "build_corpus", "is_corpus"]
