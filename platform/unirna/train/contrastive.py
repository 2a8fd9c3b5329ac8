"""The contrastive objective: members of one group, or two views of one sequence, get vectors that lie close together.

Every sequence that is drawn brings a partner: another member of its group (such as its Rfam family) from another cluster of
near-duplicates, or itself. Both are cropped at random; the two views of a sequence that is its own partner are also
mutated, each on its own. The loss is the supervised InfoNCE of Khosla et al. 2020 over the mean vectors of the batch,
standardised with the batch's own mean and deviation, since the mean vectors of a language model point almost all the same
way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unirna.corpus import Corpus
from unirna.model import NUCLEOTIDES, Encoder, pack_tokens
from unirna.model.attention import Segments
from unirna.train.masking import MASK_RATE, mask_tokens
from unirna.train.objective import Metrics, Objective

TEMPERATURE = 0.1
LEAST_CROP = 0.6
"""Shortest view, as a share of the sequence."""
MUTATION_RATE = 0.25
"""Most changes of a view of a sequence that is its own partner, as a share of its nucleotides."""
SHORTEST = 16

Tokens = NDArray[np.uint8]


@dataclass(frozen=True)
class PairBatch:
    """One forward pass: a masked batch as `MaskedBatch` has it, and `labels` int64 [N]: equal for what belongs together."""

    tokens: Tokens
    boundaries: NDArray[np.int32]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What the objective's forward pass takes, in its order."""
        return self.tokens, self.boundaries, self.places, self.targets, self.labels

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        lengths: list[int] = np.diff(self.boundaries).tolist()
        return lengths


class PairSource:
    """Draws batches of pairs from a corpus, each a function of (seed, step, number).

    Args:
        corpus: one split of a corpus; its groups say what belongs together.
        seed: of order, partners, views and masks.
        budget: tokens of a batch, special tokens included.
        context: longest view, in nucleotides.
        mask_rate: share of the nucleotides to predict.
        group_share: share of the draws whose partner is another member of the group; the others are their own.
        mutation_rate: most changes of a view of a sequence that is its own partner, as a share of its nucleotides.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        seed: int,
        budget: int,
        context: int,
        mask_rate: float = MASK_RATE,
        group_share: float = 1.0,
        mutation_rate: float = MUTATION_RATE,
    ) -> None:
        self.corpus, self.seed, self.budget, self.context = corpus, seed, budget, context
        self.mask_rate, self.group_share, self.mutation_rate = mask_rate, group_share, mutation_rate
        groups = corpus.group_numbers()
        self._members = np.argsort(groups, kind="stable")
        self._first = np.searchsorted(groups[self._members], np.arange(len(corpus.groups) + 1))

    def batch(self, step: int, number: int) -> PairBatch:
        """Batch `number` of optimiser step `step`."""
        random = np.random.default_rng((self.seed, step, number))
        views: list[Tokens] = []
        labels: list[int] = []
        room = self.budget
        while True:
            index = self.corpus.draw(random)
            partner = self._partner(index, random)
            pair = [self._view(i, random, mutate=partner == index) for i in (index, partner)]
            need = sum(map(len, pair)) + 4
            if need > room:
                if views:
                    break
                pair = [view[: room // 2 - 2] for view in pair]
                need = room
            room -= need
            views += pair
            group = self.corpus.group_of(index)
            labels += [group if group >= 0 else -1 - index] * 2
        order = sorted(range(len(views)), key=lambda i: len(views[i]))  # equal lengths side by side, as in `mask_pieces`
        packed = pack_tokens([views[i] for i in order])
        hidden, places, targets = mask_tokens(packed.tokens, random, self.mask_rate)
        return PairBatch(hidden, packed.boundaries, places, targets, np.array(labels, np.int64)[order])

    def _partner(self, index: int, random: np.random.Generator) -> int:
        """Another member of the sequence's group from another cluster, itself if three draws found none."""
        group = self.corpus.group_of(index)
        if group >= 0 and (self.group_share == 1 or random.random() < self.group_share):
            first, end = self._first[group : group + 2]
            cluster = self.corpus.cluster_of(index)
            for place in random.integers(first, end, size=3):
                other = int(self._members[place])
                if self.corpus.cluster_of(other) != cluster:
                    return other
        return index

    def _view(self, index: int, random: np.random.Generator, *, mutate: bool) -> Tokens:
        tokens = self.corpus[index]
        least = max(min(SHORTEST, len(tokens)), round(LEAST_CROP * len(tokens)))
        size = len(tokens) if random.random() < 0.5 else int(random.integers(least, len(tokens) + 1))
        size = min(size, self.context)
        start = int(random.integers(len(tokens) - size + 1))
        view = tokens[start : start + size]
        return mutated(view, self.mutation_rate * random.random(), random) if mutate else view


