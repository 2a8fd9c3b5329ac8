"""A loaded model: sequences in, vectors out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import torch
from numpy.typing import NDArray
from torch import Tensor

import unirna
from unirna.model.adapter import BASE_FILE, merge_adapters, read_adapted
from unirna.model.attention import Segments
from unirna.model.checkpoint import CheckpointError, fingerprint, load_checkpoint, save_checkpoint
from unirna.model.config import SIZES, EncoderConfig
from unirna.model.encoder import Encoder
from unirna.model.tokens import MASK, NUCLEOTIDES, UNKNOWN, Tokens, pack_tokens, tokenise
from unirna.model.whitening import Whitening
from unirna.model.windows import OVERLAP, Pooling, Window, plan_windows, pooling_weights
from unirna.sequence import SequenceError, normalise


def _shipped() -> Path:
    """Beside this file, at the top of a checkout, beside an installed part of the package, or in a Ray job's own folder."""
    here = Path(__file__).resolve()
    installed = [Path(part) / "model" for part in unirna.__path__]
    places = [place / "weights" for place in (here.parent, here.parents[3], *installed, Path.cwd())]
    return next((place for place in places if (place / "unirna-mini").is_dir()), places[0])


SHIPPED = _shipped()
"""Folder of the models that come with the package, one folder each."""

CACHE_FLOATS = 3 << 19
"""Feed-forward activations of one CPU batch: 6 MB, about what the caches of one core hold."""

LEAST_TOKENS = 32
"""A shorter batch gets one more sequence, which nobody sees: products of few rows are rounded in another way."""

if hasattr(os, "register_at_fork"):
    # The threads of OpenMP are not there in a forked process, which would wait for them for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

Vectors = NDArray[np.float32]
Ends = Sequence[int] | Tensor | NDArray[np.int32]


