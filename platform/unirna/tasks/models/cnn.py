"""A small convolutional network on the sequence alone: what a predictor has to beat, trained on the same rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unirna.job import say
from unirna.model.tensors import save_tensors
from unirna.tasks.errors import TaskError
from unirna.tasks.kinds.task import Task, Truth
from unirna.tasks.table.pairs import PAIR_MARK, split_pairs

NAME: Final = "1D CNN"
CHANNELS: Final = 64
WIDTH: Final = 7
INPUTS: Final = 9
"""One of four nucleotides, the place's phase of three and distance, both from the 3' end, and its share of the length."""
EPOCHS: Final = 20
PATIENCE: Final = 3
NUCLEOTIDES: Final = 20_000_000
"""Most nucleotides that training one network reads, over all epochs, but for a first one: a few minutes of two cores."""
BATCH: Final = 64
FEW_BATCH: Final = 16
FEW_STEPS: Final = 400
FEW_EPOCHS: Final = 24
FEW_NUCLEOTIDES: Final = 2_000_000
FEW_LEARNING_RATE: Final = 5e-3
FEW_CHECKS: Final = 8
"""Of networks in cross-validation, which have few rows: rows of a step, steps that are aimed at, most epochs, most
nucleotides that all networks together read, learning rate, and how often in training the held-out rows are looked at."""
TOKENS: Final = 65_536
"""Padded places of one forward pass."""
LEARNING_RATE: Final = 2e-3

_CODE = np.full(256, 4, np.int64)
for _number, _letter in enumerate("ACGU"):
    _CODE[ord(_letter)] = _number


class SmallCNN(nn.Module):
    """Three convolutions (dilations 1, 2, 4), mean and maximum over the places, two linear layers; 70,000 weights.

    With `each` nothing is pooled: the two layers read each place and the mean over all.
    """

    def __init__(self, num_outputs: int, *, each: bool = False) -> None:
        super().__init__()
        self.each = each
        sizes = (INPUTS, CHANNELS, CHANNELS, CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv1d(sizes[i], sizes[i + 1], WIDTH, dilation=2**i, padding=2**i * (WIDTH // 2)) for i in range(3)
        )
        self.hidden = nn.Linear(2 * CHANNELS, CHANNELS)
        self.out = nn.Linear(CHANNELS, num_outputs)

    def forward(self, codes_NL: Tensor, lengths_N: Tensor) -> Tensor:
        """Nucleotides as 0 to 4, padded at the end, and lengths -> outputs [N, C], or of each place [N, L, C]."""
        place = torch.arange(codes_NL.shape[1])
        to_end = lengths_N[:, None] - 1 - place  # negative behind the end
        inside = (to_end >= 0)[:, None].float()
        extra = torch.stack([to_end.clamp(0, 64) / 64, place / lengths_N[:, None].clamp(min=1)], dim=1)
        letters = F.one_hot(codes_NL, 5)[..., :4].transpose(1, 2).float()
        phase = F.one_hot(to_end.clamp(min=0) % 3, 3).transpose(1, 2).float()
        hidden = torch.cat([letters, phase, extra], dim=1) * inside
        for layer in self.layers:
            hidden = F.relu(layer(hidden)) * inside
        mean = hidden.sum(dim=2) / lengths_N[:, None].clamp(min=1)
        if self.each:
            read = torch.cat([mean[:, None].expand(-1, hidden.shape[2], -1), hidden.transpose(1, 2)], dim=2)
        else:
            read = torch.cat([mean, hidden.amax(dim=2)], dim=1)
        outputs: Tensor = self.out(F.relu(self.hidden(F.dropout(read, 0.2, self.training))))
        return outputs


class CNN:
    """Trained networks, whose mean is the answer, and its temperature.

    Attributes:
        networks: as trained. centre, spread: outputs are spread · (their mean) + centre, before `temperature` divides them.
    """

    def __init__(
        self, networks: Sequence[SmallCNN], centre: float = 0.0, spread: float = 1.0, temperature: float = 1.0
    ) -> None:
        self.networks, self.centre, self.spread, self.temperature = list(networks), centre, spread, temperature

    def outputs(self, sequences: Sequence[str]) -> NDArray[np.float64]:
        """Outputs of normalised sequences or pairs: float64 [N, C], the same alone or in any batch but for rounding."""
        return np.array(self._outputs(sequences)).reshape(len(sequences), self.networks[0].out.out_features)

    def profiles(self, sequences: Sequence[str]) -> list[NDArray[np.float64]]:
        """Outputs of each place, float64 [L, C] for each sequence, of networks that give them."""
        return [out[: len(sequence)] for out, sequence in zip(self._outputs(sequences), sequences, strict=True)]

    def _outputs(self, sequences: Sequence[str]) -> list[NDArray[np.float64]]:
        out: dict[int, NDArray[np.float64]] = {}
        sides = _sides(sequences)
        with torch.inference_mode():
            for rows in _parts(_longer(sides), np.arange(len(sequences))):
                each = [_read(network.eval(), sides, rows).double() for network in self.networks]
                out |= zip(rows.tolist(), torch.stack(each).mean(dim=0).numpy(), strict=True)
        return [(out[row] * self.spread + self.centre) / self.temperature for row in range(len(sequences))]

    def save(self, path: Path) -> None:
        """Write it as safetensors: the weights of network 0, then those of the others with their number before the name."""
        numbers = torch.tensor([self.centre, self.spread, self.temperature], dtype=torch.float64)
        each = {"each": torch.ones(1)} if self.networks[0].each else {}
        weights = {
            f"{number}.{name}" if number else name: value
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        save_tensors({**weights, "numbers": numbers, **each}, path)

    @classmethod
    def load(cls, path: Path) -> CNN:
        """Read what `save` wrote.

        Raises:
            TaskError: a missing or damaged file.
        """
        try:
            state = load_file(path)
            centre, spread, temperature = state.pop("numbers").tolist()
            each = state.pop("each", None) is not None
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in state.items():
                number, _, rest = name.partition(".")
                of, name = (int(number), rest) if number.isdigit() else (0, name)
                states.setdefault(of, {})[name] = value
            networks = [SmallCNN(len(states[0]["out.bias"]), each=each) for _ in states]
            for number, network in enumerate(networks):
                network.load_state_dict(states[number])
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise TaskError(f"{path}: no valid network ({error}). Fine-tune again") from error
        return cls(networks, centre, spread, temperature)


def fit_cnn(
    task: Task,
    sequences: Sequence[str],
    truth: Truth | list[Truth],
    train: NDArray[np.int64],
    valid: NDArray[np.int64],
    num_outputs: int,
    ensemble_size: int = 1,
) -> CNN:
    """Train on some rows; the epoch with the lowest validation loss is taken (the last one without validation rows).

    Args:
        task: whose loss is lowered, and how outputs are calibrated.
        sequences: normalised, of all rows, or pairs.
        truth: theirs [N]; of nucleotides [L] for each, NaN if there is no value.
        train, valid: which rows. num_outputs: C.
        ensemble_size: how many are trained, with seeds from 0 up; their mean is the answer.
    """
    data = _Data(task, sequences, truth, train, num_outputs)
    trained = []
    for seed in range(ensemble_size):
        network = data.network(seed)
        _train(network, partial(data.loss, network), data.longer, train, valid, data.per_row, seed)
        trained.append(network)
        if ensemble_size > 1:
            say(f"trained {seed + 1} of {ensemble_size} small networks")
    fitted = CNN(trained, data.centre, data.spread)
    if task.calibrate is not None and len(valid):
        fitted.temperature = task.calibrate(fitted.outputs([sequences[row] for row in valid]), np.asarray(truth)[valid])
    return fitted


@dataclass(frozen=True)
class CheckedNetworks:
    """The networks of one fold at several times in training.

    Attributes:
        states: the weights of each network, at each time.
        outputs: at each time of the mean network for the held-out rows, float64 [N, C], or [L, C] for each row.
    """

    states: list[list[dict[str, Tensor]]]
    outputs: list[Any]


class FoldNetworks:
    """Networks for cross-validation: each fold's are trained without its held-out rows and kept, as parts of one answer.

    Args:
        task: whose loss is lowered.
        sequences: normalised, of all rows, or pairs.
        truth: as for `fit_cnn`.
        rows: all that are trained on in some fold.
        num_outputs: C.
        ensemble_size: how many of each fold; seeds differ between folds too.
        num_folds: how many folds share the budget of nucleotides.
    """

    def __init__(
        self,
        task: Task,
        sequences: Sequence[str],
        truth: Truth | list[Truth],
        rows: NDArray[np.int64],
        num_outputs: int,
        ensemble_size: int,
        num_folds: int,
    ) -> None:
        self.sequences, self.ensemble_size, self.num_outputs = sequences, ensemble_size, num_outputs
        self.data = _Data(task, sequences, truth, rows, num_outputs)
        read = sum(len(self.data.longer[row]) for row in rows)
        epochs = min(FEW_EPOCHS, math.ceil(FEW_STEPS * FEW_BATCH / len(rows)))
        self.epochs = max(1, min(epochs, FEW_NUCLEOTIDES // max(num_folds * ensemble_size * read, 1)))
        self.checks = sorted({round(self.epochs * check / FEW_CHECKS) for check in range(1, FEW_CHECKS + 1)} - {0})

    def train(self, fold: int, train: NDArray[np.int64], held: NDArray[np.int64]) -> CheckedNetworks:
        """Train a fold's networks on some rows and read the held-out rows at `FEW_CHECKS` times."""
        data = self.data
        found: list[list[dict[str, Tensor]]] = [[] for _ in self.checks]
        said: list[list[Any]] = [[] for _ in self.checks]
        letters = [self.sequences[row] for row in held]
        for number in range(self.ensemble_size):
            seed = fold * self.ensemble_size + number
            network, place = data.network(seed), 0
            for epoch in _epochs(
                network,
                partial(data.loss, network),
                data.longer,
                train,
                data.per_row,
                seed,
                self.epochs,
                FEW_BATCH,
                FEW_LEARNING_RATE,
            ):
                if epoch + 1 in self.checks:
                    found[place].append(copy.deepcopy(network.state_dict()))
                    one = CNN([network], data.centre, data.spread)
                    said[place].append(one.profiles(letters) if data.each else one.outputs(letters))
                    place += 1
        return CheckedNetworks(found, [_mean_of(each) for each in said])

    def chosen(self, folds: Sequence[CheckedNetworks], check: int) -> CNN:
        """The networks of all folds as they were at one time, as one model."""
        networks = []
        for state in (state for fold in folds for state in fold.states[check]):
            network = self.data.network(0)
            network.load_state_dict(state)
            networks.append(network)
        return CNN(networks, self.data.centre, self.data.spread)


