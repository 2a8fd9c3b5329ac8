"""Training of a structure predictor on known structures: their likelihood among all structures of their sequences.

First the scores of the loops alone, then these with the pair network. The encoder stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from unirna.fold.count import count_structure
from unirna.fold.decode import helices, most_accurate
from unirna.fold.energies import KIND, NEAREST, Energies, codes_of
from unirna.fold.inside_outside import Ensemble, fold_all
from unirna.fold.network import NetworkConfig, PairNetwork
from unirna.fold.predictor import StructurePredictor
from unirna.model import Model, tokenise

Pairs = NDArray[np.int64]
GAMMAS: Final = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SHARES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Of what the loops have learned; the rest stays with the published energies (as Wortsman et al. 2022 of networks)."""
TEMPERATURES: Final = (0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)
"""By which scores may be divided at the end, so that probabilities are right on validation structures (Guo et al. 2017)."""
SCALE: Final = 100.0
"""Gradients are of the loss per hundred nucleotides, so that Adam's epsilon and `l2_to_published` have a fixed meaning."""


@dataclass(frozen=True)
class Known:
    """A sequence whose structure is known.

    Attributes:
        id: its name. sequence: normalised. pairs: int64 [P, 2], all that are known.
    """

    id: str
    sequence: str
    pairs: Pairs


@dataclass(frozen=True)
class TrainingConfig:
    """How a predictor is trained.

    Attributes:
        steps: of loops and network together. energy_steps: of the loops alone before.
        batch: sequences of a step. longest: nucleotides of a sequence that is trained on; longer ones are left out.
        learning_rate: of the network; it falls to 0 over the last `decay` of the steps.
        energy_rate: of the loops' scores. l2_to_published: weight of the L2 penalty that holds them
            near the published energies.
        seed: of the order and of the network. valid_every, checkpoint_every: steps.
        network: whether there is one; without it the loops' scores are all.
    """

    steps: int = 2_000
    energy_steps: int = 250
    batch: int = 16
    longest: int = 320
    learning_rate: float = 2e-3
    energy_rate: float = 0.01
    l2_to_published: float = 0.002
    decay: float = 0.4
    weight_decay: float = 0.01
    seed: int = 0
    valid_every: int = 250
    checkpoint_every: int = 50
    network: bool = True


def learnable(known: Known) -> Known:
    """What of a structure the model can say: A-U, C-G and G-U at least 4 apart, of crossing helices the longer one."""
    codes = codes_of(known.sequence)
    may = [(i, j) for i, j in known.pairs.tolist() if j - i >= NEAREST and KIND[codes[i], codes[j]] >= 0]
    kept: list[tuple[int, int]] = []
    for helix in sorted(helices(np.array(may, np.int64).reshape(-1, 2)), key=len, reverse=True):
        i, j = helix[0]
        if not any((a < i < b) != (a < j < b) for a, b in kept):
            kept += helix
    return Known(known.id, known.sequence, np.array(sorted(kept), np.int64).reshape(-1, 2))


def f1(found: Pairs, known: Pairs) -> float:
    """F1 of base pairs; 1 where both are empty."""
    a, b = set(map(tuple, found.tolist())), set(map(tuple, known.tolist()))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