class Model:
    """An encoder with its name and device.

    A sequence has one vector: the mean over its L nucleotides (`<cls>` and `<eos>` left out), or the middle one's
    (`pooled`), the same alone or in any batch. A nucleotide's row is its final hidden state, or what the checkpoint's
    whitening makes of its states in several layers (`Whitening`). Sequences longer than `context` nucleotides are
    embedded in overlapping windows (`plan_windows`).

    Attributes:
        encoder: the network. name: where it was loaded from. pooling: what a vector is made of.
    """

    def __init__(
        self, encoder: Encoder, name: str, device: str | torch.device | None = None, *, pooling: Pooling = "mean"
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.encoder = encoder.eval().to(self.device)
        self.name = name
        self.pooling = pooling

    def pooled(self, pooling: Pooling) -> Model:
        """This model, on the same encoder, with vectors made of other nucleotides; it has a fingerprint of its own."""
        return self if pooling == self.pooling else Model(self.encoder, self.name, self.device, pooling=pooling)

    def __repr__(self) -> str:
        c = self.config
        return f"Model({self.name!r}, {c.num_layers} x {c.hidden_size}, {self.fingerprint}, {self.device})"

    @property
    def config(self) -> EncoderConfig:
        """The encoder's shape."""
        return self.encoder.config

    @property
    def dimension(self) -> int:
        """D, the length of a vector: that of the whitening if there is one, else the hidden size H."""
        return self.config.hidden_size if self.encoder.whitening is None else self.encoder.whitening.matrix.shape[1]

    @property
    def context(self) -> int:
        """Longest sequence embedded in one piece, in nucleotides."""
        return self.config.context

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name the encoder's shape and weights, and the pooling if it is not the mean."""
        found = fingerprint(self.encoder)
        if self.pooling == "mean":
            return found
        return hashlib.sha256(f"{found} {self.pooling}".encode()).hexdigest()[:16]

    def windows(self, length: int) -> list[Window]:
        """The windows in which a sequence of `length` nucleotides is embedded."""
        return plan_windows(length, self.context, min(OVERLAP, self.context // 4))

    @property
    def batch_tokens(self) -> int:
        """Tokens of one forward pass such that its largest activations stay in the cache (`CACHE_FLOATS`)."""
        return 65536 if self.device.type == "cuda" else max(512, CACHE_FLOATS // self.config.intermediate_size)

    def embed(self, sequences: Sequence[str], *, batch_tokens: int | None = None) -> Vectors:
        """One vector per sequence.

        Args:
            sequences: RNA or DNA, either case.
            batch_tokens: tokens of one forward pass; changes speed and memory, not the vectors.

        Returns:
            float32 [N, D], in the order of the input.

        Raises:
            SequenceError: a sequence that is not RNA or DNA; it is named by its index.
        """
        if isinstance(sequences, str):
            raise TypeError("embed expects a list of sequences, got one string. Write embed([sequence])")
        tokens = [tokenise(normalise(s, f"sequence {i}")) for i, s in enumerate(sequences)]
        return self.embed_tokens(tokens, batch_tokens=batch_tokens)

    def embed_tokens(self, tokens: Sequence[Tokens], *, batch_tokens: int | None = None) -> Vectors:
        """One vector per sequence, as `embed`, from token arrays: uint8 [L] each, without special tokens (`tokenise`)."""
        return self._vectors_and_rows(tokens, [False] * len(tokens), batch_tokens)[0]

    def nucleotides(self, sequence: str) -> Vectors:
        """One row per nucleotide: float32 [L, D], row i for nucleotide i. Windows are blended as for `embed`.

        Raises:
            SequenceError: a sequence that is not RNA or DNA.
        """
        return self.nucleotides_tokens([tokenise(normalise(sequence))])[0]

    def nucleotides_tokens(self, tokens: Sequence[Tokens], *, batch_tokens: int | None = None) -> list[Vectors]:
        """One row per nucleotide of each sequence, float32 [L, D], as `nucleotides`, from token arrays (`tokenise`).

        All rows are in memory at once, with those of every layer that makes them: 4 F bytes a nucleotide.
        """
        return self._vectors_and_rows(tokens, [True] * len(tokens), batch_tokens)[1]

    def embed_each(
        self, sequences: Sequence[str], nucleotides: Sequence[bool], *, batch_tokens: int | None = None
    ) -> list[Vectors]:
        """Of some sequences the vector, of others the rows of their nucleotides, in the same passes.

        Args:
            sequences: RNA or DNA, either case. nucleotides: for each whether to return the rows of its nucleotides.
            batch_tokens: tokens of one pass.

        Returns:
            For each sequence float32 [D], as `embed`, or [L, D], as `nucleotides`.

        Raises:
            SequenceError: a sequence that is not RNA or DNA; it is named by its index.
        """
        tokens = [tokenise(normalise(s, f"sequence {i}")) for i, s in enumerate(sequences)]
        vectors, rows = self._vectors_and_rows(tokens, nucleotides, batch_tokens)
        return [rows[i] if wanted else vectors[i] for i, wanted in enumerate(nucleotides)]

    def _vectors_and_rows(
        self, tokens: Sequence[Tokens], nucleotides: Sequence[bool], batch_tokens: int | None
    ) -> tuple[Vectors, list[Vectors]]:
        """Vectors [N, D], and rows [L, D] of each sequence; each sequence has the one that was asked for, not both."""
        # Summed in float64: whitening raises the rounding of a long float32 sum above 1e-5.
        sums = torch.zeros(len(tokens), self._num_features, dtype=torch.float64, device=self.device)
        starts = np.cumsum([0, *(len(ids) * each for ids, each in zip(tokens, nucleotides, strict=True))])
        rows = torch.zeros(int(starts[-1]), self._num_features, device=self.device)
        pieces = [(i, window) for i, ids in enumerate(tokens) for window in self.windows(len(ids))]
        pieces.sort(key=lambda piece: (piece[1].end - piece[1].start, piece[0]))
        for batch in _batches(pieces, batch_tokens or self.batch_tokens):
            packed = pack_tokens([tokens[i][w.start : w.end] for i, w in batch])
            mean, owner = _pooling(batch, [_pooled(w, len(tokens[i]), self.pooling, nucleotides[i]) for i, w in batch])
            weights, _ = _pooling(batch, [w.weights * nucleotides[i] for i, w in batch])
            inside = weights > 0  # not the special tokens
            places = [np.arange(w.start, w.end) + starts[i] for i, w in batch if nucleotides[i]]
            place = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *places]))
            mean, owner, inside, place, weights = (
                x.to(self.device) for x in (mean[:, None], owner, inside, place, weights[inside][:, None])
            )
            states = self._states(packed.tokens, packed.boundaries)
            for of_sum, of_row, state in zip(self._parts(sums), self._parts(rows), states, strict=True):
                if len(places) < len(batch):
                    of_sum.index_add_(0, owner, state.double() * mean)
                if places:
                    of_row.index_add_(0, place, state.float()[inside] * weights)
        parts = np.split(self._whitened(rows).cpu().numpy(), starts[1:-1])
        return self._whitened(sums).cpu().numpy(), parts[: len(tokens)]

    def encode_tokens(self, tokens: Tokens | Tensor, boundaries: Ends) -> Vectors:
        """Hidden states of raw token ids.

        Args:
            tokens: token ids [T], every sequence with its `<cls>` and `<eos>`.
            boundaries: [N + 1], from 0 to T.

        Returns:
            float32 [T, H], after the final norm, special tokens included, not whitened.
        """
        return self._hidden(tokens, boundaries).float().cpu().numpy()

    def logits(self, tokens: Tokens | Tensor, boundaries: Ends) -> Vectors:
        """Language-model logits of raw token ids: float32 [T, 10]; arguments as for `encode_tokens`.

        Raises:
            CheckpointError: the checkpoint has no language-model head.
        """
        if self.encoder.lm_head is None:
            raise CheckpointError(f"{self.name} has no language-model head")
        with torch.inference_mode():
            hidden = self._hidden(tokens, boundaries)
            out: Vectors = self.encoder.lm_head(hidden.float()).float().cpu().numpy()
        return out

    def pseudo_perplexity(self, sequence: str, *, batch_tokens: int | None = None) -> float:
        """How surprising a sequence is to the language model (Salazar et al. 2020): 1 for not at all, 4 for mere guesses.

        exp of the mean of -log p(nucleotide | all others), each nucleotide masked in turn, among A, C, G and U; letters
        other than these are not scored. L nucleotides take L forward passes of one sequence. Of overlapping windows a
        nucleotide is scored in the one in which it counts most.

        Raises:
            SequenceError: a sequence that is not RNA or DNA, or that has no A, C, G or U.
            CheckpointError: the checkpoint has no language-model head.
        """
        ids = tokenise(normalise(sequence))
        places = np.flatnonzero(np.isin(ids, NUCLEOTIDES))
        if not len(places):
            raise SequenceError("a sequence without A, C, G or U has no pseudo-perplexity")
        return float(np.exp(-self.pseudo_log_likelihood(ids, batch_tokens=batch_tokens) / len(places)))

    def pseudo_log_likelihood(self, tokens: Tokens, *, batch_tokens: int | None = None) -> float:
        """Sum of ln p(nucleotide | all others) over the A, C, G and U of a sequence, from its tokens (`tokenise`).

        Raises:
            CheckpointError: the checkpoint has no language-model head.
        """
        places = np.flatnonzero(np.isin(tokens, NUCLEOTIDES))
        masks = [(int(place),) for place in places]
        found = self.masked_log_probabilities(tokens, masks, batch_tokens=batch_tokens)
        letter = np.argmax(tokens[places, None] == NUCLEOTIDES, axis=1)
        return float(sum(float(log_p[0, i]) for log_p, i in zip(found, letter, strict=True)))

    def masked_log_probabilities(
        self, tokens: Tokens, masks: Sequence[Sequence[int]], *, batch_tokens: int | None = None
    ) -> list[Vectors]:
        """Log-probabilities of A, C, G and U at hidden places.

        Args:
            tokens: of one sequence (`tokenise`).
            masks: places (from 0) that are hidden together, one set after the other.
            batch_tokens: tokens of one pass.

        Returns:
            For each set of k places float32 [k, 4]. Of overlapping windows a place is read in the one in which it counts
            most.

        Raises:
            CheckpointError: the checkpoint has no language-model head.
        """
        if self.encoder.lm_head is None:
            raise CheckpointError(f"{self.name} has no language-model head")
        windows = self.windows(len(tokens))
        weight = np.zeros((len(windows), len(tokens)), np.float32)
        for i, window in enumerate(windows):
            weight[i, window.start : window.end] = window.weights
        out = [np.zeros((len(mask), len(NUCLEOTIDES)), np.float32) for mask in masks]
        passes = sorted({(int(weight[:, place].argmax()), i) for i, mask in enumerate(masks) for place in mask})
        acgu = torch.from_numpy(NUCLEOTIDES.astype(np.int64)).to(self.device)
        for batch in _batches(
            [(number, windows[w]) for number, (w, _) in enumerate(passes)], batch_tokens or self.batch_tokens
        ):
            packed = pack_tokens([tokens[window.start : window.end] for _, window in batch])
            ids = torch.from_numpy(packed.tokens).long()
            hidden_at: list[int] = []
            targets: list[tuple[int, int]] = []
            for end, (number, window) in zip(packed.boundaries[:-1], batch, strict=True):
                chosen, mask = passes[number]
                for k, place in enumerate(masks[mask]):
                    if window.start <= place < window.end:
                        at = int(end) + 1 + place - window.start
                        ids[at] = MASK
                        if int(weight[:, place].argmax()) == chosen:
                            hidden_at.append(at)
                            targets.append((mask, k))
            with torch.inference_mode():
                states = self._hidden(ids, packed.boundaries)[torch.tensor(hidden_at, device=self.device)]
                log_p = self.encoder.lm_head(states.float())[:, acgu].log_softmax(-1).cpu().numpy()
            for (mask, k), row in zip(targets, log_p, strict=True):
                out[mask][k] = row
        return out

    def save(self, folder: str | Path) -> Path:
        """Write the checkpoint in the released format (`save_checkpoint`)."""
        return save_checkpoint(self.encoder, folder)

    def _whitened(self, vectors: Tensor) -> Tensor:
        with torch.inference_mode():
            return vectors.float() if self.encoder.whitening is None else self.encoder.whitening(vectors)

    @property
    def _num_features(self) -> int:
        """F, the width of what is averaged over the nucleotides: H for each state."""
        return self.config.hidden_size if self.encoder.whitening is None else len(self.encoder.whitening.mean)

    def _parts(self, features: Tensor) -> tuple[Tensor, ...]:
        """Views of features [N, F], one for each state."""
        parts: tuple[Tensor, ...] = features.split(self.config.hidden_size, dim=1)
        return parts

    def _states(self, tokens: Tokens | Tensor, boundaries: Ends) -> Iterator[Tensor]:
        """The states of which vectors are made, [T, H] each."""
        half = self.device.type == "cuda" and self.encoder.whitening is None  # whitening would raise the rounding too
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            for state in self.encoder.states(*self._input(tokens, boundaries)):
                yield state[: len(tokens)]

    def _hidden(self, tokens: Tokens | Tensor, boundaries: Ends) -> Tensor:
        half = self.device.type == "cuda" and self.encoder.whitening is None
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            hidden: Tensor = self.encoder(*self._input(tokens, boundaries))
        return hidden[: len(tokens)]

    def _input(self, tokens: Tokens | Tensor, boundaries: Ends) -> tuple[Tensor, Segments]:
        ids = torch.as_tensor(tokens)
        ends = torch.as_tensor(boundaries)
        if ends.ndim != 1 or len(ends) < 2 or ends[0] != 0 or ends[-1] != len(ids) or bool((ends.diff() <= 0).any()):
            raise ValueError(
                f"boundaries must ascend from 0 to the number of tokens, {len(ids)}; got {ends.tolist()[:8]} …"
            )
        if (short := LEAST_TOKENS - len(ids)) > 0:
            ids = torch.cat([ids, ids.new_full((short,), UNKNOWN)])
            ends = torch.cat([ends, ends.new_full((1,), LEAST_TOKENS)])
        return ids.to(self.device).int(), Segments(ends, self.device)


def _batches(pieces: list[tuple[int, Window]], budget: int) -> Iterator[list[tuple[int, Window]]]:
    """Cut a list of windows into runs of at most `budget` tokens (a longer window goes alone)."""
    batch: list[tuple[int, Window]] = []
    size = 0
    for piece in pieces:
        tokens = piece[1].end - piece[1].start + 2
        if batch and size + tokens > budget:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += tokens
    if batch:
        yield batch


def _pooled(window: Window, length: int, pooling: Pooling, nucleotides: bool) -> NDArray[np.float32]:
    """Share of each nucleotide of a window in its sequence's vector; none if rows are returned instead."""
    share = pooling_weights(window, length, pooling)
    return np.zeros_like(share) if nucleotides else share


def _pooling(batch: list[tuple[int, Window]], shares: list[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Weight of each token in its sequence's vector, float32 [T] (0 for special tokens), and its sequence, int64 [T]."""
    weights: list[NDArray[np.float32]] = []
    zero = np.zeros(1, np.float32)
    for share in shares:
        weights += [zero, share, zero]
    sizes = torch.tensor([w.end - w.start + 2 for _, w in batch])
    owner = torch.repeat_interleave(torch.tensor([i for i, _ in batch]), sizes)
    return torch.from_numpy(np.concatenate(weights)), owner


def load(name_or_path: str | Path, *, device: str | torch.device | None = None, layer: int = -1) -> Model:
    """Load a model.

    Args:
        name_or_path: a shipped name, a folder in the released format, or a URI (`s3://…`) of one.
        device: "cpu" or "cuda"; by default CUDA where there is one.
        layer: -1 for the model's own vectors. Another number takes the states of that layer as they are, float32 [H],
            without whitening: 1 for the first, -2 for the last but one. Such a model has a fingerprint of its own.

    Raises:
        CheckpointError: nothing of that name, a damaged checkpoint, or no such layer.
    """
    loaded = _load(str(name_or_path), device)
    if layer == -1:
        return loaded
    config = loaded.config
    number = layer if layer > 0 else config.num_layers + 1 + layer
    if layer == 0 or not 1 <= number <= config.num_layers:
        raise CheckpointError(f"no layer {layer} in {name_or_path}: it has {config.num_layers}, from 1 or back from -1")
    loaded.encoder.whitening = Whitening.identity(config, [number])
    return Model(loaded.encoder, loaded.name, loaded.device)


def _load(name: str, device: str | torch.device | None) -> Model:
    if "://" in name:
        with tempfile.TemporaryDirectory(prefix="unirna-model-") as folder:
            try:
                pyarrow.fs.copy_files(name, folder)
            except (OSError, pa.ArrowException) as error:
                raise CheckpointError(
                    f"{name} cannot be read ({error}). Expected the URI of a checkpoint's folder"
                ) from error
            return Model(load_checkpoint(folder), name, device)
    if (Path(name) / BASE_FILE).is_file():
        return Model(_adapted(Path(name)), name, device)
    if Path(name).is_dir():
        return Model(load_checkpoint(name), name, device)
    if (SHIPPED / name / "config.json").is_file():
        return Model(load_checkpoint(SHIPPED / name), name, device)
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
    raise CheckpointError(
        f"no model {name!r}: not a folder, and not among the shipped names ({', '.join(shipped) or 'none yet'}). "
        "Train one with jobs/pretrain.py, or give the folder of a checkpoint (config.json and model.safetensors)"
    )


def _adapted(folder: Path) -> Encoder:
    """A shipped model with the adapters of a folder (`save_adapted`)."""
    base, wanted, adapters, whitened = read_adapted(folder)
    if not (SHIPPED / base / "config.json").is_file():
        raise CheckpointError(f"{folder} was made on {base!r}, which does not come with this version of the package")
    loaded = _load(base, "cpu")
    if loaded.fingerprint != wanted:
        raise CheckpointError(
            f"{folder} was made on {base} {wanted}, and the one installed is {loaded.fingerprint}. Fine-tune again, or "
            "install the version that it was made with"
        )
    if adapters:
        merge_adapters(loaded.encoder, adapters, whitened=whitened)
    return loaded.encoder


def initialise(size: str | EncoderConfig, *, seed: int = 0, device: str | torch.device | None = None) -> Model:
    """A model with random weights, drawn from `seed`: the start of pre-training.

    Raises:
        ValueError: a name that is not in `SIZES`.
    """
    if isinstance(size, str) and size not in SIZES:
        raise ValueError(f"no size {size!r}. Sizes: {', '.join(SIZES)}")
    config = SIZES[size] if isinstance(size, str) else size
    return Model(Encoder(config).initialise(seed), size if isinstance(size, str) else "custom", device)