def _mean_of(outputs: list[Any]) -> Any:
    """The mean output of several networks for the same rows."""
    if not isinstance(outputs[0], list):
        return np.mean(outputs, axis=0)
    return [np.mean(rows, axis=0) for rows in zip(*outputs, strict=True)]


class _Data:
    """Rows as networks read them, and the loss of a network on some of them."""

    def __init__(
        self,
        task: Task,
        sequences: Sequence[str],
        truth: Truth | list[Truth],
        train: NDArray[np.int64],
        num_outputs: int,
    ) -> None:
        self.task, self.truth, self.num_outputs = task, truth, num_outputs
        self.each = task.level == "nucleotide"
        self.sides = _sides(sequences)
        self.longer = _longer(self.sides)
        known = np.concatenate([truth[row] for row in train]) if isinstance(truth, list) else truth[train]
        self.centre, self.spread = 0.0, 1.0
        if task.numeric:
            self.centre, self.spread = float(np.nanmean(known)), float(np.nanstd(known))
        self.per_row = float(np.isfinite(known).sum() / len(train)) if self.each else 1.0

    def network(self, seed: int) -> SmallCNN:
        torch.manual_seed(seed)
        return SmallCNN(self.num_outputs, each=self.each)

    def loss(self, network: SmallCNN, rows: NDArray[np.int64]) -> Tensor:
        """Summed over the rows."""
        found = _read(network, self.sides, rows)
        if not isinstance(self.truth, list):
            target = torch.from_numpy(self.truth[rows])
            return self.task.loss(found, (target - self.centre) / self.spread if self.task.numeric else target)
        padded = np.full(found.shape[:2], np.nan)
        for i, row in enumerate(rows):
            padded[i, : len(self.truth[row])] = self.truth[row]
        return self.task.loss(found.flatten(0, 1), torch.from_numpy((padded - self.centre) / self.spread).flatten())


