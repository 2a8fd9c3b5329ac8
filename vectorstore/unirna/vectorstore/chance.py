"""How often chance finds as good a hit: what random queries find in a collection, kept with it.

For random queries of several lengths the best score in the whole collection is recorded. Such best scores follow a Gumbel
distribution, whose location and scale are interpolated over the logarithm of the length. The p of a hit is
the probability that the best hit of a random query of that length scores as high: it takes into account that many rows were
compared. Where rows come later, the location moves as that of the best of more does: by scale x ln(rows now / rows then).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unirna.vectorstore.collection import Collection, open
from unirna.vectorstore.hybrid import search_hybrid
from unirna.vectorstore.schema import CHANCE_KEY

SIGNIFICANT: Final = 0.05
"""A hit whose p is at most this is called better than chance."""
EULER: Final = 0.5772156649
ROUNDING: Final = 1e-6
"""How close to 1 a cosine can be told from it."""
LEAST_SCALE: Final = 1e-3
"""Of a distribution, as a share of its location's size: where all random queries find the same."""


@dataclass(frozen=True)
class Extremes:
    """Gumbel distributions of the best score of random queries, by query length.

    Attributes:
        lengths: of the queries, ascending, in nucleotides.
        locations: the mode of the best score at each length.
        scales: its scale at each length.
    """

    lengths: tuple[int, ...]
    locations: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(cls, lengths: ArrayLike, best: ArrayLike) -> Self:
        """Fit them.

        Args:
            lengths: of the queries, int [n], each of a few values several times.
            best: their best scores [n].
        """
        sizes, scores = np.asarray(lengths, int), np.asarray(best, float)
        every = np.unique(sizes)
        means = np.array([scores[sizes == size].mean() for size in every])
        spread = np.array([scores[sizes == size].std(ddof=1) if (sizes == size).sum() > 1 else 0.0 for size in every])
        counts = np.array([(sizes == size).sum() for size in every])
        scales = np.sqrt(6) / np.pi * _smoothed(np.log(every), spread, counts)
        scales = np.maximum(scales, LEAST_SCALE * np.maximum(np.abs(means), 1))
        return cls(tuple(every.tolist()), tuple((means - EULER * scales).tolist()), tuple(scales.tolist()))

    def p(self, scores: ArrayLike, length: float | None, growth: float = 1.0) -> NDArray[np.float64]:
        """How often the best hit of a random query scores as high.

        Args:
            scores: of hits [n].
            length: of the query, in nucleotides; None if it is not known, for the largest p of all lengths.
            growth: rows of the collection now, by the rows it had when this was measured.

        Returns:
            p [n].
        """
        at = np.log(np.array(self.lengths if length is None else (max(length, 1),), float))
        known = np.log(self.lengths)
        location, scale = np.interp(at, known, self.locations), np.interp(at, known, self.scales)
        location = location + scale * np.log(max(growth, 1e-9))
        height = (np.asarray(scores, float)[:, None] - location) / scale
        found: NDArray[np.float64] = -np.expm1(-np.exp(np.minimum(-height, 500)))
        most: NDArray[np.float64] = found.max(axis=1)
        return most


def stretched(cosines: ArrayLike) -> NDArray[np.float64]:
    """Cosines without an upper bound (Fisher's z): models whose vectors all lie close together differ near 1 alone."""
    found: NDArray[np.float64] = np.arctanh(np.clip(np.asarray(cosines, float), -1 + ROUNDING, 1 - ROUNDING))
    return found