class Trainer:
    """Trains loops and network; every step is a function of (seed, step), so a resumed run is the same.

    Args:
        model: the encoder. train, valid: known structures. config: how. out: folder of checkpoints and the predictor.
        weights: how often each of `train` is drawn, relative to the others; None for alike.
    """

    def __init__(
        self,
        model: Model,
        train: Sequence[Known],
        valid: Sequence[Known],
        config: TrainingConfig,
        out: Path,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        fits = [i for i, known in enumerate(train) if NEAREST < len(known.sequence) <= config.longest]
        self.model, self.config, self.out = model, config, out
        self.train = [learnable(train[i]) for i in fits]
        self.valid = list(valid)
        given = np.ones(len(fits)) if weights is None else weights[fits]
        self._share = given / given.sum()
        self._counts: dict[int, NDArray[np.float64]] = {}
        self._pool = ThreadPoolExecutor(max(1, torch.get_num_threads()))
        torch.manual_seed(config.seed)
        self.network = PairNetwork(NetworkConfig(model.dimension))
        self.start = torch.from_numpy(Energies.published().flat())
        self.flat = torch.nn.Parameter(self.start.clone())
        self.step = 0
        self._optimiser = torch.optim.AdamW(
            [
                {"params": list(self.network.parameters()), "weight_decay": config.weight_decay},
                {"params": [self.flat], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.losses: list[float] = []

    @property
    def energies(self) -> Energies:
        """The loops' scores as they are."""
        return Energies.from_flat(self.flat.detach().numpy())

    def run(self, say: Callable[[str], None] = print) -> dict[str, Any]:
        """Train on from where a run in the same folder stopped, then `settle`."""
        self.train_on(say)
        return self.settle()

    def train_on(self, say: Callable[[str], None] = print) -> None:
        """Train from where a run in the same folder stopped to the last step."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        total = self.config.energy_steps + (self.config.steps if self.config.network else 0)
        while self.step < total:
            self._one_step(self.step - self.config.energy_steps)
            self.step += 1
            if self.step % 25 == 0:
                say(f"step {self.step:,} of {total:,}, loss {np.mean(self.losses[-25:]):.4f}")
            if self.step % self.config.checkpoint_every == 0 or self.step == total:
                self._save()
            if self.step % self.config.valid_every == 0 and self.step != total:
                say(f"  validation F1 {max(self.measure(self.valid[:100]).values()):.4f}")

    def settle(self) -> dict[str, Any]:
        """Choose by the validation structures all that is not trained; returns it, with what was measured on them."""
        share = self._interpolate()
        losses = self.surprise(self.valid)
        temperature = min(losses, key=lambda t: losses[t])
        self._soften(temperature)
        found = self.measure(self.valid)
        gamma = max(found, key=lambda g: found[g])
        result = {
            "gamma": gamma,
            "temperature": temperature,
            "learned_share": share,
            "valid_loss": round(losses[temperature], 4),
            "valid_f1_nested": found[gamma],
            "training": {
                **asdict(self.config),
                "sequences": len(self.train),
                "nucleotides": sum(len(k.sequence) for k in self.train),
            },
        }
        (self.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result

    def _interpolate(self) -> float:
        """Move the loops' scores towards the published energies as far as that raises F1 on the validation structures.

        Returns:
            The share of what was learned that is left, of `SHARES`; 1 where nothing less is better.
        """
        learned = self.flat.detach().clone()
        found: dict[float, float] = {}
        with torch.no_grad():
            for share in SHARES:
                self.flat.copy_(self.start + share * (learned - self.start))
                found[share] = max(self.measure(self.valid).values())
            best = max(found, key=lambda share: found[share])
            self.flat.copy_(self.start + best * (learned - self.start))
        return best

    def predictor(self, info: dict[str, Any]) -> StructurePredictor:
        """The predictor as trained so far."""
        return StructurePredictor(self.model, self.network, self.energies, info)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _one_step(self, number: int) -> None:
        config = self.config
        random = np.random.default_rng((config.seed, self.step))
        # Eight batches' worth of like lengths, of which one window is taken: little is lost to a single long sequence.
        drawn = random.choice(len(self.train), 8 * config.batch, p=self._share)
        drawn = drawn[np.argsort([len(self.train[i].sequence) for i in drawn], kind="stable")]
        first = config.batch * int(random.integers(8))
        rows = drawn[first : first + config.batch].tolist()
        known = [self.train[i] for i in rows]
        share = 1.0 if number < 0 else min(1.0, (config.steps - number) / (config.decay * config.steps))
        warm = min(1.0, (self.step + 1) / 20) if number < 0 else min(1.0, (number + 1) / 50)
        self._optimiser.param_groups[0]["lr"] = config.learning_rate * warm * share
        self._optimiser.param_groups[1]["lr"] = (0.05 if number < 0 else config.energy_rate) * warm * share
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # of the dropout
        scores: list[Tensor | None] = [None] * len(known)
        if number >= 0:
            self.network.train()
            scores = list(self.scores(known))
        ensembles = self._ensembles(known, scores)
        nucleotides = sum(len(k.sequence) for k in known)
        gradient, loss = np.zeros(len(self.start)), 0.0
        slopes: list[Tensor] = []
        for row, one, score, ensemble in zip(rows, known, scores, ensembles, strict=True):
            assert ensemble.counts is not None
            if row not in self._counts:
                self._counts[row] = count_structure(one.sequence, one.pairs).flat()
            gradient += ensemble.counts.flat() - self._counts[row]
            loss += ensemble.log_z - float(self._counts[row] @ self.energies.flat())
            if score is not None:
                slope = ensemble.pairs.copy()
                slope[one.pairs[:, 0], one.pairs[:, 1]] -= 1
                slopes.append(torch.from_numpy(slope).float() * (SCALE / nucleotides))
                loss -= float(score.detach().numpy()[one.pairs[:, 0], one.pairs[:, 1]].sum())
        self._optimiser.zero_grad()
        if slopes:
            torch.autograd.backward([s for s in scores if s is not None], slopes)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        even = Energies.from_flat(gradient).flat() * SCALE / nucleotides
        self.flat.grad = torch.from_numpy(even) + self.config.l2_to_published * (self.flat.detach() - self.start)
        self._optimiser.step()
        self.losses.append(loss / nucleotides)

    def scores(self, known: Sequence[Known]) -> list[Tensor]:
        """What the network says of each pair of some sequences, float32 [L, L] each."""
        states = self.model.nucleotides_tokens([tokenise(k.sequence) for k in known])
        found = []
        for one, state in zip(known, states, strict=True):
            codes = codes_of(one.sequence)
            kinds = torch.from_numpy(KIND[codes[:, None], codes[None, :]])
            found.append(self.network(torch.from_numpy(state), torch.from_numpy(codes), kinds))
        return found

    def _ensembles(self, known: Sequence[Known], scores: Sequence[Tensor | None], counts: bool = True) -> list[Ensemble]:
        energies = self.energies

        def one(both: tuple[Known, Tensor | None]) -> Ensemble:
            extra = None if both[1] is None else both[1].detach().double().numpy()
            return fold_all(both[0].sequence, energies, extra, counts=counts)

        return list(self._pool.map(one, zip(known, scores, strict=True)))

    # ---- measuring -------------------------------------------------------------------------------------------------

    def measure(self, known: Sequence[Known]) -> dict[float, float]:
        """Mean F1 of nested structures at each weight of paired against unpaired nucleotides."""

        def one(item: tuple[Known, Ensemble]) -> list[float]:
            return [f1(most_accurate(item[1].pairs, gamma), item[0].pairs) for gamma in GAMMAS]

        return self._measured(
            known, lambda chunk, scores: zip(chunk, self._ensembles(chunk, scores, False), strict=True), one
        )

    def _measured(
        self,
        known: Sequence[Known],
        prepare: Callable[[Sequence[Known], Sequence[Tensor | None]], Any],
        one: Callable[[Any], list[float]],
        names: tuple[float, ...] = GAMMAS,
    ) -> dict[float, float]:
        self.network.eval()
        values: list[list[float]] = []
        trained = self.step > self.config.energy_steps
        with torch.no_grad():
            for first in range(0, len(known), 16):
                chunk = known[first : first + 16]
                scores: Sequence[Tensor | None] = self.scores(chunk) if trained else [None] * len(chunk)
                values += list(self._pool.map(one, prepare(chunk, scores)))
        return dict(zip(names, np.mean(values, axis=0).round(4).tolist(), strict=True))

    def surprise(self, known: Sequence[Known]) -> dict[float, float]:
        """Mean -ln p of known structures a nucleotide, with all scores divided by each of `TEMPERATURES`."""
        flat = self.flat.detach().numpy()

        def one(item: tuple[Known, Tensor | None]) -> list[float]:
            what = learnable(item[0])
            extra = np.zeros((len(what.sequence),) * 2) if item[1] is None else item[1].detach().double().numpy()
            score = (
                count_structure(what.sequence, what.pairs).flat() @ flat + extra[what.pairs[:, 0], what.pairs[:, 1]].sum()
            )
            return [
                (fold_all(what.sequence, Energies.from_flat(flat / t), extra / t).log_z - score / t) / len(what.sequence)
                for t in TEMPERATURES
            ]

        return self._measured(known, lambda chunk, scores: zip(chunk, scores, strict=True), one, TEMPERATURES)

    def _soften(self, temperature: float) -> None:
        """Divide all scores by a number, which makes probabilities less extreme."""
        with torch.no_grad():
            self.flat.div_(temperature)
            for parameter in self.network.leave.parameters():
                parameter.div_(temperature)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write everything beside and rename it."""
        tensors = {f"network.{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        tensors |= {"energies": self.flat.detach().clone(), "step": torch.tensor(self.step)}
        for number, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        save_file(tensors, self.out / ".checkpoint.tmp")
        (self.out / ".checkpoint.tmp").replace(self.out / "checkpoint.safetensors")

    def _resume(self) -> None:
        path = self.out / "checkpoint.safetensors"
        if not path.exists():
            return
        tensors = load_file(path)
        self.step = int(tensors["step"])
        self.network.load_state_dict(
            {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
        )
        with torch.no_grad():
            self.flat.copy_(tensors["energies"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, number, field = name.split(".")
                state.setdefault(int(number), {})[field] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})