def _train(
    network: SmallCNN,
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    codes: Sequence[NDArray[np.int64]],
    train: NDArray[np.int64],
    valid: NDArray[np.int64],
    per_row: float,
    seed: int,
) -> None:
    """Train one network; `loss_of` is its summed loss on rows, of `per_row` values each."""
    read = sum(len(codes[row]) for row in train)
    epochs = max(1, min(EPOCHS, NUCLEOTIDES // max(read, 1)))
    best, state, since = math.inf, copy.deepcopy(network.state_dict()), 0
    for epoch in _epochs(network, loss_of, codes, train, per_row, seed, epochs, BATCH, LEARNING_RATE):
        loss = -float(epoch)
        if len(valid):
            network.eval()
            with torch.inference_mode():
                parts = _parts(codes, valid)
                loss = sum(float(loss_of(rows)) for rows in parts)
        since += 1
        if loss < best:
            best, state, since = loss, copy.deepcopy(network.state_dict()), 0
        if since >= PATIENCE:
            break
    network.load_state_dict(state)


def _epochs(
    network: SmallCNN,
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    codes: Sequence[NDArray[np.int64]],
    train: NDArray[np.int64],
    per_row: float,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> Iterator[int]:
    """Train one network, and stop after each epoch for what is measured there."""
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.01)
    steps = epochs * math.ceil(len(train) / batch_size)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    for epoch in range(epochs):
        network.train()
        order = np.random.default_rng(epoch + EPOCHS * seed).permutation(train)
        for batch in np.split(order, range(batch_size, len(order), batch_size)):
            for rows in _parts(codes, batch):
                (loss_of(rows) / (per_row * len(batch))).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        yield epoch


def _sides(sequences: Sequence[str]) -> list[list[NDArray[np.int64]]]:
    """The sequences; of pairs, the first and the second ones."""
    pairs = bool(sequences) and PAIR_MARK in sequences[0]
    return [[_codes(letters) for letters in side] for side in (split_pairs(sequences) if pairs else (sequences,))]


def _longer(sides: list[list[NDArray[np.int64]]]) -> list[NDArray[np.int64]]:
    """The longer one of each pair, by which batches are sized."""
    return [max(pair, key=len) for pair in zip(*sides, strict=True)]


def _read(network: SmallCNN, sides: list[list[NDArray[np.int64]]], rows: NDArray[np.int64]) -> Tensor:
    """Output of a network for these rows; for pairs, that of the second minus that of the first."""
    found: list[Tensor] = [network(*_padded(codes, rows)) for codes in sides]
    return found[0] if len(found) == 1 else found[1] - found[0]


def _codes(sequence: str) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = _CODE[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    return codes


def _parts(codes: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows by length, in parts of at most `TOKENS` padded places (a longer one alone)."""
    rows = rows[np.argsort([len(codes[row]) for row in rows], kind="stable")]
    first = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or len(codes[rows[end]]) * (end + 1 - first) > TOKENS:
            yield rows[first:end]
            first = end


def _padded(codes: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    lengths = [len(codes[row]) for row in rows]
    padded = np.full((len(rows), max(lengths)), 4)
    for i, row in enumerate(rows):
        padded[i, : lengths[i]] = codes[row]
    return torch.from_numpy(padded), torch.tensor(lengths)
