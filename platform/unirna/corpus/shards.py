"""The corpus on disk: token shards that are memory-mapped, and a manifest.

A corpus is a folder with `manifest.json` and, for each shard and split, `<split>-00000.tokens` (uint8, one byte per
nucleotide, sequences end to end without special tokens) and `<split>-00000.offsets.npy` (int64 [n + 1]).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CorpusError(ValueError):
    """A folder that is no corpus, or one whose files do not match its manifest."""


def is_corpus(folder: str | Path) -> bool:
    """Whether a finished corpus stands in the folder: its manifest is written last."""
    return (Path(folder) / "manifest.json").is_file()


class Corpus:
    """One split of a corpus, read without loading it: `corpus[i]` is a view of uint8 tokens [L].

    Attributes:
        manifest: the content of `manifest.json`. num_tokens: nucleotides in the split.
        sources: names of the inputs that the sequences came from.

    Raises:
        CorpusError: no corpus, no such split, or a shard of another size than the manifest says.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder, self.split = Path(folder), split
        if not is_corpus(folder):
            raise CorpusError(f"{folder}: no manifest.json. Build a corpus with jobs/corpus.py")
        self.manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        if split not in self.manifest["splits"]:
            raise CorpusError(f"{folder} has no split {split!r}; it has {', '.join(self.manifest['splits'])}")
        self.sources: tuple[str, ...] = tuple(dict.fromkeys(shard["source"] for shard in self.manifest["shards"]))
        self._source: list[int] = []
        self._tokens: list[NDArray[np.uint8]] = []
        self._offsets: list[NDArray[np.int64]] = []
        for shard in self.manifest["shards"]:
            part = shard["splits"].get(split)
            if not part or not part["sequences"]:
                continue
            stem = self.folder / f"{split}-{shard['number']:05d}"
            offsets = np.load(f"{stem}.offsets.npy", mmap_mode="r")
            path = Path(f"{stem}.tokens")
            if (
                len(offsets) != part["sequences"] + 1
                or path.stat().st_size != part["nucleotides"]
                or offsets[-1] != part["nucleotides"]
            ):
                raise CorpusError(
                    f"{path} is not of the size that the manifest gives: the corpus is damaged, build it again"
                )
            self._tokens.append(np.memmap(path, np.uint8, "r"))
            self._offsets.append(offsets)
            self._source.append(self.sources.index(shard["source"]))
        self._first = np.cumsum([0, *(len(o) - 1 for o in self._offsets)])
        self.num_tokens = int(sum(len(t) for t in self._tokens))

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        shard = self._shard_of(index)
        start, end = self._offsets[shard][index - self._first[shard] : index - self._first[shard] + 2]
        return self._tokens[shard][start:end]

    def draw(self, random: np.random.Generator) -> int:
        """The index of a sequence drawn with its sampling weight; here all weigh the same."""
        return int(random.integers(len(self)))

    def source_of(self, index: int) -> int:
        """Place in `sources` of the input that a sequence came from."""
        return self._source[self._shard_of(index)]

    def cluster_of(self, index: int) -> int:
        """The number of a sequence's cluster; without clustering each sequence is one."""
        return index

    def group_of(self, index: int) -> int:
        """The number of a sequence's group (its family, where the input names one); without groups each is one."""
        return index

    def _shard_of(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        return int(np.searchsorted(self._first, index, side="right")) - 1
