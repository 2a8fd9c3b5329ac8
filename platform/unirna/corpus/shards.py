"""The corpus on disk: token shards that are memory-mapped, and a manifest.

A corpus is a folder with `manifest.json`, `summary.html`, `excluded.parquet`, `rejects.parquet` and, for each split and
shard, named `<split>-00000`, where n is its number of sequences:

    .tokens           uint8, one byte a nucleotide, sequences end to end without special tokens
    .offsets.npy      int64 [n + 1], where each sequence starts
    .source.npy       uint16 [n], number of its source in the manifest's list
    .cluster.npy      int64 [n], its cluster of near-duplicates, one number in all splits
    .group.npy        int32 [n], number of its group, such as its family, in `groups.json`; -1 for none
    .cumulative.npy   float64 [n], sampling weights added up within the shard
    .ids.parquet      id, source, sha, cluster, group, split: to trace what is in; training does not read it
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SPLITS: Final = ("train", "valid", "test")
FORMAT: Final = 2


class CorpusError(ValueError):
    """A folder that is not a corpus, or one whose files do not match its manifest; or settings that make none."""


def is_corpus(folder: str | Path) -> bool:
    """Whether a finished corpus stands in the folder: its manifest is written last."""
    return (Path(folder) / "manifest.json").is_file()


def digest_file(path: Path) -> str:
    """BLAKE2b of a file's content, 32 hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def verify(folder: str | Path) -> int:
    """Check every file of a corpus against the sizes and checksums of its manifest.

    Returns:
        The number of files.

    Raises:
        CorpusError: names the first file that is missing or differs.
    """
    files = _manifest(Path(folder))["files"]
    for name, wanted in files.items():
        path = Path(folder) / name
        if not path.exists():
            raise CorpusError(f"{path} is missing: the corpus is damaged, build it again")
        if path.stat().st_size != wanted["bytes"] or digest_file(path) != wanted["blake2b"]:
            raise CorpusError(f"{path} does not match its checksum in the manifest: the corpus is damaged, build it again")
    return len(files)


def _manifest(folder: Path) -> dict[str, Any]:
    if not is_corpus(folder):
        raise CorpusError(f"{folder}: no manifest.json. Build a corpus with jobs/corpus.py")
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise CorpusError(f"{folder} is of format {manifest['format']}, this version reads {FORMAT}: build it again")
    return manifest


class Corpus:
    """One split of a corpus, read without loading it: `corpus[i]` is a view of uint8 tokens [L].

    Attributes:
        manifest: the content of `manifest.json`. num_tokens: nucleotides in the split.
        sources: names of the sources. groups: names of the groups.

    Raises:
        CorpusError: no corpus, no such split, or a shard of another size than the manifest says.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder, self.split = Path(folder), split
        self.manifest = _manifest(self.folder)
        if split not in self.manifest["splits"]:
            raise CorpusError(f"{folder} has no split {split!r}; it has {', '.join(self.manifest['splits'])}")
        self.sources: tuple[str, ...] = tuple(self.manifest["sources"])
        self.groups: tuple[str, ...] = tuple(json.loads((self.folder / "groups.json").read_text(encoding="utf-8")))
        self._tokens: list[NDArray[np.uint8]] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._labels: dict[str, list[NDArray[Any]]] = {name: [] for name in ("source", "cluster", "group", "cumulative")}
        for shard in self.manifest["shards"]:
            part = shard["splits"].get(split)
            if not part or not part["sequences"]:
                continue
            stem = self.folder / f"{split}-{shard['number']:05d}"
            path = Path(f"{stem}.tokens")
            arrays = {name: _open(Path(f"{stem}.{name}.npy")) for name in ("offsets", *self._labels)}
            offsets = arrays.pop("offsets")
            if (
                len(offsets) != part["sequences"] + 1
                or not path.exists()
                or path.stat().st_size != part["nucleotides"]
                or offsets[-1] != part["nucleotides"]
                or any(len(array) != part["sequences"] for array in arrays.values())
            ):
                raise CorpusError(
                    f"{path} does not have the size that the manifest states: the corpus is damaged, build it again"
                )
            self._tokens.append(np.asarray(np.memmap(path, np.uint8, "r")))  # a plain view: slices cost less
            self._offsets.append(offsets)
            for name, array in arrays.items():
                self._labels[name].append(array)
        self._first = np.cumsum([0, *(len(o) - 1 for o in self._offsets)])
        self._weight = np.cumsum([0.0, *(float(c[-1]) for c in self._labels["cumulative"])])
        self.num_tokens = int(sum(len(t) for t in self._tokens))

    def __reduce__(self) -> tuple[type[Corpus], tuple[str, str]]:
        """Travels to other processes as its place, and is opened there."""
        return Corpus, (str(self.folder.absolute()), self.split)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        shard, row = self._place(index)
        start, end = self._offsets[shard][row : row + 2]
        return self._tokens[shard][start:end]

    def source_of(self, index: int) -> int:
        """Number of a sequence's source in `sources`."""
        return self._label("source", index)

    def cluster_of(self, index: int) -> int:
        """Number of a sequence's cluster of near-duplicates; the same in all splits, and no cluster is in two."""
        return self._label("cluster", index)

    def group_of(self, index: int) -> int:
        """Number of a sequence's group in `groups`, -1 for none."""
        return self._label("group", index)

    def group_numbers(self) -> NDArray[np.int64]:
        """The group of every sequence, -1 for none: int64 [N] in memory."""
        return np.concatenate([*self._labels["group"], np.empty(0, np.int32)]).astype(np.int64)

    def draw(self, random: np.random.Generator) -> int:
        """Draw a sequence by its sampling weight; its index.

        Raises:
            CorpusError: the split is empty.
        """
        if not len(self):
            raise CorpusError(f"{self.folder} has no sequence in its split {self.split!r} to draw")
        point = random.random() * self._weight[-1]
        shard = min(int(np.searchsorted(self._weight, point, side="right")) - 1, len(self._tokens) - 1)
        cumulative = self._labels["cumulative"][shard]
        row = int(np.searchsorted(cumulative, point - self._weight[shard], side="right"))
        return int(self._first[shard]) + min(row, len(cumulative) - 1)

    def _label(self, name: str, index: int) -> int:
        shard, row = self._place(index)
        return int(self._labels[name][shard][row])

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        return shard, index - int(self._first[shard])


def _open(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise CorpusError(f"{path} cannot be read ({error}): the corpus is damaged, build it again") from error
    return array