def mutated(tokens: Tokens, rate: float, random: np.random.Generator) -> Tokens:
    """A copy in which each nucleotide is changed with probability `rate`.

    Of the changes 80 % are substitutions by a random nucleotide, 10 % deletions, 10 % insertions. Never empty.
    """
    fate = random.random(len(tokens)) / max(rate, 1e-9)
    copy = np.where(fate < 0.8, random.choice(NUCLEOTIDES, len(tokens)), tokens).astype(np.uint8)
    times = np.where((fate >= 0.8) & (fate < 0.9), 0, np.where((fate >= 0.9) & (fate < 1), 2, 1))
    if not times.any():
        return copy
    changed = np.repeat(copy, times)
    doubled = np.flatnonzero(np.repeat(times == 2, times))[1::2]
    changed[doubled] = random.choice(NUCLEOTIDES, len(doubled))
    return changed


def supervised_info_nce(vectors_NH: Tensor, labels_N: Tensor, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
    """Mean over sequences of -log p(a sequence of the same label), and the share whose nearest is of the same label.

    Args:
        vectors_NH: of unit length, float [N, H].
        labels_N: int [N].

    Returns:
        The loss in nats and the accuracy, scalars; (0, 0) for a batch in which no label occurs twice.
    """
    logits = vectors_NH @ vectors_NH.T / temperature
    itself = torch.eye(len(labels_N), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(itself, float("-inf"))
    same = (labels_N[:, None] == labels_N) & ~itself
    count = same.sum(1)
    log_p = logits - logits.logsumexp(1, keepdim=True)
    losses = -log_p.masked_fill(~same, 0.0).sum(1) / count.clamp(min=1)
    has = count > 0
    nearest = same.gather(1, logits.argmax(1, keepdim=True))[:, 0]
    total = has.sum().clamp(min=1)
    return (losses * has).sum() / total, (nearest & has).sum() / total


class Contrastive(Objective):
    """The contrastive objective, alone or added to the masked one on the same forward pass.

    Args:
        encoder: what is trained. source: of pairs.
        masked_weight: of the masked-language-model loss: 0 for the contrastive loss alone.
    """

    def __init__(self, encoder: Encoder, source: PairSource, masked_weight: float) -> None:
        super().__init__(encoder, source)
        self.masked_weight = masked_weight

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Metrics]:
        """The weighted sum of both losses in nats; both, and the accuracy of each, as metrics."""
        tokens_T, boundaries, places_M, targets_M, labels_N = arrays
        segments = Segments(boundaries, tokens_T.device)
        hidden_TH = self.encoder(tokens_T.int(), segments)
        assert self.encoder.lm_head is not None
        logits = self.encoder.lm_head(hidden_TH.index_select(0, places_M)).float()
        masked = F.cross_entropy(logits, targets_M)
        with torch.autocast(hidden_TH.device.type, enabled=False):  # similarities over the temperature need their digits
            contrast, nearest = supervised_info_nce(batch_vectors(hidden_TH.float(), segments), labels_N)
        metrics = {
            "masked_loss": masked,
            "accuracy": (logits.argmax(-1) == targets_M).float().mean(),
            "contrastive_loss": contrast,
            "pair_accuracy": nearest,
        }
        return contrast + self.masked_weight * masked, metrics


def batch_vectors(hidden_TH: Tensor, segments: Segments) -> Tensor:
    """Mean over each sequence's nucleotides, standardised over the batch, of unit length: [N, H]."""
    inner = torch.ones(len(hidden_TH), 1, device=hidden_TH.device)
    ends = segments.boundaries.long()
    inner[ends[:-1]] = inner[ends[1:] - 1] = 0.0  # <cls> and <eos>
    sums = torch.zeros(len(ends) - 1, hidden_TH.shape[1], device=hidden_TH.device)
    means = sums.index_add(0, segments.index, hidden_TH * inner) / (ends.diff() - 2)[:, None]
    means = (means - means.mean(0)) / (means.std(0) + 1e-4)
    return F.normalize(means, dim=1)