def _smoothed(x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each value averaged with its neighbours, weighted by the number of queries: a spread of few queries is uncertain."""
    weights = counts * (1.0 * (np.abs(x[:, None] - x[None]) < 0.1) + 0.5 * (np.abs(x[:, None] - x[None]) < 1.0))
    smooth: NDArray[np.float64] = np.sqrt((weights * y**2).sum(axis=1) / weights.sum(axis=1))
    return smooth


@dataclass(frozen=True)
class Chance:
    """What random queries find in a collection.

    Attributes:
        fingerprint: of the model that made the vectors.
        rows: of the collection when this was measured.
        queries: how many random queries were searched for.
        cosine: the best cosine of the vectors, `stretched`.
        joined: the best mean of the cosines of vectors and k-mers, `stretched`; None if the k-mers do not fit in memory.
        score: the best alignment score; None likewise.
        seconds: that it took.
    """

    fingerprint: str
    rows: int
    queries: int
    cosine: Extremes
    joined: Extremes | None = None
    score: Extremes | None = None
    seconds: float = 0.0

    def of_hits(
        self,
        similarity: ArrayLike,
        *,
        length: float | None,
        rows: int,
        shared: ArrayLike | None = None,
        score: Sequence[int | None] | None = None,
    ) -> NDArray[np.float64] | None:
        """How often the best hit of a random query is as good as each hit of a query.

        Args:
            similarity: cosines of the vectors [n].
            length: A, C, G and U of the query; None if only its vector is known.
            rows: of the collection now.
            shared: cosines of the k-mers [n], of a hybrid search without alignment: the sum of both is judged.
            score: alignment scores, of an aligned search. The less probable of cosine and score is judged, and since that
                makes two tries, p is 1 - (1 - p)^2. A hit without alignment is judged by its cosine.

        Returns:
            p [n]; None if this kind of search was not measured.
        """
        growth = rows / max(self.rows, 1)
        cosine = self.cosine.p(stretched(similarity), length, growth)
        if score is not None:
            if self.score is None:
                return None
            aligned = np.array([-np.inf if one is None else one for one in score], float)
            least = np.minimum(cosine, self.score.p(aligned, length, growth))
            either: NDArray[np.float64] = -np.expm1(2 * np.log1p(-least))  # 1 - (1 - p)^2, exact where p is tiny
            return either
        if shared is not None:
            both = stretched(np.add(similarity, shared) / 2)
            return None if self.joined is None else self.joined.p(both, length, growth)
        return cosine

    def to_json(self) -> str:
        """As it stands in the table's configuration."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote, by this version or another."""
        values = {key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__}
        for kind in ("cosine", "joined", "score"):
            if values.get(kind) is not None:
                values[kind] = Extremes(**{key: tuple(value) for key, value in values[kind].items()})
        return cls(**values)


def measure_chance(collection: Collection, sequences: Sequence[str], vectors: NDArray[np.float32]) -> Chance:
    """Search a collection with random sequences.

    Args:
        collection: what is searched.
        sequences: the random queries, normalised; each length several times.
        vectors: theirs, by the collection's model, float32 [n, D].

    Returns:
        The distributions of their best scores. Those of hybrid and aligned searches are left out where the k-mers of the
        collection do not fit in memory and have no index.

    Raises:
        ValueError: as for `Collection.search`.
    """
    lengths = [len(text) for text in sequences]
    columns = ["id"]
    near = collection.search(vectors, k=1, columns=columns)
    cosine = Extremes.of(lengths, stretched(near["similarity"].to_numpy()))
    joined = score = None
    if collection.kmers_fit_in_memory or collection.has_kmer_index:
        both = search_hybrid(collection, sequences, vectors, k=1, columns=columns)
        joined = Extremes.of(lengths, stretched(np.add(both["similarity"].to_numpy(), both["_shared"].to_numpy()) / 2))
        aligned = search_hybrid(collection, sequences, vectors, k=1, columns=columns, verify=True)
        score = Extremes.of(lengths, aligned["alignment_score"].to_numpy(zero_copy_only=False).astype(float))
    return Chance(collection.provenance.fingerprint, len(collection), len(sequences), cosine, joined, score)


def keep_chance(uri: str, name: str, chance: Chance) -> None:
    """Keep it with the collection, instead of what was kept there before.

    Args:
        uri: the store.
        name: the collection.
        chance: what was measured.

    Raises:
        StoreError: no such collection.
    """
    open(uri, name).dataset.update_config({CHANCE_KEY: chance.to_json()})


def chance_of(collection: Collection) -> Chance | None:
    """What random queries find in a collection, None if it was not measured with its model (`keep_chance`)."""
    record = collection.dataset.config().get(CHANCE_KEY)
    if record is None:
        return None
    found = Chance.from_json(record)
    return found if found.fingerprint == collection.provenance.fingerprint else None
